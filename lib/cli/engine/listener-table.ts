import {
  type CompiledListener,
  eachLifetime,
  eachLifetimeOf,
  type ListenerCompileDeps,
  listenerSteps,
} from '../../../listeners/compile.ts'
import type { Lifetime } from '../../../listeners/lifetime.ts'
import { Listener, type ListenerDeps } from '../../../listeners/listener.ts'
import type { ResourceChange } from '../../config/change.ts'
import type { ListenerConfig } from '../../config/listener.ts'
import { formatAddress } from '../../core/address.ts'
import type { Cancel, Clock } from '../../core/clock.ts'
import type { Counter, Gauge, Metrics } from '../../core/metrics.ts'
import type { Drains } from '../drain.ts'
import { Handover } from '../handover.ts'
import { blame } from './refusal.ts'
import type { Slices } from './slices.ts'

/** Envoy's `listener_manager.*`, as far as one worker counts it. */
interface ManagerCells {
  readonly created: Counter
  readonly failed: Counter
  readonly draining: Gauge
  readonly drainingChains: Gauge
}

function managerCells(metrics: Metrics): ManagerCells {
  return {
    created: metrics.counter('listener_manager.listener_create_success'),
    failed: metrics.counter('listener_manager.listener_create_failure'),
    draining: metrics.gauge('listener_manager.total_listeners_draining'),
    drainingChains: metrics.gauge('listener_manager.total_filter_chains_draining'),
  }
}

/** What the listeners of an engine share. */
export interface ListenerTableDeps {
  readonly listener: ListenerDeps
  readonly clock: Clock
  readonly slices: Slices
  readonly drains: Drains
}

/** How the listeners of one change are compiled. */
export interface CompileListeners {
  readonly deps: ListenerCompileDeps
  /** Nothing is taken over from versions in force: more than they has changed. */
  readonly afresh: boolean
}

/** The listeners of a gateway, by name, as they are now; those that were dropped stay until their connections have gone. */
export class ListenerTable {
  readonly #deps: ListenerTableDeps
  readonly #live = new Map<string, Listener>()
  /** Listeners that drain, each with what cancels the sweep of its idle connections. */
  readonly #retired = new Map<Listener, Cancel>()
  readonly #cells: ManagerCells

  constructor(deps: ListenerTableDeps) {
    this.#deps = deps
    this.#cells = managerCells(deps.listener.metrics)
  }

  find(name: string): Listener | undefined {
    return this.#live.get(name)
  }

