import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { StringMatchConfig } from '../../lib/match/config.ts'
import { parseStringMatch } from '../../lib/match/parse.ts'
import type { AppendAction, HeaderValueConfig } from '../../lib/router/config.ts'
import {
  checkHeaderText,
  editableName,
  parseAppendAction,
  parseHeaderValue,
} from '../../lib/telemetry/parse-header-value.ts'

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
  if (record !== undefined) checkHeaderText(record, 'value', text)
  return { kind: 'append', key, value: text, action: parseAppendAction(append, 'action') }
}
