import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import { parseMatcherTree } from '../../lib/match/parse-tree.ts'
import { parseRateLimits } from '../../lib/ratelimit/parse.ts'
import type { RouteConfig, RouteTableConfig, VirtualHostConfig } from '../../lib/router/config.ts'
import { translateConfigSource } from './config-source.ts'
import type { EnvoyContext } from './context.ts'
import { translateFilterOverrides } from './filter-overrides.ts'
import { translateHeaderEdits } from './header-edits.ts'
import { translateMetadata } from './metadata.ts'
import { translateMirrors } from './mirrors.ts'
import { referenceKey } from './references.ts'
import { consume, refuseTrue } from './refusals.ts'
import { translateHedgePolicy, translateRetryPolicy } from './retry-policy.ts'
import { bodyBufferLimit, translateRoute } from './route.ts'
import type { ChainEntry, RouteScope } from './route-scope.ts'

const ROUTE = 'envoy.config.route.v3.Route'
const MAX_DIRECT_RESPONSE_BODY_BYTES = 4096

const REQUIRE_TLS: Readonly<Record<string, VirtualHostConfig['requireTls']>> = {
  NONE: 'none',
  EXTERNAL_ONLY: 'external',
  ALL: 'all',
}

/** Where a route table stands: inside a connection manager, or alone. */
export interface RouteTablePlace {
  /** Filters of the connection manager by instance name; undefined: alone. */
  readonly chain?: ReadonlyMap<string, ChainEntry>
  /** It is part of another resource. */
  readonly inline?: true
}

/** `config.route.v3.RouteConfiguration`; inside a connection manager its clusters are validated unless told otherwise. */
export function translateRouteConfiguration(
  reader: FieldReader,
  context: EnvoyContext,
  place: RouteTablePlace = {},
): RouteTableConfig {
  reader.unread('refuse')
  const onDemand = translateVhds(reader, context, place)
  reader.refuse('cluster_specifier_plugins', 'cluster specifier plugins are not available')
  reader.refuse('route_specifiers', 'route specifier extensions are not available')
  refuseTrue(reader, 'ignore_path_parameters_in_path_matching', 'is not available')
  const validateClusters = reader.optionalBool('validate_clusters') ?? place.chain !== undefined
  const scope: RouteScope = {
    context,
    chain: place.chain,
    clusters: validateClusters ? context.clusters : undefined,
    maxDirectResponseBodyBytes: reader.number('max_direct_response_body_size_bytes') ?? MAX_DIRECT_RESPONSE_BODY_BYTES,
    table: reader.string('name'),
    virtualHost: '',
    bodyBufferLimitBytes: undefined,
  }
  const requestHeaders = translateHeaderEdits(reader, 'request', context)
  const responseHeaders = translateHeaderEdits(reader, 'response', context)
  const internalOnlyHeaders = reader.strings('internal_only_headers').map((name) => name.toLowerCase())
  const filterConfigs = translateFilterOverrides(reader, scope)
  const mirrors = translateMirrors(reader, scope)
  const virtualHostHeader = reader.string('vhost_header').toLowerCase()
  const metadata = translateMetadata(reader)
  return {
    name: reader.string('name'),
    virtualHosts: translateVirtualHosts(reader, scope),
    ...(onDemand && { onDemand }),
    ...(requestHeaders && { requestHeaders }),
    ...(responseHeaders && { responseHeaders }),
    ...(internalOnlyHeaders.length > 0 && { internalOnlyHeaders }),
    ...(filterConfigs && { filterConfigs }),
    ...(mirrors && { mirrors }),
    ignorePortInHostMatching: reader.bool('ignore_port_in_host_matching'),
    mostSpecificHeaderMutationsWins: reader.bool('most_specific_header_mutations_wins'),
    validateClusters,
    maxDirectResponseBodyBytes: scope.maxDirectResponseBodyBytes,
    ...(virtualHostHeader !== '' && { virtualHostHeader }),
    ...(metadata && { metadata }),
  }
}

