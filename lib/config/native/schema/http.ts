import { z } from 'zod'
import type { HttpFilter } from '../../../chain/filter.ts'
import type { AnyFilterFactory } from '../../../chain/registry.ts'
import { isObject } from '../../../proto/describe.ts'
import { isFactory, isFactoryLike } from '../factories.ts'
import type {
  NativeClientCertificate,
  NativeClientCertificateHeader,
  NativeFactoryFilter,
  NativeFilter,
  NativeFilterObject,
  NativeHeaderMutation,
  NativeHttp,
  NativeKnownFilter,
  NativeLocalReplyMapper,
  NativeOriginalIpDetection,
} from '../http.ts'
import { http2 } from './http2.ts'
import { accessLog, format, logFilter } from './logs.ts'
import { cidr, matcherTree, stringMatch } from './matches.ts'
import { byKind, choose, count, jsonObject, ms, name, object, oneOf, type Shape, text } from './pieces.ts'
import { headerValue, route, routeTable, upgrade, virtualHost } from './routes.ts'

/** What makes an object a filter: one of these, `createState` aside. */
const HOOKS: readonly string[] = Object.freeze([
  'onRequestHeaders',
  'onRequestData',
  'onRequestTrailers',
  'onInformational',
  'onResponseHeaders',
  'onResponseData',
  'onResponseTrailers',
  'onEnd',
])

const STATUS_MIN = 200
const STATUS_MAX = 599

function filterObject(): z.ZodType<HttpFilter<unknown>> {
  return z.unknown().check((context) => {
    const { value } = context
    if (isObject(value) && HOOKS.some((hook) => typeof value[hook] === 'function')) return
    const message = value === undefined ? 'is required' : `has none of the hooks of a filter: ${HOOKS.join(', ')}`
    context.issues.push({ code: 'custom', input: value, message })
  }) as unknown as z.ZodType<HttpFilter<unknown>>
}

function factory(): z.ZodType<AnyFilterFactory> {
  const message = 'must be a filter factory: an object with name, typeUrls, parse() and compile()'
  return z.unknown().refine(isFactory, message) as unknown as z.ZodType<AnyFilterFactory>
}

function filter(): z.ZodType<NativeFilter> {
  const disabled = z.boolean().optional()
  const known = object<NativeKnownFilter>({
    name: name(),
    type: name().optional(),
    config: jsonObject().optional(),
    disabled,
  })
  const ready = object<NativeFilterObject>({ name: name(), filter: filterObject(), disabled })
  const made = object<NativeFactoryFilter>({
    factory: factory(),
    name: name().optional(),
    config: jsonObject().optional(),
    disabled,
  })
  const bare = factory()
  return choose('a filter: an object with name, and config or filter; or a factory', (value) => {
    if (isFactoryLike(value)) return bare
    if (!isObject(value)) return undefined
    if (value.factory !== undefined) return made
    return value.filter === undefined ? known : ready
  })
}

function headerMutation(): z.ZodType<NativeHeaderMutation> {
  const schema = object<NativeHeaderMutation>({
    remove: name().optional(),
    append: headerValue().optional(),
    removeOnMatch: stringMatch().optional(),
  })
  return oneOf(schema, ['remove', 'append', 'removeOnMatch'])
}

function status(): z.ZodType<number> {
  return z.number().int().min(STATUS_MIN).max(STATUS_MAX)
}

function originalIpDetection(): z.ZodType<NativeOriginalIpDetection> {
  type Xff = Extract<NativeOriginalIpDetection, { kind: 'xff' }>
  const xff = object<Xff>({
    kind: z.literal('xff'),
    trustedHops: count().optional(),
    trustedCidrs: z.array(cidr()).optional(),
    skipAppend: z.boolean().optional(),
  })
  return byKind<NativeOriginalIpDetection>({
    xff: () => oneOf(xff, ['trustedHops', 'trustedCidrs'], true),
    'custom-header': () =>
      object({
        kind: z.literal('custom-header'),
        header: name(),
        trusted: z.boolean().optional(),
        rejectStatus: z.number().int().min(400).max(STATUS_MAX).optional(),
      }),
  })
}

