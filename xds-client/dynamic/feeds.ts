import type { ConfigSourceConfig } from '../config.ts'
import { Feed, type FeedEvents } from './feed.ts'
import { factsOf, type Kind } from './kinds.ts'
import type { Resource } from './resource.ts'
import type { Sources } from './sources.ts'
import { statPrefix } from './stat-prefix.ts'

/** What is asked for again, all at once, after an update of the first kind has been worked out (Envoy's pausing). */
const HELD_BACK: ReadonlyMap<Kind, readonly Kind[]> = new Map([
  ['cluster', ['assignment', 'endpoints', 'secret']],
  ['listener', ['routes', 'scopes', 'secret', 'extension']],
  ['scopes', ['routes']],
  ['routes', ['virtual-hosts']],
])

/** Hears of feeds that are opened, before anything is asked for by them. */
export interface FeedsEvents extends FeedEvents {
  /** Its servers send differences. */
  isDelta(source: ConfigSourceConfig): boolean
  opened(feed: Feed): void
}

/** All subscriptions: one for each kind, source and time to wait, and one for each collection. */
export class Feeds {
  readonly #sources: Sources
  readonly #events: FeedsEvents
  readonly #feeds = new Map<string, Feed>()
  readonly #changed = new Set<Feed>()
  readonly #paused = new Set<Feed>()

  constructor(sources: Sources, events: FeedsEvents) {
    this.#sources = sources
    this.#events = events
  }

  all(): Iterable<Feed> {
    return this.#feeds.values()
  }

  /** The one for a kind; it is opened where there is none. */
  open(kind: Kind, source: ConfigSourceConfig, collection?: Resource): Feed {
    const id = feedId(kind, source, collection)
    const known = this.#feeds.get(id)
    if (known !== undefined) return known
    this.#sources.use(source)
    const options = {
      facts: factsOf(kind),
      source,
      wholeAnswers: !this.#events.isDelta(source),
      ...(collection && { collection }),
      statPrefix: statPrefix(kind, (name) => this.#resource(id, name)),
    }
    const feed = new Feed(options, this.#events)
    this.#feeds.set(id, feed)
    this.#events.opened(feed)
    return feed
  }

  /** Somebody needs it now. */
  want(resource: Resource): Feed | undefined {
    const { facts, name, source } = resource
    if (source === undefined) return undefined
    const feed = this.open(facts.kind, source, facts.members === undefined ? undefined : resource)
    this.ask(feed, name, facts.members === undefined ? resource : undefined)
    return feed
  }

  ask(feed: Feed, name: string, resource?: Resource): void {
    feed.want(name, resource)
    this.#changed.add(feed)
  }

  /** Nobody needs it any more. */
  drop(resource: Resource): void {
    const { facts, source, name } = resource
    if (source === undefined || facts.kind === 'listener') return
    const feed = this.#feeds.get(feedId(facts.kind, source, facts.members === undefined ? undefined : resource))
    if (feed === undefined) return
    if (facts.members !== undefined) this.#close(feed)
    else if (facts.kind !== 'cluster') this.unask(feed, name)
  }

  unask(feed: Feed, name: string): void {
    feed.unwant(name)
    this.#changed.add(feed)
  }

  /** Asks for nothing that follows from an update of `kind` before it is worked out. */
  pauseAfter(kind: Kind): void {
    const kinds = HELD_BACK.get(kind)
    if (kinds === undefined) return
    for (const feed of this.#feeds.values()) {
      if (!kinds.includes(feed.facts.kind) || this.#paused.has(feed)) continue
      this.#paused.add(feed)
      feed.pause()
    }
  }

  /** Asks for everything that is needed now. */
  send(): void {
    for (const feed of this.#changed) {
      const source = this.#sources.get(feed.source.key)
      if (feed.resources.size === 0 || source === undefined) this.#close(feed)
      else feed.send(source)
    }
    this.#changed.clear()
    for (const feed of this.#paused) feed.resume()
    this.#paused.clear()
  }

  dispose(): void {
    for (const feed of this.#feeds.values()) feed.close()
    this.#feeds.clear()
    this.#changed.clear()
    this.#paused.clear()
  }

  #resource(id: string, name: string): Resource | undefined {
    const feed = this.#feeds.get(id)
    return feed?.collection ?? feed?.resources.get(name)
  }

  #close(feed: Feed): void {
    const id = feedId(feed.facts.kind, feed.source, feed.collection)
    if (this.#feeds.get(id) !== feed) return
    this.#feeds.delete(id)
    this.#paused.delete(feed)
    feed.close()
    this.#sources.release(feed.source.key)
  }
}

/** One stream has one time to wait for all that it is asked for: those who wait longer have a subscription of their own. */
function feedId(
  kind: Kind,
  { key, initialFetchTimeoutMs }: ConfigSourceConfig,
  collection: Resource | undefined,
): string {
  return `${kind}|${key}|${kind === 'cluster' ? '' : initialFetchTimeoutMs}|${collection?.key ?? ''}`
}
