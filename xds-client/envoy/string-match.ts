import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { StringMatchConfig } from '../../lib/match/config.ts'
import { translateRegex } from './regex.ts'

/** Stands where a mistake was recorded; never used. */
const NOTHING: StringMatchConfig = Object.freeze({ kind: 'exact', value: '' })

/** `type.matcher.v3.StringMatcher` and its twin `xds.type.matcher.v3.StringMatcher`. */
export function translateStringMatch(reader: FieldReader | undefined): StringMatchConfig {
  if (reader === undefined) return NOTHING
  const kind = reader.which('match_pattern')
  switch (kind) {
    case 'exact':
    case 'prefix':
    case 'suffix':
    case 'contains': {
      const value = reader.string(kind)
      return reader.bool('ignore_case') ? { kind, value, ignoreCase: true } : { kind, value }
    }
    case 'safe_regex':
      // Envoy documents `ignore_case` as without effect on regexes.
      reader.ignore('ignore_case')
      return { kind: 'regex', value: translateRegex(reader.message('safe_regex')) }
    case 'custom':
      reader.refuse('custom', 'custom string matchers are not available')
      return NOTHING
    default:
      return NOTHING
  }
}
