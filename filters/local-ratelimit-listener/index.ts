import type { ListenerFilterFactory } from '../../lib/chain/network.ts'
import { type ListenerRateLimitConfig, parseListenerRateLimit } from './config.ts'
import { compileListenerRateLimit } from './filter.ts'

/**
 * Closes connections that come faster than a token bucket allows, before anything is read from them. The bucket is
 * that of the listener, whatever the number of workers.
 *
 * Posture: robust against anybody who can connect; it reads nothing and keeps nothing per connection.
 *
 * Counters: `listener_local_ratelimit.<stat_prefix>.rate_limited`.
 */
export const listenerLocalRateLimit: ListenerFilterFactory<ListenerRateLimitConfig> = Object.freeze({
  name: 'envoy.filters.listener.local_ratelimit',
  typeUrls: ['envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit'],
  parse: parseListenerRateLimit,
  compile: compileListenerRateLimit,
})
