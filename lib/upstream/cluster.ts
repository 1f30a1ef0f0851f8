import type {
  Attempt,
  ByteAttempt,
  ByteEvents,
  ByteStream,
  Cluster,
  PickContext,
  UpstreamEvents,
  UpstreamHost,
  UpstreamStream,
} from '../core/attempt.ts'
import { FAILURES, type Failure } from '../core/failure.ts'
import type { Headers } from '../core/headers.ts'
import type { InternalListeners } from '../core/internal-listeners.ts'
import type { Log, Metrics, MetricsGroup, Runtime } from '../core/metrics.ts'
import type { ClusterStatus } from '../core/status.ts'
import type { TimerWheel } from '../core/timer-wheel.ts'
import type { Http2Stats } from '../http2/contract.ts'
import { http2Stats } from '../http2/stats.ts'
import type { AccessLogSinks } from '../telemetry/sinks/registry.ts'
import { ClusterBalancer, hostSetOptions } from './balancing.ts'
import { CircuitBreakers } from './breaker.ts'
import { ClusterHealth } from './cluster-health.ts'
import type { ClusterConfig, CredentialConfig } from './config.ts'
import type { Connectors, ConnectWish } from './connect.ts'
import type { AssignmentTable } from './discovery/assignments.ts'
import { createDiscovery } from './discovery/create-discovery.ts'
import type { Discovery } from './discovery/discovery.ts'
import type { DnsResolvers } from './discovery/dns/resolver.ts'
import { wantedHost } from './discovery/wanted-host.ts'
import type { Host, HostPool } from './host.ts'
import { HostSet } from './host-set.ts'
import { hostStatus } from './host-status.ts'
import type { HostView } from './host-view.ts'
import { createHostPool, type PoolParts } from './pool.ts'
import { Retrying } from './retries.ts'
import type { ReadBuffer } from './socket-reader.ts'
import { type ClusterStats, clusterStats } from './stats.ts'
import { ByteConnections } from './tcp/byte-connections.ts'
import { TrafficMeter } from './traffic.ts'
import { Transports } from './transports.ts'

/** What clusters share within a gateway. */
export interface ClusterDeps {
  readonly metrics: Metrics
  readonly wheel: TimerWheel
  readonly random: () => number
  readonly log: Log
  readonly dns: DnsResolvers
  readonly nextConnectionId: () => number
  /** For the reads of HTTP/1 sockets; undefined: they read as Node does by itself. */
  readonly readBuffer?: ReadBuffer
  /** Undefined: endpoints that are internal listeners cannot be reached. */
  readonly internal?: InternalListeners
  /** Undefined: clusters of type `eds` have no endpoints. */
  readonly assignments?: AssignmentTable
  /** Default: without any values. */
  readonly runtime?: Runtime
  /** The hosts of a cluster as it is now; undefined: no routing by zone. */
  readonly hostsOf?: (cluster: string) => HostView | undefined
  /** Undefined: event logs of health checks and outlier detection are not written. */
  readonly sinks?: AccessLogSinks
}

const NO_WISH: ConnectWish = Object.freeze({ authority: '', downstream: undefined })

/**
 * One upstream cluster: membership from its discovery, a balancer over it, a pool per host. Lives as long as its
 * configuration is unchanged, over any number of snapshots.
 */
export class UpstreamCluster implements Cluster {
  readonly name: string
  #config: ClusterConfig
  readonly hosts: HostSet
  readonly counters: Cluster['counters']
  readonly retries: Retrying
  readonly #cells: MetricsGroup | undefined
  readonly #stats: ClusterStats
  readonly #breakers: CircuitBreakers
  readonly #balancer: ClusterBalancer
  readonly #discovery: Discovery
  readonly #poolParts: PoolParts
  readonly #transports: Transports
  readonly #bytes: ByteConnections
  readonly #health: ClusterHealth
  /** All that have connections or may get some, those of removed hosts included. */
  readonly #pools = new Set<HostPool>()
  #started: Promise<void> | undefined = undefined

