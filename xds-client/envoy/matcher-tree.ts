import type { ExtensionReader, FieldReader } from '../../lib/core/field-reader.ts'
import type {
  MatcherTreeConfig,
  MatchInputConfig,
  OnMatchConfig,
  PredicateConfig,
  StringMatchConfig,
} from '../../lib/match/config.ts'
import { translatePath } from './metadata-match.ts'
import { consume, refuseExtension, typedExtension } from './refusals.ts'
import { translateStringMatch } from './string-match.ts'

const NETWORK = 'envoy.extensions.matching.common_inputs.network.v3.'
const HTTP = 'envoy.type.matcher.v3.'

/** What a request offers to a matcher, by the type URL of the input. */
const REQUEST_INPUTS: ReadonlyMap<string, (fields: FieldReader) => MatchInputConfig> = new Map([
  [`${HTTP}HttpRequestHeaderMatchInput`, headerInput],
  [`${HTTP}HttpRequestQueryParamMatchInput`, (f) => ({ kind: 'query-parameter', name: f.string('query_param') })],
  [`${NETWORK}DynamicMetadataInput`, metadataInput],
  [`${NETWORK}SourceIPInput`, () => ({ kind: 'source-ip' })],
  [`${NETWORK}DirectSourceIPInput`, () => ({ kind: 'direct-source-ip' })],
  [`${NETWORK}DestinationIPInput`, () => ({ kind: 'destination-ip' })],
  [`${NETWORK}DestinationPortInput`, () => ({ kind: 'destination-port' })],
  [`${NETWORK}ServerNameInput`, () => ({ kind: 'server-name' })],
] as [string, (fields: FieldReader) => MatchInputConfig][])

function headerInput(fields: FieldReader): MatchInputConfig {
  return { kind: 'request-header', name: fields.string('header_name').toLowerCase() }
}

function metadataInput(fields: FieldReader): MatchInputConfig {
  return { kind: 'metadata', namespace: fields.string('filter'), path: translatePath(fields) }
}

/** Stands where a mistake was recorded; never used. */
const NO_INPUT: MatchInputConfig = Object.freeze({ kind: 'source-ip' })
const NO_STRING: StringMatchConfig = Object.freeze({ kind: 'exact', value: '' })

/** Translates the action of a match; undefined where it recorded a mistake. */
export type TranslateAction<A> = (action: ExtensionReader, at: FieldReader) => A | undefined

/** `xds.type.matcher.v3.Matcher` over the facts of a request. */
export function translateMatcherTree<A>(reader: FieldReader, action: TranslateAction<A>): MatcherTreeConfig<A> {
  reader.unread('refuse')
  const noMatch = reader.message('on_no_match')
  const onNoMatch = noMatch === undefined ? undefined : translateOnMatch(noMatch, action)
  const otherwise = onNoMatch === undefined ? {} : { onNoMatch }
  const list = reader.message('matcher_list')
  if (list !== undefined) return { list: translateList(list, action), ...otherwise }
  const tree = reader.message('matcher_tree')
  return tree === undefined ? otherwise : { tree: translateMap(tree, action), ...otherwise }
}

function translateOnMatch<A>(reader: FieldReader, translate: TranslateAction<A>): OnMatchConfig<A> | undefined {
  const keep = reader.bool('keep_matching') ? { keepMatching: true } : {}
  const nested = reader.message('matcher')
  if (nested !== undefined) return { matcher: translateMatcherTree(nested, translate), ...keep }
  const at = reader.message('action')
  const extension = typedExtension(at)
  if (at === undefined || extension === undefined) return undefined
  const action = translate(extension, at)
  return action === undefined ? undefined : { action, ...keep }
}

function translateList<A>(reader: FieldReader, action: TranslateAction<A>): NonNullable<MatcherTreeConfig<A>['list']> {
  const list: { predicate: PredicateConfig; onMatch: OnMatchConfig<A> }[] = []
  for (const entry of reader.messages('matchers')) {
    const predicate = translatePredicate(entry.message('predicate'))
    const at = entry.message('on_match')
    const onMatch = at === undefined ? undefined : translateOnMatch(at, action)
    if (predicate !== undefined && onMatch !== undefined) list.push({ predicate, onMatch })
  }
  return list
}

function translatePredicate(reader: FieldReader | undefined): PredicateConfig | undefined {
  const kind = reader?.which('match_type')
  if (reader === undefined) return undefined
  switch (kind) {
    case 'single_predicate':
      return translateSingle(reader.message('single_predicate'))
    case 'or_matcher':
    case 'and_matcher': {
      const entries = reader.message(kind)?.messages('predicate') ?? []
      const predicates = entries.map(translatePredicate).filter((p) => p !== undefined)
      return { kind: kind === 'or_matcher' ? 'or' : 'and', predicates }
    }
    case 'not_matcher': {
      const predicate = translatePredicate(reader.message('not_matcher'))
      return predicate === undefined ? undefined : { kind: 'not', predicate }
    }
    default:
      return undefined
  }
}

function translateSingle(reader: FieldReader | undefined): PredicateConfig | undefined {
  if (reader === undefined) return undefined
  const input = translateInput(reader.message('input'))
  const custom = typedExtension(reader.message('custom_match'))
  if (custom !== undefined) {
    consume(custom)
    reader.error('custom_match', `matcher "${custom.typeUrl}" is not available`)
    return { kind: 'single', input, string: NO_STRING }
  }
  return { kind: 'single', input, string: translateStringMatch(reader.message('value_match')) }
}

function translateMap<A>(reader: FieldReader, action: TranslateAction<A>): NonNullable<MatcherTreeConfig<A>['tree']> {
  const input = translateInput(reader.message('input'))
  const field = reader.which('tree_type')
  const custom = field === 'custom_match' ? typedExtension(reader.message('custom_match')) : undefined
  if (custom !== undefined) {
    consume(custom)
    reader.error('custom_match', `matcher "${custom.typeUrl}" is not available`)
  }
  const exact = field !== 'prefix_match_map'
  const at = reader.message(exact ? 'exact_match_map' : 'prefix_match_map')
  const map: [string, OnMatchConfig<A>][] = []
  for (const [key, entry] of at?.messageMap('map') ?? []) {
    const onMatch = translateOnMatch(entry, action)
    if (onMatch !== undefined) map.push([key, onMatch])
  }
  return { input, kind: exact ? 'exact' : 'prefix', map }
}

function translateInput(reader: FieldReader | undefined): MatchInputConfig {
  const extension = typedExtension(reader)
  if (reader === undefined || extension === undefined) return NO_INPUT
  const translate = REQUEST_INPUTS.get(extension.typeUrl)
  if (translate !== undefined) return translate(extension.fields)
  refuseExtension(reader, 'typed_config', extension, `matcher input "${extension.typeUrl}" is not available here`)
  return NO_INPUT
}
