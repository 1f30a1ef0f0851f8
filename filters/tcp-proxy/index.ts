import type { NetworkFilterFactory } from '../../lib/chain/network.ts'
import { parseTcpProxy, type TcpProxyConfig } from './config.ts'
import { compileTcpProxy } from './filter.ts'

/**
 * Ends a chain of layer 4: joins each connection with one to a host of a cluster, or with a tunnel through an HTTP proxy
 * there, and passes bytes both ways under back-pressure. Each direction ends by itself. Reading begins when the upstream
 * is connected.
 *
 * Posture: robust against untrusted clients and upstreams: what waits in either direction is bounded by the buffer
 * limits, and connections that carry nothing end after `idle_timeout` (1 h unless set). Who is let in is for filters in
 * front of it to decide.
 */
export const tcpProxy: NetworkFilterFactory<TcpProxyConfig> = Object.freeze({
  name: 'envoy.filters.network.tcp_proxy',
  typeUrls: ['envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy'],
  terminal: true,
  parse: parseTcpProxy,
  // Of what is asked for when it is wanted nobody knows before whether it is there.
  clusters: ({ clusters, demand }: TcpProxyConfig) => (demand === undefined ? clusters.map(({ name }) => name) : []),
  compile: compileTcpProxy,
})
