import { isIp } from '../../../core/address.ts'

/** What of resolv.conf(5) concerns us. */
export interface ResolvConf {
  /** IP addresses, at most three as in glibc; empty: c-ares takes 127.0.0.1. */
  readonly servers: readonly string[]
  /** Domains to append, without trailing dots. */
  readonly search: readonly string[]
  /** A name with at least this many dots is tried as it is first. */
  readonly ndots: number
  /** Of the first try of a query. */
  readonly timeoutMs: number
  readonly attempts: number
}

/** Shorter than resolv.conf's 5 s, longer in total: a lost packet should not hold up a cluster for 5 s. */
export const DEFAULT_RESOLV_CONF: ResolvConf = Object.freeze({
  servers: [],
  search: [],
  ndots: 1,
  timeoutMs: 2_000,
  attempts: 3,
})

/** Never fails: what is not understood is skipped, as the C library does. The last `domain` or `search` line counts. */
export function parseResolvConf(text: string): ResolvConf {
  const servers: string[] = []
  let { search, ndots, timeoutMs, attempts } = DEFAULT_RESOLV_CONF
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line.trim().split(/\s+/)
    if (keyword === 'nameserver' && isIp(values[0] ?? '')) servers.push(values[0])
    else if (keyword === 'domain') search = domains(values.slice(0, 1))
    else if (keyword === 'search') search = domains(values)
    else if (keyword === 'options') {
      ndots = option(values, 'ndots', [0, 15]) ?? ndots
      timeoutMs = (option(values, 'timeout', [1, 30]) ?? timeoutMs / 1000) * 1000
      attempts = option(values, 'attempts', [1, 5]) ?? attempts
    }
  }
  return { servers: servers.slice(0, 3), search, ndots, timeoutMs, attempts }
}

/** `.` means the root, that is: append nothing. */
function domains(values: readonly string[]): string[] {
  return values.map((value) => value.replace(/\.+$/, '').toLowerCase()).filter((value) => value !== '')
}

/** The last `name:n` of an options line, brought into its range as the C library does. */
function option(values: readonly string[], name: string, [least, most]: [number, number]): number | undefined {
  let found: number | undefined
  for (const value of values) {
    if (!value.startsWith(`${name}:`)) continue
    const number = Number(value.slice(name.length + 1))
    if (Number.isInteger(number)) found = Math.min(most, Math.max(least, number))
  }
  return found
}

/**
 * The names to ask for, in order: a trailing dot makes a name absolute; one with at least `ndots` dots is tried as it is
 * before the search domains, any other after them. None has a trailing dot.
 */
export function searchOrder(name: string, conf: ResolvConf): string[] {
  if (name.endsWith('.')) return [name.slice(0, -1)]
  const dots = name.split('.').length - 1
  const suffixed = conf.search.map((domain) => `${name}.${domain}`)
  return dots >= conf.ndots ? [name, ...suffixed] : [...suffixed, name]
}
