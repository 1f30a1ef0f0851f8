const SIZE = 624
const SHIFT = 397

/**
 * MT19937 of 32 bits, as `std::mt19937` seeds it: the same sequence of whole numbers for the same seed everywhere. Words
 * of the state are made when they are needed, which are 398 for the first number and one more for each that follows.
 */
export class Mersenne {
  readonly #state = new Uint32Array(SIZE)
  /** Words that are seeded. */
  #seeded = 1
  #at = 0

  constructor(seed: number) {
    this.seed(seed)
  }

  /** Begins anew. */
  seed(seed: number): void {
    this.#state[0] = seed
    this.#seeded = 1
    this.#at = 0
  }

  /** In [0, 2³²). */
  next(): number {
    const state = this.#state
    const at = this.#at
    const following = at + 1 === SIZE ? 0 : at + 1
    const far = at + SHIFT < SIZE ? at + SHIFT : at + SHIFT - SIZE
    if (this.#seeded < SIZE) this.#extend(Math.max(far, following) + 1)
    const bits = (state[at] & 0x8000_0000) | (state[following] & 0x7fff_ffff)
    state[at] = state[far] ^ (bits >>> 1) ^ (bits & 1 ? 0x9908_b0df : 0)
    this.#at = following
    let value = state[at]
    value ^= value >>> 11
    value ^= (value << 7) & 0x9d2c_5680
    value ^= (value << 15) & 0xefc6_0000
    return (value ^ (value >>> 18)) >>> 0
  }

  /** A whole number in [0, bound), every one as likely. */
  below(bound: number): number {
    const width = Math.floor(2 ** 32 / bound)
    for (;;) {
      const drawn = Math.floor(this.next() / width)
      if (drawn < bound) return drawn
    }
  }

  #extend(to: number): void {
    const state = this.#state
    // From 624 - 397 on all words are there: what follows takes them from the front.
    const end = this.#at + SHIFT >= SIZE ? SIZE : to
    for (let i = this.#seeded; i < end; i++) {
      const before = state[i - 1] ^ (state[i - 1] >>> 30)
      state[i] = Math.imul(before, 1_812_433_253) + i
    }
    if (end > this.#seeded) this.#seeded = end
  }
}
