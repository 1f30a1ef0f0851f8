import type { Clock } from '../../lib/core/clock.ts'
import type { Log, Metrics } from '../../lib/core/metrics.ts'
import type { DiscoveryWatcher, ReceivedResource, Rejection, SubscribeOptions, Subscription } from '../source.ts'
import { Expiry } from './expiry.ts'
import { covers, isGlob } from './resource-name.ts'
import { TypeSubscription } from './subscription.ts'

/** What an interest shares with its source. */
export interface InterestParts {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  /** Something may have to be asked for, or no longer. */
  changed(interest: TypeInterest): void
}

/** What an answer comes to, once it has been taken apart. */
export interface Batch {
  readonly version: string
  readonly resources: readonly ReceivedResource[]
  /** Aligned with `resources`. */
  readonly ttlsMs: readonly (number | undefined)[]
  readonly removed: readonly string[]
  /** Told by the server that they do not exist. */
  readonly absent: readonly string[]
  /** What the protocol itself refuses: the subscriptions count it. */
  readonly rejected: boolean
}

const STAR = '*'

/**
 * All interest in resources of one type on one source: which names are wanted, which versions are there, what lives for how
 * long. Outlives connections; knows nothing of how the resources come.
 */
export class TypeInterest {
  readonly typeName: string
  /** What has come and is still wanted; undefined: no version of it could be used. */
  readonly held = new Map<string, string | undefined>()
  /** Wanted by somebody who does not have it, though the server has sent it before: cleared by whoever asks again. */
  readonly again = new Set<string>()
  /** Wanted no more since the last request: cleared with it. */
  readonly dropped = new Set<string>()
  /** Something has lived its time since it was last cleared: what the server believes to be here is not all here. */
  lapsed = false
  /** Counts the changes of what is wanted. */
  revision = 0
  readonly #parts: InterestParts
  /** By how many. */
  readonly #wanted = new Map<string, number>()
  readonly #subscriptions: TypeSubscription[] = []
  /** The resource that came under an alias. */
  readonly #byAlias = new Map<string, string>()
  readonly #expiry: Expiry
  #pauses = 0
  #suspended = false

  constructor(typeName: string, parts: InterestParts) {
    this.typeName = typeName
    this.#parts = parts
    this.#expiry = new Expiry(parts.clock, (name) => this.#expired(name))
  }

  get clock(): Clock {
    return this.#parts.clock
  }

  get metrics(): Metrics {
    return this.#parts.metrics
  }

  get log(): Log {
    return this.#parts.log
  }

  /** Timers of what is missing stand still. */
  get suspended(): boolean {
    return this.#suspended
  }

  /** Everything that the server has is wanted. */
  get wildcard(): boolean {
    return this.#wanted.has(STAR)
  }

  /** Names that are wanted, `*` among them. */
  get names(): Iterable<string> & { readonly size: number; has(name: string): boolean } {
    return this.#wanted.size === 0 ? NOTHING : new Keys(this.#wanted)
  }

  get empty(): boolean {
    return this.#wanted.size === 0
  }

  get paused(): boolean {
    return this.#pauses > 0
  }

  /** Somebody has subscribed and not closed, whether anything is wanted or not. */
  get used(): boolean {
    return this.#subscriptions.length > 0
  }

  subscribe(options: SubscribeOptions, watcher: DiscoveryWatcher): Subscription {
    for (const [name, version] of options.held ?? []) this.held.set(name, version)
    const subscription = new TypeSubscription(this, options, watcher)
    this.#subscriptions.push(subscription)
    return subscription
  }