  live(): readonly Listener[] {
    return [...this.#live.values()]
  }

  /** Those that drain too. */
  all(): readonly Listener[] {
    return [...this.#live.values(), ...this.#retired.keys()]
  }

  /**
   * Compiles what is new or has changed, in slices. Nothing is open before `ListenerStep.open`, nothing in force before
   * `commit`.
   */
  async prepare(change: ResourceChange<ListenerConfig>, { deps, afresh }: CompileListeners): Promise<ListenerStep> {
    const step = new ListenerStep(
      { ...this.#deps, live: this.#live, cells: this.#cells, retire: (one) => this.#retire(one) },
      change.remove,
    )
    try {
      for (const config of change.set) {
        const before = afresh ? undefined : this.#live.get(config.name)?.compiled
        const compiled = await blame('listeners', config.name, () =>
          this.#deps.slices.run(listenerSteps(config, deps, before)),
        )
        step.add(compiled)
      }
      return step
    } catch (error) {
      step.abandon()
      throw error
    }
  }

  /** Its connections close with their next answer, or when they have been idle for the manager's drain time. */
  #retire(listener: Listener): void {
    const sweep = this.#deps.clock.schedule(listener.drainTimeoutMs, () => listener.closeIdle())
    this.#retired.set(listener, sweep)
    this.#cells.draining.v = this.#retired.size
    void listener.drain().then(() => {
      sweep()
      this.#retired.delete(listener)
      this.#cells.draining.v = this.#retired.size
      eachLifetime(listener.compiled, release)
    })
  }

  /** Ends all connections at once. */
  close(): void {
    for (const listener of this.all()) listener.close()
    for (const cancelSweep of this.#retired.values()) cancelSweep()
    this.#live.clear()
    this.#retired.clear()
  }
}

interface StepDeps extends ListenerTableDeps {
  readonly live: Map<string, Listener>
  readonly cells: ManagerCells
  retire(listener: Listener): void
}

/**
 * Listeners of one change, on their way into force.
 *
 * ```
 * prepare ─▶ open ─▶ commit
 *              └───▶ abandon
 * ```
 */
export class ListenerStep {
  readonly #deps: StepDeps
  readonly #remove: readonly string[]
  readonly #compiled = new Map<string, CompiledListener>()
  readonly #opened: Listener[] = []
  #handover = new Handover([])

  constructor(deps: StepDeps, remove: readonly string[]) {
    this.#deps = deps
    this.#remove = remove
  }

  add(compiled: CompiledListener): void {
    this.#compiled.set(compiled.config.name, compiled)
  }

  /**
   * Opens listeners that are new or have moved; those that stay are left alone until `commit`. What listens already is
   * not bound again: `commit` hands it over.
   */
  async open(): Promise<void> {
    this.#handover = new Handover(this.#leaving())
    for (const [name, compiled] of this.#compiled) {
      const known = this.#deps.live.get(name)
      if (known !== undefined && sameSockets(known.config, compiled.config)) continue
      const created = new Listener(compiled, this.#deps.listener)
      // It accepts before it is in force.
      compiled.directory.current ??= compiled
      this.#opened.push(created)
      try {
        await blame('listeners', name, () => created.open((address) => this.#handover.claim(created, address)))
      } catch (error) {
        this.#deps.cells.failed.v++
        throw error
      }
    }
  }

  /** Listeners that are not there any more after it, or on other addresses. */
  #leaving(): Listener[] {
    const { live } = this.#deps
    const leaving: Listener[] = []
    for (const name of this.#remove) {
      const listener = live.get(name)
      if (listener !== undefined && !this.#compiled.has(name)) leaving.push(listener)
    }
    for (const [name, { config }] of this.#compiled) {
      const listener = live.get(name)
      if (listener !== undefined && !sameSockets(listener.config, config)) leaving.push(listener)
    }
    return leaving
  }

  /** In force from now on. */
  commit(): void {
    const { live, cells, drains, retire } = this.#deps
    const leaving = this.#leaving()
    this.#handover.perform()
    for (const listener of leaving) {
      live.delete(listener.name)
      retire(listener)
    }
    for (const listener of this.#opened) {
      listener.compiled.directory.current = listener.compiled
      live.set(listener.name, listener)
      drains.opened(listener)
      cells.created.v++
    }
    const opened = new Set(this.#opened)
    for (const [name, compiled] of this.#compiled) {
      const listener = live.get(name)
      if (listener !== undefined && !opened.has(listener)) update(listener, compiled, cells.drainingChains)
    }
  }

  /** Instead of `commit`: everything stays as it was. */
  abandon(): void {
    for (const listener of this.#opened) listener.close()
    for (const compiled of this.#compiled.values()) {
      if (compiled.directory.current === compiled) compiled.directory.current = undefined
      eachLifetime(compiled, release)
    }
  }
}

/** What the version before had, and this one has not, goes when nothing uses it any more. */
function update(listener: Listener, compiled: CompiledListener, draining: Gauge): void {
  const before = listener.compiled
  for (const chain of listener.update(compiled)) {
    if (chain.size === 0) continue
    const version = chain.compiled
    eachLifetimeOf(version, hold)
    draining.v++
    void chain.whenGone().then(() => {
      draining.v--
      eachLifetimeOf(version, release)
    })
  }
  eachLifetime(before, release)
}

function hold(lifetime: Lifetime): void {
  lifetime.hold()
}

function release(lifetime: Lifetime): void {
  lifetime.release()
}

function sameSockets(a: ListenerConfig, b: ListenerConfig): boolean {
  const key = (config: ListenerConfig): string => config.addresses.map(formatAddress).join(' ')
  return key(a) === key(b)
}
