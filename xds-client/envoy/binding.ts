import type {
  FilterChainConfig,
  HttpConnectionManagerConfig,
  HttpFilterConfig,
  ListenerConfig,
  ListenerFilterConfig,
  NetworkFilterConfig,
} from '../../lib/config/listener.ts'
import type {
  AssignmentConfig,
  ClusterConfig,
  EndpointConfig,
  TransportConfig,
  TransportLayerConfig,
  UpstreamFilterConfig,
} from '../../lib/upstream/config.ts'
import { bindTls, type Secrets } from './tls/binding.ts'
import type { ExtensionConfig } from './translated.ts'
import { credentialValue } from './upstream-filters.ts'

export { bindTls, type Secrets } from './tls/binding.ts'

/** What the scopes of a connection manager are at the moment, by the key that `ScopedRoutesConfig.delivered` has. */
export type Scopes = (key: string) => NonNullable<HttpConnectionManagerConfig['scopedRoutes']>['scopes']

/** Filters that were delivered, by key. */
export type Extensions = (key: string) => ExtensionConfig | undefined

/** What goes into a listener in place of its placeholders. */
export interface ListenerParts {
  readonly secrets: Secrets
  readonly extensions: Extensions
  readonly scopes: Scopes
}

/*
 * All of these answer the object that they were given where nothing of it is a placeholder, share everything that stays,
 * and can be asked again at any time with the configuration as it was translated: whatever was bound before is not looked at.
 */

/** A listener with what its secrets, its filters and its scopes are now. A TLS context that lacks a secret is `notReady`. */
export function bindListener(config: ListenerConfig, parts: ListenerParts): ListenerConfig {
  const filterChains = bindAll(config.filterChains, parts, bindChain)
  const standard = config.defaultFilterChain
  const defaultFilterChain = standard && bindChain(standard, parts)
  const listenerFilters = bindAll(config.listenerFilters, parts, bindFilter)
  const same =
    filterChains === config.filterChains &&
    defaultFilterChain === standard &&
    listenerFilters === config.listenerFilters
  if (same) return config
  return { ...config, filterChains, ...(defaultFilterChain && { defaultFilterChain }), listenerFilters }
}

/** A cluster with what its secrets are now, those of TLS and its credential, and with its filters that are delivered. */
export function bindCluster(
  config: ClusterConfig,
  secrets: Secrets,
  extensions: Extensions = () => undefined,
): ClusterConfig {
  const transport = bindTransport(config, secrets)
  const matches = config.transportMatches
  const transportMatches = matches && bindAll(matches, secrets, bindMatch)
  const credential = bindCredential(config.credential, secrets)
  const filters = config.filters && bindAll(config.filters, { extensions }, bindFilter)
  const same = transport === config && transportMatches === matches && filters === config.filters
  if (same && credential === config.credential) return config
  const { tls, layers } = transport
  return {
    ...config,
    ...(tls && { tls }),
    ...(layers && { layers }),
    ...(transportMatches && { transportMatches }),
    ...(credential && { credential }),
    ...(filters && { filters }),
  }
}

/** An assignment with the endpoints of localities that are delivered apart; none where they have not come. */
export function bindAssignment(
  config: AssignmentConfig,
  endpoints: (key: string) => readonly EndpointConfig[] | undefined,
): AssignmentConfig {
  const localities = bindAll(config.localities, endpoints, (locality) => {
    if (locality.delivered === undefined) return locality
    const { delivered, ...rest } = locality
    return { ...rest, endpoints: endpoints(delivered) ?? [] }
  })
  return localities === config.localities ? config : { ...config, localities }
}

/** The list itself where every item stays. */
function bindAll<T, P>(list: readonly T[], parts: P, bind: (item: T, parts: P) => T): readonly T[] {
  let bound: T[] | undefined
  for (let i = 0; i < list.length; i++) {
    const item = bind(list[i], parts)
    if (item === list[i]) continue
    bound ??= [...list]
    bound[i] = item
  }
  return bound ?? list
}

