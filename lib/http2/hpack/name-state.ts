import { CHANGING, type Policy, policyOf } from './field-policy.ts'
import { STATIC_INDEX, STATIC_NAMES } from './static-table.ts'

/** Values of one name that can be found again. */
export const SLOTS = 8

/** Insertions that a name may make before one of its entries has been used. */
const FIRST_CREDIT = 4
const MOST_CREDIT = 8

/**
 * What the encoder of one connection knows about one field name. It holds numbers of table entries and fingerprints, no
 * values, so that the table alone decides how much is remembered; the one exception is a secret, which no table may hold.
 */
export class NameState {
  readonly name: string
  readonly policy: Policy
  /** First static index of the name, 0 for none; the static entries with a value go on up to `staticEnd`. */
  readonly index: number
  readonly staticEnd: number
  /** Number of the entry that was used or added last, 0 for none: tried first. */
  recent = 0
  /** The last SLOTS entries added, `recent` among them: a ring. */
  readonly numbers: number[] = new Array<number>(SLOTS).fill(0)
  #nextSlot = 0
  /** Number of the newest entry with this name. */
  newest = 0
  /** Insertions that are still allowed at first sight. */
  credit: number
  /** Of the last value that was not indexed; 0 for none. */
  fingerprint = 0
  /** The field that followed this one the last time. */
  following: NameState | undefined = undefined
  /** A secret that came twice in a row, and its string literal as it goes on the wire. */
  secret = ''
  secretLiteral: Buffer | undefined = undefined

  constructor(name: string) {
    this.name = name
    this.policy = policyOf(name)
    this.index = STATIC_INDEX.get(name) ?? 0
    let end = this.index
    while (end > 0 && STATIC_NAMES[end + 1] === name) end++
    this.staticEnd = end
    this.credit = this.policy === CHANGING ? 0 : FIRST_CREDIT
  }

  /** An entry was used: the insertion has paid, another may follow. */
  used(number: number): void {
    this.recent = number
    if (this.credit < MOST_CREDIT) this.credit++
  }

  /** An entry was added under this number. */
  added(number: number): void {
    this.numbers[this.#nextSlot] = number
    this.#nextSlot = (this.#nextSlot + 1) % SLOTS
    this.recent = this.newest = number
  }
}
