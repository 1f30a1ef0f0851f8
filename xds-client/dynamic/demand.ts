import type { DemandWish } from '../../lib/config/live.ts'
import type { Cancel, Clock } from '../../lib/core/clock.ts'
import { authoritySource } from '../envoy/authorities.ts'
import { ADS_SOURCE } from '../envoy/config-source.ts'
import type { LoadedBootstrap } from '../envoy/load.ts'
import type { Reference } from '../envoy/references.ts'
import { canonicalName, isGlob } from '../protocol/resource-name.ts'
import type { Feed } from './feed.ts'
import type { Feeds } from './feeds.ts'
import type { Graph } from './graph.ts'

/** So many names may be waited for at once: they come from requests. */
const LIMIT = 1_000

/** What is there to have on demand. */
export interface DemandsOptions {
  readonly clock: Clock
  readonly graph: Graph
  readonly feeds: Feeds
  /** The bootstrap: whether it has ADS, and sources of authorities. */
  readonly loaded: () => LoadedBootstrap
  /** Asks for what has been wanted, before the turn ends. */
  schedule(): void
}

/** One thing that is waited for. */
interface Wait {
  readonly feed: Feed
  readonly name: string
  /** What its source is asked for: its name, or the collection that it is to come with. */
  readonly ask: string
  readonly waiters: Set<(found: boolean) => void>
  /** It has come: its waiters hear of it once it is published. */
  come: boolean
}

type Asked = Pick<Wait, 'feed' | 'name' | 'ask'>

/** Asks for what requests need, and remembers who waits for what. */
export class Demands {
  readonly #options: DemandsOptions
  readonly #sources = new Map<string, Pick<Reference, 'source' | 'name'>>()
  readonly #waits = new Map<string, Wait>()
  /** Asked for in vain, and asked for still: what comes late is there for the next request. The oldest first. */
  readonly #late = new Map<string, Asked>()
  #come = false

  constructor(options: DemandsOptions) {
    this.#options = options
  }

  /** A configuration names sources of what can be had on demand. */
  learn(references: readonly Reference[]): void {
    for (const { kind, key, name, source } of references) {
      if (kind === 'demanded-clusters' && source !== undefined) this.#sources.set(key, { source, name })
    }
  }

  /** Clusters can come from somewhere. */
  get anyClusters(): boolean {
    return this.#sources.size > 0
  }

  /** Resolves once it is published, with false where it does not exist or does not come in time. */
  async ask(wish: DemandWish, timeoutMs: number): Promise<boolean> {
    const found = wish.kind === 'cluster' ? this.#cluster(wish.name, wish.source) : this.#host(wish.table, wish.host)
    if (typeof found === 'boolean') return found
    // Names come from requests: one that stands for many is nobody's, and its subscription is not theirs to give up.
    if (found.name === '*' || isGlob(found.name)) return false
    return await this.#wait(found, timeoutMs)
  }

  /** A virtual host has come by that feed under that name, or has it besides its own. */
  come(feed: Feed, name: string): void {
    const id = waitId(feed, name)
    this.#late.delete(id)
    const wait = this.#waits.get(id)
    if (wait === undefined) return
    wait.come = true
    this.#come = true
  }

