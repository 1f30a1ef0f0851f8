/** Envoy's `retry_back_off` of gRPC streams, where nothing is configured. */
const DEFAULT_BASE_MS = 500
const DEFAULT_MAX_MS = 30_000

/**
 * Waiting times between attempts: anything up to a bound that doubles with each attempt and stops at a most (full jitter, as
 * Envoy's, so that many gateways do not come back together).
 */
export class Backoff {
  readonly #baseMs: number
  readonly #maxMs: number
  readonly #random: () => number
  #boundMs: number

  /** `random`: in [0, 1). */
  constructor(config: { readonly baseMs: number; readonly maxMs: number } | undefined, random: () => number) {
    this.#baseMs = config?.baseMs ?? DEFAULT_BASE_MS
    this.#maxMs = Math.max(this.#baseMs, config?.maxMs ?? DEFAULT_MAX_MS)
    this.#random = random
    this.#boundMs = this.#baseMs
  }

  /** How long to wait now, ms; the next time it may be twice as long. */
  next(): number {
    const boundMs = this.#boundMs
    this.#boundMs = Math.min(this.#maxMs, 2 * boundMs)
    return Math.floor(this.#random() * boundMs)
  }

  reset(): void {
    this.#boundMs = this.#baseMs
  }
}
