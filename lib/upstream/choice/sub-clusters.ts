import { formatHostPort, isIp } from '../../core/address.ts'
import type { PickContext, UpstreamHost } from '../../core/attempt.ts'
import type { Cancel, Clock } from '../../core/clock.ts'
import { FAILURES, type Failure } from '../../core/failure.ts'
import type { UpstreamCluster } from '../cluster.ts'
import type { BalancerConfig, ClusterConfig, ForwardProxyConfig } from '../config.ts'
import { type AddressFilter, compileAddressFilter } from '../discovery/address-filter.ts'
import { isHostName } from '../discovery/forward-proxy.ts'
import type { Chooser, OtherClusters } from './chooser.ts'
import type { Wanted } from './named.ts'

/** What a forward proxy with clusters of its own works with. */
export interface SubClusterParts {
  readonly config: ClusterConfig
  readonly limits: ForwardProxyConfig
  readonly balancer: BalancerConfig
  readonly clock: Clock
  readonly wanted: Wanted
  /** Makes a cluster that nobody else knows. */
  readonly makeCluster: (config: ClusterConfig) => UpstreamCluster
}

interface Sub {
  readonly name: string
  readonly port: number
  readonly cluster: UpstreamCluster
  usedMs: number
  /** Undefined: it is warm. */
  warming: Promise<void> | undefined
}

/**
 * A forward proxy with a cluster for each name and port (Envoy's `sub_clusters_config`): all addresses of the name are its
 * hosts, balanced by a policy. They are made when they are asked for, and go when nobody has asked during their time.
 */
export class SubClusters implements Chooser, OtherClusters {
  readonly others: this = this
  readonly #parts: SubClusterParts
  #config: ClusterConfig
  readonly #admits: AddressFilter | undefined
  readonly #subs = new Map<string, Sub>()
  /** Out of use, and with connections. */
  readonly #leaving = new Set<UpstreamCluster>()
  #sweep: Cancel | undefined = undefined
  #closed = false
  #picked: UpstreamHost | undefined = undefined
  #owner: UpstreamCluster | undefined = undefined

  constructor(parts: SubClusterParts) {
    this.#parts = parts
    this.#config = parts.config
    const { dns } = parts.config
    this.#admits = dns?.addresses && compileAddressFilter(dns.addresses)
  }

  /** Resolves when those that are made ahead are warm. */
  async start(): Promise<void> {
    const ahead = this.#parts.limits.preresolve.map(({ host, port }) => this.#demand(host, port))
    await Promise.all(ahead.map((sub) => ('cluster' in sub ? sub.warming : undefined)))
  }

  prepare(context: PickContext): Failure | undefined | Promise<Failure | undefined> {
    const sub = this.#subOf(context)
    if (!('cluster' in sub)) return sub
    return sub.warming?.then(() => undefined)
  }

  pick(context: PickContext): UpstreamHost | Failure {
    const sub = this.#subOf(context)
    if (!('cluster' in sub)) return sub
    const host = sub.cluster.pick(context)
    if (!('code' in host)) {
      this.#picked = host
      this.#owner = sub.cluster
    }
    return host
  }

  #subOf(context: PickContext): Sub | Failure {
    const target = this.#parts.wanted(context)
    return target === undefined ? FAILURES.noHealthyHost : this.#demand(target.name, target.port)
  }

  #demand(given: string, port: number): Sub | Failure {
    const name = given.toLowerCase().replace(/\.$/, '')
    const key = formatHostPort(name, port)
    const { clock, limits, makeCluster } = this.#parts
    const known = this.#subs.get(key)
    if (known !== undefined) {
      known.usedMs = clock.now()
      return known
    }
    if (this.#closed || !(isIp(name) || isHostName(name))) return FAILURES.dnsFailed
    if (isIp(name) && this.#admits?.(name) === false) return FAILURES.dnsFailed
    if (this.#subs.size >= limits.maxHosts) return FAILURES.subClusterOverflow
    const cluster = makeCluster(this.#configOf(name, port))
    const sub: Sub = { name, port, cluster, usedMs: clock.now(), warming: undefined }
    sub.warming = cluster.warm().then(() => {
      sub.warming = undefined
    })
    this.#subs.set(key, sub)
    this.#sweepLater()
    return sub
  }

  #configOf(name: string, port: number): ClusterConfig {
    const { balancer } = this.#parts
    const { forwardProxy: _, assignmentPolicy: __, ...rest } = this.#config
    const own = `DFPCluster:${formatHostPort(name, port)}`
    const endpoint = {
      address: { kind: 'ip', host: name, port },
      hostname: name,
      weight: 1,
      health: 'healthy',
    } as const
    return {
      ...rest,
      name: own,
      statName: own,
      type: isIp(name) ? 'static' : 'strict-dns',
      localities: [{ priority: 0, endpoints: [endpoint] }],
      balancer,
    }
  }

  #sweepLater(): void {
    const { clock, limits } = this.#parts
    this.#sweep ??= clock.schedule(limits.hostTtlMs, () => {
      this.#sweep = undefined
      const before = clock.now() - limits.hostTtlMs
      for (const [key, { cluster, usedMs }] of this.#subs) {
        if (usedMs > before) continue
        this.#subs.delete(key)
        this.#leaving.add(cluster)
        cluster.retire()
        void cluster.drained().then(() => this.#leaving.delete(cluster))
      }
      if (this.#subs.size > 0) this.#sweepLater()
    })
  }

  ownerOf(host: UpstreamHost): UpstreamCluster | undefined {
    if (this.#picked === host) return this.#owner
    for (const cluster of this.owned) if (cluster.hosts.all.some((one) => one === host)) return cluster
    return undefined
  }

  health(): { healthy: number; degraded: number; total: number } {
    const sum = { healthy: 0, degraded: 0, total: 0 }
    for (const { cluster } of this.#subs.values()) {
      const { healthy, degraded, total } = cluster.health()
      sum.healthy += healthy
      sum.degraded += degraded
      sum.total += total
    }
    return sum
  }

  renew(config: ClusterConfig): void {
    this.#config = config
    for (const { cluster, name, port } of this.#subs.values()) cluster.renew(this.#configOf(name, port))
  }

  get owned(): readonly UpstreamCluster[] {
    return [...[...this.#subs.values()].map(({ cluster }) => cluster), ...this.#leaving]
  }

  close(): void {
    this.#closed = true
    this.#sweep?.()
    this.#sweep = undefined
    this.#picked = undefined
    this.#owner = undefined
  }
}
