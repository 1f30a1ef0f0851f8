/** Most bytes that one integer of up to 2^32 - 1 takes: the prefix and five groups of seven bits. */
export const MAX_INTEGER_BYTES = 6

const MAX_INTEGER = 0xffff_ffff

/**
 * Writes `value` with the prefix `mask` (2^N - 1) beneath the bits of `first`, answers the offset behind it (RFC 7541
 * §5.1). The caller guarantees room for MAX_INTEGER_BYTES and a whole number from 0 to 2^32 - 1.
 */
export function writeInteger(out: Uint8Array, at: number, first: number, mask: number, value: number): number {
  if (value < mask) {
    out[at] = first | value
    return at + 1
  }
  out[at++] = first | mask
  value -= mask
  while (value > 127) {
    out[at++] = (value & 127) | 128
    value = Math.floor(value / 128)
  }
  out[at] = value
  return at + 1
}

/** Reads what follows a prefix whose bits are all set. One per decoder: `next` is its second answer. */
export class IntegerReader {
  /** Offset behind the integer; valid after `rest` answered 0 or more. */
  next = 0

  /**
   * The value of an integer whose prefix was `mask`, its groups starting at `at`; -1 where it is cut off, takes more than
   * five groups or exceeds 2^32 - 1 (RFC 7541 §5.1 leaves the limit to us). Leading zeros within five groups are legal.
   */
  rest(block: Uint8Array, at: number, to: number, mask: number): number {
    let value = mask
    let weight = 1
    for (let groups = 0; groups < MAX_INTEGER_BYTES - 1; groups++) {
      if (at >= to) return -1
      const group = block[at++]
      // Not shifts: the fifth group would run into the sign.
      value += (group & 127) * weight
      if (group < 128) {
        this.next = at
        return value <= MAX_INTEGER ? value : -1
      }
      weight *= 128
    }
    return -1
  }
}
