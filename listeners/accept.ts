import type { Socket } from 'node:net'
import type { ListenerConfig } from '../lib/config/listener.ts'
import { type Address, canonicalIp, formatAddress } from '../lib/core/address.ts'
import type { Cancel } from '../lib/core/clock.ts'
import { type ConnectionInfo, plainConnection } from '../lib/core/connection.ts'
import type { Counter, Gauge, Metrics } from '../lib/core/metrics.ts'
import type { TimerWheel } from '../lib/core/timer-wheel.ts'
import type { Http2Stats } from '../lib/http2/contract.ts'
import { http2Stats } from '../lib/http2/stats.ts'
import { type TlsStats, tlsStats } from '../lib/tls/stats.ts'
import { type ChainHost, FilterChain } from './chain.ts'
import type { CompiledChain, CompiledListener } from './compile.ts'
import type { AcceptedReads } from './detect/accepted-reads.ts'
import type { ServerConnection } from './http1/host.ts'
import { resetSocket } from './http1/reset.ts'

/** What the connections of a listener are made with. */
export interface ReceptionDeps {
  readonly metrics: Metrics
  readonly wheel: TimerWheel
  readonly nextConnectionId: () => number
  /** As in `AcceptorParts`. */
  readonly ticketSecret?: Uint8Array
  readonly reads?: AcceptedReads
}

interface Cells {
  readonly total: Counter
  readonly active: Gauge
  readonly overflow: Counter
  readonly destroyed: Counter
  readonly noChain: Counter
}

/** Of chains that have no HTTP in them, ms; a connection manager brings its own. */
const DRAIN_MS = 600_000

/**
 * The connections of one listener from accept to end: limits, listener filters, the choice of a filter chain. An update
 * keeps the chains that are still there and drains the others.
 */
export class Reception implements ChainHost {
  readonly wheel: TimerWheel
  readonly http2Stats: Http2Stats
  readonly handshakeTimeouts: Counter
  readonly ticketSecret: Uint8Array | undefined
  readonly reads: AcceptedReads | undefined
  readonly #deps: ReceptionDeps
  readonly #cells: Cells
  #tlsStats: TlsStats | undefined = undefined
  #compiled: CompiledListener
  /** In the order of `CompiledListener.chains`. */
  #chains: FilterChain[]
  /** Dropped by an update, with connections, each with what cancels the sweep of its idle ones. */
  readonly #retired = new Map<FilterChain, Cancel>()
  #size = 0
  #draining = false
  #idle: (() => void) | undefined = undefined

