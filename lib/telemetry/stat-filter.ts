import { RE2JS } from 're2js'
import { ConfigError } from '../core/errors.ts'

/** Which metrics `/stats` and `/stats?format=prometheus` show. */
export interface StatSelection {
  /** Only what was ever used: counters and histograms that count something, gauges that are not 0. */
  readonly usedOnly?: boolean
  /** Tested against the dotted name. */
  readonly filter?: (name: string) => boolean
}

/** The `filter` parameter of `/stats`: an RE2 pattern searched for anywhere in the dotted name (Envoy's partial match). */
export function compileStatFilter(pattern: string): ((name: string) => boolean) | ConfigError {
  try {
    const regex = RE2JS.compile(pattern)
    return (name) => regex.test(name)
  } catch (error) {
    return new ConfigError('filter', `invalid regular expression: ${error instanceof Error ? error.message : error}`)
  }
}
