/**
 * Finds, for a path, the longest of many prefixes and the one of many whole paths that fit it, in time that depends on
 * the path and not on how many there are.
 *
 * One pass over the path notes a running hash at each length. Whole paths are one probe of a hash table. For prefixes the
 * lengths that occur are searched by halves (Waldvogel et al., "Scalable High Speed IP Routing Lookups", 1997): where a
 * longer prefix lies behind a length, the table holds a marker at that length, so a hit says "go longer", a miss "go
 * shorter", and ten thousand prefixes of twenty lengths need five probes. Only the last hit is compared with its text:
 * where it is a true prefix of the path, so were the markers before it, which are its own prefixes. Where it is not (a
 * collision, which a client could aim for), the search is repeated comparing every hit.
 *
 * Everything read per lookup lies in flat typed arrays: at this size the cost is cache misses.
 */
export class PathTable {
  readonly #exact: HashSlots
  readonly #prefixes: HashSlots
  /** Distinct lengths of prefixes, ascending. */
  readonly #lengths: Int32Array
  readonly #maxExact: number
  readonly #maxPrefix: number
  /** Scratch: the hash of the first n characters of the path at hand. */
  readonly #hashes: Int32Array
  /** For each prefix in the order given: the number of the longest other prefix that it begins with, or -1. */
  readonly parents: Int32Array

  private constructor(lengths: Int32Array, prefixes: Marked, exact: HashSlots, maxExact: number) {
    this.#lengths = lengths
    this.#maxPrefix = lengths.at(-1) ?? 0
    this.#maxExact = maxExact
    this.#hashes = new Int32Array(Math.max(this.#maxPrefix, maxExact) + 1)
    this.#hashes[0] = SEED
    this.#exact = exact
    this.#prefixes = prefixes.slots
    this.parents = prefixes.parents
  }

  /** Makes a table in steps of some milliseconds. Both lists are without duplicates. */
  static *steps(prefixes: readonly string[], exact: readonly string[]): Generator<undefined, PathTable> {
    const lengths = Int32Array.from(new Set(prefixes.map((p) => p.length))).sort()
    const maxExact = exact.reduce((max, text) => Math.max(max, text.length), 0)
    const nodes = exact.map((text, id) => ({ text, id })).sort(byText)
    yield
    const slots = new HashSlots(nodes)
    yield
    return new PathTable(lengths, yield* markedSteps(prefixes, lengths), slots, maxExact)
  }

  /**
   * Takes up a path for `exact` and `longestPrefix`, and answers where it ends: at `?`, `#` or its end.
   */
  begin(path: string): number {
    const hashes = this.#hashes
    const known = hashes.length
    const length = path.length
    let hash = SEED
    let i = 0
    for (; i < length; i++) {
      const code = path.charCodeAt(i)
      if (code === QUESTION || code === HASH_SIGN) return i
      if (i + 1 >= known) break
      hash = Math.imul(hash ^ code, PRIME)
      hashes[i + 1] = hash
    }
    for (; i < length; i++) {
      const code = path.charCodeAt(i)
      if (code === QUESTION || code === HASH_SIGN) return i
    }
    return length
  }

  /** Number of the text that equals the first `end` characters of the path, or a negative number. */
  exact(path: string, end: number): number {
    return end > this.#maxExact ? ABSENT : this.#exact.find(path, end, this.#hashes[end])
  }

  /** Number of the longest prefix that the first `end` characters of the path begin with, or -1. */
  longestPrefix(path: string, end: number): number {
    const lengths = this.#lengths
    const slots = this.#prefixes
    const hashes = this.#hashes
    let low = 0
    let high = lengths.length - 1
    let last = -1
    while (low <= high) {
      const middle = (low + high) >> 1
      const length = lengths[middle]
      const slot = length > end ? -1 : slots.probe(length, hashes[length])
      if (slot < 0) high = middle - 1
      else {
        last = slot
        low = middle + 1
      }
    }
    if (last < 0) return -1
    return slots.holds(last, path) ? slots.id(last) : this.#longestCompared(path, end)
  }

  #longestCompared(path: string, end: number): number {
    let low = 0
    let high = this.#lengths.length - 1
    let best = -1
    while (low <= high) {
      const middle = (low + high) >> 1
      const length = this.#lengths[middle]
      const id = length > end ? ABSENT : this.#prefixes.find(path, length, this.#hashes[length])
      if (id === ABSENT) high = middle - 1
      else {
        best = id
        low = middle + 1
      }
    }
    return best
  }
}

const QUESTION = 0x3f
const HASH_SIGN = 0x23
/** FNV-1a, 32 bits, over UTF-16 units. */
const SEED = 0x811c9dc5 | 0
const PRIME = 0x01000193
const ABSENT = -2

