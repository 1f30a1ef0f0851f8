/** What a field adds to the size of a table and of a header list beyond its name and value (RFC 7541 §4.1). */
export const FIELD_OVERHEAD = 32

/** SETTINGS_HEADER_TABLE_SIZE until a peer says otherwise (RFC 9113 §6.5.2). */
export const INITIAL_TABLE_BYTES = 4096

const INITIAL_SLOTS = 16

/**
 * The dynamic table of RFC 7541 §2.3.2: a ring of fields, evicted oldest first whenever their sizes exceed `maxBytes`.
 *
 * Fields are numbered from 1 in the order they came, whatever was evicted since; the newest is `newest`, those up to
 * `evicted` are gone. The ring's length is a power of two and grows with what it holds, at most `maxBytes / 32` rounded
 * up. Strings are held by reference.
 */
export class DynamicTable {
  #names: string[] = new Array<string>(INITIAL_SLOTS).fill('')
  #values: string[] = new Array<string>(INITIAL_SLOTS).fill('')
  #mask = INITIAL_SLOTS - 1
  /** Sum of the sizes held. */
  bytes = 0
  maxBytes: number
  newest = 0
  evicted = 0

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  /** Number of fields. */
  get length(): number {
    return this.newest - this.evicted
  }

  /** Name of field `number`, which is in the table. */
  name(number: number): string {
    return this.#names[number & this.#mask]
  }

  value(number: number): string {
    return this.#values[number & this.#mask]
  }

  /** Adds a field, evicting what it displaces; one that is larger than the table empties it and is not added. */
  add(name: string, value: string): void {
    const size = name.length + value.length + FIELD_OVERHEAD
    this.#evictTo(this.maxBytes - size)
    if (size > this.maxBytes) return
    if (this.newest - this.evicted > this.#mask) this.#grow()
    const slot = ++this.newest & this.#mask
    this.#names[slot] = name
    this.#values[slot] = value
    this.bytes += size
  }

  /** What adding a field that does not fit would do. */
  clear(): void {
    this.#evictTo(0)
  }

  /** A size update (RFC 7541 §4.3). */
  resize(maxBytes: number): void {
    this.maxBytes = maxBytes
    this.#evictTo(maxBytes)
  }

  #evictTo(bytes: number): void {
    while (this.bytes > bytes && this.evicted < this.newest) {
      const slot = ++this.evicted & this.#mask
      this.bytes -= this.#names[slot].length + this.#values[slot].length + FIELD_OVERHEAD
      // Do not keep alive what only the table held.
      this.#names[slot] = this.#values[slot] = ''
    }
  }

  #grow(): void {
    const names = this.#names
    const values = this.#values
    const oldMask = this.#mask
    const slots = (oldMask + 1) * 2
    this.#mask = slots - 1
    this.#names = new Array<string>(slots).fill('')
    this.#values = new Array<string>(slots).fill('')
    for (let number = this.evicted + 1; number <= this.newest; number++) {
      this.#names[number & this.#mask] = names[number & oldMask]
      this.#values[number & this.#mask] = values[number & oldMask]
    }
  }
}
