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
import type { Metrics, MetricsGroup } from '../core/metrics.ts'
import type { ClusterStatus } from '../core/status.ts'
import { openLater } from './auto-stream.ts'
import { ClusterBalancer, hostSetOptions } from './balancing.ts'
import type { Chooser } from './choice/chooser.ts'
import { createChooser } from './choice/create-chooser.ts'
import { ClusterConnections } from './cluster-connections.ts'
import type { ClusterDeps } from './cluster-deps.ts'
import { ClusterHealth } from './cluster-health.ts'
import { CLUSTER_CELLS, ClusterTraffic, showsFromStart } from './cluster-traffic.ts'
import type { ClusterConfig } from './config.ts'
import { addCredential } from './credential.ts'
import { createDiscovery } from './discovery/create-discovery.ts'
import type { Discovery } from './discovery/discovery.ts'
import type { HboneTunnels } from './hbone/tunnels.ts'
import type { Host, ResolvedEndpoint } from './host.ts'
import { HostSet } from './host-set.ts'
import { hostStatus } from './host-status.ts'
import { Reporting } from './orca/source.ts'
import { connectAhead } from './predictive.ts'
import type { Retrying } from './retries.ts'
import { MembershipStats } from './stats.ts'

export type { ClusterDeps } from './cluster-deps.ts'

/**
 * One upstream cluster: membership from its discovery, a balancer over it, a pool per host. Lives as long as its
 * configuration is unchanged, over any number of snapshots.
 */
export class UpstreamCluster implements Cluster {
  readonly name: string
  #config: ClusterConfig
  readonly hosts: HostSet
  readonly #deps: ClusterDeps
  readonly #cells: MetricsGroup | undefined
  readonly #membership: MembershipStats
  #traffic: ClusterTraffic | undefined = undefined
  readonly #balancer: ClusterBalancer
  /** Undefined: hosts are not asked for load reports. */
  readonly #reports: Reporting | undefined
  readonly #discovery: Discovery
  /** Instead of the balancer. */
  readonly #chooser: Chooser | undefined
  #connected: ClusterConnections | undefined = undefined
  readonly #health: ClusterHealth
  #started: Promise<void> | undefined = undefined

