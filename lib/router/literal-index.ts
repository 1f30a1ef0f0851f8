import type { CandidateStore, PathView } from './candidate.ts'
import type { Numbered } from './candidate-set.ts'
import type { RouteRequest } from './request.ts'

/** Four characters, one byte each, packed into one word. */
const GRAM = 4
/** One record: gram, number of the first entry + 1 (0: free), entries. */
const RECORD = 3
const FEW = 2

interface Entry {
  /** Number of the candidate. */
  readonly candidate: number
  readonly literal: string
  /** Where in the literal the gram stands that leads here. */
  readonly offset: number
}

/**
 * Regexes by what they need: each is filed under four characters of a literal that every match must contain, the four
 * that the fewest others have. The path is read once; at each place the last four characters are one probe of a small
 * table, and only a regex whose whole literal stands there is run.
 */
export class LiteralIndex<T> {
  readonly #store: CandidateStore<T>
  readonly #table: Int32Array
  readonly #mask: number
  readonly #entries: Entry[] = []
  /** The candidates of the entries. */
  readonly #candidates: Int32Array

  /** True for candidates that can be filed. */
  static takes(this: void, numbered: Numbered<unknown>): boolean {
    return literalsOf(numbered).some((literal) => literal.length >= GRAM)
  }

  /** `candidates` in ascending order, all of them such that `takes` answers true. */
  constructor(store: CandidateStore<T>, candidates: readonly Numbered<T>[]) {
    this.#store = store
    const uses = countGrams(candidates)
    const byGram = new Map<number, Entry[]>()
    for (const candidate of candidates) {
      const { gram, entry } = rarest(candidate, uses)
      const known = byGram.get(gram)
      if (known === undefined) byGram.set(gram, [entry])
      else known.push(entry)
    }
    let size = 4
    while (size < byGram.size * 2) size *= 2
    this.#mask = size - 1
    this.#table = new Int32Array(size * RECORD)
    for (const [gram, entries] of byGram) {
      let slot = this.#slot(gram)
      while (this.#table[slot * RECORD + 1] !== 0) slot = (slot + 1) & this.#mask
      this.#table[slot * RECORD] = gram
      this.#table[slot * RECORD + 1] = this.#entries.length + 1
      this.#table[slot * RECORD + 2] = entries.length
      this.#entries.push(...entries)
    }
    this.#candidates = Int32Array.from(this.#entries, (entry) => entry.candidate)
  }

  /** Number of the first that accepts the request, if its order is below `limit`; otherwise -1. */
  best(request: RouteRequest, path: PathView, limit: number): number {
    const store = this.#store
    const text = path.text
    let found = -1
    let gram = 0
    for (let i = 0; i < text.length; i++) {
      gram = (gram << 8) | (text.charCodeAt(i) & 0xff)
      if (i < GRAM - 1) continue
      const record = this.#find(gram)
      if (record < 0) continue
      const first = this.#table[record + 1] - 1
      const last = first + this.#table[record + 2]
      for (let e = first; e < last; e++) {
        const candidate = this.#candidates[e]
        if (store.order(candidate) >= limit) break
        // One alone is as quickly tried; of many, most are told apart by the rest of the literal.
        if (last - first > FEW && !this.#literalStands(e, text, i)) continue
        if (!store.accepts(candidate, request, path)) continue
        found = candidate
        limit = store.order(candidate)
        break
      }
    }
    return found
  }

  /** The whole literal of entry `e` stands where its gram ends at `at`. */
  #literalStands(e: number, text: string, at: number): boolean {
    const { literal, offset } = this.#entries[e]
    return text.startsWith(literal, at - (GRAM - 1) - offset)
  }

  /** Where the record of that gram begins, or -1. */
  #find(gram: number): number {
    const table = this.#table
    for (let slot = this.#slot(gram); table[slot * RECORD + 1] !== 0; slot = (slot + 1) & this.#mask) {
      if (table[slot * RECORD] === gram) return slot * RECORD
    }
    return -1
  }

  #slot(gram: number): number {
    const mixed = Math.imul(gram, 0x9e3779b1)
    return (mixed ^ (mixed >>> 16)) & this.#mask
  }
}

function literalsOf(numbered: Numbered<unknown>): readonly string[] {
  return numbered.candidate.path?.literals ?? []
}

function gramAt(literal: string, at: number): number {
  let gram = 0
  for (let i = at; i < at + GRAM; i++) gram = (gram << 8) | (literal.charCodeAt(i) & 0xff)
  return gram
}

/** In how many candidates each gram occurs. */
function countGrams(candidates: readonly Numbered<unknown>[]): Map<number, number> {
  const uses = new Map<number, number>()
  for (const candidate of candidates) {
    const own = new Set<number>()
    for (const literal of literalsOf(candidate))
      for (let i = 0; i + GRAM <= literal.length; i++) own.add(gramAt(literal, i))
    for (const gram of own) uses.set(gram, (uses.get(gram) ?? 0) + 1)
  }
  return uses
}

function rarest(numbered: Numbered<unknown>, uses: ReadonlyMap<number, number>): { gram: number; entry: Entry } {
  let best: { gram: number; entry: Entry } | undefined
  let fewest = Number.POSITIVE_INFINITY
  for (const literal of literalsOf(numbered)) {
    for (let offset = 0; offset + GRAM <= literal.length; offset++) {
      const gram = gramAt(literal, offset)
      const count = uses.get(gram) ?? 0
      if (count >= fewest) continue
      fewest = count
      best = { gram, entry: { candidate: numbered.number, literal, offset } }
    }
  }
  if (best === undefined) throw new Error('a candidate without literals cannot be filed under one')
  return best
}
