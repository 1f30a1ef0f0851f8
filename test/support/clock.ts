import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Cancel, Clock } from '../../lib/core/clock.ts'

interface Timer {
  readonly dueMs: number
  readonly order: number
  readonly run: () => void
}

/** setTimeout fires after 1 ms when it is given more: a delay beyond it is a bug of the caller. */
const LONGEST_DELAY_MS = 2 ** 31 - 1

/**
 * A clock that stands still until it is told to move. Timers run in the order in which they are due, those due at the
 * same moment in the order in which they were scheduled; `now()` shows each its own due time while it runs.
 */
export class TestClock implements Clock {
  #nowMs: number
  #wallOffsetMs: number
  #order = 0
  /** Sorted by due time, then by order. */
  readonly #timers: Timer[] = []

  /** Starts at monotonic 1,000 ms, so that "0 = has not happened" is never confused with a time. */
  constructor(startMs = 1_000, wallMs = Date.UTC(2024, 0, 1)) {
    this.#nowMs = startMs
    this.#wallOffsetMs = wallMs - startMs
  }

  now(): number {
    return this.#nowMs
  }

  wall(): number {
    return this.#nowMs + this.#wallOffsetMs
  }

  /** Steps the wall clock, as an operator or NTP would; monotonic time and timers do not notice. */
  setWall(wallMs: number): void {
    this.#wallOffsetMs = wallMs - this.#nowMs
  }

  /** Throws on a delay that the system's timers would not keep (NaN, infinite, beyond 2^31 - 1 ms). */
  schedule(delayMs: number, run: () => void): Cancel {
    if (!(delayMs <= LONGEST_DELAY_MS)) throw new RangeError(`a timer cannot wait ${delayMs} ms`)
    const timer: Timer = { dueMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, run }
    let at = this.#timers.length
    while (at > 0 && this.#timers[at - 1].dueMs > timer.dueMs) at--
    this.#timers.splice(at, 0, timer)
    return () => {
      const index = this.#timers.indexOf(timer)
      if (index >= 0) this.#timers.splice(index, 1)
    }
  }

  /** Timers that are scheduled and have neither run nor been cancelled: 0 at the end of a test that leaks none. */
  get pending(): number {
    return this.#timers.length
  }

  /** Milliseconds until the next timer, or undefined where there is none. */
  get nextInMs(): number | undefined {
    return this.#timers.length === 0 ? undefined : this.#timers[0].dueMs - this.#nowMs
  }

  /** Moves on and runs, synchronously, whatever becomes due, timers set meanwhile included. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms
    for (let timer = this.#takeDue(endMs); timer !== undefined; timer = this.#takeDue(endMs)) timer.run()
    this.#nowMs = endMs
  }

  /** As `advance`, but lets promises, sockets and immediates run before, between and after the timers. */
  async advanceAsync(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms
    await settle()
    for (let timer = this.#takeDue(endMs); timer !== undefined; timer = this.#takeDue(endMs)) {
      timer.run()
      await settle()
    }
    this.#nowMs = endMs
    await settle()
  }

  #takeDue(endMs: number): Timer | undefined {
    if (this.#timers.length === 0 || this.#timers[0].dueMs > endMs) return undefined
    const timer = this.#timers.shift()!
    this.#nowMs = timer.dueMs
    return timer
  }
}

/** Lets the event loop turn: queued promises run, and so do sockets that have something to deliver. */
export async function settle(turns = 3): Promise<void> {
  for (let i = 0; i < turns; i++) await nextTurn()
}
