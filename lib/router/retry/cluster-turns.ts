import type { Cluster, ClusterRetries } from '../../core/attempt.ts'
import type { RetryPolicyConfig } from '../../core/retry-policy.ts'
import type { ForwardingStart } from '../attempt.ts'
import type { CompiledRoute } from '../route.ts'

/**
 * Where the tries of one request go, if each goes to another cluster of a weighted choice (Envoy's
 * `refresh_cluster_on_retry`). The changes that the first cluster meant for the request's fields stay as they are.
 */
export class ClusterTurns {
  readonly #start: ForwardingStart
  readonly #used = new Set<number>()
  /** With the cluster of the next try. */
  route: CompiledRoute<unknown>
  /** Of the next try; undefined: it is not there. */
  cluster: Cluster | undefined

  constructor(start: ForwardingStart) {
    this.#start = start
    this.route = start.route
    this.cluster = start.cluster
  }

  /** Undefined where retries stay where they are, or the route has one cluster alone. */
  static of({ otherClusters }: RetryPolicyConfig, start: ForwardingStart): ClusterTurns | undefined {
    const { place } = start.route
    return otherClusters !== true || place === undefined || place.group.size < 2 ? undefined : new ClusterTurns(start)
  }

  /** A try begins: answers its cluster, and notes it; undefined: it is not there, and the try is counted as made. */
  enter(): Cluster | undefined {
    const { info } = this.#start.exchange
    info.upstreamCluster = this.cluster?.name ?? ''
    if (this.cluster === undefined) info.attempts++
    return this.cluster
  }

  /** Goes to the next one; answers what it permits of retries. */
  turn(): ClusterRetries | undefined {
    const { place } = this.route
    if (place === undefined) return undefined
    this.#used.add(place.index)
    // Each has had its turn: from here on all of them count again, the latest among them.
    if (this.#used.size === place.group.size) this.#used.clear()
    const { exchange, router } = this.#start
    this.route = place.group.another(exchange, this.#used) ?? this.route
    this.cluster = this.route.cluster === '' ? undefined : router.clusters.get(this.route.cluster)
    return this.cluster?.retries
  }
}
