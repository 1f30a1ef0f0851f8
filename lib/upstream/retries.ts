import type { ClusterRetries, RoutingPriority } from '../core/attempt.ts'
import type { Metrics } from '../core/metrics.ts'
import type { RetryPolicyConfig } from '../core/retry-policy.ts'
import type { CircuitBreakers } from './breaker.ts'
import { type ClusterStats, StatusCounters } from './stats.ts'

/** What a cluster's retries are made of. */
export interface RetryParts {
  readonly policy: RetryPolicyConfig | undefined
  readonly statName: string
  readonly metrics: Metrics
  readonly stats: ClusterStats
  readonly breakers: CircuitBreakers
}

/** The retries of one cluster: their room among its circuit breakers, and their cells. */
export class Retrying implements ClusterRetries {
  readonly policy: RetryPolicyConfig | undefined
  readonly counters: ClusterRetries['counters']
  readonly #parts: RetryParts
  #replaced: StatusCounters | undefined = undefined

  constructor(parts: RetryParts) {
    const { stats } = parts
    this.policy = parts.policy
    this.#parts = parts
    this.counters = {
      retry: stats.rqRetry,
      success: stats.rqRetrySuccess,
      limitExceeded: stats.rqRetryLimitExceeded,
      backOffExponential: stats.rqRetryBackOffExponential,
      backOffRateLimited: stats.rqRetryBackOffRateLimited,
      abandoned: stats.retryOrShadowAbandoned,
      perTryTimeout: stats.rqPerTryTimeout,
      perTryIdleTimeout: stats.rqPerTryIdleTimeout,
    }
  }

  tryAcquire(priority: RoutingPriority): boolean {
    return this.#parts.breakers.of(priority).retries.tryAcquire()
  }

  release(priority: RoutingPriority): void {
    this.#parts.breakers.of(priority).retries.release()
  }

  /** Under `retry.upstream_rq_503` and so on, which appear with the first of them (as Envoy's). */
  replaced(status: number): void {
    const { metrics, statName } = this.#parts
    this.#replaced ??= new StatusCounters(metrics, `cluster.${statName}.retry.upstream_rq`)
    this.#replaced.count(status)
  }
}
