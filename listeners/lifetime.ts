import type { Log } from '../lib/core/metrics.ts'
import { Usage } from './usage.ts'

/** Disposed of in one turn of the loop: 10,000 filter chains that go would keep it for a tenth of a second. */
const AT_ONCE = 100

type Resource = Disposable | AsyncDisposable

/** Everything that was compiled in a gateway and holds resources: what is left when it ends is disposed of at once. */
export class Lifetimes {
  readonly #log: Log
  readonly #open = new Set<Lifetime>()
  readonly #expired: Lifetime[] = []
  /** So many more in this turn of the loop. */
  #left = AT_ONCE

  constructor(log: Log) {
    this.#log = log
  }

  create(): Lifetime {
    return new Lifetime(this, this.#log)
  }

  /** It owns something. */
  opened(lifetime: Lifetime): void {
    this.#open.add(lifetime)
  }

  closed(lifetime: Lifetime): void {
    this.#open.delete(lifetime)
  }

  /** Nobody holds or uses it: it is disposed of, at once unless there are many. */
  expired(lifetime: Lifetime): void {
    if (this.#left === AT_ONCE) setImmediate(this.#sweep)
    if (this.#left-- > 0) void lifetime.dispose()
    else this.#expired.push(lifetime)
  }

  readonly #sweep = (): void => {
    this.#left = AT_ONCE
    for (const lifetime of this.#expired.splice(0, AT_ONCE)) if (!lifetime.held) this.expired(lifetime)
  }

  /** Ends all of them, last made first, whoever holds or uses them. */
  async close(): Promise<void> {
    for (const lifetime of [...this.#open].reverse()) await lifetime.dispose()
  }
}

/**
 * How long something compiled lives that several versions of a configuration may share: until the last of those that hold
 * it has let go, and then until nobody uses it. What it owns is disposed of exactly once.
 *
 * ```
 * hold* ─▶ release* ─▶ (no holder left) ─▶ (nobody uses it) ─▶ disposed of
 * ```
 */
export class Lifetime {
  readonly usage: Usage = new Usage()
  readonly #all: Lifetimes
  readonly #log: Log
  readonly #owned: Resource[] = []
  #holders = 0
  #over = false

  constructor(all: Lifetimes, log: Log) {
    this.#all = all
    this.#log = log
  }

  get held(): boolean {
    return this.#holders > 0
  }

  /** Bound, so that it can be handed on as `Scope.own`. */
  readonly own = <T extends Resource>(resource: T): T => {
    if (this.#owned.push(resource) === 1) this.#all.opened(this)
    return resource
  }

  hold(): void {
    this.#holders++
  }

  /** Once for each `hold`. */
  release(): void {
    if (--this.#holders > 0 || this.#over) return
    // What waits to be disposed of may be wanted, and held, once more.
    void this.usage.whenIdle().then(() => {
      if (!this.held && !this.#over) this.#all.expired(this)
    })
  }

  /** Last made first. One that fails does not keep the others. */
  async dispose(): Promise<void> {
    if (this.#over) return
    this.#over = true
    this.#all.closed(this)
    for (const resource of this.#owned.splice(0).reverse()) {
      try {
        if (Symbol.asyncDispose in resource) await resource[Symbol.asyncDispose]()
        else resource[Symbol.dispose]()
      } catch (error) {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
        this.#log.error('a resource of an old configuration could not be disposed of', { error: text })
      }
    }
  }
}
