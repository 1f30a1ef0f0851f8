import { decodeHuffman, huffmanLength, maxDecodedBytes } from './huffman.ts'
import { IntegerReader } from './integer.ts'
import { KNOWN_NAMES, STATIC_ENTRIES, STATIC_NAMES, STATIC_SIZES, STATIC_VALUES } from './static-table.ts'
import { DynamicTable, FIELD_OVERHEAD, INITIAL_TABLE_BYTES } from './table.ts'

/** Answers of `HpackDecoder.decode`. */
export const DECODED = 0
/** The block breaks RFC 7541: a connection error of type COMPRESSION_ERROR (RFC 9113 §4.3). */
export const COMPRESSION = 1
/** The list exceeds a limit. The table is in step, the connection can go on; the sink holds what came before. */
export const TOO_LARGE = 2
/** The list exceeds `abandonBytes`: the rest has not been read, so the decoder is of no more use. */
export const EXCESSIVE = 3

/** Where decoded fields go: [name, value, ...] as they came, pseudo-headers included, duplicates kept. */
export interface HeaderSink {
  raw: string[]
}

export interface HeaderListLimits {
  /** Sum of name, value and 32 per field (RFC 9113 §6.5.2, SETTINGS_MAX_HEADER_LIST_SIZE). */
  readonly maxListBytes: number
  readonly maxFields: number
  /**
   * How far beyond `maxListBytes` a list is read, only for the sake of the table: a block of 16 KiB can stand for 64 MiB.
   * Default: to its end.
   */
  readonly abandonBytes?: number
}

/** A larger scratch buffer is given back after the block that needed it. */
const KEEP_SCRATCH_BYTES = 4096
const FIRST_SCRATCH_BYTES = 256

const NO_UPDATE = -1
const NONE: readonly string[] = Object.freeze([])

/**
 * Decodes the header blocks that one peer sends, in the order they come (RFC 7541).
 *
 * Work and memory are bounded by the bytes of the block and by the limits, not by what the fields expand to: a field of
 * the table is passed on as the strings that the table holds, and nothing is stored once a limit is exceeded.
 */
export class HpackDecoder {
  readonly #table: DynamicTable = new DynamicTable(INITIAL_TABLE_BYTES)
  readonly #integers: IntegerReader = new IntegerReader()
  #maxTableBytes: number
  /** The next block must begin with a size update of at most so much (RFC 7541 §4.2), or NO_UPDATE. */
  #requiredBytes = NO_UPDATE
  #scratch: Buffer = Buffer.allocUnsafeSlow(0)
  /** Longest string that anybody could still want: longer ones are counted only. */
  #stringBytes = 0
  /** Offset behind what `#readLiteral` and `#readString` have read. */
  #at = 0
  #name = ''
  #value = ''
  /** The last string's decoded length, also where it was not kept. */
  #length = 0
  #text = ''
  /**
   * Names of the last block's literals that are never to be indexed by anybody (RFC 7541 §6.2.3), in their order. A list
   * that the next block replaces.
   */
  neverIndexed: readonly string[] = NONE

  /**
   * @param options.maxTableBytes the SETTINGS_HEADER_TABLE_SIZE of our first SETTINGS. The table has 4,096 bytes whatever
   * it says until the peer updates its size, and the peer may use them until `setMaxTableBytes` says that it knows.
   */
  constructor(options: { maxTableBytes: number }) {
    this.#maxTableBytes = Math.max(INITIAL_TABLE_BYTES, options.maxTableBytes)
  }

  /** Size of the dynamic table and the most it may grow to now, bytes: for statistics and tests. */
  get tableBytes(): number {
    return this.#table.bytes
  }

  get tableLimitBytes(): number {
    return this.#table.maxBytes
  }

