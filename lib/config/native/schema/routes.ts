import { z } from 'zod'
import { isObject } from '../../../proto/describe.ts'
import type { HeaderValueConfig } from '../../../router/config.ts'
import type {
  NativeAction,
  NativeClusterChoice,
  NativeConnect,
  NativeDirectResponse,
  NativeFilterOverride,
  NativeFilterOverrides,
  NativeFollowRedirects,
  NativeForward,
  NativeHeaderEdits,
  NativeHostRewrite,
  NativeMirror,
  NativePathRewrite,
  NativeRedirect,
  NativeRoute,
  NativeRouteTable,
  NativeUpgrade,
  NativeVirtualHost,
  NativeWeightedCluster,
} from '../routes.ts'
import { hashPolicy, regexRewrite } from './hash-policy.ts'
import { format } from './logs.ts'
import { fraction, matcherTree, metadata, routeMatch } from './matches.ts'
import { byKind, choose, count, dictionary, jsonObject, ms, name, object, oneOf, port, text } from './pieces.ts'
import { rateLimits } from './rate-limits.ts'
import { retry } from './retries.ts'

const STATUS_MIN = 200
const STATUS_MAX = 599

export function headerValue(): z.ZodType<HeaderValueConfig> {
  return object<HeaderValueConfig>({
    name: name(),
    value: text(),
    action: z.enum(['append', 'add-if-absent', 'overwrite-or-add', 'overwrite-if-exists']),
    keepEmpty: z.boolean().optional(),
  })
}

export function headerEdits(): z.ZodType<NativeHeaderEdits> {
  const values = dictionary(text()).optional()
  return object<NativeHeaderEdits>({
    remove: z.array(name()).optional(),
    set: values,
    append: values,
    addIfAbsent: values,
    add: z.array(headerValue()).optional(),
  })
}

function filterOverrides(): z.ZodType<NativeFilterOverrides> {
  const long = object<NativeFilterOverride>({
    disabled: z.boolean().optional(),
    config: jsonObject().optional(),
    type: name().optional(),
  })
  const short = z.boolean()
  return dictionary(
    choose<NativeFilterOverride | boolean>('an object with disabled or config, or true or false', (value) =>
      typeof value === 'boolean' ? short : isObject(value) ? long : undefined,
    ),
  )
}

function weightedCluster(): z.ZodType<NativeWeightedCluster> {
  const schema = object<NativeWeightedCluster>({
    name: name().optional(),
    clusterHeader: name().optional(),
    weight: count(),
    requestHeaders: headerEdits().optional(),
    responseHeaders: headerEdits().optional(),
    filterConfigs: filterOverrides().optional(),
    hostRewrite: name().optional(),
    metadataMatch: jsonObject().optional(),
  })
  return oneOf(schema, ['name', 'clusterHeader'])
}

type Choice = Exclude<NativeClusterChoice, string>

function clusterChoice(): z.ZodType<NativeClusterChoice> {
  const header = object<Extract<Choice, { header: string }>>({ header: name() })
  const weighted = object<Extract<Choice, { weighted: unknown }>>({
    weighted: z.array(weightedCluster()).min(1),
    randomHeader: name().optional(),
  })
  const long = byKind<Choice>({
    cluster: () => object({ kind: z.literal('cluster'), name: name() }),
    header: () => object({ kind: z.literal('header'), name: name() }),
  })
  const short = name()
  return choose('the name of a cluster, or an object with header or weighted', (value) => {
    if (typeof value === 'string') return short
    if (!isObject(value)) return undefined
    if (value.kind !== undefined) return long
    return value.header === undefined ? weighted : header
  })
}

