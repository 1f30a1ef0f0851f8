import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { StringMatchConfig } from '../../lib/match/config.ts'
import { parseStringMatch } from '../../lib/match/parse.ts'

/** Stands where the rules of the message have recorded that there is none; never used. */
const NOTHING: StringMatchConfig = Object.freeze({ kind: 'exact', value: '' })

/** `type.matcher.v3.StringMatcher` and its twin `xds.type.matcher.v3.StringMatcher`. */
export function translateStringMatch(reader: FieldReader | undefined): StringMatchConfig {
  return reader === undefined ? NOTHING : parseStringMatch(reader)
}
