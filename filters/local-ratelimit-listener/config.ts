import type { FieldReader } from '../../lib/core/field-reader.ts'
import { parseTokenBucket, type TokenBucketConfig } from '../../lib/core/token-bucket.ts'

/** A parsed `LocalRateLimit` of a listener. Plain data. */
export interface ListenerRateLimitConfig {
  readonly statPrefix: string
  readonly bucket: TokenBucketConfig
  readonly enabled: boolean
  /** A runtime value under this key overrides `enabled`; '' for none. */
  readonly runtimeKey: string
}

const NO_BUCKET: TokenBucketConfig = Object.freeze({ maxTokens: 1, tokensPerFill: 1, fillIntervalMs: 1_000 })

/** `envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit` */
export function parseListenerRateLimit(fields: FieldReader): ListenerRateLimitConfig {
  fields.unread('refuse')
  const statPrefix = fields.string('stat_prefix')
  if (statPrefix === '') fields.error('stat_prefix', 'must not be empty')
  const bucket = fields.message('token_bucket')
  if (bucket === undefined) fields.error('token_bucket', 'is required')
  const flag = fields.message('runtime_enabled')
  return {
    statPrefix,
    bucket: bucket === undefined ? NO_BUCKET : parseTokenBucket(bucket),
    enabled: flag?.optionalBool('default_value') ?? true,
    runtimeKey: flag?.string('runtime_key') ?? '',
  }
}
