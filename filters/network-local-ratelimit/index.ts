import type { NetworkFilter, NetworkFilterFactory, NetworkScope } from '../../lib/chain/network.ts'
import { TokenBucket } from '../../lib/core/token-bucket.ts'
import { compileFeatureFlag } from '../../lib/match/feature-flag.ts'
import { type NetworkRateLimitConfig, parseNetworkRateLimit } from './config.ts'

/**
 * Takes a token for each new connection of its filter chain and closes those that find none. Each worker has a bucket of
 * its own. Counter: `local_rate_limit.<stat_prefix>.rate_limited`.
 *
 * Posture: robust against untrusted clients.
 */
export const networkLocalRateLimit: NetworkFilterFactory<NetworkRateLimitConfig> = Object.freeze({
  name: 'envoy.filters.network.local_ratelimit',
  typeUrls: ['envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit'],
  parse: parseNetworkRateLimit,
  compile(config: NetworkRateLimitConfig, scope: NetworkScope): NetworkFilter {
    const bucket = new TokenBucket(config.bucket, scope.clock)
    const limited = scope.metrics.counter(`local_rate_limit.${config.statPrefix}.rate_limited`)
    const enabled = compileFeatureFlag(config.enabled, scope.runtime)
    return Object.freeze({
      onConnect(connection) {
        if (!enabled() || bucket.take()) return
        limited.v++
        connection.close('local_ratelimit', 'RL')
      },
    } satisfies NetworkFilter)
  },
})
