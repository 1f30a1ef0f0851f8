import { ChangeRefused, type ConfigChange, ConfigState } from '../config/change.ts'
import type { GatewayConfig } from '../config/model.ts'
import { ConfigError, ConfigRefused } from '../core/errors.ts'
import type { Log } from '../core/metrics.ts'
import type { DrainedListeners } from './drained-listeners.ts'
import type { Engine } from './engine.ts'
import type { FeedMessage } from './feed.ts'
import type { Refusal } from './rollout.ts'
import { RefusedVersions, type Step, takeStep } from './step.ts'

/** More assignments than that in one change are taken over in pieces: the loop has other things to do. */
const PIECE = 500

/** What a worker's configuration works on, and whom it tells. */
export interface WorkerConfigOptions {
  readonly engine: Engine
  readonly drained: DrainedListeners
  readonly log: Log
  /** Told apart from others of the same revision, where a worker does not run all of it. */
  readonly mark: string
  applied(id: number, kind: FeedMessage['kind']): void
  refused(id: number, refusal: Refusal): void
}

/**
 * The configuration that one engine runs, as control sends it. All that arrives goes to the engine at once and in order, so
 * that endpoints do not wait for what is being opened or warmed; each is answered when it is in force, or refused. Only what
 * comes behind very many endpoints waits until those have been taken over, over a few turns of the loop.
 */
export class WorkerConfig {
  readonly #options: WorkerConfigOptions
  #state: ConfigState | undefined = undefined
  readonly #refusals = new RefusedVersions()
  #revision = ''
  /** Something was refused since the last whole configuration: the revision says too much. */
  #marred = false
  readonly #pending = new Set<Promise<void>>()
  /** While something is taken over in pieces. */
  #line: Promise<void> | undefined = undefined

  constructor(options: WorkerConfigOptions) {
    this.#options = options
  }

  /** Of the last message; '' where nothing runs. */
  get revision(): string {
    if (this.#state === undefined) return ''
    return this.#marred ? `${this.#revision}~${this.#options.mark}` : this.#revision
  }

  /** As of the last message; undefined before the first. */
  config(): GatewayConfig | undefined {
    return this.#state?.config()
  }

  /** The engine runs this already. */
  resume(config: GatewayConfig, revision: string): void {
    this.#state = new ConfigState(config)
    this.#revision = revision
  }

  take(message: FeedMessage): void {
    if (this.#line === undefined && !isLarge(message)) {
      this.#takeNow(message, NOTHING)
      return
    }
    const before = this.#line ?? Promise.resolve()
    const line = before.then(() => this.#takeInPieces(message))
    this.#line = line
    void line.then(() => {
      if (this.#line === line) this.#line = undefined
    })
  }

  async #takeInPieces(message: FeedMessage): Promise<void> {
    const state = this.#state
    if (!isLarge(message) || state === undefined) {
      this.#takeNow(message, NOTHING)
      return
    }
    const { set, remove } = message.change.assignments
    const steps: Step[] = []
    const done: Promise<void>[] = []
    for (let at = 0; at < set.length; at += PIECE) {
      const part: ConfigChange = { assignments: { set: set.slice(at, at + PIECE), remove: [] } }
      steps.push(takeStep(state, part))
      const update = this.#options.engine.update(part)
      // Whoever takes over the rest hears of it.
      update.catch(() => {})
      done.push(update)
      await new Promise((resolve) => setImmediate(resolve))
    }
    this.#takeNow({ ...message, change: { ...message.change, assignments: { set: [], remove } } }, { steps, done })
  }

  #takeNow(message: FeedMessage, pieces: Pieces): void {
    const done = message.kind === 'config' ? this.#whole(message) : this.#change(message, pieces)
    this.#revision = message.revision
    const pending: Promise<void> = done.finally(() => this.#pending.delete(pending))
    this.#pending.add(pending)
  }

  /** Resolves when all that has arrived by now is in force, or was refused. */
  async idle(): Promise<void> {
    await this.#line
    await Promise.all(this.#pending)
  }

  async #whole({ id, revision, config }: FeedMessage & { kind: 'config' }): Promise<void> {
    const { engine, drained, applied } = this.#options
    if (revision !== this.revision) {
      const before = this.#state
      const state = new ConfigState(config)
      this.#state = state
      try {
        await engine.apply(drained.without(config))
        if (this.#state === state) this.#marred = false
      } catch (error) {
        // Changes that have come since are for another configuration than the one that runs: control begins anew.
        this.#marred = true
        if (this.#state === state) this.#state = before
        this.#refused(id, error)
        return
      }
    }
    applied(id, 'config')
  }

  async #change({ id, change }: FeedMessage & { kind: 'change' }, { steps, done }: Pieces): Promise<void> {
    const { engine, drained, applied } = this.#options
    const state = this.#state
    if (state === undefined) {
      this.#refused(id, new ConfigRefused([new ConfigError('', 'there is no configuration to change')]))
      return
    }
    const step = takeStep(state, change)
    try {
      await Promise.all([...done, engine.update(drained.withoutIn(change))])
    } catch (error) {
      this.#marred = true
      for (const taken of [...steps, step].reverse()) this.#refusals.correct(state, taken, undefined)
      this.#refused(id, error)
      return
    }
    applied(id, 'change')
  }

  #refused(id: number, error: unknown): void {
    if (!(error instanceof ConfigRefused)) {
      const text = error instanceof Error ? error.stack : String(error)
      this.#options.log.error('applying a configuration failed', { error: text })
    }
    const errors =
      error instanceof ConfigRefused
        ? error.errors
        : [new ConfigError('', error instanceof Error ? error.message : String(error))]
    this.#options.refused(id, { errors, resource: error instanceof ChangeRefused ? error.resource : undefined })
  }
}

/** What of a change has been taken over already, and when it is in force. */
interface Pieces {
  readonly steps: readonly Step[]
  readonly done: readonly Promise<void>[]
}

const NOTHING: Pieces = Object.freeze({ steps: Object.freeze([]), done: Object.freeze([]) })

type LargeChange = FeedMessage & { readonly kind: 'change' } & {
  readonly change: { readonly assignments: NonNullable<ConfigChange['assignments']> }
}

function isLarge(message: FeedMessage): message is LargeChange {
  return message.kind === 'change' && (message.change.assignments?.set.length ?? 0) > PIECE
}
