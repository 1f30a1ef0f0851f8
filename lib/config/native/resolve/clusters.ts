import { isIP } from 'node:net'
import type { EndpointAddress } from '../../../core/address.ts'
import { indexPath } from '../../../proto/path.ts'
import type {
  AddressOrderConfig,
  ClusterConfig,
  DnsConfig,
  EndpointCheckConfig,
  EndpointConfig,
  LocalityConfig,
  LocalityEndpointsConfig,
  ThresholdsConfig,
} from '../../../upstream/config.ts'
import type {
  NativeAddress,
  NativeCluster,
  NativeEndpoint,
  NativeEndpointCheck,
  NativeInternalAddress,
  NativeLocality,
} from '../clusters.ts'
import { readAddress } from './addresses.ts'
import { readBalancer } from './balancers.ts'
import {
  FORWARD_MIN_REFRESH_MS,
  FORWARD_QUERY_MS,
  readAddressFilter,
  readClusterType,
  typeMistake,
} from './cluster-types.ts'
import { readHashPolicy } from './hash-policy.ts'
import { readHealthCheck, readOutlier } from './health.ts'
import { readHttp2 } from './http2.ts'
import { defined, type Reading } from './reading.ts'
import { readRetry } from './retries.ts'
import { checkTransportNames, labelled, readTransport, readTransports } from './transports.ts'

/** Types whose hosts have names. */
const NAMED: ReadonlySet<string> = new Set(['strict-dns', 'logical-dns', 'srv', 'dynamic-forward-proxy'])
const CONNECT_MS = 5_000
const IDLE_MS = 3_600_000
const BUFFER_BYTES = 32 * 1024
const RESPONSE_HEADER_BYTES = 60 * 1024
const RESPONSE_HEADERS = 100
const DNS_REFRESH_MS = 5_000
const ADDRESS_ORDER: AddressOrderConfig = Object.freeze({ firstFamily: 'given', firstFamilyCount: 1 })
const THRESHOLDS: ThresholdsConfig = Object.freeze({
  maxConnections: 1024,
  maxPendingRequests: 1024,
  maxRequests: 1024,
  maxRetries: 3,
})

export function readCluster(cluster: NativeCluster, path: string, reading: Reading): ClusterConfig {
  const parts = readClusterType(cluster, path, reading)
  const wrong = typeMistake(cluster, parts)
  if (wrong !== undefined) reading.findings.error(`${path}.type`, wrong)
  const localities = parts === undefined ? readLocalities(cluster, path, reading) : []
  checkTransportNames(cluster, path, reading)
  const listed = wrong === undefined ? cluster.type : undefined
  const type = parts?.type ?? listed ?? (localities.some(hasNames) ? 'strict-dns' : 'static')
  const { keepalive, bindAddress, extraBindAddresses, addressOrder, metadata, protocol = 'http1' } = cluster
  return reading.origins.at(path, {
    name: cluster.name,
    statName: cluster.statName ?? cluster.name,
    ...parts,
    type,
    localities,
    ...(NAMED.has(type) || cluster.dns !== undefined ? { dns: readDns(cluster, path, reading) } : {}),
    balancer: readBalancer(cluster.balancer ?? 'peak-ewma'),
    connectTimeoutMs: cluster.connectTimeoutMs ?? CONNECT_MS,
    bufferLimitBytes: cluster.bufferLimitBytes ?? BUFFER_BYTES,
    thresholds: {
      default: { ...THRESHOLDS, ...defined(cluster.thresholds?.default ?? {}) },
      high: { ...THRESHOLDS, ...defined(cluster.thresholds?.high ?? {}) },
    },
    ...readOutlier(cluster.outlier ?? {}, `${path}.outlier`, reading),
    ...(cluster.healthCheck && { healthCheck: readHealthCheck(cluster.healthCheck, `${path}.healthCheck`, reading) }),
    ...(cluster.ignoreHealthOnRemoval && { ignoreHealthOnRemoval: true }),
    ...(cluster.closeOnHealthFailure && { closeOnHealthFailure: true }),
    ...(cluster.ignoreUnchecked && { ignoreUnchecked: true }),
    idleTimeoutMs: cluster.idleTimeoutMs ?? IDLE_MS,
    maxResponseHeaderBytes: cluster.maxResponseHeaderBytes ?? RESPONSE_HEADER_BYTES,
    maxResponseHeaders: cluster.maxResponseHeaders ?? RESPONSE_HEADERS,
    protocol,
    http1: {
      headerCase: cluster.http1?.headerCase ?? 'lower',
      enableTrailers: cluster.http1?.enableTrailers ?? false,
    },
    http2: readHttp2(cluster.http2),
    ...readTransport(cluster, path, reading),
    ...(cluster.transports && { transportMatches: readTransports(cluster.transports, `${path}.transports`, reading) }),
    preconnectRatio: cluster.preconnectRatio ?? 1,
    ...(cluster.localCluster && {
      localCluster: { name: cluster.localCluster.name, locality: fullLocality(cluster.localCluster.locality) },
    }),
    ...(cluster.assignmentPolicy && { assignmentPolicy: defined(cluster.assignmentPolicy) }),
    ...(cluster.wantedHealth && { wantedHealth: [...cluster.wantedHealth] }),
    ...(cluster.predictiveRatio !== undefined &&
      cluster.predictiveRatio > 1 && { predictiveRatio: cluster.predictiveRatio }),
    ...defined({
      panicThreshold: cluster.panicThreshold,
      maxConnectionsPerHost: cluster.maxConnectionsPerHost,
      maxRequestsPerConnection: cluster.maxRequestsPerConnection,
      maxConnectionDurationMs: cluster.maxConnectionDurationMs,
      maxStreamDurationMs: cluster.maxStreamDurationMs,
    }),
    ...(cluster.hashPolicies && { hashPolicies: cluster.hashPolicies.map(readHashPolicy) }),
    ...(cluster.retryPolicy && { retryPolicy: readRetry(cluster.retryPolicy, `${path}.retryPolicy`, reading) }),
    ...(keepalive && { keepalive: defined(keepalive) }),
    ...(bindAddress !== undefined && { bindAddress }),
    ...(extraBindAddresses && { extraBindAddresses: [...extraBindAddresses] }),
    ...(addressOrder && { addressOrder: { ...ADDRESS_ORDER, ...defined(addressOrder) } }),
    ...(metadata && { metadata: structuredClone(metadata) }),
  })
}

