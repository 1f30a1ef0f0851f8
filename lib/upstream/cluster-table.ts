import type { Clusters } from '../core/attempt.ts'
import { likeness, type MaterialRule } from '../core/same-json.ts'
import { type ClusterDeps, UpstreamCluster } from './cluster.ts'
import type { ClusterConfig } from './config.ts'
import { AssignmentTable } from './discovery/assignments.ts'

/** A cluster that cannot be made. */
export class BadCluster extends Error {
  readonly cluster: string

  constructor(cluster: string, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
    this.cluster = cluster
  }
}

/**
 * The clusters of a gateway, by name, as they are now. Changes are prepared aside and then put in force at once; a cluster
 * whose configuration stays, or changes in certificates, keys, authorities, revocation lists and credentials alone, stays
 * with its pools, hosts and counts. One that was got before a change stays usable.
 */
export class ClusterTable implements Clusters {
  /** The endpoints of clusters of type `eds`; what is set there is in force at once. */
  readonly assignments: AssignmentTable = new AssignmentTable()
  readonly #deps: ClusterDeps
  readonly #live = new Map<string, UpstreamCluster>()
  /** Made by a change that is in force, and not warm: they take their place by `promote`. */
  readonly #warming = new Map<string, UpstreamCluster>()
  /** No longer in the table, and with connections. */
  readonly #retiring = new Set<UpstreamCluster>()

