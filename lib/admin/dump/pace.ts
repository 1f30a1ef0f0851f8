import { setImmediate as nextTurn } from 'node:timers/promises'

/** Work between two turns of the event loop. One resource is never divided. */
const SLICE_MS = 8

/** Divides long work: whoever does it asks after each small piece. Time is that of the machine: nothing waits for it. */
export class Pace {
  #since = performance.now()

  /** Lets the event loop turn when it is time; undefined: go on. */
  pause(): Promise<void> | undefined {
    if (performance.now() - this.#since < SLICE_MS) return undefined
    return this.#turn()
  }

  async #turn(): Promise<void> {
    await nextTurn()
    this.#since = performance.now()
  }
}
