import type { HttpStream } from '../../lib/chain/filter.ts'
import { compileFormat } from '../../lib/telemetry/format.ts'
import type { QueryStep } from './config.ts'

/** Answers the path with its query changed; the path itself stays. */
export type QueryEdit = (path: string, stream: HttpStream) => string

/**
 * Compiles one step on the query. Names are compared decoded; what is written is percent-encoded. Parameters that are not
 * meant keep their place and their spelling (Envoy sorts and re-encodes all of them).
 *
 * @throws Error for a format that is not valid; parsing finds it before.
 */
export function compileQueryStep(step: QueryStep): QueryEdit {
  const { key } = step
  const isMeant = (parameter: string): boolean => nameOf(parameter) === key
  if (step.kind === 'remove') {
    return (path) => withParameters(path, (all) => (all.some(isMeant) ? all.filter((one) => !isMeant(one)) : all))
  }
  const { action } = step
  const format = compileFormat(step.value, { missing: '', output: 'body' })
  const name = encode(key)
  return (path, stream) =>
    withParameters(path, (all) => {
      const written = `${name}=${encode(format(stream))}`
      const first = action === 'append' ? -1 : all.findIndex(isMeant)
      if (first < 0) return action === 'overwrite-if-exists' ? all : [...all, written]
      if (action === 'add-if-absent') return all
      return all.flatMap((one, i) => (i === first ? [written] : isMeant(one) ? [] : [one]))
    })
}

function withParameters(path: string, change: (parameters: readonly string[]) => readonly string[]): string {
  const question = path.indexOf('?')
  const bare = question < 0 ? path : path.slice(0, question)
  const query = question < 0 ? '' : path.slice(question + 1)
  const before = query === '' ? [] : query.split('&')
  const after = change(before)
  if (after === before) return path
  return after.length === 0 ? bare : `${bare}?${after.join('&')}`
}

function nameOf(parameter: string): string {
  const equals = parameter.indexOf('=')
  const name = equals < 0 ? parameter : parameter.slice(0, equals)
  if (!name.includes('%') && !name.includes('+')) return name
  try {
    return decodeURIComponent(name.replaceAll('+', ' '))
  } catch {
    return name
  }
}

function encode(text: string): string {
  return encodeURIComponent(text.toWellFormed())
}
