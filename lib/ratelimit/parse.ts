import type { FieldReader } from '../core/field-reader.ts'
import type { QueryParameterMatchConfig } from '../match/config.ts'
import { parseCidr, parseHeaderMatch, parseStringMatch } from '../match/parse.ts'
import { parseKeyPath } from '../match/parse-metadata.ts'
import { parseMatchInput } from '../match/parse-tree.ts'
import type { MetadataPath } from '../match/value.ts'
import { checkFormat } from '../telemetry/format.ts'
import type { HitsConfig, RateLimitActionConfig, RateLimitConfig, RateLimitOverrideConfig } from './config.ts'
import { MAX_HITS, RATE_LIMIT_UNITS } from './rules.ts'

/**
 * Where rate limits stand, which decides what they may say: at a route or virtual host, in the configuration of a filter
 * that asks a service, or in that of the local rate limit.
 */
export type RateLimitPlace = 'route' | 'service-filter' | 'local-filter'

const MAX_STAGE = 10

/** A list of `config.route.v3.RateLimit`. Mistakes go to the reader; what is answered then is never used. */
export function parseRateLimits(fields: FieldReader, name: string, place: RateLimitPlace): RateLimitConfig[] {
  return fields.messages(name).map((reader) => parseRateLimit(reader, place))
}

function parseRateLimit(reader: FieldReader, place: RateLimitPlace): RateLimitConfig {
  reader.unread('refuse')
  const actions = reader.messages('actions').flatMap((action) => parseAction(action) ?? [])
  if (!reader.has('actions')) reader.error('actions', 'must not be empty')
  return { actions, ...(place === 'route' ? parseAtRoute(reader) : parseInFilter(reader, place)) }
}

function parseAtRoute(reader: FieldReader): Omit<RateLimitConfig, 'actions'> {
  // As in Envoy: these count in the configuration of a filter only.
  reader.ignore('hits_addend', 'apply_on_stream_done', 'x_ratelimit_option')
  // For a rate limit service; the local rate limit has limits of its own.
  reader.ignore('limit')
  const stage = reader.number('stage') ?? 0
  if (!Number.isInteger(stage) || stage < 0 || stage > MAX_STAGE) {
    reader.error('stage', `must be a whole number from 0 to ${MAX_STAGE}, not ${stage}`)
  }
  const disableKey = reader.string('disable_key')
  const limit = parseOverride(reader.message('limit'))
  return { ...(stage !== 0 && { stage }), ...(disableKey !== '' && { disableKey }), ...(limit && { limit }) }
}

function parseInFilter(reader: FieldReader, place: RateLimitPlace): Omit<RateLimitConfig, 'actions'> {
  reader.refuse('stage', 'belongs to the rate limits of routes and virtual hosts')
  reader.refuse('disable_key', 'belongs to the rate limits of routes and virtual hosts')
  const hits = parseHits(reader.message('hits_addend'))
  const headers = HEADERS.get(reader.enumName('x_ratelimit_option'))
  const onStreamDone = reader.bool('apply_on_stream_done')
  const common = { ...(hits && { hits }), ...(headers && { headers }), ...(onStreamDone && { onStreamDone }) }
  if (place === 'local-filter') {
    reader.refuse('limit', 'the local rate limit has its limits in descriptors')
    return common
  }
  const limit = parseOverride(reader.message('limit'))
  return { ...common, ...(limit && { limit }) }
}

const HEADERS: ReadonlyMap<string, 'off' | 'draft-03'> = new Map([
  ['OFF', 'off'],
  ['DRAFT_VERSION_03', 'draft-03'],
])

