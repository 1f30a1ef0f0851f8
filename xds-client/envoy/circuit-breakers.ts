import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { ThresholdsConfig } from '../../lib/upstream/config.ts'

/** Envoy's defaults for each priority. */
const DEFAULTS: ThresholdsConfig = Object.freeze({
  maxConnections: 1024,
  maxPendingRequests: 1024,
  maxRequests: 1024,
  maxRetries: 3,
})

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
  reader.ignore('retry_budget', 'track_remaining', 'max_connection_pools')
  return {
    maxConnections: reader.number('max_connections') ?? DEFAULTS.maxConnections,
    maxPendingRequests: reader.number('max_pending_requests') ?? DEFAULTS.maxPendingRequests,
    maxRequests: reader.number('max_requests') ?? DEFAULTS.maxRequests,
    maxRetries: reader.number('max_retries') ?? DEFAULTS.maxRetries,
  }
}
