import { once } from 'node:events'
import { isIP } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Address } from '../../core/address.ts'
import { systemClock } from '../../core/clock.ts'
import { ConfigError, ConfigRefused } from '../../core/errors.ts'
import { TimerWheel } from '../../core/timer-wheel.ts'
import { ENVOY_HTTP2 } from '../../http2/config.ts'
import { MetricsStore } from '../../telemetry/metrics.ts'
import { checkTls } from '../../tls/check.ts'
import { type MeshMaterial, meshClientTls } from '../../tls/mesh.ts'
import { type ClusterDeps, UpstreamCluster } from '../cluster.ts'
import type { ClusterConfig, HboneLayerConfig } from '../config.ts'
import { DnsResolvers } from '../discovery/dns/resolver.ts'
import { Host } from '../host.ts'
import { checkIdentities, tunnelFields } from './fields.ts'
import { HboneTunnels } from './tunnels.ts'

/** The port of HBONE in Istio. */
export const HBONE_PORT = 15_008

/** Whom a tunnel is asked of. */
export interface HboneProxy {
  /** An IP address or a name. */
  readonly host: string
  /** Default: 15008. */
  readonly port?: number
  /** SPIFFE identities, one of which it must have. Default: any that the authorities have issued. */
  readonly identities?: readonly string[]
}

/** One tunnel. */
export interface HboneOptions {
  readonly proxy: HboneProxy
  /** Where it should lead: `10.0.0.9:8080`, `[fd00::9]:8080` or `service.namespace:80`. */
  readonly target: string
  /** Our own certificate and the authorities, PEM. There is no HBONE without. */
  readonly tls: MeshMaterial
  /** Fields of the CONNECT: `baggage`, `x-forwarded-network`. */
  readonly headers?: Readonly<Record<string, string>>
  /** The gateway of another network, through which `proxy` is reached (double HBONE). */
  readonly gateway?: HboneProxy
  /** Default: 5,000. */
  readonly connectTimeoutMs?: number
}

const CONNECT_MS = 5_000
const WIDE = Object.freeze({ maxConnections: 16, maxPendingRequests: 16, maxRequests: 16, maxRetries: 3 })

/**
 * Opens one HBONE tunnel on a connection of its own and resolves with its bytes, which belong to the caller: half-close and
 * back-pressure go through to the far end. Destroying it closes the connection.
 *
 * @throws ConfigRefused for a target, certificate or key that cannot be used
 * @throws Error where the proxy cannot be reached, is somebody else, or does not grant the tunnel; its message says why.
 * @example
 * ```ts
 * const tunnel = await connectHbone({
 *   proxy: { host: '10.0.0.9', identities: ['spiffe://cluster.local/ns/demo/sa/server'] },
 *   target: '10.0.0.9:8080',
 *   tls: { certificateChain, privateKey, trustedCa },
 * })
 * tunnel.end('GET / HTTP/1.0\r\n\r\n')
 * for await (const chunk of tunnel) process.stdout.write(chunk)
 * ```
 */
export async function connectHbone(options: HboneOptions): Promise<Duplex> {
  const { layer, target } = read(options)
  const wheel = new TimerWheel(systemClock)
  const dns = new DnsResolvers({ clock: systemClock })
  let connectionId = 0
  const deps: ClusterDeps = {
    metrics: new MetricsStore(),
    wheel,
    random: Math.random,
    log: SILENT,
    dns,
    nextConnectionId: () => ++connectionId,
  }
  const tunnels = new HboneTunnels(layer, {
    cluster: clusterOf(options.connectTimeoutMs ?? CONNECT_MS),
    makeCluster: (config) => new UpstreamCluster(config, deps),
  })
  const host = new Host({ address: target, hostname: target.host, weight: 1, health: 'healthy' }, 0, undefined)
  const socket: Duplex = tunnels.connect(host)
  socket.once('close', () => {
    tunnels.destroy()
    wheel.close()
    dns[Symbol.dispose]()
  })
  await once(socket, 'connect')
  return socket
}

function read(options: HboneOptions): { layer: HboneLayerConfig; target: Address & { kind: 'ip' } } {
  const { proxy, tls: material, headers = {}, gateway } = options
  const tls = meshClientTls(material, proxy.identities ?? [])
  const errors = checkTls(tls).map(({ path, message }) => new ConfigError(`tls.${path}`, message))
  const fields = tunnelFields(headers, (name, message) => errors.push(new ConfigError(`headers.${name}`, message)))
  for (const [path, one] of [
    ['proxy', proxy],
    ['gateway', gateway],
  ] as const) {
    if (one === undefined) continue
    const { identities = [], port = HBONE_PORT } = one
    checkIdentities(identities, (i, message) => errors.push(new ConfigError(`${path}.identities[${i}]`, message)))
    if (port < 1 || port > 65_535) errors.push(new ConfigError(`${path}.port`, `${port} cannot be connected to`))
  }
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+)):(\d{1,5})$/.exec(options.target)
  const port = Number(match?.[3])
  if (match === null || port === 0 || port > 65_535 || (match[1] !== undefined && !isIP(match[1]))) {
    errors.push(new ConfigError('target', `must be host:port, is "${options.target}"`))
  }
  if (errors.length > 0) throw new ConfigRefused(errors)
  const layer: HboneLayerConfig = {
    kind: 'hbone',
    port: HBONE_PORT,
    proxy: addressOf(proxy),
    authority: 'hostname',
    tls,
    headers: fields,
    ...(gateway && {
      gateway: { address: addressOf(gateway), tls: meshClientTls(material, gateway.identities ?? []) },
    }),
  }
  return { layer, target: { kind: 'ip', host: match?.[1] ?? match?.[2] ?? '', port } }
}

function addressOf({ host, port = HBONE_PORT }: HboneProxy): Address {
  return { kind: 'ip', host, port }
}

/** What the private clusters of the tunnel take from the one that they belong to. */
function clusterOf(connectTimeoutMs: number): ClusterConfig {
  return {
    name: 'library',
    statName: 'library',
    type: 'static',
    localities: [],
    balancer: { kind: 'round-robin' },
    connectTimeoutMs,
    bufferLimitBytes: 1024 * 1024,
    thresholds: { default: WIDE, high: WIDE },
    idleTimeoutMs: 0,
    maxResponseHeaderBytes: 16 * 1024,
    maxResponseHeaders: 100,
    protocol: 'http2',
    http1: { headerCase: 'lower', enableTrailers: false },
    http2: ENVOY_HTTP2,
    preconnectRatio: 1,
  }
}

const SILENT = Object.freeze({ debug() {}, info() {}, warn() {}, error() {} })
