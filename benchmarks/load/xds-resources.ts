/** The configuration that the xds suite delivers: one listener, one route table, many clusters with their endpoints. */

const TYPE = 'type.googleapis.com/'
const ADS = { ads: {}, resource_api_version: 'V3' }

export const LISTENER = 'envoy.config.listener.v3.Listener'
export const ROUTES = 'envoy.config.route.v3.RouteConfiguration'
export const CLUSTER = 'envoy.config.cluster.v3.Cluster'
export const ENDPOINTS = 'envoy.config.endpoint.v3.ClusterLoadAssignment'

export interface XdsSize {
  readonly clusters: number
  readonly endpointsPerCluster: number
  /** Of the route table; the routes are spread over them. */
  readonly virtualHosts: number
}

export function listener(port: number): Record<string, unknown> {
  return {
    name: 'web',
    address: { socket_address: { address: '127.0.0.1', port_value: port } },
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: {
              '@type': `${TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`,
              stat_prefix: 'web',
              rds: { route_config_name: 'web', config_source: ADS },
              http_filters: [
                {
                  name: 'envoy.filters.http.router',
                  typed_config: { '@type': `${TYPE}envoy.extensions.filters.http.router.v3.Router` },
                },
              ],
            },
          },
        ],
      },
    ],
  }
}

/** One route per cluster, `/c/INDEX`, each in its virtual host; the first virtual host takes every name. */
export function routes({ clusters, virtualHosts }: XdsSize, generation = 0): Record<string, unknown> {
  const each = Math.ceil(clusters / virtualHosts)
  const hosts = Array.from({ length: virtualHosts }, (_, host) => ({
    name: `host-${host}`,
    domains: host === 0 ? ['*'] : [`host-${host}.example`, `g${generation}-${host}.example`],
    routes: Array.from({ length: Math.min(each, clusters - host * each) }, (_, i) => ({
      match: { path: `/c/${host * each + i}` },
      route: { cluster: clusterName(host * each + i) },
      metadata: { filter_metadata: { bench: { generation } } },
    })),
  }))
  return { name: 'web', virtual_hosts: hosts }
}

export function clusterName(index: number): string {
  return `cluster-${index}`
}

export function cluster(index: number): Record<string, unknown> {
  return {
    name: clusterName(index),
    type: 'EDS',
    connect_timeout: '1s',
    eds_cluster_config: { eds_config: ADS },
    circuit_breakers: { thresholds: [{ max_connections: 4096, max_requests: 4096 }] },
  }
}

/**
 * The first and the last cluster have one endpoint, `port`; nobody asks for the others, whose addresses all differ. `turn`
 * changes the last one.
 */
export function assignment(index: number, size: XdsSize, port: number, turn = 0): Record<string, unknown> {
  const real = index === 0 || index === size.clusters - 1
  const count = real ? 1 : size.endpointsPerCluster
  const lb_endpoints = Array.from({ length: count }, (_, i) => {
    const last = i === count - 1 ? 1 + ((i + turn) % 200) : 1 + i
    const address = real ? '127.0.0.1' : `127.${1 + (index >> 8)}.${index & 255}.${last}`
    return {
      endpoint: { address: { socket_address: { address, port_value: port } } },
      load_balancing_weight: 1 + (i % 3),
    }
  })
  return {
    cluster_name: clusterName(index),
    endpoints: [{ locality: { region: 'r', zone: `z${index % 3}` }, lb_endpoints }],
  }
}

/** What the proxy is told. */
export function bootstrap(planePort: number, adminPort: number): string {
  return JSON.stringify({
    node: { id: 'bench', cluster: 'bench' },
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: adminPort } } },
    dynamic_resources: {
      ads_config: {
        api_type: 'DELTA_GRPC',
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'plane' } }],
      },
      lds_config: ADS,
      cds_config: ADS,
    },
    static_resources: {
      clusters: [
        {
          name: 'plane',
          type: 'STATIC',
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': `${TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions`,
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
          load_assignment: {
            cluster_name: 'plane',
            endpoints: [
              {
                lb_endpoints: [
                  { endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: planePort } } } },
                ],
              },
            ],
          },
        },
      ],
    },
  })
}
