import type { FieldReader } from '../../lib/core/field-reader.ts'
import { type FeatureFlagConfig, parseFeatureFlag } from '../../lib/match/feature-flag.ts'

export interface ConnectionLimitConfig {
  readonly statPrefix: string
  readonly maxConnections: number
  /** What a refused connection is kept for, ms; 0: closed at once. */
  readonly delayMs: number
  readonly enabled: FeatureFlagConfig
}

/** Timers cannot run for longer. */
const MAX_MS = 0x7fff_ffff

/** `envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit` */
export function parseConnectionLimit(fields: FieldReader): ConnectionLimitConfig {
  fields.unread('refuse')
  const statPrefix = fields.string('stat_prefix')
  if (statPrefix === '') fields.error('stat_prefix', 'must not be empty')
  const maxConnections = fields.number('max_connections')
  if (maxConnections === undefined) fields.error('max_connections', 'is required')
  else if (maxConnections < 1) fields.error('max_connections', `must be at least 1, is ${maxConnections}`)
  const delayMs = fields.durationMs('delay') ?? 0
  if (delayMs < 0) fields.error('delay', `must not be negative, is ${delayMs / 1000}s`)
  return {
    statPrefix,
    maxConnections: maxConnections ?? 1,
    delayMs: Math.min(delayMs, MAX_MS),
    enabled: parseFeatureFlag(fields.message('runtime_enabled')),
  }
}
