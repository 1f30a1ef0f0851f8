/** 64 bits as two unsigned numbers of 32 bits: what balancers compare without making a BigInt of each. */
export interface Hash64 {
  readonly high: number
  readonly low: number
}

/** 2³² modulo `divisor` is all that is needed to divide a hash; exact for divisors below 2²⁶. */
export function hashModulo({ high, low }: Hash64, divisor: number): number {
  return ((high % divisor) * (2 ** 32 % divisor) + (low % divisor)) % divisor
}

// The five primes of XXH64, halves of 32 bits.
const P1_HIGH = 0x9e3779b1 | 0
const P1_LOW = 0x85ebca87 | 0
const P2_HIGH = 0xc2b2ae3d | 0
const P2_LOW = 0x27d4eb4f | 0
const P3_HIGH = 0x165667b1 | 0
const P3_LOW = 0x9e3779f9 | 0
const P4_HIGH = 0x85ebca77 | 0
const P4_LOW = 0xc2b2ae63 | 0
const P5_HIGH = 0x27d4eb2f | 0
const P5_LOW = 0x165667c5 | 0

/**
 * XXH64 (the xxHash specification), without BigInt: halves of 32 bits stay small integers of the engine. One instance
 * hashes any number of inputs, one after the other; the result is read from `high` and `low` until the next.
 */
export class XxHash64 implements Hash64 {
  high = 0
  low = 0
  /** The value that the steps below work on. */
  #h = 0
  #l = 0
  readonly #lanes = new Int32Array(8)

  /** Hashes the first `length` bytes. The result of before may be the seed. */
  digest(bytes: Uint8Array, length: number = bytes.length, seed: Hash64 = ZERO): this {
    let at = 0
    const { high, low } = seed
    if (length >= 32) at = this.#stripes(bytes, length, high, low)
    else {
      this.#h = P5_HIGH
      this.#l = P5_LOW
      this.#add(high, low)
    }
    this.#add(0, length)
    for (; at + 8 <= length; at += 8) this.#word(word(bytes, at + 4), word(bytes, at))
    if (at + 4 <= length) {
      this.#half(word(bytes, at))
      at += 4
    }
    for (; at < length; at++) this.#byte(bytes[at])
    this.#avalanche()
    this.high = this.#h >>> 0
    this.low = this.#l >>> 0
    return this
  }

  /** Four lanes over stripes of 32 bytes; answers how much of the input they took. */
  #stripes(bytes: Uint8Array, length: number, seedHigh: number, seedLow: number): number {
    const lanes = this.#lanes
    this.#load(P1_HIGH, P1_LOW)
    this.#add(P2_HIGH, P2_LOW)
    this.#add(seedHigh, seedLow)
    this.#store(0)
    this.#load(P2_HIGH, P2_LOW)
    this.#add(seedHigh, seedLow)
    this.#store(1)
    this.#load(seedHigh, seedLow)
    this.#store(2)
    // Seed - P1: its two's complement.
    this.#load(~P1_HIGH, ~P1_LOW)
    this.#add(0, 1)
    this.#add(seedHigh, seedLow)
    this.#store(3)
    let at = 0
    for (; at + 32 <= length; at += 32) {
      for (let lane = 0; lane < 4; lane++) {
        const from = at + lane * 8
        this.#round(lanes[2 * lane], lanes[2 * lane + 1], word(bytes, from + 4), word(bytes, from))
        this.#store(lane)
      }
    }
    this.#merge()
    return at
  }

  #merge(): void {
    const lanes = this.#lanes
    let high = 0
    let low = 0
    for (let lane = 0; lane < 4; lane++) {
      this.#load(lanes[2 * lane], lanes[2 * lane + 1])
      this.#rotate(MERGE_ROTATIONS[lane])
      this.#add(high, low)
      high = this.#h
      low = this.#l
    }
    for (let lane = 0; lane < 4; lane++) {
      this.#round(0, 0, lanes[2 * lane], lanes[2 * lane + 1])
      this.#xor(high, low)
      this.#multiply(P1_HIGH, P1_LOW)
      this.#add(P4_HIGH, P4_LOW)
      high = this.#h
      low = this.#l
    }
  }

  /** rotate(accumulator + input × P2, 31) × P1. */
  #round(high: number, low: number, inputHigh: number, inputLow: number): void {
    this.#load(inputHigh, inputLow)
    this.#multiply(P2_HIGH, P2_LOW)
    this.#add(high, low)
    this.#rotate(31)
    this.#multiply(P1_HIGH, P1_LOW)
  }

  #word(inputHigh: number, inputLow: number): void {
    const high = this.#h
    const low = this.#l
    this.#round(0, 0, inputHigh, inputLow)
    this.#xor(high, low)
    this.#rotate(27)
    this.#multiply(P1_HIGH, P1_LOW)
    this.#add(P4_HIGH, P4_LOW)
  }

  #half(input: number): void {
    const high = this.#h
    const low = this.#l
    this.#load(0, input)
    this.#multiply(P1_HIGH, P1_LOW)
    this.#xor(high, low)
    this.#rotate(23)
    this.#multiply(P2_HIGH, P2_LOW)
    this.#add(P3_HIGH, P3_LOW)
  }

  #byte(input: number): void {
    const high = this.#h
    const low = this.#l
    this.#load(0, input)
    this.#multiply(P5_HIGH, P5_LOW)
    this.#xor(high, low)
    this.#rotate(11)
    this.#multiply(P1_HIGH, P1_LOW)
  }

  #avalanche(): void {
    // 33 is one more than a half.
    this.#l ^= this.#h >>> 1
    this.#multiply(P2_HIGH, P2_LOW)
    this.#xor(this.#h >>> 29, (this.#h << 3) | (this.#l >>> 29))
    this.#multiply(P3_HIGH, P3_LOW)
    this.#l ^= this.#h
  }

  #load(high: number, low: number): void {
    this.#h = high | 0
    this.#l = low | 0
  }

  #store(lane: number): void {
    this.#lanes[2 * lane] = this.#h
    this.#lanes[2 * lane + 1] = this.#l
  }

  #xor(high: number, low: number): void {
    this.#h ^= high
    this.#l ^= low
  }

  #add(high: number, low: number): void {
    const sum = (this.#l + low) | 0
    const carry = sum >>> 0 < this.#l >>> 0 ? 1 : 0
    this.#h = (this.#h + high + carry) | 0
    this.#l = sum
  }

  /** Below 32 bits. */
  #rotate(by: number): void {
    const high = this.#h
    this.#h = (high << by) | (this.#l >>> (32 - by))
    this.#l = (this.#l << by) | (high >>> (32 - by))
  }

  /** The low 64 bits of the product, by halves of halves. */
  #multiply(high: number, low: number): void {
    const own = this.#l
    const a0 = own & 0xffff
    const a1 = own >>> 16
    const b0 = low & 0xffff
    const b1 = low >>> 16
    const bottom = Math.imul(a0, b0) >>> 0
    const middle = (Math.imul(a1, b0) >>> 0) + (bottom >>> 16)
    const other = (Math.imul(a0, b1) >>> 0) + (middle & 0xffff)
    const top = Math.imul(a1, b1) + (middle >>> 16) + (other >>> 16)
    this.#h = (top + Math.imul(this.#h, low) + Math.imul(own, high)) | 0
    this.#l = Math.imul(own, low)
  }
}

const ZERO: Hash64 = Object.freeze({ high: 0, low: 0 })
const MERGE_ROTATIONS = Object.freeze([1, 7, 12, 18])

function word(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)
}
