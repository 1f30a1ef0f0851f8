import { foldAscii } from '../match/fold.ts'
import type { PathPattern } from '../match/path.ts'
import { type CompiledRegex, compileRegex } from '../match/regex.ts'
import { templateToRegex } from '../match/template.ts'
import { Candidate, type Filed, type PathCheck, PathView } from './candidate.ts'
import { CandidateSet } from './candidate-set.ts'
import type { Criteria } from './criteria.ts'
import { PathTable } from './path-table.ts'
import type { RouteRequest } from './request.ts'

/** What is indexed, in order: the first that matches wins. */
export interface IndexEntry<T> {
  readonly path: PathPattern
  readonly criteria: Criteria
  readonly target: T
}

const NONE = Number.POSITIVE_INFINITY

/**
 * Finds the first of many routes that matches a request, without looking at most of them.
 *
 * Each route is filed under what its path must begin with or be: a prefix, a whole path, the literal begin of a regex.
 * The longest such prefix of the request's path leads by parent links to all the others that it begins with, so the
 * routes met are those whose path could match. Among them the smallest order wins; whatever lies behind the best so far
 * is skipped. Routes that ignore case are filed in a second table, over the folded path.
 *
 * Not re-entrant: criteria must not look up routes.
 */
export class PathIndex<T> {
  readonly #exactCase: PathSpace<T>
  readonly #folded: PathSpace<T> | undefined
  readonly #connect: readonly Candidate<T>[]

  constructor(exactCase: PathSpace<T>, folded: PathSpace<T> | undefined, connect: readonly Candidate<T>[]) {
    this.#exactCase = exactCase
    this.#folded = folded
    this.#connect = connect
  }

  find(request: RouteRequest): T | undefined {
    const path = request.head.path
    // A CONNECT request has no path, unless it is an extended one (RFC 8441): no path, no path matchers.
    let best = path === '' ? undefined : this.#exactCase.best(request, path, NONE)
    if (this.#folded !== undefined && path !== '') {
      best = this.#folded.best(request, path, best === undefined ? NONE : best.order) ?? best
    }
    if (this.#connect.length > 0 && isConnect(request)) best = this.#firstConnect(request, best)
    return best?.target
  }

  #firstConnect(request: RouteRequest, best: Candidate<T> | undefined): Candidate<T> | undefined {
    for (const candidate of this.#connect) {
      if (best !== undefined && candidate.order >= best.order) break
      if (this.#exactCase.accepts(candidate, request)) return candidate
    }
    return best
  }
}

/** CONNECT itself and CONNECT-UDP; other extended CONNECTs are upgrades of a path. */
function isConnect(request: RouteRequest): boolean {
  const { method, protocol } = request.head
  return method === 'CONNECT' && (protocol === undefined || protocol === 'connect-udp')
}

/** Makes an index of entries given in order. */
export class PathIndexBuilder<T> {
  readonly #exactCase = new SpaceBuilder<T>()
  readonly #folded = new SpaceBuilder<T>()
  readonly #connect: Candidate<T>[] = []
  readonly #texts = new Map<string, string>()
  #order = 0

  /** @throws Error for a bad regex or template. */
  add(entry: IndexEntry<T>): void {
    const { path, target } = entry
    const criteria = this.#shared(entry.criteria)
    const order = this.#order++
    const candidate = (check?: PathCheck): Filed<T> => ({
      candidate: new Candidate(order, target, criteria, check),
      exactHeaders: criteria.exactHeaders,
      literals: check?.literals ?? [],
    })
    switch (path.kind) {
      case 'connect':
        this.#connect.push(candidate().candidate)
        return
      case 'regex':
        this.#addRegex(compileRegex(path.value), candidate)
        return
      case 'template':
        this.#addRegex(compileRegex(templateToRegex(path.value)), candidate)
        return
      default:
        this.#addText(path, candidate())
    }
  }

