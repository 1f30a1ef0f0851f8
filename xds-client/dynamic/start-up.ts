import type { Cancel, Clock } from '../../lib/core/clock.ts'

/** One step of the start: what is asked for, and when that has been answered. */
export interface StartStep {
  readonly name: string
  /** Begins it. */
  open(): void
  /** Nothing of it is waited for any more. */
  done(): boolean
  /** It is not waited for longer than that; 0: for ever. What it brought is still waited for. */
  readonly timeoutMs: number
  /** Its first answer has not come in time. */
  giveUp(): void
}

/**
 * Envoy's order: runtime layers, then clusters and what they need, then listeners and what they need. Each begins when
 * nothing of the one before is waited for any more.
 */
export class StartUp {
  readonly finished: Promise<void>
  readonly #clock: Clock
  readonly #steps: readonly StartStep[]
  #at = -1
  #timer: Cancel | undefined = undefined
  #finish: () => void = () => {}

  constructor(clock: Clock, steps: readonly StartStep[]) {
    this.#clock = clock
    this.#steps = steps
    this.finished = new Promise((resolve) => {
      this.#finish = resolve
    })
  }

  /** Nothing is waited for any more. */
  get over(): boolean {
    return this.#at >= this.#steps.length
  }

  /** What is waited for; undefined: nothing. */
  get step(): string | undefined {
    return this.#steps.at(Math.max(this.#at, 0))?.name
  }

  /** Goes as far as it can. Called after everything that may have changed something. */
  advance(): void {
    while (!this.over && (this.#at < 0 || this.#steps[this.#at].done())) {
      this.close()
      const next = this.#steps.at(++this.#at)
      if (next === undefined) this.#finish()
      else this.#open(next)
    }
  }

  close(): void {
    this.#timer?.()
    this.#timer = undefined
  }

  #open(step: StartStep): void {
    step.open()
    if (step.timeoutMs === 0) return
    this.#timer = this.#clock.schedule(step.timeoutMs, () => {
      this.#timer = undefined
      step.giveUp()
    })
  }
}
