import { findSameMatches } from '../../lib/config/chain-match.ts'
import type { FilterChainConfig } from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'

/** A filter chain, and what it was read from. */
export interface ReadChain {
  readonly reader: FieldReader
  readonly config: FilterChainConfig
}

/** What filter chains must not have in common; `byName`: a matcher chooses between them. */
export function checkChains(read: readonly ReadChain[], byName: boolean): void {
  if (byName) {
    checkNames(read)
    return
  }
  const chains = read.map(({ config }) => config)
  for (const { first, second } of findSameMatches(chains)) {
    const why = `filter chains ${label(chains, first)} and ${label(chains, second)} match the same connections`
    read[second].reader.error('filter_chain_match', why)
  }
}

function checkNames(read: readonly ReadChain[]): void {
  const names = new Set<string>()
  for (const { reader, config } of read) {
    if (config.match !== undefined) {
      reader.error('filter_chain_match', 'has no effect: the listener has a filter_chain_matcher')
    }
    if (config.name === '') reader.error('name', 'is required: filter_chain_matcher chooses by name')
    else if (names.has(config.name)) reader.error('name', `a second filter chain "${config.name}"`)
    names.add(config.name)
  }
}

function label(chains: readonly FilterChainConfig[], index: number): string {
  const { name } = chains[index]
  return name === '' ? `filter_chains[${index}]` : `"${name}"`
}
