import { randomFillSync } from 'node:crypto'

const BYTES = 16
/** Of how many the random bytes are taken at once. */
const BATCH = 256

/** The sixteen digits, as Latin-1. */
const DIGITS: readonly number[] = Object.freeze(Array.from('0123456789abcdef', (digit) => digit.charCodeAt(0)))
const HYPHEN = 45

/**
 * Random UUIDs (RFC 9562 §5.4), each in one piece: `crypto.randomUUID` puts its text together from twenty, which costs
 * again wherever it is checked and written (half as much in all as there).
 */
export class Uuids {
  #random: Buffer = NO_BYTES
  #at = 0

  next(): string {
    if (this.#at === this.#random.length) this.#refill()
    const random = this.#random
    const at = this.#at
    this.#at = at + BYTES
    random[at + 6] = (random[at + 6] & 0x0f) | 0x40
    random[at + 8] = (random[at + 8] & 0x3f) | 0x80
    return textOf(random, at)
  }

  #refill(): void {
    if (this.#random === NO_BYTES) this.#random = Buffer.allocUnsafeSlow(BYTES * BATCH)
    randomFillSync(this.#random)
    this.#at = 0
  }
}

const NO_BYTES: Buffer = Buffer.alloc(0)

// biome-ignore format: one line a byte
function textOf(bytes: Buffer, at: number): string {
  const digits = DIGITS
  return String.fromCharCode(
    digits[bytes[at] >> 4], digits[bytes[at] & 15],
    digits[bytes[at + 1] >> 4], digits[bytes[at + 1] & 15],
    digits[bytes[at + 2] >> 4], digits[bytes[at + 2] & 15],
    digits[bytes[at + 3] >> 4], digits[bytes[at + 3] & 15],
    HYPHEN,
    digits[bytes[at + 4] >> 4], digits[bytes[at + 4] & 15],
    digits[bytes[at + 5] >> 4], digits[bytes[at + 5] & 15],
    HYPHEN,
    digits[bytes[at + 6] >> 4], digits[bytes[at + 6] & 15],
    digits[bytes[at + 7] >> 4], digits[bytes[at + 7] & 15],
    HYPHEN,
    digits[bytes[at + 8] >> 4], digits[bytes[at + 8] & 15],
    digits[bytes[at + 9] >> 4], digits[bytes[at + 9] & 15],
    HYPHEN,
    digits[bytes[at + 10] >> 4], digits[bytes[at + 10] & 15],
    digits[bytes[at + 11] >> 4], digits[bytes[at + 11] & 15],
    digits[bytes[at + 12] >> 4], digits[bytes[at + 12] & 15],
    digits[bytes[at + 13] >> 4], digits[bytes[at + 13] & 15],
    digits[bytes[at + 14] >> 4], digits[bytes[at + 14] & 15],
    digits[bytes[at + 15] >> 4], digits[bytes[at + 15] & 15],
  )
}
