import { z } from 'zod'
import { isObject } from '../../../proto/describe.ts'
import type {
  AssignmentPolicyConfig,
  LocalityConfig,
  RetryBudgetConfig,
  ThresholdsConfig,
} from '../../../upstream/config.ts'
import type {
  NativeAddress,
  NativeCluster,
  NativeDns,
  NativeEndpoint,
  NativeEndpointCheck,
  NativeInternalAddress,
  NativeLocality,
} from '../clusters.ts'
import type { NativeTransport } from '../transports.ts'
import { balancer } from './balancers.ts'
import { forwardProxy, originalDst } from './cluster-types.ts'
import { hashPolicy } from './hash-policy.ts'
import { healthCheck, outlier } from './health.ts'
import { http2 } from './http2.ts'
import { metadata } from './matches.ts'
import { byKind, choose, count, dictionary, ms, name, object, oneOf, port } from './pieces.ts'
import { retry } from './retries.ts'
import { keepalive, transportFields } from './transports.ts'

export function address(): z.ZodType<NativeAddress> {
  const mode = z.number().int().min(0).max(0o777).optional()
  const ip = object<{ host: string; port: number }>({ host: name(), port: port() })
  const pipe = object<{ path: string; mode?: number }>({ path: name(), mode })
  const long = byKind<NativeAddress>({
    ip: () => object({ kind: z.literal('ip'), host: name(), port: port() }),
    pipe: () => object({ kind: z.literal('pipe'), path: name(), mode }),
  })
  const short = z.string()
  return choose('an address such as "127.0.0.1:8080"', (value) => {
    if (typeof value === 'string') return short
    if (!isObject(value)) return undefined
    if (value.kind !== undefined) return long
    return value.path === undefined ? ip : pipe
  })
}

function endpointAddress(): z.ZodType<NativeAddress | NativeInternalAddress> {
  const socket = address()
  const internal = object<NativeInternalAddress>({ listener: name(), endpointId: name().optional() })
  return choose('an address such as "127.0.0.1:8080"', (value) =>
    isObject(value) && 'listener' in value && value.kind === undefined ? internal : socket,
  )
}

function endpoint(): z.ZodType<NativeEndpoint> {
  const long = object<Exclude<NativeEndpoint, string>>({
    address: endpointAddress(),
    additionalAddresses: z.array(address()).optional(),
    transport: name().optional(),
    hostname: name().optional(),
    weight: count(1).optional(),
    health: z.enum(['healthy', 'unhealthy', 'degraded', 'draining', 'timeout']).optional(),
    metadata: metadata().optional(),
    check: object<NativeEndpointCheck>({
      address: address().optional(),
      port: port().optional(),
      hostname: name().optional(),
      disabled: z.boolean().optional(),
    }).optional(),
  })
  const short = z.string()
  return choose('an endpoint: an address, or an object with address', (value) =>
    typeof value === 'string' ? short : isObject(value) ? long : undefined,
  )
}

export function locality(): z.ZodType<Partial<LocalityConfig>> {
  const field = z.string().optional()
  return object<Partial<LocalityConfig>>({ region: field, zone: field, subZone: field })
}

function localityEndpoints(): z.ZodType<NativeLocality> {
  return object<NativeLocality>({
    locality: locality().optional(),
    priority: count().optional(),
    weight: count().optional(),
    endpoints: z.array(endpoint()),
  })
}

function dns(): z.ZodType<NativeDns> {
  return object<NativeDns>({
    refreshMs: ms().optional(),
    failureRefreshMs: ms().optional(),
    failureRefreshMaxMs: ms().optional(),
    jitterMs: ms().optional(),
    respectTtl: z.boolean().optional(),
    family: z.enum(['auto', 'v4-only', 'v6-only', 'v4-preferred', 'all']).optional(),
    resolvers: z.array(name()).optional(),
    tcp: z.boolean().optional(),
    rotate: z.boolean().optional(),
    queryTimeoutMs: ms().min(1).optional(),
  })
}

