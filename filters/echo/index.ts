import type { NetworkFilterFactory } from '../../lib/chain/network.ts'
import { echoFilter } from './filter.ts'

/**
 * Ends a chain of layer 4: sends back what it reads, and FIN for FIN.
 *
 * Posture: for tests. What waits for a client that does not read is bounded; how long connections may stay is not.
 */
export const echo: NetworkFilterFactory<object> = Object.freeze({
  name: 'envoy.filters.network.echo',
  typeUrls: ['envoy.extensions.filters.network.echo.v3.Echo'],
  terminal: true,
  parse: () => ({}),
  compile: () => echoFilter,
})
