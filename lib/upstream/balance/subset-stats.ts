import type { Counter, Gauge } from '../../core/metrics.ts'
import type { BalancerOptions } from './policy.ts'

/** Envoy's `lb_subsets_*`; cells are made when there is something to count. */
export class SubsetStats {
  readonly #stats: BalancerOptions['stats']
  #selected: Counter | undefined = undefined
  #fallback: Counter | undefined = undefined
  #fallbackPanic: Counter | undefined = undefined
  #live = true

  constructor(stats: BalancerOptions['stats']) {
    this.#stats = stats
  }

  created(): void {
    if (!this.#live) return
    this.#counter('lb_subsets_created').v++
    this.#gauge('lb_subsets_active').v++
  }

  removed(count: number): void {
    if (!this.#live || count === 0) return
    this.#counter('lb_subsets_removed').v += count
    this.#gauge('lb_subsets_active').v -= count
  }

  /** So many more than before. */
  duplicates(more: number): void {
    if (this.#live && more !== 0) this.#gauge('lb_subsets_single_host_per_subset_duplicate').v += more
  }

  selected(): void {
    this.#selected ??= this.#counter('lb_subsets_selected')
    this.#selected.v++
  }

  fallback(): void {
    this.#fallback ??= this.#counter('lb_subsets_fallback')
    this.#fallback.v++
  }

  fallbackPanic(): void {
    this.#fallbackPanic ??= this.#counter('lb_subsets_fallback_panic')
    this.#fallbackPanic.v++
  }

  /** What comes into being and goes is not counted any more. */
  retire(): void {
    this.#live = false
  }

  #counter(name: string): Counter {
    return this.#stats?.metrics.counter(`${this.#stats.prefix}${name}`) ?? { v: 0 }
  }

  #gauge(name: string): Gauge {
    return this.#stats?.metrics.gauge(`${this.#stats.prefix}${name}`) ?? { v: 0 }
  }
}
