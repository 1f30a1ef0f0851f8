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
  Waiter,
} from '../core/attempt.ts'
import { FAILURES, type Failure } from '../core/failure.ts'
import type { Metrics, MetricsGroup } from '../core/metrics.ts'
import type { ClusterStatus } from '../core/status.ts'
import { openLater } from './auto-stream.ts'
import { ClusterBalancer, madeByFirstPick } from './balancing.ts'
import type { Chooser } from './choice/chooser.ts'
import { choosesItself, createChooser } from './choice/create-chooser.ts'
import { ClusterConnections } from './cluster-connections.ts'
import type { ClusterDeps } from './cluster-deps.ts'
import { ClusterMembers, type MembersOwner } from './cluster-members.ts'
import { CLUSTER_CELLS, ClusterTraffic, showsFromStart } from './cluster-traffic.ts'
import type { ClusterConfig } from './config.ts'
import { addCredential } from './credential.ts'
import { createDiscovery } from './discovery/create-discovery.ts'
import type { Discovery } from './discovery/discovery.ts'
import { UpstreamFilters } from './filters/chain.ts'
import type { HboneTunnels } from './hbone/tunnels.ts'
import type { Host } from './host.ts'
import type { HostSet } from './host-set.ts'
import { Reporting } from './orca/source.ts'
import { connectAhead } from './predictive.ts'
import type { Retrying } from './retries.ts'
import { MembershipStats } from './stats.ts'

export type { ClusterDeps } from './cluster-deps.ts'

/**
 * One upstream cluster: membership from its discovery, a balancer over it, a pool per host. Lives as long as its
 * configuration is unchanged, over any number of snapshots.
 */
export class UpstreamCluster implements Cluster, MembersOwner {
  readonly name: string
  #config: ClusterConfig
  readonly #deps: ClusterDeps
  readonly #cells: MetricsGroup | undefined
  readonly #stats: MembershipStats
  readonly #members: ClusterMembers
  #traffic: ClusterTraffic | undefined = undefined
  #madeBalancer: ClusterBalancer | undefined = undefined
  /** Undefined: hosts are not asked for load reports. */
  #reports: ReturnType<typeof Reporting.of> = undefined
  readonly #discovery: Discovery
  /** Instead of the balancer. */
  readonly #chooser: Chooser | undefined
  #connected: ClusterConnections | undefined = undefined
  #started: Promise<void> | undefined = undefined
  readonly #filters: UpstreamFilters | undefined

