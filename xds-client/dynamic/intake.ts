import { isDeepStrictEqual } from 'node:util'
import type { Clock } from '../../lib/core/clock.ts'
import { ConfigError } from '../../lib/core/errors.ts'
import type { Log } from '../../lib/core/metrics.ts'
import { sameJson } from '../../lib/core/same-json.ts'
import type { ConfigSourceConfig } from '../config.ts'
import type { LoadedBootstrap } from '../envoy/load.ts'
import type { TranslatedResource } from '../envoy/translated.ts'
import { canonicalName } from '../protocol/resource-name.ts'
import type { DiscoveryUpdate, ReceivedResource, Rejection } from '../source.ts'
import type { Feed } from './feed.ts'
import type { Graph } from './graph.ts'
import { factsOf, type KindFacts } from './kinds.ts'
import { tooFewClusters, withOwed } from './minimum-clusters.ts'
import { type Absence, type Resource, Version } from './resource.ts'
import { withTables } from './scope-tables.ts'
import type { Verdicts } from './verdicts.ts'

/** What intake needs. */
export interface IntakeOptions {
  readonly graph: Graph
  readonly clock: Clock
  readonly log: Log
  readonly verdicts: Verdicts
  readonly loaded: () => LoadedBootstrap
  translate(facts: KindFacts, bytes: Uint8Array, self: ConfigSourceConfig): TranslatedResource
  /** A virtual host has come by that name. */
  come(feed: Feed, name: string): void
  /** Somebody who asked on demand need not wait for that name. */
  absent(feed: Feed, name: string): void
}

const SHARED_LISTS = 1_000

/** Judges what sources deliver, resource by resource, and hands what is good to the graph. */
export class Intake {
  readonly #options: IntakeOptions
  /** One copy of each list of ignored paths: resources of one server are much alike. */
  readonly #ignored = new Map<string, readonly string[]>()

  constructor(options: IntakeOptions) {
    this.#options = options
  }

  /** Takes an update over; answers what of it cannot be used. */
  update(feed: Feed, update: DiscoveryUpdate): readonly Rejection[] {
    const { graph, loaded } = this.#options
    const tooFew = tooFewClusters(feed, update, { graph, dynamic: loaded().dynamic })
    if (tooFew !== undefined) {
      // A refusal is an answer.
      feed.answered = true
      return tooFew
    }
    const rejections: Rejection[] = []
    const seen = new Set<string>()
    // First what goes: its address, its name and its key are free.
    const whole = this.#withForgotten(feed, withOwed(feed, update))
    this.remove(feed, feed.empty?.removals(whole) ?? whole.removed)
    for (const received of update.resources) {
      const errors = seen.has(received.name)
        ? [new ConfigError('', `a second ${feed.facts.label} "${received.name}" in one update`)]
        : this.#take(feed, received)
      seen.add(received.name)
      if (errors.length > 0) rejections.push({ name: received.name, errors })
    }
    feed.answered = true
    feed.heard = true
    if (feed.collection !== undefined) graph.answered(feed.collection)
    this.confirm(feed)
    return rejections
  }

  /** Takes these away, where that is for the server to do. */
  remove(feed: Feed, names: readonly string[]): void {
    for (const name of names) {
      const resource = this.#find(feed, name)
      if (resource === undefined || resource.source?.key !== feed.source.key) {
        this.#options.absent(feed, name)
        continue
      }
      if (resource.facts.removable) {
        this.#options.verdicts.forget(resource)
        this.#options.graph.remove(resource)
        this.#options.absent(feed, name)
      } else if (resource.latest === undefined) this.#options.graph.absent(resource, 'does-not-exist')
    }
  }

  /** These have not come. */
  absent(feed: Feed, names: readonly string[], why: Absence): void {
    const { graph, absent } = this.#options
    for (const name of names) {
      if (name === '*') feed.answered = true
      if (feed.collection !== undefined) graph.answered(feed.collection)
      const resource = this.#find(feed, name)
      if (resource !== undefined && resource.latest === undefined) graph.absent(resource, why)
      absent(feed, name)
    }
  }

