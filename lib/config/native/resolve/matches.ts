import type {
  CookieMatchConfig,
  FractionConfig,
  HeaderMatchConfig,
  MatcherTreeConfig,
  OnMatchConfig,
  QueryParameterMatchConfig,
  StringMatchConfig,
} from '../../../match/config.ts'
import { indexPath } from '../../../proto/path.ts'
import type { PathMatchConfig, RouteMatchConfig } from '../../../router/config.ts'
import type {
  NativeFraction,
  NativeHeaderMatch,
  NativeQueryParameterMatch,
  NativeRouteMatch,
  NativeStringMatch,
} from '../matches.ts'
import type { Reading } from './reading.ts'

const PATTERNS = ['exact', 'prefix', 'suffix', 'contains'] as const
const MILLION = 1_000_000

export function readStringMatch(value: NativeStringMatch, path: string, reading: Reading): StringMatchConfig {
  if (typeof value === 'string') return reading.origins.whole(path, { kind: 'exact', value })
  if ('kind' in value) return reading.origins.at(path, value)
  if ('regex' in value) return reading.origins.whole(path, { kind: 'regex', value: value.regex })
  for (const kind of PATTERNS) {
    const text = (value as { [kind: string]: unknown })[kind]
    if (typeof text !== 'string') continue
    const ignoreCase = value.ignoreCase === true && { ignoreCase: true }
    return reading.origins.whole(path, { kind, value: text, ...ignoreCase })
  }
  throw new Error(`${path}: a string match without a pattern`)
}

export function readHeaderMatch(value: NativeHeaderMatch, path: string, reading: Reading): HeaderMatchConfig {
  return reading.origins.at(path, {
    name: value.name.toLowerCase(),
    match: readHeaderCondition(value, path, reading),
    ...(value.invert === true && { invert: true }),
    ...(value.treatMissingAsEmpty === true && { treatMissingAsEmpty: true }),
  })
}

function readHeaderCondition(value: NativeHeaderMatch, path: string, reading: Reading): HeaderMatchConfig['match'] {
  if (value.match !== undefined) return value.match
  if (value.range !== undefined) return { kind: 'range', ...value.range }
  if (value.value === undefined) return { kind: 'present', present: value.present ?? true }
  return { kind: 'string', string: readStringMatch(value.value, `${path}.value`, reading) }
}

function readQueryParameter(
  value: NativeQueryParameterMatch,
  path: string,
  reading: Reading,
): QueryParameterMatchConfig {
  const { name, value: text, match } = value
  if (match !== undefined) return reading.origins.at(path, { name, match })
  if (text === undefined) return reading.origins.at(path, { name, match: { kind: 'present' } })
  const string = readStringMatch(text, `${path}.value`, reading)
  return reading.origins.at(path, { name, match: { kind: 'string', string } })
}

export function readFraction(value: NativeFraction): FractionConfig {
  if ('numerator' in value) return value
  const { runtimeKey } = value
  const numerator = Math.round((value.percent / 100) * MILLION)
  return { numerator, denominator: MILLION, ...(runtimeKey !== undefined && { runtimeKey }) }
}

/** Reads the match of a route; without a condition on the path every path matches. */
export function readRouteMatch(match: NativeRouteMatch, path: string, reading: Reading): RouteMatchConfig {
  const { grpc, fraction, metadata, tls } = match
  const headers = readHeaders(match, path, reading)
  const queryParameters = match.queryParameters?.map((value, i) =>
    readQueryParameter(value, indexPath(`${path}.queryParameters`, i), reading),
  )
  const cookies = match.cookies?.map((value, i) => readCookie(value, indexPath(`${path}.cookies`, i), reading))
  return reading.origins.at(path, {
    path: readPath(match, path, reading),
    ...(headers.length > 0 && { headers }),
    ...(queryParameters && { queryParameters }),
    ...(cookies && { cookies }),
    ...(grpc === true && { grpc }),
    ...(fraction && { fraction: readFraction(fraction) }),
    ...(metadata && { metadata }),
    ...(tls && { tls }),
  })
}

function readCookie(
  { name, value, invert }: { readonly name: string; readonly value: NativeStringMatch; readonly invert?: boolean },
  path: string,
  reading: Reading,
): CookieMatchConfig {
  const string = readStringMatch(value, `${path}.value`, reading)
  return reading.origins.at(path, { name, string, ...(invert === true && { invert }) })
}

/** The path condition; an origin of its own, since the author wrote it as a field of the match. */
function readPath(match: NativeRouteMatch, path: string, { origins }: Reading): PathMatchConfig {
  const caseSensitive = match.caseSensitive ?? true
  if (match.path !== undefined) return origins.at(`${path}.path`, match.path)
  if (match.connect === true) return { kind: 'connect' }
  if (match.regex !== undefined) return origins.whole(`${path}.regex`, { kind: 'regex', value: match.regex })
  if (match.template !== undefined)
    return origins.whole(`${path}.template`, { kind: 'template', value: match.template })
  if (match.exact !== undefined) {
    return origins.whole(`${path}.exact`, { kind: 'exact', value: match.exact, caseSensitive })
  }
  if (match.pathSeparatedPrefix !== undefined) {
    const value = match.pathSeparatedPrefix
    return origins.whole(`${path}.pathSeparatedPrefix`, { kind: 'path-separated-prefix', value, caseSensitive })
  }
  return origins.whole(`${path}.prefix`, { kind: 'prefix', value: match.prefix ?? '/', caseSensitive })
}

/** `methods` is a condition on `:method`, behind the others so that these keep their places. */
function readHeaders(match: NativeRouteMatch, path: string, reading: Reading): HeaderMatchConfig[] {
  const headers = (match.headers ?? []).map((header, i) =>
    readHeaderMatch(header, indexPath(`${path}.headers`, i), reading),
  )
  const { methods } = match
  if (methods === undefined) return headers
  const string: StringMatchConfig =
    methods.length === 1
      ? { kind: 'exact', value: methods[0] }
      : { kind: 'regex', value: methods.map((method) => method.replace(/[^A-Za-z0-9_-]/g, '\\$&')).join('|') }
  headers.push(reading.origins.whole(`${path}.methods`, { name: ':method', match: { kind: 'string', string } }))
  return headers
}

/** The same tree with other leaves. */
export function mapTree<A, B>(
  tree: MatcherTreeConfig<A>,
  path: string,
  map: (action: A, path: string) => B,
): MatcherTreeConfig<B> {
  const on = (match: OnMatchConfig<A>, at: string): OnMatchConfig<B> => {
    const keepMatching = match.keepMatching !== undefined && { keepMatching: match.keepMatching }
    return 'matcher' in match
      ? { matcher: mapTree(match.matcher, `${at}.matcher`, map), ...keepMatching }
      : { action: map(match.action, `${at}.action`), ...keepMatching }
  }
  return {
    ...(tree.list && {
      list: tree.list.map((entry, i) => ({
        predicate: entry.predicate,
        onMatch: on(entry.onMatch, `${indexPath(`${path}.list`, i)}.onMatch`),
      })),
    }),
    ...(tree.tree && {
      tree: {
        ...tree.tree,
        map: tree.tree.map.map(
          ([key, match], i) => [key, on(match, `${indexPath(`${path}.tree.map`, i)}[1]`)] as const,
        ),
      },
    }),
    ...(tree.onNoMatch && { onNoMatch: on(tree.onNoMatch, `${path}.onNoMatch`) }),
  }
}
