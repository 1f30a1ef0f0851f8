import type {
  NetworkConnection,
  NetworkFilter,
  NetworkFilterFactory,
  NetworkNext,
  NetworkScope,
} from '../../lib/chain/network.ts'
import { compileFeatureFlag } from '../../lib/match/feature-flag.ts'
import { type NetworkRateLimitConfig, parseNetworkRateLimit } from './config.ts'

/**
 * Takes a token for each new connection of its filter chain and closes those that find none. The bucket is the gateway's,
 * whatever the number of workers; filters with the same `share_key` and bucket have one together. Counter: `local_rate_limit.<stat_prefix>.rate_limited`.
 *
 * Posture: robust against untrusted clients.
 */
export const networkLocalRateLimit: NetworkFilterFactory<NetworkRateLimitConfig> = Object.freeze({
  name: 'envoy.filters.network.local_ratelimit',
  typeUrls: ['envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit'],
  parse: parseNetworkRateLimit,
  compile(config: NetworkRateLimitConfig, scope: NetworkScope): NetworkFilter {
    const tokens = scope.own(scope.leases.tokens(keyOf(config, scope), config.bucket))
    const limited = scope.metrics.counter(`local_rate_limit.${config.statPrefix}.rate_limited`)
    const enabled = compileFeatureFlag(config.enabled, scope.runtime)
    const refuse = (connection: NetworkConnection): void => {
      limited.v++
      connection.close('local_ratelimit', 'RL')
    }
    return Object.freeze({
      onConnect(connection): NetworkNext {
        if (!enabled()) return undefined
        const taken = tokens.take()
        if (taken === false) refuse(connection)
        if (typeof taken === 'boolean') return undefined
        return taken.then((admitted) => {
          if (!admitted) refuse(connection)
        })
      },
    } satisfies NetworkFilter)
  },
})

function keyOf({ shareKey, bucket }: NetworkRateLimitConfig, scope: NetworkScope): string {
  if (shareKey === '') return `network_local_ratelimit.${scope.place}.${scope.filterName}`
  const { maxTokens, tokensPerFill, fillIntervalMs } = bucket
  return `network_local_ratelimit.shared.${shareKey}.${maxTokens}/${tokensPerFill}/${fillIntervalMs}`
}