  build(): PathIndex<T> {
    const folded = this.#folded.empty ? undefined : new PathSpace(this.#folded, true)
    return new PathIndex(new PathSpace(this.#exactCase, false), folded, this.#connect)
  }

  /** Equal texts as one object, so that ten thousand routes of ten versions share ten strings in the cache. */
  #shared(criteria: Criteria): Criteria {
    const exactHeaders = criteria.exactHeaders.map((h) => ({
      name: this.#intern(h.name),
      value: this.#intern(h.value),
    }))
    return { ...criteria, method: this.#intern(criteria.method), exactHeaders }
  }

  #intern(text: string): string {
    const known = this.#texts.get(text)
    if (known !== undefined) return known
    this.#texts.set(text, text)
    return text
  }

  #addText(path: TextPattern, candidate: Filed<T>): void {
    const space = path.caseSensitive ? this.#exactCase : this.#folded
    const value = path.caseSensitive ? path.value : foldAscii(path.value)
    if (path.kind === 'prefix') space.addPrefix(value, candidate)
    else space.addExact(value, candidate)
    if (path.kind === 'path-separated-prefix') space.addPrefix(`${value}/`, candidate)
  }

  #addRegex(regex: CompiledRegex, candidate: (check?: PathCheck) => Filed<T>): void {
    const { alternatives, anyStart, prefix, literals, folded } = regex.shape
    const space = folded ? this.#folded : this.#exactCase
    if (alternatives === undefined || anyStart) {
      space.addPrefix(prefix, candidate({ test: regex.matchesPrefixed, literals }))
      return
    }
    const seen = new Set<string>()
    for (const { text, rest } of alternatives) {
      if (seen.has(`${rest} ${text}`)) continue
      seen.add(`${rest} ${text}`)
      if (rest === 'none') space.addExact(text, candidate())
      else space.addPrefix(text, candidate({ test: rest === 'any' ? isOneLine : regex.matchesPrefixed, literals: [] }))
    }
  }
}

type TextPattern = Extract<PathPattern, { caseSensitive: boolean }>

/** `.` does not match a newline. */
function isOneLine(path: string): boolean {
  return !path.includes('\n')
}

class SpaceBuilder<T> {
  readonly prefixes = new Map<string, Filed<T>[]>()
  readonly exact = new Map<string, Filed<T>[]>()

  get empty(): boolean {
    return this.prefixes.size === 0 && this.exact.size === 0
  }

  addPrefix(text: string, candidate: Filed<T>): void {
    push(this.prefixes, text, candidate)
  }

  addExact(text: string, candidate: Filed<T>): void {
    push(this.exact, text, candidate)
  }
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const known = map.get(key)
  if (known === undefined) map.set(key, [value])
  else known.push(value)
}

/** Words of a bucket. */
const FIRST = 0
const END = 1
const SET = 2
const MIN_ORDER = 3
const PARENT = 4
const CHAIN_MIN_ORDER = 5
const BUCKET_SHIFT = 3

/** Candidates of one place up to which they are simply tried in order. */
const INLINE = 8

/** All candidates whose paths are compared in one way: as they are, or folded. */
class PathSpace<T> {
  readonly #table: PathTable
  readonly #view: PathView
  /** Eight words each: the places for prefixes, then those for whole paths, last the place of the empty prefix. */
  readonly #buckets: Int32Array
  readonly #candidates: Candidate<T>[] = []
  readonly #sets: CandidateSet<T>[] = []
  readonly #prefixCount: number
  readonly #root: number
  readonly #folded: boolean

