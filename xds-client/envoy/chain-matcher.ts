import { foreignInputs } from '../../lib/config/chain-matcher.ts'
import type { FilterChainConfig } from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { MatcherTreeConfig } from '../../lib/match/config.ts'
import { parseMatcherTree } from '../../lib/match/parse-tree.ts'
import { consume } from './refusals.ts'

const STRING = 'google.protobuf.StringValue'

/** `filter_chain_matcher`: its actions are the names of filter chains. */
export function translateChainMatcher(
  reader: FieldReader,
  chains: readonly FilterChainConfig[],
): MatcherTreeConfig<string> | undefined {
  const matcher = reader.message('filter_chain_matcher')
  if (matcher === undefined) return undefined
  const names = new Set(chains.map(({ name }) => name))
  const config = parseMatcherTree<string>(matcher, (action, at) => {
    if (action.typeUrl !== STRING) {
      consume(action)
      at.error('typed_config', `must be a ${STRING} with the name of a filter chain, is "${action.typeUrl}"`)
      return undefined
    }
    const name = action.fields.string('value')
    if (!names.has(name)) at.error('typed_config', `unknown filter chain "${name}"`)
    return name
  })
  for (const kind of foreignInputs(config)) {
    reader.error('filter_chain_matcher', `input "${kind}" is not available here: a connection has none`)
  }
  return config
}