  constructor(config: ClusterConfig, deps: ClusterDeps) {
    this.name = config.name
    this.#config = config
    this.#deps = deps
    // They go with the last cluster of that name; successors count on.
    this.#cells = deps.metrics.group?.(`cluster.${config.statName}`)
    const metrics = this.#metrics
    metrics.declare?.(`cluster.${config.statName}.`, CLUSTER_CELLS)
    this.#membership = new MembershipStats(metrics, config.statName)
    this.hosts = new HostSet(hostSetOptions(config, deps))
    this.#reports = Reporting.of(config, { deps, metrics, connections: () => this.#connections })
    const stats = (): ClusterTraffic['stats'] => this.traffic.stats
    this.#balancer = new ClusterBalancer(config, this.hosts, { deps, metrics, stats, reports: this.#reports })
    this.#discovery = createDiscovery(config, {
      clock: deps.wheel.clock,
      random: deps.random,
      log: deps.log,
      stats: this.#membership,
      metrics: deps.metrics,
      dns: deps.dns,
      assignments: deps.assignments,
    })
    this.#chooser = createChooser(config, {
      hosts: this.hosts,
      discovery: this.#discovery,
      clock: deps.wheel.clock,
      random: deps.random,
      metrics,
      find: deps.clusterOf,
      // Its tunnels are nobody else's.
      makeCluster: (own) => new UpstreamCluster(own, Object.assign(Object.create(deps), { leases: undefined })),
      none: () => this.traffic.stats.cxNoneHealthy,
    })
    try {
      this.#health = this.#makeHealth(deps, metrics)
    } catch (error) {
      // An event log cannot be opened: nobody will ever retire this cluster.
      this.#balancer[Symbol.dispose]()
      this.#cells?.release()
      throw error
    }
    if (showsFromStart(config)) void this.traffic
  }

  get #metrics(): Metrics {
    return this.#cells ?? this.#deps.metrics
  }

  /** Made when it is first asked for. */
  get traffic(): ClusterTraffic {
    return this.#traffic ?? this.#makeTraffic()
  }

  #makeTraffic(): ClusterTraffic {
    const traffic = new ClusterTraffic(this.#config, this.#deps, this.#metrics)
    this.#traffic = traffic
    // For a choice made just before the end: as of one that had some, its limits are nobody else's business any more.
    if (this.#retired) traffic[Symbol.dispose]()
    return traffic
  }

  /** As `traffic`. */
  get #connections(): ClusterConnections {
    this.#connected ??= new ClusterConnections({
      config: this.#config,
      deps: this.#deps,
      metrics: this.#metrics,
      traffic: this.traffic,
      // Its tunnels are nobody else's.
      makeCluster: (own) => new UpstreamCluster(own, alone(this.#deps)),
    })
    return this.#connected
  }

  get counters(): Cluster['counters'] {
    return this.traffic.counters
  }

  get retries(): Retrying {
    return this.traffic.retries
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
    this.#connected?.renew(config)
    this.#health.renew(config)
    this.#reports?.renew(config)
    this.#chooser?.others?.renew?.(config)
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
      .start(
        (localities, policy) => {
          this.hosts.follow(policy ?? this.#config.assignmentPolicy)
          const before = this.hosts.size
          const { added, removed, changed } = this.hosts.update(localities, this.#health)
          for (const host of removed) host.pool?.close()
          if (!changed) {
            if (this.#config.type === 'eds') this.#membership.updateNoRebuild.v++
            return
          }
          const connected = this.#connected
          if (connected !== undefined) for (const host of this.hosts.all) connected.checkTransport(host)
          this.#health.update(added, removed)
          this.#membership.membershipChange.v += added.length + removed.length
          this.#membership.membershipTotal.v += this.hosts.size - before
        },
        (endpoint) => this.#admit(endpoint),
      )
      .then(() => this.#chooser?.start?.())
      .then(() => this.#health.ready())
    return this.#started
  }

  #makeHealth(deps: ClusterDeps, metrics: Metrics): ClusterHealth {
    this.hosts.onChange(() => {
      if (!this.#retired) this.#gaugeHealth(1)
    })
    const connections = `cluster.${this.#config.statName}.upstream_cx_total`
    return new ClusterHealth(this.#config, deps, {
      hosts: this.hosts,
      metrics,
      transports: () => this.#connections.transports,
      // Of the cells, not of `traffic`: a cluster that takes another's place has had its traffic, too.
      hadTraffic: () => metrics.has(connections) && metrics.counter(connections).v > 0,
      ownTransports: (config) => this.#connections.ownTransports(config),
      failed: (host) => this.#hostFailed(host),
      expired: (host) => this.#hostExpired(host),
    })
  }

  /** Pooled connections are not for what comes; raw ones stay unless they are not to. */
  #hostFailed(host: Host): void {
    const { pool } = host
    host.pool = undefined
    pool?.close()
    if (this.#config.closeOnHealthFailure === true) this.#connected?.destroyRaw(host)
  }

  #admit(endpoint: ResolvedEndpoint): void {
    this.#health.update([this.hosts.add(endpoint, this.#health)], [])
    this.#membership.membershipChange.v++
    this.#membership.membershipTotal.v++
  }

  #hostExpired(host: Host): void {
    if (!this.hosts.remove(host)) return
    host.pool?.close()
    this.#membership.membershipChange.v++
    this.#membership.membershipTotal.v--
    this.#health.update([], [host])
  }

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
    const excluded = this.hosts.excludedCount * live
    if (healthy !== this.#healthy) this.#membership.membershipHealthy.v += healthy - this.#healthy
    if (degraded !== this.#degraded) this.#membership.membershipDegraded.v += degraded - this.#degraded
    if (excluded !== this.#excluded) this.#membership.membershipExcluded.v += excluded - this.#excluded
    this.#excluded = excluded
    this.#healthy = healthy
    this.#degraded = degraded
  }

  get forwards(): boolean {
    return this.#config.type === 'dynamic-forward-proxy'
  }

  /** As `Cluster.prepare`; without effect where hosts are configured or discovered. */
  prepare(context: PickContext): Failure | undefined | Promise<Failure | undefined> {
    return this.#chooser?.prepare?.(context)
  }

  pick(context: PickContext): UpstreamHost | Failure {
    if (this.#chooser !== undefined) return this.#chooser.pick(context)
    const host = this.#balancer.pick(context)
    const ratio = this.#config.predictiveRatio
    if (ratio !== undefined && !('code' in host)) this.#preconnect(context, ratio)
    return host
  }

  #preconnect(context: PickContext, ratio: number): void {
    connectAhead(this.#config, ratio, {
      stats: this.traffic.stats,
      peek: () => this.#balancer.peek(context),
      open: (host) => !this.#retired && this.#connections.preconnect(host, ratio),
    })
  }

  open(host: UpstreamHost, attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined {
    const others = this.#chooser?.others
    const owner = others?.ownerOf(host)
    if (this.#destroyed || (others !== undefined && owner === undefined)) {
      events.onReset(FAILURES.noHealthyHost)
      return undefined
    }
    if (owner !== undefined) return owner.open(host, attempt, events)
    const { credential } = this.#config
    if (credential !== undefined && !addCredential(attempt.headers, credential)) {
      events.onReset(FAILURES.noCredential)
      return undefined
    }
    const target = host as Host
    const asked = this.traffic.breakers.ask(attempt.priority)
    if (asked === undefined) return this.#open(target, attempt, events)
    return openLater(asked, attempt, events, { open: () => this.#open(target, attempt, events) })
  }

  #open(target: Host, attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined {
    if (this.#destroyed) {
      events.onReset(FAILURES.noHealthyHost)
      return undefined
    }
    if (target.pool !== undefined) return target.pool.open(attempt, events)
    // A choice made just before the host or the cluster went away: it is served, and nothing is kept for later.
    const leaving = this.#retired || this.hosts.find(target.key) !== target
    return this.#connections.open(target, attempt, { events, leaving })
  }

  connect(host: UpstreamHost, attempt: ByteAttempt, events: ByteEvents): ByteStream | undefined {
    const others = this.#chooser?.others
    const owner = others?.ownerOf(host)
    if (this.#destroyed || (others !== undefined && owner === undefined)) {
      events.onClosed(FAILURES.noHealthyHost)
      return undefined
    }
    if (owner !== undefined) return owner.connect(host, attempt, events)
    return this.#connections.connect(host as Host, attempt, events)
  }

  /** What lives and ends with it. */
  get #inner(): readonly (HboneTunnels | UpstreamCluster)[] {
    return [...(this.#connected?.tunnels ?? []), ...(this.#chooser?.others?.owned ?? [])]
  }

  /** Resolves when no connection is left; only a retired cluster gets there. */
  async drained(): Promise<void> {
    await this.#connected?.drained()
    for (const inner of this.#inner) await inner.drained()
  }

  health(): { healthy: number; degraded: number; total: number } {
    const others = this.#chooser?.others
    if (others !== undefined) return others.health()
    return { healthy: this.hosts.healthyCount, degraded: this.hosts.degradedCount, total: this.hosts.all.length }
  }

  completed(status: number, elapsedMs: number): void {
    const { stats } = this.traffic
    stats.rqStatus.count(status)
    stats.rqTime.record(elapsedMs)
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
    this.#balancer.retire()
    this.#gaugeHealth(0)
    this.#membership.membershipTotal.v -= this.hosts.size
    this.#connected?.close()
    this.#chooser?.others?.close()
    for (const inner of this.#inner) inner.retire()
    this.#traffic?.[Symbol.dispose]()
    if (this.#cells !== undefined) void this.drained().then(() => this.#keepsFigures || this.#cells?.release())
  }

  /** Everything ends now, and nothing begins any more. `keepFigures`: so does the gateway, whose last figures are asked for. */
  destroy(keepFigures = false): void {
    this.#destroyed = true
    this.#keepsFigures = keepFigures
    this.retire()
    this.#balancer[Symbol.dispose]()
    this.#connected?.destroy()
    for (const inner of this.#inner) inner.destroy()
  }

  status(): ClusterStatus {
    const limits = (priority: 'default' | 'high'): ClusterStatus['thresholds'][number] => ({
      priority,
      ...this.config.thresholds[priority],
    })
    const outlier = this.#health.figures()
    return {
      name: this.name,
      ...(this.statName !== this.name && { statName: this.statName }),
      thresholds: [limits('default'), limits('high')],
      ...(outlier && { outlier }),
      hosts: this.hosts.all.map((host) => hostStatus(host, this.#health.rates(host))),
    }
  }
}

/** What is made with them shares its limits with nobody. */
function alone(deps: ClusterDeps): ClusterDeps {
  return Object.assign(Object.create(deps) as ClusterDeps, { leases: undefined })
}
