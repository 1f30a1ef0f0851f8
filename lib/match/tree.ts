import { type ConnectionInfo, verifiedPeer } from '../core/connection.ts'
import type { RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import type { MatcherTreeConfig, MatchInputConfig, OnMatchConfig, PredicateConfig } from './config.ts'
import { isLocalConnection } from './connection.ts'
import { type FilterStateSource, plainObject } from './filter-state.ts'
import { compileHeaderValue, joined } from './header.ts'
import { queryParameter } from './query.ts'
import { compileRangeTable } from './range-table.ts'
import { compileString } from './string.ts'
import { type MetadataSource, valueAt } from './value.ts'

/** What the inputs of a matcher tree read; an `HttpStream` is one. What a connection alone has not is left out there. */
export interface MatchData {
  readonly head?: RequestHead
  readonly request?: Headers
  /** Absent or empty until the response begins. */
  readonly response?: Headers
  /** 0 until the response begins. */
  readonly status?: number
  readonly connection: ConnectionInfo
  readonly metadata: MetadataSource
  readonly filterState?: FilterStateSource
  readonly info?: { readonly clientAddress: string }
}

/**
 * Answers the action of the first match, undefined where there is none. Actions that are taken although matching goes on
 * (`keep_matching`) are handed to `kept` as they are met.
 */
export type MatcherTree<A> = (data: MatchData, kept?: (action: A) => void) => A | undefined

type Input = (data: MatchData) => string | undefined

/**
 * Compiles `xds.type.matcher.v3.Matcher`. A nested matcher that finds nothing leaves the outer one to go on: with the
 * next entry of a list, a shorter prefix of a prefix map, and at last with `onNoMatch`.
 *
 * @throws Error for a pattern that RE2 refuses.
 */
export function compileMatcherTree<A>(config: MatcherTreeConfig<A>): MatcherTree<A> {
  const main = config.tree !== undefined ? compileMap(config.tree) : compileList(config.list ?? [])
  if (config.onNoMatch === undefined) return main
  const otherwise = compileOnMatch(config.onNoMatch)
  return (data, kept) => main(data, kept) ?? otherwise(data, kept)
}

function compileOnMatch<A>(config: OnMatchConfig<A>): MatcherTree<A> {
  const found = 'matcher' in config ? compileMatcherTree(config.matcher) : constant(config.action)
  if (config.keepMatching !== true) return found
  return (data, kept) => {
    const action = found(data, kept)
    if (action !== undefined) kept?.(action)
    return undefined
  }
}

function constant<A>(action: A): MatcherTree<A> {
  return () => action
}

function compileList<A>(entries: NonNullable<MatcherTreeConfig<A>['list']>): MatcherTree<A> {
  const tests = entries.map((e) => compilePredicate(e.predicate))
  const matches = entries.map((e) => compileOnMatch(e.onMatch))
  return (data, kept) => {
    for (let i = 0; i < tests.length; i++) {
      if (!tests[i](data)) continue
      const action = matches[i](data, kept)
      if (action !== undefined) return action
    }
    return undefined
  }
}

function compileMap<A>(config: NonNullable<MatcherTreeConfig<A>['tree']>): MatcherTree<A> {
  const read = compileInput(config.input)
  if (config.kind === 'range') return compileRanges(config, read)
  const map = new Map<string, MatcherTree<A>>()
  for (const [key, onMatch] of config.map) map.set(key, compileOnMatch(onMatch))
  if (config.kind === 'exact') {
    return (data, kept) => {
      const value = read(data)
      return value === undefined ? undefined : map.get(value)?.(data, kept)
    }
  }
  const lengths = [...new Set([...map.keys()].map((key) => key.length))].sort((a, b) => b - a)
  return (data, kept) => {
    const value = read(data)
    if (value === undefined) return undefined
    for (const length of lengths) {
      if (length > value.length) continue
      const action = map.get(value.slice(0, length))?.(data, kept)
      if (action !== undefined) return action
    }
    return undefined
  }
}

/** A range that finds nothing leaves the shorter ones to go on, unless it is exclusive. */
function compileRanges<A>(config: NonNullable<MatcherTreeConfig<A>['tree']>, read: Input): MatcherTree<A> {
  const exclusive = new Set(config.exclusive)
  const table = compileRangeTable(
    config.map.map(([range, onMatch]) => {
      const length = Number(range.slice(range.lastIndexOf('/') + 1))
      return [range, { length, match: compileOnMatch(onMatch), last: exclusive.has(range) }]
    }),
  )
  return (data, kept) => {
    const address = read(data)
    if (address === undefined) return undefined
    for (let found = table(address); found !== undefined; found = table(address, found.length)) {
      const action = found.match(data, kept)
      if (action !== undefined || found.last) return action
    }
    return undefined
  }
}

function compilePredicate(config: PredicateConfig): (data: MatchData) => boolean {
  switch (config.kind) {
    case 'single': {
      const read = compileInput(config.input)
      const test = compileString(config.string)
      return (data) => {
        const value = read(data)
        return value !== undefined && test(value)
      }
    }
    case 'and': {
      const tests = config.predicates.map(compilePredicate)
      return (data) => tests.every((test) => test(data))
    }
    case 'or': {
      const tests = config.predicates.map(compilePredicate)
      return (data) => tests.some((test) => test(data))
    }
    case 'not': {
      const test = compilePredicate(config.predicate)
      return (data) => !test(data)
    }
  }
}

/** Compiles an input of a matcher by itself. */
export function compileInput(config: MatchInputConfig): (data: MatchData) => string | undefined {
  switch (config.kind) {
    case 'request-header': {
      const read = compileHeaderValue(config.name)
      return (data) =>
        data.request === undefined || data.head === undefined ? undefined : read(data.request, data.head)
    }
    case 'response-header': {
      const name = config.name.toLowerCase()
      return (data) => (data.response === undefined ? undefined : joined(data.response, name))
    }
    case 'response-status':
      return (data) => (data.status === undefined || data.status === 0 ? undefined : String(data.status))
    case 'query-parameter': {
      const { name } = config
      return (data) => (data.head === undefined ? undefined : queryParameter(data.head.path, name))
    }
    case 'metadata': {
      const { namespace, path } = config
      return (data) => {
        const value = valueAt(data.metadata.get(namespace), path)
        return typeof value === 'string' ? value : undefined
      }
    }
    case 'filter-state': {
      const { key } = config
      return (data) => plainObject(data.filterState?.get(key))
    }
    default:
      return connectionInput(config.kind)
  }
}

type ConnectionInput = Exclude<
  MatchInputConfig['kind'],
  `${'request' | 'response'}-${string}` | 'query-parameter' | 'metadata' | 'filter-state'
>

/** What a connection tells, as Envoy's network and TLS inputs spell it. */
function connectionInput(kind: ConnectionInput): Input {
  switch (kind) {
    case 'source-ip':
      return ({ info, connection }) => nonEmpty(info?.clientAddress) ?? nonEmpty(connection.remoteAddress)
    case 'source-port':
      return ({ connection: { kind, remotePort } }) => portOf(kind, remotePort)
    case 'source-type':
      return ({ connection }) => (isLocalConnection(connection) ? 'local' : undefined)
    case 'direct-source-ip':
      return ({ connection }) => nonEmpty(connection.directRemoteAddress)
    case 'destination-ip':
      return ({ connection }) => nonEmpty(connection.localAddress)
    case 'destination-port':
      return ({ connection: { kind, localPort } }) => portOf(kind, localPort)
    case 'server-name':
      return ({ connection }) => connection.serverName ?? connection.tls?.serverName
    case 'transport-protocol':
      return ({ connection }) => nonEmpty(connection.transportProtocol)
    case 'application-protocol':
      return ({ connection: { applicationProtocols: names } }) =>
        names.length === 0 ? undefined : `'${names.join("','")}'`
    case 'uri-san':
      return ({ connection }) => nonEmpty(verifiedPeer(connection)?.uriSans.join(','))
    case 'dns-san':
      return ({ connection }) => nonEmpty(verifiedPeer(connection)?.dnsSans.join(','))
    case 'subject':
      return ({ connection }) => nonEmpty(verifiedPeer(connection)?.subject)
  }
}

/** Paths have no port. */
function portOf(kind: ConnectionInfo['kind'], port: number): string | undefined {
  return kind === 'pipe' ? undefined : String(port)
}

function nonEmpty(value: string | undefined): string | undefined {
  return value === '' ? undefined : value
}
