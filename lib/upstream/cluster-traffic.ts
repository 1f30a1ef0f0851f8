import type { Cluster } from '../core/attempt.ts'
import { type CellNames, cellNames, type Metrics, noRuntime } from '../core/metrics.ts'
import type { Http2Stats } from '../http2/contract.ts'
import { http2Stats } from '../http2/stats.ts'
import { type BreakerSource, CircuitBreakers } from './breaker.ts'
import type { ClusterDeps } from './cluster.ts'
import type { ClusterConfig, ThresholdsConfig } from './config.ts'
import type { PoolParts } from './pool.ts'
import { Retrying } from './retries.ts'
import { ClusterStats, MembershipStats } from './stats.ts'
import { TrafficMeter } from './traffic.ts'

/**
 * What a cluster has from its first request on: its cells, circuit breakers and what its pools share. Of 10,000 clusters
 * that a control plane knows most carry nothing.
 */
export class ClusterTraffic implements Disposable {
  readonly stats: ClusterStats
  readonly breakers: CircuitBreakers
  readonly pools: PoolParts
  readonly retries: Retrying
  readonly counters: Cluster['counters']

  constructor(config: ClusterConfig, deps: ClusterDeps, metrics: Metrics) {
    const { statName, retryPolicy: policy } = config
    const stats = new ClusterStats(metrics, statName)
    this.stats = stats
    this.breakers = new CircuitBreakers(metrics, statName, config.thresholds, sourceOf(config, deps))
    let http2: Http2Stats | undefined
    this.pools = {
      config,
      stats,
      breakers: this.breakers,
      wheel: deps.wheel,
      traffic: new TrafficMeter(deps.wheel, stats.cxRxBytesTotal, stats.cxTxBytesTotal),
      random: deps.random,
      get http2Stats(): Http2Stats {
        // As Envoy: these appear with the first connection that needs them.
        http2 ??= http2Stats(metrics, `cluster.${statName}.`)
        return http2
      },
      nextConnectionId: deps.nextConnectionId,
      shedConnect: deps.overload?.poolConnect,
    }
    this.retries = new Retrying({ policy, statName, metrics, stats, breakers: this.breakers })
    this.counters = {
      timeout: stats.rqTimeout,
      retry: stats.rqRetry,
      retrySuccess: stats.rqRetrySuccess,
      cancelled: stats.rqCancelled,
      redirects: { succeeded: stats.redirectSucceeded, failed: stats.redirectFailed },
    }
  }

  /** Its gauges no longer count it. */
  [Symbol.dispose](): void {
    this.breakers[Symbol.dispose]()
  }
}

function sourceOf({ name }: ClusterConfig, { leases, runtime, wheel }: ClusterDeps): BreakerSource | undefined {
  if (leases === undefined) return undefined
  return { name, leases, runtime: runtime ?? noRuntime, now: () => wheel.now() }
}

const MEMBERSHIP = [
  'membershipTotal',
  'membershipHealthy',
  'membershipDegraded',
  'membershipExcluded',
  'membershipChange',
  'updateAttempt',
  'updateSuccess',
  'updateFailure',
  'updateEmpty',
  'updateNoRebuild',
] as const

const SOME: ThresholdsConfig = { maxConnections: 1, maxPendingRequests: 1, maxRequests: 1, maxRetries: 1 }

/** The names of what a cluster counts, behind `cluster.<name>.`: they show before there is any of it. */
export const CLUSTER_CELLS: CellNames = cellNames('cluster..', (metrics) => {
  new ClusterStats(metrics, '')
  const membership = new MembershipStats(metrics, '')
  for (const name of MEMBERSHIP) void membership[name]
  new CircuitBreakers(metrics, '', { default: SOME, high: SOME })
})

/** Whether some of it shows before its first request: a breaker that lets nothing through, or what remains of a limit. */
export function showsFromStart({ thresholds }: ClusterConfig): boolean {
  return [thresholds.default, thresholds.high].some((of) => {
    const least = Math.min(of.maxConnections, of.maxPendingRequests, of.maxRequests, of.maxRetries)
    // Of limits that are none in effect nobody wants to know what remains.
    return least <= 0 || (of.trackRemaining === true && least < NO_LIMIT)
  })
}

const NO_LIMIT = 2 ** 31
