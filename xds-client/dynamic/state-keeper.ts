import type { Cancel, Clock } from '../../lib/core/clock.ts'
import type { Log } from '../../lib/core/metrics.ts'
import type { ReceivedResource } from '../source.ts'
import type { Feed } from './feed.ts'
import type { Graph } from './graph.ts'
import { factsOf, KINDS } from './kinds.ts'
import type { Resource } from './resource.ts'
import { StateDirectory } from './state-directory.ts'
import type { StateIdentity, StateRecord } from './state-file.ts'

/** How long a server has to answer before what it said last time is used. */
const COLD_START_MS = 3_000
/** Changes that come together are written together. */
const SETTLE_MS = 2_000
/** At most this part of the time is spent on writing. */
const REST = 20
/** A delta server that says nothing of what it was told is held means that it is as it was. */
const CONFIRM_MS = 15_000

/** What the keeper works with. */
export interface StateKeeperOptions {
  /** Undefined: nothing is kept. */
  readonly directory: string | undefined
  /** `node.id` */
  readonly node: string
  readonly clock: Clock
  readonly log: Log
  readonly graph: Graph
  /** Feeds that are open. */
  readonly feeds: () => Iterable<Feed>
  /** The feed could use this one. */
  usable(feed: Feed, received: ReceivedResource): boolean
  /** Takes one over as if its source had sent it. */
  restore(feed: Feed, received: ReceivedResource): void
  /** What it holds is what its source has. */
  confirm(feed: Feed): void
  /** There is work for the end of the turn. */
  schedule(): void
}

/** What is kept of one type of one source. */
interface Group {
  readonly identity: StateIdentity
  /** As it was found at the start; by name and collection. */
  found: ReadonlyMap<string, StateRecord>
  dirty: boolean
  timer: Cancel | undefined
  writing: boolean
  /** What brought its last change. */
  feed: Feed | undefined
}

/** How far a source has come. */
interface SourceState {
  connected: boolean
  /** It has not answered: what was kept stands in. */
  absent: boolean
  timer: Cancel | undefined
}

/**
 * Keeps what was accepted on disk, and on a start without an answer from its source uses it until there is one. A delta source
 * is told which versions are held, so what those are is made ready before it is asked.
 */
export class StateKeeper {
  readonly #options: StateKeeperOptions
  readonly #directory: StateDirectory | undefined
  readonly #groups = new Map<string, Group>()
  readonly #sources = new Map<string, SourceState>()
  readonly #staged = new Map<Feed, Map<string, ReceivedResource>>()
  #ready = false

  constructor(options: StateKeeperOptions) {
    this.#options = options
    const { directory, log } = options
    this.#directory = directory === undefined ? undefined : new StateDirectory(directory, log)
  }