function thresholds(): z.ZodType<Partial<ThresholdsConfig>> {
  const limit = count().optional()
  return object<Partial<ThresholdsConfig>>({
    maxConnections: limit,
    maxPendingRequests: limit,
    maxRequests: limit,
    maxRetries: limit,
    retryBudget: object<RetryBudgetConfig>({
      percent: z.number().min(0).max(100),
      minConcurrency: count(),
      intervalMs: count(1).optional(),
    }).optional(),
    maxConnectionPools: limit,
    trackRemaining: z.boolean().optional(),
  })
}

function outlierOrOff(): z.ZodType<NonNullable<NativeCluster['outlier']>> {
  const [off, on] = [z.literal(false), outlier()]
  return choose('outlier detection, or false', (value) => (isObject(value) ? on : off))
}

export function cluster(): z.ZodType<NativeCluster> {
  const schema = object<NativeCluster>({
    name: name(),
    statName: name().optional(),
    type: z
      .enum([
        'static',
        'strict-dns',
        'logical-dns',
        'srv',
        'aggregate',
        'composite',
        'dynamic-forward-proxy',
        'original-dst',
      ])
      .optional(),
    endpoints: z.array(endpoint()).optional(),
    localities: z.array(localityEndpoints()).optional(),
    service: name().optional(),
    members: z.array(name()).min(1).optional(),
    forwardProxy: forwardProxy().optional(),
    originalDst: originalDst().optional(),
    dns: dns().optional(),
    balancer: balancer().optional(),
    panicThreshold: z.number().min(0).max(100).optional(),
    wantedHealth: z.array(z.enum(['healthy', 'unhealthy', 'degraded', 'draining', 'timeout'])).optional(),
    localCluster: object<NonNullable<NativeCluster['localCluster']>>({ name: name(), locality: locality() }).optional(),
    assignmentPolicy: object<AssignmentPolicyConfig>({
      overprovisioningFactor: count(1).optional(),
      weightedPriorityHealth: z.literal(true).optional(),
      dropOverload: z.number().min(0).max(1).optional(),
      dropCategory: z.string().optional(),
    }).optional(),
    outlier: outlierOrOff().optional(),
    healthCheck: healthCheck().optional(),
    ignoreHealthOnRemoval: z.boolean().optional(),
    closeOnHealthFailure: z.boolean().optional(),
    ignoreUnchecked: z.boolean().optional(),
    connectTimeoutMs: ms().optional(),
    bufferLimitBytes: count(1).optional(),
    thresholds: object<NonNullable<NativeCluster['thresholds']>>({
      default: thresholds().optional(),
      high: thresholds().optional(),
    }).optional(),
    retryPolicy: retry().optional(),
    hashPolicies: z.array(hashPolicy()).optional(),
    maxConnectionsPerHost: count(1).optional(),
    maxRequestsPerConnection: count(1).optional(),
    idleTimeoutMs: ms().optional(),
    maxConnectionDurationMs: ms().optional(),
    maxStreamDurationMs: ms().optional(),
    maxResponseHeaderBytes: count(1).optional(),
    maxResponseHeaders: count(1).optional(),
    http1: object<NonNullable<NativeCluster['http1']>>({
      headerCase: z.enum(['lower', 'proper', 'preserve']).optional(),
      enableTrailers: z.boolean().optional(),
    }).optional(),
    protocol: z.enum(['http1', 'http2', 'auto', 'downstream']).optional(),
    http2: http2().optional(),
    ...transportFields(address()),
    transports: dictionary(object<NativeTransport>(transportFields(address()))).optional(),
    preconnectRatio: z.number().min(1).max(3).optional(),
    predictiveRatio: z.number().min(1).max(3).optional(),
    keepalive: keepalive().optional(),
    bindAddress: name().optional(),
    extraBindAddresses: z.array(name()).optional(),
    addressOrder: object<NonNullable<NativeCluster['addressOrder']>>({
      firstFamily: z.enum(['given', 'v4', 'v6']).optional(),
      firstFamilyCount: count(1).optional(),
    }).optional(),
    metadata: metadata().optional(),
  })
  return oneOf(schema, ['endpoints', 'localities', 'service', 'members', 'forwardProxy', 'originalDst'])
}
