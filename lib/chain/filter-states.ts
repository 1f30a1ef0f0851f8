import { type ChainPlan, compileChain } from './compile.ts'
import type { Exchange } from './exchange.ts'

/** Fills in the state of each filter that keeps one for `exchange`, by its index. Where one throws, the exchange crashes. */
export function createStates(exchange: Exchange, plan: ChainPlan, states: unknown[]): void {
  for (const hook of plan.states) {
    try {
      states[hook.index] = hook.filter.createState?.(exchange)
    } catch (error) {
      // Filters that got no state take no further part.
      const ready = plan.filters.map((filter, i) => (i < hook.index ? filter : undefined))
      exchange.plan = compileChain(ready, plan.names, plan.terminal, plan.users)
      exchange.crashed(hook, error)
      return
    }
  }
}
