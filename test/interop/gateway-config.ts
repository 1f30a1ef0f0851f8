import { cluster, type Data, TYPE, to } from './envoy/group.ts'

const HCM = `${TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`
const FILE_LOG = `${TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog`
const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'
const TLS = `${TYPE}envoy.extensions.transport_sockets.tls.v3.`

/** What every line of a listener's access log holds. */
const LOGGED = {
  path: '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%',
  protocol: '%PROTOCOL%',
  code: '%RESPONSE_CODE%',
  flags: '%RESPONSE_FLAGS%',
  details: '%RESPONSE_CODE_DETAILS%',
  seq: '%REQ(X-SEQ)%',
}

export interface LogLine {
  readonly path: string | null
  readonly protocol: string | null
  readonly code: number
  readonly flags: string | null
  readonly details: string | null
  readonly seq: string | null
}

/** A listener of its own; everything goes to the cluster `origin` unless `routes` says otherwise. */
export interface ListenerSpec {
  readonly name?: string
  /** A transport socket (`downstreamTls`). */
  readonly tls?: Data
  readonly listenerFilters?: readonly Data[]
  readonly routes?: readonly Data[]
  /** Fields of the HttpConnectionManager. */
  readonly hcm?: Data
}

/** A certificate with its key, as files. */
export interface CertificateFiles {
  readonly chain: string
  readonly key: string
}

/** The bootstrap of a proxy; Envoy and Headgate read the same one. */
export function proxyBootstrap(listeners: readonly ListenerSpec[], clusters: readonly Data[]): string {
  return JSON.stringify({
    node: { id: 'node-1', cluster: 'cluster-1' },
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } },
    static_resources: { listeners: listeners.map(listener), clusters },
  })
}

function listener(spec: ListenerSpec): Data {
  const name = spec.name ?? 'ingress'
  // Uploads of slow machines are no reason for a 504.
  const routes = spec.routes ?? [to({ prefix: '/' }, { timeout: '60s' })]
  const manager = {
    '@type': HCM,
    stat_prefix: name,
    codec_type: 'AUTO',
    access_log: [{ name: 'file', typed_config: fileLog(name) }],
    route_config: { name, virtual_hosts: [{ name: 'all', domains: ['*'], routes }] },
    http_filters: [
      {
        name: 'envoy.filters.http.router',
        typed_config: { '@type': `${TYPE}envoy.extensions.filters.http.router.v3.Router` },
      },
    ],
    ...spec.hcm,
  }
  return {
    name,
    address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    ...(spec.listenerFilters && { listener_filters: spec.listenerFilters }),
    filter_chains: [
      {
        filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: manager }],
        ...(spec.tls && { transport_socket: spec.tls }),
      },
    ],
  }
}

function fileLog(name: string): Data {
  return { '@type': FILE_LOG, path: `@LOGS@/${name}.log`, log_format: { json_format: LOGGED } }
}

/** A cluster of one port on 127.0.0.1 that is spoken to in HTTP/2; `options` are fields of http2_protocol_options. */
export function http2Cluster(name: string, port: number, more: Data = {}, options: Data = {}): Data {
  return cluster(name, [port], {
    typed_extension_protocol_options: {
      [HTTP_OPTIONS]: {
        '@type': `${TYPE}${HTTP_OPTIONS}`,
        explicit_http_config: { http2_protocol_options: options },
      },
    },
    ...more,
  })
}

/** A cluster of one port behind TLS that speaks what ALPN settles. */
export function autoCluster(name: string, port: number, more: Data): Data {
  return cluster(name, [port], {
    typed_extension_protocol_options: {
      [HTTP_OPTIONS]: { '@type': `${TYPE}${HTTP_OPTIONS}`, auto_config: { http2_protocol_options: {} } },
    },
    ...more,
  })
}

/** Transport socket of a listener. */
export function downstreamTls(certificates: readonly CertificateFiles[], more: Data = {}): Data {
  return socket('DownstreamTlsContext', {
    common_tls_context: {
      alpn_protocols: ['h2', 'http/1.1'],
      tls_certificates: certificates.map(({ chain, key }) => ({
        certificate_chain: { filename: chain },
        private_key: { filename: key },
      })),
      ...more,
    },
  })
}

/** Transport socket of a cluster that trusts `ca` alone and asks for `sni`. */
export function upstreamTls(ca: string, sni: string, alpn: readonly string[] = ['h2']): Data {
  return socket('UpstreamTlsContext', {
    sni,
    common_tls_context: {
      alpn_protocols: alpn,
      validation_context: {
        trusted_ca: { filename: ca },
        match_typed_subject_alt_names: [{ san_type: 'DNS', matcher: { exact: sni } }],
      },
    },
  })
}

function socket(type: string, fields: Data): Data {
  return { name: 'envoy.transport_sockets.tls', typed_config: { '@type': `${TLS}${type}`, ...fields } }
}
