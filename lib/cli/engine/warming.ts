import { type ConfigChange, type ConfigState, RESOURCE_KINDS } from '../../config/change.ts'
import type { ListenerConfig } from '../../config/listener.ts'
import type { Cancel, Clock } from '../../core/clock.ts'
import type { ConfigRefused } from '../../core/errors.ts'
import type { Log } from '../../core/metrics.ts'
import { sameJson } from '../../core/same-json.ts'
import type { ClusterTable, ColdCluster } from '../../upstream/cluster-table.ts'
import { type Held, keyOf, type Leaving, Pending, type Rest, sumOf, tidy } from './held-parts.ts'
import { namesIn } from './names-in.ts'
import { refusalOf } from './refusal.ts'

/** How long a cluster's first membership is waited for before it is used without. */
export const WARM_MS = 5_000

/** What of a change is put in force now; the rest waits. */
export interface Split {
  readonly change: ConfigChange
  readonly leaving: readonly Leaving[]
  /** Undefined: nothing waits. */
  readonly held: readonly Held[] | undefined
}

interface ListenerNeeds {
  /** Of all of them together. */
  readonly needs: ReadonlySet<string>
  /** Which ones need something. */
  readonly own: ReadonlySet<string>
  /** Some of a change before wait. */
  readonly waits: boolean
}

interface Warming {
  readonly cold: ColdCluster
  /** There is no cluster of that name yet. */
  readonly isNew: boolean
  readonly pending: Set<Pending>
  late: Cancel
}

interface Waiting {
  readonly held: Held
  readonly pending: Pending
}

export interface WarmingOptions {
  readonly clusters: ClusterTable
  readonly state: ConfigState
  readonly log: Log
  readonly clock: Clock
}

/** Calls `work` when its turn comes, which may put something in force then. Rejects where `work` does. */
export type Flush = (work: (run: (rest: Rest) => Promise<unknown>) => Promise<void>) => Promise<void>

/**
 * Clusters that warm, each in its own time (Envoy's warming clusters), and what waits for them. A cluster that takes
 * another's place is put there when it is warm. Route tables and listeners that name one that is new wait until it is there;
 * so does what is taken away meanwhile, since what is in force may need it. Everything else goes on. What comes later goes
 * before what waits of the same name.
 */
export class WarmingLine {
  readonly #options: WarmingOptions
  readonly #putInForce: Flush
  readonly #warming = new Map<string, Warming>()
  readonly #waiting = new Map<string, Waiting>()

  constructor(options: WarmingOptions, flush: Flush) {
    this.#options = options
    this.#putInForce = flush
  }

