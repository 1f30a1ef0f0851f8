import { type ConfigChange, ConfigState, type ResourceName } from '../config/change.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { ConfigError } from '../core/errors.ts'
import { Feed, type FeedMessage, type Sent } from './feed.ts'
import { RefusedVersions, type ResourceStep, resourceKey, type Step, takeStep } from './step.ts'

/** So many numbers has each run of control: one that is restarted each five seconds can go on for four months. */
export const RUN_NUMBERS: number = 2 ** 32

/** What becomes of a configuration in the workers. */
export interface RolloutEvents {
  /** A worker has answered: what it was sent runs there. */
  applied(worker: number, kind: Sent['kind']): void
  /** A worker cannot use a whole configuration. `before`: what ran everywhere until then. */
  refusedWhole(worker: number, refusal: Refusal, before: GatewayConfig | undefined): void
  /** Workers cannot use a resource; it is what it was before again. Once for each version of a resource. */
  revoked(resource: ResourceName, errors: readonly ConfigError[]): void
  /** A worker cannot even go back to what it ran, or has lost it: it needs the whole configuration again. */
  lost(worker: number, errors: readonly ConfigError[]): void
}

/** Why a worker does not run what it was sent. */
export interface Refusal {
  readonly errors: readonly ConfigError[]
  /** To blame; undefined: nothing in particular. */
  readonly resource: ResourceName | undefined
}

/**
 * The one configuration that all workers are to run, and how far each of them is. Every worker gets every change in order,
 * none twice; one that comes later gets the whole as it is then. What a worker refuses is taken back everywhere.
 */
export class Rollout {
  #state: ConfigState
  readonly #events: RolloutEvents
  readonly #run: string
  readonly #refused = new RefusedVersions()
  readonly #feeds = new Map<number, Feed>()
  /** Smaller ones are of a process before this. */
  readonly #firstId: number
  #lastId: number
  #sequence = 0
  #revision: string
  /** Of `#revision`; made when somebody needs it. */
  #config: GatewayConfig | undefined

  /**
   * @param running what runs already, and under which revision; numbers must be larger than those of a process before this
   */
  constructor(
    running: { readonly config: GatewayConfig; readonly revision?: string },
    { run, events }: { readonly run: number; readonly events: RolloutEvents },
  ) {
    this.#state = new ConfigState(running.config)
    this.#config = running.config
    this.#events = events
    this.#run = run.toString(36)
    // Answers are told apart by number, also from those to an earlier process.
    this.#firstId = run * RUN_NUMBERS
    this.#lastId = this.#firstId
    this.#revision = running.revision ?? this.#name()
  }

  get state(): ConfigState {
    return this.#state
  }

  get revision(): string {
    return this.#revision
  }

  /** The configuration as it is now. */
  get config(): GatewayConfig {
    this.#config ??= this.#state.config()
    return this.#config
  }

  /** The number of the newest version, for `owes`. */
  get at(): number {
    return this.#lastId
  }

  /** A worker is there, and says what it runs. True where that is the current configuration. */
  attach(worker: number, revision: string, send: (message: FeedMessage) => void): boolean {
    const feed = new Feed(send)
    this.#feeds.set(worker, feed)
    if (revision === this.#revision) {
      feed.resume()
      return true
    }
    this.#offer(feed)
    return false
  }

  detach(worker: number): void {
    const feed = this.#feeds.get(worker)
    this.#feeds.delete(worker)
    feed?.close()
  }

  /** A step for everybody. */
  publish(change: ConfigChange): void {
    this.#distribute(takeStep(this.#state, change))
  }

  /** Another configuration altogether. `before`: what ran until then, told to whoever learns that it is refused. */
  replace(config: GatewayConfig, before: GatewayConfig | undefined): void {
    this.#state = new ConfigState(config)
    this.#advance()
    this.#config = config
    for (const feed of this.#feeds.values()) this.#offer(feed, before)
  }

  /** The whole again, for one worker. */
  resend(worker: number): void {
    const feed = this.#feeds.get(worker)
    if (feed !== undefined) this.#offer(feed)
  }

  /** Calls back when a worker has been sent all that there is now, or is gone. */
  whenSent(worker: number, next: () => void): void {
    const feed = this.#feeds.get(worker)
    if (feed === undefined) next()
    else feed.whenSent(next)
  }

  /** Some of these workers have not answered something up to that number. */
  owes(id: number): boolean {
    for (const feed of this.#feeds.values()) if (feed.owes(id)) return true
    return false
  }

  applied(worker: number, id: number): void {
    const sent = this.#feeds.get(worker)?.answered(id)
    if (sent !== undefined) this.#events.applied(worker, sent.kind)
  }

  refused(worker: number, id: number, refusal: Refusal): void {
    const feed = this.#feeds.get(worker)
    const sent = feed?.refused(id)
    // The process before this one had sent it, and nobody knows how to take it back.
    if (feed !== undefined && sent === undefined && id <= this.#firstId) this.#events.lost(worker, refusal.errors)
    if (feed === undefined || sent === undefined) return
    if (sent.kind === 'config') this.#events.refusedWhole(worker, refusal, sent.before)
    else this.#correct(worker, feed, sent.step, refusal)
  }

  /** A resource goes for good, because a whole configuration with it cannot be used. False where it is not there. */
  revoke({ kind, name }: ResourceName, errors: readonly ConfigError[]): boolean {
    if (!this.#state[kind].has(name)) return false
    this.#distribute(takeStep(this.#state, { [kind]: { set: [], remove: [name] } }))
    this.#events.revoked({ kind, name }, errors)
    return true
  }

  #correct(worker: number, feed: Feed, step: Step, { errors, resource }: Refusal): void {
    const blamed = resource && step.resources.get(resourceKey(resource))
    const stuck = (each: ResourceStep): boolean => this.#refused.stuck(this.#state, each)
    if (blamed === undefined ? [...step.resources.values()].every(stuck) : stuck(blamed)) {
      this.#events.lost(worker, errors)
      return
    }
    // One that the step does not even name was broken by all of it.
    const { rest, back } = this.#refused.correct(this.#state, step, blamed?.resource)
    this.#advance()
    const next = { id: this.#lastId, revision: this.#revision }
    for (const other of this.#feeds.values()) {
      if (other === feed) other.push({ ...next, step: rest })
      else if (back !== undefined) other.push({ ...next, step: back })
    }
    if (back !== undefined) for (const gone of back.resources.values()) this.#events.revoked(gone.resource, errors)
  }

  #distribute(step: Step): void {
    this.#advance()
    const next = { id: this.#lastId, revision: this.#revision, step }
    for (const feed of this.#feeds.values()) feed.push(next)
  }

  #offer(feed: Feed, before?: GatewayConfig): void {
    const id = ++this.#lastId
    feed.offer({ kind: 'config', id, revision: this.#revision, config: this.config }, before)
  }

  #advance(): void {
    this.#lastId++
    this.#sequence++
    this.#revision = this.#name()
    this.#config = undefined
  }

  #name(): string {
    return `${this.#run}.${this.#sequence}`
  }
}