  /** It could be taken, by itself. */
  usable(feed: Feed, { name, bytes }: ReceivedResource): boolean {
    const { translate, verdicts } = this.#options
    const facts = memberFacts(feed)
    try {
      const translated = translate(facts, bytes, feed.source)
      const place = { known: this.#find(feed, name), collection: feed.collection }
      return translated.errors.length === 0 && verdicts.check(facts, translated, place).length === 0
    } catch (error) {
      this.#broken(facts, name, error)
      return false
    }
  }

  /** From the state directory: as if its source had sent it. */
  restore(feed: Feed, received: ReceivedResource): void {
    const errors = this.#take(feed, received)
    const resource = this.#find(feed, received.name)
    if (errors.length === 0 && resource !== undefined) this.#options.graph.setStale(resource, true)
  }

  /** Its files are others now: what is wrong with it; nothing where it is used as it is now. */
  reread(resource: Resource): readonly ConfigError[] {
    const { latest, source, facts } = resource
    if (latest === undefined || source === undefined) return NONE
    const { graph, verdicts } = this.#options
    try {
      const translated = this.#options.translate(facts, latest.bytes, source)
      if (translated.errors.length > 0) return translated.errors
      const errors = verdicts.check(facts, translated, { known: resource, collection: undefined })
      if (errors.length > 0) return errors
      const version = new Version(latest.version, latest.bytes, latest.updatedMs, translated)
      if (!same(version, latest)) graph.accept(resource, version)
      return NONE
    } catch (error) {
      return this.#broken(facts, resource.name, error)
    }
  }

  /** What a delta source says nothing of is as it was when it was last heard. */
  confirm(feed: Feed): void {
    for (const name of feed.held?.keys() ?? []) {
      const resource = this.#find(feed, name)
      if (resource !== undefined) this.#options.graph.setStale(resource, false)
    }
    feed.held = undefined
    feed.restored = false
  }

  /** An answer that holds everything takes away what is from the state directory and not in it. */
  #withForgotten(feed: Feed, update: DiscoveryUpdate): DiscoveryUpdate {
    if (!feed.restored || !feed.wholeAnswers || !feed.wildcard || feed.facts.kind === 'endpoints') return update
    const there = new Set(update.resources.map(({ name }) => name))
    const all = feed.collection?.members ?? this.#options.graph.all(feed.facts.kind)
    const forgotten = [...all.values()].filter(
      (r) => r.stale && r.source?.key === feed.source.key && !there.has(r.name),
    )
    return { ...update, removed: [...update.removed, ...forgotten.map(({ name }) => name)] }
  }

