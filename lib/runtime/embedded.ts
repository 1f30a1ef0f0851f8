import type { GatewayConfig } from '../config/model.ts'
import type { Clock } from '../core/clock.ts'
import type { ControlPanel } from './control-panel.ts'
import { DrainedListeners } from './drained-listeners.ts'
import { DRAIN_ALL, type DrainWish, type Engine, type EngineStatus, type MetricsSnapshot } from './engine.ts'
import type { MemoryUse } from './messages.ts'
import type { Reloads, ServerState } from './server-state.ts'
import { withReloads, withServerGauges } from './server-state.ts'
import { memoryUse } from './worker.ts'

export interface EmbeddedOptions {
  readonly engine: Engine
  readonly process: NodeJS.Process
  readonly clock: Clock
  readonly drainTimeMs: number
  /** What `/quitquitquit` does: an embedded gateway must not end its host. */
  quit(): void
}

/** The control panel of a gateway that is one process; whoever owns the engine tells it what was applied. */
export class EmbeddedPanel implements ControlPanel {
  readonly #options: EmbeddedOptions
  readonly #startedMs: number
  /** For the owner to count. */
  readonly reloads: Reloads = { good: { v: 0 }, refused: { v: 0 } }
  #config: { readonly config: GatewayConfig; readonly updatedMs: number } | undefined
  #draining = false
  readonly #drained = new DrainedListeners()
  #healthy = true
  #level: string | undefined

  constructor(options: EmbeddedOptions) {
    this.#options = options
    this.#startedMs = options.clock.now()
  }

  /** For `Scope.serving` of the engine's filters. */
  readonly serving = (): boolean => this.#healthy && !this.#draining && !this.#drained.all

  /** The engine runs this configuration from now on. */
  applied(config: GatewayConfig): void {
    this.#config = { config, updatedMs: this.#options.clock.wall() }
  }

  /** The owner has begun to drain the engine. */
  draining(): void {
    this.#draining = true
  }

  state(): ServerState {
    if (!this.serving()) return 'DRAINING'
    return this.#config === undefined ? 'INITIALIZING' : 'LIVE'
  }

  uptimeMs(): number {
    return this.#options.clock.now() - this.#startedMs
  }

  workers(): number {
    return 1
  }

  configuration(): { readonly config: GatewayConfig; readonly updatedMs: number } | undefined {
    return this.#config
  }

  async stats(): Promise<MetricsSnapshot> {
    const memory = memoryUse(this.#options.process)
    const server = { state: this.state(), uptimeMs: this.uptimeMs(), workers: 1, memory }
    return withServerGauges(withReloads(this.#options.engine.metrics(), this.reloads), server)
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
    if (wish.graceful) void drained.then(() => this.#drained.ended(wish))
  }

  /** What is to run of a configuration: without listeners that were drained on request. */
  without(config: GatewayConfig): GatewayConfig {
    return this.#drained.without(config)
  }

  setHealthy(ok: boolean): void {
    this.#healthy = ok
  }

  reopenLogs(): void {
    this.#options.engine.reopenLogs()
  }

  quit(): void {
    this.#options.quit()
  }
}
