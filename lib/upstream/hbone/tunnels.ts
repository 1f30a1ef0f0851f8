import type { Socket } from 'node:net'
import { type Address, formatAddress, formatHostPort } from '../../core/address.ts'
import type { Attempt, UpstreamEvents, UpstreamStream } from '../../core/attempt.ts'
import { Headers } from '../../core/headers.ts'
import { ENVOY_HTTP2, type Http2Config } from '../../http2/config.ts'
import type { UpstreamCluster } from '../cluster.ts'
import type { ClusterConfig, HboneLayerConfig } from '../config.ts'
import type { Host } from '../host.ts'
import { TunnelSocket } from './tunnel-socket.ts'

const KIB = 1024
const MIB = 1024 * KIB

/** Streams per connection, windows, frames and PINGs as Istio's proxies have them. */
export const HBONE_CLIENT_HTTP2: Http2Config = Object.freeze({
  ...ENVOY_HTTP2,
  maxConcurrentStreams: 100,
  initialStreamWindowBytes: 4 * MIB,
  initialConnectionWindowBytes: 16 * MIB,
  maxFrameBytes: MIB,
  keepalive: { intervalMs: 10_000, timeoutMs: 20_000, jitterPercent: 0, idleIntervalMs: 0 },
})

/** Connections without a stream are kept for so long. */
const UNUSED_MS = 300_000
const HEADER_BYTES = 16 * KIB
const HEADERS = 100

/** What tunnels need of the cluster that they belong to. */
export interface TunnelParts {
  readonly cluster: ClusterConfig
  /** Makes a cluster that nobody else knows. */
  readonly makeCluster: (config: ClusterConfig) => UpstreamCluster
}

/**
 * The HBONE tunnels of one cluster: each is a CONNECT on an HTTP/2 connection with mutual TLS, which other tunnels to the
 * same proxy share. Connections, their pools and statistics are those of private clusters, one per proxy
 * (`cluster.<name>.hbone.`). Through the gateway of another network (double HBONE) the inner connection carries one
 * tunnel only, within a tunnel of the shared outer one.
 */
export class HboneTunnels {
  readonly #parts: TunnelParts
  readonly #clusters = new Map<string, UpstreamCluster>()
  #layer: HboneLayerConfig
  #retired = false

  constructor(layer: HboneLayerConfig, parts: TunnelParts) {
    this.#layer = layer
    this.#parts = parts
  }

