import { isIP } from 'node:net'
import type { EndpointAddress } from '../core/address.ts'
import type { Clock } from '../core/clock.ts'
import type { Log } from '../core/metrics.ts'
import { TimerWheel } from '../core/timer-wheel.ts'
import { GrpcClient } from '../grpc/client.ts'
import { ENVOY_HTTP2 } from '../http2/config.ts'
import { MetricsStore } from '../telemetry/metrics.ts'
import type { UpstreamTlsConfig } from '../tls/config.ts'
import { UpstreamCluster } from '../upstream/cluster.ts'
import type { ClusterConfig } from '../upstream/config.ts'
import { DnsResolvers } from '../upstream/discovery/dns/resolver.ts'

const WIDE = Object.freeze({ maxConnections: 16, maxPendingRequests: 16, maxRequests: 16, maxRetries: 3 })

/** Whom a source of certificates speaks to. */
export interface PrivateClusterOptions {
  readonly name: string
  readonly address: EndpointAddress
  /** Undefined: plaintext. */
  readonly tls?: UpstreamTlsConfig
  /** Of the calls. */
  readonly authority: string
  /** Of a call that is answered once; default: no limit. */
  readonly timeoutMs?: number
  readonly clock: Clock
  readonly log: Log
}

/** A gRPC client of its own: nothing of it is in the configuration or the statistics of any gateway. */
export class PrivateCluster {
  readonly client: GrpcClient
  readonly #wheel: TimerWheel
  readonly #dns: DnsResolvers
  readonly #cluster: UpstreamCluster

  constructor(options: PrivateClusterOptions) {
    const { clock, log, authority, tls, timeoutMs } = options
    this.#wheel = new TimerWheel(clock)
    this.#dns = new DnsResolvers({ clock })
    let connectionId = 0
    this.#cluster = new UpstreamCluster(clusterOf(options), {
      metrics: new MetricsStore(),
      wheel: this.#wheel,
      random: Math.random,
      log,
      dns: this.#dns,
      nextConnectionId: () => ++connectionId,
    })
    this.client = new GrpcClient({
      cluster: () => this.#cluster,
      authority,
      wheel: this.#wheel,
      log,
      scheme: tls === undefined ? 'http' : 'https',
      ...(timeoutMs !== undefined && { timeoutMs }),
    })
  }

  /** Resolves when its addresses are known, or cannot be. */
  warm(): Promise<void> {
    return this.#cluster.warm()
  }

  async close(): Promise<void> {
    this.#cluster.destroy()
    await this.#cluster.drained()
    this.#wheel.close()
    this.#dns[Symbol.dispose]()
  }
}

function clusterOf({ name, address, tls }: PrivateClusterOptions): ClusterConfig {
  const named = address.kind === 'ip' && isIP(address.host) === 0
  return {
    name,
    statName: name.replaceAll(' ', '_'),
    type: named ? 'strict-dns' : 'static',
    localities: [{ priority: 0, endpoints: [{ address, weight: 1, health: 'healthy' }] }],
    ...(named && { dns: DNS }),
    balancer: { kind: 'round-robin' },
    connectTimeoutMs: 5_000,
    bufferLimitBytes: 1024 * 1024,
    thresholds: { default: WIDE, high: WIDE },
    idleTimeoutMs: 60_000,
    maxResponseHeaderBytes: 16 * 1024,
    maxResponseHeaders: 100,
    protocol: 'http2',
    http1: { headerCase: 'lower', enableTrailers: false },
    http2: ENVOY_HTTP2,
    ...(tls && { tls }),
    preconnectRatio: 1,
  }
}

const DNS = Object.freeze({
  refreshMs: 5_000,
  failureRefreshMs: 5_000,
  failureRefreshMaxMs: 50_000,
  jitterMs: 0,
  respectTtl: true,
  family: 'auto',
  resolvers: [],
} as const)
