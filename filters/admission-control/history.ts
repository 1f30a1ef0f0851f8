/** What came back within one second or so. */
interface Slice {
  readonly fromMs: number
  requests: number
  successes: number
}

const SLICE_MS = 1_000

/** How requests of the last seconds ended. Time is passed in, monotonic milliseconds. */
export class History {
  readonly #windowMs: number
  /** Oldest first. */
  readonly #slices: Slice[] = []
  #requests = 0
  #successes = 0

  constructor(windowS: number) {
    this.#windowMs = windowS * 1_000
  }

  record(success: boolean, nowMs: number): void {
    this.#forget(nowMs)
    let newest = this.#slices.at(-1)
    if (newest === undefined || nowMs - newest.fromMs >= SLICE_MS) {
      newest = { fromMs: nowMs, requests: 0, successes: 0 }
      this.#slices.push(newest)
    }
    newest.requests++
    this.#requests++
    if (!success) return
    newest.successes++
    this.#successes++
  }

  /** Requests per second, on average over the window, as a whole number. */
  rps(nowMs: number): number {
    this.#forget(nowMs)
    if (this.#slices.length === 0) return 0
    return Math.floor((this.#requests * 1_000) / Math.max(this.#windowMs, nowMs - this.#slices[0].fromMs))
  }

  /**
   * How likely a request is to be rejected: `max(0, (requests - successes / threshold) / (requests + 1)) ^ (1 / aggression)`.
   *
   * @param threshold rate of successes, above which nothing is rejected, in (0, 1].
   */
  rejection(threshold: number, aggression: number, nowMs: number): number {
    this.#forget(nowMs)
    const linear = (this.#requests - this.#successes / threshold) / (this.#requests + 1)
    if (linear <= 0) return 0
    return aggression === 1 ? linear : linear ** (1 / aggression)
  }

  #forget(nowMs: number): void {
    const slices = this.#slices
    let gone = 0
    while (gone < slices.length && nowMs - slices[gone].fromMs >= this.#windowMs) {
      this.#requests -= slices[gone].requests
      this.#successes -= slices[gone].successes
      gone++
    }
    if (gone > 0) slices.splice(0, gone)
  }
}
