import type { Cancel, Clock } from '../core/clock.ts'
import type { Watched } from './watchdog.ts'

const INTERVAL_MS = 500
/** A child that has not said a word after that never will: its start hangs. */
const START_LIMIT_MS = 60_000

export interface HeartbeatOptions {
  readonly clock: Clock
  /** Silence that counts as death, once the child has been heard; in ms. */
  readonly limitMs: number
  /** Says otherwise how much silence is too much, and how often is to be asked. */
  readonly watched?: Watched | undefined
  /** Asks the child to say something. */
  ping(): void
  /** Called once, and nothing after it. */
  lost(): void
}

/**
 * Listens whether a child process is alive: whatever it says counts, and it is asked twice a second, or as often as
 * whoever watches it wants. A process that is
 * loading its modules says nothing, so it is given a minute for its first word. Time in which this process itself did not
 * run (a suspended machine) is nobody's silence.
 */
export class Heartbeat {
  readonly #options: HeartbeatOptions
  #heardMs: number
  #spoken = false
  #checkedMs: number
  #dueInMs: number
  #cancel: Cancel

  constructor(options: HeartbeatOptions) {
    this.#options = options
    this.#heardMs = options.clock.now()
    this.#checkedMs = this.#heardMs
    this.#dueInMs = this.#intervalMs
    this.#cancel = options.clock.schedule(this.#dueInMs, this.#check)
  }

  /** The child has said something. */
  heard(): void {
    this.#spoken = true
    this.#heardMs = this.#options.clock.now()
    this.#options.watched?.heard()
  }

  stop(): void {
    this.#cancel()
    this.#options.watched?.end()
  }

  get #intervalMs(): number {
    return this.#options.watched?.intervalMs ?? INTERVAL_MS
  }

  readonly #check = (): void => {
    const { clock } = this.#options
    const nowMs = clock.now()
    // What the child said meanwhile has not been read yet. What it did not say before counts all the same.
    const passedMs = nowMs - this.#checkedMs
    if (passedMs > 2 * this.#dueInMs) this.#heardMs = Math.min(nowMs, this.#heardMs + passedMs - this.#dueInMs)
    this.#checkedMs = nowMs
    if (this.#isLost(nowMs - this.#heardMs)) {
      this.#options.watched?.end()
      this.#options.lost()
      return
    }
    this.#options.ping()
    this.#dueInMs = this.#intervalMs
    this.#cancel = clock.schedule(this.#dueInMs, this.#check)
  }

  #isLost(silentMs: number): boolean {
    if (!this.#spoken) return silentMs >= START_LIMIT_MS
    const { watched, limitMs } = this.#options
    return watched === undefined ? silentMs >= limitMs : watched.silent(silentMs)
  }
}
