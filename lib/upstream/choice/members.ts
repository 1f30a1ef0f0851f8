import type { PickContext, UpstreamHost, Waiter } from '../../core/attempt.ts'
import { FAILURES, type Failure } from '../../core/failure.ts'
import type { UpstreamCluster } from '../cluster.ts'
import type { OtherClusters } from './chooser.ts'

export type FindCluster = (name: string) => UpstreamCluster | undefined

const NONE: readonly UpstreamCluster[] = Object.freeze([])

/** Undefined as soon as one is, and all before it have failed; else why the first has. */
async function firstFound(
  asked: readonly (Failure | undefined | Promise<Failure | undefined>)[],
): Promise<Failure | undefined> {
  let why: Failure | undefined
  for (const one of asked) {
    const failure = await one
    if (failure === undefined) return undefined
    why ??= failure
  }
  return why
}

/**
 * The clusters that another one is made of, by name, as they are now: they come and go, and are not its own. Aggregates
 * among them stand for their members.
 */
export class Members implements OtherClusters {
  readonly #names: readonly string[]
  readonly #find: FindCluster
  readonly owned: readonly UpstreamCluster[] = NONE
  #picked: UpstreamHost | undefined = undefined
  #owner: UpstreamCluster | undefined = undefined
  #flat: readonly UpstreamCluster[] = NONE
  /** What each name stood for when `#flat` was made. */
  #looked = new Map<string, UpstreamCluster | undefined>()
  #fresh = false
  /** A question is on its way through the members: a circle of clusters ends where it comes back. */
  #asking = false

  constructor(names: readonly string[], find: FindCluster) {
    this.#names = names
    this.#find = find
  }

  /** In their order, none twice. The same array until something has changed. */
  get flat(): readonly UpstreamCluster[] {
    if (this.#fresh && this.#isAsItWas()) return this.#flat
    const found = new Set<UpstreamCluster>()
    this.#looked = new Map()
    this.#unfold(this.#names, found)
    this.#flat = [...found]
    this.#fresh = true
    return this.#flat
  }

  #isAsItWas(): boolean {
    for (const [name, cluster] of this.#looked) if (this.#find(name) !== cluster) return false
    return true
  }

  /** Each name once: what stands in a circle adds nothing the second time. */
  #unfold(names: readonly string[], into: Set<UpstreamCluster>): void {
    for (const name of names) {
      if (this.#looked.has(name)) continue
      const cluster = this.#find(name)
      this.#looked.set(name, cluster)
      if (cluster === undefined) continue
      const { type, members } = cluster.config
      if (type === 'aggregate' && members !== undefined) this.#unfold(members, into)
      else into.add(cluster)
    }
  }

  /** The `n`th of the names; undefined: there is no such cluster now. */
  at(n: number): UpstreamCluster | undefined {
    return this.#find(this.#names[n])
  }

  get size(): number {
    return this.#names.length
  }

  /** What a member has picked, with a note whose it is. */
  pick(cluster: UpstreamCluster, context: PickContext): UpstreamHost | Failure {
    if (this.#asking) return FAILURES.noHealthyHost
    this.#asking = true
    let host: UpstreamHost | Failure
    try {
      host = cluster.pick(context)
    } finally {
      this.#asking = false
    }
    if (!('code' in host)) {
      this.#picked = host
      this.#owner = cluster
    }
    return host
  }

  get forwards(): boolean {
    if (this.#asking) return false
    this.#asking = true
    try {
      return this.flat.some(({ forwards }) => forwards)
    } finally {
      this.#asking = false
    }
  }

  /**
   * Has all members that find hosts on demand look for them at once. Waits for the first in their order that has one, since
   * that is where the next attempt goes; a failure where none has.
   */
  prepare(context: PickContext, waiter?: Waiter): Failure | undefined | Promise<Failure | undefined> {
    if (this.#asking) return FAILURES.noHealthyHost
    this.#asking = true
    let asked: (Failure | undefined | Promise<Failure | undefined>)[]
    try {
      asked = this.flat.map((cluster) => cluster.prepare(context, waiter))
    } finally {
      this.#asking = false
    }
    if (asked.length === 0) return FAILURES.noHealthyHost
    return asked[0] === undefined ? undefined : firstFound(asked)
  }

  ownerOf(host: UpstreamHost): UpstreamCluster | undefined {
    if (this.#picked === host) return this.#owner
    return this.flat.find((cluster) => cluster.hosts.all.some((one) => one === host))
  }

  health(): { healthy: number; degraded: number; total: number } {
    const sum = { healthy: 0, degraded: 0, total: 0 }
    if (this.#asking) return sum
    this.#asking = true
    try {
      for (const cluster of this.flat) {
        const { healthy, degraded, total } = cluster.health()
        sum.healthy += healthy
        sum.degraded += degraded
        sum.total += total
      }
    } finally {
      this.#asking = false
    }
    return sum
  }

  close(): void {
    this.#picked = undefined
    this.#owner = undefined
    this.#flat = NONE
    this.#looked.clear()
    this.#fresh = false
  }
}
