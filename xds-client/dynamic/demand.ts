import type { DemandWish } from '../../lib/config/live.ts'
import type { Cancel, Clock } from '../../lib/core/clock.ts'
import type { ConfigSourceConfig } from '../config.ts'
import type { Reference } from '../envoy/references.ts'
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
  /** What stands for ADS; undefined: there is none. */
  readonly ads: () => ConfigSourceConfig | undefined
  /** Asks for what has been wanted, before the turn ends. */
  schedule(): void
}

/** One thing that is waited for. */
interface Wait {
  readonly feed: Feed
  readonly name: string
  readonly waiters: Set<(found: boolean) => void>
  /** It has come: its waiters hear of it once it is published. */
  come: boolean
}

/** Asks for what requests need, and remembers who waits for what. */
export class Demands {
  readonly #options: DemandsOptions
  readonly #sources = new Map<string, ConfigSourceConfig>()
  readonly #waits = new Map<string, Wait>()
  /** Asked for in vain, and asked for still: what comes late is there for the next request. The oldest first. */
  readonly #late = new Map<string, Pick<Wait, 'feed' | 'name'>>()
  #come = false

  constructor(options: DemandsOptions) {
    this.#options = options
  }

  /** A configuration names sources of what can be had on demand. */
  learn(references: readonly Reference[]): void {
    for (const { kind, key, source } of references) {
      if (kind === 'demanded-clusters' && source !== undefined) this.#sources.set(key, source)
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
    return await this.#wait(found.feed, found.name, timeoutMs)
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
    this.#unask(id, { feed, name })
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

  #cluster(name: string, key: string): boolean | { readonly feed: Feed; readonly name: string } {
    const { graph, feeds } = this.#options
    const known = graph.get('cluster', name)
    if (known?.published !== undefined && !known.removed) return true
    const source = this.#sources.get(key) ?? (key === '' ? this.#options.ads() : undefined)
    return source === undefined ? false : { feed: feeds.open('cluster', source), name }
  }

  #host(tableKey: string, host: string): boolean | { readonly feed: Feed; readonly name: string } {
    const { graph, feeds } = this.#options
    const table = graph.get('routes', tableKey)
    const reference = table?.active?.references.find(({ kind }) => kind === 'virtual-hosts')
    const collection = reference && graph.get('virtual-hosts', reference.key)
    if (table === undefined || collection?.source === undefined) return false
    return { feed: feeds.open('virtual-hosts', collection.source, collection), name: `${table.name}/${host}` }
  }

  #wait(feed: Feed, name: string, timeoutMs: number): Promise<boolean> {
    const id = waitId(feed, name)
    let wait = this.#waits.get(id)
    if (wait !== undefined && wait.feed !== feed) {
      // What was asked is closed: nobody answers there.
      this.#settle(wait, false)
      wait = undefined
    }
    if (wait === undefined) {
      if (this.#waits.size >= LIMIT) return Promise.resolve(false)
      wait = { feed, name, waiters: new Set(), come: false }
      this.#waits.set(id, wait)
      this.#late.delete(id)
      const { feeds, schedule } = this.#options
      // Asked for anew where it was asked for before: the answer may have been that there is none.
      if (!feed.resources.has(name)) feeds.ask(feed, name)
      schedule()
    }
    return this.#waiter(wait, timeoutMs)
  }

  #waiter(wait: Wait, timeoutMs: number): Promise<boolean> {
    const { clock } = this.#options
    return new Promise((resolve) => {
      let cancel: Cancel | undefined
      const done = (found: boolean): void => {
        cancel?.()
        wait.waiters.delete(done)
        resolve(found)
      }
      const inVain = (): void => {
        done(false)
        if (wait.waiters.size === 0 && !wait.come) this.#giveUp(wait)
      }
      if (timeoutMs > 0) cancel = clock.schedule(timeoutMs, inVain)
      wait.waiters.add(done)
    })
  }

  /** Names come from requests: those that nobody answers must not be asked for without end. */
  #giveUp({ feed, name }: Wait): void {
    const id = waitId(feed, name)
    this.#waits.delete(id)
    this.#late.set(id, { feed, name })
    if (this.#late.size <= LIMIT) return
    const oldest = this.#late.entries().next().value
    if (oldest !== undefined) this.#unask(...oldest)
  }

  #unask(id: string, { feed, name }: Pick<Wait, 'feed' | 'name'>): void {
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
