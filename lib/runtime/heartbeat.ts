import type { Cancel, Clock } from '../core/clock.ts'

const INTERVAL_MS = 500
/** A child that has not said a word after that never will: its start hangs. */
const START_LIMIT_MS = 60_000

export interface HeartbeatOptions {
  readonly clock: Clock
  /** Silence that counts as death, once the child has been heard; in ms. */
  readonly limitMs: number
  /** Asks the child to say something. */
  ping(): void
  /** Called once, and nothing after it. */
  lost(): void
}

/**
 * Listens whether a child process is alive: whatever it says counts, and it is asked twice a second. A process that is
 * loading its modules says nothing, so it is given a minute for its first word. Time in which this process itself did not
 * run (a suspended machine) is nobody's silence.
 */
export class Heartbeat {
  readonly #options: HeartbeatOptions
  #heardMs: number
  #spoken = false
  #checkedMs: number
  #cancel: Cancel

  constructor(options: HeartbeatOptions) {
    this.#options = options
    this.#heardMs = options.clock.now()
    this.#checkedMs = this.#heardMs
    this.#cancel = options.clock.schedule(INTERVAL_MS, this.#check)
  }

  /** The child has said something. */
  heard(): void {
    this.#spoken = true
    this.#heardMs = this.#options.clock.now()
  }

  stop(): void {
    this.#cancel()
  }

  readonly #check = (): void => {
    const { clock, limitMs } = this.#options
    const nowMs = clock.now()
    // What the child said meanwhile has not been read yet.
    if (nowMs - this.#checkedMs > 2 * INTERVAL_MS) this.#heardMs = nowMs
    this.#checkedMs = nowMs
    if (nowMs - this.#heardMs >= (this.#spoken ? limitMs : START_LIMIT_MS)) {
      this.#options.lost()
      return
    }
    this.#options.ping()
    this.#cancel = clock.schedule(INTERVAL_MS, this.#check)
  }
}
