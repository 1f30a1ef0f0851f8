import type { ProxyTask } from './variant.ts'

/** Before the name of every extension's message. */
export const TYPE = 'type.googleapis.com/envoy.extensions'

/** Parts of Envoy bootstraps, as plain JSON. */
export function socketAddress(port: number): object {
  return { socket_address: { address: '127.0.0.1', port_value: port } }
}

/** A cluster of one endpoint on 127.0.0.1. */
export function staticCluster(name: string, port: number): object {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '5s',
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(port) } }] }],
    },
  }
}

/** The options that make a cluster speak HTTP/2. */
export function http2Upstream(options: object): object {
  const protocol = {
    '@type': `${TYPE}.upstreams.http.v3.HttpProtocolOptions`,
    explicit_http_config: { http2_protocol_options: options },
  }
  return { typed_extension_protocol_options: { 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': protocol } }
}

/** The transport socket of a filter chain; nothing where the task has no certificate. */
export function downstreamTls({ certificate }: ProxyTask, alpn: readonly string[] = ['h2', 'http/1.1']): object {
  if (certificate === undefined) return {}
  const context = {
    '@type': `${TYPE}.transport_sockets.tls.v3.DownstreamTlsContext`,
    common_tls_context: { alpn_protocols: alpn, tls_certificates: [pair(certificate)] },
  }
  return { transport_socket: { name: 'tls', typed_config: context } }
}

/** The certificate and its key, as both kinds of TLS context name them. */
export function pair({ certificateFile, keyFile }: NonNullable<ProxyTask['certificate']>): object {
  return { certificate_chain: { filename: certificateFile }, private_key: { filename: keyFile } }
}