  constructor(deps: Omit<ClusterDeps, 'assignments'>) {
    // As it is given: some of it may be made when it is first asked for.
    this.#deps = Object.assign(Object.create(deps) as ClusterDeps, {
      assignments: this.assignments,
      hostsOf: (name: string) => this.#live.get(name)?.hosts,
      clusterOf: (name: string) => this.#live.get(name),
    })
  }

  get(name: string): UpstreamCluster | undefined {
    return this.#live.get(name)
  }

  /** In no order that means anything. */
  all(): UpstreamCluster[] {
    return [...this.#live.values()]
  }

  /**
   * Makes what is new and begins to warm it, in pauses; nothing of it can be got before `ClusterStep.commit`. Names are
   * unique; those that are unknown are removed in vain. One step at a time: it is committed or abandoned before the next. What
   * is compared is the cluster that warms, where there is one of that name.
   *
   * @throws BadCluster with nothing left behind.
   */
  *prepare(set: readonly ClusterConfig[], remove: readonly string[]): Generator<undefined, ClusterStep> {
    const fresh: Fresh[] = []
    const renewed: Renewal[] = []
    for (const config of set) {
      const known = this.#warming.get(config.name) ?? this.#live.get(config.name)
      const found = known === undefined ? 'different' : likeness(known.config, config, MATERIAL)
      if (known !== undefined && found === 'material') renewed.push({ cluster: known, config })
      else if (found === 'different') {
        try {
          fresh.push(new Fresh(new UpstreamCluster(config, this.#deps)))
        } catch (error) {
          for (const { cluster } of fresh) cluster.destroy()
          throw new BadCluster(config.name, error)
        }
      }
      yield
    }
    const names = new Set(set.map(({ name }) => name))
    const leaving = remove.filter((name) => !names.has(name))
    return new ClusterStep(
      { live: this.#live, warming: this.#warming, retire: (cluster) => this.#retire(cluster) },
      { fresh, renewed, remove: leaving },
    )
  }

  /** All of a small change at once, without waiting until what is new is warm. */
  change(set: readonly ClusterConfig[], remove: readonly string[]): void {
    const step = drained(this.prepare(set, remove))
    step.commit()
    drained(step.settle())
  }

  /** It waits for its place still. */
  isWarming({ cluster }: ColdCluster): boolean {
    return this.#warming.get(cluster.name) === cluster
  }

  /** A cluster that was committed cold takes its place. False: it has none any more. */
  promote(cold: ColdCluster): boolean {
    if (!this.isWarming(cold)) return false
    const { cluster } = cold
    const before = this.#live.get(cluster.name)
    this.#warming.delete(cluster.name)
    this.#live.set(cluster.name, cluster)
    if (before !== undefined) this.#retire(before)
    return true
  }

  /** It never takes its place. */
  abandon(cold: ColdCluster): void {
    if (!this.isWarming(cold)) return
    this.#warming.delete(cold.cluster.name)
    cold.cluster.destroy()
  }

  #retire(cluster: UpstreamCluster): void {
    this.#retiring.add(cluster)
    cluster.retire()
    void cluster.drained().then(() => this.#retiring.delete(cluster))
  }

  /** Ends all of them at once, those that were replaced too; their figures stay. */
  destroy(): void {
    for (const cluster of [...this.#live.values(), ...this.#warming.values(), ...this.#retiring]) cluster.destroy(true)
    this.#live.clear()
    this.#warming.clear()
    this.#retiring.clear()
  }
}

interface Renewal {
  readonly cluster: UpstreamCluster
  readonly config: ClusterConfig
}

/** A cluster that has not got its first membership yet. `warm` resolves when it has, never rejects, and may never resolve. */
export interface ColdCluster {
  readonly cluster: UpstreamCluster
  readonly warm: Promise<void>
}

class Fresh implements ColdCluster {
  readonly cluster: UpstreamCluster
  readonly warm: Promise<void>
  isWarm = false

  constructor(cluster: UpstreamCluster) {
    this.cluster = cluster
    this.warm = cluster.warm().then(() => {
      this.isWarm = true
    })
  }
}

interface Table {
  readonly live: Map<string, UpstreamCluster>
  readonly warming: Map<string, UpstreamCluster>
  retire(cluster: UpstreamCluster): void
}

interface Prepared {
  readonly fresh: readonly Fresh[]
  readonly renewed: readonly Renewal[]
  readonly remove: readonly string[]
}

/**
 * A change of a cluster table that has been prepared.
 *
 * ```
 * prepare ─▶ warm ─▶ expose ─▶ commit ─▶ settle
 *              └─────────┴────▶ abandon
 * ```
 */
export class ClusterStep {
  readonly #table: Table
  readonly #prepared: Prepared
  readonly #leaving: UpstreamCluster[] = []

  constructor(table: Table, prepared: Prepared) {
    this.#table = table
    this.#prepared = prepared
  }

  /** Resolves when all that is new has its first membership; never rejects, and may never resolve. */
  async warm(): Promise<void> {
    await Promise.all(this.#prepared.fresh.map(({ warm }) => warm))
  }

  /** What is new and not warm at this moment. */
  get cold(): readonly ColdCluster[] {
    return this.#prepared.fresh.filter(({ isWarm }) => !isWarm)
  }

  /**
   * Lets names be got that nobody had before, so that whoever needs them may begin a little before `commit`. `abandon` takes
   * them away again.
   */
  expose(): void {
    const { live } = this.#table
    for (const { cluster } of this.#prepared.fresh) if (!live.has(cluster.name)) live.set(cluster.name, cluster)
  }

  /**
   * In force from now on; what was replaced or removed serves whoever has got it, until `settle`. Those of `cold` take their
   * places later, by `ClusterTable.promote`; `stay`: removed later, by another step.
   */
  commit(cold: ReadonlySet<ColdCluster> = NO_COLD, stay: (name: string) => boolean = () => false): void {
    const { live, warming } = this.#table
    const { fresh, remove } = this.#prepared
    for (const name of remove) {
      this.#drop(name)
      if (!stay(name)) this.#leave(name)
    }
    for (const one of fresh) {
      const { cluster } = one
      const { name } = cluster
      this.#drop(name)
      if (cold.has(one)) {
        if (live.get(name) === cluster) live.delete(name)
        warming.set(name, cluster)
      } else if (live.get(name) !== cluster) {
        this.#leave(name)
        live.set(name, cluster)
      }
    }
  }

  /** What warms of that name never takes its place. */
  #drop(name: string): void {
    const { warming } = this.#table
    const cluster = warming.get(name)
    if (cluster === undefined) return
    warming.delete(name)
    cluster.destroy()
  }

  #leave(name: string): void {
    const cluster = this.#table.live.get(name)
    if (cluster === undefined) return
    this.#table.live.delete(name)
    this.#leaving.push(cluster)
  }

  /** After `commit`: renews what stays and retires what has gone, in pauses. */
  *settle(): Generator<undefined, void> {
    for (const { cluster, config } of this.#prepared.renewed) {
      // Unless the same change has removed it.
      if (!cluster.retired) cluster.renew(config)
      yield
    }
    for (const cluster of this.#leaving) {
      this.#table.retire(cluster)
      yield
    }
  }

  /** Instead of `commit`: nothing of it was ever there. */
  abandon(): void {
    const { live } = this.#table
    for (const { cluster } of this.#prepared.fresh) {
      if (live.get(cluster.name) === cluster) live.delete(cluster.name)
      cluster.destroy()
    }
  }
}

const NO_COLD: ReadonlySet<ColdCluster> = Object.freeze(new Set<ColdCluster>())

/** What may change in place. */
const MATERIAL: MaterialRule = Object.freeze({
  material: new Set(['certificateChain', 'privateKey', 'passphrase', 'trustedCa', 'crl']),
  whole: new Set(['credential']),
  free: new Set(['metadata', 'labels', 'defaultLabels']),
})

function drained<T>(steps: Generator<undefined, T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}
