import type {
  HealthCheckConfig,
  HttpProbeConfig,
  OutlierConfig,
  ProbeConfig,
  StatusRange,
  TcpProbeConfig,
} from '../../../upstream/config.ts'
import { EDGE_OUTLIER } from '../../defaults.ts'
import type { NativeHealthCheck, NativeHttpProbe, NativeOutlier } from '../health.ts'
import { readStringMatch } from './matches.ts'
import { defined, type Reading } from './reading.ts'

const TIMEOUT_MS = 1_000
const INTERVAL_MS = 10_000
const UNHEALTHY_THRESHOLD = 3
const HEALTHY_THRESHOLD = 2
const RESPONSE_BYTES = 1024
const USER_AGENT = 'headgate-health-check'

/** On unless it is switched off: five failures in a row eject. */
export function readOutlier(value: NativeOutlier | false, path: string, reading: Reading): { outlier?: OutlierConfig } {
  if (value === false) return {}
  const { enforcing, retryAfter, ...rest } = value
  const base = value.baseEjectionTimeMs ?? EDGE_OUTLIER.baseEjectionTimeMs
  const outlier: OutlierConfig = {
    ...EDGE_OUTLIER,
    maxEjectionTimeMs: Math.max(EDGE_OUTLIER.maxEjectionTimeMs, base),
    ...defined(rest),
    enforcing: { ...EDGE_OUTLIER.enforcing, ...defined(enforcing ?? {}) },
  }
  const maxMs = outlier.maxEjectionTimeMs
  if (outlier.maxEjectionTimeMs < base) {
    reading.findings.error(`${path}.maxEjectionTimeMs`, 'must not be less than baseEjectionTimeMs')
  }
  if (retryAfter === undefined) return { outlier }
  const asked = { statuses: [429, 503], maxMs, ...(retryAfter === true ? {} : defined(retryAfter)) }
  return { outlier: { ...outlier, retryAfter: { ...asked, statuses: [...asked.statuses] } } }
}

export function readHealthCheck(check: NativeHealthCheck, path: string, reading: Reading): HealthCheckConfig {
  const { http, grpc, tcp, redis, eventLogPath, transport, ...rest } = check
  const intervalMs = check.intervalMs ?? INTERVAL_MS
  const noTrafficIntervalMs = check.noTrafficIntervalMs ?? intervalMs
  const unhealthyIntervalMs = check.unhealthyIntervalMs ?? intervalMs
  const { alpn, ...numbers } = rest
  return reading.origins.at(path, {
    timeoutMs: TIMEOUT_MS,
    intervalJitterMs: 0,
    intervalJitterPercent: 0,
    initialJitterMs: 0,
    unhealthyThreshold: UNHEALTHY_THRESHOLD,
    healthyThreshold: HEALTHY_THRESHOLD,
    noTrafficHealthyIntervalMs: noTrafficIntervalMs,
    unhealthyEdgeIntervalMs: unhealthyIntervalMs,
    healthyEdgeIntervalMs: intervalMs,
    reuseConnection: true,
    alwaysLogFailures: false,
    alwaysLogSuccess: false,
    ...defined(numbers),
    intervalMs,
    noTrafficIntervalMs,
    unhealthyIntervalMs,
    eventLogPaths: eventLogPath === undefined ? [] : [eventLogPath],
    ...(alpn && { alpn: [...alpn] }),
    ...(transport !== undefined && { transportLabels: { transport } }),
    probe: readProbe({ http, grpc, tcp, redis }, path, reading),
  })
}

function readProbe(
  { http, grpc, tcp, redis }: Pick<NativeHealthCheck, 'http' | 'grpc' | 'tcp' | 'redis'>,
  path: string,
  reading: Reading,
): ProbeConfig {
  if (http !== undefined) return readHttp(http, `${path}.http`, reading)
  if (grpc !== undefined)
    return { kind: 'grpc', service: grpc.service ?? '', authority: grpc.authority ?? '', metadata: [] }
  if (redis !== undefined) return { kind: 'redis', key: redis.key ?? '' }
  const { send, receive = [], proxyProtocol } = tcp ?? {}
  const probe: TcpProbeConfig = { kind: 'tcp', receive: receive.map(base64), ...(proxyProtocol && { proxyProtocol }) }
  return send === undefined ? probe : { ...probe, send: base64(send) }
}

function readHttp(http: NativeHttpProbe, path: string, reading: Reading): HttpProbeConfig {
  const { send, serviceName } = http
  return {
    kind: 'http',
    protocol: http.protocol ?? 'http1',
    method: http.method ?? 'GET',
    path: http.path,
    host: http.host ?? '',
    headers: Object.entries(http.headers ?? {}).flatMap(([name, value]) => [
      headerName(name, `${path}.headers`, reading),
      value,
    ]),
    removedHeaders: [],
    userAgent: http.userAgent ?? USER_AGENT,
    ...(send !== undefined && { send: base64(send) }),
    receive: (http.receive ?? []).map(base64),
    responseBufferBytes: http.responseBufferBytes ?? RESPONSE_BYTES,
    expectedStatuses: statuses(http.expectedStatuses),
    retriableStatuses: statuses(http.retriableStatuses),
    ...(serviceName !== undefined && { serviceName: readStringMatch(serviceName, `${path}.serviceName`, reading) }),
  }
}

function headerName(name: string, path: string, { findings }: Reading): string {
  const lower = name.toLowerCase()
  if (lower === 'host' || !/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(lower)) {
    findings.error(path, `"${name}" is not a header that checks may have`)
  }
  return lower
}

function statuses(list: readonly number[] | undefined): StatusRange[] {
  return (list ?? []).map((status) => ({ start: status, end: status + 1 }))
}

function base64(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64')
}
