import { cluster, type Data, type Group, TYPE } from './group.ts'

const HCM = `${TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`
const FILE_LOG = `${TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog`

/** Fields that the log of every group holds, so that flags and details of every answer are compared. */
const LOGGED = {
  method: '%REQ(:METHOD)%',
  path: '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%',
  code: '%RESPONSE_CODE%',
  details: '%RESPONSE_CODE_DETAILS%',
  flags: '%RESPONSE_FLAGS%',
  route: '%ROUTE_NAME%',
  cluster: '%UPSTREAM_CLUSTER%',
  received: '%BYTES_RECEIVED%',
  sent: '%BYTES_SENT%',
  attempts: '%UPSTREAM_REQUEST_ATTEMPT_COUNT%',
}

export interface Upstreams {
  /** Port of the scripted origin, and one that nobody listens on. */
  readonly origin: number
  readonly closed: number
}

/** The bootstrap that both proxies are given, byte by byte the same but for `@LOGS@`. */
export function bootstrap(groups: readonly Group[], upstreams: Upstreams): string {
  const shared = [cluster('origin', [upstreams.origin]), cluster('closed', [upstreams.closed]), cluster('empty', [])]
  const text = JSON.stringify({
    node: { id: 'node-1', cluster: 'cluster-1' },
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } },
    static_resources: {
      listeners: groups.map(listener),
      clusters: [...shared, ...groups.flatMap((group) => group.clusters ?? [])],
    },
  })
  return text.replaceAll('"@ORIGIN@"', String(upstreams.origin)).replaceAll('"@CLOSED@"', String(upstreams.closed))
}

function listener(group: Group): Data {
  return {
    name: group.name,
    address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    filter_chains: [
      {
        name: 'only',
        filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: connectionManager(group) }],
      },
    ],
  }
}

function connectionManager(group: Group): Data {
  const virtualHosts = group.virtualHosts ?? [{ name: 'all', domains: ['*'], routes: group.routes ?? [] }]
  return {
    '@type': HCM,
    stat_prefix: group.name,
    access_log: [{ name: 'file', typed_config: { '@type': FILE_LOG, path: logPath(group), ...logFormat(group) } }],
    route_config: { name: group.name, validate_clusters: false, virtual_hosts: virtualHosts, ...group.routeConfig },
    http_filters: [
      ...(group.filters ?? []),
      {
        name: 'envoy.filters.http.router',
        typed_config: { '@type': `${TYPE}envoy.extensions.filters.http.router.v3.Router`, ...group.router },
      },
    ],
    ...group.hcm,
  }
}

export function logPath(group: Group, folder = '@LOGS@'): string {
  return `${folder}/${group.name}.log`
}

function logFormat(group: Group): Data {
  if ('logFormat' in group) return group.logFormat === undefined ? {} : { log_format: group.logFormat }
  if (group.textLog !== undefined) return { log_format: { text_format_source: { inline_string: group.textLog } } }
  return { log_format: { json_format: { ...LOGGED, ...group.jsonLog } } }
}
