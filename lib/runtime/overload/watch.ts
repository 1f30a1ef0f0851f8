import { type OverloadConfig, WORKER_MONITORS } from '../../config/overload.ts'
import type { Cancel, Clock } from '../../core/clock.ts'
import type { Log, Runtime } from '../../core/metrics.ts'
import { sameJson } from '../../core/same-json.ts'
import { MetricsStore } from '../../telemetry/metrics.ts'
import type { MetricsSnapshot } from '../engine.ts'
import type { Machine } from './machine.ts'
import { MonitorSet } from './monitor.ts'
import { createMonitor } from './monitors.ts'
import { memoryOf } from './process-memory.ts'
import type { Pressures } from './run.ts'

export interface OverloadWatchOptions {
  readonly clock: Clock
  readonly log: Log
  readonly machine: Machine
  readonly runtime: Runtime
  /** Of all processes of the gateway. */
  readonly pids: () => Iterable<number>
  /** Downstream, of all workers. */
  readonly connections: () => number
  /** To every worker; each interval, though nothing has changed: silence means that nobody measures. */
  readonly tell: (pressures: Pressures) => void
}

/** Control's part in the overload manager: measures what holds for the whole gateway, once. */
export class OverloadWatch implements Disposable {
  readonly #options: OverloadWatchOptions
  readonly #metrics = new MetricsStore()
  readonly #pressures = new Map<string, number>()
  #config: OverloadConfig | undefined = undefined
  #set: MonitorSet | undefined = undefined
  #refreshing = false
  #cancel: Cancel = () => {}

  constructor(options: OverloadWatchOptions) {
    this.#options = options
  }

  /** From now on; undefined: nothing is measured. */
  configure(config: OverloadConfig | undefined): void {
    if (sameJson(this.#config, config)) return
    this.#rest()
    this.#config = config
    const monitors = config?.monitors.filter(({ kind }) => !WORKER_MONITORS.has(kind)) ?? []
    if (config === undefined || monitors.length === 0) return
    const { log, machine, clock, runtime, pids, connections } = this.#options
    const deps = { machine, clock, runtime, memory: () => memoryOf(machine, pids()), connections }
    this.#set = new MonitorSet(monitors, {
      make: (monitor) => createMonitor(monitor, deps),
      metrics: this.#metrics,
      log,
      measured: (name, pressure) => this.#measured(name, pressure),
    })
    this.#schedule(config.refreshIntervalMs)
  }

  /** What it counts; undefined: it has never measured anything. */
  metrics(): MetricsSnapshot | undefined {
    const snapshot = this.#metrics.snapshot()
    return snapshot.gauges.length === 0 ? undefined : snapshot
  }

  [Symbol.dispose](): void {
    this.#rest()
  }

  #rest(): void {
    this.#cancel()
    this.#set?.[Symbol.dispose]()
    this.#set = undefined
    this.#pressures.clear()
  }

  #schedule(intervalMs: number): void {
    this.#cancel = this.#options.clock.schedule(intervalMs, () => {
      this.#schedule(intervalMs)
      this.#refreshing = true
      this.#set?.refresh()
      this.#refreshing = false
      this.#tell()
    })
  }

  /** What comes later than the rest and is new is told at once. */
  #measured(name: string, pressure: number): void {
    const before = this.#pressures.get(name)
    this.#pressures.set(name, pressure)
    if (!this.#refreshing && pressure !== before) this.#tell()
  }

  #tell(): void {
    this.#options.tell([...this.#pressures])
  }
}
