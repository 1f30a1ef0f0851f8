import type { Candidate, CandidateStore, PathView } from './candidate.ts'
import { LiteralIndex } from './literal-index.ts'
import type { RouteRequest } from './request.ts'

/** Below this many candidates trying one after the other is as quick as any index. */
const SMALL = 8

/** A candidate with its number in the store. */
export interface Numbered<T> {
  readonly number: number
  readonly candidate: Candidate<T>
}

/**
 * Many candidates in one place of the path index: those that ask for an exact value of the same header are found by that
 * value, those with a regex by a literal that it needs, the rest are tried in order.
 */
export class CandidateSet<T> {
  readonly #store: CandidateStore<T>
  readonly #headers: readonly HeaderIndex<T>[]
  readonly #literals: LiteralIndex<T> | undefined
  readonly #others: Int32Array

  /** `candidates` in ascending order; `usedHeaders` have told them apart already. */
  constructor(store: CandidateStore<T>, candidates: readonly Numbered<T>[], usedHeaders: readonly string[] = []) {
    const headers: HeaderIndex<T>[] = []
    let rest = candidates
    while (rest.length > SMALL) {
      const name = mostTelling(rest, usedHeaders)
      if (name === undefined) break
      headers.push(new HeaderIndex(store, name, rest, usedHeaders))
      rest = rest.filter((c) => exactValue(c, name) === undefined)
    }
    const searchable = rest.filter(LiteralIndex.takes)
    const indexed = searchable.length > SMALL
    const others = indexed ? rest.filter((c) => !LiteralIndex.takes(c)) : rest
    this.#store = store
    this.#headers = headers
    this.#literals = indexed ? new LiteralIndex(store, searchable) : undefined
    this.#others = Int32Array.from(others, (c) => c.number)
  }

  /** Number of the first that accepts the request, if its order is below `limit`; otherwise -1. */
  best(request: RouteRequest, path: PathView, limit: number): number {
    const store = this.#store
    let found = -1
    for (const index of this.#headers) {
      const candidate = index.best(request, path, limit)
      if (candidate < 0) continue
      found = candidate
      limit = store.order(candidate)
    }
    for (const candidate of this.#others) {
      if (store.order(candidate) >= limit) break
      if (!store.accepts(candidate, request, path)) continue
      found = candidate
      limit = store.order(candidate)
      break
    }
    if (this.#literals === undefined) return found
    const candidate = this.#literals.best(request, path, limit)
    return candidate < 0 ? found : candidate
  }
}

/** Candidates by the value that they want of one header. */
class HeaderIndex<T> {
  readonly #store: CandidateStore<T>
  readonly #name: string
  readonly #byValue = new Map<string, CandidateSet<T>>()

  constructor(
    store: CandidateStore<T>,
    name: string,
    candidates: readonly Numbered<T>[],
    usedHeaders: readonly string[],
  ) {
    this.#store = store
    this.#name = name
    const groups = new Map<string, Numbered<T>[]>()
    for (const candidate of candidates) {
      const value = exactValue(candidate, name)
      if (value === undefined) continue
      const group = groups.get(value)
      if (group === undefined) groups.set(value, [candidate])
      else group.push(candidate)
    }
    const used = [...usedHeaders, name]
    for (const [value, group] of groups) this.#byValue.set(value, new CandidateSet(store, group, used))
  }

  /** Each value of a repeated header counts by itself. */
  best(request: RouteRequest, path: PathView, limit: number): number {
    const raw = request.request.raw
    let found = -1
    for (let i = 0; i < raw.length; i += 2) {
      if (raw[i] !== this.#name) continue
      const candidate = this.#byValue.get(raw[i + 1])?.best(request, path, limit) ?? -1
      if (candidate < 0) continue
      found = candidate
      limit = this.#store.order(candidate)
    }
    return found
  }
}

function exactValue(numbered: Numbered<unknown>, name: string): string | undefined {
  return numbered.candidate.criteria.exactHeaders.find((h) => h.name === name)?.value
}

/** The header that more than a few of these ask an exact value of, with the most different values. */
function mostTelling(candidates: readonly Numbered<unknown>[], used: readonly string[]): string | undefined {
  const values = new Map<string, Set<string>>()
  for (const { candidate } of candidates) {
    for (const { name, value } of candidate.criteria.exactHeaders) {
      if (used.includes(name)) continue
      const known = values.get(name)
      if (known === undefined) values.set(name, new Set([value]))
      else known.add(value)
    }
  }
  let best: string | undefined
  let most = SMALL / 2
  for (const [name, known] of values) {
    if (known.size < most) continue
    best = name
    most = known.size
  }
  return best
}
