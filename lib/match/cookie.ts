import type { Headers } from '../core/headers.ts'
import type { CookieMatchConfig } from './config.ts'
import { compileString } from './string.ts'

/** The first cookie of that name over all Cookie fields; surrounding double quotes are dropped (RFC 6265 §4.1.1). */
export function cookieValue(headers: Headers, name: string): string | undefined {
  const raw = headers.raw
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i] !== 'cookie') continue
    const value = findPair(raw[i + 1], name)
    if (value !== undefined) return value
  }
  return undefined
}

function findPair(field: string, name: string): string | undefined {
  let at = 0
  while (at < field.length) {
    let stop = field.indexOf(';', at)
    if (stop < 0) stop = field.length
    while (at < stop && isBlank(field.charCodeAt(at))) at++
    if (field.startsWith(name, at) && field.charCodeAt(at + name.length) === 0x3d && at + name.length < stop) {
      return unquoted(field.slice(at + name.length + 1, stop).trim())
    }
    at = stop + 1
  }
  return undefined
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

function unquoted(value: string): string {
  return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value
}

/** Compiles Envoy's CookieMatcher: an absent cookie does not match, which `invert` then turns round. */
export function compileCookie(config: CookieMatchConfig): (headers: Headers) => boolean {
  const { name } = config
  const test = compileString(config.string)
  const invert = config.invert === true
  return (headers) => {
    const value = cookieValue(headers, name)
    return (value !== undefined && test(value)) !== invert
  }
}
