import { systemClock } from '../core/clock.ts'
import { type Leases, RoomWait, type SlotLease, type SlotObserver } from '../core/lease.ts'
import { LocalLeases } from '../core/local-leases.ts'
import { type Counter, type Gauge, type Metrics, noRuntime, type Runtime } from '../core/metrics.ts'
import { runtimeInteger } from '../core/runtime-value.ts'
import type { ClusterConfig, ThresholdsConfig } from './config.ts'
import { type RecentCount, RetryBudget } from './retry-budget.ts'

/** Envoy's routing priority of a request; each has limits of its own. */
export type RoutingPriority = 'default' | 'high'

/** Where the room under the limits of a cluster comes from. */
export interface BreakerSource {
  /** Clusters of one name share their room, in all processes of the gateway. */
  readonly name: string
  readonly leases: Leases
  /** `circuit_breakers.<name>.<priority>.max_connections` and so on go before what is configured. */
  readonly runtime: Runtime
  /** Of the turn; for budgets that look back. */
  readonly now: () => number
}

/** What one limit is made of. */
export interface LimitParts {
  readonly source: BreakerSource
  readonly priority: RoutingPriority
  /** Envoy's short name: `cx`, `rq_pending`, ... */
  readonly resource: string
  readonly max: number
  /** Of the runtime, behind the priority. */
  readonly runtimeKey: string
  readonly open: Gauge
  readonly overflow: Counter
  /** Undefined: it is not tracked. */
  readonly remaining: Gauge | undefined
}

/**
 * One counted resource with a limit that holds for the whole gateway. `open` (1 where nothing more is admitted) is added to
 * the gauge, not set: a cluster that is replaced and its new version share the cell while the old one drains.
 *
 * Whoever can wait calls `ask` first; then `tryAcquire` says what is true for the gateway. Without it, room that another
 * process has unused is not found at once; it is on its way after the first refusal.
 */
export class BreakerLimit implements RetryLimit, SlotObserver {
  /** Of this cluster and process alone. */
  active = 0
  /** Told of each that begins. */
  begun: RecentCount | undefined = undefined
  readonly #source: BreakerSource
  readonly #key: string
  readonly #max: number
  readonly #runtimeKey: string
  readonly #overflow: Counter
  #gauge: Gauge
  #remaining: Gauge | undefined
  #lease: SlotLease
  #runtimeVersion: number | undefined
  /** What it has added to the gauge. */
  #open = 0
  #retired = false
  /** Of the version of the cluster before this one, as long as both are there. */
  #older: BreakerLimit | undefined = undefined

  constructor({ source, priority, resource, max, runtimeKey, open, overflow, remaining }: LimitParts) {
    this.#source = source
    this.#key = `cluster.${source.name}.${priority}.${resource}`
    this.#max = max
    this.#runtimeKey = `circuit_breakers.${source.name}.${priority}.${runtimeKey}`
    this.#gauge = open
    this.#overflow = overflow
    this.#remaining = remaining
    this.#runtimeVersion = source.runtime.version
    this.#lease = source.leases.slots(this.#key, this.#wanted)
    const { observer } = this.#lease
    if (observer instanceof BreakerLimit) this.#older = observer
    this.#watch()
  }

  get #wanted(): number {
    return runtimeInteger(this.#source.runtime, this.#runtimeKey) ?? this.#max
  }

  get max(): number {
    return this.#lease.limit
  }

  /** The runtime has changed since it was looked at. */
  #refresh(): void {
    const { runtime } = this.#source
    this.#runtimeVersion = runtime.version
    const { observer } = this.#lease
    // Of two versions of a cluster the younger one says how much there is.
    if (this.#retired || (observer !== undefined && observer !== this)) return
    this.#limit()
  }

  #limit(): void {
    const max = this.#wanted
    if (max === this.#lease.limit) return
    const before = this.#lease
    this.#unwatch()
    this.#lease = this.#source.leases.slots(this.#key, max)
    before[Symbol.dispose]()
    this.#watch()
  }