  constructor(config: ClusterConfig, deps: ClusterDeps) {
    this.name = config.name
    this.#config = config
    // They go with the last cluster of that name; successors count on.
    this.#cells = deps.metrics.group?.(`cluster.${config.statName}`)
    const metrics = this.#cells ?? deps.metrics
    const stats = clusterStats(metrics, config.statName)
    this.#stats = stats
    this.#breakers = new CircuitBreakers(metrics, config.statName, config.thresholds)
    this.hosts = new HostSet(hostSetOptions(config, deps))
    this.#balancer = new ClusterBalancer(config, this.hosts, { deps, stats, metrics })
    this.#discovery = createDiscovery(config, {
      clock: deps.wheel.clock,
      random: deps.random,
      log: deps.log,
      stats,
      dns: deps.dns,
      assignments: deps.assignments,
    })
    let http2: Http2Stats | undefined
    this.#poolParts = {
      config,
      stats,
      breakers: this.#breakers,
      wheel: deps.wheel,
      traffic: new TrafficMeter(deps.wheel, stats.cxRxBytesTotal, stats.cxTxBytesTotal),
      random: deps.random,
      get http2Stats(): Http2Stats {
        // As Envoy: these appear with the first connection that needs them.
        http2 ??= http2Stats(metrics, `cluster.${config.statName}.`)
        return http2
      },
      nextConnectionId: deps.nextConnectionId,
    }
    this.#transports = new Transports(config, metrics, this.#transportParts(deps))
    this.#bytes = new ByteConnections(this.#poolParts, this.#transports)
    try {
      this.#health = this.#makeHealth(deps, metrics)
    } catch (error) {
      // An event log cannot be opened: nobody will ever retire this cluster.
      this.#breakers[Symbol.dispose]()
      this.#balancer[Symbol.dispose]()
      this.#cells?.release()
      throw error
    }
    const { statName, retryPolicy: policy } = config
    this.retries = new Retrying({ policy, statName, metrics, stats, breakers: this.#breakers })
    this.counters = {
      timeout: stats.rqTimeout,
      retry: stats.rqRetry,
      retrySuccess: stats.rqRetrySuccess,
      cancelled: stats.rqCancelled,
    }
  }

  get config(): ClusterConfig {
    return this.#config
  }

  /**
   * Takes over a configuration that differs in certificates, keys, authorities, revocation lists and the credential alone:
   * connections (and requests) to come use them, those that are open stay.
   */
  renew(config: ClusterConfig): void {
    if (config === this.#config) return
    this.#config = config
    this.#transports.renew(config)
    this.#health.renew(config)
  }

  get statName(): string {
    return this.config.statName
  }

  get maxStreamDurationMs(): number | undefined {
    return this.config.maxStreamDurationMs
  }

  /** Starts discovery; resolves when the first answer (or failure) is in. Asking again gives the same promise. */
  warm(): Promise<void> {
    this.#started ??= this.#discovery
      .start((localities, policy) => {
        this.hosts.follow(policy ?? this.#config.assignmentPolicy)
        const before = this.hosts.all.length
        const { added, removed, changed } = this.hosts.update(localities, this.#health)
        for (const host of removed) host.pool?.close()
        if (!changed) {
          if (this.#config.type === 'eds') this.#stats.updateNoRebuild.v++
          return
        }
        for (const host of this.hosts.all) this.#checkTransport(host)
        this.#health.update(added, removed)
        this.#stats.membershipChange.v += added.length + removed.length
        this.#stats.membershipTotal.v += this.hosts.all.length - before
      })
      .then(() => this.#health.ready())
    return this.#started
  }

  #transportParts(deps: ClusterDeps): ConstructorParameters<typeof Transports>[2] {
    return {
      readBuffer: deps.readBuffer,
      internal: deps.internal,
      clock: deps.wheel.clock,
      bindErrors: this.#stats.bindErrors,
      makeCluster: (own) => new UpstreamCluster(own, deps),
    }
  }

  #makeHealth(deps: ClusterDeps, metrics: Metrics): ClusterHealth {
    this.hosts.onChange(() => {
      if (!this.#retired) this.#gaugeHealth(1)
    })
    return new ClusterHealth(this.#config, deps, {
      hosts: this.hosts,
      metrics,
      pools: this.#poolParts,
      transports: this.#transports,
      ownTransports: (config) => new Transports(config, metrics, this.#transportParts(deps)),
      failed: (host) => this.#hostFailed(host),
      expired: (host) => this.#hostExpired(host),
    })
  }

  /** Pooled connections are not for what comes; raw ones stay unless they are not to. */
  #hostFailed(host: Host): void {
    const { pool } = host
    host.pool = undefined
    pool?.close()
    if (this.#config.closeOnHealthFailure === true) this.#bytes.destroy(host)
  }

  #hostExpired(host: Host): void {
    if (!this.hosts.remove(host)) return
    host.pool?.close()
    this.#stats.membershipChange.v++
    this.#stats.membershipTotal.v--
    this.#health.update([], [host])
  }

  /** An update may have given a host labels that mean another transport: what comes now gets a pool of its own. */
  #checkTransport(host: Host): void {
    const { pool } = host
    if (pool === undefined || this.#connectorsOf.get(pool) === this.#transports.peek(host)) return
    host.pool = undefined
    pool.close()
  }

  readonly #connectorsOf = new WeakMap<HostPool, Connectors>()
  #healthy = 0
  #degraded = 0
  #excluded = 0
  #retired = false
  #destroyed = false
  #keepsFigures = false

  /** Gauges are shared by name with a successor, so they move by differences. */
  #gaugeHealth(live: 0 | 1): void {
    const healthy = this.hosts.healthyCount * live
    const degraded = this.hosts.degradedCount * live
    this.#stats.membershipHealthy.v += healthy - this.#healthy
    this.#stats.membershipDegraded.v += degraded - this.#degraded
    const excluded = this.hosts.excludedCount * live
    this.#stats.membershipExcluded.v += excluded - this.#excluded
    this.#excluded = excluded
    this.#healthy = healthy
    this.#degraded = degraded
  }

  /** As `Cluster.prepare`; without effect where hosts are configured or discovered. */
  prepare(context: PickContext): Failure | undefined | Promise<Failure | undefined> {
    if (this.#discovery.demand === undefined) return undefined
    const wanted = wantedHost(context, this.#config.tls !== undefined)
    if (wanted === undefined) return FAILURES.noHealthyHost
    const found = this.#discovery.demand(wanted.name, wanted.port)
    if (typeof found === 'string') return undefined
    return found instanceof Promise ? found.then((key) => (typeof key === 'string' ? undefined : key)) : found
  }

  pick(context: PickContext): UpstreamHost | Failure {
    if (this.#discovery.demand !== undefined) return this.#pickWanted(context)
    return this.#balancer.pick(context)
  }

  #pickWanted(context: PickContext): UpstreamHost | Failure {
    const wanted = wantedHost(context, this.#config.tls !== undefined)
    const key = wanted === undefined ? undefined : this.#discovery.demand?.(wanted.name, wanted.port)
    if (typeof key === 'object' && 'code' in key) return key
    const host = typeof key === 'string' ? this.hosts.find(`${key}@0`) : undefined
    if (host !== undefined) return host
    this.#stats.cxNoneHealthy.v++
    return FAILURES.noHealthyHost
  }

  open(host: UpstreamHost, attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined {
    if (this.#destroyed) {
      events.onReset(FAILURES.noHealthyHost)
      return undefined
    }
    const { credential } = this.#config
    if (credential !== undefined && !addCredential(attempt.headers, credential)) {
      events.onReset(FAILURES.noCredential)
      return undefined
    }
    const target = host as Host
    if (target.pool !== undefined) return target.pool.open(attempt, events)
    const emptied = (): void => this.#emptied(target, pool)
    const connectors = this.#transports.of(target)
    const pool = createHostPool({ host: target, connectors, wish: NO_WISH, emptied }, this.#poolParts)
    target.pool = pool
    this.#connectorsOf.set(pool, connectors)
    this.#pools.add(pool)
    const stream = pool.open(attempt, events)
    // A choice made just before the host or the cluster went away: it is served, and nothing is kept for later.
    if (this.#retired || !this.hosts.all.includes(target)) pool.close()
    return stream
  }

  connect(host: UpstreamHost, attempt: ByteAttempt, events: ByteEvents): ByteStream | undefined {
    if (this.#destroyed) {
      events.onClosed(FAILURES.noHealthyHost)
      return undefined
    }
    return this.#bytes.open(host as Host, attempt, events)
  }

  #emptied(host: Host, pool: HostPool): void {
    this.#pools.delete(pool)
    if (host.pool === pool) host.pool = undefined
    if (this.#pools.size === 0) for (const resolve of this.#drained.splice(0)) resolve()
  }

  readonly #drained: (() => void)[] = []

  /** Resolves when no connection is left; only a retired cluster gets there. */
  async drained(): Promise<void> {
    if (this.#pools.size > 0) await new Promise<void>((resolve) => this.#drained.push(resolve))
    await this.#bytes.drained()
    for (const tunnels of this.#transports.tunnels) await tunnels.drained()
  }

  health(): { healthy: number; degraded: number; total: number } {
    return { healthy: this.hosts.healthyCount, degraded: this.hosts.degradedCount, total: this.hosts.all.length }
  }

  completed(status: number, elapsedMs: number): void {
    this.#stats.rqStatus.count(status)
    this.#stats.rqTime.record(elapsedMs)
  }

  get retired(): boolean {
    return this.#retired
  }

  /** No new membership; idle connections close, busy ones after their exchange. */
  retire(): void {
    if (this.#retired) return
    this.#retired = true
    this.#discovery.close()
    this.#health[Symbol.dispose]()
    this.#gaugeHealth(0)
    this.#stats.membershipTotal.v -= this.hosts.all.length
    for (const pool of this.#pools) pool.close()
    for (const tunnels of this.#transports.tunnels) tunnels.retire()
    this.#breakers[Symbol.dispose]()
    if (this.#cells !== undefined) void this.drained().then(() => this.#keepsFigures || this.#cells?.release())
  }

  /** Everything ends now, and nothing begins any more. `keepFigures`: so does the gateway, whose last figures are asked for. */
  destroy(keepFigures = false): void {
    this.#destroyed = true
    this.#keepsFigures = keepFigures
    this.retire()
    this.#balancer[Symbol.dispose]()
    for (const pool of this.#pools) pool.destroy()
    this.#bytes.destroy()
    for (const tunnels of this.#transports.tunnels) tunnels.destroy()
  }

  status(): ClusterStatus {
    const limits = (priority: 'default' | 'high'): ClusterStatus['thresholds'][number] => ({
      priority,
      ...this.config.thresholds[priority],
    })
    return {
      name: this.name,
      thresholds: [limits('default'), limits('high')],
      hosts: this.hosts.all.map(hostStatus),
    }
  }
}

/** False where the request must not go without. */
function addCredential(headers: Headers, { header, value, overwrite, required }: CredentialConfig): boolean {
  if (!overwrite && headers.has(header)) return true
  if (value === '') return required !== true
  headers.put(header, value)
  return true
}