  /** True where somebody wants it under that name, one of its aliases or as one of many. */
  wants(name: string, aliases: readonly string[]): boolean {
    return covers(this.#wanted, name, aliases)
  }

  // --- what subscriptions say ---------------------------------------------------------------------------------------

  /** One subscription more wants it. Answers whether it has to come, from that one's view. */
  add(name: string): boolean {
    const count = this.#wanted.get(name) ?? 0
    this.#wanted.set(name, count + 1)
    const there = this.held.has(name)
    // One that a wildcard stands for comes with the answer to it.
    if (this.dropped.delete(name) || (count > 0 && (there || name === STAR))) this.again.add(name)
    this.changed()
    return !there || this.again.has(name)
  }

  drop(name: string): void {
    const count = this.#wanted.get(name) ?? 0
    if (count > 1) this.#wanted.set(name, count - 1)
    else {
      this.#wanted.delete(name)
      this.again.delete(name)
      this.dropped.add(name)
      this.#release(name)
    }
    this.changed()
  }

  /** Forgets what nobody wants any more. */
  #release(name: string): void {
    if (name === STAR || isGlob(name)) {
      for (const held of this.held.keys()) if (!this.wants(held, NONE)) this.#forget(held)
      return
    }
    const target = this.#byAlias.get(name)
    this.#byAlias.delete(name)
    if (target !== undefined && !this.wants(target, NONE) && !this.#hasAlias(target)) this.#forget(target)
    if (!this.wants(name, NONE)) this.#forget(name)
  }

  #hasAlias(target: string): boolean {
    for (const name of this.#byAlias.values()) if (name === target) return true
    return false
  }

  #forget(name: string): void {
    this.held.delete(name)
    this.#expiry.set(name, undefined)
  }

  pause(): void {
    this.#pauses++
  }

  resume(): void {
    if (--this.#pauses === 0) this.#parts.changed(this)
  }

  close(subscription: TypeSubscription): void {
    const at = this.#subscriptions.indexOf(subscription)
    if (at >= 0) this.#subscriptions.splice(at, 1)
    this.#parts.changed(this)
  }

  /** What is wanted has changed. */
  changed(): void {
    this.revision++
    this.#parts.changed(this)
  }

  // --- what the source says -----------------------------------------------------------------------------------------

  /** The connection that answers come over is there, or is lost. */
  link(up: boolean): void {
    this.#suspended = !up
    for (const subscription of [...this.#subscriptions]) subscription.link(up)
  }

  /** Something went wrong on the way: no answer is expected. */
  failed(): void {
    for (const subscription of [...this.#subscriptions]) subscription.failed()
  }

  /** Heartbeat: what is there lives on. */
  refresh(name: string, ttlMs: number | undefined): void {
    this.#expiry.set(name, ttlMs)
  }

  /** Hands an answer to whoever wants parts of it. Answers what they refuse. */
  deliver(batch: Batch): Rejection[] {
    const rejections: Rejection[] = []
    const held = new Set(batch.removed.filter((name) => this.held.has(name)))
    for (const name of held) this.#forget(name)
    const absent = batch.absent.concat(batch.removed.filter((name) => !held.has(name)))
    const removed = [...held]
    for (const subscription of [...this.#subscriptions]) {
      for (const rejection of subscription.deliver(batch, removed, absent)) rejections.push(rejection)
    }
    this.#note(batch, rejections)
    return rejections
  }

  #note(batch: Batch, rejections: readonly Rejection[]): void {
    const refused = new Set(rejections.map(({ name }) => name))
    const { resources, ttlsMs } = batch
    for (let i = 0; i < resources.length; i++) {
      const { name, version, aliases } = resources[i]
      // A watcher may have lost its interest while it took the update over.
      if (!this.wants(name, aliases)) continue
      for (const alias of aliases) if (this.#wanted.has(alias)) this.#byAlias.set(alias, name)
      if (!refused.has(name)) this.held.set(name, version)
      else if (!this.held.has(name)) this.held.set(name, undefined)
      this.#expiry.set(name, ttlsMs[i])
    }
  }

  #expired(name: string): void {
    this.lapsed = true
    this.log.info('a resource has lived its time', { type: this.typeName, name })
    this.deliver({ version: '', resources: [], ttlsMs: [], removed: [name], absent: [], rejected: false })
  }

  dispose(): void {
    this.#expiry.close()
    for (const subscription of [...this.#subscriptions]) subscription.close()
  }
}

/** The keys of a map as a set that nobody can change. */
class Keys implements Iterable<string> {
  readonly #map: ReadonlyMap<string, unknown>

  constructor(map: ReadonlyMap<string, unknown>) {
    this.#map = map
  }

  get size(): number {
    return this.#map.size
  }

  has(name: string): boolean {
    return this.#map.has(name)
  }

  [Symbol.iterator](): IterableIterator<string> {
    return this.#map.keys()
  }
}

const NONE: readonly string[] = Object.freeze([])
const NOTHING: ReadonlySet<string> = Object.freeze(new Set<string>())
