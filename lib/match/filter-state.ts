import { isIp } from '../core/address.ts'
import { compileCidrs } from './cidr.ts'
import type { CidrConfig, FilterStateMatchConfig } from './config.ts'
import { compileString } from './string.ts'

/** What is read of filter state. */
export interface FilterStateSource {
  get(key: string): unknown
}

/** A filter state object as text; structures have none. */
export function plainObject(value: unknown): string | undefined {
  switch (typeof value) {
    case 'string':
      return value
    case 'number':
    case 'boolean':
    case 'bigint':
      return String(value)
    default:
      return undefined
  }
}

/**
 * Compiles Envoy's FilterStateMatcher. An object that is not there, or that is no text, does not match; nor does a text
 * that is no address (with or without a port), whether the match of addresses is inverted or not.
 *
 * @throws Error for a pattern that RE2 refuses and for what is no address range.
 */
export function compileFilterState(config: FilterStateMatchConfig): (state: FilterStateSource) => boolean {
  const { key } = config
  const test = 'string' in config ? compileString(config.string) : compileRanges(config.ranges, config.invert === true)
  return (state) => {
    const text = plainObject(state.get(key))
    return text !== undefined && test(text)
  }
}

function compileRanges(ranges: readonly CidrConfig[], invert: boolean): (text: string) => boolean {
  const within = compileCidrs(ranges)
  return (text) => {
    const ip = ipOf(text)
    return ip !== undefined && within(ip) !== invert
  }
}

/** Of `address` and `address:port`. */
function ipOf(text: string): string | undefined {
  if (isIp(text)) return text
  const [, v6, v4] = /^(?:\[([^\]]+)\]|([^:]+)):[0-9]+$/.exec(text) ?? []
  const ip = v6 ?? v4
  return ip !== undefined && isIp(ip) ? ip : undefined
}
