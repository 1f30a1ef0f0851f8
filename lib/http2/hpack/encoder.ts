import { NEVER, SHORT_SECRET_CHARS } from './field-policy.ts'
import { MAX_INTEGER_BYTES, writeInteger } from './integer.ts'
import { NameState, SLOTS } from './name-state.ts'
import { KNOWN_NAMES, STATIC_ENTRIES, STATIC_VALUES } from './static-table.ts'
import { copyString, writeString } from './string-literal.ts'
import { DynamicTable, FIELD_OVERHEAD, INITIAL_TABLE_BYTES } from './table.ts'

/** The most bytes that `HpackEncoder.begin` writes: two size updates. */
export const MAX_BEGIN_BYTES: number = 2 * MAX_INTEGER_BYTES

/** The most bytes that `HpackEncoder.status` writes. */
export const MAX_STATUS_BYTES = 8

/** First bytes of the representations (RFC 7541 §6). */
const INDEXED = 0x80
const WITH_INDEXING = 0x40
const SIZE_UPDATE = 0x20
const NEVER_INDEXED = 0x10
const WITHOUT_INDEXING = 0x00

/** Names that are remembered; one more and all are forgotten. Nobody but an attacker has so many. */
const MOST_NAMES = 512

/** Literals of secrets that are kept encoded are no longer than this. */
const MOST_SECRET_CHARS = 2048

/** The most bytes that `HpackEncoder.field` writes for a field: its strings' lengths and a few. */
export function maxEncodedBytes(name: string, value: string): number {
  // An index, or a representation byte and the name's literal; then the value's.
  return name.length + value.length + 2 * MAX_INTEGER_BYTES + 1
}

/**
 * Encodes the header blocks sent to one peer (RFC 7541). A block is `begin`, then its fields; blocks go out in the order
 * they were encoded. All methods write at an offset and answer the next; the caller guarantees room.
 *
 * What is indexed is decided by name (`field-policy.ts`) and by what the entries of a name have been good for; see
 * README.md. Names are lower-case, characters are latin1.
 */
export class HpackEncoder {
  readonly #table: DynamicTable = new DynamicTable(INITIAL_TABLE_BYTES)
  readonly #ownMaxBytes: number
  /** What the table shall have from the next block on, and the least it was to have since the last. */
  #wantedBytes: number
  #lowestBytes: number
  #names: Map<string, NameState> = new Map()
  /** The field before the first. */
  readonly #start: NameState = new NameState('')
  #last: NameState = this.#start

  /** @param options.maxTableBytes the most we use, whatever the peer allows. Until it says otherwise it allows 4,096. */
  constructor(options: { maxTableBytes: number }) {
    this.#ownMaxBytes = options.maxTableBytes
    this.#wantedBytes = this.#lowestBytes = Math.min(options.maxTableBytes, INITIAL_TABLE_BYTES)
  }

  /** Size of the dynamic table, the most it may have, fields in it and fields ever added: for statistics and tests. */
  get tableBytes(): number {
    return this.#table.bytes
  }

  get tableLimitBytes(): number {
    return this.#table.maxBytes
  }

  get tableFields(): number {
    return this.#table.length
  }

