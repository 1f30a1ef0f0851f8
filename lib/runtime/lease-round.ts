import type { Cancel } from '../core/clock.ts'

/** Workers that do not answer by then have nothing to give. */
const ROUND_MS = 500

/**
 * One question to other workers whether they have something unused.
 *
 * ```
 * begin ─▶ open ─ all have answered, or 500 ms ─▶ over
 * ```
 */
export class Round {
  /** Counts up; 0: there has been none. */
  number = 0
  readonly #later: (delayMs: number, run: () => void) => Cancel
  readonly #over: (late: Iterable<number>) => void
  #waiting = new Set<number>()
  #cancel: Cancel | undefined = undefined

  /** `over`: not all have answered in time; called with those that have not. */
  constructor(later: (delayMs: number, run: () => void) => Cancel, over: (late: Iterable<number>) => void) {
    this.#later = later
    this.#over = over
  }

  get open(): boolean {
    return this.#waiting.size > 0
  }

  /** `workers`: those that are waited for; must not be open, and is not where there are none. Answers the round's number. */
  begin(workers: Iterable<number>): number {
    this.#waiting = new Set(workers)
    if (this.open) {
      this.#cancel = this.#later(ROUND_MS, () => {
        const late = this.#waiting
        this.#waiting = new Set()
        this.#over(late)
      })
    }
    return ++this.number
  }

  /** That worker has done what it could for the round of that number. */
  answered(worker: number, number: number): void {
    if (number >= this.number) this.gone(worker)
  }

  gone(worker: number): void {
    if (!this.#waiting.delete(worker) || this.open) return
    this.#cancel?.()
    this.#cancel = undefined
  }

  close(): void {
    this.#cancel?.()
    this.#waiting.clear()
  }
}
