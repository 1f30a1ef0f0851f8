import { CODE_BITS, encodeHuffman } from './huffman.ts'
import { writeInteger } from './integer.ts'

/** Not in the types of Node, and quicker than `write` by a look at the encoding's name. */
interface Latin1Buffer extends Buffer {
  latin1Write(text: string, at: number): number
}

/** Longer text is copied by a call into Node, shorter text char by char. */
const CALL_CHARS = 16

/**
 * Writes `text` as a string literal (RFC 7541 §5.2), Huffman-coded where that is shorter; answers the offset behind it.
 * Characters beyond latin1 keep their low byte only. The caller guarantees room for the text and MAX_INTEGER_BYTES.
 */
export function writeString(out: Buffer, at: number, text: string): number {
  const length = text.length
  if (length >= 127) return writeLong(out, at, text)
  // The length takes one byte whichever it will be: encode in place and see.
  const end = length > 1 ? encodeHuffman(text, out, at + 1, length - 1) : -1
  if (end >= 0) {
    out[at] = 0x80 | (end - at - 1)
    return end
  }
  out[at] = length
  return writePlain(out, at + 1, text)
}

function writeLong(out: Buffer, at: number, text: string): number {
  const length = text.length
  let bits = 0
  for (let i = 0; i < length; i++) bits += CODE_BITS[text.charCodeAt(i) & 255]
  const encoded = (bits + 7) >>> 3
  if (encoded < length) {
    const end = encodeHuffman(text, out, writeInteger(out, at, 0x80, 0x7f, encoded), encoded)
    if (end >= 0) return end
  }
  return writePlain(out, writeInteger(out, at, 0, 0x7f, length), text)
}

function writePlain(out: Buffer, at: number, text: string): number {
  const length = text.length
  if (length > CALL_CHARS) return at + (out as Latin1Buffer).latin1Write(text, at)
  for (let i = 0; i < length; i++) out[at + i] = text.charCodeAt(i)
  return at + length
}

/**
 * The text as a string of its own: what parsers hand out are often slices, which keep the whole they were cut from alive.
 * Overwrites what `out` has from `at` on.
 */
export function copyString(out: Buffer, at: number, text: string): string {
  return out.latin1Slice(at, writePlain(out, at, text))
}
