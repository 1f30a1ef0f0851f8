import type { Counter, Gauge, Metrics } from '../lib/core/metrics.ts'

/** What a listener counts besides TLS and HTTP, under `listener.<stat prefix>.` as in Envoy. */
export interface ReceptionStats {
  /** Connections that a filter chain took. */
  readonly total: Counter
  readonly active: Gauge
  readonly destroyed: Counter
  /** Turned away by the listener's own limit, by that of one source, by that of the gateway. */
  readonly overflow: Counter
  readonly sourceOverflow: Counter
  readonly globalOverflow: Counter
  /** Turned away by the overload manager. */
  readonly overloadReject: Counter
  readonly noChain: Counter
  /** Connections that listener filters look at. */
  readonly peeking: Gauge
  readonly peekTimeouts: Counter
  readonly peekErrors: Counter
  readonly peekGone: Counter
}

export function receptionStats(metrics: Metrics, prefix: string): ReceptionStats {
  return {
    total: metrics.counter(`${prefix}downstream_cx_total`),
    active: metrics.gauge(`${prefix}downstream_cx_active`),
    destroyed: metrics.counter(`${prefix}downstream_cx_destroy`),
    overflow: metrics.counter(`${prefix}downstream_cx_overflow`),
    sourceOverflow: metrics.counter(`${prefix}downstream_source_cx_overflow`),
    globalOverflow: metrics.counter(`${prefix}downstream_global_cx_overflow`),
    overloadReject: metrics.counter(`${prefix}downstream_cx_overload_reject`),
    noChain: metrics.counter(`${prefix}no_filter_chain_match`),
    peeking: metrics.gauge(`${prefix}downstream_pre_cx_active`),
    peekTimeouts: metrics.counter(`${prefix}downstream_pre_cx_timeout`),
    peekErrors: metrics.counter(`${prefix}downstream_listener_filter_error`),
    peekGone: metrics.counter(`${prefix}downstream_listener_filter_remote_close`),
  }
}
