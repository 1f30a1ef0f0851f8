import type { ConfigSourceConfig } from '../config.ts'
import { canonicalName } from '../protocol/resource-name.ts'
import type { DiscoverySource, DiscoveryUpdate, Rejection, Subscription } from '../source.ts'
import type { EmptyAnswer } from './empty-answer.ts'
import type { KindFacts } from './kinds.ts'
import type { Absence, Resource } from './resource.ts'

/** What a feed tells. */
export interface FeedEvents {
  update(feed: Feed, update: DiscoveryUpdate): readonly Rejection[]
  absent(feed: Feed, names: readonly string[], why: Absence): void
}

/** What makes a feed. */
export interface FeedOptions {
  readonly facts: KindFacts
  readonly source: ConfigSourceConfig
  /** Answers hold everything there is; those of delta servers are differences. */
  readonly wholeAnswers: boolean
  /** All of it goes to this collection. */
  readonly collection?: Resource
  readonly statPrefix?: string | ((name: string) => string)
}

/**
 * What comes from one source of one kind: the subscription, and which names somebody needs. What is wanted is told to the
 * source by `send`, once for all that has changed in a turn.
 */
export class Feed {
  readonly facts: KindFacts
  readonly source: ConfigSourceConfig
  readonly collection: Resource | undefined
  readonly wholeAnswers: boolean
  /** Holds back what an empty answer would delete; undefined: of this kind nothing is deleted by absence. */
  empty: EmptyAnswer | undefined = undefined
  /** An answer has come, or nothing within the time for it. */
  answered = false
  /** Its source has really answered. */
  heard = false
  /** Some of what came by it is from the state directory, and its source has not spoken since. */
  restored = false
  /** Versions that are held from the state directory. */
  held: Map<string, string> | undefined = undefined
  /** What an update took away that was refused as a whole: it goes with the next. */
  readonly owed = new Set<string>()
  /** Who is asked for, by the name that is asked for. */
  readonly resources = new Map<string, Resource | undefined>()
  readonly #options: FeedOptions
  readonly #events: FeedEvents
  #subscription: Subscription | undefined = undefined
  #pauses = 0
  #changed = false
  #closed = false

  constructor(options: FeedOptions, events: FeedEvents) {
    this.facts = options.facts
    this.source = options.source
    this.collection = options.collection
    this.wholeAnswers = options.wholeAnswers
    this.#options = options
    this.#events = events
  }

  /** Everything of its type that the source has comes by it. */
  get wildcard(): boolean {
    return this.resources.has('*')
  }

  /** Of listeners or clusters, which are there because they come. */
  get topLevel(): boolean {
    return this.facts.kind === 'listener' || this.facts.kind === 'cluster'
  }

  /** Names that are asked for and have come. */
  *delivered(): Generator<string> {
    for (const [name, resource] of this.resources) if (resource?.latest !== undefined) yield name
  }

  /** Its subscription exists. */
  get open(): boolean {
    return this.#subscription !== undefined
  }

  /** `resource` undefined: whatever comes by that name. */
  want(name: string, resource: Resource | undefined): void {
    this.resources.set(canonicalName(name), resource)
    this.#changed = true
  }

  unwant(name: string): void {
    if (this.resources.delete(canonicalName(name))) this.#changed = true
  }

  /** Opens the subscription where that has not been done, and asks for what is wanted now. */
  send(source: DiscoverySource): void {
    if (!this.#changed || this.#closed) return
    this.#changed = false
    this.#subscription ??= this.#subscribe(source)
    this.#subscription.want(new Set(this.resources.keys()))
  }

  pause(): void {
    if (this.#pauses++ === 0) this.#subscription?.pause()
  }

  resume(): void {
    if (--this.#pauses === 0) this.#subscription?.resume()
  }

  close(): void {
    this.#closed = true
    this.empty?.close()
    this.#subscription?.close()
  }

  #subscribe(source: DiscoverySource): Subscription {
    const { facts, source: config, statPrefix } = this.#options
    const subscription = source.subscribe(
      {
        typeName: facts.typeName,
        initialFetchTimeoutMs: config.initialFetchTimeoutMs,
        ...(this.held && this.held.size > 0 && { held: this.held }),
        ...(statPrefix !== undefined && { statPrefix }),
      },
      {
        onUpdate: (update) => (this.#closed ? [] : this.#events.update(this, update)),
        onAbsent: (names, why) => {
          if (!this.#closed) this.#events.absent(this, names, why)
        },
      },
    )
    if (this.#pauses > 0) subscription.pause()
    return subscription
  }
}
