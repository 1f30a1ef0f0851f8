import type { Cancel, Clock } from '../../lib/core/clock.ts'

/** How long the verdict waits when the same is refused for the second time. */
const FIRST_WAIT_MS = 100
/** Servers of this kind send nothing else before they have the verdict: a correction waits for it too. */
const MOST_WAIT_MS = 2_000

interface Refusal {
  readonly version: string
  readonly reason: string
  waitMs: number
  /** When its verdict left, or will. */
  saidMs: number
  timer: Cancel | undefined
}

/**
 * Some servers answer a NACK with what was just refused (go-control-plane, in the state of the world), and would be refused
 * again as fast as the wire is. The verdict on a repetition waits, twice as long each time, and is not told to the log.
 */
export class Refusals<K> {
  readonly #clock: Clock
  readonly #last = new Map<K, Refusal>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Something was refused. Answers how long the verdict has to wait, ms; 0: this is news. */
  refused(type: K, version: string, reason: string): number {
    const last = this.#last.get(type)
    const nowMs = this.#clock.now()
    if (last?.version !== version || last.reason !== reason || nowMs - last.saidMs > MOST_WAIT_MS) {
      last?.timer?.()
      this.#last.set(type, { version, reason, waitMs: FIRST_WAIT_MS, saidMs: nowMs, timer: undefined })
      return 0
    }
    const { waitMs } = last
    last.saidMs = nowMs + waitMs
    last.waitMs = Math.min(MOST_WAIT_MS, 2 * waitMs)
    return waitMs
  }

  /** After the wait, unless something else comes of the type before; `say` may have been overtaken. */
  later(type: K, waitMs: number, say: () => void): void {
    const last = this.#last.get(type)
    if (last === undefined) return
    last.timer?.()
    last.timer = this.#clock.schedule(waitMs, () => {
      last.timer = undefined
      say()
    })
  }

  /** Something else was accepted. */
  accepted(type: K): void {
    this.#last.get(type)?.timer?.()
    this.#last.delete(type)
  }

  /** The stream has gone: no verdict is owed any more. What was refused is still known. */
  interrupted(): void {
    for (const last of this.#last.values()) {
      last.timer?.()
      last.timer = undefined
    }
  }
}