  /**
   * The peer has acknowledged SETTINGS with this SETTINGS_HEADER_TABLE_SIZE: to be called for every acknowledged SETTINGS
   * that held one, before the next block is decoded. Where the table is larger, the next block must begin with a size
   * update, or is refused.
   */
  setMaxTableBytes(bytes: number): void {
    this.#maxTableBytes = bytes
    if (bytes >= this.#table.maxBytes) return
    if (this.#requiredBytes === NO_UPDATE || bytes < this.#requiredBytes) this.#requiredBytes = bytes
  }

  /**
   * Decodes the whole header block `block[from, to)` and appends its fields to `sink.raw`. Answers DECODED, COMPRESSION,
   * TOO_LARGE or EXCESSIVE; after COMPRESSION and EXCESSIVE the decoder is of no more use. No view of `block` is kept.
   */
  decode(block: Buffer, from: number, to: number, sink: HeaderSink, limits: HeaderListLimits): number {
    this.neverIndexed = NONE
    let at = from
    if (this.#requiredBytes !== NO_UPDATE || (at < to && block[at] >> 5 === 1)) {
      at = this.#sizeUpdates(block, at, to)
      if (at < 0) return COMPRESSION
    }
    this.#stringBytes = Math.max(limits.maxListBytes, this.#table.maxBytes)
    const result = this.#fields(block, at, to, sink.raw, limits)
    if (this.#scratch.length > KEEP_SCRATCH_BYTES) this.#scratch = Buffer.allocUnsafeSlow(0)
    return result
  }

  #fields(block: Buffer, at: number, to: number, raw: string[], limits: HeaderListLimits): number {
    const table = this.#table
    const abandoned = -(limits.abandonBytes ?? Number.MAX_SAFE_INTEGER)
    let room = limits.maxListBytes
    let fields = limits.maxFields
    while (at < to) {
      const first = block[at++]
      let name: string
      let value: string
      if (first >= 0x80) {
        let index = first & 0x7f
        if (index === 0x7f) {
          index = this.#integers.rest(block, at, to, 0x7f)
          at = this.#integers.next
        }
        if (index <= STATIC_ENTRIES) {
          // -1, a broken integer, comes along here too.
          if (index <= 0) return COMPRESSION
          name = STATIC_NAMES[index]
          value = STATIC_VALUES[index]
          room -= STATIC_SIZES[index]
        } else {
          const number = table.newest + STATIC_ENTRIES + 1 - index
          if (number <= table.evicted) return COMPRESSION
          name = table.name(number)
          value = table.value(number)
          room -= name.length + value.length + FIELD_OVERHEAD
        }
      } else {
        const size = this.#readLiteral(block, at, to, first, room >= 0 && fields > 0)
        if (size < 0) return COMPRESSION
        at = this.#at
        name = this.#name
        value = this.#value
        room -= size
      }
      fields--
      if (room >= 0 && fields >= 0) raw.push(name, value)
      else if (room < abandoned) return EXCESSIVE
    }
    return room >= 0 && fields >= 0 ? DECODED : TOO_LARGE
  }

  /** Reads a literal behind its `first` byte, answers its size as a field or -1. Strings only where somebody wants them. */
  #readLiteral(block: Buffer, at: number, to: number, first: number, wanted: boolean): number {
    const indexed = first >= 0x40
    // 01xxxxxx is indexed; 001xxxxx is a size update, which has its place at the start (RFC 7541 §4.2).
    if (!indexed && first >= 0x20) return -1
    const mask = indexed ? 0x3f : 0x0f
    let index = first & mask
    if (index === mask) {
      index = this.#integers.rest(block, at, to, mask)
      at = this.#integers.next
      if (index < 0) return -1
    }
    const keep = wanted || indexed
    let name: string
    let size = FIELD_OVERHEAD
    if (index === 0) {
      if (!this.#readString(block, at, to, keep)) return -1
      at = this.#at
      size += this.#length
      name = indexed && this.#text !== '' ? (KNOWN_NAMES.get(this.#text) ?? this.#text) : this.#text
    } else {
      const known = this.#nameAt(index)
      if (known === undefined) return -1
      name = known
      size += name.length
    }
    if (!this.#readString(block, at, to, keep)) return -1
    size += this.#length
    this.#name = name
    this.#value = this.#text
    if (indexed) {
      if (size > this.#table.maxBytes) this.#table.clear()
      else this.#table.add(name, this.#text)
    } else if (first >= 0x10 && wanted) {
      if (this.neverIndexed === NONE) this.neverIndexed = [name]
      else (this.neverIndexed as string[]).push(name)
    }
    return size
  }

  #nameAt(index: number): string | undefined {
    if (index <= STATIC_ENTRIES) return STATIC_NAMES[index]
    const number = this.#table.newest + STATIC_ENTRIES + 1 - index
    return number > this.#table.evicted ? this.#table.name(number) : undefined
  }

  /** Reads a string literal into `#length` and, where it is kept, `#text`; false where it is broken. */
  #readString(block: Buffer, at: number, to: number, keep: boolean): boolean {
    if (at >= to) return false
    const first = block[at++]
    let bytes = first & 0x7f
    if (bytes === 0x7f) {
      bytes = this.#integers.rest(block, at, to, 0x7f)
      at = this.#integers.next
      if (bytes < 0) return false
    }
    const end = at + bytes
    if (end > to) return false
    this.#at = end
    this.#text = ''
    if (first >= 0x80) return this.#readHuffman(block, at, end, keep)
    this.#length = bytes
    if (keep && bytes > 0 && bytes <= this.#stringBytes) this.#text = block.latin1Slice(at, end)
    return true
  }

  #readHuffman(block: Buffer, at: number, end: number, keep: boolean): boolean {
    let needed = maxDecodedBytes(end - at)
    if (needed > this.#scratch.length || !keep) {
      if (!keep || needed > this.#stringBytes) {
        const length = huffmanLength(block, at, end)
        this.#length = length
        if (length < 0 || !keep || length > this.#stringBytes) return length >= 0
        needed = length + 2
      }
      if (needed > this.#scratch.length) this.#scratch = Buffer.allocUnsafeSlow(Math.max(needed, FIRST_SCRATCH_BYTES))
    }
    const length = decodeHuffman(block, at, end, this.#scratch)
    this.#length = length
    if (length > 0) this.#text = this.#scratch.latin1Slice(0, length)
    return length >= 0
  }

  /** Reads the size updates at a block's start, answers the offset behind them or -1. */
  #sizeUpdates(block: Buffer, at: number, to: number): number {
    while (at < to && block[at] >> 5 === 1) {
      let bytes = block[at++] & 0x1f
      if (bytes === 0x1f) {
        bytes = this.#integers.rest(block, at, to, 0x1f)
        at = this.#integers.next
      }
      if (bytes < 0 || bytes > this.#maxTableBytes) return -1
      if (this.#requiredBytes !== NO_UPDATE) {
        if (bytes > this.#requiredBytes) return -1
        this.#requiredBytes = NO_UPDATE
      }
      this.#table.resize(bytes)
    }
    return this.#requiredBytes === NO_UPDATE ? at : -1
  }
}
