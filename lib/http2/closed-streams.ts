/** How a stream left: what late frames on it mean (RFC 9113 §5.1 "closed"). */
export const UNKNOWN = 0
/** Both sides sent END_STREAM. */
export const ENDED = 1
/** RST_STREAM came. */
export const RESET_BY_PEER = 2
/** We sent RST_STREAM: frames that were on their way are no mistake of the peer's. */
export const RESET_BY_US = 3

export type Closing = typeof UNKNOWN | typeof ENDED | typeof RESET_BY_PEER | typeof RESET_BY_US

const FIRST_SLOTS = 32
const MOST_SLOTS = 1024

/**
 * Remembers how the last streams of a connection ended: 4 bytes each, 1,024 at most. All ids are of one parity, so a table
 * indexed by id keeps the newest ones without any order to maintain; two that fall on one slot make it grow, and at its
 * full size the older is forgotten.
 */
export class ClosedStreams {
  /** Per slot: id without its last bit, and the closing in the two bits below; 0 where empty. */
  #slots: Uint32Array | undefined = undefined

  add(id: number, closing: Closing): void {
    this.#slots ??= new Uint32Array(FIRST_SLOTS)
    let slots = this.#slots
    const key = id >>> 1
    while (slots.length < MOST_SLOTS && isTaken(slots[key & (slots.length - 1)], key)) slots = this.#grow(slots)
    slots[key & (slots.length - 1)] = ((key << 2) | closing) >>> 0
  }

  get(id: number): Closing {
    const slots = this.#slots
    if (slots === undefined) return UNKNOWN
    const key = id >>> 1
    const slot = slots[key & (slots.length - 1)]
    return slot >>> 2 === key ? ((slot & 3) as Closing) : UNKNOWN
  }

  #grow(slots: Uint32Array): Uint32Array {
    const larger = new Uint32Array(slots.length * 2)
    for (const slot of slots) if (slot !== 0) larger[(slot >>> 2) & (larger.length - 1)] = slot
    this.#slots = larger
    return larger
  }
}

function isTaken(slot: number, key: number): boolean {
  return slot !== 0 && slot >>> 2 !== key
}
