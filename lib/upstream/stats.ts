import type { Counter, Gauge, Histogram, Metrics } from '../core/metrics.ts'

/** Counters by response status under one prefix: `<prefix>_completed`, `<prefix>_2xx` and, made when seen, `<prefix>_200`. */
export class StatusCounters {
  readonly completed: Counter
  readonly #metrics: Metrics
  readonly #prefix: string
  /** Index = first digit of the status. */
  readonly #classes: (Counter | undefined)[]
  #codes: (Counter | undefined)[] = []

  /** `whole`: the classes from 1xx to 5xx exist from the start, and not only once one of them is seen. */
  constructor(metrics: Metrics, prefix: string, whole = true) {
    this.#metrics = metrics
    this.#prefix = prefix
    this.completed = metrics.counter(`${prefix}_completed`)
    this.#classes = new Array<Counter | undefined>(10).fill(undefined)
    if (whole) for (let digit = 1; digit < 6; digit++) this.#addClass(digit)
  }

  /** Counts one final response; `status` is a whole number from 100 to 999. */
  count(status: number): void {
    this.completed.v++
    const digit = Math.trunc(status / 100)
    const group = this.#classes[digit] ?? (digit < 6 ? this.#addClass(digit) : undefined)
    if (group !== undefined) group.v++
    const code = this.#codes[status] ?? this.#addCode(status)
    code.v++
  }

  #addClass(digit: number): Counter {
    const group = this.#metrics.counter(`${this.#prefix}_${digit}xx`)
    this.#classes[digit] = group
    return group
  }

  #addCode(status: number): Counter {
    // Not before the first response: most clusters of a large configuration are idle. Three digits, never holes.
    if (this.#codes.length === 0) this.#codes = new Array<Counter | undefined>(1000).fill(undefined)
    const code = this.#metrics.counter(`${this.#prefix}_${status}`)
    this.#codes[status] = code
    return code
  }
}

/** Responses to requests of one origin, `internal` or `external`: by status, and their times (as Envoy's). */
export class OriginStats {
  readonly #status: StatusCounters
  readonly #time: Histogram

  /** `prefix`: with its dot. */
  constructor(metrics: Metrics, prefix: string) {
    this.#status = new StatusCounters(metrics, `${prefix}upstream_rq`, false)
    this.#time = metrics.histogram(`${prefix}upstream_rq_time`)
  }

  count(status: number, elapsedMs: number): void {
    this.#status.count(status)
    this.#time.record(elapsedMs)
  }
}

/** The cells of one cluster that count what becomes of its membership. Made when they are asked for: most
 * never are. */
export class MembershipStats {
  readonly #metrics: Metrics
  readonly #prefix: string
  // These move with every cluster.
  #total: Gauge | undefined = undefined
  #healthy: Gauge | undefined = undefined
  #change: Counter | undefined = undefined

  constructor(metrics: Metrics, statName: string) {
    this.#metrics = metrics
    this.#prefix = `cluster.${statName}.`
  }

  get membershipTotal(): Gauge {
    this.#total ??= this.#metrics.gauge(`${this.#prefix}membership_total`)
    return this.#total
  }

  get membershipHealthy(): Gauge {
    this.#healthy ??= this.#metrics.gauge(`${this.#prefix}membership_healthy`)
    return this.#healthy
  }

  get membershipDegraded(): Gauge {
    return this.#metrics.gauge(`${this.#prefix}membership_degraded`)
  }

  get membershipExcluded(): Gauge {
    return this.#metrics.gauge(`${this.#prefix}membership_excluded`)
  }

  get membershipChange(): Counter {
    this.#change ??= this.#metrics.counter(`${this.#prefix}membership_change`)
    return this.#change
  }

  get updateAttempt(): Counter {
    return this.#metrics.counter(`${this.#prefix}update_attempt`)
  }

  get updateSuccess(): Counter {
    return this.#metrics.counter(`${this.#prefix}update_success`)
  }

  get updateFailure(): Counter {
    return this.#metrics.counter(`${this.#prefix}update_failure`)
  }

  get updateEmpty(): Counter {
    return this.#metrics.counter(`${this.#prefix}update_empty`)
  }

  get updateNoRebuild(): Counter {
    return this.#metrics.counter(`${this.#prefix}update_no_rebuild`)
  }
}

