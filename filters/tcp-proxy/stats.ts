import type { Counter, Gauge, Metrics } from '../../lib/core/metrics.ts'

/** Cells of `tcp.<stat_prefix>.`. */
export interface TcpProxyStats {
  readonly total: Counter
  readonly noRoute: Counter
  readonly txBytes: Counter
  readonly rxBytes: Counter
  readonly pausedReading: Counter
  readonly resumedReading: Counter
  readonly idleTimeout: Counter
  readonly maxDuration: Counter
  readonly upstreamFlushTotal: Counter
  readonly upstreamFlushActive: Gauge
}

export function tcpProxyStats(metrics: Metrics, statPrefix: string): TcpProxyStats {
  const prefix = `tcp.${statPrefix}.`
  return {
    total: metrics.counter(`${prefix}downstream_cx_total`),
    noRoute: metrics.counter(`${prefix}downstream_cx_no_route`),
    txBytes: metrics.counter(`${prefix}downstream_cx_tx_bytes_total`),
    rxBytes: metrics.counter(`${prefix}downstream_cx_rx_bytes_total`),
    pausedReading: metrics.counter(`${prefix}downstream_flow_control_paused_reading_total`),
    resumedReading: metrics.counter(`${prefix}downstream_flow_control_resumed_reading_total`),
    idleTimeout: metrics.counter(`${prefix}idle_timeout`),
    maxDuration: metrics.counter(`${prefix}max_downstream_connection_duration`),
    upstreamFlushTotal: metrics.counter(`${prefix}upstream_flush_total`),
    upstreamFlushActive: metrics.gauge(`${prefix}upstream_flush_active`),
  }
}
