import type { Metrics } from '../core/metrics.ts'
import { sameJson } from '../core/same-json.ts'
import type { ClusterStatus, HostStatus } from '../core/status.ts'
import { hostSetOptions } from './balancing.ts'
import type { ClusterConnections } from './cluster-connections.ts'
import type { ClusterDeps } from './cluster-deps.ts'
import { ClusterHealth } from './cluster-health.ts'
import type { AssignmentPolicyConfig, ClusterConfig } from './config.ts'
import { eventLogPaths } from './health/make.ts'
import { HeldMembership } from './held-membership.ts'
import { Host, type ResolvedEndpoint, type ResolvedLocality } from './host.ts'
import { HostSet } from './host-set.ts'
import { hostStatus } from './host-status.ts'
import { NO_FIGURES } from './outlier/rates.ts'
import { OUTLIER_CELLS } from './outlier/stats.ts'
import type { MembershipStats } from './stats.ts'

/** The cluster whose members they are. */
export interface MembersOwner {
  /** Made when it is first asked for. */
  readonly connections: ClusterConnections
  /** Undefined: nobody has asked for it. */
  readonly connected: ClusterConnections | undefined
  /** With the certificates of now. */
  readonly config: ClusterConfig
  /** As `Metrics`, of the cluster. */
  readonly metrics: Metrics
}

/**
 * The membership of one cluster and what is known of its hosts' health: as it was delivered until somebody asks for a host,
 * and hosts from then on.
 *
 * ```
 * held ──hosts: a request, a check, a table of hashes──▶ made
 *  ▲└─ take(): the numbers of hosts move                   └─ take(): hosts come and go
 * ```
 * Where something has to happen with each host, active checks above all, hosts are made as soon as they come.
 */
export class ClusterMembers {
  readonly #owner: MembersOwner
  readonly #deps: ClusterDeps
  readonly #stats: MembershipStats
  #held: HeldMembership | undefined = undefined
  #policy: AssignmentPolicyConfig = NO_POLICY
  #hosts: HostSet | undefined = undefined
  #health: ClusterHealth | undefined = undefined
  #healthy = 0
  #degraded = 0
  #excluded = 0
  #retired = false

  /** @throws the system's error where an event log cannot be opened. */
  constructor(owner: MembersOwner, deps: ClusterDeps, stats: MembershipStats) {
    const { config, metrics } = owner
    this.#owner = owner
    this.#deps = deps
    this.#stats = stats
    if (config.outlier !== undefined) metrics.declare?.(`cluster.${config.statName}.`, OUTLIER_CELLS)
    if (!waits(config)) void this.hosts
  }

  get hosts(): HostSet {
    return this.#hosts ?? this.#make()
  }

  /** Nobody has asked for a host. */
  get untouched(): boolean {
    return this.#hosts === undefined
  }

