import { compileCidrs } from '../../match/cidr.ts'
import type {
  CidrConfig,
  FractionConfig,
  HeaderMatchConfig,
  MatcherTreeConfig,
  MetadataMatchConfig,
  OnMatchConfig,
  PredicateConfig,
  StringMatchConfig,
  ValueMatchConfig,
} from '../../match/config.ts'
import { templateToRegex } from '../../match/template.ts'
import type { PathMatchConfig, RouteMatchConfig } from '../../router/config.ts'
import type { Spot } from './spot.ts'
import { checkHeaderName, checkRegex } from './texts.ts'

export function checkStringMatch(match: StringMatchConfig, spot: Spot): void {
  if (match.kind === 'regex') checkRegex(match.value, spot.field('value'))
  else if (match.value === '' && match.kind !== 'exact') spot.field('value').error('must not be empty')
}

export function checkHeaderMatch({ name, match }: HeaderMatchConfig, spot: Spot): void {
  checkHeaderName(name, spot.field('name'))
  if (match.kind === 'string') checkStringMatch(match.string, spot.field('match', match).field('string', match.string))
  else if (match.kind === 'range' && match.end <= match.start) {
    spot.field('range').error(`ends at ${match.end}, which is not behind its start, ${match.start}`)
  }
}

export function checkMetadataMatch({ value }: MetadataMatchConfig, spot: Spot): void {
  checkValueMatch(value, spot.field('value', value))
}

function checkValueMatch(value: ValueMatchConfig, spot: Spot): void {
  if (value.kind === 'string') checkStringMatch(value.string, spot.field('string', value.string))
  else if (value.kind === 'list') checkValueMatch(value.oneOf, spot.field('oneOf', value.oneOf))
  else if (value.kind === 'or') spot.each('values', value.values, (inner, at) => checkValueMatch(inner, at))
}

export function checkFraction(fraction: FractionConfig | undefined, spot: Spot): void {
  if (fraction !== undefined && fraction.numerator > fraction.denominator) {
    spot.field('numerator').error(`${fraction.numerator} of ${fraction.denominator} is more than all`)
  }
}

export function checkCidr(range: CidrConfig, spot: Spot): void {
  spot.attempt(() => compileCidrs([range]))
}

export function checkPathMatch(path: PathMatchConfig, spot: Spot): void {
  const value = spot.field('value')
  switch (path.kind) {
    case 'regex':
      checkRegex(path.value, value)
      break
    case 'template':
      value.attempt(() => templateToRegex(path.value))
      break
    case 'path-separated-prefix':
      if (!path.value.startsWith('/') || path.value.endsWith('/'))
        value.error('must begin with "/" and not end with it')
      if (/[?#]/.test(path.value)) value.error('must not contain "?" or "#"')
      break
  }
}

/** All conditions of a route. */
export function checkRouteMatch(match: RouteMatchConfig, spot: Spot): void {
  checkPathMatch(match.path, spot.field('path', match.path))
  spot.each('headers', match.headers, checkHeaderMatch)
  spot.each('queryParameters', match.queryParameters, (parameter, at) => {
    if (parameter.match.kind !== 'string') return
    checkStringMatch(parameter.match.string, at.field('match', parameter.match).field('string', parameter.match.string))
  })
  spot.each('cookies', match.cookies, (cookie, at) =>
    checkStringMatch(cookie.string, at.field('string', cookie.string)),
  )
  spot.each('metadata', match.metadata, checkMetadataMatch)
  spot.each('filterState', match.filterState, (state, at) => {
    if ('string' in state) checkStringMatch(state.string, at.field('string', state.string))
    else at.attempt(() => compileCidrs(state.ranges))
  })
  checkFraction(match.fraction, spot.field('fraction', match.fraction))
}

/** A tree of conditions; `action` checks its leaves. */
export function checkMatcherTree<A>(
  tree: MatcherTreeConfig<A>,
  spot: Spot,
  action: (action: A, spot: Spot) => void,
): void {
  const on = (match: OnMatchConfig<A>, at: Spot): void => {
    if ('matcher' in match) {
      checkMatcherTree(match.matcher, at.field('matcher', match.matcher), action)
      return
    }
    const { action: leaf } = match
    action(leaf, at.field('action', typeof leaf === 'object' && leaf !== null ? leaf : undefined))
  }
  spot.each('list', tree.list, (entry, at) => {
    checkPredicate(entry.predicate, at.field('predicate', entry.predicate))
    on(entry.onMatch, at.field('onMatch', entry.onMatch))
  })
  if (tree.tree !== undefined) {
    spot.field('tree', tree.tree).each('map', tree.tree.map, ([, match], at) => on(match, at.item(1, match)))
  }
  if (tree.onNoMatch !== undefined) on(tree.onNoMatch, spot.field('onNoMatch', tree.onNoMatch))
}

function checkPredicate(predicate: PredicateConfig, spot: Spot): void {
  if (predicate.kind === 'single') checkStringMatch(predicate.string, spot.field('string', predicate.string))
  else if (predicate.kind === 'not') checkPredicate(predicate.predicate, spot.field('predicate', predicate.predicate))
  else spot.each('predicates', predicate.predicates, checkPredicate)
}
