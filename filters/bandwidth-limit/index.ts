import type { FilterFactory } from '../../lib/chain/filter.ts'
import { type BandwidthLimitConfig, parseBandwidthLimit, parseRouteBandwidthLimit } from './config.ts'
import { compileBandwidthLimit } from './filter.ts'

/**
 * Lets bodies through at a rate that all exchanges of a configuration share, in both directions together, with at most a
 * second's worth at once. Whoever waits is served in turn. The limit is one for the whole gateway.
 *
 * Posture: robust against untrusted clients and upstreams: what waits is bounded by the buffer limits, under back-pressure;
 * how long it may wait is a matter of the timeouts.
 *
 * Statistics: `<stat_prefix>.http_bandwidth_limit.`, each for `request_` and `response_`: the counters `enabled`, `enforced`,
 * `incoming_total_size`, `allowed_total_size`, the gauges `pending`, `incoming_size`, `allowed_size` and the histogram
 * `transfer_duration`.
 */
export const bandwidthLimitFilter: FilterFactory<BandwidthLimitConfig> = Object.freeze({
  name: 'envoy.filters.http.bandwidth_limit',
  typeUrls: ['envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit'],
  parse: parseBandwidthLimit,
  parseRoute: parseRouteBandwidthLimit,
  compile: compileBandwidthLimit,
})
