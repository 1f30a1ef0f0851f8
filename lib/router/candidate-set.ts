import { joined } from '../match/header.ts'
import type { Candidate, Filed, PathView } from './candidate.ts'
import { LiteralIndex } from './literal-index.ts'
import type { RouteRequest } from './request.ts'

/** Below this many candidates trying one after the other is as quick as any index. */
const SMALL = 8

/**
 * Many candidates in one place of the path index: those that ask for an exact value of the same header are found by that
 * value, those with a regex by a literal that it needs, the rest are tried in order.
 */
export class CandidateSet<T> {
  readonly #headers: readonly HeaderIndex<T>[]
  readonly #literals: LiteralIndex<T> | undefined
  readonly #others: readonly Candidate<T>[]

  /** `candidates` in ascending order; whose texts are those of the view given to `best`. */
  constructor(candidates: readonly Filed<T>[], usedHeaders: readonly string[] = []) {
    const headers: HeaderIndex<T>[] = []
    let rest = candidates
    while (rest.length > SMALL) {
      const name = mostTelling(rest, usedHeaders)
      if (name === undefined) break
      headers.push(new HeaderIndex(name, rest, [...usedHeaders, name]))
      rest = rest.filter((c) => exactValue(c, name) === undefined)
    }
    const searchable = rest.length > SMALL ? rest.filter(LiteralIndex.takes) : []
    this.#headers = headers
    this.#literals = searchable.length > SMALL ? new LiteralIndex(searchable) : undefined
    const others = this.#literals === undefined ? rest : rest.filter((c) => !LiteralIndex.takes(c))
    this.#others = others.map((c) => c.candidate)
  }

  /** The first that accepts the request, if it comes before `limit`. */
  best(request: RouteRequest, path: PathView, limit: number): Candidate<T> | undefined {
    let found: Candidate<T> | undefined
    for (const index of this.#headers) {
      const candidate = index.best(request, path, limit)
      if (candidate !== undefined) {
        found = candidate
        limit = candidate.order
      }
    }
    for (const candidate of this.#others) {
      if (candidate.order >= limit) break
      if (!candidate.accepts(request, path)) continue
      found = candidate
      limit = candidate.order
      break
    }
    return this.#literals?.best(request, path, limit) ?? found
  }
}

/** Candidates by the value that they want of one header. */
class HeaderIndex<T> {
  readonly #name: string
  readonly #byValue = new Map<string, CandidateSet<T>>()

  constructor(name: string, candidates: readonly Filed<T>[], used: readonly string[]) {
    this.#name = name
    const groups = new Map<string, Filed<T>[]>()
    for (const candidate of candidates) {
      const value = exactValue(candidate, name)
      if (value === undefined) continue
      const group = groups.get(value)
      if (group === undefined) groups.set(value, [candidate])
      else group.push(candidate)
    }
    for (const [value, group] of groups) this.#byValue.set(value, new CandidateSet(group, used))
  }

  best(request: RouteRequest, path: PathView, limit: number): Candidate<T> | undefined {
    const value = joined(request.request, this.#name)
    return value === undefined ? undefined : this.#byValue.get(value)?.best(request, path, limit)
  }
}

function exactValue(filed: Filed<unknown>, name: string): string | undefined {
  return filed.exactHeaders.find((h) => h.name === name)?.value
}

/** The header that more than a few of these ask an exact value of, with the most different values. */
function mostTelling(candidates: readonly Filed<unknown>[], used: readonly string[]): string | undefined {
  const values = new Map<string, Set<string>>()
  for (const candidate of candidates) {
    for (const { name, value } of candidate.exactHeaders) {
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
