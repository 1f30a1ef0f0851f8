import type { FieldReader } from '../../lib/core/field-reader.ts'
import { parseTokenBucket, type TokenBucketConfig } from '../../lib/core/token-bucket.ts'
import { type FeatureFlagConfig, parseFeatureFlag } from '../../lib/match/feature-flag.ts'

export interface NetworkRateLimitConfig {
  readonly statPrefix: string
  readonly bucket: TokenBucketConfig
  /** Filters that have it and the same bucket share the bucket; '': this one has its own. */
  readonly shareKey: string
  readonly enabled: FeatureFlagConfig
}

const NO_BUCKET: TokenBucketConfig = Object.freeze({ maxTokens: 1, tokensPerFill: 1, fillIntervalMs: 1_000 })

/** `envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit` */
export function parseNetworkRateLimit(fields: FieldReader): NetworkRateLimitConfig {
  fields.unread('refuse')
  const statPrefix = fields.string('stat_prefix')
  if (statPrefix === '') fields.error('stat_prefix', 'must not be empty')
  const bucket = fields.message('token_bucket')
  if (bucket === undefined) fields.error('token_bucket', 'is required')
  return {
    statPrefix,
    bucket: bucket === undefined ? NO_BUCKET : parseTokenBucket(bucket),
    shareKey: fields.string('share_key'),
    enabled: parseFeatureFlag(fields.message('runtime_enabled')),
  }
}
