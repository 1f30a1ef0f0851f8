import { isGrpc } from '../core/grpc.ts'
import type { Runtime } from '../core/metrics.ts'
import type { HeaderMatchConfig } from '../match/config.ts'
import { compileCookie } from '../match/cookie.ts'
import { compileFilterState } from '../match/filter-state.ts'
import { compileFraction } from '../match/fraction.ts'
import { compileHeader } from '../match/header.ts'
import { compileQueryParameter } from '../match/query.ts'
import { compileMetadata } from '../match/value.ts'
import type { RouteMatchConfig } from './config.ts'
import type { RouteRequest } from './request.ts'

export type Criterion = (request: RouteRequest) => boolean

/** A header that must have exactly this value: the criterion that route tables are full of, and that indexes use. */
export interface ExactHeader {
  readonly name: string
  readonly value: string
}

/** All criteria of a route besides its path. */
export interface Criteria {
  /** '' where any method will do. */
  readonly method: string
  readonly exactHeaders: readonly ExactHeader[]
  /** The others; undefined where there are none. */
  readonly rest: Criterion | undefined
}

/** @throws Error for a pattern that RE2 refuses. */
export function compileCriteria(match: RouteMatchConfig, runtime: Runtime): Criteria {
  const exactHeaders: ExactHeader[] = []
  const rest: Criterion[] = []
  let method = ''
  for (const header of match.headers ?? []) {
    const value = exactValue(header)
    if (value === undefined) rest.push(headerCriterion(header))
    else if (!header.name.startsWith(':') && header.name !== 'host') exactHeaders.push({ name: header.name, value })
    else if (header.name === ':method' && method === '' && value !== '') method = value
    else rest.push(headerCriterion(header))
  }
  for (const parameter of match.queryParameters ?? []) {
    const test = compileQueryParameter(parameter)
    rest.push((request) => test(request.head.path))
  }
  for (const cookie of match.cookies ?? []) {
    const test = compileCookie(cookie)
    rest.push((request) => test(request.request))
  }
  if (match.grpc === true) rest.push((request) => isGrpc(request.request))
  if (match.tls !== undefined) rest.push(...tlsCriteria(match.tls))
  for (const metadata of match.metadata ?? []) {
    const test = compileMetadata(metadata)
    rest.push((request) => test(request.metadata))
  }
  for (const state of match.filterState ?? []) {
    const test = compileFilterState(state)
    rest.push((request) => test(request.filterState))
  }
  if (match.fraction !== undefined) {
    const test = compileFraction(match.fraction, runtime)
    rest.push((request) => test(request.random))
  }
  return { method, exactHeaders, rest: allOf(rest) }
}

/** The value of a plain, case-sensitive, not inverted exact match. */
function exactValue(header: HeaderMatchConfig): string | undefined {
  const { match } = header
  if (header.invert === true || header.treatMissingAsEmpty === true) return undefined
  if (match.kind !== 'string' || match.string.kind !== 'exact' || match.string.ignoreCase === true) return undefined
  return match.string.value
}

function headerCriterion(header: HeaderMatchConfig): Criterion {
  const test = compileHeader(header)
  return (request) => test(request.request, request.head)
}

function tlsCriteria(tls: NonNullable<RouteMatchConfig['tls']>): Criterion[] {
  const out: Criterion[] = []
  const { presented, validated } = tls
  if (presented !== undefined) {
    out.push(({ connection: { tls } }) => (tls?.peer !== undefined || tls?.peerUnverified === true) === presented)
  }
  if (validated !== undefined) out.push((request) => (request.connection.tls?.peer !== undefined) === validated)
  return out
}

function allOf(criteria: readonly Criterion[]): Criterion | undefined {
  if (criteria.length <= 1) return criteria[0]
  return (request) => {
    for (const test of criteria) if (!test(request)) return false
    return true
  }
}
