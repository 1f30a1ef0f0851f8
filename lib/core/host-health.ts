import type { JsonObject } from './errors.ts'

/** What control knows of one host: which flags stand against it, and since when. */
export interface HostVerdict {
  /** `Host.key`, unique within its cluster. */
  readonly host: string
  /** Of checks and outlier detection alone: bits of `HEALTH` in `lib/upstream`. */
  readonly flags: number
  /** A check has answered, or failed, once. */
  readonly checked: boolean
  readonly ejection?: EjectionState
  /** It has called itself degraded, and is for that long; its next time is longer by `backoff`. */
  readonly degradation?: Pick<EjectionState, 'backoff' | 'leftMs'>
}

/** How outlier detection has dealt with a host. */
export interface EjectionState {
  /** How often it was ejected. */
  readonly count: number
  /** What the next ejection's time is multiplied by, less one. */
  readonly backoff: number
  /** Of the ejection that is on; 0: it is over at the next sweep, or none is on. */
  readonly leftMs: number
}

/** A host as a worker tells of it. */
export interface ReportedHost {
  readonly host: string
  readonly priority: number
  /** As configured or resolved; what checks need of it. */
  readonly endpoint: JsonObject
  readonly locality?: JsonObject
  readonly localityMetadata?: JsonObject
  /** From an earlier control process: what holds until something else is found. */
  readonly known?: HostVerdict
}

/**
 * Requests to one host since the last time: all and good ones, then the same of local origin. Times are milliseconds ago, for
 * clocks of processes begin when they do.
 */
export type HostCounts = readonly [
  host: string,
  total: number,
  success: number,
  localTotal: number,
  localSuccess: number,
  /** The last good one of any origin; -1: there was none. */
  goodAgoMs: number,
  /** Undefined: nothing has failed. */
  runs?: readonly HostRun[],
]

/** What a worker has to say of failures in a row of one kind, at one host, since the last time. */
export type HostRun = readonly [
  /** Which of the rows that are counted (`lib/upstream/outlier/rows.ts`). */
  row: number,
  /** As far as nothing good has come after them. */
  failures: number,
  /** The first of them. */
  failedAgoMs: number,
  /** The last response that ended a row of this kind and is no good one; -1: there was none. */
  brokenAgoMs: number,
]

/** What workers tell control of their clusters; plain JSON. `cluster` is a number that the worker gave it. */
export type HealthReport =
  /** `config` without its endpoints. */
  | { readonly kind: 'open'; readonly cluster: number; readonly config: JsonObject; readonly traffic: boolean }
  /** The same cluster with other certificates. */
  | { readonly kind: 'renew'; readonly cluster: number; readonly config: JsonObject }
  /** `size`: hosts of the cluster, whether they are told of or not. */
  | {
      readonly kind: 'hosts'
      readonly cluster: number
      readonly size: number
      readonly set: readonly ReportedHost[]
      readonly remove: readonly string[]
    }
  /** It has had a connection. */
  | { readonly kind: 'traffic'; readonly cluster: number }
  /** A response said `x-envoy-immediate-health-check-fail`. */
  | { readonly kind: 'check-failed'; readonly cluster: number; readonly host: string }
  /**
   * So many failures in a row were seen there; `enforced`: it has been ejected, if there was room. `failures`: those that
   * have not been told of.
   */
  | {
      readonly kind: 'detected'
      readonly cluster: number
      readonly host: string
      readonly row: number
      readonly failures: number
      readonly enforced: boolean
    }
  /** The host asked for that time without requests (Retry-After). */
  /** A response said `x-envoy-degraded`. */
  | { readonly kind: 'degraded'; readonly cluster: number; readonly host: string }
  | { readonly kind: 'evicted'; readonly cluster: number; readonly host: string; readonly forMs: number }
  | { readonly kind: 'counts'; readonly cluster: number; readonly hosts: readonly HostCounts[] }
  /** All that was to be told of a host that control asked for has been. */
  | { readonly kind: 'answered'; readonly cluster: number; readonly host: string }
  | { readonly kind: 'close'; readonly cluster: number }

/** The weight that follows from what a host reports of its load, and for how many milliseconds there have been reports. */
export type HostWeight = readonly [host: string, weight: number, forMs: number]

/** What control tells a worker of the hosts of one of its clusters. */
export interface HealthVerdicts {
  readonly cluster: number
  readonly hosts: readonly HostVerdict[]
  /** Keys of hosts of which the worker is to tell now what it has counted. */
  readonly asked?: readonly string[]
  /** Of hosts that are asked for their load. */
  readonly weights?: readonly HostWeight[]
}

/** Which hosts of a cluster are ejected or degraded, for workers that have not told of them; empty: none any more. */
export interface EjectionNews {
  /** Its name. */
  readonly cluster: string
  /** Keys. */
  readonly hosts: readonly string[]
}

/** A cluster that may not have told of its hosts. */
export interface EjectionListener {
  ejectedElsewhere(hosts: readonly string[]): void
}

/** A cluster whose hosts somebody else judges. */
export interface HealthFollower {
  /** All there is to know of it, for whoever knows nothing yet; nothing where there is nothing to judge so far. */
  introduce(cluster: number): Iterable<HealthReport>
  heard(verdict: HostVerdict): void
  /** Tells now what has been counted of a host, and that this is all. */
  asked(host: string): void
  /** A host has reported its load. */
  weighed(weight: HostWeight): void
}

/** One cluster's line to whoever judges for the whole gateway. Nothing is heard after it is disposed. */
export interface HealthChannel extends Disposable {
  readonly cluster: number
  /** Lost where nobody is there to hear it: whoever comes next is introduced to everything. */
  tell(report: HealthReport): void
}

/** The way to the process that judges hosts for the whole gateway. */
export interface HealthLink {
  /** Somebody is there and listens. */
  readonly heard: boolean
  /** More has been told than has left: what can wait should. */
  readonly crowded: boolean
  /** The follower tells everything by itself, or is asked to introduce itself when somebody new is there. */
  follow(follower: HealthFollower): HealthChannel
  /** The listener hears of ejections in clusters of that name. */
  listen(cluster: string, listener: EjectionListener): void
  unlisten(cluster: string, listener: EjectionListener): void
  /** The newest of them; undefined: nothing is ejected. */
  ejected(cluster: string): readonly string[] | undefined
}