  #make(): HostSet {
    const { config } = this.#owner
    const hosts = new HostSet(hostSetOptions(config, this.#deps))
    this.#hosts = hosts
    if (config.healthCheck !== undefined || config.outlier !== undefined) this.#health = this.#makeHealth(hosts)
    hosts.follow(this.#policy)
    const { added } = hosts.update(this.#held?.localities ?? [], this.#health)
    this.#held = undefined
    // What they are has been counted.
    hosts.onChange(() => this.#count())
    if (this.#retired) this.#health?.[Symbol.dispose]()
    else this.#health?.update(added, [])
    return hosts
  }

  #makeHealth(hosts: HostSet): ClusterHealth {
    const owner = this.#owner
    const { config, metrics } = owner
    const connections = `cluster.${config.statName}.upstream_cx_total`
    return new ClusterHealth(config, this.#deps, {
      hosts,
      metrics,
      transports: () => owner.connections.transports,
      // Of the cells, not of the cluster: one that takes another's place has had its traffic, too.
      hadTraffic: () => metrics.has(connections) && metrics.counter(connections).v > 0,
      ownTransports: (other) => owner.connections.ownTransports(other),
      failed: (host) => this.#hostFailed(host),
      expired: (host) => this.#hostExpired(host),
    })
  }

  /** Takes the place of all that was known. */
  take(localities: readonly ResolvedLocality[], policy: AssignmentPolicyConfig = NO_POLICY): void {
    const held = this.#hosts === undefined ? HeldMembership.of(localities) : undefined
    if (held === undefined) this.#update(localities, policy)
    else this.#hold(held, policy)
  }

  #hold(next: HeldMembership, policy: AssignmentPolicyConfig): void {
    const { came, went, changed } = this.#held?.compare(next) ?? next.beginning
    const same = !changed && sameJson(policy, this.#policy)
    this.#policy = policy
    if (same) {
      this.#unchanged()
      return
    }
    this.#held = next
    this.#stats.membershipChange.v += came + went
    this.#stats.membershipTotal.v += came - went
    this.#count()
  }

  #update(localities: readonly ResolvedLocality[], policy: AssignmentPolicyConfig): void {
    const { hosts } = this
    hosts.follow(policy)
    const before = hosts.size
    const { added, removed, changed } = hosts.update(localities, this.#health)
    for (const host of removed) host.pool?.close()
    if (!changed) {
      this.#unchanged()
      return
    }
    const { connected } = this.#owner
    if (connected !== undefined) for (const host of hosts.all) connected.checkTransport(host)
    this.#health?.update(added, removed)
    this.#stats.membershipChange.v += added.length + removed.length
    this.#stats.membershipTotal.v += hosts.size - before
  }

  #unchanged(): void {
    if (this.#owner.config.type === 'eds') this.#stats.updateNoRebuild.v++
  }

  /** One more. */
  admit(endpoint: ResolvedEndpoint): void {
    const host = this.hosts.add(endpoint, this.#health)
    this.#health?.update([host], [])
    this.#stats.membershipChange.v++
    this.#stats.membershipTotal.v++
  }

  /** Pooled connections are not for what comes; raw ones stay unless they are not to. */
  #hostFailed(host: Host): void {
    const { pool } = host
    host.pool = undefined
    pool?.close()
    const { config, connected } = this.#owner
    if (config.closeOnHealthFailure === true) connected?.destroyRaw(host)
  }

  #hostExpired(host: Host): void {
    if (!this.hosts.remove(host)) return
    host.pool?.close()
    this.#stats.membershipChange.v++
    this.#stats.membershipTotal.v--
    this.#health?.update([], [host])
  }

  get healthyCount(): number {
    return this.#hosts?.healthyCount ?? this.#held?.healthy ?? 0
  }

  get size(): number {
    return this.#hosts?.size ?? this.#held?.size ?? 0
  }

  get degradedCount(): number {
    return this.#hosts?.degradedCount ?? this.#held?.degraded ?? 0
  }

  /** Gauges are shared by name with a successor, so they move by differences. */
  #count(): void {
    const stats = this.#stats
    const live = this.#retired ? 0 : 1
    const healthy = this.healthyCount * live
    const degraded = this.degradedCount * live
    const excluded = (this.#hosts?.excludedCount ?? 0) * live
    if (healthy !== this.#healthy) stats.membershipHealthy.v += healthy - this.#healthy
    if (degraded !== this.#degraded) stats.membershipDegraded.v += degraded - this.#degraded
    if (excluded !== this.#excluded) stats.membershipExcluded.v += excluded - this.#excluded
    this.#healthy = healthy
    this.#degraded = degraded
    this.#excluded = excluded
  }

  /** Resolves when every host has been checked once. */
  ready(): Promise<void> | undefined {
    return this.#health?.ready()
  }

  renew(config: ClusterConfig): void {
    this.#health?.renew(config)
  }

  /** Nobody counts them any more, and nothing is checked. */
  retire(): void {
    this.#retired = true
    this.#health?.[Symbol.dispose]()
    this.#count()
    this.#stats.membershipTotal.v -= this.size
  }

  /** For `/clusters`; makes nothing that stays. */
  status(): Pick<ClusterStatus, 'hosts' | 'outlier'> {
    const hosts = this.#hosts
    if (hosts === undefined) return this.#heldStatus()
    const outlier = this.#health?.figures()
    return {
      ...(outlier && { outlier }),
      hosts: hosts.all.map((host) => hostStatus(host, this.#health?.rates(host))),
    }
  }

  #heldStatus(): Pick<ClusterStatus, 'hosts' | 'outlier'> {
    const outlier = this.#owner.config.outlier && { external: NO_FIGURES, local: NO_FIGURES }
    const rates = outlier && { external: -1, local: -1 }
    const hosts: HostStatus[] = []
    for (const { priority, locality, endpoints } of this.#held?.localities ?? []) {
      for (const endpoint of endpoints) hosts.push(hostStatus(new Host(endpoint, priority, locality), rates))
    }
    // As they will stand in a `HostSet`.
    return { ...(outlier && { outlier }), hosts: hosts.sort((a, b) => a.priority - b.priority) }
  }
}

const NO_POLICY: AssignmentPolicyConfig = Object.freeze({})

/** Nothing has to happen with a host before a request comes. */
function waits(config: ClusterConfig): boolean {
  if (config.healthCheck !== undefined) return false
  // What cannot be opened is refused when the cluster is made.
  if (eventLogPaths(config).length > 0) return false
  const { balancer } = config
  // Its hosts are new for a while from when they come.
  return !('slowStart' in balancer && balancer.slowStart !== undefined)
}
