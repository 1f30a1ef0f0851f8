import type { Metrics } from '../core/metrics.ts'
import type { Http2Stats } from './contract.ts'

/**
 * The cells of one stat prefix, by Envoy's names (`<prefix>http2.rx_reset`); the last three counters are our own. Made
 * once per listener or cluster.
 */
export function http2Stats(metrics: Metrics, prefix: string): Http2Stats {
  const counter = (name: string) => metrics.counter(`${prefix}http2.${name}`)
  const gauge = (name: string) => metrics.gauge(`${prefix}http2.${name}`)
  return Object.freeze({
    headerOverflow: counter('header_overflow'),
    headersCbNoStream: counter('headers_cb_no_stream'),
    inboundEmptyFramesFlood: counter('inbound_empty_frames_flood'),
    inboundPriorityFramesFlood: counter('inbound_priority_frames_flood'),
    inboundWindowUpdateFramesFlood: counter('inbound_window_update_frames_flood'),
    outboundFlood: counter('outbound_flood'),
    outboundControlFlood: counter('outbound_control_flood'),
    rxMessagingError: counter('rx_messaging_error'),
    rxReset: counter('rx_reset'),
    txReset: counter('tx_reset'),
    trailers: counter('trailers'),
    goawaySent: counter('goaway_sent'),
    streamRefusedErrors: counter('stream_refused_errors'),
    keepaliveTimeout: counter('keepalive_timeout'),
    txFlushTimeout: counter('tx_flush_timeout'),
    streamsActive: gauge('streams_active'),
    pendingSendBytes: gauge('pending_send_bytes'),
    inboundControlFramesFlood: counter('inbound_control_frames_flood'),
    prematureResets: counter('premature_resets'),
    protocolErrors: counter('protocol_error'),
  })
}
