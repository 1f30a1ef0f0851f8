import { ENVOY_HTTP2 } from '../../lib/config/defaults.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { Http2Config, Http2KeepaliveConfig } from '../../lib/http2/config.ts'
import { durationMs } from './durations.ts'
import { translateCustomSettings } from './http2-settings.ts'
import { refuseTrue } from './refusals.ts'

/** Envoy's share of the interval, in percent, where a keepalive sets none. */
const JITTER_PERCENT = 15

/** Known, neither selecting nor admitting, and without a counterpart in our codec: reported. */
const REPORTED = [
  'allow_metadata',
  'max_metadata_size',
  'use_oghttp2_codec',
  'enable_huffman_encoding',
  'stream_reset_burst',
  'stream_reset_rate',
] as const

/** What decides along with the message itself. */
export interface Http2Surroundings {
  /** Limit of a whole header list, which that of a single field must not exceed. */
  readonly maxHeadersKb: number
  /** The connection manager's `stream_error_on_invalid_http_message`, which wins over the deprecated field of this message. */
  readonly streamError?: boolean | undefined
}

/** `config.core.v3.Http2ProtocolOptions` with Envoy's defaults filled in; its ranges are rules of the API. */
export function translateHttp2(reader: FieldReader | undefined, around: Http2Surroundings): Http2Config {
  if (reader === undefined) return { ...ENVOY_HTTP2, streamErrorOnInvalidMessage: around.streamError ?? false }
  reader.unread('refuse')
  reader.ignore(...REPORTED)
  refuseTrue(reader, 'disallow_obs_text', 'refusing obs-text in header values is not available')
  checkFieldSize(reader, around)
  const number = (field: string, standard: number): number => reader.number(field) ?? standard
  const { named, customSettings } = translateCustomSettings(reader)
  const keepalive = translateKeepalive(reader.message('connection_keepalive'))
  const deprecated = reader.bool('stream_error_on_invalid_http_messaging')
  const streamError = reader.optionalBool('override_stream_error_on_invalid_http_message')
  return {
    hpackTableBytes: number('hpack_table_size', ENVOY_HTTP2.hpackTableBytes),
    maxConcurrentStreams: number('max_concurrent_streams', ENVOY_HTTP2.maxConcurrentStreams),
    initialStreamWindowBytes: number('initial_stream_window_size', ENVOY_HTTP2.initialStreamWindowBytes),
    ...named,
    initialConnectionWindowBytes: number('initial_connection_window_size', ENVOY_HTTP2.initialConnectionWindowBytes),
    allowConnect: reader.bool('allow_connect'),
    streamErrorOnInvalidMessage: streamError ?? around.streamError ?? deprecated,
    maxOutboundFrames: number('max_outbound_frames', ENVOY_HTTP2.maxOutboundFrames),
    maxOutboundControlFrames: number('max_outbound_control_frames', ENVOY_HTTP2.maxOutboundControlFrames),
    maxConsecutiveEmptyFrames: number(
      'max_consecutive_inbound_frames_with_empty_payload',
      ENVOY_HTTP2.maxConsecutiveEmptyFrames,
    ),
    maxPriorityFramesPerStream: number(
      'max_inbound_priority_frames_per_stream',
      ENVOY_HTTP2.maxPriorityFramesPerStream,
    ),
    maxWindowUpdatesPerDataFrame: number(
      'max_inbound_window_update_frames_per_data_frame_sent',
      ENVOY_HTTP2.maxWindowUpdatesPerDataFrame,
    ),
    ...(keepalive && { keepalive }),
    customSettings,
  }
}

/** One field may be as long as the whole list here, so a limit of its own is reported once it makes sense. */
function checkFieldSize(reader: FieldReader, { maxHeadersKb }: Http2Surroundings): void {
  const size = reader.number('max_header_field_size_kb') ?? 0
  if (size <= maxHeadersKb) reader.ignore('max_header_field_size_kb')
  else reader.error('max_header_field_size_kb', `must not exceed the limit of all headers, ${maxHeadersKb}`)
}

function translateKeepalive(reader: FieldReader | undefined): Http2KeepaliveConfig | undefined {
  if (reader === undefined) return undefined
  return {
    intervalMs: durationMs(reader, 'interval') ?? 0,
    timeoutMs: durationMs(reader, 'timeout') ?? 0,
    jitterPercent: reader.has('interval_jitter')
      ? (reader.message('interval_jitter')?.number('value') ?? 0)
      : JITTER_PERCENT,
    idleIntervalMs: durationMs(reader, 'connection_idle_interval') ?? 0,
  }
}