  constructor(compiled: CompiledListener, deps: ReceptionDeps) {
    const { metrics } = deps
    const prefix = `listener.${compiled.config.statPrefix}.`
    this.#compiled = compiled
    this.#deps = deps
    this.wheel = deps.wheel
    this.ticketSecret = deps.ticketSecret
    this.reads = deps.reads
    // Envoy keeps those of the codec for the whole process.
    this.http2Stats = http2Stats(metrics, '')
    this.handshakeTimeouts = metrics.counter(`${prefix}downstream_cx_transport_socket_connect_timeout`)
    this.#cells = {
      total: metrics.counter(`${prefix}downstream_cx_total`),
      active: metrics.gauge(`${prefix}downstream_cx_active`),
      overflow: metrics.counter(`${prefix}downstream_cx_overflow`),
      destroyed: metrics.counter(`${prefix}downstream_cx_destroy`),
      noChain: metrics.counter(`${prefix}no_filter_chain_match`),
    }
    this.#chains = compiled.chains.map((chain) => new FilterChain(chain, this))
  }

  get tlsStats(): TlsStats {
    this.#tlsStats ??= tlsStats(this.#deps.metrics, `listener.${this.config.statPrefix}.`)
    return this.#tlsStats
  }

  get config(): ListenerConfig {
    return this.#compiled.config
  }

  get draining(): boolean {
    return this.#draining
  }

  /** How long connections of a dropped listener may stay idle; the longest of its chains. */
  get drainTimeoutMs(): number {
    return Math.max(...this.#chains.map(drainTimeOf))
  }

  /** From now on. */
  update(compiled: CompiledListener): void {
    this.#compiled = compiled
    const before = new Map(this.#chains.map((chain) => [chainKey(chain.config), chain]))
    this.#chains = compiled.chains.map((next) => {
      const key = chainKey(next.config)
      const known = before.get(key)
      if (known === undefined || !sameBelow(known.config, next.config)) return new FilterChain(next, this)
      before.delete(key)
      known.update(next)
      return known
    })
    for (const chain of before.values()) this.#retire(chain)
  }

  #retire(chain: FilterChain): void {
    if (chain.size === 0) return
    const sweep = this.wheel.clock.schedule(drainTimeOf(chain), () => chain.closeIdle())
    this.#retired.set(chain, sweep)
    chain.retire()
  }

  /** A connection that the listener could not take. */
  overflow(): void {
    this.#cells.overflow.v++
  }

  /** Takes a socket that came in on `address`. */
  accept(socket: Socket, address: Address): void {
    const { maxConnections } = this.config
    if (maxConnections !== undefined && this.#size >= maxConnections) {
      this.#cells.overflow.v++
      resetSocket(socket)
      return
    }
    const facts = this.#describe(socket, address)
    if (facts === undefined) {
      // The client was gone before we looked.
      socket.destroy()
      return
    }
    this.#size++
    this.#cells.total.v++
    this.#cells.active.v++
    this.#choose(socket, facts)
  }

  #choose(socket: Socket, facts: ConnectionInfo): void {
    const at = this.#compiled.choose(facts)
    const chain = at < 0 ? undefined : this.#chains[at]
    if (chain?.hasManager) {
      chain.take(socket, facts)
      return
    }
    if (chain === undefined) this.#cells.noChain.v++
    socket.destroy()
    this.#closed()
  }

  #describe(socket: Socket, address: Address): ConnectionInfo | undefined {
    const pipe = address.kind === 'pipe'
    const remote = pipe ? '' : socket.remoteAddress
    if (remote === undefined) return undefined
    return plainConnection({
      id: this.#deps.nextConnectionId(),
      remoteAddress: canonicalIp(remote),
      remotePort: socket.remotePort ?? 0,
      localAddress: pipe ? formatAddress(address) : canonicalIp(socket.localAddress ?? ''),
      localPort: socket.localPort ?? 0,
      kind: address.kind,
      listenerName: this.config.name,
    })
  }

  chainClosed(chain: FilterChain, _connection: ServerConnection, last: boolean): void {
    if (last) {
      this.#retired.get(chain)?.()
      this.#retired.delete(chain)
    }
    this.#closed()
  }

  /** One accepted connection is gone. */
  #closed(): void {
    this.#size--
    this.#cells.active.v--
    this.#cells.destroyed.v++
    if (this.#size === 0) this.#idle?.()
  }

  /** Resolves when all connections are gone; `Listener.drain` says how. */
  drain(): Promise<void> {
    if (!this.#draining) {
      this.#draining = true
      for (const chain of this.#all()) chain.drain()
    }
    if (this.#size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const before = this.#idle
      this.#idle = () => {
        before?.()
        resolve()
      }
    })
  }

  /** Ends everything at once. */
  close(): void {
    this.#draining = true
    for (const cancel of this.#retired.values()) cancel()
    for (const chain of this.#all()) chain.destroy()
  }

  closeIdle(): void {
    for (const chain of this.#all()) chain.closeIdle()
  }

  #all(): FilterChain[] {
    return [...this.#chains, ...this.#retired.keys()]
  }
}

/** Chains are told apart by what chooses them. */
function chainKey({ name, match }: CompiledChain['config']): string {
  return JSON.stringify([name, match])
}

/** Connections go on with the next snapshot's HTTP where everything below it stays as it was. */
function sameBelow(before: CompiledChain['config'], next: CompiledChain['config']): boolean {
  const below = ({ tls, networkFilters, http }: CompiledChain['config']): string =>
    JSON.stringify([tls !== undefined, networkFilters, http !== undefined])
  return below(before) === below(next)
}

function drainTimeOf(chain: FilterChain): number {
  return chain.hasManager ? chain.manager.config.drainTimeoutMs : DRAIN_MS
}
