import type { JsonObject } from '../../lib/core/errors.ts'

const HCM = 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'
const ROUTER = 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router'
const HTTP_PROTOCOLS = 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions'

const address = (port: number): JsonObject => ({ socket_address: { address: '127.0.0.1', port_value: port } })

const endpoints = (ports: readonly number[]): JsonObject => ({
  lb_endpoints: ports.map((port) => ({ endpoint: { address: address(port) } })),
})

/** A bootstrap that has everything from one management server (ADS) on a port of 127.0.0.1. */
export function adsBootstrap(port: number, api: 'GRPC' | 'DELTA_GRPC' = 'DELTA_GRPC'): JsonObject {
  return {
    admin: { address: address(0) },
    node: { id: 'gateway-1', cluster: 'tests' },
    dynamic_resources: {
      ads_config: {
        api_type: api,
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
      },
      lds_config: { ads: {}, resource_api_version: 'V3' },
      cds_config: { ads: {}, resource_api_version: 'V3' },
    },
    static_resources: {
      clusters: [
        {
          name: 'xds',
          type: 'STATIC',
          connect_timeout: '1s',
          load_assignment: { cluster_name: 'xds', endpoints: [endpoints([port])] },
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': HTTP_PROTOCOLS,
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
        },
      ],
    },
  }
}

/** A listener whose routes are delivered by ADS under the name `routes`. */
export function listenerResource(name: string, port = 0, routes = 'routes'): JsonObject {
  const manager: JsonObject = {
    '@type': HCM,
    stat_prefix: name,
    rds: { route_config_name: routes, config_source: { ads: {}, resource_api_version: 'V3' } },
    http_filters: [{ name: 'router', typed_config: { '@type': ROUTER } }],
  }
  return {
    name,
    address: address(port),
    filter_chains: [{ filters: [{ name: 'http', typed_config: manager }] }],
  }
}

/** Everything goes to one cluster; `answer` is what `/version` answers. */
export function routesResource(cluster: string, answer: string, name = 'routes'): JsonObject {
  return {
    name,
    virtual_hosts: [
      {
        name: 'all',
        domains: ['*'],
        routes: [
          { match: { path: '/version' }, direct_response: { status: 200, body: { inline_string: answer } } },
          { match: { prefix: '/' }, route: { cluster } },
        ],
      },
    ],
  }
}

/** A cluster whose endpoints are delivered by ADS. */
export function clusterResource(name: string): JsonObject {
  return {
    name,
    type: 'EDS',
    connect_timeout: '1s',
    eds_cluster_config: { eds_config: { ads: {}, resource_api_version: 'V3' } },
  }
}

/** Its endpoints, on 127.0.0.1. */
export function assignmentResource(cluster: string, ...ports: readonly number[]): JsonObject {
  return { cluster_name: cluster, endpoints: [endpoints(ports)] }
}
