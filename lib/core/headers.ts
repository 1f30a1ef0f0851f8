import { isShortWithin } from './short-text.ts'

/**
 * Header fields as one flat, ordered list, the form both codecs read into and write from.
 *
 * Names are lower-case by contract: whoever inserts a name lower-cases it first (the codecs do it while parsing). Where
 * the original spelling matters (`preserve_case`), `cased` holds it in parallel, one entry per field.
 *
 * Owned by one exchange; never shared between requests. Lookups are linear: requests have about ten fields, and a scan
 * of ten interned strings is cheaper than building a map.
 */
export class Headers {
  /** `[name, value, name, value, ...]`, in the order received. For reading: what is written goes through the methods. */
  readonly raw: string[]
  /** Original spelling of each name (index = field number), or undefined where it was not kept. */
  cased: string[] | undefined
  /**
   * Names of fields that came as never to be indexed, which holds for every hop that compresses (RFC 7541 §6.2.3), or
   * undefined where there are none. A name stays in it when its field goes.
   */
  readonly neverIndexed: readonly string[] | undefined

  constructor(
    raw: string[] = [],
    cased: string[] | undefined = undefined,
    neverIndexed: readonly string[] | undefined = undefined,
  ) {
    this.raw = raw
    this.cased = cased
    this.neverIndexed = neverIndexed
  }

  /** Number of fields. */
  get size(): number {
    return this.raw.length >> 1
  }

  /** First value of `name` (lower-case), or undefined. Policies that must see all values use `getAll` or `join`. */
  get(name: string): string | undefined {
    const raw = this.raw
    for (let i = 0; i < raw.length; i += 2) if (raw[i] === name) return raw[i + 1]
    return undefined
  }

  has(name: string): boolean {
    const raw = this.raw
    for (let i = 0; i < raw.length; i += 2) if (raw[i] === name) return true
    return false
  }

  getAll(name: string): string[] {
    const out: string[] = []
    const raw = this.raw
    for (let i = 0; i < raw.length; i += 2) if (raw[i] === name) out.push(raw[i + 1])
    return out
  }

  /** All values of `name` joined with `,` (RFC 9110 §5.3), or undefined where there is none. */
  join(name: string): string | undefined {
    const raw = this.raw
    let out: string | undefined
    for (let i = 0; i < raw.length; i += 2) {
      if (raw[i] === name) out = out === undefined ? raw[i + 1] : `${out},${raw[i + 1]}`
    }
    return out
  }

  /** Replaces all fields of that name by one, in the place of the first. @throws TypeError as `append` */
  set(name: string, value: string): void {
    checkField(name, value)
    this.put(name, value)
  }

  /** As `set` without its checks: for constant names, and values that we made or that the parser has checked. */
  put(name: string, value: string): void {
    const raw = this.raw
    for (let i = 0; i < raw.length; i += 2) {
      if (raw[i] === name) {
        raw[i + 1] = value
        this.#removeFrom(name, i + 2)
        return
      }
    }
    this.add(name, value)
  }

  /**
   * Adds a field at the end.
   *
   * @throws TypeError for a name that is no lower-case token, or a value that could break out of its line: NUL, CR, LF, or
   * a character beyond latin1, of which the wire would keep the low byte only.
   */
  append(name: string, value: string): void {
    checkField(name, value)
    this.add(name, value)
  }

  /** Checks every field as `append` does: for lists that a filter has made. */
  check(): this {
    const raw = this.raw
    for (let i = 0; i < raw.length; i += 2) checkField(raw[i], raw[i + 1])
    return this
  }

  /** As `append` without its checks; see `put`. */
  add(name: string, value: string): void {
    this.raw.push(name, value)
    if (this.cased !== undefined) this.cased.push(name)
  }

  delete(name: string): void {
    this.#removeFrom(name, 0)
  }

  /** Removes every field for which `drop` answers true. */
  deleteWhere(drop: (name: string, value: string) => boolean): void {
    for (let i = this.raw.length - 2; i >= 0; i -= 2) if (drop(this.raw[i], this.raw[i + 1])) this.#removeAt(i)
  }

  /** An independent copy (for retries, shadows and logs). */
  clone(): Headers {
    return new Headers(this.raw.slice(), this.cased?.slice(), this.neverIndexed)
  }

  #removeFrom(name: string, from: number): void {
    const raw = this.raw
    for (let i = from; i < raw.length; ) {
      if (raw[i] === name) this.#removeAt(i)
      else i += 2
    }
  }

  #removeAt(i: number): void {
    // copyWithin + pop, not splice: splice allocates the array of removed elements.
    const raw = this.raw
    raw.copyWithin(i, i + 2)
    raw.length -= 2
    this.cased?.splice(i >> 1, 1)
  }
}

/** What almost all names are made of: lower-case letters and hyphens. */
function isWord(name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i)
    if ((code < 0x61 || code > 0x7a) && code !== 0x2d) return false
  }
  return name !== ''
}

function checkField(name: string, value: string): void {
  if (!isWord(name) && !/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name))
    throw new TypeError(`"${name}" is not a lower-case header name`)
  if (!isShortWithin(value, 0x20, 0xff) && /[\0\r\n\u0100-\uffff]/.test(value)) {
    throw new TypeError(`the value of header "${name}" holds a character it may not`)
  }
}
