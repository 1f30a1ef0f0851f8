import type { FilterFactory } from '../../lib/chain/filter.ts'
import { type AdaptiveConcurrencyConfig, parseAdaptiveConcurrency } from './config.ts'
import { compileAdaptiveConcurrency } from './filter.ts'

/**
 * Lets as many requests be under way at once as the upstreams can take, which it finds out by how their latency moves, and
 * answers the others with 503. Health checks pass and are not measured.
 *
 * Posture: robust against untrusted clients, but slow ones lengthen what is measured: a response counts until its last byte
 * has gone.
 *
 * Statistics: `http.<stat_prefix>.adaptive_concurrency.gradient_controller.`: the counter `rq_blocked` and the gauges
 * `concurrency_limit`, `gradient` (times 1,000), `burst_queue_size`, `min_rtt_calculation_active`, `min_rtt_msecs`,
 * `sample_rtt_msecs`.
 */
export const adaptiveConcurrencyFilter: FilterFactory<AdaptiveConcurrencyConfig> = Object.freeze({
  name: 'envoy.filters.http.adaptive_concurrency',
  typeUrls: ['envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency'],
  routeTypeUrls: [],
  parse: parseAdaptiveConcurrency,
  compile: compileAdaptiveConcurrency,
})