interface Node {
  readonly text: string
  /** What a hit means; for a marker the longest real prefix at or before it, or -1. */
  readonly id: number
}

function byText(a: Node, b: Node): number {
  return a.text < b.text ? -1 : a.text > b.text ? 1 : 0
}

function hashOf(text: string): number {
  let hash = SEED
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), PRIME)
  return hash
}

/** The UTF-16 units of a text, one byte each where that is enough. */
function unitsOf(text: string): Uint8Array | Uint16Array {
  const units = new Uint16Array(text.length)
  let all = 0
  for (let i = 0; i < text.length; i++) {
    units[i] = text.charCodeAt(i)
    all |= units[i]
  }
  return all < 0x100 ? Uint8Array.from(units) : units
}

/** Open addressing over records of four words: hash, length + 1 (0: free), where the text begins, id. */
class HashSlots {
  readonly #records: Int32Array
  readonly #texts: Uint8Array | Uint16Array
  readonly #mask: number

  /** `nodes` ascending by text: a text is stored once with all those that the next one begins with. */
  constructor(nodes: readonly Node[]) {
    let size = 4
    while (size * 2 < nodes.length * 3) size *= 2
    this.#mask = size - 1
    this.#records = new Int32Array(size * 4)
    const kept: string[] = []
    let offset = 0
    for (const [n, { text, id }] of nodes.entries()) {
      const hash = hashOf(text)
      let at = this.#first(hash)
      while (this.#records[at + 1] !== 0) at = this.#next(at)
      this.#records[at] = hash
      this.#records[at + 1] = text.length + 1
      this.#records[at + 2] = offset
      this.#records[at + 3] = id
      if (nodes[n + 1]?.text.startsWith(text) === true) continue
      kept.push(text)
      offset += text.length
    }
    this.#texts = unitsOf(kept.join(''))
  }

  /** The record of that hash and length, or -1; its text may be another. */
  probe(length: number, hash: number): number {
    const records = this.#records
    for (let at = this.#first(hash); records[at + 1] !== 0; at = this.#next(at)) {
      if (records[at] === hash && records[at + 1] === length + 1) return at
    }
    return -1
  }

  /** True where the path begins with the record's text. */
  holds(at: number, path: string): boolean {
    const length = this.#records[at + 1] - 1
    const offset = this.#records[at + 2]
    const texts = this.#texts
    for (let i = 0; i < length; i++) if (texts[offset + i] !== path.charCodeAt(i)) return false
    return true
  }

  id(at: number): number {
    return this.#records[at + 3]
  }

  /** The id of the record whose text is the first `length` characters of the path, or ABSENT. */
  find(path: string, length: number, hash: number): number {
    const records = this.#records
    for (let at = this.#first(hash); records[at + 1] !== 0; at = this.#next(at)) {
      if (records[at] === hash && records[at + 1] === length + 1 && this.holds(at, path)) return records[at + 3]
    }
    return ABSENT
  }

  #first(hash: number): number {
    return ((hash ^ (hash >>> 15)) & this.#mask) << 2
  }

  #next(at: number): number {
    return (at + 4) & ((this.#mask << 2) | 3)
  }
}

interface Marked {
  readonly slots: HashSlots
  readonly parents: Int32Array
}

/** The prefixes and the markers that the search by halves meets on its way to them. */
function* markedSteps(prefixes: readonly string[], lengths: Int32Array): Generator<undefined, Marked> {
  const numbers = new Map<string, number>()
  for (const [id, text] of prefixes.entries()) numbers.set(text, id)
  const texts = new Set<string>()
  for (const text of prefixes) addMarkers(text, lengths, texts)
  yield
  const sorted = [...texts].sort()
  yield
  const nodes: Node[] = []
  const parents = new Int32Array(prefixes.length).fill(-1)
  // In this order every text follows the prefixes it begins with, the longest of them last: a stack finds it.
  const open: string[] = []
  for (const text of sorted) {
    while (open.length > 0 && !text.startsWith(open[open.length - 1])) open.pop()
    const above = open.length === 0 ? -1 : (numbers.get(open[open.length - 1]) ?? -1)
    const own = numbers.get(text)
    nodes.push({ text, id: own ?? above })
    if (own === undefined) continue
    parents[own] = above
    open.push(text)
  }
  yield
  return { slots: new HashSlots(nodes), parents }
}

function addMarkers(text: string, lengths: Int32Array, into: Set<string>): void {
  let low = 0
  let high = lengths.length - 1
  while (low <= high) {
    const middle = (low + high) >> 1
    const length = lengths[middle]
    if (length > text.length) high = middle - 1
    else {
      into.add(length === text.length ? text : text.slice(0, length))
      if (length === text.length) return
      low = middle + 1
    }
  }
}
