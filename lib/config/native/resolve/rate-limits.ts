import { actionOf } from '../../../ratelimit/by.ts'
import type { RateLimitConfig } from '../../../ratelimit/config.ts'
import type { NativeRateLimit } from '../rate-limits.ts'

export function readRateLimits(limits: readonly NativeRateLimit[]): readonly RateLimitConfig[] {
  return limits.map(({ by, stage = 0 }) => ({
    actions: by.map((one) => actionOf(one, 'value' in one ? one.value : '')),
    ...(stage !== 0 && { stage }),
  }))
}