  /** What of a change can be put in force while `cold` of it, and others before, are not warm. Changes nothing. */
  *split(change: ConfigChange, leaving: readonly Leaving[], cold: readonly ColdCluster[]): Generator<undefined, Split> {
    if (cold.length === 0 && this.#warming.size === 0 && this.#waiting.size === 0) {
      return { change, leaving, held: undefined }
    }
    const names = this.#newNames(change, cold)
    const held: Held[] = []
    const now: { -readonly [K in keyof ConfigChange]: ConfigChange[K] } = { ...change }
    const coldNames = new Set(cold.map(({ cluster }) => cluster.name))
    if (change.clusters !== undefined) {
      now.clusters = { ...change.clusters, set: change.clusters.set.filter(({ name }) => !coldNames.has(name)) }
    }
    if (change.routeTables !== undefined) {
      const set: (typeof change.routeTables.set)[number][] = []
      for (const value of change.routeTables.set) {
        const needs = yield* namesIn(value, names)
        if (needs.size === 0) set.push(value)
        else held.push({ resource: { kind: 'routeTables', name: value.name }, value, at: 0, needs })
      }
      now.routeTables = { ...change.routeTables, set }
    }
    if (change.listeners !== undefined) {
      const found = yield* this.#needsOfListeners(change.listeners.set, names, held)
      if (found !== undefined) {
        const { needs, own } = found
        const apart = !found.waits && change.listeners.remove.length === 0 && this.#stayPut(change.listeners.set, own)
        now.listeners = apart
          ? { set: change.listeners.set.filter(({ name }) => !own.has(name)), remove: [] }
          : undefined
        for (const value of change.listeners.set) {
          if (apart && !own.has(value.name)) continue
          held.push({ resource: { kind: 'listeners', name: value.name }, value, at: 0, needs: new Set(needs) })
        }
        for (const name of change.listeners.remove) {
          held.push({ resource: { kind: 'listeners', name }, value: undefined, at: 0, needs: new Set(needs) })
        }
      }
    }
    if (held.length === 0 && this.#waiting.size === 0) return { change: tidy(now), leaving, held }
    this.#holdRemovals(now, leaving, held)
    return { change: tidy(now), leaving: [], held }
  }

  /** Clusters that are new and not warm, as they will be. */
  #newNames(change: ConfigChange, cold: readonly ColdCluster[]): ReadonlySet<string> {
    const names = new Set<string>()
    for (const [name, { isNew }] of this.#warming) if (isNew) names.add(name)
    for (const { cluster } of cold) if (this.#options.clusters.get(cluster.name) === undefined) names.add(cluster.name)
    const set = new Set(change.clusters?.set.map(({ name }) => name))
    for (const name of change.clusters?.remove ?? []) if (!set.has(name)) names.delete(name)
    return names
  }

  /** None of these that wait leaves an address to another. */
  #stayPut(listeners: readonly ListenerConfig[], waiting: ReadonlySet<string>): boolean {
    return listeners.every(({ name, addresses }) => {
      const before = waiting.has(name) ? this.#options.state.listeners.get(name) : undefined
      return before === undefined || sameJson(before.addresses, addresses)
    })
  }

  /**
   * What listeners need, and the names of those that need something themselves. Undefined: none does, and none of a change
   * before waits. Where one may take the address of another they go together.
   */
  *#needsOfListeners(
    listeners: readonly ListenerConfig[],
    names: ReadonlySet<string>,
    held: readonly Held[],
  ): Generator<undefined, ListenerNeeds | undefined> {
    const needs = new Set<string>()
    const own = new Set<string>()
    let waits = false
    // Route tables that are not there yet, and what those need.
    const tables = new Map<string, ReadonlySet<string>>()
    for (const one of [...held, ...[...this.#waiting.values()].map((waiting) => waiting.held)]) {
      const { resource, value } = one
      if (
        resource.kind === 'routeTables' &&
        value !== undefined &&
        !this.#options.state.routeTables.has(resource.name)
      ) {
        tables.set(resource.name, one.needs)
      }
      if (resource.kind === 'listeners') {
        waits = true
        for (const name of one.needs) needs.add(name)
      }
    }
    const all = new Set([...names, ...tables.keys()])
    for (const listener of listeners) {
      for (const name of yield* namesIn(listener, all)) {
        own.add(listener.name)
        if (names.has(name)) needs.add(name)
        for (const need of tables.get(name) ?? []) needs.add(need)
      }
    }
    return waits || own.size > 0 ? { needs, own, waits } : undefined
  }

  /** What is taken away stays while something waits: the one before it may need it. */
  #holdRemovals(
    now: { -readonly [K in keyof ConfigChange]: ConfigChange[K] },
    leaving: readonly Leaving[],
    held: Held[],
  ): void {
    const needs = new Set<string>()
    for (const one of held) for (const name of one.needs) needs.add(name)
    for (const { held: one } of this.#waiting.values()) for (const name of one.needs) needs.add(name)
    for (const kind of ['clusters', 'routeTables', 'secrets'] as const) {
      const part = now[kind]
      if (part === undefined || part.remove.length === 0) continue
      const set = new Set(part.set.map(({ name }: { readonly name: string }) => name))
      const stays = (name: string): boolean => set.has(name) || !this.#options.state[kind].has(name)
      for (const name of part.remove) {
        if (!stays(name)) held.push({ resource: { kind, name }, value: undefined, at: 0, needs: new Set(needs) })
      }
      Object.assign(now, { [kind]: { ...part, remove: part.remove.filter(stays) } })
    }
    for (const { name, at } of leaving) {
      held.push({ resource: { kind: 'assignments', name }, value: undefined, at, needs: new Set(needs) })
    }
  }

  /**
   * The split is in force, as far as it is. Answers what resolves when all of the change is, or rejects where the rest is
   * refused; undefined: it is already.
   */
  commit(whole: ConfigChange, split: Split, cold: ReadonlySet<ColdCluster>): Promise<void> | undefined {
    if (cold.size === 0 && this.#warming.size === 0 && this.#waiting.size === 0) return undefined
    const { held = [] } = split
    this.#supersede(split)
    const pending = new Pending()
    const fresh = new Set([...cold].map(({ cluster }) => cluster.name))
    for (const [name, warming] of this.#warming) {
      if (fresh.has(name) || !this.#options.clusters.isWarming(warming.cold)) this.#end(name, warming)
    }
    for (const one of cold) {
      // That it goes has waited, and it has come back since.
      this.#forget(keyOf({ kind: 'clusters', name: one.cluster.name }))
      this.#begin(one)
    }
    for (const { name } of whole.clusters?.set ?? []) {
      const warming = this.#warming.get(name)
      if (warming === undefined) continue
      warming.pending.add(pending)
      pending.open.add(warming)
    }
    for (const one of held) {
      const key = keyOf(one.resource)
      this.#forget(key)
      for (const name of one.needs) if (!this.#warming.has(name)) one.needs.delete(name)
      this.#waiting.set(key, { held: one, pending })
      pending.open.add(one)
    }
    this.#flushWhatIsReady()
    if (pending.open.size === 0) return undefined
    // Whoever has it hears of it.
    pending.inForce.catch(() => {})
    return pending.inForce
  }

  /** What has come since goes before what waits. */
  #supersede({ change, leaving }: Split): void {
    if (this.#waiting.size === 0) return
    for (const { name } of leaving) this.#forget(keyOf({ kind: 'assignments', name }))
    for (const kind of RESOURCE_KINDS) {
      const part = change[kind]
      if (part === undefined || kind === 'assignments') continue
      for (const { name } of part.set) this.#forget(keyOf({ kind, name }))
      for (const name of part.remove) this.#forget(keyOf({ kind, name }))
    }
  }

  #forget(key: string): void {
    const waiting = this.#waiting.get(key)
    if (waiting === undefined) return
    this.#waiting.delete(key)
    waiting.pending.done(waiting.held)
  }

  #begin(cold: ColdCluster): void {
    const { clusters, log, clock } = this.#options
    const { name } = cold.cluster
    const warming: Warming = {
      cold,
      isNew: clusters.get(name) === undefined,
      pending: new Set(),
      late: clock.schedule(WARM_MS, () => {
        log.warn('a cluster is not warm yet; going on without', { cluster: name })
        this.#arrive(name, warming)
      }),
    }
    this.#warming.set(name, warming)
    void cold.warm.then(() => this.#arrive(name, warming))
  }

  #arrive(name: string, warming: Warming): void {
    if (this.#warming.get(name) !== warming) return
    const { clusters, state } = this.#options
    if (clusters.promote(warming.cold)) {
      state.apply({ clusters: { set: [warming.cold.cluster.config], remove: [] } })
    }
    this.#end(name, warming)
    this.#flushWhatIsReady()
  }

  /** It is there, or something else has taken its place: nobody waits for it any more. */
  #end(name: string, warming: Warming): void {
    warming.late()
    this.#warming.delete(name)
    for (const { held } of this.#waiting.values()) held.needs.delete(name)
    for (const pending of warming.pending) pending.done(warming)
  }

  #flushWhatIsReady(): void {
    for (const { held } of this.#waiting.values()) {
      if (held.needs.size > 0) continue
      void this.#flush()
      return
    }
  }

  /** What is refused goes with all that waits of its change; the rest is tried again without it. */
  async #flush(): Promise<void> {
    let taken: readonly Waiting[] = []
    for (;;) {
      try {
        await this.#putInForce(async (run) => {
          taken = [...this.#waiting.values()].filter(({ held }) => held.needs.size === 0)
          if (taken.length > 0) await run(sumOf(taken.map(({ held }) => held)))
        })
        return
      } catch (error) {
        if (!this.#refuse(taken, error)) return
      }
    }
  }

  /** False where nothing of it is left. */
  #refuse(taken: readonly Waiting[], error: unknown): boolean {
    const { resource } = refusalOf(error)
    const blamed = resource && this.#waiting.get(keyOf(resource))
    const refused = new Set((blamed === undefined ? taken : [blamed]).map(({ pending }) => pending))
    for (const [key, { pending }] of this.#waiting) if (refused.has(pending)) this.#waiting.delete(key)
    for (const pending of refused) pending.refuse(error)
    return blamed !== undefined
  }

  /** Nothing is waited for: what comes next is the whole (undefined), or there is no next. */
  end(error: ConfigRefused | undefined): void {
    const { clusters, state } = this.#options
    const open = new Set<Pending>()
    for (const { pending } of this.#waiting.values()) open.add(pending)
    for (const [name, warming] of this.#warming) {
      warming.late()
      for (const pending of warming.pending) open.add(pending)
      clusters.abandon(warming.cold)
      // The state says what there is.
      const live = clusters.get(name)
      if (live === undefined) state.clusters.delete(name)
      else state.clusters.set(name, live.config)
    }
    this.#warming.clear()
    this.#waiting.clear()
    for (const pending of open) {
      if (error !== undefined) pending.refuse(error)
      else for (const part of [...pending.open]) pending.done(part)
    }
  }
}
