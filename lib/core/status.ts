import type { Address } from './address.ts'
import type { CellNames } from './metrics.ts'

/** Plain data, so that control can merge several workers' answers. */
export interface EngineStatus {
  readonly listeners: readonly ListenerStatus[]
  readonly clusters: readonly ClusterStatus[]
}

export interface ListenerStatus {
  readonly name: string
  /** As bound: the real port where the configuration said 0. */
  readonly addresses: readonly Address[]
}

export interface ClusterStatus {
  readonly name: string
  /** Its name in statistics, where that is another one. */
  readonly statName?: string
  readonly thresholds: readonly {
    readonly priority: 'default' | 'high'
    readonly maxConnections: number
    readonly maxPendingRequests: number
    readonly maxRequests: number
    readonly maxRetries: number
  }[]
  /** Undefined: it has no outlier detection. */
  readonly outlier?: OutlierFigures
  readonly hosts: readonly HostStatus[]
}

/** What the hosts of one origin came to in the last interval of outlier detection, in percent; -1: too little traffic to say. */
export interface RateFigures {
  readonly average: number
  /** Hosts below it are ejected. */
  readonly threshold: number
}

/** `local`: of use only where local failures are told apart. */
export interface OutlierFigures {
  readonly external: RateFigures
  readonly local: RateFigures
}

/** Success rates of one host in that interval. */
export interface HostRates {
  readonly external: number
  readonly local: number
}

export interface HostStatus {
  /** `10.0.0.1:80` */
  readonly address: string
  readonly hostname: string
  readonly weight: number
  readonly priority: number
  readonly region: string
  readonly zone: string
  readonly subZone: string
  /** Envoy's health flags: `healthy`, or `/failed_eds_health` and the like. */
  readonly health: string
  /** Undefined: there is no outlier detection. */
  readonly rates?: HostRates
  /** Counters and gauges: cx_active, cx_connect_fail, cx_total, rq_active, rq_error, rq_success, rq_timeout, rq_total. */
  readonly stats: Readonly<Record<string, number>>
}

/** What the hosts of one cluster have counted since it was asked last, in one process or in several added up. */
export interface ClusterLoad {
  readonly name: string
  /** Requests that were not sent anywhere: limits were reached, the cluster was in maintenance mode, or a share is dropped. */
  readonly dropped: number
  /** Those of them that were dropped on purpose (`drop_overload`), by category; undefined: none. */
  readonly drops?: readonly (readonly [category: string, count: number])[]
  /** Hosts that counted something, or carry requests. */
  readonly hosts: readonly HostLoad[]
}

/** Differences since the last time, but `active`, which is as it is now. A request that was issued ends as success or error. */
export interface HostLoad {
  /** As `HostStatus.address`. */
  readonly address: string
  readonly priority: number
  readonly region: string
  readonly zone: string
  readonly subZone: string
  readonly issued: number
  readonly success: number
  readonly error: number
  readonly active: number
}

export interface MetricsSnapshot {
  readonly counters: readonly (readonly [name: string, value: number])[]
  readonly gauges: readonly (readonly [name: string, value: number])[]
  readonly histograms: readonly HistogramSnapshot[]
  /** Envoy's text readouts; undefined: there are none. */
  readonly texts?: readonly (readonly [name: string, text: string])[]
}

/** What has changed in a process's statistics since it was asked last: counters and histograms as differences, gauges as values. */
export interface MetricsChange extends MetricsSnapshot {
  /** Everything, and not what has changed. */
  readonly full: boolean
  /** Names that no longer exist there. */
  readonly gone: readonly string[]
  /** Tables of names, by the numbers that `declared` calls them by, as far as they have not been told. */
  readonly tables: readonly (readonly [table: number, names: CellNames])[]
  /** Names that exist with the value 0 as long as nothing else is told of them. */
  readonly declared: readonly (readonly [prefix: string, table: number])[]
  readonly undeclared: readonly string[]
}

export interface HistogramSnapshot {
  readonly name: string
  readonly count: number
  readonly sum: number
  /** Upper bounds and the number of values at or below each (cumulative). */
  readonly bounds: readonly number[]
  readonly cumulative: readonly number[]
}
