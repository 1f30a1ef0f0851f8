const EOS = 256
const SYMBOLS = 257

/** Bits of each symbol's code, 0 to 255 and EOS (RFC 7541 Appendix B). The code is canonical, so lengths say it all. */
// biome-ignore format: a table of sixteen columns
export const CODE_BITS: Uint8Array = Uint8Array.of(
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
)

/** The code of each symbol, right-aligned. */
export const CODES: Uint32Array = canonicalCodes()

function canonicalCodes(): Uint32Array {
  const codes = new Uint32Array(SYMBOLS)
  let code = 0
  for (let bits = 5; bits <= 30; bits++) {
    for (let symbol = 0; symbol < SYMBOLS; symbol++) if (CODE_BITS[symbol] === bits) codes[symbol] = code++
    code *= 2
  }
  return codes
}

/** The code's tree: two entries per inner node, an inner node's number or `LEAF + symbol`. Node 0 is the root. */
const LEAF = 0x100
const TREE: Uint16Array = tree()

function tree(): Uint16Array {
  const nodes = new Uint16Array((SYMBOLS - 1) * 2)
  let used = 1
  for (let symbol = 0; symbol < SYMBOLS; symbol++) {
    let node = 0
    for (let bit = CODE_BITS[symbol] - 1; bit > 0; bit--) {
      const at = node * 2 + ((CODES[symbol] >>> bit) & 1)
      // Node 0 is nobody's child: 0 means that the child is still to be made.
      if (nodes[at] === 0) nodes[at] = used++
      node = nodes[at]
    }
    nodes[node * 2 + (CODES[symbol] & 1)] = LEAF + symbol
  }
  return nodes
}

/** Fields of a transition: symbols in bits 0 to 15, their number in 16 and 17, the next state from 18; -1: EOS. */
const STATE_SHIFT = 18
const COUNT_SHIFT = 16

/**
 * Transitions by state (a node of the tree) and nibble. No code is shorter than five bits: a nibble ends one symbol at
 * most, a byte two.
 */
const BY_NIBBLE: Int32Array = nibbleTable()

function nibbleTable(): Int32Array {
  const table = new Int32Array((SYMBOLS - 1) << 4)
  for (let at = 0; at < table.length; at++) {
    let node = at >> 4
    let symbol = -1
    for (let bit = 3; bit >= 0; bit--) {
      node = TREE[node * 2 + ((at >> bit) & 1)]
      if (node < LEAF) continue
      symbol = node - LEAF
      node = 0
    }
    if (symbol === EOS) table[at] = -1
    else table[at] = symbol < 0 ? node << STATE_SHIFT : (node << STATE_SHIFT) | (1 << COUNT_SHIFT) | symbol
  }
  return table
}

/** Two steps of BY_NIBBLE in one: 256 KiB, of which text touches a few lines. */
const BY_BYTE: Int32Array = byteTable()

function byteTable(): Int32Array {
  // EOS takes 30 bits: its -1 stays whatever byte goes on, hence the fill.
  const table = new Int32Array((SYMBOLS - 1) << 8).fill(-1)
  for (let first = 0; first < BY_NIBBLE.length; first++) {
    const high = BY_NIBBLE[first]
    if (high >= 0) fillSixteen(table, first << 4, high)
  }
  return table
}

/** The transitions by a byte whose first nibble is `high`. A function of its own, so that it is compiled while it runs. */
function fillSixteen(table: Int32Array, at: number, high: number): void {
  const from = (high >> STATE_SHIFT) << 4
  if (((high >> COUNT_SHIFT) & 3) === 0) {
    for (let nibble = 0; nibble < 16; nibble++) table[at + nibble] = BY_NIBBLE[from + nibble]
    return
  }
  for (let nibble = 0; nibble < 16; nibble++) {
    const low = BY_NIBBLE[from + nibble]
    // The first nibble's symbol comes before the second's.
    table[at + nibble] = ((low & ~0xff) + (1 << COUNT_SHIFT)) | ((low & 0xff) << 8) | (high & 0xff)
  }
}

/** 1 for the states in which a string may end: behind a symbol, or in up to seven bits of ones (RFC 7541 §5.2). */
const MAY_END: Uint8Array = endings()

function endings(): Uint8Array {
  const table = new Uint8Array(SYMBOLS - 1)
  let node = 0
  for (let ones = 0; ones <= 7; ones++) {
    table[node] = 1
    node = TREE[node * 2 + 1]
  }
  return table
}

/** Bytes that `out` of `decodeHuffman` must hold for so many encoded ones: five bits a symbol, and one spare. */
export function maxDecodedBytes(encodedBytes: number): number {
  return Math.floor((encodedBytes * 8) / 5) + 2
}

/**
 * Decodes into `out` from 0, answers the number of bytes; -1 for EOS and for padding that is longer than seven bits or
 * not all ones (RFC 7541 §5.2). The caller guarantees `maxDecodedBytes`, or what `huffmanLength` answered and one more.
 */
export function decodeHuffman(block: Uint8Array, from: number, to: number, out: Uint8Array): number {
  let state = 0
  let length = 0
  for (let at = from; at < to; at++) {
    const step = BY_BYTE[(state << 8) | block[at]]
    if (step < 0) return -1
    // Both without asking how many there are: what is too much is written over.
    out[length] = step
    out[length + 1] = step >> 8
    length += (step >> COUNT_SHIFT) & 3
    state = step >> STATE_SHIFT
  }
  return MAY_END[state] === 1 ? length : -1
}

/** As `decodeHuffman`, but only counts. */
export function huffmanLength(block: Uint8Array, from: number, to: number): number {
  let state = 0
  let length = 0
  for (let at = from; at < to; at++) {
    const step = BY_BYTE[(state << 8) | block[at]]
    if (step < 0) return -1
    length += (step >> COUNT_SHIFT) & 3
    state = step >> STATE_SHIFT
  }
  return MAY_END[state] === 1 ? length : -1
}

/** Longer codes (backslash, control and 8-bit characters) make a string longer in nearly every case. */
const MOST_BITS = 15

/** Code and, in its low four bits, its length; 0 for symbols over MOST_BITS. One load per character. */
const PACKED: Int32Array = packed()

function packed(): Int32Array {
  const table = new Int32Array(256)
  for (let symbol = 0; symbol < 256; symbol++) {
    const bits = CODE_BITS[symbol]
    if (bits <= MOST_BITS) table[symbol] = (CODES[symbol] << 4) | bits
  }
  return table
}

/**
 * Encodes `text` (latin1) at `at` where that takes at most `room` bytes and no symbol of over 15 bits; answers the offset
 * behind it, or -1. Never writes beyond `at + room`.
 */
export function encodeHuffman(text: string, out: Uint8Array, at: number, room: number): number {
  const end = at + room
  let bits = 0
  let count = 0
  for (let i = 0; i < text.length; i++) {
    const code = PACKED[text.charCodeAt(i) & 255]
    if (code === 0) return -1
    // At most 15 bits wait and 15 come: the accumulator has 31.
    bits = (bits << (code & 15)) | (code >> 4)
    count += code & 15
    if (count >= 16) {
      if (at + 2 > end) return -1
      count -= 16
      out[at] = bits >> (count + 8)
      out[at + 1] = bits >> count
      at += 2
    }
  }
  if (count >= 8) {
    if (at >= end) return -1
    count -= 8
    out[at++] = bits >> count
  }
  if (count > 0) {
    if (at >= end) return -1
    out[at++] = (bits << (8 - count)) | (255 >> count)
  }
  return at
}
