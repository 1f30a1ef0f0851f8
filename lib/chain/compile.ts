import type { HttpFilter, Terminal } from './filter.ts'

/** One hook of one filter: `at` is the place in the direction of travel, `index` the place in the configured order. */
export interface Hook {
  readonly filter: HttpFilter<unknown>
  readonly at: number
  readonly index: number
}

/** Hears who uses a plan, so that its filters live as long as somebody does. */
export interface PlanUser {
  enter(): void
  /** Once for each `enter`. */
  leave(): void
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
  /** Whoever starts an exchange on the plan enters them, and leaves those of the plan that it ends with. */
  readonly users: readonly PlanUser[]
}

/** An exchange begins on the plan: its filters stay until it leaves the plan that it ends with. */
export function enterPlan({ users }: ChainPlan): void {
  for (let i = 0; i < users.length; i++) users[i].enter()
}

export function leavePlan({ users }: ChainPlan): void {
  for (let i = 0; i < users.length; i++) users[i].leave()
}

type HookName = Exclude<keyof HttpFilter<unknown>, undefined>

/** Sorts filters into the arrays of a plan. */
export function compileChain(
  filters: readonly (HttpFilter<unknown> | undefined)[],
  names: readonly string[],
  terminal: Terminal,
  users: readonly PlanUser[] = NO_USERS,
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
    users,
  })
}

const NO_USERS: readonly PlanUser[] = Object.freeze([])

/**
 * The plan after `refreshRoute` from within the filter at `index`: filters that have run stay as they are, later ones
 * take the new route's instances. What was off stays off and what was on stays on: the set is frozen at the start. It has
 * the users of both, unless they are the same.
 */
export function spliceChain(old: ChainPlan, next: ChainPlan, index: number): ChainPlan {
  if (old === next) return old
  const filters = old.filters.map((filter, i) =>
    i <= index || filter === undefined ? filter : (next.filters[i] ?? filter),
  )
  return compileChain(filters, old.names, next.terminal, [...old.users, ...next.users])
}
