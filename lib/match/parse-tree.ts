import type { ExtensionReader, FieldReader } from '../core/field-reader.ts'
import { canonicalRange } from './cidr.ts'
import type { MatcherTreeConfig, MatchInputConfig, OnMatchConfig, PredicateConfig } from './config.ts'
import { parseCidr, parseStringMatch } from './parse.ts'
import { parseMetadataPath } from './parse-metadata.ts'

const NETWORK = 'envoy.extensions.matching.common_inputs.network.v3.'
const SSL = 'envoy.extensions.matching.common_inputs.ssl.v3.'
const HTTP = 'envoy.type.matcher.v3.'

type ParseInput = (fields: FieldReader) => MatchInputConfig

/** What connections and requests offer to a matcher, by the type of the input. */
const INPUTS: ReadonlyMap<string, ParseInput> = new Map<string, ParseInput>([
  [
    `${HTTP}HttpRequestHeaderMatchInput`,
    (f) => ({ kind: 'request-header', name: f.string('header_name').toLowerCase() }),
  ],
  [`${HTTP}HttpRequestQueryParamMatchInput`, (f) => ({ kind: 'query-parameter', name: f.string('query_param') })],
  [
    `${NETWORK}DynamicMetadataInput`,
    (f) => ({ kind: 'metadata', namespace: f.string('filter'), path: parseMetadataPath(f) }),
  ],
  [`${NETWORK}FilterStateInput`, (f) => ({ kind: 'filter-state', key: filterStateKey(f) })],
  [`${NETWORK}SourceIPInput`, () => ({ kind: 'source-ip' })],
  [`${NETWORK}SourcePortInput`, () => ({ kind: 'source-port' })],
  [`${NETWORK}SourceTypeInput`, () => ({ kind: 'source-type' })],
  [`${NETWORK}DirectSourceIPInput`, () => ({ kind: 'direct-source-ip' })],
  [`${NETWORK}DestinationIPInput`, () => ({ kind: 'destination-ip' })],
  [`${NETWORK}DestinationPortInput`, () => ({ kind: 'destination-port' })],
  [`${NETWORK}ServerNameInput`, () => ({ kind: 'server-name' })],
  [`${NETWORK}TransportProtocolInput`, () => ({ kind: 'transport-protocol' })],
  [`${NETWORK}ApplicationProtocolInput`, () => ({ kind: 'application-protocol' })],
  [`${SSL}UriSanInput`, () => ({ kind: 'uri-san' })],
  [`${SSL}DnsSanInput`, () => ({ kind: 'dns-san' })],
  [`${SSL}SubjectInput`, () => ({ kind: 'subject' })],
])

function filterStateKey(fields: FieldReader): string {
  const field = fields.string('field')
  if (field !== '') fields.error('field', 'fields of objects cannot be matched')
  return fields.string('key')
}

/** Reads the action of a match; undefined where it recorded a mistake. */
export type ParseAction<A> = (action: ExtensionReader, at: FieldReader) => A | undefined

/** `xds.type.matcher.v3.Matcher`. Mistakes go to the reader; what is answered then is never used. */
export function parseMatcherTree<A>(reader: FieldReader, action: ParseAction<A>): MatcherTreeConfig<A> {
  reader.unread('refuse')
  const noMatch = reader.message('on_no_match')
  const onNoMatch = noMatch === undefined ? undefined : parseOnMatch(noMatch, action)
  const otherwise = onNoMatch === undefined ? {} : { onNoMatch }
  const list = reader.message('matcher_list')
  if (list !== undefined) return { list: parseList(list, action), ...otherwise }
  const tree = reader.message('matcher_tree')
  return tree === undefined ? otherwise : { tree: parseMap(tree, action), ...otherwise }
}

function parseOnMatch<A>(reader: FieldReader, action: ParseAction<A>): OnMatchConfig<A> | undefined {
  const keep = reader.bool('keep_matching') ? { keepMatching: true } : {}
  const nested = reader.message('matcher')
  if (nested !== undefined) return { matcher: parseMatcherTree(nested, action), ...keep }
  const at = reader.message('action')
  const extension = typedConfig(at)
  if (at === undefined || extension === undefined) {
    reader.error(undefined, 'one of matcher and action is required')
    return undefined
  }
  const parsed = action(extension, at)
  return parsed === undefined ? undefined : { action: parsed, ...keep }
}

function typedConfig(reader: FieldReader | undefined): ExtensionReader | undefined {
  if (reader === undefined) return undefined
  reader.string('name')
  return reader.any('typed_config')
}

function parseList<A>(reader: FieldReader, action: ParseAction<A>): NonNullable<MatcherTreeConfig<A>['list']> {
  const list: { predicate: PredicateConfig; onMatch: OnMatchConfig<A> }[] = []
  for (const entry of some(reader, 'matchers')) {
    const predicate = parsePredicate(entry.message('predicate'), entry)
    const at = entry.message('on_match')
    if (at === undefined) entry.error('on_match', 'is required')
    const onMatch = at === undefined ? undefined : parseOnMatch(at, action)
    if (predicate !== undefined && onMatch !== undefined) list.push({ predicate, onMatch })
  }
  return list
}

