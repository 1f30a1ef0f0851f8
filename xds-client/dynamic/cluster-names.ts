import type { Clock } from '../../lib/core/clock.ts'
import type { Resource } from './resource.ts'

/** How long routes wait for clusters, and clusters that are taken away for the routes that still name them. */
export const CLUSTER_WAIT_MS = 5_000

/** What the index needs of the graph. */
export interface ClusterNamesOptions {
  readonly clock: Clock
  /** Clusters can come from somewhere: otherwise nobody waits for one. */
  readonly canCome: () => boolean
  readonly find: (name: string) => Resource | undefined
  /** Has another look at it before the turn ends. */
  readonly enqueue: (resource: Resource) => void
}

/**
 * Who names which cluster. Whoever names one that is not there waits for it, for five seconds at most in all; names that
 * have been waited for in vain are not waited for again until they have been there.
 */
export class ClusterNames {
  readonly #options: ClusterNamesOptions
  readonly #users = new Map<string, Set<Resource>>()
  readonly #givenUp = new Set<string>()

  constructor(options: ClusterNamesOptions) {
    this.#options = options
  }

  /** `resource` names these from now on, and no others. */
  set(resource: Resource, names: ReadonlySet<string>): void {
    const before = resource.named
    if (names === before) return
    resource.named = names
    for (const name of names) if (!before.has(name)) this.#add(name, resource)
    for (const name of before) if (!names.has(name)) this.#delete(name, resource)
  }

  /** Every cluster of its latest version is there, or has been waited for long enough. */
  ready(resource: Resource): boolean {
    const { latest } = resource
    if (latest === undefined || latest.clusters.size === 0) return this.#done(resource)
    // Unless it waits for other names than it did.
    if (resource.missing !== undefined && resource.missing.size > 0 && resource.missingOf === latest) return false
    const missing = this.#missing(latest.clusters)
    if (missing.size === 0) return this.#done(resource)
    resource.missing = missing
    resource.missingOf = latest
    resource.timer ??= this.#options.clock.schedule(CLUSTER_WAIT_MS, () => this.#giveUp(resource))
    return false
  }

  /** It is published: whoever waited for it may go on. */
  published(name: string): void {
    this.#givenUp.delete(name)
    this.#release(name)
  }

  /** Something that is in force names it. */
  inUse(name: string): boolean {
    const users = this.#users.get(name)
    if (users === undefined) return false
    for (const { active } of users) if (active?.clusters.has(name)) return true
    return false
  }

  #done(resource: Resource): boolean {
    resource.missing = undefined
    resource.missingOf = undefined
    resource.stopTimer()
    return true
  }

  #missing(names: ReadonlySet<string>): Set<string> {
    const missing = new Set<string>()
    if (!this.#options.canCome()) return missing
    for (const name of names) if (!this.#givenUp.has(name) && !this.#exists(name)) missing.add(name)
    return missing
  }

  #exists(name: string): boolean {
    const cluster = this.#options.find(name)
    return cluster !== undefined && cluster.published !== undefined && !cluster.removed
  }

  #giveUp(resource: Resource): void {
    resource.timer = undefined
    const { missing } = resource
    if (missing === undefined) return
    for (const name of missing) {
      this.#givenUp.add(name)
      this.#release(name)
    }
    this.#options.enqueue(resource)
  }

  #release(name: string): void {
    const users = this.#users.get(name)
    if (users === undefined) return
    for (const user of users) {
      if (user.missing?.delete(name) === true && user.missing.size === 0) this.#options.enqueue(user)
    }
  }

  #add(name: string, resource: Resource): void {
    const users = this.#users.get(name)
    if (users === undefined) this.#users.set(name, new Set([resource]))
    else users.add(resource)
  }

  #delete(name: string, resource: Resource): void {
    const users = this.#users.get(name)
    if (users === undefined || !users.delete(resource)) return
    const cluster = this.#options.find(name)
    // It may have been kept for this one alone.
    if (cluster?.removed === true) this.#options.enqueue(cluster)
    if (users.size > 0) return
    this.#users.delete(name)
    this.#givenUp.delete(name)
  }
}