  #find(feed: Feed, name: string): Resource | undefined {
    if (feed.collection !== undefined) return feed.collection.members?.get(name)
    const wanted = feed.resources.get(name)
    if (wanted !== undefined || !isTopLevel(feed)) return wanted
    return this.#options.graph.get(feed.facts.kind as 'cluster', name)
  }

  /** Answers why it is refused. */
  #take(feed: Feed, received: ReceivedResource): readonly ConfigError[] {
    const known = this.#find(feed, received.name)
    if (known === undefined && !this.#takes(feed, received.name)) return NONE
    if (known !== undefined && isTopLevel(feed) && known.source?.key !== feed.source.key) {
      const { typeName } = feed.facts
      this.#options.log.debug('a resource of another source has that name: it stays', {
        type: typeName,
        name: known.name,
      })
      return NONE
    }
    if (feed.facts.kind === 'virtual-hosts') {
      this.#options.come(feed, received.name)
      for (const alias of received.aliases) this.#options.come(feed, alias)
    }
    // What was taken away has lost its place, and is judged anew.
    if (known?.latest !== undefined && !known.removed && sameBytes(known.latest.bytes, received.bytes)) {
      known.latest.version = received.version
      this.#options.graph.confirm(known)
      return NONE
    }
    try {
      return this.#judge(feed, received, known)
    } catch (error) {
      return this.#broken(feed.facts, received.name, error)
    }
  }

  /** A bug of ours in one resource must not end the stream for all others, or the process. */
  #broken({ typeName }: KindFacts, name: string, error: unknown): readonly ConfigError[] {
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error)
    this.#options.log.error('a resource could not be judged', { type: typeName, name, reason })
    return [new ConfigError('', 'cannot be judged: an error of this proxy, see its log')]
  }

  #judge(feed: Feed, received: ReceivedResource, known: Resource | undefined): readonly ConfigError[] {
    const { graph, clock, verdicts } = this.#options
    const facts = memberFacts(feed)
    const translated = this.#options.translate(facts, received.bytes, feed.source)
    // A copy: what was received is part of a whole response.
    const bytes = new Uint8Array(received.bytes)
    const errors = this.#errors(feed, received, translated, known)
    const resource = known ?? this.#add(feed, received.name)
    if (errors.length > 0) {
      graph.fail(resource, { version: received.version, errors, attemptedMs: clock.wall(), bytes })
      return errors
    }
    const collection = feed.collection
    const own = collection === undefined ? translated : withTables(translated, collection)
    const version = new Version(received.version, bytes, clock.wall(), { ...own, ignored: this.#shared(own.ignored) })
    verdicts.remember(resource, translated)
    if (resource.latest !== undefined && same(version, resource.latest)) {
      Object.assign(resource.latest, { version: version.version, bytes, updatedMs: version.updatedMs })
      graph.confirm(resource)
      return NONE
    }
    graph.setStale(resource, false)
    graph.accept(resource, version)
    return NONE
  }

  #shared(ignored: readonly string[]): readonly string[] {
    if (ignored.length === 0 || this.#ignored.size > SHARED_LISTS) return ignored
    const id = ignored.join('\n')
    const known = this.#ignored.get(id)
    if (known === undefined) this.#ignored.set(id, ignored)
    return known ?? ignored
  }

  #errors(
    feed: Feed,
    received: ReceivedResource,
    translated: TranslatedResource,
    known: Resource | undefined,
  ): readonly ConfigError[] {
    if (translated.errors.length > 0) return translated.errors
    const facts = memberFacts(feed)
    if (
      facts.kind !== 'endpoint' &&
      facts.kind !== 'virtual-host' &&
      canonicalName(translated.name) !== received.name
    ) {
      return [new ConfigError('name', `"${translated.name}" is not what it was sent as, "${received.name}"`)]
    }
    return this.#options.verdicts.check(facts, translated, { known, collection: feed.collection })
  }

  /** Nobody asks for it by name. */
  #takes(feed: Feed, name: string): boolean {
    if (feed.collection !== undefined || feed.wildcard || feed.resources.has(name)) return true
    // A collection's locator stands for its members.
    return isTopLevel(feed) && [...feed.resources.keys()].some((wanted) => wanted.startsWith('xdstp:'))
  }

  #add(feed: Feed, name: string): Resource {
    const { graph } = this.#options
    if (feed.collection !== undefined) return graph.member(feed.collection, name)
    const resource = graph.add(feed.facts.kind as 'cluster', name, name, feed.source)
    resource.rooted = true
    return resource
  }
}

const NONE: readonly ConfigError[] = Object.freeze([])

/** Listeners and clusters: they are there because they come. */
function isTopLevel(feed: Feed): boolean {
  return feed.facts.kind === 'listener' || feed.facts.kind === 'cluster'
}

/** Of what comes by it. */
function memberFacts(feed: Feed): KindFacts {
  return feed.facts.members === undefined ? feed.facts : factsOf(feed.facts.members)
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && Buffer.compare(a, b) === 0
}

/** They say the same, if in other words: servers write maps in any order. */
function same(a: Version, b: Version): boolean {
  return (
    sameJson(a.config, b.config) &&
    isDeepStrictEqual(a.references, b.references) &&
    isDeepStrictEqual(a.clusters, b.clusters) &&
    // Not what is in them alone: they are watched.
    isDeepStrictEqual(a.files, b.files) &&
    isDeepStrictEqual(a.directories, b.directories)
  )
}
