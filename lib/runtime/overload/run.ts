import {
  ACTIONS,
  type ActionName,
  type OverloadConfig,
  SHED_POINTS,
  TIMEOUTS,
  WORKER_MONITORS,
} from '../../config/overload.ts'
import type { Cancel, Clock } from '../../core/clock.ts'
import type { Counter, Gauge, Histogram, Log, Metrics, Runtime } from '../../core/metrics.ts'
import type { Lever, OverloadLevers, ShedPoint } from '../../core/overload.ts'
import { sameJson } from '../../core/same-json.ts'
import type { Machine } from './machine.ts'
import { MonitorSet } from './monitor.ts'
import { createMonitor, memoryLimit } from './monitors.ts'
import { furthest, Trigger } from './trigger.ts'

/** Pressures by the names of their monitors, as they cross from control to workers. */
export type Pressures = readonly (readonly [name: string, pressure: number])[]

/** Who does what levers alone do not do. */
export interface OverloadActor {
  /** An action is further, or less far, than before. */
  moved(action: ActionName, scale: number): void
  /** Levers are as they are to be until the next look. */
  looked(): void
}

export interface OverloadRunOptions {
  readonly clock: Clock
  readonly metrics: Metrics
  readonly log: Log
  readonly machine: Machine
  readonly runtime: Runtime
  readonly levers: OverloadLevers
  readonly actor: OverloadActor
  /** Downstream, of this process. */
  readonly connections: () => number
  /** Control measures what holds for the whole gateway and tells `pressures`; false: this is the only process. */
  readonly remote: boolean
}

/** What control measures is out of date after so many of its intervals, and at least so many ms. */
const STALE_INTERVALS = 4
const STALE_MS = 2_000

interface Moving {
  readonly lever: Lever
  /** Of actions alone. */
  readonly name: ActionName | undefined
  readonly triggers: readonly Trigger[]
  readonly scalePercent: Gauge
  readonly active: Gauge | undefined
}

/**
 * The overload manager of one process: measures what is its own, hears the rest from control, and moves the levers. Where
 * control says nothing for a while (it is being started again), the process measures everything for itself.
 */
export class OverloadRun implements Disposable {
  readonly #options: OverloadRunOptions
  #config: OverloadConfig | undefined = undefined
  #pressures = new Map<string, number>()
  #moving: readonly Moving[] = []
  #own: MonitorSet | undefined = undefined
  /** For as long as control says nothing. */
  #instead: MonitorSet | undefined = undefined
  #heardMs = 0
  /** Of this process when control spoke last. */
  #rssThen = 0
  #refreshDelay: Histogram | undefined = undefined
  #cancel: Cancel = () => {}

  constructor(options: OverloadRunOptions) {
    this.#options = options
  }

  /** From now on; undefined: nothing is watched, and every lever rests. */
  configure(config: OverloadConfig | undefined): void {
    if (sameJson(this.#config, config)) return
    this.#rest()
    this.#config = config
    if (config === undefined) return
    const { metrics, levers, clock, machine, remote } = this.#options
    this.#refreshDelay = metrics.histogram('overload.refresh_interval_delay')
    for (const { timeout, minimum } of config.timeouts) levers[TIMEOUTS[timeout]].minimum = minimum
    this.#moving = movingParts(config, levers, metrics)
    this.#own = this.#measure(config.monitors.filter(({ kind }) => !remote || WORKER_MONITORS.has(kind)))
    this.#heardMs = clock.now()
    this.#rssThen = machine.rss()
    this.#schedule(config.refreshIntervalMs)
  }

  /** What control has measured. */
  pressures(list: Pressures): void {
    const { clock, machine } = this.#options
    this.#heardMs = clock.now()
    this.#rssThen = machine.rss()
    this.#instead?.[Symbol.dispose]()
    this.#instead = undefined
    for (const [name, pressure] of list) this.#pressures.set(name, pressure)
    this.#look()
  }

  [Symbol.dispose](): void {
    this.#rest()
    this.#config = undefined
  }

  #rest(): void {
    this.#cancel()
    this.#own?.[Symbol.dispose]()
    this.#instead?.[Symbol.dispose]()
    this.#own = this.#instead = undefined
    this.#pressures = new Map()
    this.#look()
    this.#moving = []
    for (const timeout of Object.values(TIMEOUTS)) this.#options.levers[timeout].minimum = undefined
  }

  #measure(monitors: OverloadConfig['monitors']): MonitorSet {
    const { metrics, log, machine, clock, runtime } = this.#options
    const deps = { machine, clock, runtime, memory: this.#memory, connections: this.#connections }
    return new MonitorSet(monitors, {
      make: (config) => createMonitor(config, deps),
      metrics,
      log,
      measured: (name, pressure) => {
        const before = this.#pressures.get(name)
        this.#pressures.set(name, pressure)
        if (pressure !== before) this.#look()
      },
    })
  }

  /** All that control knew of, with what this process has grown by since; of one process, its own. */
  readonly #memory: Parameters<typeof createMonitor>[1]['memory'] = (config) => {
    const { machine, remote, runtime } = this.#options
    const rss = machine.rss()
    const known = remote ? this.#pressuresThen.get(config.name) : undefined
    return known === undefined ? rss : Math.max(rss, known * memoryLimit(config, runtime) + rss - this.#rssThen)
  }

  readonly #connections = (): number => {
    const { connections, remote } = this.#options
    if (remote) throw new Error('nobody tells how many the other workers have')
    return connections()
  }

