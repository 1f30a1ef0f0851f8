import { noRuntime, type Runtime } from '../lib/core/metrics.ts'
import { runtimeInteger } from '../lib/core/runtime-value.ts'

/** The limit that holds now: what the runtime has under the key, or else the configured one. */
export function liveLimit(limit: number | undefined, key: string | undefined, runtime: Runtime): number | undefined {
  return key === undefined ? limit : (runtimeInteger(runtime, key) ?? limit)
}

/** How many connections there are, of all listeners of a gateway that count, and how many there may be. */
export class ConnectionBudget {
  /** Undefined: no limit. Lowering it ends no connection. */
  limit: number | undefined = undefined
  /** What the runtime has under it goes before `limit`; undefined: nothing does. */
  limitKey: string | undefined = undefined
  readonly #runtime: Runtime
  #taken = 0

  constructor(runtime: Runtime = noRuntime) {
    this.#runtime = runtime
  }

  get taken(): number {
    return this.#taken
  }

  /** False where there is no room; otherwise `leave` must follow. */
  enter(): boolean {
    const limit = liveLimit(this.limit, this.limitKey, this.#runtime)
    if (limit !== undefined && this.#taken >= limit) return false
    this.#taken++
    return true
  }

  leave(): void {
    this.#taken--
  }
}

/** How many connections of a listener come from each address. */
export class SourceCounts {
  readonly #counts = new Map<string, number>()

  of(address: string): number {
    return this.#counts.get(address) ?? 0
  }

  add(address: string): void {
    this.#counts.set(address, this.of(address) + 1)
  }

  remove(address: string): void {
    const left = this.of(address) - 1
    if (left > 0) this.#counts.set(address, left)
    else this.#counts.delete(address)
  }
}