function parsePredicate(reader: FieldReader | undefined, parent: FieldReader): PredicateConfig | undefined {
  if (reader === undefined) {
    parent.error('predicate', 'is required')
    return undefined
  }
  const single = reader.message('single_predicate')
  if (single !== undefined) return parseSingle(single)
  for (const kind of ['or', 'and'] as const) {
    const at = reader.message(`${kind}_matcher`)
    if (at === undefined) continue
    // An empty conjunction would hold for everybody, as the negation of an empty disjunction.
    const entries = some(at, 'predicate')
    return { kind, predicates: entries.map((entry) => parsePredicate(entry, reader)).filter((p) => p !== undefined) }
  }
  const not = reader.message('not_matcher')
  const predicate = not === undefined ? undefined : parsePredicate(not, reader)
  if (predicate !== undefined) return { kind: 'not', predicate }
  if (not === undefined)
    reader.error(undefined, 'one of single_predicate, or_matcher, and_matcher, not_matcher is required')
  return undefined
}

/** The entries of a list that must not be empty. */
function some(reader: FieldReader, field: string): FieldReader[] {
  const entries = reader.messages(field)
  if (entries.length === 0) reader.error(field, 'must not be empty')
  return entries
}

function parseSingle(reader: FieldReader): PredicateConfig | undefined {
  const input = parseInput(reader)
  const custom = typedConfig(reader.message('custom_match'))
  if (custom !== undefined) {
    custom.fields.toJson()
    reader.error('custom_match', `matcher "${custom.typeUrl}" is not available`)
    return undefined
  }
  const value = reader.message('value_match')
  if (value === undefined) {
    reader.error('value_match', 'is required')
    return undefined
  }
  return input === undefined ? undefined : { kind: 'single', input, string: parseStringMatch(value) }
}

function parseMap<A>(reader: FieldReader, action: ParseAction<A>): NonNullable<MatcherTreeConfig<A>['tree']> {
  const input = parseInput(reader)
  const custom = typedConfig(reader.message('custom_match'))
  if (custom?.typeUrl === IP_MATCHER) return { input: input ?? NO_INPUT, ...parseRanges(custom.fields, action) }
  if (custom !== undefined) {
    custom.fields.toJson()
    reader.error('custom_match', `matcher "${custom.typeUrl}" is not available`)
  }
  const kind = reader.has('prefix_match_map') ? 'prefix' : 'exact'
  const at = reader.message(`${kind}_match_map`)
  const entries = at?.messageMap('map')
  if (at === undefined && custom === undefined) {
    reader.error(undefined, 'one of exact_match_map, prefix_match_map, custom_match is required')
  } else if (entries?.size === 0) at?.error('map', 'must not be empty')
  const map: [string, OnMatchConfig<A>][] = []
  for (const [key, entry] of entries ?? []) {
    const onMatch = parseOnMatch(entry, action)
    if (onMatch !== undefined) map.push([key, onMatch])
  }
  return { input: input ?? NO_INPUT, kind, map }
}

/** `xds.type.matcher.v3.IPMatcher` */
function parseRanges<A>(reader: FieldReader, action: ParseAction<A>): RangeMap<A> {
  reader.unread('refuse')
  const map: [string, OnMatchConfig<A>][] = []
  const exclusive: string[] = []
  for (const entry of some(reader, 'range_matchers')) {
    const at = entry.message('on_match')
    if (at === undefined) entry.error('on_match', 'is required')
    const onMatch = at === undefined ? undefined : parseOnMatch(at, action)
    const last = entry.bool('exclusive')
    for (const range of entry.messages('ranges').map(parseCidr).map(canonicalRange)) {
      if (map.some(([other]) => other === range)) entry.error('ranges', `${range} is listed twice`)
      if (onMatch !== undefined) map.push([range, onMatch])
      if (last) exclusive.push(range)
    }
  }
  return { kind: 'range', map, ...(exclusive.length > 0 && { exclusive }) }
}

type RangeMap<A> = Pick<NonNullable<MatcherTreeConfig<A>['tree']>, 'kind' | 'map' | 'exclusive'>

const IP_MATCHER = 'xds.type.matcher.v3.IPMatcher'

/** Stands where a mistake was recorded; never used. */
const NO_INPUT: MatchInputConfig = Object.freeze({ kind: 'source-ip' })

function parseInput(reader: FieldReader): MatchInputConfig | undefined {
  return parseMatchInput(reader, 'input')
}

/** An input of a matcher, in a `TypedExtensionConfig`; undefined where a mistake was recorded. */
export function parseMatchInput(reader: FieldReader, field: string): MatchInputConfig | undefined {
  const at = reader.message(field)
  const extension = typedConfig(at)
  if (at === undefined || extension === undefined) {
    reader.error(field, 'is required')
    return undefined
  }
  const parse = INPUTS.get(extension.typeUrl)
  if (parse !== undefined) return parse(extension.fields)
  extension.fields.toJson()
  at.error('typed_config', `matcher input "${extension.typeUrl}" is not available here`)
  return undefined
}
