import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import type { ClusterConfig, ClusterHttp1Config } from '../../lib/upstream/config.ts'
import type { EnvoyContext } from './context.ts'
import { durationMs } from './durations.ts'
import { translateHashPolicies } from './hash-policies.ts'
import { translateHeaderCase } from './header-case.ts'
import { translateHttp2 } from './http2-options.ts'
import { consume, refuseTrue, WHY } from './refusals.ts'
import { translateRetryPolicy } from './retry-policy.ts'
import { translateUpstreamFilters } from './upstream-filters.ts'

const OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'

/** Envoy's defaults; its HTTP/1 codec allows for larger heads than its others. */
const IDLE_MS = 3_600_000
const MAX_HEADERS_KB = 80
const MAX_HEADERS_KB_HTTP2 = 60
const MAX_HEADERS = 100

/** Fields of the cluster that an HttpProtocolOptions replaces. */
const LEGACY = [
  'common_http_protocol_options',
  'http_protocol_options',
  'http2_protocol_options',
  'upstream_http_protocol_options',
  'protocol_selection',
] as const

/** The part of a cluster that says how its connections speak HTTP. */
export type UpstreamHttp = Pick<
  ClusterConfig,
  | 'idleTimeoutMs'
  | 'maxRequestsPerConnection'
  | 'maxConnectionDurationMs'
  | 'maxStreamDurationMs'
  | 'maxResponseHeaderBytes'
  | 'maxResponseHeaders'
  | 'protocol'
  | 'http1'
  | 'http2'
  | 'retryPolicy'
  | 'hashPolicies'
>

/** How a cluster speaks HTTP, and what that adds to its TLS. */
export interface UpstreamProtocol {
  readonly http: UpstreamHttp
  readonly serverName: ServerName
  /** Of its upstream filters, the one that has a place here. */
}

/** `UpstreamHttpProtocolOptions`: SNI, and the name that the certificate must have, are those of the request. */
export interface ServerName {
  readonly autoSni: boolean
  /** Where it is wrong that the certificate must have the request's name. */
  readonly autoSanValidation: FieldReader | undefined
  /** Where they would stand; undefined: nothing is said of names. */
  readonly at: FieldReader | undefined
}

/** Which options hold, wherever they were written. */
interface Options {
  readonly protocol: ClusterConfig['protocol']
  readonly common: FieldReader | undefined
  readonly http1: FieldReader | undefined
  readonly http2: FieldReader | undefined
  readonly names: FieldReader | undefined
}

/**
 * `typed_extension_protocol_options` with an HttpProtocolOptions, which then stands alone, or the deprecated fields of the
 * cluster itself; HTTP/1 where there is neither. `tls`: the cluster has a TLS transport socket.
 */
export function translateUpstreamProtocol(cluster: FieldReader, tls: boolean, context: EnvoyContext): UpstreamProtocol {
  const legacyMax = cluster.number('max_requests_per_connection')
  const fields = findOptions(cluster)
  const options = fields === undefined ? legacyOptions(cluster) : typedOptions(fields, tls)
  const filters = fields && translateUpstreamFilters(fields, context)
  if (fields !== undefined) cluster.ignore(...LEGACY)
  const names = options.names
  names?.refuse('override_auto_sni_header', 'SNI from a header of the request is not available')
  if (!tls) names?.ignore('auto_sni', 'auto_san_validation')
  const serverName = {
    autoSni: tls && (names?.bool('auto_sni') ?? false),
    autoSanValidation: tls && names?.bool('auto_san_validation') ? names : undefined,
    at: names,
  }
  const retryPolicy = fields && translateRetryPolicy(fields)
  const hashing = fields && translateHashPolicies(fields)
  const http = { ...assemble(options, legacyMax), ...(retryPolicy && { retryPolicy }), ...hashing }
  return { http: { ...http, ...filters }, serverName }
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

function legacyOptions(cluster: FieldReader): Options {
  const http1 = cluster.message('http_protocol_options')
  const http2 = cluster.message('http2_protocol_options')
  const inKind = cluster.enumName('protocol_selection') === 'USE_DOWNSTREAM_PROTOCOL'
  if (http1 !== undefined && http2 !== undefined && !inKind) {
    cluster.error('http2_protocol_options', 'excludes http_protocol_options unless the downstream protocol is used')
  }
  const common = cluster.message('common_http_protocol_options')
  const protocol = http2 === undefined ? 'http1' : inKind ? 'downstream' : 'http2'
  return { protocol, common, http1, http2, names: cluster.message('upstream_http_protocol_options') }
}

function typedOptions(options: FieldReader, tls: boolean): Options {
  options.unread('refuse')
  options.ignore('outlier_detection')
  options.refuse('header_validation_config', 'header validation extensions are not available')
  options.refuse('request_mirror_policies', 'mirroring per cluster is not available; mirror in routes')
  const common = options.message('common_http_protocol_options')
  const names = options.message('upstream_http_protocol_options')
  return { ...chosenProtocol(options, tls), common, names }
}

function chosenProtocol(options: FieldReader, tls: boolean): Pick<Options, 'protocol' | 'http1' | 'http2'> {
  const kind = options.which('upstream_protocol_options')
  const chosen = kind === undefined ? undefined : options.message(kind)
  const http1 = chosen?.message('http_protocol_options')
  const http2 = chosen?.message('http2_protocol_options')
  switch (kind) {
    case 'use_downstream_protocol_config':
      // No client speaks HTTP/3 here; HTTP/1 is among the options whether it is listed or not, as in Envoy.
      chosen?.ignore('http3_protocol_options')
      return { protocol: http2 === undefined ? 'http1' : 'downstream', http1, http2 }
    case 'auto_config':
      chosen?.refuse('http3_protocol_options', `upstream: ${WHY.http3}`)
      chosen?.ignore('alternate_protocols_cache_options')
      if (!tls) options.error('auto_config', 'needs a TLS transport socket: the protocol is chosen by ALPN')
      return { protocol: 'auto', http1, http2 }
    default:
      chosen?.refuse('http3_protocol_options', `upstream: ${WHY.http3}`)
      return { protocol: http2 === undefined ? 'http1' : 'http2', http1, http2 }
  }
}

function assemble({ protocol, common, http1, http2 }: Options, legacyMax: number | undefined): UpstreamHttp {
  common?.ignore('max_connection_duration_jitter', 'headers_with_underscores_action')
  const maxRequests = common?.number('max_requests_per_connection') ?? legacyMax ?? 0
  const maxConnectionDurationMs = durationMs(common, 'max_connection_duration')
  const maxStreamDurationMs = durationMs(common, 'max_stream_duration')
  const standardKb = protocol === 'http2' ? MAX_HEADERS_KB_HTTP2 : MAX_HEADERS_KB
  const maxHeadersKb = common?.number('max_response_headers_kb') ?? standardKb
  return {
    idleTimeoutMs: durationMs(common, 'idle_timeout') ?? IDLE_MS,
    ...(maxRequests > 0 && { maxRequestsPerConnection: maxRequests }),
    ...(maxConnectionDurationMs && { maxConnectionDurationMs }),
    ...(maxStreamDurationMs && { maxStreamDurationMs }),
    maxResponseHeaderBytes: maxHeadersKb * 1024,
    maxResponseHeaders: common?.number('max_headers_count') ?? MAX_HEADERS,
    protocol,
    http1: translateHttp1(http1),
    http2: translateHttp2(http2, { maxHeadersKb }),
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
