import { type CellNames, type Counter, cellNames, type Gauge, type Metrics } from '../../core/metrics.ts'
import { OUTLIER_KINDS, type OutlierKind } from './config.ts'

/** How Envoy's statistics call what ejects. */
const NAMES: Readonly<Record<OutlierKind, string>> = Object.freeze({
  consecutive5xx: 'consecutive_5xx',
  consecutiveGatewayFailure: 'consecutive_gateway_failure',
  consecutiveLocalOriginFailure: 'consecutive_local_origin_failure',
  successRate: 'success_rate',
  successRateLocalOrigin: 'local_origin_success_rate',
  failurePercentage: 'failure_percentage',
  failurePercentageLocalOrigin: 'local_origin_failure_percentage',
})

/** The cells of one cluster, `cluster.<name>.outlier_detection.*`; shared by name with a successor. */
export class OutlierStats {
  readonly active: Gauge
  /** Those above the permitted percentage, which did not happen. */
  readonly overflow: Counter
  readonly enforcedTotal: Counter
  /** Deprecated in Envoy: detections by 5xx and success rate. */
  readonly total: Counter
  readonly consecutive5xx: Counter
  readonly successRate: Counter
  /** Hosts that have called themselves degraded. */
  readonly degradation: Counter
  readonly detected: Readonly<Record<OutlierKind, Counter>>
  readonly enforced: Readonly<Record<OutlierKind, Counter>>

  constructor(metrics: Metrics, statName: string) {
    const prefix = `cluster.${statName}.outlier_detection.ejections_`
    this.active = metrics.gauge(`${prefix}active`)
    this.overflow = metrics.counter(`${prefix}overflow`)
    this.enforcedTotal = metrics.counter(`${prefix}enforced_total`)
    this.total = metrics.counter(`${prefix}total`)
    this.consecutive5xx = metrics.counter(`${prefix}consecutive_5xx`)
    this.successRate = metrics.counter(`${prefix}success_rate`)
    this.degradation = metrics.counter(`${prefix}detected_degradation`)
    const each = (word: string): Record<OutlierKind, Counter> => {
      const entries = OUTLIER_KINDS.map((kind) => [kind, metrics.counter(`${prefix}${word}_${NAMES[kind]}`)] as const)
      return Object.fromEntries(entries) as Record<OutlierKind, Counter>
    }
    this.detected = each('detected')
    this.enforced = each('enforced')
  }
}

/** The names behind `cluster.<name>.`: they show before anything is detected. */
export const OUTLIER_CELLS: CellNames = cellNames('cluster..', (metrics) => {
  new OutlierStats(metrics, '')
})
