import type { FilterConfigs } from './config.ts'

interface Level<P> {
  plan: { readonly value: P } | undefined
  readonly below: Map<FilterConfigs, Level<P>>
}

/** Remembers compiled chains by the identity of the levels they were made of: thousands of routes share a few. */
export class PlanCache<P> {
  readonly #root: Level<P> = { plan: undefined, below: new Map() }
  readonly #planFor: (levels: readonly FilterConfigs[]) => P

  constructor(planFor: (levels: readonly FilterConfigs[]) => P) {
    this.#planFor = planFor
  }

  /** `levels` least specific first; those that are undefined do not count. */
  get(levels: readonly (FilterConfigs | undefined)[]): P {
    let at = this.#root
    for (const level of levels) {
      if (level === undefined) continue
      let next = at.below.get(level)
      if (next === undefined) {
        next = { plan: undefined, below: new Map() }
        at.below.set(level, next)
      }
      at = next
    }
    at.plan ??= { value: this.#planFor(levels.filter((l) => l !== undefined)) }
    return at.plan.value
  }
}
