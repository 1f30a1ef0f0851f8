import type { Counter, Gauge, Metrics } from '../../core/metrics.ts'

/** The cells of one cluster, `cluster.<name>.health_check.*`; gauges are shared with a successor and move by differences. */
export class HealthCheckStats {
  readonly attempt: Counter
  readonly success: Counter
  readonly failure: Counter
  readonly passiveFailure: Counter
  readonly networkFailure: Counter
  readonly verifyCluster: Counter
  readonly healthy: Gauge
  readonly degraded: Gauge

  constructor(metrics: Metrics, statName: string) {
    const prefix = `cluster.${statName}.health_check.`
    this.attempt = metrics.counter(`${prefix}attempt`)
    this.success = metrics.counter(`${prefix}success`)
    this.failure = metrics.counter(`${prefix}failure`)
    this.passiveFailure = metrics.counter(`${prefix}passive_failure`)
    this.networkFailure = metrics.counter(`${prefix}network_failure`)
    this.verifyCluster = metrics.counter(`${prefix}verify_cluster`)
    this.healthy = metrics.gauge(`${prefix}healthy`)
    this.degraded = metrics.gauge(`${prefix}degraded`)
  }
}