function pathRewrite(): z.ZodType<NativePathRewrite> {
  const valued = (kind: string) => (): z.ZodType => object({ kind: z.literal(kind), value: name() })
  const long = byKind<NativePathRewrite>({
    prefix: valued('prefix'),
    regex: () => object({ kind: z.literal('regex'), rewrite: regexRewrite() }),
    template: valued('template'),
    format: valued('format'),
  })
  const [regex, template, format] = [regexRewrite(), object({ template: name() }), object({ format: name() })]
  const prefix = object({ prefix: name() })
  return choose('an object with one of prefix, regex, template, format', (value) => {
    if (!isObject(value)) return undefined
    if (value.kind !== undefined) return long
    if (value.regex !== undefined) return regex
    if (value.template !== undefined) return template
    return value.format === undefined ? prefix : format
  })
}

function hostRewrite(): z.ZodType<NativeHostRewrite> {
  const valued = (kind: string) => (): z.ZodType => object({ kind: z.literal(kind), value: name() })
  const long = byKind<NativeHostRewrite>({
    literal: valued('literal'),
    header: () => object({ kind: z.literal('header'), name: name() }),
    'path-regex': () => object({ kind: z.literal('path-regex'), rewrite: regexRewrite() }),
    format: valued('format'),
    auto: () => object({ kind: z.literal('auto') }),
  })
  const [literal, header, format] = [name(), object({ header: name() }), object({ format: name() })]
  const [pathRegex, auto] = [object({ pathRegex: regexRewrite() }), object({ auto: z.literal(true) })]
  return choose('a host, or an object with one of header, pathRegex, format, auto', (value) => {
    if (typeof value === 'string') return literal
    if (!isObject(value)) return undefined
    if (value.kind !== undefined) return long
    if (value.header !== undefined) return header
    if (value.pathRegex !== undefined) return pathRegex
    return value.format === undefined ? auto : format
  })
}

function mirror(): z.ZodType<NativeMirror> {
  const long = oneOf(
    object<Exclude<NativeMirror, string>>({
      cluster: name().optional(),
      clusterHeader: name().optional(),
      fraction: fraction().optional(),
      appendShadow: z.boolean().optional(),
      hostRewrite: name().optional(),
    }),
    ['cluster', 'clusterHeader'],
  )
  const short = name()
  return choose('the name of a cluster, or an object with cluster or clusterHeader', (value) =>
    typeof value === 'string' ? short : isObject(value) ? long : undefined,
  )
}

export function upgrade(): z.ZodType<NativeUpgrade> {
  const connect = object<NativeConnect>({
    allowPost: z.boolean().optional(),
    proxyProtocol: z.literal([1, 2]).optional(),
  })
  const long = object<Exclude<NativeUpgrade, string>>({
    type: name(),
    enabled: z.boolean(),
    connect: connect.optional(),
  })
  const short = name()
  return choose('a protocol such as "websocket", or an object with type and enabled', (value) =>
    typeof value === 'string' ? short : isObject(value) ? long : undefined,
  )
}

function forward(): z.ZodType<NativeForward> {
  return object<NativeForward>({
    kind: z.literal('route'),
    cluster: clusterChoice(),
    clusterNotFoundStatus: z.number().int().min(STATUS_MIN).max(STATUS_MAX).optional(),
    timeoutMs: ms().optional(),
    idleTimeoutMs: ms().optional(),
    maxStreamDurationMs: ms().optional(),
    grpcTimeoutMaxMs: ms().optional(),
    grpcTimeoutOffsetMs: ms().optional(),
    pathRewrite: pathRewrite().optional(),
    hostRewrite: hostRewrite().optional(),
    appendXForwardedHost: z.boolean().optional(),
    mirrors: z.array(mirror()).optional(),
    priority: z.enum(['default', 'high']).optional(),
    upgrades: z.array(upgrade()).optional(),
    metadataMatch: jsonObject().optional(),
    hashPolicies: z.array(hashPolicy()).optional(),
    rateLimits: rateLimits().optional(),
    bodyBufferLimitBytes: count().optional(),
    retry: retry().optional(),
    hedge: z.boolean().optional(),
    followRedirects: followRedirects().optional(),
  })
}

