import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import type { ClusterConfig, ClusterHttp1Config } from '../../lib/upstream/config.ts'
import { durationMs } from './durations.ts'
import { translateHeaderCase } from './header-case.ts'
import { consume, refuseExtension, refuseTrue, WHY } from './refusals.ts'

const OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'
const UPSTREAM_CODEC = 'envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec'

/** Envoy's defaults for HTTP/1 upstreams. */
const IDLE_MS = 3_600_000
const MAX_HEADERS_KB = 80
const MAX_HEADERS = 100

/** The part of a cluster that says how its connections speak HTTP. */
export type UpstreamProtocol = Pick<
  ClusterConfig,
  | 'idleTimeoutMs'
  | 'maxRequestsPerConnection'
  | 'maxConnectionDurationMs'
  | 'maxStreamDurationMs'
  | 'maxResponseHeaderBytes'
  | 'maxResponseHeaders'
  | 'protocol'
  | 'http1'
>

/**
 * `typed_extension_protocol_options` with an HttpProtocolOptions, or the deprecated fields of the cluster itself. Only
 * HTTP/1 upstreams exist; everything else is refused.
 */
export function translateUpstreamProtocol(cluster: FieldReader): UpstreamProtocol {
  const legacyMax = cluster.number('max_requests_per_connection')
  const legacyCommon = cluster.message('common_http_protocol_options')
  const legacyHttp1 = cluster.message('http_protocol_options')
  cluster.ignore('upstream_http_protocol_options')
  cluster.refuse('http2_protocol_options', `upstream: ${WHY.http2}`)
  if (cluster.enumName('protocol_selection') === 'USE_DOWNSTREAM_PROTOCOL') {
    cluster.error('protocol_selection', `USE_DOWNSTREAM_PROTOCOL cannot be used: ${WHY.http2}`)
  }
  const options = findOptions(cluster)
  if (options === undefined) return assemble(legacyCommon, legacyHttp1, legacyMax)
  const common = options.message('common_http_protocol_options') ?? legacyCommon
  return assemble(common, translateOptions(options), legacyMax)
}

function findOptions(cluster: FieldReader): FieldReader | undefined {
  let options: ExtensionReader | undefined
  for (const [key, extension] of cluster.anyMap('typed_extension_protocol_options')) {
    if (extension.typeUrl === OPTIONS) {
      options = extension
    } else {
      consume(extension)
      cluster.error(
        'typed_extension_protocol_options',
        `protocol options "${extension.typeUrl}" of "${key}" are not available`,
      )
    }
  }
  return options?.fields
}

/** Answers the HTTP/1 options of `HttpProtocolOptions`, once it is clear that HTTP/1 is what it asks for. */
function translateOptions(options: FieldReader): FieldReader | undefined {
  options.ignore('upstream_http_protocol_options', 'outlier_detection', 'hash_policy', 'retry_policy')
  options.refuse('header_validation_config', 'header validation extensions are not available')
  options.refuse('request_mirror_policies', 'mirroring per cluster is not available; mirror in routes')
  refuseUpstreamFilters(options)
  options.refuse('use_downstream_protocol_config', `upstream: ${WHY.http2}; use explicit_http_config`)
  options.refuse('auto_config', `upstream: ${WHY.tls}; use explicit_http_config`)
  const explicit = options.message('explicit_http_config')
  explicit?.refuse('http2_protocol_options', `upstream: ${WHY.http2}`)
  explicit?.refuse('http3_protocol_options', `upstream: ${WHY.http3}`)
  return explicit?.message('http_protocol_options')
}

function refuseUpstreamFilters(options: FieldReader): void {
  for (const filter of options.messages('http_filters')) {
    filter.string('name')
    filter.bool('is_optional')
    const disabled = filter.bool('disabled')
    filter.refuse('config_discovery', WHY.dynamic)
    const extension = filter.any('typed_config')
    if (extension === undefined) continue
    if (extension.typeUrl === UPSTREAM_CODEC && !disabled) consume(extension)
    else refuseExtension(filter, 'typed_config', extension, `upstream filter "${extension.typeUrl}" is not available`)
  }
}

function assemble(
  common: FieldReader | undefined,
  http1: FieldReader | undefined,
  legacyMax: number | undefined,
): UpstreamProtocol {
  common?.ignore('max_connection_duration_jitter', 'headers_with_underscores_action')
  const maxRequests = common?.number('max_requests_per_connection') ?? legacyMax ?? 0
  const maxConnectionDurationMs = durationMs(common, 'max_connection_duration')
  const maxStreamDurationMs = durationMs(common, 'max_stream_duration')
  return {
    idleTimeoutMs: durationMs(common, 'idle_timeout') ?? IDLE_MS,
    ...(maxRequests > 0 && { maxRequestsPerConnection: maxRequests }),
    ...(maxConnectionDurationMs && { maxConnectionDurationMs }),
    ...(maxStreamDurationMs && { maxStreamDurationMs }),
    maxResponseHeaderBytes: (common?.number('max_response_headers_kb') ?? MAX_HEADERS_KB) * 1024,
    maxResponseHeaders: common?.number('max_headers_count') ?? MAX_HEADERS,
    protocol: 'http1',
    http1: translateHttp1(http1),
  }
}

function translateHttp1(http1: FieldReader | undefined): ClusterHttp1Config {
  http1?.ignore(
    'allow_absolute_url',
    'accept_http_10',
    'default_host_for_http_10',
    'override_stream_error_on_invalid_http_message',
    'use_balsa_parser',
    'allow_custom_methods',
    'ignore_http_11_upgrade',
  )
  if (http1 !== undefined) {
    refuseTrue(http1, 'allow_chunked_length', 'a message with both lengths is always refused')
    refuseTrue(http1, 'send_fully_qualified_url', 'upstream proxies are not available')
  }
  return { headerCase: translateHeaderCase(http1), enableTrailers: http1?.bool('enable_trailers') ?? false }
}