  /** Something is wanted by the feed from now on: `name`, or `*`. */
  wanted(feed: Feed, name: string): void {
    if (!this.#keeps(feed)) return
    const source = this.#sourceOf(feed.source.key)
    if (source.connected) return
    const records = this.#records(feed, name)
    const telling = !feed.wholeAnswers && !feed.open
    const usable = telling ? this.#hold(feed, records) : records
    if (source.absent) this.#restore(feed, usable)
    else if (telling) this.#stage(feed, usable)
  }

  /** An answer has come by the feed, and is not taken over yet. */
  beforeUpdate(feed: Feed): void {
    this.#commit(feed)
  }

  changed(feed: Feed): void {
    if (!this.#keeps(feed)) return
    const group = this.#group(feed)
    group.feed = feed
    group.dirty = true
    this.#plan(group, SETTLE_MS)
  }

  /** It is there no more: a key that nobody needs must not stay on disk. */
  dropped({ facts, source, latest }: Resource): void {
    if (latest === undefined || source === undefined) return
    const group = this.#groups.get(groupId(facts.typeName, source.key))
    if (group === undefined) return
    group.dirty = true
    this.#plan(group, SETTLE_MS)
  }

  connection(key: string, connected: boolean): void {
    if (this.#directory === undefined) return
    const source = this.#sourceOf(key)
    if (!connected) {
      if (!source.connected) this.#useKept(key, source)
      return
    }
    source.connected = true
    source.absent = false
    source.timer?.()
    for (const feed of this.#options.feeds()) if (feed.source.key === key) this.#commit(feed)
    source.timer = this.#options.clock.schedule(CONFIRM_MS, () => this.#confirm(key))
  }

  /** The start is over: from now on what is there is all there is, and is written. */
  ready(): void {
    if (this.#ready) return
    this.#ready = true
    for (const group of this.#groups.values()) {
      group.found = new Map()
      if (group.dirty) this.#plan(group, SETTLE_MS)
    }
  }

  close(): void {
    for (const { timer } of this.#sources.values()) timer?.()
    for (const group of this.#groups.values()) {
      group.timer?.()
      if (!this.#ready || isDoubtful(group)) continue
      // One that is on its way may not arrive.
      if (group.dirty || group.writing) this.#directory?.writeNow(group.identity, this.#current(group))
    }
  }

  // --- the start ----------------------------------------------------------------------------------------------------

  #sourceOf(key: string): SourceState {
    let source = this.#sources.get(key)
    if (source !== undefined) return source
    const created: SourceState = { connected: false, absent: false, timer: undefined }
    created.timer = this.#options.clock.schedule(COLD_START_MS, () => this.#useKept(key, created))
    source = created
    this.#sources.set(key, source)
    return source
  }

  #useKept(key: string, source: SourceState): void {
    source.timer?.()
    source.timer = undefined
    if (source.connected || source.absent) return
    source.absent = true
    let count = 0
    for (const feed of [...this.#options.feeds()]) {
      if (feed.source.key !== key || !this.#keeps(feed)) continue
      this.#staged.delete(feed)
      for (const name of feed.resources.keys()) count += this.#restore(feed, this.#records(feed, name))
    }
    if (count === 0) return
    this.#options.log.warn('no answer from a control plane: what it said before the start is used', {
      source: key,
      count,
    })
  }

  /** Restores them, and answers how many there are. */
  #restore(feed: Feed, records: readonly ReceivedResource[]): number {
    if (records.length === 0) return 0
    feed.answered = true
    feed.restored = true
    feed.empty?.doubt()
    if (feed.collection !== undefined) this.#options.graph.answered(feed.collection)
    for (const record of records) this.#options.restore(feed, record)
    this.#options.schedule()
    return records.length
  }

  #stage(feed: Feed, records: readonly ReceivedResource[]): void {
    let staged = this.#staged.get(feed)
    if (staged === undefined) this.#staged.set(feed, (staged = new Map()))
    for (const record of records) staged.set(record.name, record)
  }

  /** The server is told that these are held. Answers those that can be used: of no others that is said. */
  #hold(feed: Feed, records: readonly ReceivedResource[]): ReceivedResource[] {
    const usable = records.filter((record) => this.#options.usable(feed, record))
    if (usable.length > 0) feed.held ??= new Map()
    for (const { name, version } of usable) feed.held?.set(name, version)
    return usable
  }

  #commit(feed: Feed): void {
    const staged = this.#staged.get(feed)
    if (staged === undefined) return
    this.#staged.delete(feed)
    this.#restore(feed, [...staged.values()])
  }

  #confirm(key: string): void {
    for (const feed of this.#options.feeds()) {
      if (feed.source.key === key && feed.held !== undefined) this.#options.confirm(feed)
    }
  }

  #records(feed: Feed, name: string): ReceivedResource[] {
    const { found } = this.#group(feed)
    const collection = feed.collection?.key ?? ''
    const { typeName } = feed.facts
    const take = ({ bytes, version, name }: StateRecord): ReceivedResource => ({
      name,
      version,
      typeName,
      bytes,
      aliases: [],
    })
    if (name !== '*' && !name.startsWith('xdstp:') && feed.facts.kind !== 'virtual-hosts') {
      const record = found.get(`${collection} ${name}`)
      return record === undefined ? [] : [take(record)]
    }
    return [...found.values()].filter((record) => record.collection === collection).map(take)
  }

  /** What comes from files is on disk as it is. */
  #keeps(feed: Feed): boolean {
    return this.#directory !== undefined && feed.source.source.kind !== 'file'
  }

  // --- files --------------------------------------------------------------------------------------------------------

  #group(feed: Feed): Group {
    const { typeName } = feed.facts
    const id = groupId(typeName, feed.source.key)
    const known = this.#groups.get(id)
    if (known !== undefined) return known
    const identity = { node: this.#options.node, typeName, source: feed.source.key }
    const records = this.#ready ? undefined : this.#directory?.read(identity)
    const found = new Map((records ?? []).map((record) => [`${record.collection} ${record.name}`, record]))
    const group: Group = { identity, found, dirty: false, timer: undefined, writing: false, feed: undefined }
    this.#groups.set(id, group)
    return group
  }

  #plan(group: Group, delayMs: number): void {
    if (!this.#ready || group.writing) return
    group.timer ??= this.#options.clock.schedule(delayMs, () => {
      group.timer = undefined
      if (isDoubtful(group)) this.#plan(group, SETTLE_MS)
      else this.#write(group)
    })
  }

  #write(group: Group): void {
    const { clock } = this.#options
    const startedMs = clock.now()
    group.dirty = false
    group.writing = true
    void this.#directory?.write(group.identity, this.#current(group)).then(() => {
      group.writing = false
      if (group.dirty) this.#plan(group, Math.max(SETTLE_MS, (clock.now() - startedMs) * REST))
    })
  }

  #current({ identity }: Group): StateRecord[] {
    const records: StateRecord[] = []
    for (const { kind, typeName, members } of KINDS.values()) {
      if (typeName !== identity.typeName || members !== undefined) continue
      for (const resource of this.#options.graph.all(kind).values()) {
        const { latest, name, source, removed } = resource
        if (latest === undefined || removed || source?.key !== identity.source) continue
        records.push({ name, version: latest.version, collection: collectionOf(resource), bytes: latest.bytes })
      }
    }
    return records
  }
}

function groupId(typeName: string, source: string): string {
  return `${typeName} ${source}`
}

/** Its last answer may be that of a server that knows nothing yet. */
function isDoubtful({ feed }: Group): boolean {
  return feed?.empty?.doubtful === true
}

function collectionOf(resource: Resource): string {
  for (const { facts, key } of resource.dependents) {
    if (facts.members !== undefined && factsOf(facts.members) === resource.facts) return key
  }
  return ''
}
