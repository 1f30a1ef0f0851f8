import type { ListenerCompileDeps } from '../../../listeners/compile.ts'
import type { PreparedTable, TableUsers } from '../../../listeners/http/manager-routes.ts'
import type { ConfigChange, ConfigState, ResourceChange } from '../../config/change.ts'
import type { Cancel } from '../../core/clock.ts'
import type { Log } from '../../core/metrics.ts'
import type { RouteTableConfig } from '../../router/config.ts'
import type { ClusterStep, ClusterTable } from '../../upstream/cluster-table.ts'
import type { AssignmentFeed } from './assignments.ts'
import type { ListenerStep, ListenerTable } from './listener-table.ts'
import type { LiveRuntime, LiveSecrets } from './live.ts'
import { blame, refusalOf } from './refusal.ts'
import type { Slices } from './slices.ts'

/** How long a change waits for its clusters' first membership before it is used without. */
const WARM_MS = 5_000

/** What a change works on. */
export interface Workshop {
  readonly state: ConfigState
  readonly clusters: ClusterTable
  readonly assignments: AssignmentFeed
  readonly listeners: ListenerTable
  readonly tableUsers: TableUsers
  readonly runtime: LiveRuntime
  readonly secrets: LiveSecrets
  readonly slices: Slices
  readonly log: Log
  schedule(delayMs: number, run: () => void): Cancel
  /** Resolves when the engine closes: nothing is waited for any longer. */
  readonly ending: Promise<void>
  /** @throws ConfigRefused once it closes */
  assertOpen(): void
  /** What listeners are compiled with, but for what depends on the change. */
  readonly compileDeps: Omit<ListenerCompileDeps, 'findTable' | 'node'>
  limitConnections(limit: number | undefined): void
}

/** A change that has been taken in: its endpoints are in force. */
export interface TakenChange {
  readonly change: ConfigChange
  /** Names of assignments that go with it. */
  readonly leaving: readonly string[]
  /** When it came, in the order of arrival. */
  readonly at: number
  readonly afresh: boolean
  readonly node: ListenerCompileDeps['node']
}

/**
 * Puts all of a change in force but its endpoints, which are so already. Everything new is made aside, in slices, while what
 * was there serves on:
 *
 * ```
 * clusters made and warmed ─▶ route tables, listeners compiled ─▶ sockets opened ─▶ swap, in one turn ─▶ what has gone retires
 *          └──────────────────────────┴──────────────────────────────┴─▶ refused: everything stays as it was
 * ```
 *
 * @throws ChangeRefused
 */
export async function applyChange(taken: TakenChange, shop: Workshop): Promise<void> {
  const update = new Update(taken, shop)
  try {
    await update.prepare()
    shop.assertOpen()
    await update.open()
  } catch (error) {
    update.abandon()
    throw refusalOf(error)
  }
  update.commit()
  await update.settle()
}

class Update {
  readonly #taken: TakenChange
  readonly #shop: Workshop
  readonly #tables: PreparedTable[] = []
  #clusters: ClusterStep | undefined = undefined
  #listeners: ListenerStep | undefined = undefined
  #undoSecrets: (() => void) | undefined = undefined

  constructor(taken: TakenChange, shop: Workshop) {
    this.#taken = taken
    this.#shop = shop
  }

  async prepare(): Promise<void> {
    const { change, afresh, node } = this.#taken
    const { clusters, slices, listeners, compileDeps } = this.#shop
    if (change.clusters !== undefined) {
      this.#clusters = await slices.run(clusters.prepare(change.clusters.set, change.clusters.remove))
      await this.#warm(this.#clusters)
    }
    if (change.routeTables !== undefined) await this.#compileTables(change.routeTables)
    if (change.listeners === undefined) return
    const deps: ListenerCompileDeps = { ...compileDeps, node, findTable: this.#findTable() }
    this.#listeners = await listeners.prepare(change.listeners, { deps, afresh })
  }

  async #warm(step: ClusterStep): Promise<void> {
    let cancel = (): void => {}
    const late = new Promise<void>((resolve) => {
      cancel = this.#shop.schedule(WARM_MS, () => {
        this.#shop.log.warn('some clusters are not warm yet; going on without')
        resolve()
      })
    })
    await Promise.race([step.warm(), late, this.#shop.ending])
    cancel()
    this.#shop.assertOpen()
  }

  /** For each connection manager that uses one of them; those that the change brings are compiled with them. */
  async #compileTables({ set, remove }: ResourceChange<RouteTableConfig>): Promise<void> {
    const names = new Set(set.map(({ name }) => name))
    for (const config of set) await this.#compileTable(config.name, config)
    for (const name of remove) if (!names.has(name)) await this.#compileTable(name, undefined)
  }

  async #compileTable(name: string, config: RouteTableConfig | undefined): Promise<void> {
    const { tableUsers, slices } = this.#shop
    for (const user of tableUsers.of(name)) {
      this.#tables.push(await blame('routeTables', name, () => slices.run(user.prepare(name, config))))
    }
  }

  /** Route tables as they will be. */
  #findTable(): ListenerCompileDeps['findTable'] {
    const { routeTables } = this.#taken.change
    const { state } = this.#shop
    if (routeTables === undefined) return (name) => state.routeTables.get(name)
    const next = new Map<string, RouteTableConfig | undefined>(routeTables.remove.map((name) => [name, undefined]))
    for (const table of routeTables.set) next.set(table.name, table)
    return (name) => (next.has(name) ? next.get(name) : state.routeTables.get(name))
  }

  async open(): Promise<void> {
    const { secrets } = this.#taken.change
    // Listeners that are opened accept at once, a little before the rest is in force: what they need is there.
    if (secrets !== undefined) this.#undoSecrets = this.#shop.secrets.change(secrets)
    if (this.#listeners === undefined) return
    this.#clusters?.expose()
    await this.#listeners.open()
  }

  abandon(): void {
    this.#listeners?.abandon()
    for (const table of this.#tables) table.abandon()
    this.#clusters?.abandon()
    this.#undoSecrets?.()
  }

  /** In one turn of the loop. */
  commit(): void {
    const { change, leaving, at } = this.#taken
    const { state, runtime, assignments } = this.#shop
    this.#clusters?.commit()
    if (change.runtime !== undefined) runtime.replace(change.runtime)
    for (const table of this.#tables) table.commit()
    this.#listeners?.commit()
    for (const name of leaving) assignments.remove(name, at)
    const { assignments: _, ...rest } = change
    state.apply(rest)
    this.#shop.limitConnections(state.base.maxConnections)
  }

  async settle(): Promise<void> {
    if (this.#clusters !== undefined) await this.#shop.slices.run(this.#clusters.settle())
  }
}
