import type { RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import type { HeaderMatchConfig } from './config.ts'
import { compileString } from './string.ts'

export type HeaderMatcher = (headers: Headers, head: RequestHead) => boolean

const INTEGER = /^[+-]?[0-9]+$/

/**
 * Compiles Envoy's HeaderMatcher. Of several values of a name one is enough, and an inverted match wants none. A missing
 * header fails even where the match is inverted, unless it is treated as empty or the question is presence itself.
 *
 * @throws Error for a pattern that RE2 refuses.
 */
export function compileHeader(config: HeaderMatchConfig): HeaderMatcher {
  const name = config.name.toLowerCase()
  const invert = config.invert === true
  const match = config.match
  const emptyWhenMissing = config.treatMissingAsEmpty === true
  if (match.kind === 'present') {
    const wanted = match.present !== invert
    if (emptyWhenMissing) return () => wanted
    const read = compileHeaderValue(name)
    return (headers, head) => (read(headers, head) !== undefined) === wanted
  }
  const exact = match.kind === 'string' && match.string.kind === 'exact' && match.string.ignoreCase !== true
  if (exact && !invert && !emptyWhenMissing && !isPseudo(name)) {
    const expected = match.string.value
    return (headers) => hasValue(headers, name, expected)
  }
  const test = match.kind === 'string' ? compileString(match.string) : compileRange(match.start, match.end)
  if (isPseudo(name)) return compilePseudo(name, test, invert, emptyWhenMissing)
  const whenMissing = emptyWhenMissing && test('') !== invert
  return (headers) => {
    const raw = headers.raw
    let missing = true
    for (let i = 0; i < raw.length; i += 2) {
      if (raw[i] !== name) continue
      if (test(raw[i + 1])) return !invert
      missing = false
    }
    return missing ? whenMissing : invert
  }
}

function compilePseudo(
  name: string,
  test: (value: string) => boolean,
  invert: boolean,
  emptyWhenMissing: boolean,
): HeaderMatcher {
  const read = compileHeaderValue(name)
  return (headers, head) => {
    const value = read(headers, head) ?? (emptyWhenMissing ? '' : undefined)
    return value !== undefined && test(value) !== invert
  }
}

function isPseudo(name: string): boolean {
  return name.startsWith(':') || name === 'host'
}

/** True where a field of this name (lower-case) has exactly this value. */
export function hasValue(headers: Headers, name: string, value: string): boolean {
  const raw = headers.raw
  for (let i = 0; i < raw.length; i += 2) if (raw[i] === name && raw[i + 1] === value) return true
  return false
}

/**
 * Compiles the reading of one header as matchers see it: pseudo headers from the head, `host` as the authority, the
 * values of a repeated field joined with `,`; undefined where it is missing.
 */
export function compileHeaderValue(name: string): (headers: Headers, head: RequestHead) => string | undefined {
  const lower = name.toLowerCase()
  switch (lower) {
    case ':method':
      return (_headers, head) => nonEmpty(head.method)
    case ':path':
      return (_headers, head) => nonEmpty(head.path)
    case ':authority':
    case 'host':
      return (_headers, head) => nonEmpty(head.authority)
    case ':scheme':
      return (_headers, head) => nonEmpty(head.scheme)
    case ':protocol':
      return (_headers, head) => head.protocol
    default:
      return (headers) => joined(headers, lower)
  }
}

/** As `Headers.join`, without a scan beyond the first value where there is only one: most requests. */
export function joined(headers: Headers, name: string): string | undefined {
  const raw = headers.raw
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i] !== name) continue
    for (let j = i + 2; j < raw.length; j += 2) if (raw[j] === name) return headers.join(name)
    return raw[i + 1]
  }
  return undefined
}

function nonEmpty(value: string): string | undefined {
  return value === '' ? undefined : value
}

/** [start, end) over a whole base-10 integer; anything else is outside. */
function compileRange(start: number, end: number): (value: string) => boolean {
  return (value) => {
    if (!INTEGER.test(value)) return false
    const number = Number(value)
    return number >= start && number < end
  }
}
