import type { ListenerFilterFactory } from '../../lib/chain/network.ts'
import { type ProxyProtocolConfig, parseProxyProtocol, parseTrustedProxyProtocol } from './config.ts'
import { compileProxyProtocol } from './filter.ts'

/**
 * Takes a PROXY protocol header (version 1 or 2) off the front of connections: `remoteAddress` and `localAddress` become
 * what it says, the `direct*` ones stay those of the socket. Of two headers the second is payload.
 *
 * Posture: parses bytes of anybody who can connect, strictly and with at most 4 KiB; but it believes every peer, as in
 * Envoy. Only load balancers may be able to reach such a listener; else use `trustedProxyProtocol`.
 *
 * Counters: `proxy_proto.[<stat_prefix>.]` `not_found_allowed`, `not_found_disallowed`, `untrusted_source`,
 * `versions.v1.` and `versions.v2.` `found`, `disallowed`, `error`; `downstream_cx_proxy_proto_error` for every refusal.
 */
export const proxyProtocol: ListenerFilterFactory<ProxyProtocolConfig> = Object.freeze({
  name: 'envoy.filters.listener.proxy_protocol',
  typeUrls: ['envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol'],
  parse: parseProxyProtocol,
  compile: compileProxyProtocol,
})

/**
 * The same with one field more, `trusted_sources`: address ranges whose headers are believed. From elsewhere a header is
 * refused, and where headers are required, every connection.
 */
export const trustedProxyProtocol: ListenerFilterFactory<ProxyProtocolConfig> = Object.freeze({
  name: 'headgate.filters.listener.trusted_proxy_protocol',
  typeUrls: ['headgate.filters.listener.proxy_protocol.v1.TrustedProxyProtocol'],
  parse: parseTrustedProxyProtocol,
  compile: compileProxyProtocol,
})
