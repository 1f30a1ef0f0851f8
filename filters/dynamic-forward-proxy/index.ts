import type { FilterFactory } from '../../lib/chain/filter.ts'
import { type ForwardProxyFilterConfig, type HostRewriteConfig, parseForwardProxy, parseHostRewrite } from './config.ts'
import { compileForwardProxy } from './filter.ts'

/**
 * Sends requests to the host that they name: the cluster of their route must be a dynamic forward proxy, which looks names
 * up while requests wait here. Clusters of other types are left alone.
 *
 * Posture: clients choose where this gateway connects to. Names that lead to private, loopback and link-local addresses are
 * not refused by themselves where the configuration is Envoy's (as in Envoy): set `resolved_address_filter` of the cluster's
 * cache. In the native configuration such addresses are refused unless it says otherwise.
 */
export const dynamicForwardProxy: FilterFactory<ForwardProxyFilterConfig, HostRewriteConfig> = Object.freeze({
  name: 'envoy.filters.http.dynamic_forward_proxy',
  typeUrls: ['envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig'],
  routeTypeUrls: ['envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig'],
  parse: parseForwardProxy,
  parseRoute: parseHostRewrite,
  merge(base: ForwardProxyFilterConfig, levels: readonly HostRewriteConfig[]): ForwardProxyFilterConfig {
    const rewrite = levels.at(-1)
    return rewrite === undefined ? base : { ...base, rewrite }
  },
  compile: compileForwardProxy,
})
