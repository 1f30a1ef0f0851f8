import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { CookieMatchConfig, QueryParameterMatchConfig } from '../../lib/match/config.ts'
import { translateStringMatch } from './string-match.ts'

/** `config.route.v3.QueryParameterMatcher`; without a specifier the parameter must be present. */
export function translateQueryParameterMatch(reader: FieldReader): QueryParameterMatchConfig {
  reader.unread('refuse')
  const name = reader.string('name')
  if (reader.which('query_parameter_match_specifier') === 'string_match') {
    return { name, match: { kind: 'string', string: translateStringMatch(reader.message('string_match')) } }
  }
  if (reader.has('present_match') && !reader.bool('present_match')) {
    return { name, match: { kind: 'present', present: false } }
  }
  return { name, match: { kind: 'present' } }
}

/** `config.route.v3.CookieMatcher` */
export function translateCookieMatch(reader: FieldReader): CookieMatchConfig {
  reader.unread('refuse')
  const string = translateStringMatch(reader.message('string_match'))
  const name = reader.string('name')
  return reader.bool('invert_match') ? { name, string, invert: true } : { name, string }
}
