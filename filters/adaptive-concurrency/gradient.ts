import type { Counter, Gauge, Metrics, Runtime } from '../../lib/core/metrics.ts'
import { runtimeInteger, runtimeNumber } from '../../lib/core/runtime-value.ts'
import type { GradientConfig } from './config.ts'
import { Latencies } from './latencies.ts'

/** What a controller works with. */
export interface GradientParts {
  readonly config: GradientConfig
  readonly runtime: Runtime
  readonly metrics: Metrics
  /** With its dot. */
  readonly statPrefix: string
  readonly random: () => number
  /** Undefined: this process is all of the gateway. */
  readonly shared?: SharedWork | undefined
}

/** What controllers of several workers have in common without a word between them. */
export interface SharedWork {
  readonly workers: number
  /** Of the wall clock: all of them measure the shortest latency at the same time. */
  readonly wallMs: () => number
  /** The same in all of them, and another for each filter. */
  readonly seed: string
}

/** So many windows at the smallest limit are taken for a sign that the shortest latency was measured wrong. */
const STUCK_WINDOWS = 5
const KEYS = 'adaptive_concurrency.gradient_controller.'

/**
 * Finds out how many requests may be under way at once (Envoy's gradient controller): at the end of each window the limit is
 * multiplied by how much the latency has moved from the shortest one, and some room for bursts is added. From time to time
 * the limit goes down to very few, and the shortest latency is measured again.
 *
 * ```
 * measuring (limit: min_concurrency) ── request_count latencies ──▶ adapting (a new limit at the end of each window)
 *     ▲                                                                │
 *     └────── interval and jitter over, or 5 windows at the smallest ◀─┘
 * ```
 *
 * Of several workers each has an equal share of the limits, and all measure the shortest latency at the same time: it would
 * be that of a loaded upstream otherwise.
 *
 * No timers: time is looked at when a request comes or goes, and nothing happens in between. Times are monotonic ms.
 */
export class GradientController {
  readonly #parts: GradientParts
  readonly #cells: Cells
  readonly #latencies = new Latencies()
  #limit: number
  #underWay = 0
  /** While the shortest latency is measured: the limit before. */
  #deferred: number | undefined = undefined
  /** Requests that began earlier are not measured. */
  #epochMs = 0
  #minRttMicros = 0
  #minRttDueMs = 0
  #windowEndsMs: number
  #stuck = 0

  constructor(parts: GradientParts, nowMs: number) {
    this.#parts = parts
    this.#cells = cellsOf(parts)
    this.#limit = this.#minConcurrency
    this.#windowEndsMs = nowMs + this.#updateIntervalMs
    const { fixedMinRttMs } = parts.config
    if (fixedMinRttMs === undefined) this.#measure(nowMs)
    else {
      this.#minRttMicros = fixedMinRttMs * 1_000
      this.#minRttDueMs = Number.POSITIVE_INFINITY
      this.#cells.minRttMs.set(fixedMinRttMs)
    }
    this.#cells.limit.set(this.#limit)
  }

  get limit(): number {
    return this.#limit
  }

  get underWay(): number {
    return this.#underWay
  }

  /** False: as many as may be are under way. True: one more is, and `completed` or `cancelled` is called for it. */
  admit(nowMs: number): boolean {
    this.#advance(nowMs)
    if (this.#underWay >= this.#limit) {
      this.#cells.blocked.v++
      return false
    }
    this.#underWay++
    return true
  }

