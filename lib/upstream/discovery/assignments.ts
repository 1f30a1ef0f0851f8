import type { AssignmentConfig } from '../config.ts'

/** Is told of an assignment whenever there is another one; undefined: there is none any more. */
export type OnAssignment = (assignment: AssignmentConfig | undefined) => void

/** The assignments of a gateway by name, and who follows them: clusters of type `eds`, any number per assignment. */
export class AssignmentTable {
  readonly #assignments = new Map<string, AssignmentConfig>()
  readonly #followers = new Map<string, Set<OnAssignment>>()

  get(name: string): AssignmentConfig | undefined {
    return this.#assignments.get(name)
  }

  /** In force when this returns. */
  set(assignment: AssignmentConfig): void {
    this.#assignments.set(assignment.name, assignment)
    this.#tell(assignment.name, assignment)
  }

  remove(name: string): void {
    if (this.#assignments.delete(name)) this.#tell(name, undefined)
  }

  #tell(name: string, assignment: AssignmentConfig | undefined): void {
    const followers = this.#followers.get(name)
    if (followers !== undefined) for (const follower of followers) follower(assignment)
  }

  /** Tells at once what there is, and of changes until the answer is called. */
  follow(name: string, follower: OnAssignment): () => void {
    let followers = this.#followers.get(name)
    if (followers === undefined) {
      followers = new Set()
      this.#followers.set(name, followers)
    }
    followers.add(follower)
    follower(this.#assignments.get(name))
    return () => {
      followers.delete(follower)
      if (followers.size === 0 && this.#followers.get(name) === followers) this.#followers.delete(name)
    }
  }
}
