import type { Clock } from '../../core/clock.ts'

/** Work before the loop gets its turn, ms: a quarter of what it may be blocked for, since pieces end late and memory is collected. */
const SLICE_MS = 5

/** Runs work in pieces, so that no connection waits for it for long. One for all work of an engine, whose pieces add up. */
export class Slices {
  readonly #clock: Clock
  /** When this turn of the loop began to work; undefined: it has not. */
  #beganMs: number | undefined = undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  async run<T>(steps: Generator<undefined, T>): Promise<T> {
    let done = false
    try {
      for (;;) {
        this.#begin()
        const step = steps.next()
        if (step.done === true) {
          done = true
          return step.value
        }
        if (this.spent) await this.pause()
      }
    } finally {
      // Whoever works in steps tidies up where it cannot go on.
      if (!done) steps.return(undefined as T)
    }
  }

  /** The loop should have its turn. */
  get spent(): boolean {
    return this.#beganMs !== undefined && this.#clock.now() - this.#beganMs >= SLICE_MS
  }

  /** Resolves in the next turn of the loop. */
  pause(): Promise<void> {
    return new Promise((resolve) => {
      setImmediate(() => {
        this.#beganMs = undefined
        resolve()
      })
    })
  }

  #begin(): void {
    if (this.#beganMs !== undefined) return
    this.#beganMs = this.#clock.now()
    // However the work ends, the next turn is another one.
    setImmediate(() => {
      this.#beganMs = undefined
    })
  }
}
