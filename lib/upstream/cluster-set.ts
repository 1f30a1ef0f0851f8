import { createHash, type Hash } from 'node:crypto'
import type { Cluster, Clusters } from '../core/attempt.ts'
import { type ClusterDeps, UpstreamCluster } from './cluster.ts'
import type { ClusterConfig } from './config.ts'

interface Entry {
  /** Of all but the TLS material. */
  readonly hash: string
  /** Of that. */
  readonly material: string
  readonly config: ClusterConfig
  readonly cluster: UpstreamCluster
}

/**
 * The clusters of one snapshot, by name; immutable. The next snapshot's set takes over every cluster whose configuration
 * is unchanged but for certificates, keys, authorities and revocation lists, with its pools and counts.
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
      const secrets = createHash('sha256')
      const rest = JSON.stringify(config, (key, value) => withoutMaterial(key, value, secrets))
      const hash = createHash('sha256').update(rest).digest('base64')
      const known = this.#byName.get(config.name)
      const cluster = known?.hash === hash ? known.cluster : new UpstreamCluster(config, deps)
      byName.set(config.name, { hash, material: secrets.digest('base64'), config, cluster })
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

  /** Retires what `successor` has not taken over; what it has gets the successor's certificates and authorities. */
  retire(successor: ClusterSet): void {
    for (const [name, { cluster, material }] of this.#byName) {
      const next = successor.#byName.get(name)
      if (next?.cluster !== cluster) cluster.retire()
      else if (next.material !== material) cluster.renew(next.config)
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

/** What may change in place: that it is there counts, its content does not. */
const MATERIAL: ReadonlySet<string> = new Set(['certificateChain', 'privateKey', 'passphrase', 'trustedCa', 'crl'])

/** What users name as they like: nothing in there is material, whatever it is called. */
const FREE: ReadonlySet<string> = new Set(['metadata', 'labels'])

/** Takes the material out, and adds it to `secrets`. */
function withoutMaterial(key: string, value: unknown, secrets: Hash): unknown {
  if (FREE.has(key)) return JSON.stringify(value)
  if (typeof value !== 'string' || !MATERIAL.has(key)) return value
  // With its length in front, so that two values cannot pass for two others.
  secrets.update(`${key} ${value.length} ${value}`)
  return ''
}
