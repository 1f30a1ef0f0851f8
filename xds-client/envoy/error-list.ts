import type { ConfigError } from '../../lib/core/errors.ts'

/**
 * Mistakes of all phases. A later phase sees a message from which an earlier one left out what was wrong, so what it says
 * about the same field is an echo and dropped.
 */
export class ErrorList {
  readonly all: ConfigError[] = []
  #paths: Set<string> | undefined = undefined

  constructor(errors: readonly ConfigError[] = []) {
    this.add(errors)
  }

  add(errors: readonly ConfigError[]): void {
    if (errors.length === 0) return
    const paths = (this.#paths ??= new Set())
    const fresh = errors.filter((error) => !paths.has(snakeCase(error.path)))
    // One by one: there can be more than a call takes arguments.
    for (const error of fresh) {
      paths.add(snakeCase(error.path))
      this.all.push(error)
    }
  }
}

/** Decoding spells paths as the author does, rules and readers as the schema does. */
function snakeCase(path: string): string {
  return path.replace(/[a-z0-9][A-Z]/g, (pair) => `${pair[0]}_${pair[1].toLowerCase()}`)
}
