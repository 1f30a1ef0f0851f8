import type { GatewayConfig } from '../../config/model.ts'
import type { Clock } from '../../core/clock.ts'
import type { Demand } from '../../core/demand.ts'
import type { Log } from '../../core/metrics.ts'
import type { EmbeddedPanel } from '../../runtime/embedded.ts'
import type { Engine, MetricsSnapshot } from '../../runtime/engine.ts'
import { LiveEngine } from '../../runtime/live-engine.ts'
import type { RecordedFiles } from '../../runtime/recorded-files.ts'
import type { KnownFilters } from '../config-source.ts'
import type { EnvoyConfig } from '../envoy-config.ts'
import { XdsLive } from './live.ts'
import { baseOf } from './read.ts'

export interface FollowingParts {
  readonly known: () => KnownFilters
  readonly engine: () => Engine
  readonly panel: () => EmbeddedPanel
  readonly clock: Clock
  readonly log: Log
  readonly random: () => number
  /** Undefined: nothing is kept. */
  readonly stateDir: string | undefined
  /** Other files than before may be part of the configuration. */
  published(): void
}

/** The control planes that a gateway of one process follows; none where its configuration names none. */
export class Following implements Demand {
  readonly #parts: FollowingParts
  #current: { readonly engine: LiveEngine; readonly live: XdsLive } | undefined = undefined

  constructor(parts: FollowingParts) {
    this.#parts = parts
  }

  get current(): LiveEngine | undefined {
    return this.#current?.engine
  }

  /** What is counted in speaking to control planes. */
  metrics(): MetricsSnapshot | undefined {
    return this.#current?.live.metrics()
  }

  /** Of all that is delivered, and of what names it. */
  files(): RecordedFiles | undefined {
    return this.#current?.live.files()
  }

  /**
   * Follows the control planes of a bootstrap, instead of others. `running`: what the engine has; it stays until they have
   * answered. @throws ConfigRefused with everything as it was
   */
  async follow(bootstrap: EnvoyConfig, running: GatewayConfig | undefined): Promise<void> {
    const { known, engine, panel, clock, log, random, stateDir, published } = this.#parts
    const { registry, filters } = known()
    let read = bootstrap
    const live = new XdsLive({
      reading: bootstrap.reading,
      again: () => {
        read = read.again()
        return read.reading
      },
      registry,
      filters,
      clock,
      random,
      log,
      loads: () => panel().loads(),
      ...(stateDir !== undefined && { stateDir }),
    })
    const before = this.#current
    before?.engine.hold()
    const next = new LiveEngine({
      engine: engine(),
      drained: panel().drained,
      clock,
      log,
      live,
      base: baseOf(bootstrap.reading.loaded),
      running: before?.engine.config ?? running,
      published,
      revoked: () => {
        panel().reloads.revoked.v++
      },
    })
    this.#current = { engine: next, live }
    try {
      await next.start()
    } catch (error) {
      next[Symbol.dispose]()
      this.#current = before
      before?.engine.release()
      throw error
    }
    before?.engine[Symbol.dispose]()
  }

  /** Does something with the engine that ends the following where it succeeds. */
  async instead(use: () => Promise<void>): Promise<void> {
    const before = this.#current
    before?.engine.hold()
    try {
      await use()
    } catch (error) {
      before?.engine.release()
      throw error
    }
    this.end()
  }

  end(): void {
    const before = this.#current
    this.#current = undefined
    before?.engine[Symbol.dispose]()
  }

  async virtualHost(table: string, host: string): Promise<boolean> {
    return (await this.#current?.engine.virtualHost(table, host)) ?? false
  }

  async cluster(name: string, source: string, timeoutMs: number): Promise<boolean> {
    return (await this.#current?.engine.cluster(name, source, timeoutMs)) ?? false
  }
}
