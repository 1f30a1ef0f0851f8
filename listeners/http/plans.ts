import { type ChainPlan, compileChain } from '../../lib/chain/compile.ts'
import type { HttpFilter, Scope, Terminal } from '../../lib/chain/filter.ts'
import type { CompiledFilter, FilterRegistry, PreparedFilter } from '../../lib/chain/registry.ts'
import type { HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import type { FilterConfigs } from '../../lib/router/config.ts'
import type { Lifetime, Lifetimes } from '../lifetime.ts'

/** What filters of a connection manager are compiled with. */
export interface PlanDeps {
  readonly registry: FilterRegistry
  readonly lifetimes: Lifetimes
  /** The scope of one filter, which owns what `own` is given; `statPrefix` with its dot. */
  readonly scopeFor: (filterName: string, statPrefix: string, own: Scope['own']) => Scope
}

/** A chain that several routes, and versions of route tables, may share. */
export interface SharedPlan {
  readonly plan: ChainPlan
  /** Held by the tables that have it, used by the exchanges on it. */
  readonly lifetime: Lifetime
}

/** One filter object; chains that are equal in its place share it. */
interface Instance {
  readonly id: number
  readonly filter: CompiledFilter
  readonly lifetime: Lifetime
}

/**
 * The chains of one connection manager, by the settings that routes have for its filters. They outlive route tables: what
 * an update of routes leaves as it was goes on with the filters that it has, their counts and buckets. What no table has any
 * more is disposed of when the last exchange on it has ended.
 */
export class Plans {
  readonly #config: HttpConnectionManagerConfig
  readonly #deps: PlanDeps
  /** For each filter of the chain, by `PreparedFilter.key`. */
  readonly #instances: readonly Map<string, Instance>[]
  /** By the instances that they consist of. */
  readonly #plans = new Map<string, SharedPlan>()
  #lastId = 0

  constructor(config: HttpConnectionManagerConfig, deps: PlanDeps) {
    this.#config = config
    this.#deps = deps
    this.#instances = config.filters.map(() => new Map())
  }

  /**
   * The chain for these per-route levels, least specific first. It is held for the caller, who releases it.
   *
   * @throws Error naming the filter that does not compile.
   */
  hold(levels: readonly FilterConfigs[]): SharedPlan {
    const prepared = this.#config.filters.map((filter) => {
      const overrides = levels.map((level) => level[filter.name]).filter((override) => override !== undefined)
      return this.#deps.registry.prepare(filter, overrides)
    })
    const instances: (Instance | undefined)[] = []
    try {
      for (const [i, one] of prepared.entries()) instances.push(one && this.#instance(i, one))
      return this.#plan(instances)
    } finally {
      // The plan holds them by now, or they were made in vain.
      for (const instance of instances) instance?.lifetime.release()
    }
  }

  #instance(at: number, prepared: PreparedFilter): Instance {
    const byKey = this.#instances[at]
    const known = byKey.get(prepared.key)
    if (known !== undefined) {
      known.lifetime.hold()
      return known
    }
    const lifetime = this.#deps.lifetimes.create()
    lifetime.hold()
    try {
      const { statPrefix, filters } = this.#config
      const scope = this.#deps.scopeFor(filters[at].name, `http.${statPrefix}.`, lifetime.own)
      const made: Instance = { id: ++this.#lastId, filter: prepared.make(scope), lifetime }
      byKey.set(prepared.key, made)
      lifetime.own({ [Symbol.dispose]: () => void byKey.delete(prepared.key) })
      return made
    } catch (error) {
      lifetime.release()
      throw error
    }
  }

  #plan(instances: readonly (Instance | undefined)[]): SharedPlan {
    const key = instances.map((instance) => instance?.id ?? 0).join()
    const known = this.#plans.get(key)
    if (known !== undefined) {
      known.lifetime.hold()
      return known
    }
    const lifetime = this.#deps.lifetimes.create()
    const shared: SharedPlan = { plan: this.#compile(instances, lifetime), lifetime }
    lifetime.hold()
    this.#plans.set(key, shared)
    for (const instance of instances) instance?.lifetime.hold()
    lifetime.own({
      [Symbol.dispose]: () => {
        this.#plans.delete(key)
        for (const instance of instances) instance?.lifetime.release()
      },
    })
    return shared
  }

  #compile(instances: readonly (Instance | undefined)[], { usage }: Lifetime): ChainPlan {
    const filters: (HttpFilter<unknown> | undefined)[] = []
    const names: string[] = []
    let terminal: Terminal | undefined
    for (const [i, instance] of instances.entries()) {
      const filter = instance?.filter
      if (filter !== undefined && 'begin' in filter) terminal = filter
      else {
        filters.push(filter as HttpFilter<unknown> | undefined)
        names.push(this.#config.filters[i].name)
      }
    }
    if (terminal === undefined) {
      throw new Error(`the HTTP filters of "${this.#config.statPrefix}" do not end with a terminal one`)
    }
    return compileChain(filters, names, terminal, [usage])
  }
}
