import type { GrpcTargetConfig } from '../../../xds-client/config.ts'
import { withLiveness } from '../../../xds-client/transport/liveness.ts'
import type { ConfigChange } from '../../config/change.ts'
import type { Cluster } from '../../core/attempt.ts'
import type { Clock } from '../../core/clock.ts'
import { Headers } from '../../core/headers.ts'
import type { Log } from '../../core/metrics.ts'
import { TimerWheel } from '../../core/timer-wheel.ts'
import { GrpcClient } from '../../grpc/client.ts'
import { MetricsStore } from '../../telemetry/metrics.ts'
import { ClusterTable } from '../../upstream/cluster-table.ts'
import type { ClusterConfig } from '../../upstream/config.ts'
import { DnsResolvers } from '../../upstream/discovery/dns/resolver.ts'
import { readFileMetadata } from './file-metadata.ts'
import { serviceAccountMetadata } from './service-account.ts'

export interface ChannelsOptions {
  readonly clock: Clock
  readonly log: Log
  readonly random: () => number
}

/**
 * The clusters by which one process speaks to management servers: of all that are published those that somebody has asked
 * for, with connections, names and statistics of their own, and with what finds a server that has gone silent. They follow
 * what is published, so that certificates are renewed here as they are in workers.
 */
export class Channels implements Disposable {
  readonly metrics = new MetricsStore()
  readonly wheel: TimerWheel
  readonly #options: ChannelsOptions
  readonly #dns: DnsResolvers
  readonly #table: ClusterTable
  /** All that were published. */
  readonly #known = new Map<string, ClusterConfig>()
  readonly #used = new Set<string>()
  #connectionId = 0

  constructor(options: ChannelsOptions) {
    const { clock, log, random } = options
    this.#options = options
    this.wheel = new TimerWheel(clock)
    this.#dns = new DnsResolvers({ clock })
    this.#table = new ClusterTable({
      metrics: this.metrics,
      wheel: this.wheel,
      random,
      log,
      dns: this.#dns,
      nextConnectionId: () => ++this.#connectionId,
    })
  }

  /** Takes over what has been published; in order. */
  follow({ clusters, assignments }: ConfigChange): void {
    for (const assignment of assignments?.set ?? []) this.#table.assignments.set(assignment)
    for (const name of assignments?.remove ?? []) this.#table.assignments.remove(name)
    if (clusters === undefined) return
    for (const name of clusters.remove) this.#known.delete(name)
    for (const config of clusters.set) this.#known.set(config.name, config)
    const used = clusters.set.filter(({ name }) => this.#used.has(name))
    const gone = clusters.remove.filter((name) => this.#used.has(name))
    if (used.length > 0 || gone.length > 0) this.#table.change(used.map(withLiveness), gone)
  }

  /** The cluster of that name as it is now; undefined where none has been published. */
  cluster(name: string): Cluster | undefined {
    if (!this.#used.has(name)) {
      this.#used.add(name)
      const config = this.#known.get(name)
      if (config !== undefined) this.#table.change([withLiveness(config)], [])
    }
    return this.#table.get(name)
  }

  /** All that were published, and by which names their endpoints are asked for; '' where that is their own. */
  *published(): Generator<{ readonly name: string; readonly serviceName: string }> {
    for (const { name, assignment = '' } of this.#known.values()) {
      yield { name, serviceName: assignment === name ? '' : assignment }
    }
  }

  /** @throws TypeError for an authority or metadata that may not be in a header */
  grpcClient(target: GrpcTargetConfig): GrpcClient {
    const { cluster, authority, initialMetadata, timeoutMs, maxReceiveBytes } = target
    const { clock, log } = this.#options
    const own = [...readFileMetadata(target, log), ...serviceAccountMetadata(target, clock.wall())]
    return new GrpcClient({
      cluster: () => this.cluster(cluster),
      authority: authority === '' ? cluster : authority,
      wheel: this.wheel,
      log,
      initialMetadata: new Headers([...initialMetadata, ...own]),
      timeoutMs,
      maxReceiveBytes,
    })
  }

  [Symbol.dispose](): void {
    this.#table.destroy()
    this.wheel.close()
    this.#dns[Symbol.dispose]()
  }
}
