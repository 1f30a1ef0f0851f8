import type { HttpFilter } from '../../lib/chain/filter.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'

/** For `GatewayOptions.adjust`: puts these filter objects in front of every chain, as an embedded gateway may. */
export function withFilters(...filters: readonly HttpFilter<unknown>[]): (config: GatewayConfig) => GatewayConfig {
  const entries = filters.map((instance, i) => ({
    name: `instance-${i}`,
    typeUrl: '',
    config: {},
    disabled: false,
    instance,
  }))
  return (config) => ({
    ...config,
    listeners: config.listeners.map((listener) => {
      const { filterChain } = listener
      const http = { ...filterChain.http, filters: [...entries, ...filterChain.http.filters] }
      return { ...listener, filterChain: { ...filterChain, http } }
    }),
  })
}