/** `RateLimit.HitsAddend` */
function parseHits(reader: FieldReader | undefined): HitsConfig | undefined {
  if (reader === undefined) return undefined
  const number = reader.number('number')
  const format = reader.string('format')
  const negative = reader.bool('is_negative_hits') ? { negative: true as const } : {}
  if ((number === undefined) === (format === '')) {
    reader.error(undefined, 'exactly one of number and format is required')
    return undefined
  }
  if (number !== undefined) {
    if (!Number.isInteger(number) || number < 0 || number > MAX_HITS) {
      reader.error('number', `must be a whole number from 0 to ${MAX_HITS}, not ${number}`)
    }
    return { kind: 'number', number, ...negative }
  }
  if (!/^%[^%]+%$/.test(format)) reader.error('format', `must be one substitution, not "${format}"`)
  else checkText(reader, 'format', format)
  return { kind: 'format', format, ...negative }
}

/** `RateLimit.Override` */
function parseOverride(reader: FieldReader | undefined): RateLimitOverrideConfig | undefined {
  const metadata = reader?.message('dynamic_metadata')
  if (metadata !== undefined) return { kind: 'metadata', ...parseMetadataKey(metadata) }
  const fixed = reader?.message('rate_limit')
  if (fixed === undefined) {
    reader?.error(undefined, 'one of dynamic_metadata and rate_limit is required')
    return undefined
  }
  const unit = RATE_LIMIT_UNITS.get(fixed.enumName('unit'))
  if (unit === undefined) fixed.error('unit', 'is required')
  return { kind: 'fixed', requestsPerUnit: fixed.number('requests_per_unit') ?? 0, unit: unit ?? 'second' }
}

/** `type.metadata.v3.MetadataKey` in the field `metadata_key`. */
function parseMetadataKey(reader: FieldReader): { readonly namespace: string; readonly path: MetadataPath } {
  const key = reader.message('metadata_key')
  const namespace = key?.string('key') ?? ''
  if (key === undefined) reader.error('metadata_key', 'is required')
  else if (namespace === '') key.error('key', 'must not be empty')
  const path = key === undefined ? [] : parseKeyPath(key)
  if (key !== undefined && path.length === 0) key.error('path', 'must not be empty')
  return { namespace, path }
}

type ParseAction = (reader: FieldReader) => RateLimitActionConfig

/** By the name of the field: members of the oneof are asked for one by one, for readers without a schema. */
const ACTIONS: readonly (readonly [field: string, parse: ParseAction])[] = Object.freeze([
  ['source_cluster', () => ({ kind: 'source-cluster' })],
  ['destination_cluster', () => ({ kind: 'destination-cluster' })],
  ['remote_address', () => ({ kind: 'remote-address' })],
  ['masked_remote_address', parseMasked],
  ['request_headers', parseRequestHeader],
  ['query_parameters', parseQueryParameter],
  ['generic_key', parseGenericKey],
  ['header_value_match', parseHeaderValueMatch],
  ['query_parameter_value_match', parseQueryValueMatch],
  ['remote_address_match', parseAddressMatch],
  ['dynamic_metadata', (reader) => parseMetadata(reader, 'dynamic', false)],
  ['metadata', parseMetadataAction],
] satisfies [string, ParseAction][])

/** `RateLimit.Action` */
function parseAction(reader: FieldReader): RateLimitActionConfig | undefined {
  for (const [field, parse] of ACTIONS) {
    const action = reader.message(field)
    if (action !== undefined) return parse(action)
  }
  const extension = reader.message('extension')
  if (extension !== undefined) {
    const key = extension.string('name')
    const input = parseMatchInput(reader, 'extension')
    return input && { kind: 'input', key, input }
  }
  reader.error(undefined, 'an action is required')
  return undefined
}

function parseMasked(reader: FieldReader): RateLimitActionConfig {
  const bits = (field: string, most: number): number => {
    const value = reader.number(field) ?? most
    if (Number.isInteger(value) && value >= 0 && value <= most) return value
    reader.error(field, `must be a whole number from 0 to ${most}, not ${value}`)
    return most
  }
  return {
    kind: 'masked-remote-address',
    v4Bits: bits('v4_prefix_mask_len', 32),
    v6Bits: bits('v6_prefix_mask_len', 128),
  }
}

function required(reader: FieldReader, field: string): string {
  const value = reader.string(field)
  if (value === '') reader.error(field, 'must not be empty')
  return value
}