  /** As `SlotLease.ask`. */
  ask(): Promise<void> | undefined {
    if (this.#source.runtime.version !== this.#runtimeVersion) this.#refresh()
    return this.#lease.ask()
  }

  /** As `SlotLease.ready`. */
  get ready(): boolean {
    return this.#lease.ready
  }

  /** Takes one and answers true, or counts an overflow and answers false. */
  tryAcquire(): boolean {
    if (this.tryAhead()) return true
    this.overflowed()
    this.#lease.want()
    return false
  }

  /** Somebody was refused. */
  overflowed(): void {
    this.#overflow.v++
  }

  /** As `tryAcquire` for what nobody needs yet: where there is no room nothing is counted. */
  tryAhead(): boolean {
    if (this.#source.runtime.version !== this.#runtimeVersion) this.#refresh()
    const taken = this.#lease.tryAcquire()
    if (taken) {
      this.active++
      this.begun?.add()
    }
    this.#note()
    return taken
  }

  /** Takes one whatever the limit says: Envoy lets a host without any connection always have its first. */
  acquire(): void {
    this.#lease.force()
    this.active++
    this.#note()
  }

  /** Gives one back; every acquired one exactly once. */
  release(): void {
    this.#lease.release()
    this.active--
    if (this.#retired) this.#lease.observer?.usedElsewhere()
    else this.#note()
  }

  /** The room of one host, under a limit of its own: shared by all who ask for that host. */
  ofHost(key: string, max: number): SlotLease {
    const { name, leases } = this.#source
    return leases.slots(`cluster.${name}.host.${key}`, max)
  }

  /** Takes this limit out of the gauges; what is still held may be released afterwards. */
  retire(): void {
    this.#retired = true
    this.#leaveOrder()
    this.#setOpen(0)
    this.#gauge = { v: 0 }
    this.#remaining = undefined
    this.#lease[Symbol.dispose]()
  }

  /** Where this version goes before the one that it was to replace, that one's limit is in force again. */
  #leaveOrder(): void {
    const older = this.#older
    this.#older = undefined
    const youngest = this.#lease.observer
    this.#unwatch()
    if (youngest === this) {
      if (older === undefined) return
      older.#watch()
      older.#limit()
      return
    }
    let younger = youngest instanceof BreakerLimit ? youngest : undefined
    while (younger !== undefined && younger.#older !== this) younger = younger.#older
    if (younger !== undefined) younger.#older = older
  }

  /** Of the same lease as another version of the cluster has, the younger one shows what is taken. */
  #watch(): void {
    this.#lease.observer = this
    this.#note()
  }

  #unwatch(): void {
    if (this.#lease.observer === this) this.#lease.observer = undefined
  }

  usedElsewhere(): void {
    this.#note()
  }

  #note(): void {
    const { used } = this.#lease
    if (used !== this.#open) this.#setOpen(used)
    // The shares of all processes add up to the limit, and so what each of them shows adds up to what remains.
    if (this.#remaining !== undefined) this.#remaining.v = this.#lease.share - this.#lease.active
  }

  #setOpen(open: number): void {
    this.#gauge.v += open - this.#open
    this.#open = open
  }
}

/** The limits of one cluster at one routing priority. */
export interface Breakers {
  readonly connections: BreakerLimit
  readonly pendingRequests: BreakerLimit
  readonly requests: BreakerLimit
  readonly retries: RetryLimit
  /** Undefined: there may be any number of them. */
  readonly pools: BreakerLimit | undefined
}

/** Room for retries under way. */
export interface RetryLimit {
  /** As `BreakerLimit.tryAcquire`. */
  tryAcquire(): boolean
  /** As `BreakerLimit.release`. */
  release(): void
  /** As `BreakerLimit.retire`. */
  retire(): void
}

/**
 * Envoy's circuit breakers of one cluster (`config.cluster.v3.CircuitBreakers`). Limits hold for the whole gateway: a worker
 * has its share of each without asking, and leases more of it where others have some unused.
 */
export class CircuitBreakers implements Disposable {
  readonly default: Breakers
  readonly high: Breakers

  /** `statName`: the cluster's name in statistics. `source` undefined: the limits are nobody else's. */
  constructor(
    metrics: Metrics,
    statName: string,
    thresholds: ClusterConfig['thresholds'],
    source: BreakerSource = alone(),
  ) {
    this.default = makeBreakers(metrics, statName, { source, priority: 'default', thresholds: thresholds.default })
    this.high = makeBreakers(metrics, statName, { source, priority: 'high', thresholds: thresholds.high })
  }

  of(priority: RoutingPriority): Breakers {
    return priority === 'high' ? this.high : this.default
  }

  /**
   * Before a request is given to a pool: undefined where the limits say here and now what they have to say. Otherwise
   * the room of this process is used up and others may have some; the request goes on behind the wait.
   */
  ask(priority: RoutingPriority): RoomWait | undefined {
    const { requests, pendingRequests } = priority === 'high' ? this.high : this.default
    const request = requests.ask()
    const pending = pendingRequests.ask()
    if (request === undefined && pending === undefined) return undefined
    return new RoomWait(Promise.all([request, pending]), [requests, pendingRequests])
  }

  /** When the cluster is gone: its gauges no longer count it. */
  [Symbol.dispose](): void {
    for (const { connections, pendingRequests, requests, retries, pools } of [this.default, this.high]) {
      connections.retire()
      pendingRequests.retire()
      requests.retire()
      retries.retire()
      pools?.retire()
    }
  }
}

function alone(): BreakerSource {
  return { name: '', leases: new LocalLeases(systemClock), runtime: noRuntime, now: () => systemClock.now() }
}

interface BreakerParts {
  readonly source: BreakerSource
  readonly priority: RoutingPriority
  readonly thresholds: ThresholdsConfig
}

function makeBreakers(metrics: Metrics, statName: string, { source, priority, thresholds }: BreakerParts): Breakers {
  const cluster = `cluster.${statName}`
  const gauge = (name: string): Gauge => metrics.gauge(`${cluster}.circuit_breakers.${priority}.${name}`)
  const overflow = (name: string): Counter => metrics.counter(`${cluster}.${name}`)
  const limit = (resource: Resource, max: number, overflowing: Counter): BreakerLimit => {
    const { open, remaining, key } = NAMES[resource]
    const tracked = thresholds.trackRemaining === true ? gauge(remaining) : undefined
    const parts = { source, priority, resource, max, overflow: overflowing }
    return new BreakerLimit({ ...parts, runtimeKey: key, open: gauge(open), remaining: tracked })
  }
  gauge(NAMES.cx_pool.open)
  // Envoy counts a refused request under the pending overflow too.
  const pendingOverflow = overflow('upstream_rq_pending_overflow')
  const retryOverflow = overflow('upstream_rq_retry_overflow')
  const poolOverflow = overflow('upstream_cx_pool_overflow')
  const requests = limit('rq', thresholds.maxRequests, pendingOverflow)
  const { retryBudget: budget, maxConnectionPools } = thresholds
  return {
    connections: limit('cx', thresholds.maxConnections, overflow('upstream_cx_overflow')),
    pendingRequests: limit('rq_pending', thresholds.maxPendingRequests, pendingOverflow),
    requests,
    retries:
      budget === undefined
        ? limit('rq_retry', thresholds.maxRetries, retryOverflow)
        : new RetryBudget({
            budget,
            requests,
            source,
            priority,
            open: gauge('rq_retry_open'),
            overflow: retryOverflow,
          }),
    pools: maxConnectionPools === undefined ? undefined : limit('cx_pool', maxConnectionPools, poolOverflow),
  }
}

type Resource = 'cx' | 'rq_pending' | 'rq' | 'rq_retry' | 'cx_pool'

/** Envoy's names of the gauges and of the runtime keys. */
const NAMES: Readonly<Record<Resource, { readonly open: string; readonly remaining: string; readonly key: string }>> = {
  cx: { open: 'cx_open', remaining: 'remaining_cx', key: 'max_connections' },
  rq_pending: { open: 'rq_pending_open', remaining: 'remaining_pending', key: 'max_pending_requests' },
  rq: { open: 'rq_open', remaining: 'remaining_rq', key: 'max_requests' },
  rq_retry: { open: 'rq_retry_open', remaining: 'remaining_retries', key: 'max_retries' },
  cx_pool: { open: 'cx_pool_open', remaining: 'remaining_cx_pools', key: 'max_connection_pools' },
}
