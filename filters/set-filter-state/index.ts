import type { NetworkFilterFactory } from '../../lib/chain/network.ts'
import { parseSetFilterState, type SetFilterStateConfig } from './config.ts'
import { compileSetFilterState } from './filter.ts'

/**
 * Leaves texts in filter state when a connection begins, for later filters, matchers and logs; those of
 * `on_downstream_data` when its first bytes come.
 *
 * Posture: as safe as the formats it is given: what they take from clients is only as trustworthy.
 */
export const setFilterState: NetworkFilterFactory<SetFilterStateConfig> = Object.freeze({
  name: 'envoy.filters.network.set_filter_state',
  typeUrls: ['envoy.extensions.filters.network.set_filter_state.v3.Config'],
  parse: parseSetFilterState,
  compile: compileSetFilterState,
})
