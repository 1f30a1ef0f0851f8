import type { QueryParameterMatchConfig } from './config.ts'
import { compileString } from './string.ts'

/**
 * The first value of a query parameter in a path with its query, as it stands: nothing is percent-decoded, neither
 * names nor values, as in Envoy. A parameter without `=` has the value ''; undefined where it is missing.
 */
export function queryParameter(path: string, name: string): string | undefined {
  const question = path.indexOf('?')
  if (question < 0) return undefined
  const hash = path.indexOf('#')
  if (hash >= 0 && hash < question) return undefined
  const end = hash < 0 ? path.length : hash
  let at = question + 1
  while (at <= end) {
    let stop = path.indexOf('&', at)
    if (stop < 0 || stop > end) stop = end
    if (path.startsWith(name, at) && at + name.length <= stop) {
      const after = at + name.length
      if (after === stop) return at === stop ? undefined : ''
      if (path.charCodeAt(after) === 0x3d) return path.slice(after + 1, stop)
    }
    at = stop + 1
  }
  return undefined
}

/** Compiles a matcher over the whole path (query included). @throws Error for a pattern that RE2 refuses. */
export function compileQueryParameter(config: QueryParameterMatchConfig): (path: string) => boolean {
  const name = config.name
  if (config.match.kind === 'present') {
    const present = config.match.present !== false
    return (path) => (queryParameter(path, name) !== undefined) === present
  }
  const test = compileString(config.match.string)
  return (path) => {
    const value = queryParameter(path, name)
    return value !== undefined && test(value)
  }
}
