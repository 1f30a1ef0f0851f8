import { formatAddress } from '../../../core/address.ts'
import { ENVOY_HTTP2, type Http2Config } from '../../../http2/config.ts'
import { indexPath, keyPath } from '../../../proto/path.ts'
import type { HboneTargetConfig, RouteConfig, RouteTableConfig } from '../../../router/config.ts'
import { hostProblem } from '../../../router/hbone-targets.ts'
import { type MeshMaterial, meshClientTls, meshServerTls, TRUST_DOMAIN } from '../../../tls/mesh.ts'
import type { ClusterConfig, HboneLayerConfig } from '../../../upstream/config.ts'
import { checkIdentities, tunnelFields } from '../../../upstream/hbone/fields.ts'
import type { ListenerConfig } from '../../listener.ts'
import type { NativeHbone, NativeHboneServer, NativeHboneTarget, NativeMeshIdentity } from '../hbone.ts'
import { readAddress, readCidr } from './addresses.ts'
import { readCluster } from './clusters.ts'
import { readHttp } from './http.ts'
import type { Reading } from './reading.ts'
import { readCertificate, readPem } from './tls.ts'

const HBONE_PORT = 15_008
const KIB = 1024
const MIB = 1024 * KIB
const HEADER_BYTES = 64 * KIB
const BUFFER_BYTES = 400 * KIB
const BACKLOG = 65_535
const MAX_CONNECTIONS = 10_000
/** Tunnels carry pooled connections, which may rest for as long. */
const IDLE_MS = 3_600_000

/** Streams, windows, frames and PINGs as Istio's proxies have them. */
const SERVER_HTTP2: Http2Config = Object.freeze({
  ...ENVOY_HTTP2,
  maxConcurrentStreams: 200,
  initialStreamWindowBytes: 4 * MIB,
  initialConnectionWindowBytes: 16 * MIB,
  maxFrameBytes: MIB,
  allowConnect: true,
  streamErrorOnInvalidMessage: true,
  keepalive: { intervalMs: 10_000, timeoutMs: 20_000, jitterPercent: 0, idleIntervalMs: 0 },
})

/** What an HBONE server comes to: a listener, and a cluster for each internal listener that it leads to. */
export interface HboneServerParts {
  readonly listener: ListenerConfig
  readonly clusters: readonly ClusterConfig[]
}

/** Undefined, with the mistake recorded, where it has no address or no certificate. */
export function readHboneServer(
  server: NativeHboneServer,
  path: string,
  reading: Reading,
): HboneServerParts | undefined {
  const address = readAddress(server.address, `${path}.address`, reading)
  const material = readIdentity(server.identity, `${path}.identity`, reading)
  server.trustDomains.forEach((domain, i) => {
    if (TRUST_DOMAIN.test(domain)) return
    reading.findings.error(indexPath(`${path}.trustDomains`, i), `"${domain}" is no name of a trust domain`)
  })
  if (address === undefined || material === undefined) return undefined
  const name = server.name ?? 'hbone'
  const targets = server.targets.map((target, i) => readTarget(target, indexPath(`${path}.targets`, i), reading))
  const http = readHttp({ routes: [] }, name, { path, reading })
  const listener = reading.origins.at<ListenerConfig>(path, {
    name,
    statPrefix: formatAddress(address).replaceAll(':', '_'),
    addresses: [address],
    bufferLimitBytes: BUFFER_BYTES,
    internal: false,
    filterChains: [
      reading.origins.at(path, {
        name: '',
        networkFilters: [],
        http: {
          ...http,
          codec: 'http2',
          routes: routesOf(name, targets),
          http2: SERVER_HTTP2,
          upgrades: [{ type: 'connect', enabled: true }],
          maxRequestHeaderBytes: HEADER_BYTES,
          maxRequestsPerConnection: 0,
          requestTimeoutMs: 0,
          idleTimeoutMs: IDLE_MS,
          streamIdleTimeoutMs: IDLE_MS,
        },
        tls: meshServerTls(material, server.trustDomains),
      }),
    ],
    listenerFilters: [],
    listenerFiltersTimeoutMs: 0,
    continueOnListenerFiltersTimeout: false,
    backlog: BACKLOG,
    maxConnections: MAX_CONNECTIONS,
    drainType: 'default',
    ignoreGlobalLimit: false,
    accessLogs: [],
  })
  const inner = new Set(server.targets.flatMap(({ listener: one }) => (one === undefined ? [] : [one])))
  return { listener, clusters: [...inner].map((one) => clusterTo(one, path, reading)) }
}

