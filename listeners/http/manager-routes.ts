import type { Exchange } from '../../lib/chain/exchange.ts'
import type { HttpConnectionManagerConfig, ScopedRoutesConfig } from '../../lib/config/listener.ts'
import type { Runtime } from '../../lib/core/metrics.ts'
import type { RouteTableConfig } from '../../lib/router/config.ts'
import type { Plans } from './plans.ts'
import { type ManagerTable, managerTableSteps } from './route-tables.ts'
import { compileScopeKey, type ScopeKey, scopeKey } from './scope-key.ts'

/** Finds the gateway's route tables by name, as they are in the configuration that is about to be in force. */
export type FindTable = (name: string) => RouteTableConfig | undefined

/** Where a table stands that may be exchanged. */
interface Slot {
  current: ManagerTable
}

/** A table that has been compiled and waits to be put in force. */
export interface PreparedTable {
  /** Requests from now on use it. */
  commit(): void
  /** Instead: it was made in vain. */
  abandon(): void
}

/**
 * Where a connection manager finds its routes: in a table of its own, in one of the gateway's tables, or in that of the
 * scope that a request belongs to. A table that changes is compiled aside and exchanged by one assignment.
 */
export class ManagerRoutes implements Disposable {
  readonly #plans: Plans
  readonly #runtime: Runtime
  readonly #slots: readonly Slot[]
  readonly #byName: ReadonlyMap<string, Slot>
  /** Undefined: there is one table for all. */
  readonly #scopes:
    | { readonly keyOf: ScopeKey; readonly slots: ReadonlyMap<string, Slot>; readonly none: Slot }
    | undefined
  readonly #single: Slot

  constructor(parts: {
    readonly plans: Plans
    readonly runtime: Runtime
    readonly slots: readonly Slot[]
    readonly byName: ReadonlyMap<string, Slot>
    readonly scopes?: { readonly keyOf: ScopeKey; readonly slots: ReadonlyMap<string, Slot>; readonly none: Slot }
  }) {
    this.#plans = parts.plans
    this.#runtime = parts.runtime
    this.#slots = parts.slots
    this.#byName = parts.byName
    this.#scopes = parts.scopes
    this.#single = parts.slots[0]
  }

  /** Names of the gateway's tables that it uses. */
  get names(): Iterable<string> {
    return this.#byName.keys()
  }

  /** The table of a request as it is now. */
  of(exchange: Pick<Exchange, 'request' | 'head'>): ManagerTable {
    const scopes = this.#scopes
    if (scopes === undefined) return this.#single.current
    const key = scopes.keyOf(exchange)
    return ((key === undefined ? undefined : scopes.slots.get(key)) ?? scopes.none).current
  }

  /** Compiles another version of one of the tables that it uses; undefined: there is none any more. */
  *prepare(name: string, config: RouteTableConfig | undefined): Generator<undefined, PreparedTable> {
    const table = yield* managerTableSteps(config, this.#plans, this.#runtime)
    const slot = this.#byName.get(name)
    return {
      commit: () => {
        if (slot === undefined) return table.release()
        const before = slot.current
        slot.current = table
        before.release()
      },
      abandon: () => table.release(),
    }
  }

  [Symbol.dispose](): void {
    for (const { current } of this.#slots) current.release()
  }
}

/** Compiles the routes of one connection manager. */
export function* managerRoutesSteps(
  config: HttpConnectionManagerConfig,
  deps: { readonly plans: Plans; readonly runtime: Runtime; readonly findTable: FindTable },
): Generator<undefined, ManagerRoutes> {
  const { plans, runtime, findTable } = deps
  const slots: Slot[] = []
  const byName = new Map<string, Slot>()
  const add = function* (table: RouteTableConfig | undefined): Generator<undefined, Slot> {
    const slot = { current: yield* managerTableSteps(table, plans, runtime) }
    slots.push(slot)
    return slot
  }
  const named = function* (name: string): Generator<undefined, Slot> {
    const slot = byName.get(name) ?? (yield* add(findTable(name)))
    byName.set(name, slot)
    return slot
  }
  let done = false
  try {
    const { routes, routeTable, scopedRoutes } = config
    if (scopedRoutes !== undefined) {
      const none = yield* add(undefined)
      const found = new Map<string, Slot>()
      for (const scope of scopedRoutes.scopes) {
        const slot = scope.routeTable === undefined ? yield* add(scope.routes) : yield* named(scope.routeTable)
        found.set(scopeKey(scope.key), slot)
      }
      done = true
      return new ManagerRoutes({
        plans,
        runtime,
        slots,
        byName,
        scopes: { keyOf: keyOf(scopedRoutes), slots: found, none },
      })
    }
    if (routeTable === undefined) yield* add(routes)
    else yield* named(routeTable)
    done = true
    return new ManagerRoutes({ plans, runtime, slots, byName })
  } finally {
    if (!done) for (const { current } of slots) current.release()
  }
}

function keyOf({ key }: ScopedRoutesConfig): ScopeKey {
  return compileScopeKey(key)
}

/** Which connection managers use which of the gateway's route tables. */
export class TableUsers {
  readonly #byName = new Map<string, Set<ManagerRoutes>>()

  /** From now on, until the answer is disposed of. */
  add(routes: ManagerRoutes): Disposable {
    for (const name of routes.names) {
      const users = this.#byName.get(name)
      if (users === undefined) this.#byName.set(name, new Set([routes]))
      else users.add(routes)
    }
    return { [Symbol.dispose]: () => this.#remove(routes) }
  }

  #remove(routes: ManagerRoutes): void {
    for (const name of routes.names) {
      const users = this.#byName.get(name)
      if (users?.delete(routes) === true && users.size === 0) this.#byName.delete(name)
    }
  }

  of(name: string): readonly ManagerRoutes[] {
    return [...(this.#byName.get(name) ?? [])]
  }
}
