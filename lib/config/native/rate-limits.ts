import type { RateLimitBy } from '../../ratelimit/by.ts'

/** What a request is counted by; a `key` with the value that this route has for it. */
export type NativeRateLimitBy = Exclude<RateLimitBy, { readonly key: string }> | NativeRateLimitKey

export interface NativeRateLimitKey {
  readonly key: string
  readonly value: string
}

/**
 * Counts requests for filters that go by what routes say (`localRateLimit` with `byRoutes`), under the limit that has the
 * same `by`.
 */
export interface NativeRateLimit {
  /** All of them; a request that lacks one is not counted. */
  readonly by: readonly NativeRateLimitBy[]
  /** Filters of this stage count it, 0 to 10. Default: 0. */
  readonly stage?: number
}