function parseRequestHeader(reader: FieldReader): RateLimitActionConfig {
  const name = required(reader, 'header_name').toLowerCase()
  const key = required(reader, 'descriptor_key')
  return { kind: 'request-header', name, key, skipIfAbsent: reader.bool('skip_if_absent') }
}

function parseQueryParameter(reader: FieldReader): RateLimitActionConfig {
  const name = required(reader, 'query_parameter_name')
  const key = required(reader, 'descriptor_key')
  return { kind: 'query-parameter', name, key, skipIfAbsent: reader.bool('skip_if_absent') }
}

/**
 * Descriptor values are taken literally: Envoy reads them as formats only where a runtime feature says so that is off, and
 * the default value is for those.
 */
function literal(reader: FieldReader, key: string): { readonly key: string; readonly value: string } {
  reader.ignore('default_value')
  return { key: reader.string('descriptor_key') || key, value: required(reader, 'descriptor_value') }
}

function parseGenericKey(reader: FieldReader): RateLimitActionConfig {
  return { kind: 'generic-key', ...literal(reader, 'generic_key') }
}

function parseHeaderValueMatch(reader: FieldReader): RateLimitActionConfig {
  const headers = reader.messages('headers').map(parseHeaderMatch)
  if (headers.length === 0) reader.error('headers', 'must not be empty')
  const expected = reader.optionalBool('expect_match') ?? true
  return { kind: 'header-match', ...literal(reader, 'header_match'), headers, expected }
}

function parseQueryValueMatch(reader: FieldReader): RateLimitActionConfig {
  const parameters = reader.messages('query_parameters').map(parseQueryMatch)
  if (parameters.length === 0) reader.error('query_parameters', 'must not be empty')
  const expected = reader.optionalBool('expect_match') ?? true
  return { kind: 'query-match', ...literal(reader, 'query_match'), parameters, expected }
}

/** `config.route.v3.QueryParameterMatcher` */
function parseQueryMatch(reader: FieldReader): QueryParameterMatchConfig {
  reader.unread('refuse')
  const name = required(reader, 'name')
  const string = reader.message('string_match')
  if (string !== undefined) return { name, match: { kind: 'string', string: parseStringMatch(string) } }
  return {
    name,
    match: { kind: 'present', present: reader.has('present_match') ? reader.bool('present_match') : true },
  }
}

function parseAddressMatch(reader: FieldReader): RateLimitActionConfig {
  const value = required(reader, 'descriptor_value')
  checkText(reader, 'descriptor_value', value)
  const matcher = reader.message('address_matcher')
  if (matcher === undefined) reader.error('address_matcher', 'is required')
  return {
    kind: 'address-match',
    key: reader.string('descriptor_key') || 'remote_address_match',
    value,
    otherwise: reader.string('default_value'),
    ranges: (matcher?.messages('ranges') ?? []).map(parseCidr),
    inverted: matcher?.bool('invert_match') ?? false,
  }
}

const SOURCES: ReadonlyMap<string, 'dynamic' | 'route'> = new Map([
  ['', 'dynamic'],
  ['DYNAMIC', 'dynamic'],
  ['ROUTE_ENTRY', 'route'],
])

function parseMetadataAction(reader: FieldReader): RateLimitActionConfig {
  const word = reader.enumName('source')
  const source = SOURCES.get(word)
  if (source === undefined) reader.error('source', `metadata of "${word}" is not available here`)
  return parseMetadata(reader, source ?? 'dynamic', reader.bool('skip_if_absent'))
}

function parseMetadata(reader: FieldReader, source: 'dynamic' | 'route', skipIfAbsent: boolean): RateLimitActionConfig {
  const key = required(reader, 'descriptor_key')
  const otherwise = reader.string('default_value')
  return { kind: 'metadata', source, ...parseMetadataKey(reader), key, otherwise, skipIfAbsent }
}

function checkText(reader: FieldReader, field: string, text: string): void {
  for (const problem of checkFormat({ kind: 'text', text }).errors) reader.error(field, problem)
}
