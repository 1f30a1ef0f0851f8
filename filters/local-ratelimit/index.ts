import type { FilterFactory } from '../../lib/chain/filter.ts'
import { type LocalRateLimitConfig, parseLocalRateLimit, parseRouteLocalRateLimit } from './config.ts'
import { compileLocalRateLimit } from './filter.ts'

/**
 * Lets as many requests through as there are tokens, and answers the others with 429. Each configuration has one bucket for
 * all requests and buckets for what descriptors say of them; the whole gateway shares them, whatever its number of workers,
 * or each connection has its own. As in Envoy nothing is looked at, and nothing refused, before `filter_enabled` and
 * `filter_enforced` say so.
 *
 * Posture: robust against untrusted clients: buckets for values that they choose are bounded, and the least used go. Who
 * sends more different values than that gets new buckets; the bucket for all holds nevertheless.
 *
 * Statistics: `<stat_prefix>.http_local_rate_limit.` with `enabled`, `ok`, `rate_limited`, `enforced`,
 * `shadow_mode`.
 */
export const localRateLimitFilter: FilterFactory<LocalRateLimitConfig> = Object.freeze({
  name: 'envoy.filters.http.local_ratelimit',
  typeUrls: ['envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit'],
  parse: parseLocalRateLimit,
  parseRoute: parseRouteLocalRateLimit,
  compile: compileLocalRateLimit,
})