  /** A request that began at `sinceMs` has been answered in full. */
  completed(sinceMs: number, nowMs: number): void {
    this.#underWay--
    this.#advance(nowMs)
    if (sinceMs < this.#epochMs) return
    this.#latencies.record((nowMs - sinceMs) * 1_000)
    if (this.#deferred !== undefined && this.#latencies.count >= this.#requestCount) this.#measured(nowMs)
  }

  /** A request has ended before its answer was complete: how long it took says nothing. */
  cancelled(): void {
    this.#underWay--
  }

  /** The gauges are of what is: without it there is nothing. */
  close(): void {
    for (const gauge of Object.values(this.#cells)) if (gauge instanceof OwnGauge) gauge.set(0)
  }

  #advance(nowMs: number): void {
    if (this.#deferred !== undefined) return
    if (nowMs >= this.#windowEndsMs) {
      this.#windowEndsMs = nowMs + this.#updateIntervalMs
      if (this.#latencies.count > 0) this.#adapt()
    }
    if (nowMs >= this.#minRttDueMs) this.#measure(nowMs)
  }

  #measure(nowMs: number): void {
    this.#deferred = this.#limit
    this.#cells.measuring.set(1)
    this.#setLimit(this.#minConcurrency)
    this.#latencies.clear()
    this.#epochMs = nowMs
  }

  #measured(nowMs: number): void {
    this.#minRttMicros = this.#aggregate()
    this.#cells.minRttMs.set(Math.floor(this.#minRttMicros / 1_000))
    const limit = this.#deferred ?? this.#limit
    this.#deferred = undefined
    this.#setLimit(limit)
    this.#cells.measuring.set(0)
    this.#minRttDueMs = nowMs + this.#nextMeasureMs()
    this.#windowEndsMs = nowMs + this.#updateIntervalMs
  }

  /** How long until the shortest latency is measured again. */
  #nextMeasureMs(): number {
    const { shared, random } = this.#parts
    const intervalMs = this.#minRttIntervalMs
    const jitterMs = Math.ceil((intervalMs * this.#jitterPercent) / 100)
    if (shared === undefined) return intervalMs + Math.floor(random() * jitterMs)
    const wallMs = shared.wallMs()
    // Whoever is late by more than that leaves a turn out.
    const turn = Math.floor((wallMs + intervalMs / 4) / intervalMs) + 1
    return turn * intervalMs + Math.floor(chance(`${shared.seed} ${turn}`) * jitterMs) - wallMs
  }

  /** A window ends. */
  #adapt(): void {
    const sampleMicros = Math.max(1, this.#aggregate())
    this.#cells.sampleRttMs.set(Math.floor(sampleMicros / 1_000))
    const gradient = Math.max(0.5, Math.min(2, (this.#minRttMicros * (1 + this.#bufferPercent / 100)) / sampleMicros))
    this.#cells.gradient.set(Math.floor(gradient * 1_000))
    const limit = this.#limit * gradient
    const headroom = Math.sqrt(limit)
    this.#cells.burstQueueSize.set(Math.floor(headroom))
    const before = this.#limit
    const least = this.#minLimit
    this.#setLimit(Math.max(least, Math.min(this.#maxLimit, Math.floor(limit + headroom))))
    this.#stuck = before === least && this.#limit === least ? this.#stuck + 1 : 0
    if (this.#stuck >= STUCK_WINDOWS && this.#parts.config.fixedMinRttMs === undefined) {
      this.#stuck = 0
      this.#minRttDueMs = Number.NEGATIVE_INFINITY
    }
  }

  /** What stands for the latencies of the window, µs; the next one begins. */
  #aggregate(): number {
    const micros = Math.floor(this.#latencies.at(this.#samplePercentile))
    this.#latencies.clear()
    return micros
  }

  #setLimit(limit: number): void {
    this.#limit = limit
    this.#cells.limit.set(limit)
  }

  // --- settings, for which the runtime may have others ------------------------------------------------------------------

  get #minConcurrency(): number {
    return this.#share(this.#count('min_concurrency', this.#parts.config.minConcurrency))
  }

  get #minLimit(): number {
    const { minLimit } = this.#parts.config
    return minLimit === undefined ? this.#minConcurrency : this.#share(minLimit)
  }

  get #maxLimit(): number {
    return this.#share(this.#count('max_concurrency_limit', this.#parts.config.maxLimit))
  }

  /** Measuring takes as long as it would in one process. */
  get #requestCount(): number {
    const count = this.#count('min_rtt_aggregate_request_count', this.#parts.config.requestCount)
    const atOnce = this.#count('min_concurrency', this.#parts.config.minConcurrency)
    return Math.ceil((count * Math.min(atOnce, this.#minConcurrency)) / atOnce)
  }

  /** Of a limit of the gateway, at least one. */
  #share(limit: number): number {
    return Math.max(1, Math.round(limit / (this.#parts.shared?.workers ?? 1)))
  }

  get #minRttIntervalMs(): number {
    return this.#count('min_rtt_calc_interval_ms', this.#parts.config.minRttIntervalMs)
  }

  get #updateIntervalMs(): number {
    return this.#count('sample_rtt_calc_interval_ms', this.#parts.config.updateIntervalMs)
  }

  get #samplePercentile(): number {
    return this.#percent('sample_aggregate_percentile', this.#parts.config.samplePercentile)
  }

  get #jitterPercent(): number {
    return this.#percent('jitter', this.#parts.config.jitterPercent)
  }

  get #bufferPercent(): number {
    return this.#percent('min_rtt_buffer', this.#parts.config.bufferPercent)
  }

  #count(key: string, configured: number): number {
    return runtimeInteger(this.#parts.runtime, KEYS + key) || configured
  }

  #percent(key: string, configured: number): number {
    const live = runtimeNumber(this.#parts.runtime, KEYS + key)
    return live !== undefined && live >= 0 && live <= 100 ? live : configured
  }
}

/** In [0, 1), the same for the same text (FNV-1a). */
function chance(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  // The last characters have moved the low bits alone.
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  return ((hash ^ (hash >>> 13)) >>> 0) / 2 ** 32
}

/** A gauge that others add to as well: what this one has of it moves by differences. */
class OwnGauge {
  readonly #gauge: Gauge
  #value = 0

  constructor(gauge: Gauge) {
    this.#gauge = gauge
  }

  set(value: number): void {
    this.#gauge.v += value - this.#value
    this.#value = value
  }
}

interface Cells {
  readonly blocked: Counter
  readonly burstQueueSize: OwnGauge
  readonly limit: OwnGauge
  /** Times 1,000. */
  readonly gradient: OwnGauge
  readonly measuring: OwnGauge
  readonly minRttMs: OwnGauge
  readonly sampleRttMs: OwnGauge
}

function cellsOf({ metrics, statPrefix }: GradientParts): Cells {
  const gauge = (name: string): OwnGauge => new OwnGauge(metrics.gauge(statPrefix + name))
  return {
    blocked: metrics.counter(`${statPrefix}rq_blocked`),
    burstQueueSize: gauge('burst_queue_size'),
    limit: gauge('concurrency_limit'),
    gradient: gauge('gradient'),
    measuring: gauge('min_rtt_calculation_active'),
    minRttMs: gauge('min_rtt_msecs'),
    sampleRttMs: gauge('sample_rtt_msecs'),
  }
}