  /** A cluster is published. */
  clusterPublished(name: string): void {
    if (this.#waits.size === 0) return
    for (const wait of this.#waits.values()) {
      if (wait.name !== name || wait.feed.facts.kind !== 'cluster') continue
      wait.come = true
      this.#come = true
    }
  }

  /** It will not come. */
  absent(feed: Feed, name: string): void {
    const id = waitId(feed, name)
    const wait = this.#waits.get(id)
    if (wait === undefined && !this.#late.has(id)) return
    this.#unask(id, wait ?? { feed, name, ask: this.#late.get(id)?.ask ?? name })
    if (wait !== undefined) this.#settle(wait, false)
  }

  /** What has come is published. */
  published(): void {
    if (!this.#come) return
    this.#come = false
    for (const wait of [...this.#waits.values()]) if (wait.come) this.#settle(wait, true)
  }

  dispose(): void {
    for (const wait of [...this.#waits.values()]) this.#settle(wait, false)
  }

  #cluster(name: string, key: string): boolean | Asked {
    const { graph, feeds } = this.#options
    const known = graph.get('cluster', name)
    if (known?.published !== undefined && !known.removed) return true
    const named = this.#sources.get(key)
    const locator = canonicalName(named?.name ?? '')
    const { dynamic, context } = this.#options.loaded()
    const own = locator === '' ? authoritySource(name, context.authorities) : undefined
    const source = own ?? named?.source ?? (key === '' && dynamic?.ads !== undefined ? ADS_SOURCE : undefined)
    return source === undefined ? false : { feed: feeds.open('cluster', source), name, ask: locator || name }
  }

  #host(tableKey: string, host: string): boolean | Asked {
    const { graph, feeds } = this.#options
    const table = graph.get('routes', tableKey)
    const reference = table?.active?.references.find(({ kind }) => kind === 'virtual-hosts')
    const collection = reference && graph.get('virtual-hosts', reference.key)
    if (table === undefined || collection?.source === undefined) return false
    const name = `${table.name}/${host}`
    return { feed: feeds.open('virtual-hosts', collection.source, collection), name, ask: name }
  }

  #wait({ feed, name, ask }: Asked, timeoutMs: number): Promise<boolean> {
    const id = waitId(feed, name)
    let wait = this.#waits.get(id)
    if (wait !== undefined && wait.feed !== feed) {
      // What was asked is closed: nobody answers there.
      this.#settle(wait, false)
      wait = undefined
    }
    if (wait === undefined) {
      if (this.#waits.size >= LIMIT) return Promise.resolve(false)
      wait = { feed, name, ask, waiters: new Set(), come: false }
      this.#waits.set(id, wait)
      this.#late.delete(id)
      const { feeds, schedule } = this.#options
      // Asked for anew where it was asked for before: the answer may have been that there is none.
      if (!feed.resources.has(ask)) feeds.ask(feed, ask)
      schedule()
    }
    return this.#waiter(wait, timeoutMs)
  }

  #waiter(wait: Wait, timeoutMs: number): Promise<boolean> {
    const { clock } = this.#options
    return new Promise((resolve) => {
      const done = (found: boolean): void => {
        cancel()
        wait.waiters.delete(done)
        resolve(found)
      }
      const inVain = (): void => {
        done(false)
        if (wait.waiters.size === 0 && !wait.come) this.#giveUp(wait)
      }
      // 0 is no time, as in Envoy: who waited for ever would take the room of others.
      const cancel: Cancel = clock.schedule(timeoutMs, inVain)
      wait.waiters.add(done)
    })
  }

  /** Names come from requests: those that nobody answers must not be asked for without end. */
  #giveUp({ feed, name, ask }: Wait): void {
    const id = waitId(feed, name)
    this.#waits.delete(id)
    this.#late.set(id, { feed, name, ask })
    if (this.#late.size <= LIMIT) return
    const oldest = this.#late.entries().next().value
    if (oldest !== undefined) this.#unask(...oldest)
  }

  #unask(id: string, { feed, name, ask }: Asked): void {
    // A collection stays: others come with it.
    if (ask !== name) return void this.#late.delete(id)
    // Of clusters nobody says here that they have come.
    const late = this.#late.delete(id)
    if (late && feed.facts.kind === 'cluster' && this.#options.graph.get('cluster', name)?.latest !== undefined) return
    this.#options.feeds.unask(feed, name)
    this.#options.schedule()
  }

  #settle(wait: Wait, found: boolean): void {
    this.#waits.delete(waitId(wait.feed, wait.name))
    for (const done of [...wait.waiters]) done(found)
  }
}

function waitId(feed: Feed, name: string): string {
  return `${feed.facts.kind} ${feed.source.key} ${feed.collection?.key ?? ''} ${name}`
}