  #pressuresThen: ReadonlyMap<string, number> = new Map()

  #schedule(intervalMs: number): void {
    const { clock } = this.#options
    const dueMs = clock.now() + intervalMs
    this.#cancel = clock.schedule(intervalMs, () => {
      this.#refreshDelay?.record(Math.max(0, clock.now() - dueMs))
      this.#schedule(intervalMs)
      this.#own?.refresh()
      if (this.#options.remote) this.#refreshInstead()
      this.#options.actor.looked()
    })
  }

  #refreshInstead(): void {
    const config = this.#config as OverloadConfig
    const remote = config.monitors.filter(({ kind }) => !WORKER_MONITORS.has(kind))
    const stale = Math.max(STALE_MS, STALE_INTERVALS * config.refreshIntervalMs)
    if (remote.length === 0 || this.#options.clock.now() < this.#heardMs + stale) return
    if (this.#instead === undefined) {
      this.#pressuresThen = new Map(this.#pressures)
      this.#instead = this.#measure(remote)
    }
    this.#instead.refresh()
  }

  /** Moves every lever to where the pressures want it. */
  #look(): void {
    const { levers, actor } = this.#options
    const pressureOf = (monitor: string): number | undefined => this.#pressures.get(monitor)
    for (const { lever, name, triggers, active, scalePercent } of this.#moving) {
      const before = lever.scale
      const scale = furthest(triggers, pressureOf)
      if (scale === before) continue
      lever.scale = scale
      scalePercent.v = Math.round(scale * 100)
      if (active !== undefined) active.v = scale === 1 ? 1 : 0
      if (name === undefined) continue
      if (lever === levers.reduceTimeouts) for (const timeout of Object.values(TIMEOUTS)) levers[timeout].scale = scale
      this.#tell(name, before, scale)
      actor.moved(name, scale)
    }
  }

  #tell(action: ActionName, before: number, scale: number): void {
    const { log } = this.#options
    const pressures = Object.fromEntries(this.#pressures)
    if (before === 0) log.warn('overload: an action begins', { action, scale, pressures })
    else if (scale === 0) log.info('overload: an action is over', { action, pressures })
  }
}

function movingParts(config: OverloadConfig, levers: OverloadLevers, metrics: Metrics): readonly Moving[] {
  const actions = config.actions.map(({ name, triggers }) => ({
    lever: levers[ACTIONS[name]],
    name,
    triggers: triggers.map((trigger) => new Trigger(trigger)),
    scalePercent: metrics.gauge(`overload.${name}.scale_percent`),
    active: metrics.gauge(`overload.${name}.active`),
  }))
  const points = config.shedPoints.map(({ name, triggers }) => {
    const lever: ShedPoint = levers[SHED_POINTS[name]]
    const count: Counter = metrics.counter(`overload.${name}.shed_load_count`)
    lever.count = count
    return {
      lever,
      name: undefined,
      triggers: triggers.map((trigger) => new Trigger(trigger)),
      scalePercent: metrics.gauge(`overload.${name}.scale_percent`),
      active: undefined,
    }
  })
  return [...actions, ...points]
}
