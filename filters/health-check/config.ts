import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { HeaderMatchConfig } from '../../lib/match/config.ts'
import { parseHeaderMatch } from '../../lib/match/parse.ts'

/** A parsed `HealthCheck`. */
export interface HealthCheckConfig {
  /** Health checks go on to the upstream unless this gateway is failing or remembers the last answer. */
  readonly passThrough: boolean
  /** How long an upstream's answer is remembered; 0: not at all. */
  readonly cacheTimeMs: number
  /** All must match for a request to be a health check; none: every request is one. */
  readonly headers: readonly HeaderMatchConfig[]
  /** Cluster name and the percentage of its hosts that must be healthy or degraded. */
  readonly minHealthyPercentages: readonly (readonly [cluster: string, percentage: number])[]
}

/** `envoy.extensions.filters.http.health_check.v3.HealthCheck` */
export function parseHealthCheck(fields: FieldReader): HealthCheckConfig {
  fields.unread('refuse')
  const passThrough = fields.optionalBool('pass_through_mode')
  if (passThrough === undefined) fields.error('pass_through_mode', 'is required')
  const cacheTimeMs = fields.durationMs('cache_time') ?? 0
  if (cacheTimeMs < 0) fields.error('cache_time', 'must not be negative')
  if (cacheTimeMs > 0 && passThrough === false) {
    fields.error('cache_time', 'must not be set unless pass_through_mode is on')
  }
  const percentages = [...fields.messageMap('cluster_min_healthy_percentages')].map(
    ([cluster, percent]) => [cluster, parsePercent(percent)] as const,
  )
  // Envoy does not look at them in pass-through mode: the upstream answers.
  return {
    passThrough: passThrough ?? false,
    cacheTimeMs,
    headers: fields.messages('headers').map(parseHeaderMatch),
    minHealthyPercentages: passThrough === true ? [] : percentages,
  }
}

function parsePercent(fields: FieldReader): number {
  const value = fields.number('value') ?? 0
  if (!(value >= 0 && value <= 100)) fields.error('value', `must be from 0 to 100, got ${value}`)
  return value
}
