import type { ClusterConfig } from '../config.ts'
import type { Discovery, DiscoveryOptions, OnMembership } from './discovery.ts'

/**
 * EDS: the endpoints of an assignment that somebody else delivers. Without one there are no hosts, and the cluster is warm
 * all the same: whoever delivers waits for the first before the cluster is used.
 */
export class EdsDiscovery implements Discovery {
  readonly #name: string
  readonly #assignments: DiscoveryOptions['assignments']
  readonly #stats: DiscoveryOptions['stats']
  #unfollow: (() => void) | undefined = undefined

  constructor(config: ClusterConfig, { assignments, stats }: DiscoveryOptions) {
    this.#name = config.assignment ?? config.name
    this.#assignments = assignments
    this.#stats = stats
  }

  start(onUpdate: OnMembership): Promise<void> {
    const stats = this.#stats
    this.#unfollow = this.#assignments?.follow(this.#name, (assignment) => {
      if (assignment !== undefined) {
        stats.updateSuccess.v++
        if (assignment.localities.length === 0) stats.updateEmpty.v++
      }
      onUpdate(assignment?.localities ?? [], assignment?.policy)
    })
    return Promise.resolve()
  }

  close(): void {
    this.#unfollow?.()
    this.#unfollow = undefined
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
