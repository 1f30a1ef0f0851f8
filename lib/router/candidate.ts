import { foldAscii } from '../match/fold.ts'
import { joined } from '../match/header.ts'
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

  /** What prefixes and literals of this part of the index are looked up in. */
  get text(): string {
    if (!this.#folded) return this.bare
    if (this.#text === undefined) this.#text = foldAscii(this.bare)
    return this.#text
  }
}

/**
 * One way to choose a target: everything that must still hold once its place in the index has been reached. The method
 * and the first exact header stand in the object itself, for they are what most candidates are told apart by.
 */
export class Candidate<T> {
  /** Position among the routes: the smallest that matches wins. */
  readonly order: number
  readonly target: T
  readonly #method: string
  readonly #header: string
  readonly #value: string
  readonly #path: ((path: string) => boolean) | undefined
  readonly #more: Criterion | undefined

  constructor(order: number, target: T, criteria: Criteria, path: PathCheck | undefined) {
    this.order = order
    this.target = target
    this.#method = criteria.method
    this.#header = criteria.exactHeaders[0]?.name ?? ''
    this.#value = criteria.exactHeaders[0]?.value ?? ''
    this.#path = path?.test
    this.#more = moreOf(criteria)
  }

  accepts(request: RouteRequest, path: PathView): boolean {
    if (this.#method !== '' && this.#method !== request.head.method) return false
    if (this.#header !== '' && joined(request.request, this.#header) !== this.#value) return false
    if (this.#path !== undefined && !this.#path(path.bare)) return false
    return this.#more === undefined || this.#more(request)
  }
}

/** A candidate with what indexes are built from; requests never meet it. */
export interface Filed<T> {
  readonly candidate: Candidate<T>
  readonly exactHeaders: readonly ExactHeader[]
  /** Literals that its path must contain. */
  readonly literals: readonly string[]
}

/** What the path must pass beyond its place in the index. */
export interface PathCheck {
  readonly test: (path: string) => boolean
  readonly literals: readonly string[]
}

function moreOf(criteria: Criteria): Criterion | undefined {
  const { rest } = criteria
  const others = criteria.exactHeaders.slice(1)
  if (others.length === 0) return rest
  return (request) => {
    for (const { name, value } of others) if (joined(request.request, name) !== value) return false
    return rest === undefined || rest(request)
  }
}
