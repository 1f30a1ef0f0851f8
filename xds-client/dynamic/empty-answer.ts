import type { Cancel, Clock } from '../../lib/core/clock.ts'
import type { DiscoveryUpdate } from '../source.ts'
import type { Kind } from './kinds.ts'

/** How long an empty answer waits before it deletes anything. */
export const EMPTY_ANSWER_HOLD_MS = 15_000

/**
 * Kinds of which a source takes away what it does not know, to the harm of what serves: a filter that is missing answers 500,
 * and what the runtime says of routes is gone with its layer.
 */
export function isTakenAway(kind: Kind): boolean {
  return kind === 'listener' || kind === 'cluster' || kind === 'extension' || kind === 'runtime'
}

/** What the rule needs to know. */
export interface EmptyAnswerOptions {
  readonly clock: Clock
  /** Names that are there. */
  readonly held: () => Iterable<string>
  /** Answers hold everything there is. */
  readonly whole: boolean
  /** These are gone after all. */
  expired(names: readonly string[]): void
  /** There was nothing but an empty answer for so long that it is true. */
  believed(): void
  /** An empty answer is held back. */
  holding(names: readonly string[]): void
}

/**
 * A control plane that has just started knows nothing yet, and says so: an answer after a reconnect that would leave nothing
 * is held back, and does its work only where nothing better has come for 15 s. A loss of the connection stops the clock: what
 * was held stays.
 */
export class EmptyAnswer {
  readonly #options: EmptyAnswerOptions
  readonly #pending = new Set<string>()
  #timer: Cancel | undefined = undefined
  /** No answer has come yet. */
  #first = true
  #firstTimer: Cancel | undefined = undefined
  /** Until then (monotonic ms) empty answers are not believed; undefined: until the first answer, and 15 s more. */
  #doubtUntilMs: number | undefined = Number.NEGATIVE_INFINITY

  constructor(options: EmptyAnswerOptions) {
    this.#options = options
  }

  /** The first answer was empty, less than 15 s ago, and nothing is there. */
  get doubtful(): boolean {
    return this.#firstTimer !== undefined
  }

  /** The connection is lost, or what is there is from the state directory. */
  doubt(): void {
    this.#doubtUntilMs = undefined
    this.#stop()
  }

  /** Names that an update takes away, at once. */
  removals({ resources, removed }: DiscoveryUpdate): readonly string[] {
    const { clock, whole } = this.#options
    this.#doubtUntilMs ??= clock.now() + EMPTY_ANSWER_HOLD_MS
    // Of a delta server that was told what is held, nothing means that it is as it was.
    this.#noteFirst(resources.length === 0)
    if (resources.length === 0) {
      if (clock.now() >= this.#doubtUntilMs || !this.#leavesNothing(removed)) return removed
      for (const name of removed) this.#pending.add(name)
      if (this.#pending.size > 0) this.#start()
      return []
    }
    for (const { name } of resources) this.#pending.delete(name)
    if (this.#pending.size === 0) return removed
    if (!whole) {
      // A loss of the connection may have stopped the clock.
      this.#start()
      return removed
    }
    const all = [...removed, ...this.#pending]
    this.#forget()
    return all
  }

  close(): void {
    this.#forget()
    this.#firstTimer?.()
    this.#firstTimer = undefined
  }

  #forget(): void {
    this.#pending.clear()
    this.#stop()
  }

  #noteFirst(empty: boolean): void {
    if (!empty) {
      this.#firstTimer?.()
      this.#firstTimer = undefined
    } else if (this.#first && this.#nothingHeld()) {
      this.#firstTimer = this.#options.clock.schedule(EMPTY_ANSWER_HOLD_MS, () => {
        this.#firstTimer = undefined
        this.#options.believed()
      })
    }
    this.#first = false
  }

  #leavesNothing(removed: readonly string[]): boolean {
    const gone = new Set(removed)
    for (const name of this.#options.held()) if (!gone.has(name) && !this.#pending.has(name)) return false
    return true
  }

  #nothingHeld(): boolean {
    for (const _ of this.#options.held()) return false
    return true
  }

  #start(): void {
    if (this.#timer !== undefined) return
    this.#options.holding([...this.#pending])
    this.#timer = this.#options.clock.schedule(EMPTY_ANSWER_HOLD_MS, () => {
      this.#timer = undefined
      const names = [...this.#pending]
      this.#pending.clear()
      this.#options.expired(names)
    })
  }

  #stop(): void {
    this.#timer?.()
    this.#timer = undefined
  }
}
