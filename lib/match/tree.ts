import type { ConnectionInfo } from '../core/connection.ts'
import type { RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import type { MatcherTreeConfig, MatchInputConfig, OnMatchConfig, PredicateConfig } from './config.ts'
import { compileHeaderValue, joined } from './header.ts'
import { queryParameter } from './query.ts'
import { compileString } from './string.ts'
import { type MetadataSource, valueAt } from './value.ts'

/** What the inputs of a matcher tree read; an `HttpStream` is one. */
export interface MatchData {
  readonly head: RequestHead
  readonly request: Headers
  /** Absent or empty until the response begins. */
  readonly response?: Headers
  /** 0 until the response begins. */
  readonly status?: number
  readonly connection: ConnectionInfo
  readonly metadata: MetadataSource
  readonly info: { readonly clientAddress: string }
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

function compileInput(config: MatchInputConfig): Input {
  switch (config.kind) {
    case 'request-header': {
      const read = compileHeaderValue(config.name)
      return (data) => read(data.request, data.head)
    }
    case 'response-header': {
      const name = config.name.toLowerCase()
      return (data) => (data.response === undefined ? undefined : joined(data.response, name))
    }
    case 'response-status':
      return (data) => (data.status === undefined || data.status === 0 ? undefined : String(data.status))
    case 'query-parameter': {
      const { name } = config
      return (data) => queryParameter(data.head.path, name)
    }
    case 'metadata': {
      const { namespace, path } = config
      return (data) => {
        const value = valueAt(data.metadata.get(namespace), path)
        return typeof value === 'string' ? value : undefined
      }
    }
    case 'source-ip':
      return (data) => nonEmpty(data.info.clientAddress) ?? nonEmpty(data.connection.remoteAddress)
    case 'direct-source-ip':
      return (data) => nonEmpty(data.connection.directRemoteAddress)
    case 'destination-ip':
      return (data) => nonEmpty(data.connection.localAddress)
    case 'destination-port':
      return (data) => String(data.connection.localPort)
    case 'server-name':
      return (data) => data.connection.tls?.serverName
  }
}

function nonEmpty(value: string): string | undefined {
  return value === '' ? undefined : value
}
