import type { Cancel, Clock } from '../../lib/core/clock.ts'

/**
 * Waits for names that were asked for, each as long as the timeout says, and tells once of those that have not come.
 *
 * ```
 * asked ──► waiting ──came──► (forgotten)
 *              │  ▲ suspend: time stands still; resume: it begins anew (gRFC A57)
 *           timeout, or the server says so
 *              ▼
 *            absent ──came, or asked anew──► …
 * ```
 */
export class Absence {
  readonly #clock: Clock
  /** 0: waits for ever. */
  readonly #timeoutMs: number
  readonly #expired: (names: readonly string[]) => void
  /** When each is given up. All wait equally long, so that the first is the one due next. */
  readonly #waiting = new Map<string, number>()
  readonly #absent = new Set<string>()
  #suspended: boolean
  #timer: Cancel | undefined = undefined

  constructor(clock: Clock, timeoutMs: number, suspended: boolean, expired: (names: readonly string[]) => void) {
    this.#clock = clock
    this.#timeoutMs = Math.min(timeoutMs, LONGEST_MS)
    this.#suspended = suspended
    this.#expired = expired
  }

  /** Names that are waited for. */
  get size(): number {
    return this.#waiting.size
  }

  ask(name: string): void {
    this.#absent.delete(name)
    this.#waiting.delete(name)
    this.#waiting.set(name, this.#dueMs())
    this.#arm()
  }

  /** It has come, or nobody wants it any more. */
  forget(name: string): void {
    this.#absent.delete(name)
    this.#stopWaiting(name)
  }

  #stopWaiting(name: string): void {
    if (!this.#waiting.delete(name) || this.#waiting.size > 0) return
    this.#timer?.()
    this.#timer = undefined
  }

  /** The server says that it does not exist. True where nobody has been told so yet. */
  declare(name: string): boolean {
    if (this.#absent.has(name)) return false
    this.#stopWaiting(name)
    this.#absent.add(name)
    return true
  }

  suspend(): void {
    this.#suspended = true
    this.#timer?.()
    this.#timer = undefined
  }

  /** All that are waited for get their whole time. */
  resume(): void {
    this.#suspended = false
    const dueMs = this.#dueMs()
    for (const name of this.#waiting.keys()) this.#waiting.set(name, dueMs)
    this.#timer?.()
    this.#timer = undefined
    this.#arm()
  }

  close(): void {
    this.suspend()
    this.#waiting.clear()
    this.#absent.clear()
  }

  #dueMs(): number {
    return this.#clock.now() + this.#timeoutMs
  }

  #arm(): void {
    if (this.#timer !== undefined || this.#suspended || this.#timeoutMs === 0) return
    const first = this.#waiting.values().next()
    if (first.done === true) return
    this.#timer = this.#clock.schedule(Math.max(0, first.value - this.#clock.now()), this.#onTimer)
  }

  readonly #onTimer = (): void => {
    this.#timer = undefined
    const nowMs = this.#clock.now()
    const names: string[] = []
    for (const [name, dueMs] of this.#waiting) {
      if (dueMs > nowMs) break
      names.push(name)
    }
    for (const name of names) {
      this.#waiting.delete(name)
      this.#absent.add(name)
    }
    this.#arm()
    if (names.length > 0) this.#expired(names)
  }
}

/** What a timer of the system can wait. */
const LONGEST_MS = 2 ** 31 - 1