function readLocalities(cluster: NativeCluster, path: string, reading: Reading): LocalityEndpointsConfig[] {
  if (cluster.localities === undefined) {
    return [reading.origins.at(path, readLocality({ endpoints: cluster.endpoints ?? [] }, path, reading))]
  }
  return cluster.localities.map((locality, i) => {
    const at = indexPath(`${path}.localities`, i)
    return reading.origins.at(at, readLocality(locality, at, reading))
  })
}

function readLocality(group: NativeLocality, path: string, reading: Reading): LocalityEndpointsConfig {
  const endpoints = group.endpoints
    .map((endpoint, i) => readEndpoint(endpoint, indexPath(`${path}.endpoints`, i), reading))
    .filter((endpoint) => endpoint !== undefined)
  return {
    ...(group.locality && { locality: fullLocality(group.locality) }),
    priority: group.priority ?? 0,
    ...(group.weight !== undefined && { weight: group.weight }),
    endpoints,
  }
}

export function fullLocality({ region = '', zone = '', subZone = '' }: Partial<LocalityConfig>): LocalityConfig {
  return { region, zone, subZone }
}

function readEndpoint(value: NativeEndpoint, path: string, reading: Reading): EndpointConfig | undefined {
  if (typeof value === 'string') {
    const address = readAddress(value, path, reading)
    return address && reading.origins.whole<EndpointConfig>(path, { address, weight: 1, health: 'healthy' })
  }
  const address = readEndpointAddress(value.address, `${path}.address`, reading)
  if (address === undefined) return undefined
  const { transport, additionalAddresses } = value
  const metadata = value.metadata && structuredClone(value.metadata)
  const told = transport === undefined ? metadata : labelled(metadata, transport)
  const more = additionalAddresses?.map((entry, i) =>
    readAddress(entry, indexPath(`${path}.additionalAddresses`, i), reading),
  )
  return reading.origins.at(path, {
    address,
    ...(value.hostname !== undefined && { hostname: value.hostname }),
    weight: value.weight ?? 1,
    health: value.health ?? 'healthy',
    ...(told && { metadata: told }),
    ...(value.check && { check: readCheck(value.check, `${path}.check`, reading) }),
    ...(more && { additionalAddresses: more.filter((entry) => entry !== undefined) }),
  })
}

function readCheck(check: NativeEndpointCheck, path: string, reading: Reading): EndpointCheckConfig {
  const { port = 0, hostname = '', disabled = false } = check
  const address = check.address && readAddress(check.address, `${path}.address`, reading)
  return reading.origins.at(path, { ...(address && { address }), port, hostname, disabled })
}

function readEndpointAddress(
  value: NativeAddress | NativeInternalAddress,
  path: string,
  reading: Reading,
): EndpointAddress | undefined {
  if (typeof value === 'string' || !('listener' in value)) return readAddress(value, path, reading)
  return reading.origins.at<EndpointAddress>(path, { kind: 'internal', ...defined(value) })
}

function hasNames({ endpoints }: LocalityEndpointsConfig): boolean {
  return endpoints.some(({ address }) => address.kind === 'ip' && isIP(address.host) === 0)
}

function readDns(cluster: NativeCluster, path: string, reading: Reading): DnsConfig {
  const { dns = {}, forwardProxy } = cluster
  const refreshMs = dns.refreshMs ?? DNS_REFRESH_MS
  const failureRefreshMs = dns.failureRefreshMs ?? refreshMs
  const queryTimeoutMs = dns.queryTimeoutMs ?? (forwardProxy && FORWARD_QUERY_MS)
  const addresses = readAddressFilter(cluster, path, reading)
  return {
    refreshMs,
    failureRefreshMs,
    failureRefreshMaxMs: dns.failureRefreshMaxMs ?? failureRefreshMs * 10,
    jitterMs: dns.jitterMs ?? 0,
    respectTtl: dns.respectTtl ?? true,
    ...(forwardProxy && { minRefreshMs: FORWARD_MIN_REFRESH_MS }),
    family: dns.family ?? 'auto',
    resolvers: dns.resolvers ?? [],
    ...((dns.tcp || dns.rotate) && { asking: { ...(dns.tcp && { tcp: true }), ...(dns.rotate && { rotate: true }) } }),
    ...(queryTimeoutMs !== undefined && { queryTimeoutMs }),
    ...(addresses && { addresses }),
  }
}
