import type { HttpFilter, Terminal } from './filter.ts'

/** One hook of one filter: `at` is the place in the direction of travel, `index` the place in the configured order. */
export interface Hook {
  readonly filter: HttpFilter<unknown>
  readonly at: number
  readonly index: number
}

/**
 * A chain compiled for one route: one array per hook, holding only the filters that have it. All chains of a connection
 * manager have the same length and order; a filter that is off for a route is `undefined` in `filters`.
 */
export interface ChainPlan {
  readonly filters: readonly (HttpFilter<unknown> | undefined)[]
  /** Instance names, parallel to `filters`: for logs and metrics. */
  readonly names: readonly string[]
  readonly terminal: Terminal
  readonly states: readonly Hook[]
  readonly requestHeaders: readonly Hook[]
  readonly requestData: readonly Hook[]
  readonly requestTrailers: readonly Hook[]
  readonly informational: readonly Hook[]
  readonly responseHeaders: readonly Hook[]
  readonly responseData: readonly Hook[]
  readonly responseTrailers: readonly Hook[]
  readonly ends: readonly Hook[]
}

type HookName = Exclude<keyof HttpFilter<unknown>, undefined>

/** Sorts filters into the arrays of a plan. */
export function compileChain(
  filters: readonly (HttpFilter<unknown> | undefined)[],
  names: readonly string[],
  terminal: Terminal,
): ChainPlan {
  const pick = (name: HookName): Hook[] => {
    const out: Hook[] = []
    for (let index = 0; index < filters.length; index++) {
      const filter = filters[index]
      if (filter?.[name] !== undefined) out.push({ filter, at: index, index })
    }
    return out
  }
  const pickReversed = (name: HookName): Hook[] =>
    pick(name)
      .reverse()
      .map((hook) => ({ ...hook, at: filters.length - 1 - hook.index }))
  return Object.freeze({
    filters,
    names,
    terminal,
    states: pick('createState'),
    requestHeaders: pick('onRequestHeaders'),
    requestData: pick('onRequestData'),
    requestTrailers: pick('onRequestTrailers'),
    informational: pickReversed('onInformational'),
    responseHeaders: pickReversed('onResponseHeaders'),
    responseData: pickReversed('onResponseData'),
    responseTrailers: pickReversed('onResponseTrailers'),
    ends: pick('onEnd'),
  })
}

/**
 * The plan after `refreshRoute` from within the filter at `index`: filters that have run stay as they are, later ones
 * take the new route's instances. What was off stays off and what was on stays on: the set is frozen at the start.
 */
export function spliceChain(old: ChainPlan, next: ChainPlan, index: number): ChainPlan {
  if (old === next) return old
  const filters = old.filters.map((filter, i) =>
    i <= index || filter === undefined ? filter : (next.filters[i] ?? filter),
  )
  return compileChain(filters, old.names, next.terminal)
}