/** Named so that no other is likely to have the name. Two servers may lead to one listener: the caller keeps one. */
function clusterName(listener: string): string {
  return `hbone to ${listener}`
}

function clusterTo(listener: string, path: string, reading: Reading): ClusterConfig {
  const cluster = readCluster({ name: clusterName(listener), endpoints: [{ address: { listener } }] }, path, reading)
  return { ...cluster, layers: [{ kind: 'internal', metadata: [] }] }
}

function readTarget(target: NativeHboneTarget, path: string, reading: Reading): HboneTargetConfig {
  const { hosts = [], ranges = [], ports = [], listener, cluster } = target
  hosts.forEach((host, i) => {
    const problem = hostProblem(host)
    if (problem !== undefined) reading.findings.error(indexPath(`${path}.hosts`, i), problem)
  })
  const to = listener === undefined ? cluster : clusterName(listener)
  return reading.origins.at(path, {
    hosts: [...hosts],
    ranges: ranges.map((range, i) => readCidr(range, indexPath(`${path}.ranges`, i), reading)),
    ports: [...ports],
    ...(to !== undefined && { cluster: to }),
  })
}

/** CONNECT goes by its target, everything else is refused. */
function routesOf(name: string, targets: readonly HboneTargetConfig[]): RouteTableConfig {
  const tunnel: RouteConfig = {
    name: 'tunnel',
    match: { path: { kind: 'connect' } },
    action: {
      kind: 'route',
      cluster: { kind: 'cluster', name: targets.find(({ cluster }) => cluster !== undefined)?.cluster ?? '' },
      clusterNotFoundStatus: 503,
      timeoutMs: 15_000,
      priority: 'default',
      upgrades: [{ type: 'connect', enabled: true, connect: { allowPost: false, targets } }],
    },
  }
  const other: RouteConfig = {
    name: 'no tunnel',
    match: { path: { kind: 'prefix', value: '/', caseSensitive: true } },
    action: { kind: 'direct', status: 405, body: 'CONNECT only' },
  }
  return {
    name,
    virtualHosts: [{ name: 'all', domains: ['*'], routes: [tunnel, other], requireTls: 'none' }],
    ignorePortInHostMatching: false,
    mostSpecificHeaderMutationsWins: false,
    validateClusters: true,
    maxDirectResponseBodyBytes: 4096,
  }
}

/** The layer of a cluster whose connections are tunnels; undefined where a part of it cannot be used. */
export function readHbone(value: NativeHbone, path: string, reading: Reading): HboneLayerConfig | undefined {
  const { origins } = reading
  const material = readIdentity(value.identity, `${path}.identity`, reading)
  const { proxy, gateway, headers = {} } = value
  readIdentities(value.identities, `${path}.identities`, reading)
  if (gateway !== undefined) readIdentities(gateway.identities, `${path}.gateway.identities`, reading)
  const via = proxy === undefined ? undefined : readAddress(proxy, `${path}.proxy`, reading)
  const beyond = gateway && readAddress(gateway.address, `${path}.gateway.address`, reading)
  if (material === undefined) return undefined
  return {
    kind: 'hbone',
    ...(via && { proxy: via }),
    port: value.port ?? HBONE_PORT,
    authority: value.authority ?? 'address',
    tls: origins.at(`${path}.identity`, meshClientTls(material, value.identities)),
    headers: tunnelFields(headers, (name, message) =>
      reading.findings.error(keyPath(`${path}.headers`, String(name)), message),
    ),
    ...(gateway && beyond && { gateway: { address: beyond, tls: meshClientTls(material, gateway.identities) } }),
  }
}

function readIdentities(identities: readonly string[], path: string, { findings }: Reading): void {
  checkIdentities(identities, (i, message) => findings.error(indexPath(path, Number(i)), message))
}

function readIdentity(value: NativeMeshIdentity, path: string, reading: Reading): MeshMaterial | undefined {
  if (value === 'workload') {
    if (reading.workload === undefined) reading.findings.error(path, 'the gateway was made without the option workload')
    return reading.workload
  }
  const certificate = readCertificate(value.certificate, `${path}.certificate`, reading)
  const trustedCa = readPem(value.trustedCa, `${path}.trustedCa`, reading)
  return certificate && trustedCa !== undefined ? { ...certificate, trustedCa } : undefined
}
