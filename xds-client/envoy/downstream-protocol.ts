import type { Http1Config, HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { durationMs } from './durations.ts'
import { translateHeaderCase } from './header-case.ts'
import { translateHttp2 } from './http2-options.ts'
import { refuseTrue } from './refusals.ts'

const IDLE_MS = 3_600_000
const MAX_HEADERS = 100
const MAX_HEADERS_KB = 60

const UNDERSCORES: Readonly<Record<string, HttpConnectionManagerConfig['underscores']>> = {
  ALLOW: 'allow',
  REJECT_REQUEST: 'reject',
  DROP_HEADER: 'drop',
}

/** What the protocol options of a connection manager decide. */
export type DownstreamProtocol = Pick<
  HttpConnectionManagerConfig,
  | 'idleTimeoutMs'
  | 'maxStreamDurationMs'
  | 'maxConnectionDurationMs'
  | 'maxRequestsPerConnection'
  | 'maxRequestHeaderBytes'
  | 'maxRequestHeaders'
  | 'maxRequestLineBytes'
  | 'underscores'
  | 'http1'
  | 'http2'
>

/** The protocol options of a connection manager: common ones, those of HTTP/1 and HTTP/2, and `max_request_headers_kb`. */
export function translateDownstreamProtocol(reader: FieldReader): DownstreamProtocol {
  const common = reader.message('common_http_protocol_options')
  common?.ignore('max_connection_duration_jitter')
  common?.refuse('max_response_headers_kb', 'belongs to clusters')
  const maxHeadersKb = reader.number('max_request_headers_kb') ?? MAX_HEADERS_KB
  const maxRequestHeaderBytes = maxHeadersKb * 1024
  return {
    idleTimeoutMs: durationMs(common, 'idle_timeout') ?? IDLE_MS,
    maxStreamDurationMs: durationMs(common, 'max_stream_duration') ?? 0,
    maxConnectionDurationMs: durationMs(common, 'max_connection_duration') ?? 0,
    maxRequestsPerConnection: common?.number('max_requests_per_connection') ?? 0,
    maxRequestHeaderBytes,
    maxRequestHeaders: common?.number('max_headers_count') ?? MAX_HEADERS,
    // Envoy has no limit of its own for the request line; it counts with the headers.
    maxRequestLineBytes: maxRequestHeaderBytes,
    underscores: UNDERSCORES[common?.enumName('headers_with_underscores_action') ?? 'ALLOW'] ?? 'allow',
    http1: translateHttp1(reader.message('http_protocol_options')),
    http2: translateHttp2(reader.message('http2_protocol_options'), {
      maxHeadersKb,
      streamError: reader.optionalBool('stream_error_on_invalid_http_message'),
    }),
  }
}

function translateHttp1(reader: FieldReader | undefined): Http1Config {
  reader?.ignore(
    'override_stream_error_on_invalid_http_message',
    'send_fully_qualified_url',
    'use_balsa_parser',
    'allow_custom_methods',
    'ignore_http_11_upgrade',
  )
  if (reader !== undefined) {
    refuseTrue(
      reader,
      'allow_chunked_length',
      'a message with both Content-Length and Transfer-Encoding is always refused',
    )
  }
  return {
    acceptHttp10: reader?.bool('accept_http_10') ?? false,
    defaultHostForHttp10: reader?.string('default_host_for_http_10') ?? '',
    enableTrailers: reader?.bool('enable_trailers') ?? false,
    headerCase: translateHeaderCase(reader),
    allowAbsoluteUrl: reader?.optionalBool('allow_absolute_url') ?? true,
  }
}
