import type { Counter, Gauge, Metrics } from '../core/metrics.ts'
import type { ClusterConfig, RetryBudgetConfig, ThresholdsConfig } from './config.ts'

/** Envoy's routing priority of a request; each has limits of its own. */
export type RoutingPriority = 'default' | 'high'

/**
 * One counted resource with a limit. `open` (1 where nothing more is admitted) is added to the gauge, not set: a
 * cluster that is replaced and its new version share the cell while the old one drains.
 */
export class BreakerLimit {
  readonly max: number
  active = 0
  #gauge: Gauge
  readonly #overflow: Counter
  #open = false

  constructor(max: number, gauge: Gauge, overflow: Counter) {
    this.max = max
    this.#gauge = gauge
    this.#overflow = overflow
    this.#setOpen(max <= 0)
  }

  /** Takes one and answers true, or counts an overflow and answers false. */
  tryAcquire(): boolean {
    if (this.active >= this.max) {
      this.#overflow.v++
      return false
    }
    this.acquire()
    return true
  }

  /** Takes one whatever the limit says: Envoy lets a host without any connection always have its first. */
  acquire(): void {
    if (++this.active >= this.max && !this.#open) this.#setOpen(true)
  }

  /** Gives one back; every acquired one exactly once. */
  release(): void {
    if (--this.active < this.max && this.#open) this.#setOpen(false)
  }

  /** Takes this limit out of the gauge; what is still held may be released afterwards. */
  retire(): void {
    this.#setOpen(false)
    this.#gauge = { v: 0 }
  }

  #setOpen(open: boolean): void {
    if (open === this.#open) return
    this.#open = open
    this.#gauge.v += open ? 1 : -1
  }
}

/** Retries under way, as many as a share of the requests under way (Envoy's RetryBudget). */
export class RetryBudget implements RetryLimit {
  readonly #config: RetryBudgetConfig
  readonly #requests: BreakerLimit
  readonly #overflow: Counter
  #gauge: Gauge
  #active = 0
  #open = false

  /** `requests`: those under way, waiting ones included. */
  constructor(config: RetryBudgetConfig, requests: BreakerLimit, gauge: Gauge, overflow: Counter) {
    this.#config = config
    this.#requests = requests
    this.#gauge = gauge
    this.#overflow = overflow
  }

  get #full(): boolean {
    const { percent, minConcurrency } = this.#config
    return this.#active >= Math.max(minConcurrency, Math.floor((this.#requests.active * percent) / 100))
  }

  tryAcquire(): boolean {
    const full = this.#full
    if (full) this.#overflow.v++
    else this.#active++
    this.#note()
    return !full
  }

  release(): void {
    this.#active--
    this.#note()
  }

  retire(): void {
    this.#setOpen(false)
    this.#gauge = { v: 0 }
  }

  /** The gauge says how it was when a retry was last looked at: requests come and go without it. */
  #note(): void {
    this.#setOpen(this.#active > 0 && this.#full)
  }

  #setOpen(open: boolean): void {
    if (open === this.#open) return
    this.#open = open
    this.#gauge.v += open ? 1 : -1
  }
}

/** The limits of one cluster at one routing priority. */
export interface Breakers {
  readonly connections: BreakerLimit
  readonly pendingRequests: BreakerLimit
  readonly requests: BreakerLimit
  readonly retries: RetryLimit
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
 * Envoy's circuit breakers of one cluster (`config.cluster.v3.CircuitBreakers`). Limits hold per process. Plain
 * integers, for the request path.
 */
export class CircuitBreakers implements Disposable {
  readonly default: Breakers
  readonly high: Breakers

  /** `statName`: the cluster's name in statistics. */
  constructor(metrics: Metrics, statName: string, thresholds: ClusterConfig['thresholds']) {
    this.default = makeBreakers(metrics, statName, 'default', thresholds.default)
    this.high = makeBreakers(metrics, statName, 'high', thresholds.high)
  }

  of(priority: RoutingPriority): Breakers {
    return priority === 'high' ? this.high : this.default
  }

  /** When the cluster is gone: its gauges no longer count it. */
  [Symbol.dispose](): void {
    for (const { connections, pendingRequests, requests, retries } of [this.default, this.high]) {
      connections.retire()
      pendingRequests.retire()
      requests.retire()
      retries.retire()
    }
  }
}

function makeBreakers(
  metrics: Metrics,
  statName: string,
  priority: RoutingPriority,
  thresholds: ThresholdsConfig,
): Breakers {
  const cluster = `cluster.${statName}`
  const gauge = (name: string): Gauge => metrics.gauge(`${cluster}.circuit_breakers.${priority}.${name}`)
  const overflow = (name: string): Counter => metrics.counter(`${cluster}.${name}`)
  // Envoy counts a refused request under the pending overflow too.
  const pendingOverflow = overflow('upstream_rq_pending_overflow')
  const requests = new BreakerLimit(thresholds.maxRequests, gauge('rq_open'), pendingOverflow)
  const { retryBudget } = thresholds
  const retryGauge = gauge('rq_retry_open')
  const retryOverflow = overflow('upstream_rq_retry_overflow')
  return {
    connections: new BreakerLimit(thresholds.maxConnections, gauge('cx_open'), overflow('upstream_cx_overflow')),
    pendingRequests: new BreakerLimit(thresholds.maxPendingRequests, gauge('rq_pending_open'), pendingOverflow),
    requests,
    retries:
      retryBudget === undefined
        ? new BreakerLimit(thresholds.maxRetries, retryGauge, retryOverflow)
        : new RetryBudget(retryBudget, requests, retryGauge, retryOverflow),
  }
}