  /** Begins to open a tunnel to `host`; success, failure and end arrive as events, as of a socket that connects. */
  connect(host: Host): Socket {
    const { address } = host
    const layer = this.#layer
    const target = address.kind === 'ip' ? address : { host: '', port: 0 }
    const named = layer.authority === 'hostname' && host.hostname !== ''
    const authority = formatHostPort(named ? host.hostname : target.host, target.port)
    const proxy: Address = layer.proxy ?? { kind: 'ip', host: target.host, port: layer.port }
    const cluster = this.#clusterFor(proxy, authority)
    const remote = { address: target.host, port: target.port }
    const socket = new TunnelSocket(authority, remote, (events) => this.#open(cluster, authority, events))
    // It has the methods and events of a socket.
    return socket as unknown as Socket
  }

  #open(cluster: UpstreamCluster, authority: string, events: UpstreamEvents): UpstreamStream | undefined {
    const host = cluster.pick(NO_CONTEXT)
    if ('code' in host) {
      // Not from within: whoever opened it has yet to listen.
      process.nextTick(() => events.onReset(host))
      return undefined
    }
    return cluster.open(host, connectTo(authority, this.#layer.headers), events)
  }

  /** An inner connection of double HBONE is for one target: its outer tunnel has that authority as well. */
  #clusterFor(proxy: Address, authority: string): UpstreamCluster {
    const { gateway } = this.#layer
    const key = gateway === undefined ? formatAddress(proxy) : authority
    const known = this.#clusters.get(key)
    if (known !== undefined) return known
    const cluster = this.#parts.makeCluster(this.#config(proxy, authority))
    void cluster.warm()
    // Addresses come and go: a cluster that has no connection is made again when it is needed.
    if (this.#clusters.size >= MAX_PROXIES) this.#makeRoom()
    this.#clusters.set(key, cluster)
    if (this.#retired) cluster.retire()
    return cluster
  }

  #makeRoom(): void {
    for (const [key, cluster] of this.#clusters) {
      this.#clusters.delete(key)
      this.#leaving.add(cluster)
      cluster.retire()
      void cluster.drained().then(() => this.#leaving.delete(cluster))
      return
    }
  }

  readonly #leaving = new Set<UpstreamCluster>()

  #config(proxy: Address, authority: string): ClusterConfig {
    const { tls, gateway, headers } = this.#layer
    const { cluster } = this.#parts
    const at = authority.lastIndexOf(':')
    const hostname = authority.slice(0, at)
    // The outer tunnel is asked for what the inner one is; its own proxy is the gateway.
    const outer: HboneLayerConfig | undefined = gateway && {
      kind: 'hbone',
      port: 0,
      proxy: gateway.address,
      authority: 'hostname',
      tls: gateway.tls,
      headers,
    }
    const address: Address =
      outer === undefined ? proxy : { kind: 'ip', host: hostname, port: Number(authority.slice(at + 1)) }
    const { connectTimeoutMs, bufferLimitBytes, thresholds, http1, keepalive, bindAddress, extraBindAddresses } =
      cluster
    return {
      name: `${cluster.name} (HBONE)`,
      statName: `${cluster.statName}.hbone`,
      type: 'static',
      localities: [{ priority: 0, endpoints: [{ address, hostname, weight: 1, health: 'healthy' }] }],
      balancer: { kind: 'round-robin' },
      connectTimeoutMs,
      bufferLimitBytes,
      thresholds,
      idleTimeoutMs: UNUSED_MS,
      ...(outer && { maxRequestsPerConnection: 1, layers: [outer] }),
      maxResponseHeaderBytes: HEADER_BYTES,
      maxResponseHeaders: HEADERS,
      protocol: 'http2',
      http1,
      http2: HBONE_CLIENT_HTTP2,
      tls,
      preconnectRatio: 1,
      ...(outer === undefined && keepalive && { keepalive }),
      ...(outer === undefined && bindAddress !== undefined && { bindAddress }),
      ...(outer === undefined && extraBindAddresses && { extraBindAddresses }),
    }
  }

  /** Other certificates or authorities: for connections to come. */
  renew(layer: HboneLayerConfig): void {
    this.#layer = layer
    const { tls, gateway } = layer
    for (const cluster of this.#clusters.values()) {
      const { layers } = cluster.config
      const renewed = layers?.map((one) => (one.kind === 'hbone' && gateway ? { ...one, tls: gateway.tls } : one))
      cluster.renew({ ...cluster.config, tls, ...(renewed && { layers: renewed }) })
    }
  }

  #all(): readonly UpstreamCluster[] {
    return [...this.#clusters.values(), ...this.#leaving]
  }

  /** Its cluster retires: what is unused closes. */
  retire(): void {
    this.#retired = true
    for (const cluster of this.#clusters.values()) cluster.retire()
  }

  async drained(): Promise<void> {
    await Promise.all(this.#all().map((cluster) => cluster.drained()))
  }

  destroy(): void {
    this.#retired = true
    for (const cluster of this.#all()) cluster.destroy()
  }
}

function connectTo(authority: string, headers: readonly string[]): Attempt {
  return {
    head: { method: 'CONNECT', scheme: 'https', authority, path: '', protocol: undefined },
    headers: new Headers([...headers]),
    end: true,
    priority: 'default',
    upgrade: true,
    downstream: undefined,
    downstreamProtocol: 'HTTP/2',
    forwardContinue: false,
  }
}

/** Private clusters at a time; the one made first makes room. */
const MAX_PROXIES = 1024
const NO_CONTEXT = Object.freeze({})