/** `vhds`: virtual hosts that the table lacks are asked for when requests need them. */
function translateVhds(
  reader: FieldReader,
  context: EnvoyContext,
  { chain, inline }: RouteTablePlace,
): true | undefined {
  if (chain !== undefined || inline) reader.refuse('vhds', 'belongs to route tables that are delivered by themselves')
  const vhds = chain !== undefined || inline ? undefined : reader.message('vhds')
  if (vhds === undefined) return undefined
  vhds.unread('refuse')
  const name = reader.string('name')
  const at = vhds.message('config_source')
  const source = translateConfigSource(at, context)
  if (source === undefined) return undefined
  if (source.source.kind === 'file' || (source.source.kind === 'api' && source.source.api !== 'delta-grpc')) {
    at?.error(undefined, 'must be a delta source: virtual hosts on demand come by DELTA_GRPC alone')
  }
  if (context.references === undefined) reader.error('vhds', 'virtual hosts on demand are not available here')
  context.references?.add({ kind: 'virtual-hosts', name, key: referenceKey(name, source), source })
  return true
}

/** `config.route.v3.VirtualHost` as a discovery service delivers it on demand. */
export function translateVirtualHostResource(reader: FieldReader, context: EnvoyContext): VirtualHostConfig {
  return translateVirtualHost(reader, {
    context,
    chain: undefined,
    clusters: undefined,
    maxDirectResponseBodyBytes: MAX_DIRECT_RESPONSE_BODY_BYTES,
    table: '',
    virtualHost: '',
    bodyBufferLimitBytes: undefined,
  })
}

function translateVirtualHosts(reader: FieldReader, scope: RouteScope): VirtualHostConfig[] {
  const owners = new Map<string, string>()
  return reader.messages('virtual_hosts').map((entry) => {
    const host = translateVirtualHost(entry, scope)
    host.domains.forEach((domain, i) => {
      const owner = owners.get(domain)
      if (owner !== undefined) {
        const why = `"${domain}" belongs to virtual host "${owner}" already; domains must be unique`
        entry.error(`domains[${i}]`, why)
      }
      owners.set(domain, host.name)
    })
    return host
  })
}

/** `config.route.v3.VirtualHost` */
function translateVirtualHost(reader: FieldReader, table: RouteScope): VirtualHostConfig {
  reader.unread('refuse')
  reader.ignore('virtual_clusters')
  reader.refuse('retry_policy_typed_config', 'retry policies by extension are not available; use retry_policy')
  reader.refuse('cors', 'use typed_per_filter_config with envoy.filters.http.cors')
  reader.refuse('route_specifiers', 'route specifier extensions are not available')
  const name = reader.string('name')
  const scope: RouteScope = { ...table, virtualHost: name, bodyBufferLimitBytes: bodyBufferLimit(reader) }
  const retry = translateRetryPolicy(reader)
  const hedge = translateHedgePolicy(reader)
  const rateLimits = parseRateLimits(reader, 'rate_limits', 'route')
  const tree = reader.message('matcher')
  if (tree !== undefined && reader.has('routes')) reader.error('matcher', 'excludes routes')
  const matcher = tree && parseMatcherTree(tree, (action, at) => translateMatchedRoute(action, at, scope))
  const routes = reader.messages('routes').map((entry) => translateRoute(entry, scope))
  const requestHeaders = translateHeaderEdits(reader, 'request', scope.context)
  const responseHeaders = translateHeaderEdits(reader, 'response', scope.context)
  const filterConfigs = translateFilterOverrides(reader, scope)
  const mirrors = translateMirrors(reader, scope)
  const metadata = translateMetadata(reader)
  return {
    name,
    domains: reader.strings('domains').map((domain) => domain.toLowerCase()),
    routes: routes.filter((route) => route !== undefined),
    ...(matcher && { matcher }),
    requireTls: REQUIRE_TLS[reader.enumName('require_tls')] ?? 'none',
    ...(requestHeaders && { requestHeaders }),
    ...(responseHeaders && { responseHeaders }),
    ...(filterConfigs && { filterConfigs }),
    ...(mirrors && { mirrors }),
    ...(rateLimits.length > 0 && { rateLimits }),
    ...(retry && { retry }),
    ...(hedge && { hedge }),
    ...(reader.bool('include_is_timeout_retry_header') && { includeTimeoutRetry: true }),
    ...(reader.bool('include_request_attempt_count') && { includeAttemptCount: true }),
    ...(reader.bool('include_attempt_count_in_response') && { includeAttemptCountInResponse: true }),
    ...(metadata && { metadata }),
  }
}

/** The action of a virtual host's matcher tree: one route. */
function translateMatchedRoute(
  extension: ExtensionReader,
  at: FieldReader,
  scope: RouteScope,
): RouteConfig | undefined {
  if (extension.typeUrl === ROUTE) return translateRoute(extension.fields, scope)
  consume(extension)
  at.error('typed_config', `action "${extension.typeUrl}" is not available here`)
  return undefined
}
