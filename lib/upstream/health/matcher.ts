/**
 * Looks for payloads in what a host answers: all of them, in order, not overlapping, with anything before, between and
 * behind them (Envoy's "fuzzy" match). Remembers at most `limitBytes`.
 */
export class PayloadMatcher {
  readonly #payloads: readonly Buffer[]
  readonly #limitBytes: number
  #seen: Buffer[] = []
  #bytes = 0

  /** `payloads` in base64. */
  constructor(payloads: readonly string[], limitBytes: number) {
    this.#payloads = payloads.map((payload) => Buffer.from(payload, 'base64'))
    this.#limitBytes = limitBytes
  }

  /** There is nothing to look for. */
  get empty(): boolean {
    return this.#payloads.length === 0
  }

  /** Nothing more is taken in. */
  get full(): boolean {
    return this.#bytes >= this.#limitBytes
  }

  /** Another answer begins. */
  reset(): void {
    this.#seen = []
    this.#bytes = 0
  }

  /** Takes in (a copy of) what came; beyond the limit it is dropped. */
  add(chunk: Buffer): void {
    const room = this.#limitBytes - this.#bytes
    if (this.empty || room <= 0) return
    const part = Buffer.from(chunk.subarray(0, room))
    this.#bytes += part.length
    this.#seen.push(part)
  }

  matches(): boolean {
    if (this.empty) return true
    // Once: what came in many pieces is put together for the next look too.
    const all = this.#seen.length === 1 ? this.#seen[0] : Buffer.concat(this.#seen)
    this.#seen = [all]
    let at = 0
    for (const payload of this.#payloads) {
      const found = all.indexOf(payload, at)
      if (found < 0) return false
      at = found + payload.length
    }
    return true
  }
}
