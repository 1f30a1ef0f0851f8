import type { MatcherTreeConfig, MatchInputConfig, OnMatchConfig, PredicateConfig } from '../match/config.ts'
import type { ConditionConfig, RbacConfig } from './config.ts'

/**
 * What rules ask about that only requests have, in prose; undefined: they serve connections too. Asked of a connection
 * such a condition never holds, and a policy that denies by it would deny nobody.
 */
export function asksOfRequests(config: RbacConfig): string | undefined {
  if (config.kind === 'matcher') {
    const asked = ofTree(config.tree)
    return asked && `it asks about ${asked}`
  }
  for (const { name, permissions, principals } of config.policies) {
    const asked = first(permissions, ofCondition) ?? first(principals, ofCondition)
    if (asked !== undefined) return `policy "${name}" asks about ${asked}`
  }
  return undefined
}

function first<T>(list: readonly T[], find: (one: T) => string | undefined): string | undefined {
  for (const one of list) {
    const found = find(one)
    if (found !== undefined) return found
  }
  return undefined
}

function ofCondition(config: ConditionConfig): string | undefined {
  switch (config.kind) {
    case 'and':
    case 'or':
      return first(config.of, ofCondition)
    case 'not':
      return ofCondition(config.of)
    case 'header':
      return `a header, "${config.header.name}"`
    case 'path':
    case 'path-template':
      return 'the path'
    case 'metadata':
      return config.source === 'route' ? 'the metadata of a route' : undefined
    default:
      return undefined
  }
}

function ofTree(config: MatcherTreeConfig<unknown>): string | undefined {
  const { list, tree, onNoMatch } = config
  const inList = list && first(list, ({ predicate, onMatch }) => ofPredicate(predicate) ?? ofMatch(onMatch))
  const inTree = tree && (ofInput(tree.input) ?? first(tree.map, ([, onMatch]) => ofMatch(onMatch)))
  return inList ?? inTree ?? (onNoMatch && ofMatch(onNoMatch))
}

function ofMatch(match: OnMatchConfig<unknown>): string | undefined {
  return 'matcher' in match ? ofTree(match.matcher) : undefined
}

function ofPredicate(config: PredicateConfig): string | undefined {
  switch (config.kind) {
    case 'single':
      return ofInput(config.input)
    case 'not':
      return ofPredicate(config.predicate)
    default:
      return first(config.predicates, ofPredicate)
  }
}

function ofInput(input: MatchInputConfig): string | undefined {
  switch (input.kind) {
    case 'request-header':
    case 'response-header':
      return `a header, "${input.name}"`
    case 'query-parameter':
      return `a query parameter, "${input.name}"`
    case 'response-status':
      return 'the status of a response'
    default:
      return undefined
  }
}
