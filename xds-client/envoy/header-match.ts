import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { CookieMatchConfig, HeaderMatchConfig, QueryParameterMatchConfig } from '../../lib/match/config.ts'
import { translateRegex } from './regex.ts'
import { translateStringMatch } from './string-match.ts'

/** The deprecated specifiers of HeaderMatcher that are one kind of string match each. */
const DEPRECATED: Readonly<Record<string, 'exact' | 'prefix' | 'suffix' | 'contains'>> = {
  exact_match: 'exact',
  prefix_match: 'prefix',
  suffix_match: 'suffix',
  contains_match: 'contains',
}

/** `config.route.v3.HeaderMatcher`; without a specifier the header must be present. */
export function translateHeaderMatch(reader: FieldReader): HeaderMatchConfig {
  reader.unread('refuse')
  const name = reader.string('name').toLowerCase()
  const match = translateSpecifier(reader)
  const invert = reader.bool('invert_match')
  const treatMissingAsEmpty = reader.bool('treat_missing_header_as_empty')
  return { name, match, ...(invert && { invert }), ...(treatMissingAsEmpty && { treatMissingAsEmpty }) }
}

function translateSpecifier(reader: FieldReader): HeaderMatchConfig['match'] {
  const specifier = reader.which('header_match_specifier')
  switch (specifier) {
    case undefined:
      return { kind: 'present', present: true }
    case 'present_match':
      return { kind: 'present', present: reader.bool('present_match') }
    case 'string_match':
      return { kind: 'string', string: translateStringMatch(reader.message('string_match')) }
    case 'safe_regex_match':
      return {
        kind: 'string',
        string: { kind: 'regex', value: translateRegex(reader.message('safe_regex_match')) },
      }
    case 'range_match': {
      const range = reader.message('range_match')
      return { kind: 'range', start: range?.number('start') ?? 0, end: range?.number('end') ?? 0 }
    }
    default: {
      const kind = DEPRECATED[specifier]
      if (kind !== undefined) return { kind: 'string', string: { kind, value: reader.string(specifier) } }
      reader.refuse(specifier, 'this header match is not available')
      return { kind: 'present', present: true }
    }
  }
}

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
