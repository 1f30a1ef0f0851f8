import type { ConfigState } from '../../config/change.ts'
import type { Clock } from '../../core/clock.ts'
import type { AssignmentConfig } from '../../upstream/config.ts'
import type { AssignmentTable } from '../../upstream/discovery/assignments.ts'
import { Slices } from './slices.ts'

/**
 * Puts endpoints in force as they come, past the queue of everything else. Where so many come at once that the loop would
 * stand still, the last of them wait for its next turns; a newer one of the same name takes the place of one that waits.
 */
export class AssignmentFeed {
  readonly #table: AssignmentTable
  readonly #state: ConfigState
  /** Its own: what comes is in force at once, whatever else this turn of the loop has done. */
  readonly #slices: Slices
  readonly #waiting = new Map<string, AssignmentConfig>()
  /** When each of those that are there has come, in the order of arrival. */
  readonly #arrived = new Map<string, number>()
  #feeding: Promise<void> | undefined = undefined
  /** From the first step to the last. */
  #underWay = false

  constructor(table: AssignmentTable, state: ConfigState, clock: Clock) {
    this.#table = table
    this.#state = state
    this.#slices = new Slices(clock)
  }

  /** Undefined: all of them are in force. `at`: when they came; what has come since stays. */
  set(assignments: readonly AssignmentConfig[], at: number): Promise<void> | undefined {
    const newer = assignments.filter(({ name }) => (this.#arrived.get(name) ?? 0) <= at)
    for (const { name } of newer) this.#arrived.set(name, at)
    if (newer.length === 1) {
      this.#put(newer[0])
      return undefined
    }
    for (const assignment of newer) this.#waiting.set(assignment.name, assignment)
    if (this.#feeding !== undefined) return this.#feeding
    this.#underWay = true
    const feeding = this.#feed()
    // Over within one slice, or broken off in it: then what is left waits for the next, and the caller hears of it.
    if (!this.#underWay) return this.#waiting.size === 0 ? undefined : feeding
    this.#feeding = feeding
    return feeding
  }

  /** Unless another one has come since: `at` is when its removal came. */
  remove(name: string, at: number): void {
    if ((this.#arrived.get(name) ?? 0) > at) return
    this.#arrived.delete(name)
    this.#waiting.delete(name)
    this.#state.assignments.delete(name)
    this.#table.remove(name)
  }

  /** Begins at once: what fits into a slice is in force when it is called. */
  async #feed(): Promise<void> {
    await this.#slices.run(this.#steps())
  }

  *#steps(): Generator<undefined, void> {
    try {
      // Those that are added meanwhile come last.
      for (const assignment of this.#waiting.values()) {
        this.#put(assignment)
        yield
      }
    } finally {
      this.#underWay = false
      this.#feeding = undefined
    }
  }

  #put(assignment: AssignmentConfig): void {
    this.#waiting.delete(assignment.name)
    this.#state.assignments.set(assignment.name, assignment)
    this.#table.set(assignment)
  }
}
