import type { FieldReader } from '../../lib/core/field-reader.ts'
import { httpStatus } from '../../lib/core/http-status.ts'
import { type FeatureFlagConfig, parseFeatureFlag } from '../../lib/match/feature-flag.ts'

/** A parsed `AdaptiveConcurrency`. */
export interface AdaptiveConcurrencyConfig {
  readonly enabled: FeatureFlagConfig
  readonly status: number
  readonly gradient: GradientConfig
}

/** A parsed `GradientControllerConfig`; percentages as such. */
export interface GradientConfig {
  /** Of the latencies of a window, the one that stands for all. */
  readonly samplePercentile: number
  readonly maxLimit: number
  /** Undefined: the limit while the shortest latency is measured. */
  readonly minLimit?: number
  readonly updateIntervalMs: number
  /** The shortest latency, where it is not measured. */
  readonly fixedMinRttMs?: number
  /** Between measurements. */
  readonly minRttIntervalMs: number
  readonly requestCount: number
  readonly jitterPercent: number
  readonly minConcurrency: number
  readonly bufferPercent: number
}

const DEFAULT_STATUS = 503
const SAMPLE_PERCENTILE = 50
const MAX_LIMIT = 1_000
const REQUEST_COUNT = 50
const JITTER_PERCENT = 15
const MIN_CONCURRENCY = 3
const BUFFER_PERCENT = 25

/** `envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency` */
export function parseAdaptiveConcurrency(fields: FieldReader): AdaptiveConcurrencyConfig {
  fields.unread('refuse')
  const status = fields.message('concurrency_limit_exceeded_status')
  const code = status === undefined ? DEFAULT_STATUS : httpStatus(status)
  const gradient = fields.message('gradient_controller_config')
  if (gradient === undefined) fields.error('gradient_controller_config', 'is required')
  return {
    enabled: parseFeatureFlag(fields.message('enabled')),
    // As in Envoy: what is no error is 503.
    status: code < 400 ? DEFAULT_STATUS : code,
    gradient: gradient === undefined ? NO_GRADIENT : parseGradient(gradient),
  }
}

/** Stands where a mistake was recorded; never used. */
const NO_GRADIENT: GradientConfig = Object.freeze({
  samplePercentile: SAMPLE_PERCENTILE,
  maxLimit: MAX_LIMIT,
  updateIntervalMs: 1,
  minRttIntervalMs: 1,
  requestCount: REQUEST_COUNT,
  jitterPercent: JITTER_PERCENT,
  minConcurrency: MIN_CONCURRENCY,
  bufferPercent: BUFFER_PERCENT,
})

/** `GradientControllerConfig` */
function parseGradient(fields: FieldReader): GradientConfig {
  fields.unread('refuse')
  const limits = fields.message('concurrency_limit_params')
  if (limits === undefined) fields.error('concurrency_limit_params', 'is required')
  const minRtt = fields.message('min_rtt_calc_params')
  if (minRtt === undefined) fields.error('min_rtt_calc_params', 'is required')
  const updateIntervalMs = limits?.durationMs('concurrency_update_interval')
  if (limits !== undefined && !(updateIntervalMs !== undefined && updateIntervalMs > 0)) {
    limits.error('concurrency_update_interval', 'must be longer than 0 s')
  }
  const maxLimit = parseCount(limits, 'max_concurrency_limit', MAX_LIMIT)
  const minLimit = limits?.has('min_concurrency_limit') ? parseCount(limits, 'min_concurrency_limit', 1) : undefined
  const minConcurrency = parseCount(minRtt, 'min_concurrency', MIN_CONCURRENCY)
  return {
    samplePercentile: parsePercent(fields, 'sample_aggregate_percentile', SAMPLE_PERCENTILE),
    maxLimit,
    ...(minLimit !== undefined && { minLimit }),
    updateIntervalMs: updateIntervalMs ?? 1,
    ...parseMinRtt(minRtt),
    requestCount: parseCount(minRtt, 'request_count', REQUEST_COUNT),
    jitterPercent: parsePercent(minRtt, 'jitter', JITTER_PERCENT),
    minConcurrency,
    bufferPercent: parsePercent(minRtt, 'buffer', BUFFER_PERCENT),
  }
}

/** Measured at intervals, or given. */
function parseMinRtt(reader: FieldReader | undefined): Pick<GradientConfig, 'fixedMinRttMs' | 'minRttIntervalMs'> {
  const fixedMs = reader?.durationMs('fixed_value')
  const intervalMs = reader?.durationMs('interval')
  if (fixedMs !== undefined && !(fixedMs > 0)) reader?.error('fixed_value', 'must be longer than 0 s')
  if (fixedMs !== undefined) {
    // It is not measured then, as in Envoy.
    if (intervalMs !== undefined && intervalMs > 0) reader?.ignore('interval')
    return { fixedMinRttMs: fixedMs, minRttIntervalMs: 0 }
  }
  if (intervalMs === undefined) reader?.error(undefined, 'one of interval and fixed_value is required')
  else if (intervalMs < 1) reader?.error('interval', `must be at least 1 ms, not ${intervalMs} ms`)
  return { minRttIntervalMs: intervalMs ?? 1 }
}

function parseCount(reader: FieldReader | undefined, name: string, otherwise: number): number {
  const value = reader?.number(name) ?? otherwise
  if (Number.isInteger(value) && value >= 1) return value
  reader?.error(name, `must be a whole number, 1 or more, not ${value}`)
  return otherwise
}

/** `type.v3.Percent` */
function parsePercent(reader: FieldReader | undefined, name: string, otherwise: number): number {
  const percent = reader?.message(name)
  if (percent === undefined) return otherwise
  const value = percent.number('value') ?? 0
  if (value >= 0 && value <= 100) return value
  percent.error('value', `must be from 0 to 100, not ${value}`)
  return otherwise
}
