import { downstreamTls, http2Upstream, pair, socketAddress, staticCluster, TYPE } from './envoy-parts.ts'
import { HTTP2_LIMITS, type ProxyTask, type Traffic } from './variant.ts'

/**
 * Listeners and clusters that pass bytes. Where there are two hops, both are in one process: its CPU is that of the whole
 * way, both ends of the tunnel included.
 */
export function layer4Resources(task: ProxyTask, kind: NonNullable<Traffic['layer4']>): object {
  const clients = (cluster: string, more: object = {}): object => ({
    name: 'clients',
    address: socketAddress(task.listenPort),
    filter_chains: [{ filters: [tcpProxy(cluster, more)], ...(kind === 'tcp' ? downstreamTls(task) : {}) }],
  })
  const origin = staticCluster('origin', task.originPort)
  if (kind === 'tcp') return { listeners: [clients('origin')], clusters: [origin] }
  const next = task.secondPort
  if (next === undefined) throw new Error('two hops need a second port')
  if (kind === 'tcp twice') {
    const second = { name: 'second', address: socketAddress(next), filter_chains: [{ filters: [tcpProxy('origin')] }] }
    return { listeners: [clients('second'), second], clusters: [origin, staticCluster('second', next)] }
  }
  const { certificate } = task
  if (certificate === undefined) throw new Error('a tunnel needs a certificate')
  // The host of the authority is resolved by nobody: the route of the far end has a fixed cluster.
  const tunneling = { tunneling_config: { hostname: `127.0.0.1:${task.originPort}` } }
  const tunnel = { ...staticCluster('tunnel', next), ...http2Upstream(tunnelLimits()), ...clientTls(certificate) }
  return { listeners: [clients('tunnel', tunneling), tunnelEnd(next, certificate)], clusters: [origin, tunnel] }
}

function tcpProxy(cluster: string, more: object = {}): object {
  const type = `${TYPE}.filters.network.tcp_proxy.v3.TcpProxy`
  return { name: 'tcp_proxy', typed_config: { '@type': type, stat_prefix: 'layer4', cluster, ...more } }
}

/** Windows of a tunnel carry whole connections: those that Istio's proxies announce, not those of the edge. */
function tunnelLimits(): object {
  return {
    max_concurrent_streams: HTTP2_LIMITS.streams,
    initial_stream_window_size: 4 * 1024 * 1024,
    initial_connection_window_size: 16 * 1024 * 1024,
  }
}

/** The far end: mutual TLS, HTTP/2, CONNECT ended here. */
function tunnelEnd(port: number, certificate: NonNullable<ProxyTask['certificate']>): object {
  const tls = {
    '@type': `${TYPE}.transport_sockets.tls.v3.DownstreamTlsContext`,
    require_client_certificate: true,
    common_tls_context: {
      alpn_protocols: ['h2'],
      tls_certificates: [pair(certificate)],
      validation_context: { trusted_ca: { filename: certificate.certificateFile } },
    },
  }
  const upgrade = { upgrade_type: 'CONNECT', connect_config: {} }
  const route = {
    match: { connect_matcher: {} },
    route: { cluster: 'origin', timeout: '0s', upgrade_configs: [upgrade] },
  }
  const manager = {
    '@type': `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: 'tunnel',
    codec_type: 'HTTP2',
    http2_protocol_options: { ...tunnelLimits(), allow_connect: true },
    upgrade_configs: [{ upgrade_type: 'CONNECT' }],
    http_filters: [{ name: 'router', typed_config: { '@type': `${TYPE}.filters.http.router.v3.Router` } }],
    route_config: { name: 'tunnel', virtual_hosts: [{ name: 'all', domains: ['*'], routes: [route] }] },
  }
  const chain = {
    filters: [{ name: 'hcm', typed_config: manager }],
    transport_socket: { name: 'tls', typed_config: tls },
  }
  return { name: 'tunnel', address: socketAddress(port), filter_chains: [chain] }
}

function clientTls(certificate: NonNullable<ProxyTask['certificate']>): object {
  const context = {
    '@type': `${TYPE}.transport_sockets.tls.v3.UpstreamTlsContext`,
    common_tls_context: {
      alpn_protocols: ['h2'],
      tls_certificates: [pair(certificate)],
      validation_context: { trusted_ca: { filename: certificate.certificateFile } },
    },
  }
  return { transport_socket: { name: 'tls', typed_config: context } }
}
