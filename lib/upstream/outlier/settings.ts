import type { Runtime } from '../../core/metrics.ts'
import { runtimeInteger } from '../../core/runtime-value.ts'
import { OUTLIER_KINDS, type OutlierConfig, type OutlierKind } from './config.ts'
import { kindOfRow, ROW } from './rows.ts'

/** The numbers of a configuration that runtime values may stand in for, and under which key (after `outlier_detection.`). */
const KEYS = Object.freeze({
  intervalMs: 'interval_ms',
  baseEjectionTimeMs: 'base_ejection_time_ms',
  maxEjectionTimeMs: 'max_ejection_time_ms',
  maxEjectionTimeJitterMs: 'max_ejection_time_jitter_ms',
  maxEjectionPercent: 'max_ejection_percent',
  consecutive5xx: 'consecutive_5xx',
  consecutiveGatewayFailure: 'consecutive_gateway_failure',
  consecutiveLocalOriginFailure: 'consecutive_local_origin_failure',
  successRateMinimumHosts: 'success_rate_minimum_hosts',
  successRateRequestVolume: 'success_rate_request_volume',
  successRateStdevFactor: 'success_rate_stdev_factor',
  failurePercentageThreshold: 'failure_percentage_threshold',
  failurePercentageMinimumHosts: 'failure_percentage_minimum_hosts',
  failurePercentageRequestVolume: 'failure_percentage_request_volume',
})

const ENFORCING: Readonly<Record<OutlierKind, string>> = Object.freeze({
  consecutive5xx: 'enforcing_consecutive_5xx',
  consecutiveGatewayFailure: 'enforcing_consecutive_gateway_failure',
  consecutiveLocalOriginFailure: 'enforcing_consecutive_local_origin_failure',
  successRate: 'enforcing_success_rate',
  successRateLocalOrigin: 'enforcing_local_origin_success_rate',
  failurePercentage: 'enforcing_failure_percentage',
  failurePercentageLocalOrigin: 'enforcing_failure_percentage_local_origin',
})

type Key = keyof typeof KEYS

const NUMBERS: readonly Key[] = Object.freeze(Object.keys(KEYS) as Key[])

/**
 * The numbers in force: the configured ones, or those of the runtime (`outlier_detection.consecutive_5xx`). Looked up once
 * an interval, so that a response costs no look-up.
 */
export class OutlierSettings {
  readonly config: OutlierConfig
  readonly #runtime: Runtime
  /** The configured ones themselves, as long as the runtime has none. */
  #numbers: Readonly<Record<Key, number>>
  #enforcing: Readonly<Record<OutlierKind, number>>

  constructor(config: OutlierConfig, runtime: Runtime) {
    this.config = config
    this.#runtime = runtime
    this.#numbers = config
    this.#enforcing = config.enforcing
    this.refresh()
  }

  /** Takes over what the runtime says now. */
  refresh(): void {
    this.#numbers = this.#inForce(NUMBERS, KEYS, this.config)
    this.#enforcing = this.#inForce(OUTLIER_KINDS, ENFORCING, this.config.enforcing)
  }

  #inForce<K extends string>(
    keys: readonly K[],
    names: Readonly<Record<K, string>>,
    configured: Readonly<Record<K, number>>,
  ): Readonly<Record<K, number>> {
    let values: Map<K, number> | undefined
    for (const key of keys) {
      const live = runtimeInteger(this.#runtime, `outlier_detection.${names[key]}`)
      if (live === undefined) continue
      values ??= new Map()
      values.set(key, live)
    }
    return values === undefined ? configured : { ...configured, ...Object.fromEntries(values) }
  }

  of(key: Key): number {
    return this.#numbers[key]
  }

  /** How long a row (`ROW`) may get; 0: as long as it likes. */
  longest(row: number): number {
    if (row === ROW.all5xx) return this.#numbers.consecutive5xx
    if (row === ROW.gateway) return this.#numbers.consecutiveGatewayFailure
    if (row === ROW.local) return this.#numbers.consecutiveLocalOriginFailure
    return this.config.monitors?.[row - ROW.monitors]?.threshold ?? 0
  }

  /** How likely a row that is so long ejects, in percent. */
  enforcingRow(row: number): number {
    const kind = kindOfRow(row)
    if (kind !== 'monitor') return this.enforcing(kind)
    return this.config.monitors?.[row - ROW.monitors]?.enforcing ?? 0
  }

  /** In percent. */
  enforcing(kind: OutlierKind): number {
    return this.#enforcing[kind]
  }
}