  get added(): number {
    return this.#table.newest
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE; takes effect with the next block, which says so (RFC 7541 §4.2). */
  setMaxTableBytes(bytes: number): void {
    this.#wantedBytes = Math.min(bytes, this.#ownMaxBytes)
    if (this.#wantedBytes < this.#lowestBytes) this.#lowestBytes = this.#wantedBytes
  }

  /** Starts a block; at most MAX_BEGIN_BYTES. */
  begin(out: Buffer, at: number): number {
    this.#last = this.#start
    const table = this.#table
    if (this.#lowestBytes < table.maxBytes && this.#lowestBytes < this.#wantedBytes) {
      table.resize(this.#lowestBytes)
      at = writeInteger(out, at, SIZE_UPDATE, 0x1f, this.#lowestBytes)
    }
    if (this.#wantedBytes !== table.maxBytes) {
      table.resize(this.#wantedBytes)
      at = writeInteger(out, at, SIZE_UPDATE, 0x1f, this.#wantedBytes)
    }
    this.#lowestBytes = this.#wantedBytes
    return at
  }

  /** `:status`; at most MAX_STATUS_BYTES. @param status three digits */
  status(out: Buffer, at: number, status: number): number {
    switch (status) {
      case 200:
        out[at] = INDEXED | 8
        return at + 1
      case 204:
        out[at] = INDEXED | 9
        return at + 1
      case 206:
        out[at] = INDEXED | 10
        return at + 1
      case 304:
        out[at] = INDEXED | 11
        return at + 1
      case 400:
        out[at] = INDEXED | 12
        return at + 1
      case 404:
        out[at] = INDEXED | 13
        return at + 1
      case 500:
        out[at] = INDEXED | 14
        return at + 1
      default:
        return this.field(out, at, ':status', String(status))
    }
  }

  /** One field; at most `maxEncodedBytes`. */
  field(out: Buffer, at: number, name: string, value: string): number {
    const state = this.#stateOf(name)
    if (state.policy >= NEVER && (state.policy === NEVER || value.length < SHORT_SECRET_CHARS)) {
      return this.#secret(out, at, state, value)
    }
    const table = this.#table
    const recent = state.recent
    if (recent > table.evicted && table.value(recent) === value) {
      state.used(recent)
      return writeInteger(out, at, INDEXED, 0x7f, table.newest + STATIC_ENTRIES + 1 - recent)
    }
    for (let index = state.index; index <= state.staticEnd; index++) {
      if (index > 0 && STATIC_VALUES[index] === value) {
        out[at] = INDEXED | index
        return at + 1
      }
    }
    return this.#findOrAdd(out, at, state, value)
  }

  /**
   * A field that came as never indexed, or that the caller knows to be secret: no table learns it, here or behind the peer
   * (RFC 7541 §6.2.3). At most `maxEncodedBytes`.
   */
  fieldNeverIndexed(out: Buffer, at: number, name: string, value: string): number {
    return this.#secret(out, at, this.#stateOf(name), value)
  }

  #stateOf(name: string): NameState {
    const last = this.#last
    // Messages of one sender have their fields in the same order as a rule: no hash, and mostly the same string.
    let state = last.following
    if (state === undefined || state.name !== name) {
      state = this.#names.get(name)
      if (state === undefined) return this.#newState(name)
      last.following = state
    }
    this.#last = state
    return state
  }

  #newState(name: string): NameState {
    if (this.#names.size >= MOST_NAMES) {
      // States refer to each other: nothing but all of them together is known to be bounded.
      this.#names = new Map()
      this.#start.following = undefined
      this.#last = this.#start
    }
    const state = new NameState(KNOWN_NAMES.get(name) ?? Buffer.from(name, 'latin1').latin1Slice())
    this.#names.set(state.name, state)
    this.#last.following = state
    this.#last = state
    return state
  }

  #findOrAdd(out: Buffer, at: number, state: NameState, value: string): number {
    const table = this.#table
    for (let slot = 0; slot < SLOTS; slot++) {
      const number = state.numbers[slot]
      if (number > table.evicted && table.value(number) === value) {
        state.used(number)
        return writeInteger(out, at, INDEXED, 0x7f, table.newest + STATIC_ENTRIES + 1 - number)
      }
    }
    if (this.#worthIndexing(state, value)) {
      at = this.#writeName(out, at, state, WITH_INDEXING, 0x3f)
      table.add(state.name, copyString(out, at, value))
      state.added(table.newest)
    } else {
      at = this.#writeName(out, at, state, WITHOUT_INDEXING, 0x0f)
    }
    return writeString(out, at, value)
  }

  /** Whether a value that the table lacks shall displace others. */
  #worthIndexing(state: NameState, value: string): boolean {
    const table = this.#table
    const size = state.name.length + value.length + FIELD_OVERHEAD
    if (size * 2 > table.maxBytes) return false
    if (state.index === 0 && state.newest <= table.evicted) {
      // The name alone is worth it, from the second time on: before, only if nothing has to go.
      const known = state.fingerprint !== 0
      state.fingerprint = fingerprint(value)
      return known || table.bytes + size <= table.maxBytes
    }
    if (state.credit > 0 && !(state.name === ':path' && value.includes('?'))) {
      state.credit--
      return true
    }
    const mark = fingerprint(value)
    const again = state.fingerprint === mark
    state.fingerprint = mark
    return again
  }

  #secret(out: Buffer, at: number, state: NameState, value: string): number {
    at = this.#writeName(out, at, state, NEVER_INDEXED, 0x0f)
    if (state.secretLiteral !== undefined && state.secret === value) {
      out.set(state.secretLiteral, at)
      return at + state.secretLiteral.length
    }
    const mark = fingerprint(value)
    const again = mark === state.fingerprint && value.length <= MOST_SECRET_CHARS
    state.fingerprint = mark
    if (again) state.secret = copyString(out, at, value)
    const end = writeString(out, at, value)
    if (again) state.secretLiteral = Buffer.from(out.subarray(at, end))
    return end
  }

  /** The representation's first byte with the name's index, or with the name behind it. */
  #writeName(out: Buffer, at: number, state: NameState, first: number, mask: number): number {
    if (state.index > 0) return writeInteger(out, at, first, mask, state.index)
    const table = this.#table
    if (state.newest > table.evicted) {
      return writeInteger(out, at, first, mask, table.newest + STATIC_ENTRIES + 1 - state.newest)
    }
    out[at] = first
    return writeString(out, at + 1, state.name)
  }
}

/**
 * Tells the values of one name apart without keeping them; a mistake costs one insertion. Never 0. Every character counts:
 * ids and paths often differ in few places only. Two lanes, because a multiplication waits for the one before.
 */
function fingerprint(value: string): number {
  const pairs = value.length & ~1
  let even = value.length
  let odd = 1
  for (let i = 0; i < pairs; i += 2) {
    even = Math.imul(even, 31) + value.charCodeAt(i)
    odd = Math.imul(odd, 37) + value.charCodeAt(i + 1)
  }
  if (pairs < value.length) even = Math.imul(even, 31) + value.charCodeAt(pairs)
  return (even ^ Math.imul(odd, 0x2c1b3c6d)) & 0x3fffffff || 1
}
