import type { Leases, TokenLease } from '../../lib/core/lease.ts'
import { Timed, type TimerWheel } from '../../lib/core/timer-wheel.ts'

/** One direction of one exchange, as the throttle sees it. */
export interface Flow {
  /** Bytes that wait; 0: it wants nothing. */
  readonly waiting: number
  /** So many of its bytes may go now. It may want more, or end, before this returns. */
  grant(bytes: number): void
}

export interface ThrottleOptions {
  readonly leases: Leases
  readonly key: string
  readonly wheel: TimerWheel
  readonly bytesPerSecond: number
  /** On average: workers that look at the same moments would always find that another one was first. */
  readonly intervalMs: number
  readonly random: () => number
}

/**
 * A part is no smaller than a hundredth of a second's worth, up to this: each costs a frame and a write, and whoever has
 * thousands of requests wait would have us send a few bytes at a time to each.
 */
const PART_BYTES = 1_024
const PARTS_PER_SECOND = 100

/**
 * Lets bytes of many flows through at one rate, with at most a second's worth at once, for the whole gateway. Those that find
 * too few wait in turn: at each interval what has come in is dealt out evenly, and nobody who comes later overtakes them.
 *
 * One timer for all of them, and none while nobody waits.
 */
export class Throttle extends Timed implements Disposable {
  readonly #options: ThrottleOptions
  #lease: TokenLease | undefined = undefined
  readonly #partBytes: number
  /** In the order in which they are served. */
  readonly #queue = new Set<Flow>()
  /** The gateway has been asked. */
  #asking = false
  #serving = false

  constructor(options: ThrottleOptions) {
    super()
    this.#options = options
    this.#partBytes = Math.min(PART_BYTES, Math.ceil(options.bytesPerSecond / PARTS_PER_SECOND))
  }

  /** Takes `bytes`, all of them, where nobody waits and they are there. */
  pass(bytes: number): boolean {
    if (this.#queue.size > 0 || bytes > this.#options.bytesPerSecond) return false
    return this.#tokens().tryTake(bytes)
  }

  /** It has bytes that wait: it is served now, as far as possible, and then in turn until it wants nothing. */
  enter(flow: Flow): void {
    this.#queue.add(flow)
    this.#serve()
  }

  /** It has ended. */
  leave(flow: Flow): void {
    this.#queue.delete(flow)
  }

  override onDue(): void {
    this.#serve()
  }

  [Symbol.dispose](): void {
    this.#options.wheel.disarm(this)
    this.#lease?.[Symbol.dispose]()
  }

  #tokens(): TokenLease {
    const { leases, key, bytesPerSecond } = this.#options
    this.#lease ??= leases.tokens(key, {
      maxTokens: bytesPerSecond,
      tokensPerFill: bytesPerSecond,
      fillIntervalMs: 1_000,
    })
    return this.#lease
  }

  #serve(): void {
    // Whoever is granted something may enter again, or others may: the round that runs sees them.
    if (this.#serving || this.#asking) return
    this.#serving = true
    while (this.#queue.size > 0 && !this.#asking && this.#round());
    this.#serving = false
    this.#wait()
  }

  #wait(): void {
    if (this.#queue.size === 0 || this.#asking || this.armed) return
    const { wheel, intervalMs, random } = this.#options
    wheel.arm(this, intervalMs * (0.5 + random()))
  }

  /** Gives each that waits an even part of what is there, or those in front theirs. False: there is too little. */
  #round(): boolean {
    const share = Math.max(this.#partBytes, Math.floor(this.#tokens().remaining / this.#queue.size))
    for (const flow of [...this.#queue]) {
      // It may have gone meanwhile.
      if (!this.#queue.has(flow)) continue
      const bytes = Math.min(flow.waiting, share, this.#tokens().remaining)
      if (bytes < Math.min(flow.waiting, this.#partBytes)) return false
      const taken = this.#tokens().take(bytes)
      if (typeof taken !== 'boolean') {
        this.#await(flow, bytes, taken)
        return false
      }
      if (!taken) return false
      this.#grant(flow, bytes)
    }
    return true
  }

  #grant(flow: Flow, bytes: number): void {
    this.#queue.delete(flow)
    flow.grant(bytes)
    if (flow.waiting > 0) this.#queue.add(flow)
  }

  #await(flow: Flow, bytes: number, taken: Promise<boolean>): void {
    this.#asking = true
    const answered = (granted: boolean): void => {
      this.#asking = false
      // What was taken for one that has ended is spent.
      if (granted && this.#queue.has(flow)) this.#grant(flow, bytes)
      if (granted) this.#serve()
      else this.#wait()
    }
    void taken.then(answered)
  }
}
