import type { PickContext, UpstreamHost, Waiter } from '../../core/attempt.ts'
import type { Failure } from '../../core/failure.ts'
import type { UpstreamCluster } from '../cluster.ts'
import type { ClusterConfig } from '../config.ts'

/**
 * Finds the host of a request for a cluster whose balancer does not: one whose hosts are named by requests, or are those of
 * other clusters.
 */
export interface Chooser {
  /** As `Cluster.prepare`; undefined: there is never anything to wait for. */
  prepare?(context: PickContext, waiter?: Waiter): Failure | undefined | Promise<Failure | undefined>
  pick(context: PickContext): UpstreamHost | Failure
  /** Resolves, never rejects, when what can be made ahead of requests is there; undefined: nothing can. */
  start?(): Promise<void>
  /** Where hosts are those of other clusters; undefined: they are the cluster's own. */
  readonly others?: OtherClusters
}

/** The clusters whose hosts a chooser picks. */
export interface OtherClusters {
  /** Whose host it is, which a `pick` has answered a moment ago; undefined: it has gone with its cluster. */
  ownerOf(host: UpstreamHost): UpstreamCluster | undefined
  /** Some of them have hosts that requests name. */
  readonly forwards?: boolean
  health(): { healthy: number; degraded: number; total: number }
  /** Those that live and end with the cluster itself. */
  readonly owned: readonly UpstreamCluster[]
  /** As `UpstreamCluster.renew`, for those that are owned. */
  renew?(config: ClusterConfig): void
  /** No more of them are made. */
  close(): void
}
