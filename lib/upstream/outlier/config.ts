/** Outlier detection of one cluster (Envoy's `config.cluster.v3.OutlierDetection`), every default filled in. */
export interface OutlierConfig {
  /** How often rates are judged and ejections looked at. */
  readonly intervalMs: number
  /** Times the number of ejections in a row, at most `maxEjectionTimeMs`. */
  readonly baseEjectionTimeMs: number
  readonly maxEjectionTimeMs: number
  /** Up to this is added to each ejection by chance. */
  readonly maxEjectionTimeJitterMs: number
  /** Of the cluster's hosts, those ejected. */
  readonly maxEjectionPercent: number
  /** One host may be ejected however small the cluster is. */
  readonly alwaysEjectOneHost: boolean
  /** In a row; of `consecutiveLocalOriginFailure` only where local failures are told apart. */
  readonly consecutive5xx: number
  readonly consecutiveGatewayFailure: number
  readonly consecutiveLocalOriginFailure: number
  /** Failures to connect and timeouts are counted by themselves, and not as 503 and 504. */
  readonly splitExternalLocalOriginErrors: boolean
  readonly successRateMinimumHosts: number
  readonly successRateRequestVolume: number
  /** In thousandths: 1,900 is 1.9 standard deviations below the mean. */
  readonly successRateStdevFactor: number
  readonly failurePercentageThreshold: number
  readonly failurePercentageMinimumHosts: number
  readonly failurePercentageRequestVolume: number
  /** By what was detected: the percentage of detections that eject. */
  readonly enforcing: Readonly<Record<OutlierKind, number>>
  /** Hosts whose answers have `x-envoy-degraded` count as degraded for as long as they would be ejected. */
  readonly detectDegradedHosts?: boolean
  /** A host that passes an active check is not ejected any longer. */
  readonly uneject: boolean
  /** A line of JSON for each ejection and its end; undefined: none. */
  readonly eventLogPath?: string
  /** Rows of failures besides; undefined: none. */
  readonly monitors?: readonly OutlierMonitorConfig[]
  /** Hosts that ask to be left alone for a while are; undefined: nobody looks for it (Envoy). */
  readonly retryAfter?: RetryAfterConfig
}

/** Ejection by what a response says of the time to wait: Retry-After, `retry-after-ms`, `x-ratelimit-reset`. */
export interface RetryAfterConfig {
  /** Of the responses that are looked at: 429 and 503, or one of them. */
  readonly statuses: readonly number[]
  /** A longer time counts as this. */
  readonly maxMs: number
}

/** A row of failures of one's own choice (Envoy's `ConsecutiveErrors`). What it is not about leaves it as it is. */
export interface OutlierMonitorConfig {
  readonly name: string
  /** So many in a row. */
  readonly threshold: number
  /** In percent. */
  readonly enforcing: number
  /** From the first up to the last of these statuses is a failure, any other ends the row; empty: not about responses. */
  readonly statuses: readonly (readonly [first: number, last: number])[]
  /** What keeps a response from coming is a failure, and any response ends the row. */
  readonly localOrigin: boolean
}

/** What ejects a host. */
export type OutlierKind =
  | 'consecutive5xx'
  | 'consecutiveGatewayFailure'
  | 'consecutiveLocalOriginFailure'
  | 'successRate'
  | 'successRateLocalOrigin'
  | 'failurePercentage'
  | 'failurePercentageLocalOrigin'

export const OUTLIER_KINDS: readonly OutlierKind[] = Object.freeze([
  'consecutive5xx',
  'consecutiveGatewayFailure',
  'consecutiveLocalOriginFailure',
  'successRate',
  'successRateLocalOrigin',
  'failurePercentage',
  'failurePercentageLocalOrigin',
])

/** Envoy's defaults, for a cluster that has outlier detection and says no more. */
export const ENVOY_OUTLIER: OutlierConfig = Object.freeze({
  intervalMs: 10_000,
  baseEjectionTimeMs: 30_000,
  maxEjectionTimeMs: 300_000,
  maxEjectionTimeJitterMs: 0,
  maxEjectionPercent: 10,
  alwaysEjectOneHost: false,
  consecutive5xx: 5,
  consecutiveGatewayFailure: 5,
  consecutiveLocalOriginFailure: 5,
  splitExternalLocalOriginErrors: false,
  successRateMinimumHosts: 5,
  successRateRequestVolume: 100,
  successRateStdevFactor: 1_900,
  failurePercentageThreshold: 85,
  failurePercentageMinimumHosts: 5,
  failurePercentageRequestVolume: 50,
  enforcing: Object.freeze({
    consecutive5xx: 100,
    consecutiveGatewayFailure: 0,
    consecutiveLocalOriginFailure: 100,
    successRate: 100,
    successRateLocalOrigin: 100,
    failurePercentage: 0,
    failurePercentageLocalOrigin: 0,
  }),
  uneject: true,
})

/** Of the native configuration: five failures in a row, of either origin, and back soon; no rates. */
export const EDGE_OUTLIER: OutlierConfig = Object.freeze({
  ...ENVOY_OUTLIER,
  intervalMs: 500,
  baseEjectionTimeMs: 1_000,
  maxEjectionTimeMs: 30_000,
  maxEjectionPercent: 50,
  enforcing: Object.freeze({ ...ENVOY_OUTLIER.enforcing, successRate: 0, successRateLocalOrigin: 0 }),
})