function bindChain(chain: FilterChainConfig, parts: ListenerParts): FilterChainConfig {
  const tls = chain.tls && bindTls(chain.tls, parts.secrets)
  const networkFilters = bindAll(chain.networkFilters, parts, bindFilter)
  const http = chain.http && bindManager(chain.http, parts)
  if (tls === chain.tls && networkFilters === chain.networkFilters && http === chain.http) return chain
  return { ...chain, networkFilters, ...(http && { http }), ...(tls && { tls }) }
}

function bindManager(http: HttpConnectionManagerConfig, parts: ListenerParts): HttpConnectionManagerConfig {
  const filters = bindAll(http.filters, parts, bindFilter)
  const { scopedRoutes } = http
  const key = scopedRoutes?.delivered
  if (scopedRoutes === undefined || key === undefined) {
    return filters === http.filters ? http : { ...http, filters }
  }
  const { delivered: _, ...rest } = scopedRoutes
  return { ...http, filters, scopedRoutes: { ...rest, scopes: parts.scopes(key) } }
}

/** What was delivered; else the default that the placeholder has, or nothing yet. */
function bindFilter<T extends HttpFilterConfig | NetworkFilterConfig | ListenerFilterConfig | UpstreamFilterConfig>(
  filter: T,
  { extensions }: Pick<ListenerParts, 'extensions'>,
): T {
  if (filter.extension === undefined) return filter
  const { extension, missing, ...rest } = filter
  const found = extensions(extension)
  if (found !== undefined) return { ...rest, typeUrl: found.typeUrl, config: found.config } as unknown as T
  return (missing === undefined ? rest : { ...rest, missing }) as unknown as T
}

function bindMatch<M extends NonNullable<ClusterConfig['transportMatches']>[number]>(match: M, secrets: Secrets): M {
  const transport = bindTransport(match.transport, secrets)
  return transport === match.transport ? match : { ...match, transport }
}

function bindTransport(transport: TransportConfig, secrets: Secrets): TransportConfig {
  const tls = transport.tls && bindTls(transport.tls, secrets)
  const layers = transport.layers && bindAll(transport.layers, secrets, bindLayer)
  if (tls === transport.tls && layers === transport.layers) return transport
  return { ...(tls && { tls }), ...(layers && { layers }) }
}

function bindLayer(layer: TransportLayerConfig, secrets: Secrets): TransportLayerConfig {
  if (layer.kind !== 'hbone') return layer
  const tls = bindTls(layer.tls, secrets)
  const inner = layer.gateway && bindTls(layer.gateway.tls, secrets)
  if (tls === layer.tls && inner === layer.gateway?.tls) return layer
  return { ...layer, tls, ...(layer.gateway && inner && { gateway: { ...layer.gateway, tls: inner } }) }
}

function bindCredential(credential: ClusterConfig['credential'], secrets: Secrets): ClusterConfig['credential'] {
  if (credential?.secret === undefined) return credential
  const { secret, prefix = '', ...rest } = credential
  const found = secrets(secret)
  return { ...rest, value: found?.kind === 'generic' ? credentialValue(prefix, found.value) : '' }
}

/** Why a filter that was delivered cannot be used where it was asked for; undefined where it can. */
export function extensionProblem(
  extension: ExtensionConfig,
  wanted: { readonly place: ExtensionConfig['place']; readonly typeUrls: readonly string[]; readonly last: boolean },
): string | undefined {
  const { place, sentType, terminal } = extension
  if (place !== wanted.place) return `is a ${place} filter, wanted is a ${wanted.place} filter`
  if (!wanted.typeUrls.includes(sentType)) return `has the type "${sentType}", taken are ${wanted.typeUrls.join(', ')}`
  if (place === 'listener' || terminal === wanted.last) return undefined
  return terminal ? 'ends the filter chain, and others come after it' : 'stands last and does not end the filter chain'
}
