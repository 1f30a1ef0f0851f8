import type { Scope } from '../../lib/chain/filter.ts'
import type { ListenerFilter, ListenerRefusal } from '../../lib/chain/network.ts'
import { runtimeBool } from '../../lib/core/runtime-value.ts'
import { TokenBucket } from '../../lib/core/token-bucket.ts'
import type { ListenerRateLimitConfig } from './config.ts'

/** Compiles the filter that takes a token for each connection. */
export function compileListenerRateLimit(config: ListenerRateLimitConfig, scope: Scope): ListenerFilter {
  const bucket = new TokenBucket(config.bucket, scope.clock)
  const limited = scope.metrics.counter(`listener_local_ratelimit.${config.statPrefix}.rate_limited`)
  const { runtimeKey, enabled } = config
  const isEnabled = runtimeKey === '' ? () => enabled : () => runtimeBool(scope.runtime, runtimeKey) ?? enabled
  const refusal: ListenerRefusal = Object.freeze({ refused: 'more connections than the rate limit allows' })
  return Object.freeze({
    maxBytes: 0,
    onAccept(): ListenerRefusal | undefined {
      if (!isEnabled() || bucket.take()) return undefined
      limited.v++
      return refusal
    },
  })
}
