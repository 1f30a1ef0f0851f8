import { createHash } from 'node:crypto'
import type { Cluster, Clusters } from '../core/attempt.ts'
import { type ClusterDeps, UpstreamCluster } from './cluster.ts'
import type { ClusterConfig } from './config.ts'

interface Entry {
  readonly hash: string
  readonly cluster: UpstreamCluster
}

/**
 * The clusters of one snapshot, by name; immutable. The next snapshot's set takes over every cluster whose configuration
 * is unchanged, with its pools and counts.
 */
export class ClusterSet implements Clusters {
  readonly #byName: ReadonlyMap<string, Entry>

  private constructor(byName: ReadonlyMap<string, Entry>) {
    this.#byName = byName
  }

  static readonly empty: ClusterSet = new ClusterSet(new Map())

  /** Names are unique (checked when configuration is validated). New clusters are made, not yet warmed. */
  next(configs: readonly ClusterConfig[], deps: ClusterDeps): ClusterSet {
    const byName = new Map<string, Entry>()
    for (const config of configs) {
      const hash = createHash('sha256').update(JSON.stringify(config)).digest('base64')
      const known = this.#byName.get(config.name)
      byName.set(config.name, known?.hash === hash ? known : { hash, cluster: new UpstreamCluster(config, deps) })
    }
    return new ClusterSet(byName)
  }

  get(name: string): Cluster | undefined {
    return this.#byName.get(name)?.cluster
  }

  all(): UpstreamCluster[] {
    return [...this.#byName.values()].map((entry) => entry.cluster)
  }

  /** Resolves when every cluster has its first membership. */
  async warm(): Promise<void> {
    await Promise.all(this.all().map((cluster) => cluster.warm()))
  }

  /** Retires what `successor` has not taken over. */
  retire(successor: ClusterSet): void {
    for (const [name, entry] of this.#byName) {
      if (successor.#byName.get(name) !== entry) entry.cluster.retire()
    }
  }

  /** Resolves when the retired ones among these clusters have no connection left. */
  async drained(): Promise<void> {
    await Promise.all(
      this.all()
        .filter((cluster) => cluster.retired)
        .map((cluster) => cluster.drained()),
    )
  }

  destroy(): void {
    for (const cluster of this.all()) cluster.destroy()
  }
}
