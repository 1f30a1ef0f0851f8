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

/** Requests to one host since the last time: all and good ones, then the same of local origin. */
export type HostCounts = readonly [
  host: string,
  total: number,
  success: number,
  localTotal: number,
  localSuccess: number,
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
  /** So many failures in a row (`OutlierKind`); `enforced`: it has been ejected there, if there was room. */
  | {
      readonly kind: 'detected'
      readonly cluster: number
      readonly host: string
      readonly what: string
      readonly enforced: boolean
    }
  /** The host asked for that time without requests (Retry-After). */
  | { readonly kind: 'evicted'; readonly cluster: number; readonly host: string; readonly forMs: number }
  | { readonly kind: 'counts'; readonly cluster: number; readonly hosts: readonly HostCounts[] }
  | { readonly kind: 'close'; readonly cluster: number }

/** What control tells a worker of the hosts of one of its clusters. */
export interface HealthVerdicts {
  readonly cluster: number
  readonly hosts: readonly HostVerdict[]
}

/** Which hosts of a cluster are ejected, for workers that have not told of them; empty: none any more. */
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
}

/** One cluster's line to whoever judges for the whole gateway. Nothing is heard after it is disposed. */
export interface HealthChannel extends Disposable {
  readonly cluster: number
  /** Lost where nobody is there to hear it: whoever comes next is introduced to everything. */
  tell(report: HealthReport): void
}

/** The way to the process that judges hosts for the whole gateway. */
export interface HealthLink {
  /** The follower tells everything by itself, or is asked to introduce itself when somebody new is there. */
  follow(follower: HealthFollower): HealthChannel
  /** The listener hears of ejections in clusters of that name. */
  listen(cluster: string, listener: EjectionListener): void
  unlisten(cluster: string, listener: EjectionListener): void
  /** The newest of them; undefined: nothing is ejected. */
  ejected(cluster: string): readonly string[] | undefined
}
