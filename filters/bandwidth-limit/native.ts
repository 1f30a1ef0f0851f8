import type { FilterFactory } from '../../lib/chain/filter.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { BandwidthLimitConfig } from './config.ts'
import { bandwidthLimitFilter } from './index.ts'

/** Settings of `bandwidthLimit`. */
export interface BandwidthLimitOptions {
  /** In both directions together, for the whole gateway: 1,024 bytes each. */
  readonly kibPerSecond: number
  /** Default: `both`. */
  readonly direction?: 'request' | 'response' | 'both'
  /** How often those that wait are looked at: 20 to 1,000. Default: 50. */
  readonly intervalMs?: number
  /** Responses say in trailers how long bodies took. Default: false. */
  readonly trailers?: boolean
  /** In front of the names of those trailers. Default: ''. */
  readonly trailerPrefix?: string
  /** Name in statistics. Default: `bandwidth`. */
  readonly statPrefix?: string
}

/** A filter as native listeners take it; `config` is what routes take that want a limit of their own. */
export interface NativeBandwidthLimit {
  readonly factory: FilterFactory<BandwidthLimitConfig>
  readonly config: JsonObject
}

const MODES = Object.freeze({ request: 'REQUEST', response: 'RESPONSE', both: 'REQUEST_AND_RESPONSE' })

/**
 * A filter that lets bodies through at a rate that all exchanges share.
 *
 * @example
 * filters: [bandwidthLimit({ kibPerSecond: 10_240, direction: 'response' })]
 */
export function bandwidthLimit(options: BandwidthLimitOptions): NativeBandwidthLimit {
  const { kibPerSecond, direction = 'both', intervalMs = 50, statPrefix = 'bandwidth' } = options
  return {
    factory: bandwidthLimitFilter,
    config: {
      stat_prefix: statPrefix,
      enable_mode: MODES[direction],
      limit_kbps: kibPerSecond,
      fill_interval: `${intervalMs / 1_000}s`,
      enable_response_trailers: options.trailers ?? false,
      response_trailer_prefix: options.trailerPrefix ?? '',
    },
  }
}