function localReply(): z.ZodType<NonNullable<NativeHttp['localReply']>> {
  const mapper = object<NativeLocalReplyMapper>({
    filter: logFilter(),
    status: status().optional(),
    body: z.string().optional(),
    bodyFormat: format().optional(),
    headers: z.array(headerValue()).optional(),
  })
  return object<NonNullable<NativeHttp['localReply']>>({
    mappers: z.array(mapper).optional(),
    bodyFormat: format().optional(),
  })
}

function http1(): z.ZodType<NonNullable<NativeHttp['http1']>> {
  return object<NonNullable<NativeHttp['http1']>>({
    acceptHttp10: z.boolean().optional(),
    defaultHostForHttp10: z.string().optional(),
    enableTrailers: z.boolean().optional(),
    headerCase: z.enum(['lower', 'proper', 'preserve']).optional(),
    allowAbsoluteUrl: z.boolean().optional(),
  })
}

function clientCertificateHeader(): z.ZodType<NativeClientCertificateHeader> {
  const action = (): z.ZodType<NativeClientCertificate> => object<NativeClientCertificate>(clientCertificate())
  return object<NativeClientCertificateHeader>({ ...clientCertificate(), byRequest: matcherTree(action).optional() })
}

function clientCertificate(): Shape<NativeClientCertificate> {
  return {
    mode: z.enum(['sanitize', 'forward-only', 'append-forward', 'sanitize-set', 'always-forward-only']),
    fields: z.array(z.enum(['cert', 'chain', 'subject', 'issuer', 'uri', 'dns'])).optional(),
    format: z.enum(['text', 'json']).optional(),
  }
}

export function http(): z.ZodType<NativeHttp> {
  const flag = z.boolean().optional()
  const time = ms().optional()
  const schema = object<NativeHttp>({
    statPrefix: name().optional(),
    codec: z.enum(['auto', 'http1', 'http2']).optional(),
    routes: z.array(route()).optional(),
    virtualHosts: z.array(virtualHost()).optional(),
    routeTable: routeTable().optional(),
    filters: z.array(filter()).optional(),
    accessLogs: z.array(accessLog()).optional(),
    upgrades: z.array(upgrade()).optional(),
    localReply: localReply().optional(),
    serverName: name().optional(),
    serverHeader: z.enum(['overwrite', 'append-if-absent', 'pass-through']).optional(),
    via: text().optional(),
    addUserAgent: flag,
    generateRequestId: flag,
    preserveExternalRequestId: flag,
    requestIdInResponse: flag,
    earlyHeaderMutations: z.array(headerMutation()).optional(),
    schemeOverwrite: z.enum(['http', 'https']).optional(),
    useRemoteAddress: flag,
    xffTrustedHops: count().optional(),
    skipXffAppend: flag,
    appendXForwardedPort: flag,
    originalIpDetection: z.array(originalIpDetection()).optional(),
    internalCidrs: z.array(cidr()).optional(),
    internalUnixSockets: flag,
    clientCertificateHeader: clientCertificateHeader().optional(),
    misdirected: z.enum(['refuse', 'serve']).optional(),
    normalizePath: flag,
    mergeSlashes: flag,
    escapedSlashes: z.enum(['keep', 'reject', 'redirect', 'forward']).optional(),
    stripPort: z.enum(['none', 'matching', 'any']).optional(),
    stripTrailingHostDot: flag,
    underscores: z.enum(['allow', 'reject', 'drop']).optional(),
    proxy100Continue: flag,
    idleTimeoutMs: time,
    requestTimeoutMs: time,
    requestHeadersTimeoutMs: time,
    streamIdleTimeoutMs: time,
    maxStreamDurationMs: time,
    maxConnectionDurationMs: time,
    drainTimeoutMs: time,
    delayedCloseTimeoutMs: time,
    maxRequestsPerConnection: count().optional(),
    maxRequestHeaderBytes: count(1).optional(),
    maxRequestHeaders: count(1).optional(),
    maxRequestLineBytes: count(1).optional(),
    http1: http1().optional(),
    http2: http2().optional(),
  })
  return oneOf(schema, ['routes', 'virtualHosts'])
}
