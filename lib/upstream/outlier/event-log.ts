import type { Clock } from '../../core/clock.ts'
import type { JsonObject } from '../../core/errors.ts'
import type { SinkLease } from '../../telemetry/sinks/registry.ts'
import type { OutlierKind } from './config.ts'
import type { OutlierMonitor } from './monitor.ts'
import type { RateVerdict } from './rates.ts'

/** `OutlierEjectionType` of Envoy's event. */
const TYPES: Readonly<Record<OutlierKind, string>> = Object.freeze({
  consecutive5xx: 'CONSECUTIVE_5XX',
  consecutiveGatewayFailure: 'CONSECUTIVE_GATEWAY_FAILURE',
  consecutiveLocalOriginFailure: 'CONSECUTIVE_LOCAL_ORIGIN_FAILURE',
  successRate: 'SUCCESS_RATE',
  successRateLocalOrigin: 'SUCCESS_RATE_LOCAL_ORIGIN',
  failurePercentage: 'FAILURE_PERCENTAGE',
  failurePercentageLocalOrigin: 'FAILURE_PERCENTAGE_LOCAL_ORIGIN',
})

/** An ejection as it is logged. */
export interface EjectionEvent {
  readonly monitor: OutlierMonitor
  readonly kind: OutlierKind | 'monitor'
  /** Undefined for failures in a row. */
  readonly verdict: RateVerdict | undefined
  readonly enforced: boolean
}

/** Writes `envoy.data.cluster.v3.OutlierDetectionEvent`, a line of JSON each. */
export class OutlierEventLog implements Disposable {
  readonly #cluster: string
  readonly #clock: Clock
  readonly #sink: SinkLease

  constructor(cluster: string, clock: Clock, sink: SinkLease) {
    this.#cluster = cluster
    this.#clock = clock
    this.#sink = sink
  }

  ejected({ monitor, kind, verdict, enforced }: EjectionEvent): void {
    this.#write({
      // Envoy's list has no name for it.
      type: kind === 'monitor' ? 'EXTENSION' : TYPES[kind],
      ...this.#about(monitor, monitor.unejectedAtMs),
      action: 'EJECT',
      num_ejections: monitor.ejections,
      enforced,
      ...details(kind, verdict),
    })
  }

  /** No event of Envoy's: the host asked for it. */
  evicted(monitor: OutlierMonitor): void {
    this.#write({
      type: 'RETRY_AFTER',
      ...this.#about(monitor, monitor.unejectedAtMs),
      action: 'EJECT',
      num_ejections: monitor.ejections,
      enforced: true,
      eject_retry_after_event: { retry_after_ms: monitor.fixedMs },
    })
  }

  degraded(monitor: OutlierMonitor): void {
    this.#write({
      type: 'DEGRADED',
      ...this.#about(monitor, undefined),
      action: 'EJECT',
      num_ejections: monitor.ejections,
      enforced: true,
      eject_consecutive_event: {},
    })
  }

  /** Of an ejection, or of a time as degraded: Envoy's events are the same. */
  unejected(monitor: OutlierMonitor, sinceMs: number | undefined): void {
    this.#write({
      type: 'CONSECUTIVE_5XX',
      ...this.#about(monitor, sinceMs),
      action: 'UNEJECT',
      num_ejections: monitor.ejections,
      enforced: false,
    })
  }

  #about(monitor: OutlierMonitor, lastMs: number | undefined): JsonObject {
    return {
      cluster_name: this.#cluster,
      upstream_url: monitor.host.addressText,
      timestamp: new Date(this.#clock.wall()).toISOString(),
      ...(lastMs !== undefined && { secs_since_last_action: String(Math.trunc((this.#clock.now() - lastMs) / 1000)) }),
    }
  }

  #write(event: JsonObject): void {
    this.#sink.write(`${JSON.stringify(event)}\n`)
  }

  [Symbol.dispose](): void {
    this.#sink[Symbol.dispose]()
  }
}

function details(kind: OutlierKind | 'monitor', verdict: RateVerdict | undefined): JsonObject {
  if (verdict === undefined) return { eject_consecutive_event: {} }
  const host_success_rate = Math.trunc(verdict.rate)
  if (kind === 'failurePercentage' || kind === 'failurePercentageLocalOrigin') {
    return { eject_failure_percentage_event: { host_success_rate } }
  }
  return {
    eject_success_rate_event: {
      host_success_rate,
      cluster_average_success_rate: Math.trunc(verdict.mean),
      cluster_success_rate_ejection_threshold: Math.trunc(verdict.threshold),
    },
  }
}
