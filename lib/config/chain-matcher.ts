import type { MatcherTreeConfig, MatchInputConfig, OnMatchConfig, PredicateConfig } from '../match/config.ts'

/** Filter chains that a matcher may choose, each once. */
export function chainNames(matcher: MatcherTreeConfig<string>): ReadonlySet<string> {
  const names = new Set<string>()
  visit(matcher, { action: (name) => names.add(name) })
  return names
}

/** What belongs to requests, or is not known before the filter chain is chosen. */
const FOREIGN: ReadonlySet<MatchInputConfig['kind']> = new Set<MatchInputConfig['kind']>([
  'request-header',
  'response-header',
  'query-parameter',
  'response-status',
  'uri-san',
  'dns-san',
  'subject',
])

/** What only the TLS inspector finds. */
const INSPECTED: ReadonlySet<MatchInputConfig['kind']> = new Set<MatchInputConfig['kind']>([
  'server-name',
  'transport-protocol',
  'application-protocol',
])

/** Inputs of a matcher that find nothing while filter chains are chosen. */
export function foreignInputs(matcher: MatcherTreeConfig<string>): readonly MatchInputConfig['kind'][] {
  return [...inputsOf(matcher)].filter((kind) => FOREIGN.has(kind))
}

/** Whether a matcher looks at what the TLS inspector finds. */
export function looksAtTls(matcher: MatcherTreeConfig<string>): boolean {
  return [...inputsOf(matcher)].some((kind) => INSPECTED.has(kind))
}

function inputsOf(matcher: MatcherTreeConfig<string>): Set<MatchInputConfig['kind']> {
  const kinds = new Set<MatchInputConfig['kind']>()
  visit(matcher, { input: ({ kind }) => void kinds.add(kind) })
  return kinds
}

interface Visitor {
  action?(name: string): void
  input?(input: MatchInputConfig): void
}

function visit({ list = [], tree, onNoMatch }: MatcherTreeConfig<string>, visitor: Visitor): void {
  for (const { predicate, onMatch } of list) {
    visitPredicate(predicate, visitor)
    visitMatch(onMatch, visitor)
  }
  if (tree !== undefined) {
    visitor.input?.(tree.input)
    for (const [, onMatch] of tree.map) visitMatch(onMatch, visitor)
  }
  if (onNoMatch !== undefined) visitMatch(onNoMatch, visitor)
}

function visitMatch(onMatch: OnMatchConfig<string>, visitor: Visitor): void {
  if ('matcher' in onMatch) visit(onMatch.matcher, visitor)
  else visitor.action?.(onMatch.action)
}

function visitPredicate(predicate: PredicateConfig, visitor: Visitor): void {
  switch (predicate.kind) {
    case 'single':
      visitor.input?.(predicate.input)
      return
    case 'not':
      visitPredicate(predicate.predicate, visitor)
      return
    default:
      for (const inner of predicate.predicates) visitPredicate(inner, visitor)
  }
}
