import { z } from 'zod'
import type {
  FractionConfig,
  HeaderMatchConfig,
  MatcherTreeConfig,
  MatchInputConfig,
  OnMatchConfig,
  PredicateConfig,
  QueryParameterMatchConfig,
  StringMatchConfig,
  ValueMatchConfig,
} from '../../../match/config.ts'
import { isObject } from '../../../proto/describe.ts'
import type { PathMatchConfig } from '../../../router/config.ts'
import type {
  NativeCidr,
  NativeCookieMatch,
  NativeFraction,
  NativeHeaderMatch,
  NativeMetadataMatch,
  NativeQueryParameterMatch,
  NativeRouteMatch,
  NativeStringMatch,
} from '../matches.ts'
import { byKind, choose, count, dictionary, json, name, object, oneOf, text } from './pieces.ts'

const PATTERNS = ['exact', 'prefix', 'suffix', 'contains', 'regex'] as const

type Pattern = { readonly [K in (typeof PATTERNS)[number]]?: string } & { readonly ignoreCase?: boolean }
type LongString = { kind: StringMatchConfig['kind']; value: string; ignoreCase?: boolean }

export function stringMatch(): z.ZodType<NativeStringMatch> {
  const short = object<Pattern>({
    exact: z.string().optional(),
    prefix: name().optional(),
    suffix: name().optional(),
    contains: name().optional(),
    regex: name().optional(),
    ignoreCase: z.boolean().optional(),
  })
  const long = object<LongString>({
    kind: z.enum(PATTERNS),
    value: text(),
    ignoreCase: z.boolean().optional(),
  })
  const one = oneOf(short, PATTERNS)
  const bare = z.string()
  const noCase = {
    path: ['ignoreCase'],
    message: 'has no effect on a regex; write (?i) in it',
  }
  const oneRegex = one.refine(hasNoCase, noCase)
  const longRegex = long.refine(hasNoCase, noCase)
  return choose('a text or an object with one of exact, prefix, suffix, contains, regex', (value) => {
    if (typeof value === 'string') return bare
    if (!isObject(value)) return undefined
    if (value.kind !== undefined) return value.kind === 'regex' ? longRegex : long
    return value.regex === undefined ? one : oneRegex
  })
}

function hasNoCase(value: { readonly ignoreCase?: boolean }): boolean {
  return value.ignoreCase === undefined
}

function stringCondition(): z.ZodType<LongString> {
  return object<LongString>({ kind: z.enum(PATTERNS), value: text(), ignoreCase: z.boolean().optional() })
}

export function headerMatch(): z.ZodType<NativeHeaderMatch> {
  const schema = object<NativeHeaderMatch>({
    name: name(),
    value: stringMatch().optional(),
    range: object({ start: z.number().int(), end: z.number().int() }).optional(),
    present: z.boolean().optional(),
    match: byKind<NonNullable<HeaderMatchConfig['match']>>({
      string: () => object({ kind: z.literal('string'), string: stringCondition() }),
      range: () => object({ kind: z.literal('range'), start: z.number().int(), end: z.number().int() }),
      present: () => object({ kind: z.literal('present'), present: z.boolean() }),
    }).optional(),
    invert: z.boolean().optional(),
    treatMissingAsEmpty: z.boolean().optional(),
  })
  return oneOf(schema, ['value', 'range', 'present', 'match'], true)
}

function queryParameterMatch(): z.ZodType<NativeQueryParameterMatch> {
  const schema = object<NativeQueryParameterMatch>({
    name: name(),
    value: stringMatch().optional(),
    match: byKind<QueryParameterMatchConfig['match']>({
      string: () => object({ kind: z.literal('string'), string: stringCondition() }),
      present: () => object({ kind: z.literal('present') }),
    }).optional(),
  })
  return oneOf(schema, ['value', 'match'], true)
}

function cookieMatch(): z.ZodType<NativeCookieMatch> {
  return object<NativeCookieMatch>({ name: name(), value: stringMatch(), invert: z.boolean().optional() })
}

export function metadataMatch(): z.ZodType<NativeMetadataMatch> {
  return object<NativeMetadataMatch>({
    namespace: name(),
    path: z.array(name()).min(1),
    value: valueMatch(),
    invert: z.boolean().optional(),
  })
}

function valueMatch(): z.ZodType<ValueMatchConfig> {
  return byKind<ValueMatchConfig>({
    null: () => object({ kind: z.literal('null') }),
    double: () =>
      object({
        kind: z.literal('double'),
        exact: z.number().optional(),
        start: z.number().optional(),
        end: z.number().optional(),
      }),
    string: () => object({ kind: z.literal('string'), string: stringCondition() }),
    bool: () => object({ kind: z.literal('bool'), value: z.boolean() }),
    present: () => object({ kind: z.literal('present'), present: z.boolean() }),
    list: () => object({ kind: z.literal('list'), oneOf: valueMatch() }),
    or: () => object({ kind: z.literal('or'), values: z.array(valueMatch()).min(1) }),
  })
}

type Share = { percent: number; runtimeKey?: string }

export function fraction(): z.ZodType<NativeFraction> {
  const percent = object<Share>({
    percent: z.number().min(0).max(100),
    runtimeKey: name().optional(),
  })
  const long = object<FractionConfig>({
    numerator: count(),
    denominator: z.literal([100, 10_000, 1_000_000]),
    runtimeKey: name().optional(),
  })
  return choose('an object with percent', (value) =>
    isObject(value) ? (value.numerator === undefined ? percent : long) : undefined,
  )
}

