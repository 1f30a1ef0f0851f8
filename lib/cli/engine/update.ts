import type { ListenerCompileDeps } from '../../../listeners/compile.ts'
import type { PreparedTable, TableUsers } from '../../../listeners/http/manager-routes.ts'
import type { ConfigChange, ConfigState, ResourceChange } from '../../config/change.ts'
import type { Cancel } from '../../core/clock.ts'
import type { Log } from '../../core/metrics.ts'
import type { RouteTableConfig } from '../../router/config.ts'
import type { ClusterStep, ClusterTable, ColdCluster } from '../../upstream/cluster-table.ts'
import type { AssignmentFeed } from './assignments.ts'
import type { Leaving } from './held-parts.ts'
import type { ListenerStep, ListenerTable } from './listener-table.ts'
import type { LiveRuntime, LiveSecrets } from './live.ts'
import { blame, refusalOf } from './refusal.ts'
import type { Slices } from './slices.ts'
import { type Split, WARM_MS, type WarmingLine } from './warming.ts'

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
  readonly warming: WarmingLine
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
  /** Assignments that go with it. */
  readonly leaving: readonly Leaving[]
  /** `whole`: all of a configuration, which waits until its clusters are warm; `rest`: of a change that has waited. */
  readonly kind: 'whole' | 'change' | 'rest'
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
 * Clusters of a change that are not warm at once take their places later, and what depends on them with them (`WarmingLine`):
 * `inForce` is when all of that is. Undefined: it is already.
 *
 * @throws ChangeRefused
 */
export async function applyChange(
  taken: TakenChange,
  shop: Workshop,
): Promise<{ readonly inForce: Promise<void> | undefined }> {
  const update = new Update(taken, shop)
  try {
    await update.prepare()
    shop.assertOpen()
    await update.open()
  } catch (error) {
    update.abandon()
    throw refusalOf(error)
  }
  const inForce = update.commit()
  await update.settle()
  return { inForce }
}

class Update {
  readonly #taken: TakenChange
  readonly #shop: Workshop
  readonly #tables: PreparedTable[] = []
  #clusters: ClusterStep | undefined = undefined
  #listeners: ListenerStep | undefined = undefined
  #undoSecrets: (() => void) | undefined = undefined
  /** Not warm when it was looked. */
  #cold: ReadonlySet<ColdCluster> = new Set()
  #now: Split

  constructor(taken: TakenChange, shop: Workshop) {
    this.#taken = taken
    this.#shop = shop
    this.#now = { change: taken.change, leaving: taken.leaving, held: undefined }
  }

  async prepare(): Promise<void> {
    const { change: whole, afresh, node } = this.#taken
    const { clusters, slices, listeners, compileDeps } = this.#shop
    if (whole.clusters !== undefined) {
      this.#clusters = await slices.run(clusters.prepare(whole.clusters.set, whole.clusters.remove))
      await this.#warm(this.#clusters)
    }
    if (this.#taken.kind === 'change') await this.#split(whole)
    const { change } = this.#now
    if (change.routeTables !== undefined) await this.#compileTables(change.routeTables)
    if (change.listeners === undefined) return
    const deps: ListenerCompileDeps = { ...compileDeps, node, findTable: this.#findTable() }
    this.#listeners = await listeners.prepare(change.listeners, { deps, afresh })
  }

  async #warm(step: ClusterStep): Promise<void> {
    if (step.cold.length === 0) return
    if (this.#taken.kind === 'whole') await this.#warmAll(step)
    // What is known in this process takes no longer.
    else await this.#shop.slices.pause()
    this.#shop.assertOpen()
  }

  async #split(change: ConfigChange): Promise<void> {
    const { warming, slices } = this.#shop
    const cold = this.#clusters?.cold ?? []
    this.#cold = new Set(cold)
    this.#now = await slices.run(warming.split(change, this.#taken.leaving, cold))
  }

  async #warmAll(step: ClusterStep): Promise<void> {
    let cancel = (): void => {}
    const late = new Promise<void>((resolve) => {
      cancel = this.#shop.schedule(WARM_MS, () => {
        this.#shop.log.warn('some clusters are not warm yet; going on without')
        resolve()
      })
    })
    await Promise.race([step.warm(), late, this.#shop.ending])
    cancel()
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
    const { routeTables } = this.#now.change
    const { state } = this.#shop
    if (routeTables === undefined) return (name) => state.routeTables.get(name)
    const next = new Map<string, RouteTableConfig | undefined>(routeTables.remove.map((name) => [name, undefined]))
    for (const table of routeTables.set) next.set(table.name, table)
    return (name) => (next.has(name) ? next.get(name) : state.routeTables.get(name))
  }

  async open(): Promise<void> {
    const { secrets } = this.#now.change
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

  /** In one turn of the loop. Answers what resolves when the rest is in force. */
  commit(): Promise<void> | undefined {
    const { kind, change: whole } = this.#taken
    const { change, leaving } = this.#now
    const { state, runtime, assignments, warming } = this.#shop
    const gone = new Set(change.clusters?.remove)
    this.#clusters?.commit(this.#cold, (name) => !gone.has(name))
    if (change.runtime !== undefined) runtime.replace(change.runtime)
    for (const table of this.#tables) table.commit()
    this.#listeners?.commit()
    for (const { name, at } of leaving) assignments.remove(name, at)
    const { assignments: _, ...rest } = change
    state.apply(rest)
    this.#shop.limitConnections(state.base.maxConnections)
    return kind === 'whole' ? undefined : warming.commit(whole, this.#now, this.#cold)
  }

  async settle(): Promise<void> {
    if (this.#clusters !== undefined) await this.#shop.slices.run(this.#clusters.settle())
  }
}

/** Nothing of it waits for anything. */
export function onlyEndpoints(change: ConfigChange): boolean {
  if (change.assignments !== undefined && change.assignments.remove.length > 0) return false
  for (const part in change) {
    if (part !== 'assignments' && change[part as keyof ConfigChange] !== undefined) return false
  }
  return true
}
