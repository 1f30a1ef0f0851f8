import { z } from 'zod'
import { isObject } from '../../../proto/describe.ts'
import type { KeepaliveConfig, ListenerFilterConditionConfig } from '../../listener.ts'
import type { NativeAddress } from '../clusters.ts'
import { isFactory, isFactoryLike } from '../factories.ts'
import type {
  NativeFilterChain,
  NativeFilterChainMatch,
  NativeKnownLowerFilter,
  NativeListener,
  NativeListenerFilter,
  NativeNetworkFilter,
} from '../listeners.ts'
import { address } from './clusters.ts'
import { http } from './http.ts'
import { accessLog } from './logs.ts'
import { cidr, matcherTree, metadata } from './matches.ts'
import { byKind, choose, count, jsonObject, ms, name, object, port, type Shape } from './pieces.ts'
import { downstreamTls } from './tls.ts'

/** What the short form of one filter chain is made of. */
const SHORT: readonly (keyof NativeListener)[] = Object.freeze(['http', 'networkFilters', 'tls'])
const LONG: readonly (keyof NativeListener)[] = Object.freeze(['filterChains', 'defaultFilterChain', 'chainMatcher'])

export function listener(): z.ZodType<NativeListener> {
  const single = address()
  const several = z.array(single).min(1)
  const chain = filterChain()
  const { match: _, ...withoutMatch } = chainShape()
  const schema = object<NativeListener>({
    name: name().optional(),
    address: choose<NativeAddress | readonly NativeAddress[]>('an address such as "127.0.0.1:8080"', (value) =>
      value === undefined ? undefined : Array.isArray(value) ? several : single,
    ).optional(),
    internal: z.boolean().optional(),
    http: http().optional(),
    networkFilters: z.array(networkFilter()).optional(),
    tls: downstreamTls().optional(),
    filterChains: z.array(chain).optional(),
    defaultFilterChain: object<Omit<NativeFilterChain, 'match'>>(withoutMatch).optional(),
    chainMatcher: matcherTree(name).optional(),
    listenerFilters: z.array(listenerFilter()).optional(),
    listenerFiltersTimeoutMs: ms().optional(),
    continueOnListenerFiltersTimeout: z.boolean().optional(),
    statPrefix: name().optional(),
    maxConnections: count(1).optional(),
    maxConnectionsPerSource: count(1).optional(),
    ignoreGlobalLimit: z.boolean().optional(),
    bypassOverload: z.boolean().optional(),
    bufferLimitBytes: count(1).optional(),
    backlog: count(1).optional(),
    keepalive: keepalive().optional(),
    trafficDirection: z.enum(['inbound', 'outbound']).optional(),
    drainType: z.enum(['default', 'modify-only']).optional(),
    accessLogs: z.array(accessLog()).optional(),
    metadata: metadata().optional(),
  })
  return schema.check((context) => {
    const value: unknown = context.value
    if (isObject(value)) for (const problem of formProblems(value)) context.issues.push(problem)
  })
}

/** Fields that need, or exclude, each other. */
function formProblems(value: { readonly [field: string]: unknown }): z.core.$ZodRawIssue[] {
  const problems: z.core.$ZodRawIssue[] = []
  const complain = (path: readonly string[], message: string): void =>
    void problems.push({ code: 'custom', input: value, message, path: [...path] })
  const set = (fields: readonly string[]): string[] => fields.filter((field) => value[field] !== undefined)
  const internal = value.internal === true
  if (internal && value.address !== undefined) complain(['address'], 'an internal listener has no address')
  if (!internal && value.address === undefined) complain(['address'], 'is required')
  if (internal && value.name === undefined) complain(['name'], 'is required: internal listeners are reached by name')
  const long = set(LONG)
  for (const field of long.length > 0 ? set(SHORT) : []) complain([field], `excludes ${long.join(' and ')}`)
  if (long.length === 0 && set(['http', 'networkFilters']).length === 0) {
    complain([], 'one of http, networkFilters, filterChains and defaultFilterChain is required')
  }
  return problems
}

function chainShape(): Shape<NativeFilterChain> {
  return {
    name: name().optional(),
    match: chainMatch().optional(),
    tls: downstreamTls().optional(),
    networkFilters: z.array(networkFilter()).optional(),
    http: http().optional(),
  }
}

function filterChain(): z.ZodType<NativeFilterChain> {
  return object<NativeFilterChain>(chainShape())
}

function chainMatch(): z.ZodType<NativeFilterChainMatch> {
  const ranges = z.array(cidr()).optional()
  const ports = count(1).max(65_535)
  return object<NativeFilterChainMatch>({
    destinationPort: ports.optional(),
    destinations: ranges,
    serverNames: z.array(name()).optional(),
    transportProtocol: z.enum(['raw_buffer', 'tls']).optional(),
    applicationProtocols: z.array(name()).optional(),
    directSources: ranges,
    sourceType: z.enum(['any', 'same-ip-or-loopback', 'external']).optional(),
    sources: ranges,
    sourcePorts: z.array(ports).optional(),
  })
}

function networkFilter(): z.ZodType<NativeNetworkFilter> {
  return lowerFilter({})
}

function listenerFilter(): z.ZodType<NativeListenerFilter> {
  return lowerFilter({ disabledFor: condition().optional() })
}

/** `more`: fields that all forms have. */
function lowerFilter<F>(more: { readonly [field: string]: z.ZodType }): z.ZodType<F> {
  const config = jsonObject().optional()
  const known = object<NativeKnownLowerFilter>({ name: name(), type: name().optional(), config, ...more })
  const message = 'must be a filter factory: an object with name, typeUrls, parse() and compile()'
  const factory = z.unknown().refine(isFactory, message)
  const made = object({ factory, name: name().optional(), config, ...more })
  return choose('a filter: an object with name and config; or a factory', (value) => {
    if (isFactoryLike(value)) return factory
    if (!isObject(value)) return undefined
    return value.factory === undefined ? known : made
  })
}

function condition(): z.ZodType<ListenerFilterConditionConfig> {
  const several = (): z.ZodType => object({ kind: z.enum(['and', 'or']), of: z.array(condition()).min(1) })
  return byKind<ListenerFilterConditionConfig>({
    any: () => object({ kind: z.literal('any') }),
    'destination-ports': () =>
      object({ kind: z.literal('destination-ports'), start: port(), end: count(1).max(65_536) }),
    not: () => object({ kind: z.literal('not'), of: condition() }),
    and: several,
    or: several,
  })
}

function keepalive(): z.ZodType<KeepaliveConfig> {
  return object<KeepaliveConfig>({
    idleS: count(1).optional(),
    intervalS: count(1).optional(),
    probes: count(1).optional(),
  })
}
