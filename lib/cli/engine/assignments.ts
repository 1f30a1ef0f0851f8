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
  #feeding: Promise<void> | undefined = undefined

  constructor(table: AssignmentTable, state: ConfigState, clock: Clock) {
    this.#table = table
    this.#state = state
    this.#slices = new Slices(clock)
  }

  /** Undefined: all of them are in force. */
  set(assignments: readonly AssignmentConfig[]): Promise<void> | undefined {
    if (assignments.length === 1) {
      this.#put(assignments[0])
      return undefined
    }
    for (const assignment of assignments) this.#waiting.set(assignment.name, assignment)
    if (this.#feeding !== undefined) return this.#feeding
    const feeding = this.#feed()
    if (this.#waiting.size === 0) return undefined
    this.#feeding = feeding
    return feeding
  }

  /** What there is of that name, in force or about to be. */
  get(name: string): AssignmentConfig | undefined {
    return this.#waiting.get(name) ?? this.#state.assignments.get(name)
  }

  /** Unless there is another one by now. */
  remove(name: string, assignment: AssignmentConfig): void {
    if (this.get(name) !== assignment) return
    this.#waiting.delete(name)
    this.#state.assignments.delete(name)
    this.#table.remove(name)
  }

  /** Begins at once: what fits into a slice is in force when it is called. */
  async #feed(): Promise<void> {
    await this.#slices.run(this.#steps())
  }

  *#steps(): Generator<undefined, void> {
    // Those that are added meanwhile come last.
    for (const assignment of this.#waiting.values()) {
      this.#put(assignment)
      yield
    }
    this.#feeding = undefined
  }

  #put(assignment: AssignmentConfig): void {
    this.#waiting.delete(assignment.name)
    this.#state.assignments.set(assignment.name, assignment)
    this.#table.set(assignment)
  }
}
