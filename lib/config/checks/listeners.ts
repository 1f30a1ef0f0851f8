import { compileMatcherTree } from '../../match/tree.ts'
import { findSameMatches, serverNameProblem } from '../chain-match.ts'
import { chainNames, foreignInputs } from '../chain-matcher.ts'
import type { FilterChainConfig, FilterChainMatchConfig, ListenerConfig, ListenerFilterConfig } from '../listener.ts'
import { checkHttp } from './http.ts'
import { checkAccessLog } from './logs.ts'
import { checkCidr } from './matchers.ts'
import type { Spot } from './spot.ts'
import { checkTls } from './tls.ts'

/** One listener but for its name and addresses: filter chains that end and differ, filters that exist, a matcher that chooses. */
export function checkListener(listener: ListenerConfig, at: Spot): void {
  const { addresses, internal, filterChains, defaultFilterChain: standard } = listener
  if (internal && addresses.length > 0) at.field('addresses', addresses).error('an internal listener has no address')
  if (!internal && addresses.length === 0) at.field('addresses', addresses).error('must not be empty')
  if (filterChains.length === 0 && standard === undefined) {
    at.field('filterChains', filterChains).error('a listener needs a filter chain')
  }
  at.each('listenerFilters', listener.listenerFilters, checkListenerFilter)
  at.each('filterChains', filterChains, checkChain)
  if (standard !== undefined) checkChain(standard, at.field('defaultFilterChain', standard))
  if (listener.chainMatcher === undefined) checkMatches(filterChains, at)
  else checkMatcher(listener, at)
  at.each('accessLogs', listener.accessLogs, checkAccessLog)
}

function checkListenerFilter({ name, typeUrl, missing }: ListenerFilterConfig, at: Spot): void {
  if (missing === true) return
  if (at.context.listenerFilter(typeUrl) === undefined) at.error(`listener filter "${name}" is not available`)
}

function checkChain(chain: FilterChainConfig, at: Spot): void {
  checkNetworkFilters(chain, at)
  if (chain.match !== undefined) checkMatch(chain.match, at.field('match', chain.match))
  if (chain.tls !== undefined) checkTls(chain.tls, at.field('tls', chain.tls))
  if (chain.http !== undefined) checkHttp(chain.http, at.field('http', chain.http))
}

function checkNetworkFilters({ networkFilters, http }: FilterChainConfig, at: Spot): void {
  at.each('networkFilters', networkFilters, ({ name, typeUrl, config, missing }, where, i) => {
    // It closes connections, wherever it stands.
    if (missing === true) return
    const filter = where.context.networkFilter(typeUrl)
    if (filter === undefined) {
      where.error(`network filter "${name}" is not available`)
      return
    }
    const last = i === networkFilters.length - 1 && http === undefined
    if (filter.terminal === true && !last) where.error(`"${name}" ends the chain and must be the last filter`)
    if (filter.terminal !== true && last) where.error(`nothing ends the chain: "${name}" passes on what it reads`)
    for (const cluster of filter.clusters?.(config) ?? []) {
      if (where.context.clusters?.has(cluster) === false) where.error(`unknown cluster "${cluster}"`)
    }
  })
}

function checkMatch(match: FilterChainMatchConfig, at: Spot): void {
  const { serverNames, destinations, directSources, sources } = match
  at.each('serverNames', serverNames, (name, where) => {
    const problem = serverNameProblem(name)
    if (problem !== undefined) where.error(problem)
  })
  at.each('destinations', destinations, checkCidr)
  at.each('directSources', directSources, checkCidr)
  at.each('sources', sources, checkCidr)
}

function checkMatches(chains: readonly FilterChainConfig[], at: Spot): void {
  const list = at.field('filterChains', chains)
  for (const { first, second } of findSameMatches(chains)) {
    const why = `filter chains ${label(chains, first)} and ${label(chains, second)} match the same connections`
    list.item(second, chains[second]).error(why)
  }
}

function label(chains: readonly FilterChainConfig[], index: number): string {
  const { name } = chains[index]
  return name === '' ? `[${index}]` : `"${name}"`
}

function checkMatcher({ filterChains, chainMatcher }: ListenerConfig, at: Spot): void {
  if (chainMatcher === undefined) return
  const names = new Set<string>()
  at.each('filterChains', filterChains, ({ name, match }, where) => {
    if (match !== undefined) where.field('match', match).error('has no effect: the listener has a chain matcher')
    if (name === '') where.field('name').error('is required: the chain matcher chooses by name')
    else if (names.has(name)) where.field('name').error(`a second filter chain "${name}"`)
    names.add(name)
  })
  const matcher = at.field('chainMatcher', chainMatcher)
  for (const name of chainNames(chainMatcher)) if (!names.has(name)) matcher.error(`unknown filter chain "${name}"`)
  for (const kind of foreignInputs(chainMatcher)) matcher.error(`input "${kind}": a connection has none`)
  matcher.attempt(() => compileMatcherTree(chainMatcher))
}
