import { type ConfigChange, ConfigState, changeBetween, RESOURCE_KINDS } from '../config/change.ts'
import type { LiveConfig } from '../config/live.ts'
import type { GatewayConfig } from '../config/model.ts'

export interface LiveRunOptions {
  readonly live: LiveConfig
  /** What its changes begin at. */
  readonly base: GatewayConfig
  /** What serves. */
  readonly state: () => ConfigState
  /** It serves already, by a live configuration before this one. */
  readonly serving: boolean
  publish(change: ConfigChange): void
  /** All that is known has been published. */
  initialised(): void
}

/**
 * Runs a live configuration on top of what serves. Where nothing has served before, everything it publishes counts at once.
 * Otherwise what served goes on serving:
 *
 * ```
 * catching up ──initialised──▶ adding ──confirmed──▶ following
 * (nothing is published)       (nothing goes that it has not said goes)
 * ```
 */
export class LiveRun {
  readonly #options: LiveRunOptions
  readonly live: LiveConfig
  #phase: 'catching up' | 'adding' | 'following'
  /** What it has published, as long as that is not what serves. */
  #own: ConfigState | undefined
  #initialised = false
  #ended = false

  constructor(options: LiveRunOptions) {
    this.#options = options
    this.live = options.live
    this.#phase = options.serving ? 'catching up' : 'following'
    this.#own = options.serving ? new ConfigState(options.base) : undefined
  }

  /** Static resources are published when this returns, where nothing served before. */
  start(): void {
    const { live } = this.#options
    live.start({ publish: (change) => this.#publish(change) })
    void live.initialised.then(() => this.#onInitialised())
  }

  /** What it knows is in force, or is being sent. */
  get initialised(): boolean {
    return this.#initialised
  }

  /** As `LiveConfig.demand`: what was found has been published. */
  async demand(...args: Parameters<LiveConfig['demand']>): Promise<boolean> {
    const found = await this.live.demand(...args)
    if (this.#phase === 'catching up') await this.live.initialised
    return found
  }

  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.live[Symbol.dispose]()
  }

  #publish(change: ConfigChange): void {
    if (this.#ended) return
    this.#own?.apply(change)
    if (this.#phase !== 'catching up') this.#options.publish(change)
  }

  #onInitialised(): void {
    if (this.#ended) return
    this.#initialised = true
    if (this.#phase === 'catching up') {
      this.#phase = 'adding'
      const difference = this.#difference()
      if (difference !== undefined) this.#send(withoutRemovals(difference))
      void (this.live.confirmed ?? this.live.initialised).then(() => this.#onConfirmed())
    }
    this.#options.initialised()
  }

  #onConfirmed(): void {
    if (this.#ended) return
    const difference = this.#difference()
    this.#phase = 'following'
    this.#own = undefined
    if (difference !== undefined) this.#send(difference)
  }

  #send(change: ConfigChange): void {
    if (Object.keys(change).length > 0) this.#options.publish(change)
  }

  #difference(): ConfigChange | undefined {
    return this.#own && changeBetween(this.#options.state(), this.#own.config())
  }
}

function withoutRemovals(change: ConfigChange): ConfigChange {
  const kept: Record<string, unknown> = { ...change }
  for (const kind of RESOURCE_KINDS) {
    const part = change[kind]
    if (part === undefined) continue
    if (part.set.length === 0) delete kept[kind]
    else kept[kind] = { set: part.set, remove: [] }
  }
  return kept as ConfigChange
}
