import { z } from 'zod'
import { isObject } from '../../../proto/describe.ts'
import { OUTLIER_KINDS } from '../../../upstream/outlier/config.ts'
import type { NativeHealthCheck, NativeHttpProbe, NativeOutlier } from '../health.ts'
import { stringMatch } from './matches.ts'
import { choose, count, dictionary, ms, name, object, oneOf, text } from './pieces.ts'

function percent(): z.ZodNumber {
  return z.number().int().min(0).max(100)
}

export function outlier(): z.ZodType<NativeOutlier> {
  const enforcing = Object.fromEntries(OUTLIER_KINDS.map((kind) => [kind, percent().optional()]))
  return object<NativeOutlier>({
    intervalMs: ms().min(1).optional(),
    baseEjectionTimeMs: ms().min(1).optional(),
    maxEjectionTimeMs: ms().min(1).optional(),
    maxEjectionTimeJitterMs: ms().optional(),
    maxEjectionPercent: percent().optional(),
    alwaysEjectOneHost: z.boolean().optional(),
    consecutive5xx: count().optional(),
    consecutiveGatewayFailure: count().optional(),
    consecutiveLocalOriginFailure: count().optional(),
    splitExternalLocalOriginErrors: z.boolean().optional(),
    detectDegradedHosts: z.boolean().optional(),
    successRateMinimumHosts: count().optional(),
    successRateRequestVolume: count().optional(),
    successRateStdevFactor: count().optional(),
    failurePercentageThreshold: percent().optional(),
    failurePercentageMinimumHosts: count().optional(),
    failurePercentageRequestVolume: count().optional(),
    enforcing: object<NonNullable<NativeOutlier['enforcing']>>(enforcing as never).optional(),
    uneject: z.boolean().optional(),
    eventLogPath: name().optional(),
    retryAfter: retryAfter().optional(),
  })
}

function retryAfter(): z.ZodType<NonNullable<NativeOutlier['retryAfter']>> {
  const long = object<Exclude<NonNullable<NativeOutlier['retryAfter']>, true>>({
    statuses: z
      .array(z.union([z.literal(429), z.literal(503)], { error: 'must be 429 or 503' }))
      .min(1)
      .optional(),
    maxMs: ms().min(1).optional(),
  })
  const on = z.literal(true)
  return choose('true, or an object', (value) => (isObject(value) ? long : on))
}

function status(): z.ZodNumber {
  return z.number().int().min(100).max(599)
}

function http(): z.ZodType<NativeHttpProbe> {
  const visible = z.string().regex(/^[\x21-\x7e]+$/, 'must consist of visible ASCII')
  const token = z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, 'must be a method')
  return object<NativeHttpProbe>({
    path: visible,
    protocol: z.enum(['http1', 'http2']).optional(),
    method: token.optional(),
    host: visible.optional(),
    userAgent: z
      .string()
      .regex(/^[\x20-\x7e]*$/, 'must consist of printable ASCII')
      .optional(),
    headers: dictionary(z.string().regex(/^[^\0\r\n]*$/, 'must not contain line breaks or NUL')).optional(),
    send: text().optional(),
    receive: z.array(name()).optional(),
    responseBufferBytes: count().optional(),
    expectedStatuses: z.array(status()).optional(),
    retriableStatuses: z.array(status()).optional(),
    serviceName: stringMatch().optional(),
  })
}

export function healthCheck(): z.ZodType<NativeHealthCheck> {
  const time = ms().min(1).optional()
  const schema = object<NativeHealthCheck>({
    http: http().optional(),
    grpc: object<NonNullable<NativeHealthCheck['grpc']>>({
      service: z.string().optional(),
      authority: name().optional(),
    }).optional(),
    tcp: object<NonNullable<NativeHealthCheck['tcp']>>({
      send: text().optional(),
      receive: z.array(name()).optional(),
      proxyProtocol: z.union([z.literal(1), z.literal(2)], { error: 'must be 1 or 2' }).optional(),
    }).optional(),
    redis: object<NonNullable<NativeHealthCheck['redis']>>({ key: name().optional() }).optional(),
    timeoutMs: time,
    intervalMs: time,
    intervalJitterMs: ms().optional(),
    intervalJitterPercent: count().optional(),
    initialJitterMs: ms().optional(),
    unhealthyThreshold: count(1).optional(),
    healthyThreshold: count(1).optional(),
    noTrafficIntervalMs: time,
    noTrafficHealthyIntervalMs: time,
    unhealthyIntervalMs: time,
    unhealthyEdgeIntervalMs: time,
    healthyEdgeIntervalMs: time,
    reuseConnection: z.boolean().optional(),
    eventLogPath: name().optional(),
    alwaysLogFailures: z.boolean().optional(),
    alwaysLogSuccess: z.boolean().optional(),
    alpn: z.array(name()).optional(),
    transport: name().optional(),
  })
  return oneOf(schema, ['http', 'grpc', 'tcp', 'redis'])
}
