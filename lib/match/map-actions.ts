import type { MatcherTreeConfig, OnMatchConfig } from './config.ts'

/** The same tree with other leaves; `change` is called once for each. */
export function mapActions<A, B>(tree: MatcherTreeConfig<A>, change: (action: A) => B): MatcherTreeConfig<B> {
  const on = (match: OnMatchConfig<A>): OnMatchConfig<B> =>
    'matcher' in match
      ? { ...match, matcher: mapActions(match.matcher, change) }
      : { ...match, action: change(match.action) }
  const { list, tree: lookup, onNoMatch } = tree
  return {
    ...(list && { list: list.map((entry) => ({ ...entry, onMatch: on(entry.onMatch) })) }),
    ...(lookup && { tree: { ...lookup, map: lookup.map.map(([key, match]) => [key, on(match)] as const) } }),
    ...(onNoMatch && { onNoMatch: on(onNoMatch) }),
  }
}
