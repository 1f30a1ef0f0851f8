import type { Cancel, Clock } from '../../lib/core/clock.ts'

/** What a timer of the system can wait; longer times are waited for in pieces. */
const LONGEST_MS = 2 ** 31 - 1

/** Times to live of resources (`Resource.ttl`): each copy with one starts it anew, a copy without one ends it. */
export class Expiry {
  readonly #clock: Clock
  readonly #expired: (name: string) => void
  readonly #timers = new Map<string, Cancel>()

  constructor(clock: Clock, expired: (name: string) => void) {
    this.#clock = clock
    this.#expired = expired
  }

  /** Resources that will expire. */
  get size(): number {
    return this.#timers.size
  }

  /** Undefined: lives on until it is removed. */
  set(name: string, ttlMs: number | undefined): void {
    if (this.#timers.size === 0 && ttlMs === undefined) return
    this.#timers.get(name)?.()
    this.#timers.delete(name)
    if (ttlMs !== undefined) this.#schedule(name, ttlMs)
  }

  close(): void {
    for (const cancel of this.#timers.values()) cancel()
    this.#timers.clear()
  }

  #schedule(name: string, leftMs: number): void {
    const delayMs = Math.min(leftMs, LONGEST_MS)
    const cancel = this.#clock.schedule(delayMs, () => {
      if (leftMs > delayMs) {
        this.#schedule(name, leftMs - delayMs)
        return
      }
      this.#timers.delete(name)
      this.#expired(name)
    })
    this.#timers.set(name, cancel)
  }
}
