import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { MetadataMatchConfig, ValueMatchConfig } from '../../lib/match/config.ts'
import { translateStringMatch } from './string-match.ts'

/** `type.matcher.v3.MetadataMatcher` */
export function translateMetadataMatch(reader: FieldReader): MetadataMatchConfig {
  reader.unread('refuse')
  const namespace = reader.string('filter')
  const path = translatePath(reader)
  const value = translateValueMatch(reader.message('value'))
  return reader.bool('invert') ? { namespace, path, value, invert: true } : { namespace, path, value }
}

/** A list of `PathSegment{key}`, as metadata matchers and inputs have it. */
export function translatePath(reader: FieldReader): string[] {
  return reader.messages('path').map((segment) => segment.string('key'))
}

function translateValueMatch(reader: FieldReader | undefined): ValueMatchConfig {
  const kind = reader?.which('match_pattern')
  if (reader === undefined || kind === undefined) return { kind: 'null' }
  switch (kind) {
    case 'null_match':
      reader.message('null_match')
      return { kind: 'null' }
    case 'double_match':
      return translateDouble(reader.message('double_match'))
    case 'string_match':
      return { kind: 'string', string: translateStringMatch(reader.message('string_match')) }
    case 'bool_match':
      return { kind: 'bool', value: reader.bool('bool_match') }
    case 'present_match':
      return { kind: 'present', present: reader.bool('present_match') }
    case 'list_match':
      return { kind: 'list', oneOf: translateValueMatch(reader.message('list_match')?.message('one_of')) }
    case 'or_match':
      return {
        kind: 'or',
        values: (reader.message('or_match')?.messages('value_matchers') ?? []).map(translateValueMatch),
      }
    default:
      reader.refuse(kind, 'this value match is not available')
      return { kind: 'null' }
  }
}

function translateDouble(reader: FieldReader | undefined): ValueMatchConfig {
  if (reader?.which('match_pattern') === 'exact') return { kind: 'double', exact: reader.number('exact') ?? 0 }
  const range = reader?.message('range')
  return { kind: 'double', start: range?.number('start') ?? 0, end: range?.number('end') ?? 0 }
}
