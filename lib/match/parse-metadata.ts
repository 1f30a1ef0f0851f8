import type { FieldReader } from '../core/field-reader.ts'
import type { MetadataMatchConfig, ValueMatchConfig } from './config.ts'
import { parseStringMatch } from './parse.ts'
import type { MetadataPath } from './value.ts'

/** `type.matcher.v3.MetadataMatcher` */
export function parseMetadataMatch(reader: FieldReader): MetadataMatchConfig {
  reader.unread('refuse')
  const namespace = reader.string('filter')
  if (namespace === '') reader.error('filter', 'must not be empty')
  const path = parseMetadataPath(reader)
  if (path.length === 0) reader.error('path', 'must not be empty')
  const at = reader.message('value')
  if (at === undefined) reader.error('value', 'is required')
  const value = at === undefined ? NOTHING : parseValueMatch(at)
  return reader.bool('invert') ? { namespace, path, value, invert: true } : { namespace, path, value }
}

/** A list of `PathSegment{key}`, as metadata matchers and inputs have it. */
export function parseMetadataPath(reader: FieldReader): string[] {
  return reader.messages('path').map((segment) => segment.string('key'))
}

export type { MetadataPath } from './value.ts'

/** The path of a `type.metadata.v3.MetadataKey`, whose segments may be places in lists. */
export function parseKeyPath(reader: FieldReader): MetadataPath {
  return reader.messages('path').map((segment) => {
    const index = segment.has('index') ? segment.number('index') : undefined
    return index ?? segment.string('key')
  })
}

const NOTHING: ValueMatchConfig = Object.freeze({ kind: 'null' })

/** `type.matcher.v3.ValueMatcher` */
export function parseValueMatch(reader: FieldReader): ValueMatchConfig {
  if (reader.has('null_match')) {
    reader.message('null_match')
    return NOTHING
  }
  if (reader.has('double_match')) return parseDouble(reader.message('double_match'))
  if (reader.has('string_match')) {
    const string = reader.message('string_match')
    return string === undefined ? NOTHING : { kind: 'string', string: parseStringMatch(string) }
  }
  if (reader.has('bool_match')) return { kind: 'bool', value: reader.bool('bool_match') }
  if (reader.has('present_match')) return { kind: 'present', present: reader.bool('present_match') }
  if (reader.has('list_match')) {
    const one = reader.message('list_match')?.message('one_of')
    if (one === undefined) reader.error('list_match', 'one_of is required')
    return { kind: 'list', oneOf: one === undefined ? NOTHING : parseValueMatch(one) }
  }
  if (reader.has('or_match')) {
    const or = reader.message('or_match')
    const values = or?.messages('value_matchers') ?? []
    // Turned round by `invert` it would hold for everybody.
    if (values.length === 0) or?.error('value_matchers', 'must not be empty')
    return { kind: 'or', values: values.map(parseValueMatch) }
  }
  reader.error(undefined, 'a value to match is required')
  return NOTHING
}

/** `type.matcher.v3.DoubleMatcher` */
function parseDouble(reader: FieldReader | undefined): ValueMatchConfig {
  if (reader?.has('range') !== true) return { kind: 'double', exact: reader?.number('exact') ?? 0 }
  const range = reader.message('range')
  return { kind: 'double', start: range?.number('start') ?? 0, end: range?.number('end') ?? 0 }
}
