import type { HttpFilter } from '../../lib/chain/filter.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import { httpOf, withChains } from '../support/chains.ts'

/** For `GatewayOptions.adjust`: puts these filter objects in front of every chain, as an embedded gateway may. */
export function withFilters(...filters: readonly HttpFilter<unknown>[]): (config: GatewayConfig) => GatewayConfig {
  const entries = filters.map((instance, i) => ({
    name: `instance-${i}`,
    typeUrl: '',
    config: {},
    disabled: false,
    instance,
  }))
  return (config) =>
    withChains(config, (chain) => {
      const http = httpOf(chain)
      return { ...chain, http: { ...http, filters: [...entries, ...http.filters] } }
    })
}