/**
 * The cells of a cluster's traffic under Envoy's names (`cluster.<name>.upstream_cx_total`). Histograms are in milliseconds.
 * Cells are shared by name: a cluster and its successor count into the same ones, so gauges are added to and subtracted
 * from, never set.
 */
export class ClusterStats {
  readonly cxTotal: Counter
  readonly cxActive: Gauge
  readonly cxHttp1Total: Counter
  readonly cxHttp2Total: Counter
  readonly cxConnectFail: Counter
  readonly cxConnectTimeout: Counter
  readonly cxIdleTimeout: Counter
  readonly cxMaxRequests: Counter
  readonly cxMaxDurationReached: Counter
  readonly cxDestroy: Counter
  readonly cxDestroyLocal: Counter
  readonly cxDestroyRemote: Counter
  readonly cxDestroyWithActiveRq: Counter
  readonly cxDestroyLocalWithActiveRq: Counter
  readonly cxDestroyRemoteWithActiveRq: Counter
  readonly cxCloseNotify: Counter
  readonly cxRxBytesTotal: Counter
  readonly cxTxBytesTotal: Counter
  readonly cxOverflow: Counter
  readonly cxProtocolError: Counter
  readonly cxNoneHealthy: Counter
  readonly cxConnectMs: Histogram
  readonly cxLengthMs: Histogram
  readonly rqTotal: Counter
  readonly rqActive: Gauge
  readonly rqPendingTotal: Counter
  readonly rqPendingActive: Gauge
  readonly rqPendingOverflow: Counter
  readonly rqPendingFailureEject: Counter
  readonly rqTimeout: Counter
  readonly rqMaxDurationReached: Counter
  readonly rqPerTryTimeout: Counter
  readonly rqCancelled: Counter
  readonly rqMaintenanceMode: Counter
  readonly rqDropOverload: Counter
  readonly rqRxReset: Counter
  readonly rqTxReset: Counter
  readonly rqRetry: Counter
  readonly rqRetrySuccess: Counter
  readonly rqRetryOverflow: Counter
  readonly rqRetryLimitExceeded: Counter
  readonly rqRetryBackOffExponential: Counter
  readonly rqRetryBackOffRateLimited: Counter
  readonly rqPerTryIdleTimeout: Counter
  readonly retryOrShadowAbandoned: Counter
  readonly redirectSucceeded: Counter
  readonly redirectFailed: Counter
  readonly rqTime: Histogram
  readonly flowControlPausedReading: Counter
  readonly flowControlResumedReading: Counter
  readonly bindErrors: Counter
  readonly lbHealthyPanic: Counter
  /** `upstream_rq_completed`, `upstream_rq_2xx`, `upstream_rq_200`, ... */
  readonly rqStatus: StatusCounters
  readonly #metrics: Metrics
  readonly #prefix: string
  // With the first response of their kind, as in Envoy.
  #internal: OriginStats | undefined = undefined
  #external: OriginStats | undefined = undefined

