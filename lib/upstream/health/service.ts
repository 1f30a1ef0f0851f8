import { createHash } from 'node:crypto'
import type { JsonObject } from '../../core/errors.ts'
import type { EjectionNews, HealthReport, HealthVerdicts } from '../../core/host-health.ts'
import type { ClusterStatus } from '../../core/status.ts'
import type { ClusterDeps } from '../cluster.ts'
import type { ClusterConfig } from '../config.ts'
import { JudgedCluster } from './judged-cluster.ts'
import { Member } from './member.ts'

/** What a worker told of stays so long after its end: the one in its place tells of the same. */
const LINGER_MS = 15_000

/** How the service speaks to workers. */
export interface WorkerVoice {
  send(worker: number, verdicts: HealthVerdicts): void
  news(worker: number, news: EjectionNews): void
  /** All that are there. */
  workers(): Iterable<number>
}

/**
 * Judges the hosts of all workers of a gateway: each host is checked once, whoever uses it, and rates and ejections are those
 * of the whole gateway. Workers tell which hosts they have, so it needs no discovery of its own.
 */
export class HostHealthService implements Disposable {
  readonly #deps: ClusterDeps
  readonly #voice: WorkerVoice
  /** By name and configuration: during a change some workers have the old one, some the new. */
  readonly #clusters = new Map<string, JudgedCluster>()
  /** By worker, then by the number that it gave its cluster. */
  readonly #members = new Map<number, Map<number, Member>>()
  readonly #lingering = new Set<() => void>()

  constructor(deps: ClusterDeps, voice: WorkerVoice) {
    this.#deps = deps
    this.#voice = voice
  }

  /** A worker is there that knows nothing: it learns what is ejected before it has hosts. */
  welcome(worker: number): void {
    for (const { name, ejected } of this.#clusters.values()) {
      if (ejected.size > 0) this.#voice.news(worker, { cluster: name, hosts: [...ejected] })
    }
  }

  #announce(cluster: string, hosts: readonly string[]): void {
    for (const worker of this.#voice.workers()) this.#voice.news(worker, { cluster, hosts })
  }

  /** What a worker tells; what begins in the middle (it was told to a process before this one) counts for nothing. */
  report(worker: number, reports: readonly HealthReport[]): void {
    for (const report of reports) this.#report(worker, report)
  }

  #report(worker: number, report: HealthReport): void {
    let members = this.#members.get(worker)
    if (members === undefined) this.#members.set(worker, (members = new Map()))
    const member = members.get(report.cluster)
    if (report.kind === 'open') {
      if (member !== undefined) this.#leave(member)
      members.delete(report.cluster)
      const joined = this.#open(worker, report)
      if (joined !== undefined) members.set(report.cluster, joined)
    } else if (member === undefined) return
    else if (report.kind === 'close') {
      members.delete(report.cluster)
      this.#leave(member)
    } else if (report.kind === 'renew') this.#renew(member.cluster, report.config)
    else member.cluster.told(member, report)
  }

  #open(worker: number, { cluster: number, config, traffic }: HealthReport & { kind: 'open' }): Member | undefined {
    const key = keyOf(config)
    let cluster = this.#clusters.get(key)
    if (cluster === undefined) {
      try {
        const read = config as unknown as ClusterConfig
        const announce = (hosts: readonly string[]): void => this.#announce(read.name, hosts)
        cluster = new JudgedCluster(key, read, { deps: this.#deps, announce })
      } catch (error) {
        this.#deps.log.error('the hosts of a cluster cannot be judged', { cluster: config.name, error: String(error) })
        return undefined
      }
      this.#clusters.set(key, cluster)
    }
    const member = new Member(cluster, number, (verdicts) => this.#voice.send(worker, verdicts))
    cluster.join(member, traffic)
    return member
  }

  /** The first worker that tells of new certificates does so for all. */
  #renew(cluster: JudgedCluster, config: JsonObject): void {
    const key = keyOf(config)
    if (cluster.key === key) return
    if (this.#clusters.get(cluster.key) === cluster) this.#clusters.delete(cluster.key)
    cluster.key = key
    cluster.renew(config as unknown as ClusterConfig)
    // A worker may have come up with the new ones meanwhile, and have one of its own.
    if (!this.#clusters.has(key)) this.#clusters.set(key, cluster)
  }

  #leave(member: Member): void {
    const { cluster } = member
    cluster.leave(member)
    if (!cluster.idle) return
    if (this.#clusters.get(cluster.key) === cluster) this.#clusters.delete(cluster.key)
    cluster[Symbol.dispose]()
  }

  /** A worker process has ended. */
  retire(worker: number): void {
    const members = this.#members.get(worker)
    if (members === undefined) return
    this.#members.delete(worker)
    for (const member of members.values()) member.end()
    const cancel = this.#deps.wheel.clock.schedule(LINGER_MS, () => {
      this.#lingering.delete(cancel)
      for (const member of members.values()) this.#leave(member)
    })
    this.#lingering.add(cancel)
  }

  /** Clusters that it judges. */
  get size(): number {
    return this.#clusters.size
  }

  /** What workers say of their clusters, with what is known here alone. */
  complete(clusters: readonly ClusterStatus[]): ClusterStatus[] {
    const judged = new Map<string, JudgedCluster>()
    for (const cluster of this.#clusters.values()) if (cluster.rates) judged.set(cluster.name, cluster)
    return clusters.map((status) => judged.get(status.name)?.complete(status) ?? status)
  }

  [Symbol.dispose](): void {
    for (const cancel of this.#lingering) cancel()
    this.#lingering.clear()
    for (const cluster of this.#clusters.values()) cluster[Symbol.dispose]()
    this.#clusters.clear()
    this.#members.clear()
  }
}

/** Made in one place, from one text: equal configurations have equal texts. */
function keyOf(config: JsonObject): string {
  return createHash('sha256').update(JSON.stringify(config)).digest('base64')
}
