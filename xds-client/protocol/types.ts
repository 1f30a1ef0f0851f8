/** What the protocol has to know of a type of resources; of any other it knows nothing, and needs nothing. */
export interface ResourceType {
  readonly typeName: string
  /** Its own service, and what follows `Stream` and `Delta` in the methods of that; '' where there is no such method. */
  readonly service: string
  readonly stream: string
  readonly delta: string
  /** Path of its REST endpoint; '' where there is none. */
  readonly rest: string
  /**
   * State of the world: an answer has all that there is, and what is not in it is no more (xDS protocol, "Deleting
   * Resources"; scopes as in Envoy).
   */
  readonly whole: boolean
}

export const ADS_SERVICE = 'envoy.service.discovery.v3.AggregatedDiscoveryService'

const SCOPE = 'envoy.config.route.v3.ScopedRouteConfiguration'
const EXTENSION = 'envoy.config.core.v3.TypedExtensionConfig'
/** Of a locality; its name is in the wrapper alone. */
export const ENDPOINT = 'envoy.config.endpoint.v3.LbEndpoint'
const WHOLE: ReadonlySet<string> = new Set([
  'envoy.config.cluster.v3.Cluster',
  'envoy.config.listener.v3.Listener',
  SCOPE,
])

export const RESOURCE_TYPES: readonly ResourceType[] = Object.freeze([
  row('envoy.config.cluster.v3.Cluster', 'cluster.v3.ClusterDiscoveryService/Clusters', 'clusters'),
  row('envoy.config.endpoint.v3.ClusterLoadAssignment', 'endpoint.v3.EndpointDiscoveryService/Endpoints', 'endpoints'),
  row('envoy.config.listener.v3.Listener', 'listener.v3.ListenerDiscoveryService/Listeners', 'listeners'),
  row('envoy.config.route.v3.RouteConfiguration', 'route.v3.RouteDiscoveryService/Routes', 'routes'),
  row(SCOPE, 'route.v3.ScopedRoutesDiscoveryService/ScopedRoutes', 'scoped-routes'),
  row('envoy.extensions.transport_sockets.tls.v3.Secret', 'secret.v3.SecretDiscoveryService/Secrets', 'secrets'),
  row('envoy.service.runtime.v3.Runtime', 'runtime.v3.RuntimeDiscoveryService/Runtime', 'runtime'),
  row(EXTENSION, 'extension.v3.ExtensionConfigDiscoveryService/ExtensionConfigs', 'extension_configs'),
  row('envoy.config.route.v3.VirtualHost', 'route.v3.VirtualHostDiscoveryService/VirtualHosts', ''),
  row(ENDPOINT, 'endpoint.v3.LocalityEndpointDiscoveryService/LocalityEndpoints', ''),
])

/** Undefined where it has no service of its own: such a type comes over ADS alone. */
export function resourceType(typeName: string): ResourceType | undefined {
  return RESOURCE_TYPES.find((known) => known.typeName === typeName)
}

/** The gRPC method for resources of a type; `typeName` undefined: for those of all. Undefined where there is none. */
export function methodPath(typeName: string | undefined, variant: 'sotw' | 'delta'): string | undefined {
  if (typeName === undefined) {
    return `/${ADS_SERVICE}/${variant === 'delta' ? 'DeltaAggregatedResources' : 'StreamAggregatedResources'}`
  }
  const known = resourceType(typeName)
  const method = variant === 'delta' ? known?.delta : known?.stream
  return known === undefined || method === undefined || method === '' ? undefined : `/${known.service}/${method}`
}

/** `rest` '': the type is for delta alone. */
function row(typeName: string, method: string, rest: string): ResourceType {
  const [service, noun] = method.split('/')
  return Object.freeze({
    typeName,
    service: `envoy.service.${service}`,
    stream: rest === '' ? '' : `Stream${noun}`,
    delta: `Delta${noun}`,
    rest: rest === '' ? '' : `/v3/discovery:${rest}`,
    whole: WHOLE.has(typeName),
  })
}