  constructor(metrics: Metrics, statName: string) {
    const prefix = `cluster.${statName}.`
    this.#metrics = metrics
    this.#prefix = prefix
    this.cxTotal = metrics.counter(`${prefix}upstream_cx_total`)
    this.cxActive = metrics.gauge(`${prefix}upstream_cx_active`)
    this.cxHttp1Total = metrics.counter(`${prefix}upstream_cx_http1_total`)
    this.cxHttp2Total = metrics.counter(`${prefix}upstream_cx_http2_total`)
    this.cxConnectFail = metrics.counter(`${prefix}upstream_cx_connect_fail`)
    this.cxConnectTimeout = metrics.counter(`${prefix}upstream_cx_connect_timeout`)
    this.cxIdleTimeout = metrics.counter(`${prefix}upstream_cx_idle_timeout`)
    this.cxMaxRequests = metrics.counter(`${prefix}upstream_cx_max_requests`)
    this.cxMaxDurationReached = metrics.counter(`${prefix}upstream_cx_max_duration_reached`)
    this.cxDestroy = metrics.counter(`${prefix}upstream_cx_destroy`)
    this.cxDestroyLocal = metrics.counter(`${prefix}upstream_cx_destroy_local`)
    this.cxDestroyRemote = metrics.counter(`${prefix}upstream_cx_destroy_remote`)
    this.cxDestroyWithActiveRq = metrics.counter(`${prefix}upstream_cx_destroy_with_active_rq`)
    this.cxDestroyLocalWithActiveRq = metrics.counter(`${prefix}upstream_cx_destroy_local_with_active_rq`)
    this.cxDestroyRemoteWithActiveRq = metrics.counter(`${prefix}upstream_cx_destroy_remote_with_active_rq`)
    this.cxCloseNotify = metrics.counter(`${prefix}upstream_cx_close_notify`)
    this.cxRxBytesTotal = metrics.counter(`${prefix}upstream_cx_rx_bytes_total`)
    this.cxTxBytesTotal = metrics.counter(`${prefix}upstream_cx_tx_bytes_total`)
    this.cxOverflow = metrics.counter(`${prefix}upstream_cx_overflow`)
    this.cxProtocolError = metrics.counter(`${prefix}upstream_cx_protocol_error`)
    this.cxNoneHealthy = metrics.counter(`${prefix}upstream_cx_none_healthy`)
    this.cxConnectMs = metrics.histogram(`${prefix}upstream_cx_connect_ms`)
    this.cxLengthMs = metrics.histogram(`${prefix}upstream_cx_length_ms`)
    this.rqTotal = metrics.counter(`${prefix}upstream_rq_total`)
    this.rqActive = metrics.gauge(`${prefix}upstream_rq_active`)
    this.rqPendingTotal = metrics.counter(`${prefix}upstream_rq_pending_total`)
    this.rqPendingActive = metrics.gauge(`${prefix}upstream_rq_pending_active`)
    this.rqPendingOverflow = metrics.counter(`${prefix}upstream_rq_pending_overflow`)
    this.rqPendingFailureEject = metrics.counter(`${prefix}upstream_rq_pending_failure_eject`)
    this.rqTimeout = metrics.counter(`${prefix}upstream_rq_timeout`)
    this.rqMaxDurationReached = metrics.counter(`${prefix}upstream_rq_max_duration_reached`)
    this.rqPerTryTimeout = metrics.counter(`${prefix}upstream_rq_per_try_timeout`)
    this.rqCancelled = metrics.counter(`${prefix}upstream_rq_cancelled`)
    this.rqMaintenanceMode = metrics.counter(`${prefix}upstream_rq_maintenance_mode`)
    this.rqDropOverload = metrics.counter(`${prefix}upstream_rq_drop_overload`)
    this.rqRxReset = metrics.counter(`${prefix}upstream_rq_rx_reset`)
    this.rqTxReset = metrics.counter(`${prefix}upstream_rq_tx_reset`)
    this.rqRetry = metrics.counter(`${prefix}upstream_rq_retry`)
    this.rqRetrySuccess = metrics.counter(`${prefix}upstream_rq_retry_success`)
    this.rqRetryOverflow = metrics.counter(`${prefix}upstream_rq_retry_overflow`)
    this.rqRetryLimitExceeded = metrics.counter(`${prefix}upstream_rq_retry_limit_exceeded`)
    this.rqRetryBackOffExponential = metrics.counter(`${prefix}upstream_rq_retry_backoff_exponential`)
    this.rqRetryBackOffRateLimited = metrics.counter(`${prefix}upstream_rq_retry_backoff_ratelimited`)
    this.rqPerTryIdleTimeout = metrics.counter(`${prefix}upstream_rq_per_try_idle_timeout`)
    this.retryOrShadowAbandoned = metrics.counter(`${prefix}retry_or_shadow_abandoned`)
    this.redirectSucceeded = metrics.counter(`${prefix}upstream_internal_redirect_succeeded_total`)
    this.redirectFailed = metrics.counter(`${prefix}upstream_internal_redirect_failed_total`)
    this.rqTime = metrics.histogram(`${prefix}upstream_rq_time`)
    this.flowControlPausedReading = metrics.counter(`${prefix}upstream_flow_control_paused_reading_total`)
    this.flowControlResumedReading = metrics.counter(`${prefix}upstream_flow_control_resumed_reading_total`)
    this.bindErrors = metrics.counter(`${prefix}bind_errors`)
    this.lbHealthyPanic = metrics.counter(`${prefix}lb_healthy_panic`)
    this.rqStatus = new StatusCounters(metrics, `${prefix}upstream_rq`)
  }

  /** `internal.upstream_rq_200` and so on, or `external.`. */
  of(internal: boolean): OriginStats {
    if (internal) return (this.#internal ??= new OriginStats(this.#metrics, `${this.#prefix}internal.`))
    return (this.#external ??= new OriginStats(this.#metrics, `${this.#prefix}external.`))
  }
}
