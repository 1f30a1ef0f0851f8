import type { Waiter } from '../../core/attempt.ts'
import type { Clock } from '../../core/clock.ts'
import type { Failure } from '../../core/failure.ts'
import type { Log, Metrics } from '../../core/metrics.ts'
import type { AssignmentPolicyConfig } from '../config.ts'
import type { ResolvedEndpoint, ResolvedLocality } from '../host.ts'
import type { MembershipStats } from '../stats.ts'
import type { AssignmentTable } from './assignments.ts'
import type { DnsConfig } from './config.ts'
import type { DnsResolvers } from './dns/resolver.ts'

/** All that is known of a cluster's membership; replaces what was known before. `policy` where it came along. */
export type OnMembership = (localities: readonly ResolvedLocality[], policy?: AssignmentPolicyConfig) => void

/** One endpoint more, which was not there before; of priority 0. */
export type OnEndpoint = (endpoint: ResolvedEndpoint) => void

/** What came of asking for a host: its key (`ResolvedEndpoint.key`), or why there is none. */
export type Demand = string | Failure

/** Finds out which endpoints a cluster has, and tells of changes until it is closed. */
export interface Discovery extends Disposable {
  /**
   * Called once. Resolves, never rejects, when the cluster is warm: every source has answered or failed once, or
   * `close` was called. `onUpdate` may be called any number of times before and after; not at all where nothing answers.
   * `onEndpoint` is for discoveries that grow by one at a time.
   */
  start(onUpdate: OnMembership, onEndpoint: OnEndpoint): Promise<void>
  /**
   * On-demand discovery (dynamic forward proxy, original destination) alone: makes the host of that name known, and answers
   * the key it goes by, or why there is none; a promise where it has to ask for it first. Whoever waits for that counts
   * until it is there, or `waiter` has gone; `nobody`: nobody waits.
   */
  demand?(name: string, port: number, waiter?: Waiter | 'nobody'): Demand | Promise<Demand>
  /** No update comes after it. Idempotent; the same as disposing. */
  close(): void
}

export interface DiscoveryOptions {
  readonly clock: Clock
  /** In [0, 1). */
  readonly random: () => number
  readonly log: Log
  /** Counts attempts, successes and failures under Envoy's names. */
  readonly stats: Pick<
    MembershipStats,
    'updateAttempt' | 'updateSuccess' | 'updateFailure' | 'updateEmpty' | 'updateNoRebuild'
  >
  /** For what has names of its own (DNS caches); undefined: nobody sees it. */
  readonly metrics?: Metrics
  /** Shared by the clusters of a process; not closed by a discovery. */
  readonly dns: DnsResolvers
  /** Undefined: clusters of type `eds` have no endpoints. */
  readonly assignments?: AssignmentTable
}

/** Envoy's defaults, for DNS clusters whose configuration says nothing. */
export const DEFAULT_DNS: DnsConfig = Object.freeze({
  refreshMs: 5_000,
  failureRefreshMs: 5_000,
  failureRefreshMaxMs: 5_000,
  jitterMs: 0,
  respectTtl: false,
  family: 'auto',
  resolvers: [],
})