  constructor(config: ClusterConfig, deps: ClusterDeps) {
    this.name = config.name
    this.#config = config
    this.#deps = deps
    // They go with the last cluster of that name; successors count on.
    this.#cells = deps.metrics.group?.(`cluster.${config.statName}`)
    const { metrics } = this
    metrics.declare?.(`cluster.${config.statName}.`, CLUSTER_CELLS)
    this.#stats = new MembershipStats(metrics, config.statName)
    this.#discovery = createDiscovery(config, {
      clock: deps.wheel.clock,
      random: deps.random,
      log: deps.log,
      stats: this.#stats,
      metrics: deps.metrics,
      dns: deps.dns,
      assignments: deps.assignments,
    })
    try {
      this.#members = new ClusterMembers(this, deps, this.#stats)
    } catch (error) {
      // An event log cannot be opened: nobody will ever retire this cluster.
      this.#cells?.release()
      throw error
    }
    this.#chooser = choosesItself(config) ? this.#makeChooser() : undefined
    this.#filters = config.filters && UpstreamFilters.of(config, deps)
    if (!madeByFirstPick(config)) this.#makeBalancer()
    if (showsFromStart(config)) void this.traffic
  }

  #makeChooser(): Chooser | undefined {
    const { wheel, random, clusterOf } = this.#deps
    return createChooser(this.#config, {
      hosts: this.hosts,
      discovery: this.#discovery,
      clock: wheel.clock,
      random,
      metrics: this.metrics,
      find: clusterOf,
      // Its tunnels are nobody else's.
      makeCluster: (own) => new UpstreamCluster(own, alone(this.#deps)),
      none: () => this.traffic.stats.cxNoneHealthy,
    })
  }

  /** Of the cluster. */
  get metrics(): Metrics {
    return this.#cells ?? this.#deps.metrics
  }

  /** They are made when they are first asked for: whoever looks at all clusters asks `untouched` before. */
  get hosts(): HostSet {
    return this.#members.hosts
  }

  get untouched(): boolean {
    return this.#members.untouched
  }

  get #balancer(): ClusterBalancer {
    return this.#madeBalancer ?? this.#makeBalancer()
  }

  #makeBalancer(): ClusterBalancer {
    const { metrics } = this
    const stats = (): ClusterTraffic['stats'] => this.traffic.stats
    this.#reports = Reporting.of(this.#config, { deps: this.#deps, metrics, connections: () => this.connections })
    const parts = { deps: this.#deps, metrics, stats, reports: this.#reports }
    this.#madeBalancer = new ClusterBalancer(this.#config, this.hosts, parts)
    if (this.#retired) this.#madeBalancer.retire()
    return this.#madeBalancer
  }

  /** Made when it is first asked for. */
  get traffic(): ClusterTraffic {
    return this.#traffic ?? this.#makeTraffic()
  }

  #makeTraffic(): ClusterTraffic {
    const traffic = new ClusterTraffic(this.#config, this.#deps, this.metrics)
    this.#traffic = traffic
    // For a choice made just before the end: as of one that had some, its limits are nobody else's business any more.
    if (this.#retired) traffic[Symbol.dispose]()
    return traffic
  }

  /** As `traffic`. */
  get connections(): ClusterConnections {
    this.#connected ??= new ClusterConnections({
      config: this.#config,
      deps: this.#deps,
      metrics: this.metrics,
      traffic: this.traffic,
      // Its tunnels are nobody else's.
      makeCluster: (own) => new UpstreamCluster(own, alone(this.#deps)),
    })
    return this.#connected
  }

  /** Undefined: there has been none. */
  get connected(): ClusterConnections | undefined {
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

  get hashPolicies(): Cluster['hashPolicies'] {
    return this.#config.hashPolicies
  }

  /**
   * Takes over a configuration that differs in certificates, keys, authorities, revocation lists and the credential alone:
   * connections (and requests) to come use them, those that are open stay.
   */
  renew(config: ClusterConfig): void {
    if (config === this.#config) return
    this.#config = config
    this.#connected?.renew(config)
    this.#members.renew(config)
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
        (localities, policy) => this.#members.take(localities, policy ?? this.#config.assignmentPolicy),
        (endpoint) => this.#members.admit(endpoint),
      )
      .then(() => this.#chooser?.start?.())
      .then(() => this.#members.ready())
    return this.#started
  }

  #retired = false
  #destroyed = false
  #keepsFigures = false

  get forwards(): boolean {
    return this.#config.type === 'dynamic-forward-proxy' || this.#chooser?.others?.forwards === true
  }

  /** As `Cluster.prepare`; without effect where hosts are configured or discovered. */
  prepare(context: PickContext, waiter?: Waiter): Failure | undefined | Promise<Failure | undefined> {
    return this.#chooser?.prepare?.(context, waiter)
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
      open: (host) => !this.#retired && this.connections.preconnect(host, ratio, context),
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
    const filters = this.#filters
    if (filters === undefined) return this.#openHere(host as Host, attempt, events)
    return filters.open(attempt, events, (own, answers) => this.#openHere(host as Host, own, answers))
  }

  #openHere(target: Host, attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined {
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
    return this.connections.open(target, attempt, { events, leaving })
  }

  connect(host: UpstreamHost, attempt: ByteAttempt, events: ByteEvents): ByteStream | undefined {
    const others = this.#chooser?.others
    const owner = others?.ownerOf(host)
    if (this.#destroyed || (others !== undefined && owner === undefined)) {
      events.onClosed(FAILURES.noHealthyHost)
      return undefined
    }
    if (owner !== undefined) return owner.connect(host, attempt, events)
    return this.connections.connect(host as Host, attempt, events)
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
    const { healthyCount: healthy, degradedCount: degraded, size: total } = this.#members
    return { healthy, degraded, total }
  }

  completed(status: number, elapsedMs: number, internal: boolean): void {
    const { stats } = this.traffic
    stats.rqStatus.count(status)
    stats.rqTime.record(elapsedMs)
    stats.of(internal).count(status, elapsedMs)
  }

  get retired(): boolean {
    return this.#retired
  }

  /** No new membership; idle connections close, busy ones after their exchange. */
  retire(): void {
    if (this.#retired) return
    this.#retired = true
    this.#discovery.close()
    this.#members.retire()
    this.#madeBalancer?.retire()
    this.#connected?.close()
    this.#chooser?.others?.close()
    for (const inner of this.#inner) inner.retire()
    this.#traffic?.[Symbol.dispose]()
    if (this.#filters !== undefined) void this.drained().then(() => this.#filters?.retire())
    if (this.#cells !== undefined) void this.drained().then(() => this.#keepsFigures || this.#cells?.release())
  }

  /** Everything ends now, and nothing begins any more. `keepFigures`: so does the gateway, whose last figures are asked for. */
  destroy(keepFigures = false): void {
    this.#destroyed = true
    this.#keepsFigures = keepFigures
    this.retire()
    this.#madeBalancer?.[Symbol.dispose]()
    this.#connected?.destroy()
    for (const inner of this.#inner) inner.destroy()
  }

  status(): ClusterStatus {
    const limits = (priority: 'default' | 'high'): ClusterStatus['thresholds'][number] => ({
      priority,
      ...this.config.thresholds[priority],
    })
    return {
      name: this.name,
      ...(this.statName !== this.name && { statName: this.statName }),
      thresholds: [limits('default'), limits('high')],
      ...this.#members.status(),
    }
  }
}

/** What is made with them shares its limits with nobody. */
function alone(deps: ClusterDeps): ClusterDeps {
  return Object.assign(Object.create(deps) as ClusterDeps, { leases: undefined })
}