function pathMatch(): z.ZodType<PathMatchConfig> {
  const literal = (): z.ZodType =>
    object({
      kind: z.enum(['prefix', 'exact', 'path-separated-prefix']),
      value: text(),
      caseSensitive: z.boolean(),
    })
  const pattern = (): z.ZodType => object({ kind: z.enum(['regex', 'template']), value: name() })
  return byKind({
    prefix: literal,
    exact: literal,
    'path-separated-prefix': literal,
    regex: pattern,
    template: pattern,
    connect: () => object({ kind: z.literal('connect') }),
  })
}

/** Fields of a route's match that say something about the path. */
export const PATH_FIELDS = ['prefix', 'exact', 'pathSeparatedPrefix', 'regex', 'template', 'connect', 'path'] as const

export function routeMatch(): z.ZodType<NativeRouteMatch> {
  const schema = object<NativeRouteMatch>({
    prefix: z.string().optional(),
    exact: z.string().optional(),
    pathSeparatedPrefix: z.string().optional(),
    regex: name().optional(),
    template: name().optional(),
    connect: z.literal(true).optional(),
    path: pathMatch().optional(),
    caseSensitive: z.boolean().optional(),
    methods: z.array(name()).min(1).optional(),
    headers: z.array(headerMatch()).optional(),
    queryParameters: z.array(queryParameterMatch()).optional(),
    cookies: z.array(cookieMatch()).optional(),
    grpc: z.boolean().optional(),
    fraction: fraction().optional(),
    metadata: z.array(metadataMatch()).optional(),
    tls: object({ presented: z.boolean().optional(), validated: z.boolean().optional() }).optional(),
  })
  return oneOf(schema, PATH_FIELDS, true)
}

export function cidr(): z.ZodType<NativeCidr> {
  const long = object<Exclude<NativeCidr, string>>({ address: name(), prefixLength: count() })
  const short = z.string()
  return choose('a range of addresses such as "10.0.0.0/8"', (value) =>
    typeof value === 'string' ? short : isObject(value) ? long : undefined,
  )
}

export function metadata(): z.ZodType<{ readonly [namespace: string]: z.infer<ReturnType<typeof json>> }> {
  return dictionary(json())
}

/** A matcher tree whose leaves are `action`. Trees hold trees, so their schemas are made level by level, when needed. */
export function matcherTree<A>(action: () => z.ZodType<A>): z.ZodType<MatcherTreeConfig<A>> {
  let made: z.ZodType<MatcherTreeConfig<A>> | undefined
  const tree = (): z.ZodType<MatcherTreeConfig<A>> => {
    made ??= oneOf(
      object<MatcherTreeConfig<A>>({
        list: z
          .array(object({ predicate: predicate(), onMatch: onMatch(action, tree) }))
          .min(1)
          .optional(),
        tree: object<NonNullable<MatcherTreeConfig<A>['tree']>>({
          input: matchInput(),
          kind: z.enum(['exact', 'prefix', 'range']),
          map: z.array(z.tuple([text(), onMatch(action, tree)])).min(1),
          exclusive: z.array(text()).optional(),
        }).optional(),
        onNoMatch: onMatch(action, tree).optional(),
      }),
      ['list', 'tree'],
      true,
    )
    return made
  }
  return choose('a matcher tree', (value) => (isObject(value) ? tree() : undefined))
}

function onMatch<A>(
  action: () => z.ZodType<A>,
  tree: () => z.ZodType<MatcherTreeConfig<A>>,
): z.ZodType<OnMatchConfig<A>> {
  const keepMatching = z.boolean().optional()
  let leaf: z.ZodType | undefined
  let branch: z.ZodType | undefined
  return choose('an object with an action or a matcher', (value) => {
    if (!isObject(value)) return undefined
    if (value.matcher === undefined) return (leaf ??= object({ action: action(), keepMatching }))
    return (branch ??= object({ matcher: tree(), keepMatching }))
  })
}

function predicate(): z.ZodType<PredicateConfig> {
  const several = (): z.ZodType => object({ kind: z.enum(['and', 'or']), predicates: z.array(predicate()).min(1) })
  return byKind<PredicateConfig>({
    single: () => object({ kind: z.literal('single'), input: matchInput(), string: stringCondition() }),
    and: several,
    or: several,
    not: () => object({ kind: z.literal('not'), predicate: predicate() }),
  })
}

function matchInput(): z.ZodType<MatchInputConfig> {
  const kinds: { [kind: string]: () => z.ZodType } = Object.create(null)
  for (const kind of ['request-header', 'response-header', 'query-parameter']) {
    kinds[kind] = () => object({ kind: z.literal(kind), name: name() })
  }
  kinds.metadata = () => object({ kind: z.literal('metadata'), namespace: name(), path: z.array(name()).min(1) })
  kinds['filter-state'] = () => object({ kind: z.literal('filter-state'), key: name() })
  for (const kind of [
    'response-status',
    'source-ip',
    'direct-source-ip',
    'destination-ip',
    'destination-port',
    'server-name',
    'source-port',
    'source-type',
    'transport-protocol',
    'application-protocol',
    'uri-san',
    'dns-san',
    'subject',
  ]) {
    kinds[kind] = () => object({ kind: z.literal(kind) })
  }
  return byKind(kinds)
}
