import type { Counter, Gauge, Metrics } from '../../core/metrics.ts'

/** What a DNS cache counts, under Envoy's names (`dns_cache.<name>.`). Caches of the same name add up. */
export interface DnsCacheStats {
  readonly queryAttempt: Counter
  readonly querySuccess: Counter
  readonly queryFailure: Counter
  readonly queryTimeout: Counter
  readonly hostAddressChanged: Counter
  readonly hostAdded: Counter
  readonly hostRemoved: Counter
  readonly hostOverflow: Counter
  readonly pendingOverflow: Counter
  /** Names that were known from before. */
  readonly cacheLoad: Counter
  /** Moved by differences. */
  readonly hosts: Gauge
  readonly pendingOpen: Gauge
}

export function dnsCacheStats(metrics: Metrics, name: string): DnsCacheStats {
  const prefix = `dns_cache.${name}.`
  return {
    queryAttempt: metrics.counter(`${prefix}dns_query_attempt`),
    querySuccess: metrics.counter(`${prefix}dns_query_success`),
    queryFailure: metrics.counter(`${prefix}dns_query_failure`),
    queryTimeout: metrics.counter(`${prefix}dns_query_timeout`),
    hostAddressChanged: metrics.counter(`${prefix}host_address_changed`),
    hostAdded: metrics.counter(`${prefix}host_added`),
    hostRemoved: metrics.counter(`${prefix}host_removed`),
    hostOverflow: metrics.counter(`${prefix}host_overflow`),
    cacheLoad: metrics.counter(`${prefix}cache_load`),
    pendingOverflow: metrics.counter(`${prefix}dns_rq_pending_overflow`),
    hosts: metrics.gauge(`${prefix}num_hosts`),
    pendingOpen: metrics.gauge(`${prefix}circuit_breakers.rq_pending_open`),
  }
}

const SILENT: Metrics = Object.freeze({
  has: () => false,
  counter: () => ({ v: 0 }),
  gauge: () => ({ v: 0 }),
  histogram: () => ({ record() {} }),
})

/** Of a cache without a name: nobody sees them. */
export function unnamedCacheStats(): DnsCacheStats {
  return dnsCacheStats(SILENT, '')
}
