import type { NetworkFilter, NetworkFilterFactory } from '../../lib/chain/network.ts'
import { isIp } from '../../lib/core/address.ts'
import { parseSniForwardProxy, type SniForwardProxyConfig } from './config.ts'

/** What clusters of a dynamic forward proxy read. */
const HOST_KEY = 'envoy.upstream.dynamic_host'
const PORT_KEY = 'envoy.upstream.dynamic_port'

/**
 * Sends each connection to the host that its SNI names, at a configured port: the cluster of the tcp_proxy behind it
 * must be a dynamic forward proxy, which looks the name up. Connections without SNI go on without a name, and find no
 * host.
 *
 * Posture: clients choose where this gateway connects to: put filters or filter chain matches in front that let through
 * only names that may be reached. Names that resolve to loopback or private addresses are refused only where the cluster says
 * so (`resolved_address_filter`; native ones do by themselves).
 */
export const sniDynamicForwardProxy: NetworkFilterFactory<SniForwardProxyConfig> = Object.freeze({
  name: 'envoy.filters.network.sni_dynamic_forward_proxy',
  typeUrls: ['envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig'],
  parse: parseSniForwardProxy,
  compile({ port }: SniForwardProxyConfig): NetworkFilter {
    return Object.freeze({
      onConnect({ facts }) {
        const { serverName, state } = facts
        // Server names are no addresses (RFC 6066 section 3), which would pass by DNS and what it permits.
        if (serverName === undefined || serverName === '' || isIp(serverName)) return
        if (state.object(HOST_KEY) === undefined) state.setObject(HOST_KEY, serverName)
        if (state.object(PORT_KEY) === undefined) state.setObject(PORT_KEY, port)
      },
    } satisfies NetworkFilter)
  },
})
