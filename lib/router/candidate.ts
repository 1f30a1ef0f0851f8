import { foldAscii } from '../match/fold.ts'
import { hasValue } from '../match/header.ts'
import { DfaTables, NO, type RegexDfa, UNKNOWN, YES } from '../match/regex-dfa.ts'
import type { Criteria, Criterion, ExactHeader } from './criteria.ts'
import type { RouteRequest } from './request.ts'

/** The path of the request at hand, cut and folded when somebody asks. One object per index, reused. */
export class PathView {
  readonly #folded: boolean
  #path = ''
  #end = 0
  #bare: string | undefined = undefined
  #text: string | undefined = undefined

  /** `folded`: `text` is the path with its letters A to Z in lower case. */
  constructor(folded: boolean) {
    this.#folded = folded
  }

  set(path: string, end: number): void {
    this.#path = path
    this.#end = end
    this.#bare = undefined
    this.#text = undefined
  }

  /** Lets go of the request's strings. */
  clear(): void {
    this.set('', 0)
  }

  /** Without query and fragment. */
  get bare(): string {
    if (this.#bare === undefined) {
      this.#bare = this.#end === this.#path.length ? this.#path : this.#path.slice(0, this.#end)
    }
    return this.#bare
  }

  /** The whole path and the length of its bare part. */
  get path(): string {
    return this.#path
  }

  get end(): number {
    return this.#end
  }

  /** What prefixes and literals of this part of the index are looked up in. */
  get text(): string {
    if (!this.#folded) return this.bare
    if (this.#text === undefined) this.#text = foldAscii(this.bare)
    return this.#text
  }
}

/** One way to choose a target: what must still hold once its place in the index has been reached. */
export interface Candidate<T> {
  /** Position among the routes: the smallest that matches wins. */
  readonly order: number
  readonly target: T
  /** Answers the target where each request has its own. */
  readonly choose: ((request: RouteRequest) => T) | undefined
  readonly criteria: Criteria
  /** What the path must pass beyond its place in the index. */
  readonly path: PathCheck | undefined
}

export interface PathCheck {
  readonly test: (path: string) => boolean
  /** Decides instead of `test` where it can. */
  readonly dfa: RegexDfa | undefined
  /** Literals that the path must contain where the test is to hold. */
  readonly literals: readonly string[]
}

/** The method and the one exact header that most candidates are told apart by; equal ones are one object. */
interface Guard {
  readonly method: string
  readonly name: string
  readonly value: string
}

interface Test {
  /** Number of its automaton, -1 for none. */
  readonly automaton: number
  readonly path: ((path: string) => boolean) | undefined
  readonly more: Criterion | undefined
}

/** Words of a candidate; the order is the first. */
const ORDER = 0
const GUARD = 1
const TEST = 2
const AUTOMATON = 3
const SHIFT = 2

/**
 * All candidates of an index, by number. What requests read of them is four words each, and guards and automata that
 * many share: ten thousand candidates stay in the processor's cache, where as many objects would not.
 */
export class CandidateStore<T> {
  readonly #words: Int32Array
  readonly #guards: readonly Guard[]
  readonly #tests: readonly Test[]
  readonly #automata: DfaTables
  readonly #targets: readonly T[]
  /** Those whose target each request chooses: 1 in `#chosen`, so that no target is read to find out. */
  readonly #chosen: Uint8Array
  readonly #choices = new Map<number, (request: RouteRequest) => T>()

  constructor(candidates: readonly Candidate<T>[]) {
    const guards = new Map<string, number>()
    const list: Guard[] = []
    const tests: Test[] = []
    const automata: RegexDfa[] = []
    this.#words = new Int32Array(candidates.length << SHIFT)
    for (const [number, { order, criteria, path }] of candidates.entries()) {
      const at = number << SHIFT
      const automaton = path?.dfa === undefined ? -1 : automata.push(path.dfa) - 1
      const more = moreOf(criteria)
      const plain = more === undefined && path === undefined
      this.#words[at + ORDER] = order
      this.#words[at + GUARD] = guardOf(criteria, guards, list)
      this.#words[at + TEST] = plain ? -1 : tests.push({ automaton, path: path?.test, more }) - 1
      this.#words[at + AUTOMATON] = more === undefined ? automaton : -1
    }
    this.#guards = list
    this.#tests = tests
    this.#automata = new DfaTables(automata)
    this.#targets = candidates.map((c) => c.target)
    this.#chosen = Uint8Array.from(candidates, (c) => (c.choose === undefined ? 0 : 1))
    for (const [number, { choose }] of candidates.entries()) if (choose !== undefined) this.#choices.set(number, choose)
  }

  order(candidate: number): number {
    return this.#words[(candidate << SHIFT) + ORDER]
  }

  target(candidate: number, request: RouteRequest): T {
    if (this.#chosen[candidate] === 0) return this.#targets[candidate]
    return this.#choices.get(candidate)?.(request) ?? this.#targets[candidate]
  }

  /** Copies what `accepts` reads of a candidate to a place where it is found with something else. */
  copyWords(candidate: number, into: Int32Array, at: number): void {
    for (let i = 0; i < 1 << SHIFT; i++) into[at + i] = this.#words[(candidate << SHIFT) + i]
  }

  accepts(candidate: number, request: RouteRequest, path: PathView): boolean {
    return this.acceptsAt(this.#words, candidate << SHIFT, request, path)
  }

  /** As `accepts`, over words that `copyWords` has written. */
  acceptsAt(words: Int32Array, at: number, request: RouteRequest, path: PathView): boolean {
    const guard = words[at + GUARD]
    if (guard >= 0 && !this.#passes(guard, request)) return false
    // The usual regex route has no criteria but its path: its test need not be looked at.
    const automaton = words[at + AUTOMATON]
    const answer = automaton < 0 ? UNKNOWN : this.#automata.run(automaton, path.path, path.end)
    if (answer !== UNKNOWN) return answer === YES
    const test = words[at + TEST]
    return test < 0 || this.#holds(this.#tests[test], request, path)
  }

  #passes(number: number, request: RouteRequest): boolean {
    const guard = this.#guards[number]
    if (guard.method !== '' && guard.method !== request.head.method) return false
    return guard.name === '' || hasValue(request.request, guard.name, guard.value)
  }

  #holds(test: Test, request: RouteRequest, path: PathView): boolean {
    if (test.path !== undefined) {
      const answer = test.automaton < 0 ? UNKNOWN : this.#automata.run(test.automaton, path.path, path.end)
      if (answer === NO || (answer === UNKNOWN && !test.path(path.bare))) return false
    }
    return test.more === undefined || test.more(request)
  }
}

/** Number of the guard, -1 where none is needed. */
function guardOf(criteria: Criteria, numbers: Map<string, number>, list: Guard[]): number {
  const first = criteria.exactHeaders[0] as ExactHeader | undefined
  if (criteria.method === '' && first === undefined) return -1
  const guard = { method: criteria.method, name: first?.name ?? '', value: first?.value ?? '' }
  const key = JSON.stringify([guard.method, guard.name, guard.value])
  const known = numbers.get(key)
  if (known !== undefined) return known
  const number = list.push(guard) - 1
  numbers.set(key, number)
  return number
}

function moreOf(criteria: Criteria): Criterion | undefined {
  const { rest } = criteria
  const others = criteria.exactHeaders.slice(1)
  if (others.length === 0) return rest
  return (request) => {
    for (const { name, value } of others) if (!hasValue(request.request, name, value)) return false
    return rest === undefined || rest(request)
  }
}
