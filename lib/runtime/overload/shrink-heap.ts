import type { Clock } from '../../core/clock.ts'
import type { Counter } from '../../core/metrics.ts'
import type { MemoryUse } from '../messages.ts'

export interface HeapShrinkerParts {
  readonly clock: Clock
  /** Collects all garbage; undefined: this process cannot be asked to. */
  readonly collect: (() => void) | undefined
  /** Gives free memory back to the system; undefined: nobody knows how. Asked for when it is first needed. */
  readonly trim: () => (() => void) | undefined
  readonly memory: () => Pick<MemoryUse, 'rss' | 'heapUsed' | 'external'>
  /** `overload.envoy.overload_actions.shrink_heap.shrink_count` */
  readonly count: Counter
}

/**
 * `shrink_heap` at work: a major collection, and what it has freed goes back to the system. That holds the event loop for tens
 * of ms per 100 MB, so it comes once an interval, and only where enough is held that nothing uses.
 */
export class HeapShrinker {
  readonly #parts: HeapShrinkerParts
  #lastMs = Number.NEGATIVE_INFINITY
  /** What was in use after the last collection: what has come on top of it may be garbage. */
  #liveBytes = 0
  #trim: { readonly run: (() => void) | undefined } | undefined = undefined

  constructor(parts: HeapShrinkerParts) {
    this.#parts = parts
  }

  /** To be called while the action is saturated, as often as one likes. */
  shrink({ intervalMs, keepBytes }: { readonly intervalMs: number; readonly keepBytes: number }): void {
    const { clock, collect, memory, count } = this.#parts
    const nowMs = clock.now()
    if (nowMs < this.#lastMs + intervalMs) return
    if (memory().rss - this.#liveBytes <= keepBytes) return
    this.#lastMs = nowMs
    collect?.()
    this.#trim ??= { run: this.#parts.trim() }
    this.#trim.run?.()
    const { heapUsed, external } = memory()
    this.#liveBytes = heapUsed + external
    count.v++
  }
}
