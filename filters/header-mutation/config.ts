import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { StringMatchConfig } from '../../lib/match/config.ts'
import { parseStringMatch } from '../../lib/match/parse.ts'
import type { AppendAction, HeaderValueConfig } from '../../lib/router/config.ts'
import { checkFormat } from '../../lib/telemetry/format.ts'

/** One step on headers or trailers. */
export type HeaderStep =
  | { readonly kind: 'remove'; readonly name: string }
  | { readonly kind: 'append'; readonly header: HeaderValueConfig }
  | { readonly kind: 'remove-on-match'; readonly name: StringMatchConfig }

/** One step on the query; `value` is a `%...%` format. */
export type QueryStep =
  | { readonly kind: 'remove'; readonly key: string }
  | { readonly kind: 'append'; readonly key: string; readonly value: string; readonly action: AppendAction }

/** A parsed `Mutations`: steps are taken one after the other, each on what the one before left. */
export interface Mutations {
  readonly request: readonly HeaderStep[]
  readonly query: readonly QueryStep[]
  readonly response: readonly HeaderStep[]
  readonly requestTrailers: readonly HeaderStep[]
  readonly responseTrailers: readonly HeaderStep[]
}

/** The filter's own mutations, or with those of the route's levels behind them, in the order they are applied. */
export interface HeaderMutationConfig {
  readonly levels: readonly Mutations[]
  /** Levels are applied from the least specific to the most specific one; otherwise the other way round. */
  readonly mostSpecificWins: boolean
}

/** `envoy.extensions.filters.http.header_mutation.v3.HeaderMutation` */
export function parseHeaderMutation(fields: FieldReader): HeaderMutationConfig {
  fields.unread('refuse')
  return {
    levels: [parseMutations(fields.message('mutations'))],
    mostSpecificWins: fields.bool('most_specific_header_mutations_wins'),
  }
}

/** `envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute` */
export function parseHeaderMutationPerRoute(fields: FieldReader): Mutations {
  fields.unread('refuse')
  return parseMutations(fields.message('mutations'))
}

/** The filter's own mutations come first, then those of all levels. */
export function mergeHeaderMutation(base: HeaderMutationConfig, levels: readonly Mutations[]): HeaderMutationConfig {
  if (levels.length === 0) return base
  const ordered = base.mostSpecificWins ? levels : levels.toReversed()
  return { ...base, levels: [...base.levels, ...ordered] }
}

function parseMutations(fields: FieldReader | undefined): Mutations {
  if (fields?.has('formatters')) fields.refuse('formatters', 'formatter extensions are not available')
  const steps = (name: string): HeaderStep[] => (fields?.messages(name) ?? []).map(parseHeaderStep)
  return {
    request: steps('request_mutations'),
    query: (fields?.messages('query_parameter_mutations') ?? []).map(parseQueryStep),
    response: steps('response_mutations'),
    requestTrailers: steps('request_trailers_mutations'),
    responseTrailers: steps('response_trailers_mutations'),
  }
}

const NO_STEP: HeaderStep = Object.freeze({ kind: 'remove', name: '' })

function parseHeaderStep(fields: FieldReader): HeaderStep {
  if (fields.has('remove')) return { kind: 'remove', name: editableName(fields, 'remove') }
  if (fields.has('append')) {
    const option = fields.message('append')
    return option === undefined ? NO_STEP : { kind: 'append', header: parseHeaderValue(option) }
  }
  if (fields.has('remove_on_match')) {
    const matcher = fields.message('remove_on_match')?.message('key_matcher')
    if (matcher !== undefined) return { kind: 'remove-on-match', name: parseStringMatch(matcher) }
    fields.error('remove_on_match', 'key_matcher is required')
    return NO_STEP
  }
  fields.error(undefined, 'one of remove, append and remove_on_match is required')
  return NO_STEP
}

const ACTIONS: ReadonlyMap<string, AppendAction> = new Map([
  ['', 'append'],
  ['APPEND_IF_EXISTS_OR_ADD', 'append'],
  ['ADD_IF_ABSENT', 'add-if-absent'],
  ['OVERWRITE_IF_EXISTS_OR_ADD', 'overwrite-or-add'],
  ['OVERWRITE_IF_EXISTS', 'overwrite-if-exists'],
])

/** `config.core.v3.HeaderValueOption` */
function parseHeaderValue(fields: FieldReader): HeaderValueConfig {
  const header = fields.message('header')
  if (header === undefined) fields.error('header', 'is required')
  header?.refuse('raw_value', 'use value')
  const name = header === undefined ? '' : editableName(header, 'key')
  const value = header === undefined ? '' : formatText(header, 'value')
  let action = parseAction(fields, 'append_action')
  const append = fields.optionalBool('append')
  if (append !== undefined) {
    if (action !== 'append') fields.error('append', 'append and append_action must not both be set')
    action = append ? 'append' : 'overwrite-or-add'
  }
  return fields.bool('keep_empty_value') ? { name, value, action, keepEmpty: true } : { name, value, action }
}

/** `config.core.v3.KeyValueMutation` */
function parseQueryStep(fields: FieldReader): QueryStep {
  const append = fields.message('append')
  const remove = fields.string('remove')
  if (append === undefined) {
    if (remove === '') fields.error(undefined, 'one of append and remove is required')
    return { kind: 'remove', key: remove }
  }
  if (remove !== '') fields.error(undefined, 'append and remove exclude each other')
  append.refuse('entry', 'use record')
  const record = append.message('record')
  if (record === undefined) append.error('record', 'is required')
  const key = record?.string('key') ?? ''
  if (record !== undefined && key === '') record.error('key', 'must not be empty')
  const value = record?.json('value')
  if (record !== undefined && typeof value !== 'string') record.error('value', 'must be a string')
  const text = typeof value === 'string' ? value : ''
  if (record !== undefined) checkText(record, 'value', text)
  return { kind: 'append', key, value: text, action: parseAction(append, 'action') }
}

function parseAction(fields: FieldReader, name: string): AppendAction {
  const word = fields.enumName(name)
  const action = ACTIONS.get(word)
  if (action === undefined) fields.error(name, `unknown action "${word}"`)
  return action ?? 'append'
}

/** RFC 9110 section 5.6.2: token. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/

/** Request line and Host decide where a request goes; they have settings of their own on routes. */
function editableName(fields: FieldReader, field: string): string {
  const name = fields.string(field).toLowerCase()
  if (name.startsWith(':') || name === 'host') {
    fields.error(field, `"${name}" can't be changed this way: use the route's path and host rewrites`)
  } else if (!TOKEN.test(name)) fields.error(field, `"${name}" is not a valid header name`)
  return name
}

function formatText(fields: FieldReader, name: string): string {
  const text = fields.string(name)
  checkText(fields, name, text)
  return text
}

function checkText(fields: FieldReader, name: string, text: string): void {
  if (/[\0\r\n]/.test(text)) fields.error(name, 'must not contain NUL, CR or LF')
  for (const problem of checkFormat({ kind: 'text', text }).errors) fields.error(name, problem)
}
