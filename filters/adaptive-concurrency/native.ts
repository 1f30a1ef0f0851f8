import type { FilterFactory } from '../../lib/chain/filter.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { httpStatusName } from '../../lib/core/http-status.ts'
import type { AdaptiveConcurrencyConfig } from './config.ts'
import { adaptiveConcurrencyFilter } from './index.ts'

/** Settings of `adaptiveConcurrency`; limits are those of the whole gateway. */
export interface AdaptiveConcurrencyOptions {
  /** How often the limit is set anew. Default: 100. */
  readonly updateIntervalMs?: number
  /** Default: 1,000. */
  readonly maxLimit?: number
  /** Default: `minConcurrency`. */
  readonly minLimit?: number
  /** The latency of a window that counts. Default: 50. */
  readonly percentile?: number
  /** How often the shortest latency is measured anew. Default: 60,000. */
  readonly minRttIntervalMs?: number
  /** The shortest latency, where it is known and need not be measured. */
  readonly minRttMs?: number
  /** Requests that measure it. Default: 50. */
  readonly requestCount?: number
  /** How many of them at once. Default: 3. */
  readonly minConcurrency?: number
  /** What may come on top of the shortest latency before the limit goes down. Default: 25. */
  readonly bufferPercent?: number
  /** By how much measurements may be late, at random. Default: 15. */
  readonly jitterPercent?: number
  /** Default: 503. */
  readonly status?: number
}

/** A filter as native listeners take it. */
export interface NativeAdaptiveConcurrency {
  readonly factory: FilterFactory<AdaptiveConcurrencyConfig>
  readonly config: JsonObject
}

/**
 * A filter that lets as many requests be under way as latency allows.
 *
 * @example
 * filters: [adaptiveConcurrency({ maxLimit: 500 })]
 */
export function adaptiveConcurrency(options: AdaptiveConcurrencyOptions = {}): NativeAdaptiveConcurrency {
  const { minLimit, minRttMs, status = 503 } = options
  const percent = (value: number): JsonObject => ({ value })
  return {
    factory: adaptiveConcurrencyFilter,
    config: {
      concurrency_limit_exceeded_status: { code: httpStatusName(status) ?? String(status) },
      gradient_controller_config: {
        sample_aggregate_percentile: percent(options.percentile ?? 50),
        concurrency_limit_params: {
          max_concurrency_limit: options.maxLimit ?? 1_000,
          concurrency_update_interval: seconds(options.updateIntervalMs ?? 100),
          ...(minLimit !== undefined && { min_concurrency_limit: minLimit }),
        },
        min_rtt_calc_params: {
          ...(minRttMs === undefined
            ? { interval: seconds(options.minRttIntervalMs ?? 60_000) }
            : { fixed_value: seconds(minRttMs) }),
          request_count: options.requestCount ?? 50,
          jitter: percent(options.jitterPercent ?? 15),
          min_concurrency: options.minConcurrency ?? 3,
          buffer: percent(options.bufferPercent ?? 25),
        },
      },
    },
  }
}

function seconds(ms: number): string {
  return `${ms / 1_000}s`
}
