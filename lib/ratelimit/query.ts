import type { QueryParameterMatchConfig } from '../match/config.ts'
import { compileString } from '../match/string.ts'

/**
 * The first value of a query parameter, names and values percent-decoded (each byte one character): whoever spells a
 * parameter in another way must not get another bucket by it. Undefined where it is missing.
 */
export function decodedParameter(path: string, name: string): string | undefined {
  const question = path.indexOf('?')
  if (question < 0) return undefined
  const hash = path.indexOf('#', question)
  const end = hash < 0 ? path.length : hash
  for (let at = question + 1; at < end; ) {
    let stop = path.indexOf('&', at)
    if (stop < 0 || stop > end) stop = end
    let equals = path.indexOf('=', at)
    if (equals < 0 || equals > stop) equals = stop
    if (percentDecoded(path.slice(at, equals)) === name) return percentDecoded(path.slice(equals + 1, stop))
    at = stop + 1
  }
  return undefined
}

/** Compiles Envoy's QueryParameterMatcher over decoded parameters. @throws Error for a pattern that RE2 refuses. */
export function compileDecodedQuery({ name, match }: QueryParameterMatchConfig): (path: string) => boolean {
  if (match.kind === 'present') {
    const wanted = match.present !== false
    return (path) => (decodedParameter(path, name) !== undefined) === wanted
  }
  const test = compileString(match.string)
  return (path) => {
    const value = decodedParameter(path, name)
    return value !== undefined && test(value)
  }
}

/** What is no escape stays as it is. */
function percentDecoded(text: string): string {
  if (!text.includes('%')) return text
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}
