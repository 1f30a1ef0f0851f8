import { type ChainPlan, compileChain } from '../../chain/compile.ts'
import type { ExchangeOwner } from '../../chain/contract.ts'
import { Exchange } from '../../chain/exchange.ts'
import type { HttpFilter, LocalReply, Terminal, TerminalExchange, TerminalStream } from '../../chain/filter.ts'
import type { Attempt, UpstreamEvents, UpstreamStream } from '../../core/attempt.ts'
import { type ConnectionInfo, plainConnection } from '../../core/connection.ts'
import type { Log } from '../../core/metrics.ts'
import { StreamInfo } from '../../core/stream-info.ts'
import type { TimerWheel } from '../../core/timer-wheel.ts'
import type { ClusterDeps } from '../cluster-deps.ts'
import type { ClusterConfig } from '../config.ts'
import { type Answers, FilteredAttempt } from './attempt.ts'

/** Filters that were compiled for one cluster. */
export interface MadeFilters {
  readonly filters: readonly HttpFilter<unknown>[]
  readonly names: readonly string[]
  /** No request uses them any more, and none will. */
  release(): void
}

export interface UpstreamFiltersOptions {
  readonly made: MadeFilters
  readonly wheel: TimerWheel
  readonly random: () => number
  readonly log: Log
  readonly bufferLimitBytes: number
}

/** Opens an attempt as if there were no filters. */
export type OpenAttempt = (attempt: Attempt, events: UpstreamEvents) => UpstreamStream | undefined

/**
 * The HTTP filters of one cluster (Envoy's upstream filters): each attempt passes them by itself, with headers of its own, so
 * that a retry finds the request as the router made it. What a filter answers is an answer of the host to the router.
 * Filters there know no route, and their stream information is that of the attempt.
 */
export class UpstreamFilters implements ExchangeOwner, Terminal {
  readonly wheel: TimerWheel
  readonly #options: UpstreamFiltersOptions
  readonly #plan: ChainPlan
  /** Attempts within the filters: one may wait there without a connection. */
  #open = 0
  #retired = false
  #released = false
  /** For requests of the gateway's own. */
  readonly #nobody: ConnectionInfo = plainConnection({
    id: 0,
    remoteAddress: '',
    remotePort: 0,
    localAddress: '',
    localPort: 0,
    kind: 'ip',
    listenerName: '',
  })

  constructor(options: UpstreamFiltersOptions) {
    this.#options = options
    this.wheel = options.wheel
    this.#plan = compileChain(options.made.filters, options.made.names, this)
  }

  /** Those of a cluster; undefined where nobody can make them. @throws Error where one does not compile */
  static of(
    { statName, filters = [], bufferLimitBytes }: Pick<ClusterConfig, 'statName' | 'filters' | 'bufferLimitBytes'>,
    { filters: make, wheel, random, log }: ClusterDeps,
  ): UpstreamFilters | undefined {
    if (make === undefined || filters.length === 0) return undefined
    return new UpstreamFilters({ made: make(statName, filters), wheel, random, log, bufferLimitBytes })
  }

  /** As `Cluster.open`. */
  open(attempt: Attempt, events: UpstreamEvents, openAttempt: OpenAttempt): UpstreamStream {
    const { random, bufferLimitBytes } = this.#options
    const nowMs = this.wheel.now()
    const info = new StreamInfo(nowMs, this.wheel.clock.wall())
    info.protocol = attempt.downstreamProtocol
    const filtered = new FilteredAttempt(attempt, events, openAttempt)
    const exchange = new Exchange({
      owner: this,
      downstream: filtered.answers,
      connection: attempt.downstream ?? this.#nobody,
      head: { ...attempt.head },
      headers: attempt.headers.clone(),
      info,
      bufferLimit: bufferLimitBytes,
      random,
    })
    this.#open++
    filtered.run(exchange, this.#plan)
    return filtered
  }

  /** The filters are released when no attempt is within them. To be called once, when no more attempts come. */
  retire(): void {
    this.#retired = true
    this.#releaseUnused()
  }

  #releaseUnused(): void {
    if (!this.#retired || this.#released || this.#open > 0) return
    this.#released = true
    this.#options.made.release()
  }

  // --- the end of the chain -------------------------------------------------------------------------------------------

  begin(exchange: TerminalExchange, end: boolean): TerminalStream | undefined {
    return ((exchange as Exchange).downstream as Answers).attempt.begin(end)
  }

  // --- what is around it ----------------------------------------------------------------------------------------------

  route(): { route: undefined; plan: ChainPlan } {
    return { route: undefined, plan: this.#plan }
  }

  finishResponse(): void {}

  mapReply(_: Exchange, reply: LocalReply): LocalReply {
    return reply
  }

  onEnd(): void {
    this.#open--
    this.#releaseUnused()
  }

  onFilterError(_: Exchange, filter: string, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    this.#options.log.error('an upstream filter failed', { filter, error: text })
  }

  onDue(): void {}
}
