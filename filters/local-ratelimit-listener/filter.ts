import type { Scope } from '../../lib/chain/filter.ts'
import type { ListenerFilter, ListenerRefusal } from '../../lib/chain/network.ts'
import { runtimeBool } from '../../lib/core/runtime-value.ts'
import type { ListenerRateLimitConfig } from './config.ts'

/** Compiles the filter that takes a token for each connection. */
export function compileListenerRateLimit(config: ListenerRateLimitConfig, scope: Scope): ListenerFilter {
  const key = `listener_local_ratelimit.${scope.place}.${scope.filterName}`
  const tokens = scope.own(scope.leases.tokens(key, config.bucket))
  const limited = scope.metrics.counter(`listener_local_ratelimit.${config.statPrefix}.rate_limited`)
  const { runtimeKey, enabled } = config
  const isEnabled = runtimeKey === '' ? () => enabled : () => runtimeBool(scope.runtime, runtimeKey) ?? enabled
  const refusal: ListenerRefusal = Object.freeze({ refused: 'more connections than the rate limit allows' })
  const verdict = (admitted: boolean): ListenerRefusal | undefined => {
    if (admitted) return undefined
    limited.v++
    return refusal
  }
  return Object.freeze({
    maxBytes: 0,
    onAccept(): ListenerRefusal | undefined | Promise<ListenerRefusal | undefined> {
      if (!isEnabled()) return undefined
      const taken = tokens.take()
      return typeof taken === 'boolean' ? verdict(taken) : taken.then(verdict)
    },
  })
}
