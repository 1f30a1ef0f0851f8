import type { FilterChainConfig, HttpConnectionManagerConfig, ListenerConfig } from '../../lib/config/listener.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { RouteTableConfig } from '../../lib/router/config.ts'

/** The connection manager of a chain that must have one. */
export function httpOf({ http, name }: FilterChainConfig): HttpConnectionManagerConfig {
  if (http === undefined) throw new Error(`the filter chain "${name}" ends without HTTP`)
  return http
}

/** The connection manager of a listener's first filter chain. */
export function managerOf({ filterChains }: ListenerConfig): HttpConnectionManagerConfig {
  return httpOf(filterChains[0])
}

/** The same configuration with every filter chain changed. */
export function withChains(
  config: GatewayConfig,
  change: (chain: FilterChainConfig) => FilterChainConfig,
): GatewayConfig {
  return {
    ...config,
    listeners: config.listeners.map((listener) => ({ ...listener, filterChains: listener.filterChains.map(change) })),
  }
}

/** The route table that a connection manager has itself. */
export function tableOf({ routes, statPrefix }: HttpConnectionManagerConfig): RouteTableConfig {
  if (routes === undefined) throw new Error(`the connection manager "${statPrefix}" has no routes of its own`)
  return routes
}
