/** Envoy bootstraps for these tests, as objects; each test says only what it is about. */

export type Fields = Readonly<Record<string, unknown>>

const TYPE = 'type.googleapis.com/envoy'
const HCM = `${TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`
const ROUTER = `${TYPE}.extensions.filters.http.router.v3.Router`
const FILE_LOG = `${TYPE}.extensions.access_loggers.file.v3.FileAccessLog`
const HTTP_OPTIONS = `${TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions`

export interface ListenerSpec {
  readonly name?: string
  readonly port?: number
  /** Fields of the listener itself. */
  readonly fields?: Fields
  /** Fields of its one filter chain; `filters` takes the place of the connection manager. */
  readonly chain?: Fields
  /** Fields of the connection manager. */
  readonly hcm?: Fields
  /** Fields of the route configuration; replaces `routes`. */
  readonly routeConfig?: Fields
  /** Of the one virtual host `*`. Default: everything to the cluster `origin`. */
  readonly routes?: readonly Fields[]
  /** Network filters before the connection manager. */
  readonly network?: readonly Fields[]
  /** Filters before the router. */
  readonly filters?: readonly Fields[]
  readonly router?: Fields
  /** Path of a JSON access log with one key per command. */
  readonly log?: string
}

export interface BootstrapSpec extends ListenerSpec {
  /** Default: one listener of the fields above. */
  readonly listeners?: readonly ListenerSpec[]
  readonly clusters: readonly Fields[]
  /** `overload_manager` */
  readonly overload?: Fields
  /** Values of a static runtime layer. */
  readonly runtime?: Fields
}

/** What every line of the access log holds, by key. */
const LOG_FORMAT: Fields = {
  seq: '%REQ(X-SEQ)%',
  method: '%REQ(:METHOD)%',
  path: '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%',
  status: '%RESPONSE_CODE%',
  flags: '%RESPONSE_FLAGS%',
  details: '%RESPONSE_CODE_DETAILS%',
  received: '%BYTES_RECEIVED%',
  sent: '%BYTES_SENT%',
  host: '%UPSTREAM_HOST%',
  attempts: '%UPSTREAM_REQUEST_ATTEMPT_COUNT%',
}

export interface LogLine {
  readonly seq: string | null
  readonly method: string | null
  readonly path: string | null
  readonly status: number
  readonly flags: string | null
  readonly details: string | null
  readonly received: number
  readonly sent: number
  readonly host: string | null
  readonly attempts: number
}

export const toOrigin: Fields = { match: { prefix: '/' }, route: { cluster: 'origin' } }

export function bootstrap(spec: BootstrapSpec): object {
  return {
    node: { id: 'gate-1', cluster: 'edge' },
    static_resources: {
      listeners: (spec.listeners ?? [spec]).map(listener),
      clusters: spec.clusters,
    },
    ...(spec.overload && { overload_manager: spec.overload }),
    ...(spec.runtime && {
      layered_runtime: { layers: [{ name: 'test', static_layer: spec.runtime }] },
    }),
  }
}

function listener(spec: ListenerSpec): Fields {
  const routes = spec.routes ?? [toOrigin]
  return {
    name: spec.name ?? 'main',
    address: { socket_address: { address: '127.0.0.1', port_value: spec.port ?? 0 } },
    ...spec.fields,
    filter_chains: [
      {
        filters: [
          ...(spec.network ?? []),
          {
            name: 'hcm',
            typed_config: {
              '@type': HCM,
              stat_prefix: 'test',
              route_config: spec.routeConfig ?? { virtual_hosts: [{ name: 'all', domains: ['*'], routes }] },
              http_filters: [
                ...(spec.filters ?? []),
                { name: 'router', typed_config: { '@type': ROUTER, ...spec.router } },
              ],
              ...(spec.log !== undefined && { access_log: [fileLog(spec.log)] }),
              ...spec.hcm,
            },
          },
        ],
        ...spec.chain,
      },
    ],
  }
}

export function fileLog(path: string): Fields {
  return {
    name: 'file',
    typed_config: { '@type': FILE_LOG, path, log_format: { json_format: LOG_FORMAT } },
  }
}

/** A static cluster of 127.0.0.1 and these ports. */
export function cluster(name: string, ports: number | readonly number[], fields: Fields = {}): Fields {
  const list = typeof ports === 'number' ? [ports] : ports
  return {
    name,
    type: 'STATIC',
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: list.map((port) => endpoint('127.0.0.1', port)) }],
    },
    ...fields,
  }
}

export function endpoint(address: string, port: number, fields: Fields = {}): Fields {
  return { endpoint: { address: { socket_address: { address, port_value: port } } }, ...fields }
}

/** `typed_extension_protocol_options` of a cluster. */
export function upstreamOptions(common: Fields, http1: Fields = {}): Fields {
  return {
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': HTTP_OPTIONS,
        common_http_protocol_options: common,
        explicit_http_config: { http_protocol_options: http1 },
      },
    },
  }
}
