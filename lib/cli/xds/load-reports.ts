import type { ConfigSourceConfig, DynamicConfig, GrpcTargetConfig } from '../../../xds-client/config.ts'
import type { EnvoyLoadContext } from '../../../xds-client/envoy/load.ts'
import { LoadReporter } from '../../../xds-client/load-report/reporter.ts'
import type { ReportedCluster } from '../../../xds-client/load-report/request.ts'
import type { ResourceChange } from '../../config/change.ts'
import type { Clock } from '../../core/clock.ts'
import type { JsonObject } from '../../core/errors.ts'
import type { Log } from '../../core/metrics.ts'
import { decodeJson } from '../../proto/decode-json.ts'
import type { LoadReader } from '../../runtime/load-ledger.ts'
import type { ClusterConfig } from '../../upstream/config.ts'
import type { Channels } from './channels.ts'

/** What load reports take. */
export interface LoadReportsOptions {
  readonly dynamic: DynamicConfig | undefined
  readonly context: EnvoyLoadContext
  readonly node: JsonObject
  readonly channels: Channels
  /** What hosts count; undefined: no reports are made. */
  readonly loads: (() => LoadReader) | undefined
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
}

/** A server that some clusters name for themselves. */
interface OwnServer {
  readonly clusters: Map<string, ReportedCluster>
  reporter: Disposable | undefined
}

/**
 * Load reports to the server of the bootstrap, which hears of all clusters, and to those that clusters name for themselves
 * (`lrs_server`), each of which hears of its own as long as there are any.
 */
export class LoadReports implements Disposable {
  readonly #options: LoadReportsOptions
  readonly #servers = new Map<string, OwnServer>()
  /** The server of each cluster that names one. */
  readonly #byCluster = new Map<string, string>()
  #common: Disposable | undefined = undefined

  constructor(options: LoadReportsOptions) {
    this.#options = options
  }

  start(): void {
    const { dynamic, channels } = this.#options
    if (dynamic?.loadStats === undefined) return
    this.#common = this.#report(dynamic.loadStats, () => channels.published())
  }

  /** Takes over what has been published; in order. */
  follow({ set, remove }: ResourceChange<ClusterConfig>): void {
    if (this.#options.loads === undefined) return
    for (const name of remove) this.#leave(name, undefined)
    for (const { name, loadServer, assignment = '' } of set) {
      this.#leave(name, loadServer)
      if (loadServer === undefined) continue
      this.#byCluster.set(name, loadServer)
      let server = this.#servers.get(loadServer)
      if (server === undefined) this.#servers.set(loadServer, (server = { clusters: new Map(), reporter: undefined }))
      server.clusters.set(name, { name, serviceName: assignment === name ? '' : assignment })
      const { clusters } = server
      server.reporter ??= this.#reportOwn(loadServer, () => clusters.values())
    }
  }

  /** `next`: the server that it names now. */
  #leave(name: string, next: string | undefined): void {
    const key = this.#byCluster.get(name)
    if (key === undefined || key === next) return
    this.#byCluster.delete(name)
    const server = this.#servers.get(key)
    server?.clusters.delete(name)
    if (server === undefined || server.clusters.size > 0) return
    this.#servers.delete(key)
    server.reporter?.[Symbol.dispose]()
  }

  #reportOwn(key: string, clusters: () => Iterable<ReportedCluster>): Disposable | undefined {
    const { dynamic, context } = this.#options
    const target = targetOf(context.loadServers?.get(key), dynamic)
    // The server of the bootstrap hears of all clusters as it is.
    if (target === undefined || target.cluster === dynamic?.loadStats?.cluster) return undefined
    return this.#report(target, clusters)
  }

  #report(target: GrpcTargetConfig, clusters: () => Iterable<ReportedCluster>): Disposable | undefined {
    const { context, node: json, channels, loads, clock, random, log } = this.#options
    const { registry } = context
    const node = decodeJson(registry, registry.expect('envoy.config.core.v3.Node'), json, 'node').message
    if (loads === undefined || node === undefined) return undefined
    const reader = loads()
    const reporter = new LoadReporter({
      client: () => channels.grpcClient(target),
      registry,
      node,
      figures: () => reader.take(),
      clusters,
      clock,
      random,
      metrics: channels.metrics,
      log,
      backoff: target.backoff,
    })
    reporter.start()
    return {
      [Symbol.dispose]: () => {
        reporter[Symbol.dispose]()
        reader[Symbol.dispose]()
      },
    }
  }

  [Symbol.dispose](): void {
    this.#common?.[Symbol.dispose]()
    for (const { reporter } of this.#servers.values()) reporter?.[Symbol.dispose]()
    this.#servers.clear()
  }
}

function targetOf(
  config: ConfigSourceConfig | undefined,
  dynamic: DynamicConfig | undefined,
): GrpcTargetConfig | undefined {
  const source = config?.source.kind === 'ads' ? dynamic?.ads : config?.source
  return source?.kind === 'api' ? source.targets[0] : undefined
}
