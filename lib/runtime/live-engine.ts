import type { LiveConfig } from '../config/live.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { Clock } from '../core/clock.ts'
import type { Demand } from '../core/demand.ts'
import { type ConfigError, ConfigRefused } from '../core/errors.ts'
import type { Log } from '../core/metrics.ts'
import type { DrainedListeners } from './drained-listeners.ts'
import type { FollowedConfig } from './embedded.ts'
import type { Engine } from './engine.ts'
import type { FeedMessage } from './feed.ts'
import { LiveRun } from './live-run.ts'
import { Rollout } from './rollout.ts'
import { WorkerConfig } from './worker-config.ts'

/** An engine that could not go back to what it ran gets the whole again after that. */
const RETRY_MS = 1000
/** How long a virtual host is waited for. */
const VIRTUAL_HOST_MS = 15_000
/** The only worker. */
const SELF = 0

export interface LiveEngineOptions {
  readonly engine: Engine
  readonly drained: DrainedListeners
  readonly clock: Clock
  readonly log: Log
  /** Not started; ends with this. */
  readonly live: LiveConfig
  /** What its changes begin at. */
  readonly base: GatewayConfig
  /** What the engine runs already, which stays until the live configuration is complete; undefined: nothing. */
  readonly running: GatewayConfig | undefined
  /** It has published something. */
  published(): void
  /** The engine could not use a resource. */
  revoked(): void
}

/** Keeps an engine of the same process at what a live configuration says, as the control process does with its workers. */
export class LiveEngine implements FollowedConfig, Demand, Disposable {
  readonly live: LiveConfig
  readonly #options: LiveEngineOptions
  readonly #rollout: Rollout
  readonly #run: LiveRun
  readonly #worker: WorkerConfig
  readonly #started = Promise.withResolvers<void>()
  /** Messages that wait until somebody else is done with the engine. */
  #held: FeedMessage[] | undefined = undefined
  /** The number that must have been answered before all counts as initialised. */
  #initialAt: number | undefined = undefined
  #initialised: boolean
  #ended = false

  constructor(options: LiveEngineOptions) {
    const { engine, drained, log, live, base, running } = options
    this.#options = options
    this.live = live
    this.#initialised = running !== undefined
    // Somebody who has given up may not be there to hear of it.
    this.#started.promise.catch(() => {})
    this.#rollout = new Rollout({ config: running ?? base }, { run: 1, events: this.#events() })
    this.#worker = new WorkerConfig({
      engine,
      drained,
      log,
      mark: 'self',
      applied: (id) => this.#rollout.applied(SELF, id),
      refused: (id, refusal) => {
        this.#rollout.refused(SELF, id, refusal)
        // What is taken instead is waited for as well.
        if (this.#initialAt !== undefined) this.#initialAt = this.#rollout.at
      },
    })
    this.#run = new LiveRun({
      live,
      base,
      state: () => this.#rollout.state,
      serving: running !== undefined,
      publish: (change) => {
        this.#rollout.publish(change)
        options.published()
      },
      initialised: () => {
        this.#initialAt = this.#rollout.at
        this.#checkInitialised()
      },
    })
  }

  /** Resolves when what is there at once runs. @throws ConfigRefused where that cannot be */
  async start(): Promise<void> {
    const { running } = this.#options
    this.#run.start()
    if (running !== undefined) {
      this.#worker.resume(running, this.#rollout.revision)
      this.#started.resolve()
    }
    this.#rollout.attach(SELF, this.#worker.revision, (message) => this.#take(message))
    await this.#started.promise
  }

  get config(): GatewayConfig {
    return this.#rollout.config
  }

  get initialised(): boolean {
    return this.#initialised
  }

  /** Nothing reaches the engine until `release`. */
  hold(): void {
    this.#held ??= []
  }

  release(): void {
    const held = this.#held
    this.#held = undefined
    for (const message of held ?? []) this.#take(message)
  }

  virtualHost(table: string, host: string): Promise<boolean> {
    return this.#ask({ kind: 'virtual-host', table, host }, VIRTUAL_HOST_MS)
  }

  cluster(name: string, source: string, timeoutMs: number): Promise<boolean> {
    return this.#ask({ kind: 'cluster', name, source }, timeoutMs)
  }

  /** Ends the live configuration; the engine goes on with what it has. */
  [Symbol.dispose](): void {
    this.#ended = true
    this.#run.end()
    this.#rollout.detach(SELF)
    this.#started.reject(new Error('the gateway is closed'))
  }

  async #ask(...wish: Parameters<LiveConfig['demand']>): Promise<boolean> {
    const found = await this.#run.demand(...wish)
    if (found) {
      await new Promise<void>((resolve) => this.#rollout.whenSent(SELF, resolve))
      await this.#worker.idle()
    }
    return found
  }

  #take(message: FeedMessage): void {
    if (this.#held !== undefined) this.#held.push(message)
    else this.#worker.take(message)
  }

  #checkInitialised(): void {
    if (this.#initialAt !== undefined && !this.#rollout.owes(this.#initialAt)) this.#initialised = true
  }

  #events(): ConstructorParameters<typeof Rollout>[1]['events'] {
    return {
      applied: () => {
        this.#started.resolve()
        this.#checkInitialised()
      },
      refusedWhole: (_, { errors, resource }) => {
        // What a control plane sent must not keep the rest from starting.
        if (resource !== undefined && this.#isDelivered(resource.name) && this.#rollout.revoke(resource, errors)) {
          this.#rollout.resend(SELF)
        } else if (this.#initialised) this.#again(errors)
        else this.#started.reject(new ConfigRefused(errors))
      },
      revoked: (resource, errors) => {
        const { log, revoked } = this.#options
        const reasons = errors.map((error) => error.toString())
        log.warn('a resource cannot be used; it stays what it was before', { ...resource, reasons })
        this.live.refused(resource, errors)
        revoked()
      },
      lost: (_, errors) => this.#again(errors),
    }
  }

  #isDelivered(name: string): boolean {
    return this.live.status().resources.some((resource) => resource.name === name && resource.source !== '')
  }

  #again(errors: readonly ConfigError[]): void {
    const { clock, log } = this.#options
    log.error('the configuration cannot be used; it is tried again', { reasons: errors.map((e) => e.toString()) })
    clock.schedule(RETRY_MS, () => {
      if (!this.#ended) this.#rollout.resend(SELF)
    })
  }
}
