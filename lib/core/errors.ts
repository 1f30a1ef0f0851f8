/** A JSON value; configuration that crosses a process boundary is made of nothing else. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
export type JsonObject = { [key: string]: Json }

/** A place in a configuration file, 1-based, as editors count. */
export interface Place {
  readonly file: string
  readonly line: number
  readonly column: number
}

/** One mistake in a configuration: the field's path, what is wrong with its value, and where it stands. */
export class ConfigError {
  /** For example `static_resources.listeners[0].name`; '' for the whole document. */
  readonly path: string
  readonly message: string
  place: Place | undefined

  constructor(path: string, message: string, place?: Place) {
    this.path = path
    this.message = message
    this.place = place
  }

  /** `file:line:column: path: message`, leaving out what is not known. */
  toString(): string {
    const at = this.place === undefined ? '' : `${this.place.file}:${this.place.line}:${this.place.column}: `
    return `${at}${this.path === '' ? '' : `${this.path}: `}${this.message}`
  }
}

/** Thrown where a configuration is refused as a whole; carries every mistake, not the first only. */
export class ConfigRefused extends Error {
  readonly errors: readonly ConfigError[]

  constructor(errors: readonly ConfigError[]) {
    super(errors.map((e) => e.toString()).join('\n'))
    this.name = 'ConfigRefused'
    this.errors = errors
  }
}

/** Where a translation puts what it found; one per configuration, shared by all its readers. */
export class Findings {
  readonly errors: ConfigError[] = []
  /** Paths of fields that were set, are valid, and that nothing here acts on. */
  readonly ignored: string[] = []

  error(path: string, message: string): void {
    this.errors.push(new ConfigError(path, message))
  }
}
