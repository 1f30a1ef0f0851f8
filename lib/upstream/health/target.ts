import type {
  Attempt,
  ByteAttempt,
  ByteEvents,
  ByteStream,
  Cluster,
  UpstreamEvents,
  UpstreamHost,
  UpstreamStream,
} from '../../core/attempt.ts'
import { http2Stats } from '../../http2/stats.ts'
import { CircuitBreakers } from '../breaker.ts'
import type { ClusterConfig, ThresholdsConfig } from '../config.ts'
import { Host, type HostPool, type ResolvedEndpoint } from '../host.ts'
import { createHostPool, type PoolParts } from '../pool.ts'
import { ClusterStats } from '../stats.ts'
import { ByteConnections } from '../tcp/byte-connections.ts'
import { TrafficMeter } from '../traffic.ts'
import type { Transports } from '../transports.ts'
import type { HealthCheckConfig } from './config.ts'
import { uncounted } from './uncounted.ts'

const NO_LIMITS: ThresholdsConfig = Object.freeze({
  maxConnections: Number.POSITIVE_INFINITY,
  maxPendingRequests: Number.POSITIVE_INFINITY,
  maxRequests: Number.POSITIVE_INFINITY,
  maxRetries: 0,
})

const NO_WISH = Object.freeze({ authority: '', downstream: undefined })

/** What connections of checks depend on. */
export type CheckSettings = Pick<HealthCheckConfig, 'alpn' | 'transportLabels' | 'reuseConnection' | 'probe'>

/** What the connections of all checks of a cluster share: its transports, and none of its limits and counts. */
export class CheckConnections {
  readonly name: string
  readonly check: CheckSettings
  readonly parts: PoolParts
  readonly #shared: Transports
  readonly #own: Transports | undefined

  /** `own`: makes transports for a configuration that differs from the cluster's. */
  constructor(
    config: ClusterConfig,
    check: CheckSettings,
    from: {
      readonly parts: Pick<PoolParts, 'wheel' | 'random' | 'nextConnectionId'>
      readonly transports: Transports
      own(config: ClusterConfig): Transports
    },
  ) {
    this.name = config.name
    this.check = check
    const derived = derive(config, check)
    const { wheel, random, nextConnectionId } = from.parts
    this.parts = {
      config: derived,
      stats: new ClusterStats(uncounted, ''),
      breakers: new CircuitBreakers(uncounted, '', derived.thresholds),
      http2Stats: http2Stats(uncounted, ''),
      wheel,
      traffic: new TrafficMeter(wheel, uncounted.counter(''), uncounted.counter('')),
      random,
      nextConnectionId,
    }
    this.#shared = from.transports
    this.#own = check.alpn === undefined ? undefined : from.own(derived)
  }

  get transports(): Transports {
    return this.#own ?? this.#shared
  }

  /** Other certificates for connections to come. */
  renew(config: ClusterConfig): void {
    this.#own?.renew(derive(config, this.check))
  }

  /** Tunnels of its own end; those that it shares are the cluster's. */
  close(): void {
    for (const tunnels of this.#own?.tunnels ?? []) tunnels.destroy()
  }
}

function derive(config: ClusterConfig, { probe, alpn, reuseConnection }: CheckSettings): ClusterConfig {
  const { maxConnectionsPerHost: _, maxStreamDurationMs: __, maxRequestsPerConnection: ___, ...rest } = config
  const protocol = probe.kind === 'grpc' || (probe.kind === 'http' && probe.protocol === 'http2') ? 'http2' : 'http1'
  return {
    ...rest,
    protocol,
    thresholds: { default: NO_LIMITS, high: NO_LIMITS },
    preconnectRatio: 1,
    ...(!reuseConnection && { maxRequestsPerConnection: 1 }),
    ...(alpn !== undefined && rest.tls !== undefined && { tls: { ...rest.tls, alpn } }),
    ...(alpn !== undefined &&
      rest.transportMatches !== undefined && {
        transportMatches: rest.transportMatches.map((match) => ({
          ...match,
          transport:
            match.transport.tls === undefined
              ? match.transport
              : { ...match.transport, tls: { ...match.transport.tls, alpn } },
        })),
      }),
  }
}

/**
 * The connections over which one host is checked: to where its checks go, with a pool of their own. As a `Cluster` it is
 * one of a single host.
 */
export class CheckTarget implements Cluster {
  readonly name: string
  readonly statName = ''
  readonly maxStreamDurationMs = undefined
  readonly counters = uncountedCounters()
  readonly #shared: CheckConnections
  readonly #of: Host
  #host: Host
  #taken: readonly unknown[]
  #pool: HostPool | undefined = undefined
  readonly #bytes: ByteConnections

  constructor(host: Host, shared: CheckConnections) {
    this.name = shared.name
    this.#of = host
    this.#shared = shared
    this.#host = checkHost(host, shared.check)
    this.#taken = identity(host)
    this.#bytes = new ByteConnections(shared.parts, shared.transports)
  }

  /** Before each check: an update may have moved the host. */
  refresh(): void {
    const now = identity(this.#of)
    if (now.every((part, i) => part === this.#taken[i])) return
    this.close()
    this.#taken = now
    this.#host = checkHost(this.#of, this.#shared.check)
  }

  prepare(): undefined {
    return undefined
  }

  pick(): UpstreamHost {
    return this.#host
  }

  open(_host: UpstreamHost, attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined {
    this.#pool ??= this.#makePool()
    return this.#pool.open(attempt, events)
  }

  #makePool(): HostPool {
    const { transports, parts } = this.#shared
    const connectors = transports.peek(this.#host)
    return createHostPool({ host: this.#host, connectors, wish: NO_WISH, emptied: () => {} }, parts)
  }

  connect(_host: UpstreamHost, attempt: ByteAttempt, events: ByteEvents): ByteStream | undefined {
    return this.#bytes.open(this.#host, attempt, events)
  }

  health(): { healthy: number; degraded: number; total: number } {
    return { healthy: 1, degraded: 0, total: 1 }
  }

  completed(): void {}

  /** Ends its connections; another `open` makes new ones. */
  close(): void {
    const pool = this.#pool
    this.#pool = undefined
    pool?.destroy()
    this.#bytes.destroy()
  }
}

function uncountedCounters(): Cluster['counters'] {
  const cell = (): { v: number } => uncounted.counter('')
  return { timeout: cell(), retry: cell(), retrySuccess: cell(), cancelled: cell() }
}

/** Values that are replaced when an update changes them. */
function identity(host: Host): readonly unknown[] {
  return [host.address, host.check, host.metadata, host.localityMetadata, host.hostname, host.proxyAddress]
}

/** The host as its checks reach it. */
function checkHost(host: Host, check: CheckSettings): Host {
  const { check: own, metadata, hostname, additionalAddresses, proxyAddress, addedTlvs } = host
  const labels = check.transportLabels
  const moved = own?.address !== undefined || (own?.port ?? 0) !== 0
  const base = own?.address ?? host.address
  const address = base.kind === 'ip' && own !== undefined && own.port > 0 ? { ...base, port: own.port } : base
  const endpoint: ResolvedEndpoint = {
    address,
    hostname,
    weight: 1,
    health: 'healthy',
    ...(labels !== undefined
      ? { metadata: { ...metadata, 'envoy.transport_socket_match': labels } }
      : metadata && { metadata }),
    ...(!moved && { additionalAddresses }),
    ...(proxyAddress && { proxyAddress }),
    ...(addedTlvs && { addedTlvs }),
  }
  const target = new Host(endpoint, host.priority, host.locality)
  target.localityMetadata = host.localityMetadata
  return target
}
