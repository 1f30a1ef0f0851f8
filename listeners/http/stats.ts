import type { Counter, Gauge, Histogram, Metrics } from '../../lib/core/metrics.ts'

/** The cells of one connection manager, under Envoy's `http.<stat_prefix>.` names. */
export interface HttpStats {
  readonly connections: Counter
  readonly activeConnections: Gauge
  readonly destroyed: Counter
  readonly http1Connections: Counter
  readonly activeHttp1Connections: Gauge
  readonly http2Connections: Counter
  readonly activeHttp2Connections: Gauge
  readonly tlsConnections: Counter
  readonly activeTlsConnections: Gauge
  readonly connectionLengthMs: Histogram
  readonly requests: Counter
  readonly activeRequests: Gauge
  readonly completed: Counter
  readonly requestTime: Histogram
  /** By first digit of the status, 1 to 5; index 0 is unused. */
  readonly classes: readonly Counter[]
  /** Under `listener.<prefix>.http.<stat_prefix>.`: of the requests that came through this listener alone. */
  readonly listenerCompleted: Counter
  /** As `classes`. */
  readonly listenerClasses: readonly Counter[]
  readonly http10: Counter
  readonly http1Requests: Counter
  readonly http2Requests: Counter
  readonly noRoute: Counter
  readonly directResponses: Counter
  readonly protocolErrors: Counter
  readonly headerTimeouts: Counter
  readonly requestTimeouts: Counter
  readonly idleTimeouts: Counter
  readonly streamIdleTimeouts: Counter
  readonly maxStreamDuration: Counter
  readonly maxDuration: Counter
  readonly maxRequests: Counter
  readonly drainCloses: Counter
  /** HTTP/2: no preface, or no acknowledgement of our SETTINGS, in time. */
  readonly setupTimeouts: Counter
  readonly slowBodies: Counter
  readonly resets: Counter
  readonly tooLarge: Counter
  readonly underscores: Counter
  readonly misdirected: Counter
  /** Refused, or broken off, by the overload manager; connections that it lets end. */
  readonly overloadCloses: Counter
  readonly overloadKeepalives: Counter
  readonly filterErrors: Counter
  readonly localReplies: Counter
  readonly bytesReceived: Counter
  readonly bytesSent: Counter
}

/** Resolves the cells once, when the connection manager is compiled. `listener`: the listener's own prefix. */
export function httpStats(metrics: Metrics, statPrefix: string, listener: string): HttpStats {
  const p = `http.${statPrefix}.`
  const c = (name: string): Counter => metrics.counter(p + name)
  const here = `listener.${listener}.http.${statPrefix}.downstream_rq_`
  return {
    connections: c('downstream_cx_total'),
    activeConnections: metrics.gauge(`${p}downstream_cx_active`),
    destroyed: c('downstream_cx_destroy'),
    http1Connections: c('downstream_cx_http1_total'),
    activeHttp1Connections: metrics.gauge(`${p}downstream_cx_http1_active`),
    http2Connections: c('downstream_cx_http2_total'),
    activeHttp2Connections: metrics.gauge(`${p}downstream_cx_http2_active`),
    tlsConnections: c('downstream_cx_ssl_total'),
    activeTlsConnections: metrics.gauge(`${p}downstream_cx_ssl_active`),
    connectionLengthMs: metrics.histogram(`${p}downstream_cx_length_ms`),
    requests: c('downstream_rq_total'),
    activeRequests: metrics.gauge(`${p}downstream_rq_active`),
    completed: c('downstream_rq_completed'),
    requestTime: metrics.histogram(`${p}downstream_rq_time`),
    classes: [1, 1, 2, 3, 4, 5].map((digit) => c(`downstream_rq_${digit}xx`)),
    listenerCompleted: metrics.counter(`${here}completed`),
    listenerClasses: [1, 1, 2, 3, 4, 5].map((digit) => metrics.counter(`${here}${digit}xx`)),
    http10: c('downstream_rq_http1_0_total'),
    http1Requests: c('downstream_rq_http1_total'),
    http2Requests: c('downstream_rq_http2_total'),
    noRoute: c('no_route'),
    directResponses: c('rq_direct_response'),
    protocolErrors: c('downstream_cx_protocol_error'),
    headerTimeouts: c('downstream_rq_header_timeout'),
    requestTimeouts: c('downstream_rq_timeout'),
    idleTimeouts: c('downstream_cx_idle_timeout'),
    streamIdleTimeouts: c('downstream_rq_idle_timeout'),
    maxStreamDuration: c('downstream_rq_max_duration_reached'),
    maxDuration: c('downstream_cx_max_duration_reached'),
    maxRequests: c('downstream_cx_max_requests_reached'),
    drainCloses: c('downstream_cx_drain_close'),
    setupTimeouts: c('downstream_cx_http2_setup_timeout'),
    slowBodies: c('downstream_rq_slow_body'),
    resets: c('downstream_rq_rx_reset'),
    tooLarge: c('downstream_rq_too_large'),
    underscores: c('downstream_rq_rejected_underscore_headers'),
    misdirected: c('downstream_rq_misdirected'),
    overloadCloses: c('downstream_rq_overload_close'),
    overloadKeepalives: c('downstream_cx_overload_disable_keepalive'),
    filterErrors: c('downstream_rq_filter_error'),
    localReplies: c('downstream_rq_local_reply'),
    bytesReceived: c('downstream_cx_rx_bytes_total'),
    bytesSent: c('downstream_cx_tx_bytes_total'),
  }
}

/** Counts one request that is over, and its answer; `status` 0: there was none. */
export function countAnswer(stats: HttpStats, status: number): void {
  stats.completed.v++
  stats.listenerCompleted.v++
  if (status < 100 || status >= 600) return
  const digit = (status / 100) | 0
  stats.classes[digit].v++
  stats.listenerClasses[digit].v++
}
