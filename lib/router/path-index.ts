import { foldAscii } from '../match/fold.ts'
import type { PathPattern } from '../match/path.ts'
import { type CompiledRegex, compileRegex } from '../match/regex.ts'
import { templateToRegex } from '../match/template.ts'
import { type Candidate, CandidateStore, type PathCheck, PathView } from './candidate.ts'
import { CandidateSet, type Numbered } from './candidate-set.ts'
import type { Criteria } from './criteria.ts'
import { PathTable } from './path-table.ts'
import type { RouteRequest } from './request.ts'

/** What is indexed, in order: the first that matches wins. */
export interface IndexEntry<T> {
  readonly path: PathPattern
  readonly criteria: Criteria
  readonly target: T
  /** Answers the target where each request has its own. */
  readonly choose?: ((request: RouteRequest) => T) | undefined
}

const NONE = 0x7fffffff

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
  /** Those for CONNECT, in order. */
  readonly #connect: CandidateStore<T> | undefined
  readonly #connectCount: number

  constructor(exactCase: PathSpace<T>, folded: PathSpace<T> | undefined, connect: readonly Candidate<T>[]) {
    this.#exactCase = exactCase
    this.#folded = folded
    this.#connectCount = connect.length
    this.#connect = connect.length === 0 ? undefined : new CandidateStore(connect)
  }

  find(request: RouteRequest): T | undefined {
    const path = request.head.path
    if (this.#connect !== undefined && isConnect(request)) return this.#findConnect(this.#connect, request)
    // No path: a CONNECT request. Path matchers have nothing to say about it.
    if (path === '') return undefined
    const best = this.#exactCase.best(request, path, NONE)
    if (this.#folded === undefined) return best < 0 ? undefined : this.#exactCase.store.target(best, request)
    return this.#findInBoth(this.#folded, request, best)
  }

  #findInBoth(folded: PathSpace<T>, request: RouteRequest, exact: number): T | undefined {
    const limit = exact < 0 ? NONE : this.#exactCase.store.order(exact)
    const best = folded.best(request, request.head.path, limit)
    if (best >= 0) return folded.store.target(best, request)
    return exact < 0 ? undefined : this.#exactCase.store.target(exact, request)
  }

  #findConnect(connect: CandidateStore<T>, request: RouteRequest): T | undefined {
    const path = request.head.path
    let store: CandidateStore<T> = connect
    let found = -1
    let limit = NONE
    for (const space of [this.#exactCase, this.#folded]) {
      const best = space === undefined || path === '' ? -1 : space.best(request, path, limit)
      if (space === undefined || best < 0) continue
      found = best
      store = space.store
      limit = store.order(best)
    }
    const view = new PathView(false)
    for (let i = 0; i < this.#connectCount && connect.order(i) < limit; i++) {
      if (connect.accepts(i, request, view)) return connect.target(i, request)
    }
    return found < 0 ? undefined : store.target(found, request)
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
  #order = 0

  /** @throws Error for a bad regex or template. */
  add(entry: IndexEntry<T>): void {
    const { path, criteria, target, choose } = entry
    const order = this.#order++
    const candidate = (check?: PathCheck): Candidate<T> => ({ order, target, choose, criteria, path: check })
    switch (path.kind) {
      case 'connect':
        this.#connect.push(candidate())
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

  /** Makes the index in steps of some milliseconds; nothing may be added afterwards. */
  *steps(): Generator<undefined, PathIndex<T>> {
    const folded = this.#folded.empty ? undefined : yield* PathSpace.steps(this.#folded, true)
    return new PathIndex(yield* PathSpace.steps(this.#exactCase, false), folded, this.#connect)
  }

  #addText(path: TextPattern, candidate: Candidate<T>): void {
    const space = path.caseSensitive ? this.#exactCase : this.#folded
    const value = path.caseSensitive ? path.value : foldAscii(path.value)
    if (path.kind === 'prefix') space.addPrefix(value, candidate)
    else space.addExact(value, candidate)
    if (path.kind === 'path-separated-prefix') space.addPrefix(`${value}/`, candidate)
  }

  #addRegex(regex: CompiledRegex, candidate: (check?: PathCheck) => Candidate<T>): void {
    const { alternatives, anyStart, prefix, literals, folded } = regex.shape
    const space = folded ? this.#folded : this.#exactCase
    if (alternatives === undefined || anyStart) {
      space.addPrefix(prefix, candidate({ test: regex.matchesPrefixed, dfa: regex.dfa, literals }))
      return
    }
    const seen = new Set<string>()
    for (const { text, rest } of alternatives) {
      if (seen.has(`${rest} ${text}`)) continue
      seen.add(`${rest} ${text}`)
      if (rest === 'none') space.addExact(text, candidate())
      else {
        const test = rest === 'any' ? isOneLine : regex.matchesPrefixed
        space.addPrefix(text, candidate({ test, dfa: undefined, literals: [] }))
      }
    }
  }
}

type TextPattern = Extract<PathPattern, { caseSensitive: boolean }>

/** `.` does not match a newline. */
function isOneLine(path: string): boolean {
  return !path.includes('\n')
}

class SpaceBuilder<T> {
  readonly prefixes = new Map<string, Candidate<T>[]>()
  readonly exact = new Map<string, Candidate<T>[]>()

  get empty(): boolean {
    return this.prefixes.size === 0 && this.exact.size === 0
  }

  addPrefix(text: string, candidate: Candidate<T>): void {
    push(this.prefixes, text, candidate)
  }

  addExact(text: string, candidate: Candidate<T>): void {
    push(this.exact, text, candidate)
  }
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const known = map.get(key)
  if (known === undefined) map.set(key, [value])
  else known.push(value)
}

/**
 * Words of a bucket: its parent, the smallest order on the way to the root, its first candidate and how many (or ~set);
 * then the words of its first candidate, so that the usual bucket, which has one, is read in one line of the cache.
 */
const PARENT = 0
const MIN_ORDER = 1
const FIRST = 2
const COUNT = 3
const ORDER = 4
const SHIFT = 3

/** Candidates of one place up to which they are simply tried in order. */
const INLINE = 8

interface SpaceParts<T> {
  readonly folded: boolean
  readonly prefixes: readonly string[]
  /** What lies at each prefix, then at each whole path, last at the empty prefix. */
  readonly places: readonly (readonly Candidate<T>[])[]
  readonly store: CandidateStore<T>
  readonly table: PathTable
}

/** All candidates whose paths are compared in one way: as they are, or folded. */
class PathSpace<T> {
  readonly store: CandidateStore<T>
  readonly #table: PathTable
  readonly #view: PathView
  /** The places for prefixes, then those for whole paths, last the place of the empty prefix. */
  readonly #buckets: Int32Array
  readonly #sets: CandidateSet<T>[] = []
  readonly #prefixCount: number
  readonly #root: number
  readonly #folded: boolean

  private constructor(parts: SpaceParts<T>) {
    const { prefixes, places } = parts
    this.#folded = parts.folded
    this.#view = new PathView(parts.folded)
    this.store = parts.store
    this.#table = parts.table
    this.#prefixCount = prefixes.length
    this.#root = places.length - 1
    this.#buckets = new Int32Array(places.length << SHIFT)
    let number = 0
    for (const [bucket, candidates] of places.entries()) {
      this.#fill(bucket, number, candidates)
      number += candidates.length
    }
    this.#link(prefixes)
  }

  static *steps<T>(builder: SpaceBuilder<T>, folded: boolean): Generator<undefined, PathSpace<T>> {
    const prefixes = [...builder.prefixes.keys()].filter((text) => text !== '')
    const exact = [...builder.exact.keys()]
    const places = [
      ...prefixes.map((text) => builder.prefixes.get(text) ?? []),
      ...exact.map((text) => builder.exact.get(text) ?? []),
      builder.prefixes.get('') ?? [],
    ]
    yield
    const store = new CandidateStore(places.flat())
    yield
    const table = yield* PathTable.steps(prefixes, exact)
    yield
    return new PathSpace({ folded, prefixes, places, store, table })
  }

  #fill(bucket: number, number: number, candidates: readonly Candidate<T>[]): void {
    const at = bucket << SHIFT
    this.#buckets[at + PARENT] = -1
    this.#buckets[at + MIN_ORDER] = candidates[0]?.order ?? NONE
    this.#buckets[at + FIRST] = number
    this.#buckets[at + COUNT] = candidates.length
    if (candidates.length > 0) this.store.copyWords(number, this.#buckets, at + ORDER)
    if (candidates.length <= INLINE) return
    const numbered = candidates.map((candidate, i): Numbered<T> => ({ number: number + i, candidate }))
    this.#buckets[at + COUNT] = ~(this.#sets.push(new CandidateSet(this.store, numbered)) - 1)
  }

  /** Sets parents, and the smallest order on the way up; parents are shorter, so they come first. */
  #link(prefixes: readonly string[]): void {
    const buckets = this.#buckets
    const byLength = [...prefixes.keys()].sort((a, b) => prefixes[a].length - prefixes[b].length)
    for (const id of byLength) {
      const at = id << SHIFT
      const parent = this.#table.parents[id]
      buckets[at + PARENT] = parent < 0 ? this.#root : parent
      const above = buckets[(buckets[at + PARENT] << SHIFT) + MIN_ORDER]
      buckets[at + MIN_ORDER] = Math.min(buckets[at + MIN_ORDER], above)
    }
  }

  /** Number of the first candidate that accepts the request, if its order is below `limit`; otherwise -1. */
  best(request: RouteRequest, path: string, limit: number): number {
    const table = this.#table
    const view = this.#view
    let text = path
    let end = table.begin(path)
    view.set(path, end)
    if (this.#folded) {
      text = view.text
      end = table.begin(text)
    }
    let found = -1
    const exact = table.exact(text, end)
    if (exact >= 0) {
      found = this.#bestOf((this.#prefixCount + exact) << SHIFT, request, limit)
      if (found >= 0) limit = this.store.order(found)
    }
    const prefix = table.longestPrefix(text, end)
    let bucket = prefix < 0 ? this.#root : prefix
    while (bucket >= 0) {
      const at = bucket << SHIFT
      if (this.#buckets[at + MIN_ORDER] >= limit) break
      const candidate = this.#bestOf(at, request, limit)
      if (candidate >= 0) {
        found = candidate
        limit = this.store.order(candidate)
      }
      bucket = this.#buckets[at + PARENT]
    }
    view.clear()
    return found
  }

  #bestOf(at: number, request: RouteRequest, limit: number): number {
    const count = this.#buckets[at + COUNT]
    if (count < 0) return this.#sets[~count].best(request, this.#view, limit)
    const first = this.#buckets[at + FIRST]
    const store = this.store
    if (count === 0 || this.#buckets[at + ORDER] >= limit) return -1
    if (store.acceptsAt(this.#buckets, at + ORDER, request, this.#view)) return first
    for (let candidate = first + 1; candidate < first + count; candidate++) {
      if (store.order(candidate) >= limit) return -1
      if (store.accepts(candidate, request, this.#view)) return candidate
    }
    return -1
  }
}
