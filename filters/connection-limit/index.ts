import type { NetworkFilterFactory } from '../../lib/chain/network.ts'
import { type ConnectionLimitConfig, parseConnectionLimit } from './config.ts'
import { compileConnectionLimit } from './filter.ts'

/**
 * Closes connections of its filter chain beyond `max_connections`, at once or after `delay`. Those of all
 * workers count together.
 * Counters: `connection_limit.<stat_prefix>.active_connections` and `.limited_connections`.
 *
 * Posture: robust against untrusted clients; with a delay, refused connections stay for as long, without being read.
 */
export const connectionLimit: NetworkFilterFactory<ConnectionLimitConfig> = Object.freeze({
  name: 'envoy.filters.network.connection_limit',
  typeUrls: ['envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit'],
  parse: parseConnectionLimit,
  compile: compileConnectionLimit,
})
