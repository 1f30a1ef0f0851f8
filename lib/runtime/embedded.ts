import type { LiveConfig } from '../config/live.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { DynamicStatus } from '../config/status.ts'
import type { Clock } from '../core/clock.ts'
import type { JsonObject } from '../core/errors.ts'
import type { ControlPanel } from './control-panel.ts'
import { DrainedListeners } from './drained-listeners.ts'
import { DRAIN_ALL, type DrainWish, type Engine, type EngineStatus, type MetricsSnapshot } from './engine.ts'
import { LoadLedger, type LoadReader } from './load-ledger.ts'
import { ManagerStats } from './manager-stats.ts'
import type { MemoryUse } from './messages.ts'
import type { Reloads, ServerState } from './server-state.ts'
import { noReloads, withReloads, withServerGauges } from './server-state.ts'
import { StatsStore } from './stats-store.ts'
import { memoryUse } from './worker.ts'

export interface EmbeddedOptions {
  readonly engine: Engine
  readonly process: NodeJS.Process
  readonly clock: Clock
  readonly drainTimeMs: number
  /** Who keeps the configuration up to date; undefined: nobody. */
  readonly live?: () => FollowedConfig | undefined
  /** What this process counts beside the engine: it speaks to control planes. */
  readonly ownMetrics?: () => MetricsSnapshot | undefined
  /** What `/quitquitquit` does: an embedded gateway must not end its host. */
  quit(): void
}

/** A live configuration and how far it is. */
export interface FollowedConfig {
  readonly live: LiveConfig
  /** As it is now. */
  readonly config: GatewayConfig
  /** All that it waited for at its start has come, and is in force. */
  readonly initialised: boolean
}

/** The control panel of a gateway that is one process; whoever owns the engine tells it what was applied. */
export class EmbeddedPanel implements ControlPanel {
  readonly #options: EmbeddedOptions
  readonly #startedMs: number
  /** For the owner to count. */
  readonly reloads: Reloads = noReloads()
  #config: { readonly config: GatewayConfig; readonly updatedMs: number } | undefined
  #draining = false
  readonly #drained = new DrainedListeners()
  readonly #managers = new ManagerStats()
  #healthy = true
  #level: string | undefined

  readonly #loads: LoadLedger

  constructor(options: EmbeddedOptions) {
    this.#options = options
    this.#loads = new LoadLedger({
      refresh: async () => this.#loads.add(0, options.engine.loads?.() ?? []),
    })
    this.#startedMs = options.clock.now()
  }

  /** For `Scope.serving` of the engine's filters. */
  readonly serving = (): boolean => this.#healthy && !this.#draining && !this.#drained.all

  /** False once the gateway was told to fail its health checks. */
  readonly healthy = (): boolean => this.#healthy

  /** The engine runs this configuration from now on. */
  applied(config: GatewayConfig): void {
    this.#config = { config, updatedMs: this.#options.clock.wall() }
    this.#managers.follow(config)
  }

  /** The owner has begun to drain the engine. */
  draining(): void {
    this.#draining = true
  }

  state(): ServerState {
    if (!this.serving()) return 'DRAINING'
    const waits = this.#config === undefined || this.#options.live?.()?.initialised === false
    return waits ? 'INITIALIZING' : 'LIVE'
  }

  uptimeMs(): number {
    return this.#options.clock.now() - this.#startedMs
  }

  workers(): number {
    return 1
  }

  configuration(): { readonly config: GatewayConfig; readonly updatedMs: number } | undefined {
    const config = this.#options.live?.()?.config
    return config === undefined || this.#config === undefined ? this.#config : { ...this.#config, config }
  }

  dynamic(): DynamicStatus | undefined {
    return this.#options.live?.()?.live.status()
  }

  modifyRuntime(values: JsonObject): string | undefined {
    const followed = this.#options.live?.()
    return followed === undefined ? 'No admin layer specified' : followed.live.modifyRuntime(values)
  }

  loads(): LoadReader {
    return this.#loads.reader()
  }

  /** Everything that is counted in this process, under Envoy's names. */
  metrics(): MetricsSnapshot {
    const own = this.#options.ownMetrics?.()
    const engine = this.#options.engine.metrics()
    const counted = this.#managers.with(own === undefined ? engine : addMetrics([engine, own]), this.state())
    return withReloads(own?.texts === undefined ? counted : { ...counted, texts: own.texts }, this.reloads)
  }

  async stats(): Promise<MetricsSnapshot> {
    const memory = memoryUse(this.#options.process)
    const server = { state: this.state(), uptimeMs: this.uptimeMs(), workers: 1, memory }
    return withServerGauges(this.metrics(), server)
  }

  async status(): Promise<EngineStatus> {
    return this.#options.engine.status()
  }

  async memory(): Promise<MemoryUse> {
    return memoryUse(this.#options.process)
  }

  logLevel(): string | undefined {
    return this.#level
  }

  setLogLevel(level: string): void {
    this.#level = level
    this.#options.engine.setLogLevel(level)
  }

  drainListeners(wish: DrainWish = DRAIN_ALL): void {
    if (this.#draining || !this.#drained.begin(wish)) return
    const drained = this.#options.engine.drain(this.#options.drainTimeMs, wish)
    const stopped = (): void => this.#managers.stopped(wish, this.configuration()?.config)
    if (!wish.graceful) stopped()
    else void drained.then(() => this.#drained.ended(wish)).then(() => wish.skipExit || stopped())
  }

  /** What is to run of a configuration: without listeners that were drained on request. */
  without(config: GatewayConfig): GatewayConfig {
    return this.#drained.without(config)
  }

  /** Listeners that were drained on request. */
  get drained(): DrainedListeners {
    return this.#drained
  }

  setHealthy(ok: boolean): void {
    this.#healthy = ok
  }

  reopenLogs(): void {
    this.#options.engine.reopenLogs()
  }

  restartWorkers(): boolean {
    return false
  }

  quit(): void {
    this.#options.quit()
  }
}

/** Sums of what several parts of a process count. */
function addMetrics(parts: readonly MetricsSnapshot[]): MetricsSnapshot {
  const store = new StatsStore()
  parts.forEach((part, index) => {
    store.set(index, part)
  })
  return store.snapshot()
}
