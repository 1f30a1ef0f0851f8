import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { RetryBudgetConfig, ThresholdsConfig } from '../../lib/upstream/config.ts'

/** Envoy's defaults for each priority. */
const DEFAULTS: ThresholdsConfig = Object.freeze({
  maxConnections: 1024,
  maxPendingRequests: 1024,
  maxRequests: 1024,
  maxRetries: 3,
})

/** Envoy's defaults of a retry budget. */
const BUDGET_PERCENT = 20
const BUDGET_MIN = 3

export interface CircuitBreakers {
  readonly thresholds: { readonly default: ThresholdsConfig; readonly high: ThresholdsConfig }
  readonly maxConnectionsPerHost?: number
}

/** `config.cluster.v3.CircuitBreakers`; the first entry of a priority wins. */
export function translateCircuitBreakers(reader: FieldReader | undefined): CircuitBreakers {
  let standard: ThresholdsConfig | undefined
  let high: ThresholdsConfig | undefined
  for (const entry of reader?.messages('thresholds') ?? []) {
    const isHigh = entry.enumName('priority') === 'HIGH'
    const thresholds = translateThresholds(entry)
    if (isHigh) high ??= thresholds
    else standard ??= thresholds
  }
  let maxConnectionsPerHost: number | undefined
  for (const entry of reader?.messages('per_host_thresholds') ?? []) {
    entry.ignore('max_pending_requests', 'max_requests', 'max_retries', 'retry_budget')
    entry.ignore('track_remaining', 'max_connection_pools')
    const limit = entry.number('max_connections')
    if (entry.enumName('priority') === 'DEFAULT') maxConnectionsPerHost ??= limit
  }
  return {
    thresholds: { default: standard ?? DEFAULTS, high: high ?? DEFAULTS },
    ...(maxConnectionsPerHost !== undefined && { maxConnectionsPerHost }),
  }
}

function translateThresholds(reader: FieldReader): ThresholdsConfig {
  const maxConnectionPools = reader.number('max_connection_pools')
  const retryBudget = translateBudget(reader.message('retry_budget'))
  return {
    maxConnections: reader.number('max_connections') ?? DEFAULTS.maxConnections,
    maxPendingRequests: reader.number('max_pending_requests') ?? DEFAULTS.maxPendingRequests,
    maxRequests: reader.number('max_requests') ?? DEFAULTS.maxRequests,
    maxRetries: reader.number('max_retries') ?? DEFAULTS.maxRetries,
    ...(retryBudget && { retryBudget }),
    ...(maxConnectionPools !== undefined && { maxConnectionPools }),
    ...(reader.bool('track_remaining') && { trackRemaining: true }),
  }
}

/** `RetryBudget`. */
function translateBudget(reader: FieldReader | undefined): RetryBudgetConfig | undefined {
  if (reader === undefined) return undefined
  const intervalMs = reader.durationMs('budget_interval') ?? 0
  if (intervalMs < 0) reader.error('budget_interval', `must not be negative, is ${intervalMs / 1000}s`)
  const percent = reader.message('budget_percent')
  return {
    percent: percent === undefined ? BUDGET_PERCENT : (percent.number('value') ?? 0),
    minConcurrency: reader.number('min_retry_concurrency') ?? BUDGET_MIN,
    ...(intervalMs > 0 && { intervalMs }),
  }
}
