import type { HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { RouteTableConfig } from '../../lib/router/config.ts'
import { translateAccessLogs } from './access-log.ts'
import { sourceOf } from './authorities.ts'
import { translateClientAddress } from './client-address.ts'
import { translateClientCert } from './client-cert.ts'
import type { EnvoyContext } from './context.ts'
import { translateDownstreamProtocol } from './downstream-protocol.ts'
import { durationMs } from './durations.ts'
import { translateEarlyHeaderMutations } from './header-mutations.ts'
import { translateHttpFilters } from './http-filters.ts'
import { translateLocalReplies } from './local-reply.ts'
import { translatePathNormalization } from './path-normalization.ts'
import { referenceKey } from './references.ts'
import { refuseExtension, refuseTrue, WHY } from './refusals.ts'
import { translateRouteConfiguration } from './route-configuration.ts'
import type { ChainEntry } from './route-scope.ts'
import { translateScopedRoutes } from './scoped-routes.ts'
import { translateUpgrades } from './upgrades.ts'

const UUID = 'envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig'

/** Envoy's defaults; unset durations that are not here are off. */
const STREAM_IDLE_MS = 300_000
const DRAIN_MS = 5000
const DELAYED_CLOSE_MS = 1000
const SERVER_NAME = 'envoy'

/** Of a connection manager whose routes are refused. */
const NO_ROUTES: RouteTableConfig = Object.freeze({
  name: '',
  virtualHosts: [],
  ignorePortInHostMatching: false,
  mostSpecificHeaderMutationsWins: false,
  validateClusters: false,
  maxDirectResponseBodyBytes: 0,
})

const SERVER_HEADER: Readonly<Record<string, HttpConnectionManagerConfig['serverHeader']>> = {
  OVERWRITE: 'overwrite',
  APPEND_IF_ABSENT: 'append-if-absent',
  PASS_THROUGH: 'pass-through',
}

/** Known, neither selecting nor admitting, and not built yet: reported. */
const REPORTED = [
  'tracing',
  'http1_safe_max_connection_duration',
  'http3_protocol_options',
  'stream_flush_timeout',
  'drain_timeout_jitter',
  'access_log_flush_interval',
  'flush_access_log_on_new_request',
  'access_log_options',
  'proxy_status_config',
  'add_proxy_protocol_connection_state',
  'record_route_resolution_stats',
] as const

/** `HttpConnectionManager` with every default of Envoy filled in. */
export function translateHttpConnectionManager(
  reader: FieldReader,
  context: EnvoyContext,
): HttpConnectionManagerConfig {
  reader.unread('refuse')
  reader.ignore(...REPORTED)
  refuseUnavailable(reader)
  checkRequestIdExtension(reader)
  const { filters, chain } = translateHttpFilters(reader, context)
  const clientCertificateHeader = translateClientCert(reader)
  const schemeOverwrite = translateScheme(reader.message('scheme_header_transformation'))
  return {
    statPrefix: reader.string('stat_prefix'),
    codec: translateCodec(reader),
    ...translateRoutes(reader, context, chain),
    filters,
    serverName: reader.string('server_name') || SERVER_NAME,
    serverHeader: SERVER_HEADER[reader.enumName('server_header_transformation')] ?? 'overwrite',
    ...translateClientAddress(reader),
    skipXffAppend: reader.bool('skip_xff_append'),
    appendXForwardedPort: reader.bool('append_x_forwarded_port'),
    ...(clientCertificateHeader && { clientCertificateHeader }),
    via: reader.string('via'),
    generateRequestId: reader.optionalBool('generate_request_id') ?? true,
    preserveExternalRequestId: reader.bool('preserve_external_request_id'),
    requestIdInResponse: reader.bool('always_set_request_id_in_response'),
    ...translatePathNormalization(reader),
    ...translateHost(reader),
    earlyHeaderMutations: translateEarlyHeaderMutations(reader, context),
    ...(schemeOverwrite && { schemeOverwrite }),
    addUserAgent: reader.bool('add_user_agent'),
    proxy100Continue: reader.bool('proxy_100_continue'),
    requestTimeoutMs: durationMs(reader, 'request_timeout') ?? 0,
    requestHeadersTimeoutMs: durationMs(reader, 'request_headers_timeout') ?? 0,
    streamIdleTimeoutMs: durationMs(reader, 'stream_idle_timeout') ?? STREAM_IDLE_MS,
    drainTimeoutMs: durationMs(reader, 'drain_timeout') ?? DRAIN_MS,
    delayedCloseTimeoutMs: durationMs(reader, 'delayed_close_timeout') ?? DELAYED_CLOSE_MS,
    ...translateDownstreamProtocol(reader),
    localReply: translateLocalReplies(reader.message('local_reply_config'), context),
    accessLogs: translateAccessLogs(reader, 'access_log', context),
    upgrades: translateUpgrades(reader, 'connection manager'),
    ...(reader.bool('append_local_overload') && { appendLocalOverload: true }),
  }
}

function refuseUnavailable(reader: FieldReader): void {
  refuseTrue(reader, 'represent_ipv4_remote_address_as_ipv4_mapped_ipv6', 'is not available')
  reader.refuse('typed_header_validation_config', 'header validation extensions are not available')
  reader.refuse('forward_proto_config', 'choosing the scheme by destination port is not available')
}

function translateCodec(reader: FieldReader): HttpConnectionManagerConfig['codec'] {
  const codec = reader.enumName('codec_type')
  if (codec === 'HTTP3') reader.error('codec_type', `HTTP3 cannot be used: ${WHY.http3}`)
  return codec === 'HTTP1' ? 'http1' : codec === 'HTTP2' ? 'http2' : 'auto'
}

/** One of `route_config`, `rds` and `scoped_routes`. */
function translateRoutes(
  reader: FieldReader,
  context: EnvoyContext,
  chain: ReadonlyMap<string, ChainEntry>,
): Pick<HttpConnectionManagerConfig, 'routes' | 'routeTable' | 'scopedRoutes'> {
  switch (reader.which('route_specifier')) {
    case 'rds':
      return { routeTable: translateRds(reader.message('rds'), context) }
    case 'scoped_routes': {
      const scoped = reader.message('scoped_routes')
      const scopedRoutes = scoped && translateScopedRoutes(scoped, context, chain)
      return scopedRoutes === undefined ? { routes: NO_ROUTES } : { scopedRoutes }
    }
    default: {
      const table = reader.message('route_config')
      return { routes: table === undefined ? NO_ROUTES : translateRouteConfiguration(table, context, { chain }) }
    }
  }
}

/** `Rds`: the key of the route table. */
function translateRds(reader: FieldReader | undefined, context: EnvoyContext): string {
  reader?.unread('refuse')
  const name = reader?.string('route_config_name') ?? ''
  if (name === '') reader?.error('route_config_name', 'is required')
  const source = sourceOf(name, reader?.message('config_source'), context)
  if (source === undefined) return name
  if (context.references === undefined)
    reader?.error('config_source', 'routes that are delivered are not available here')
  const key = referenceKey(name, source)
  context.references?.add({ kind: 'routes', name, key, source })
  return key
}

function translateHost(reader: FieldReader): Pick<HttpConnectionManagerConfig, 'stripPort' | 'stripTrailingHostDot'> {
  const matching = reader.bool('strip_matching_host_port')
  const any = reader.bool('strip_any_host_port')
  if (matching && any) reader.error('strip_any_host_port', 'excludes strip_matching_host_port')
  const stripPort = any ? 'any' : matching ? 'matching' : 'none'
  return { stripPort, stripTrailingHostDot: reader.bool('strip_trailing_host_dot') }
}

function translateScheme(reader: FieldReader | undefined): 'http' | 'https' | undefined {
  if (reader === undefined) return undefined
  refuseTrue(reader, 'match_upstream', 'is not available')
  const scheme = reader.string('scheme_to_overwrite')
  return scheme === 'http' || scheme === 'https' ? scheme : undefined
}

function checkRequestIdExtension(reader: FieldReader): void {
  const at = reader.message('request_id_extension')
  const extension = at?.any('typed_config')
  if (at === undefined || extension === undefined) return
  if (extension.typeUrl === UUID) {
    extension.fields.ignore('pack_trace_reason', 'use_request_id_for_trace_sampling')
  } else {
    refuseExtension(at, 'typed_config', extension, `request id extension "${extension.typeUrl}" is not available`)
  }
}
