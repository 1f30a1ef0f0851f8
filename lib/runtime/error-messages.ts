import { ConfigError, ConfigRefused } from '../core/errors.ts'
import type { ErrorMessage } from './messages.ts'

/** Mistakes that came from another process. */
export function errorsIn(messages: readonly ErrorMessage[]): ConfigError[] {
  return messages.map(({ path, message }) => new ConfigError(path, message))
}

/** What is wrong, whatever was thrown. */
export function errorsOf(error: unknown): readonly ConfigError[] {
  return error instanceof ConfigRefused ? error.errors : [new ConfigError('', String(error))]
}

/** The same for the log. */
export function reasonsOf(error: unknown): readonly string[] {
  return errorsOf(error).map((each) => each.toString())
}