function followRedirects(): z.ZodType<boolean | NativeFollowRedirects> {
  const short = z.boolean()
  const safe = z.literal('safe')
  const long = object<NativeFollowRedirects>({
    max: count().optional(),
    statuses: z.array(redirectStatus()).min(1).optional(),
    crossScheme: choose<boolean | 'safe'>('true, false or "safe"', (value) =>
      value === 'safe' ? safe : short,
    ).optional(),
    headersToCopy: z.array(name()).optional(),
    routes: z.array(text()).optional(),
    newRoutesOnly: z.boolean().optional(),
    filterState: object<NonNullable<NativeFollowRedirects['filterState']>>({
      key: name(),
      ifAbsent: z.boolean().optional(),
    }).optional(),
  })
  return choose('true, false or an object', (value) =>
    typeof value === 'boolean' ? short : isObject(value) ? long : undefined,
  )
}

function redirectStatus(): z.ZodType<NonNullable<NativeRedirect['status']>> {
  return z.literal([301, 302, 303, 307, 308])
}

function redirect(): z.ZodType<NativeRedirect> {
  const schema = object<NativeRedirect>({
    kind: z.literal('redirect'),
    scheme: name().optional(),
    https: z.boolean().optional(),
    host: name().optional(),
    port: port().optional(),
    path: name().optional(),
    prefixRewrite: name().optional(),
    regexRewrite: regexRewrite().optional(),
    status: redirectStatus().optional(),
    stripQuery: z.boolean().optional(),
  })
  return oneOf(oneOf(schema, ['path', 'prefixRewrite', 'regexRewrite'], true), ['scheme', 'https'], true)
}

function action(): z.ZodType<NativeAction> {
  return byKind<NativeAction>({
    route: forward,
    redirect,
    direct: () =>
      object<NativeDirectResponse>({
        kind: z.literal('direct'),
        status: z.number().int().min(STATUS_MIN).max(STATUS_MAX),
        body: z.string().optional(),
        bodyFormat: format().optional(),
      }),
    none: () => object({ kind: z.literal('none') }),
  })
}

export function route(): z.ZodType<NativeRoute> {
  return object<NativeRoute>({
    name: z.string().optional(),
    match: routeMatch(),
    action: action(),
    requestHeaders: headerEdits().optional(),
    responseHeaders: headerEdits().optional(),
    filterConfigs: filterOverrides().optional(),
    metadata: metadata().optional(),
    statPrefix: name().optional(),
  })
}

export function virtualHost(): z.ZodType<NativeVirtualHost> {
  const schema = object<NativeVirtualHost>({
    name: name(),
    domains: z.array(name()).min(1),
    routes: z.array(route()).optional(),
    matcher: matcherTree(route).optional(),
    requireTls: z.enum(['none', 'external', 'all']).optional(),
    requestHeaders: headerEdits().optional(),
    responseHeaders: headerEdits().optional(),
    filterConfigs: filterOverrides().optional(),
    mirrors: z.array(mirror()).optional(),
    rateLimits: rateLimits().optional(),
    retry: retry().optional(),
    hedge: z.boolean().optional(),
    includeTimeoutRetry: z.boolean().optional(),
    includeAttemptCount: z.boolean().optional(),
    includeAttemptCountInResponse: z.boolean().optional(),
    metadata: metadata().optional(),
  })
  return oneOf(schema, ['routes', 'matcher'])
}

export function routeTable(): z.ZodType<NativeRouteTable> {
  return object<NativeRouteTable>({
    name: z.string().optional(),
    requestHeaders: headerEdits().optional(),
    responseHeaders: headerEdits().optional(),
    internalOnlyHeaders: z.array(name()).optional(),
    filterConfigs: filterOverrides().optional(),
    mirrors: z.array(mirror()).optional(),
    ignorePortInHostMatching: z.boolean().optional(),
    mostSpecificHeaderMutationsWins: z.boolean().optional(),
    validateClusters: z.boolean().optional(),
    maxDirectResponseBodyBytes: count().optional(),
    virtualHostHeader: name().optional(),
    metadata: metadata().optional(),
  })
}