  constructor(builder: SpaceBuilder<T>, folded: boolean) {
    this.#folded = folded
    this.#view = new PathView(folded)
    const prefixes = [...builder.prefixes.keys()].filter((text) => text !== '')
    const exact = [...builder.exact.keys()]
    this.#table = new PathTable(prefixes, exact)
    this.#prefixCount = prefixes.length
    this.#root = prefixes.length + exact.length
    this.#buckets = new Int32Array((this.#root + 1) << BUCKET_SHIFT)
    for (const [id, text] of prefixes.entries()) {
      const parent = this.#table.parents[id]
      this.#fill(id, builder.prefixes.get(text) ?? [], parent < 0 ? this.#root : parent)
    }
    for (const [id, text] of exact.entries()) this.#fill(this.#prefixCount + id, builder.exact.get(text) ?? [], -1)
    this.#fill(this.#root, builder.prefixes.get('') ?? [], -1)
    this.#linkMinima(prefixes)
  }

  #fill(bucket: number, filed: readonly Filed<T>[], parent: number): void {
    const at = bucket << BUCKET_SHIFT
    const buckets = this.#buckets
    buckets[at + MIN_ORDER] = filed[0]?.candidate.order ?? 0x7fffffff
    buckets[at + CHAIN_MIN_ORDER] = buckets[at + MIN_ORDER]
    buckets[at + PARENT] = parent
    buckets[at + FIRST] = this.#candidates.length
    buckets[at + SET] = -1
    if (filed.length > INLINE) buckets[at + SET] = this.#sets.push(new CandidateSet(filed)) - 1
    else this.#candidates.push(...filed.map((f) => f.candidate))
    buckets[at + END] = this.#candidates.length
  }

  /** The smallest order on the way from each prefix to the root; parents first, and they are shorter. */
  #linkMinima(prefixes: readonly string[]): void {
    const buckets = this.#buckets
    const byLength = [...prefixes.keys()].sort((a, b) => prefixes[a].length - prefixes[b].length)
    for (const id of byLength) {
      const at = id << BUCKET_SHIFT
      const above = buckets[(buckets[at + PARENT] << BUCKET_SHIFT) + CHAIN_MIN_ORDER]
      buckets[at + CHAIN_MIN_ORDER] = Math.min(buckets[at + MIN_ORDER], above)
    }
  }

  /** The first candidate that accepts the request, if it comes before `limit`. */
  best(request: RouteRequest, path: string, limit: number): Candidate<T> | undefined {
    const table = this.#table
    const view = this.#view
    let text = path
    let end = table.begin(path)
    view.set(path, end)
    if (this.#folded) {
      text = view.text
      end = table.begin(text)
    }
    let found: Candidate<T> | undefined
    const exact = table.exact(text, end)
    if (exact >= 0) {
      found = this.#bestOf((this.#prefixCount + exact) << BUCKET_SHIFT, request, limit)
      if (found !== undefined) limit = found.order
    }
    const prefix = table.longestPrefix(text, end)
    let bucket = prefix < 0 ? this.#root : prefix
    while (bucket >= 0) {
      const at = bucket << BUCKET_SHIFT
      if (this.#buckets[at + CHAIN_MIN_ORDER] >= limit) break
      if (this.#buckets[at + MIN_ORDER] < limit) {
        const candidate = this.#bestOf(at, request, limit)
        if (candidate !== undefined) {
          found = candidate
          limit = candidate.order
        }
      }
      bucket = this.#buckets[at + PARENT]
    }
    view.clear()
    return found
  }

  /** For candidates that are filed nowhere. */
  accepts(candidate: Candidate<T>, request: RouteRequest): boolean {
    return candidate.accepts(request, this.#view)
  }

  #bestOf(at: number, request: RouteRequest, limit: number): Candidate<T> | undefined {
    const buckets = this.#buckets
    const set = buckets[at + SET]
    if (set >= 0) return this.#sets[set].best(request, this.#view, limit)
    const end = buckets[at + END]
    for (let i = buckets[at + FIRST]; i < end; i++) {
      const candidate = this.#candidates[i]
      if (candidate.order >= limit) return undefined
      if (candidate.accepts(request, this.#view)) return candidate
    }
    return undefined
  }
}
