import type { Message } from '@bufbuild/protobuf'
import type { Cancel, Clock } from '../../lib/core/clock.ts'
import type { Counter, Log, Metrics } from '../../lib/core/metrics.ts'
import type { ClusterLoad } from '../../lib/core/status.ts'
import type { GrpcCall } from '../../lib/grpc/call-contract.ts'
import type { GrpcClient } from '../../lib/grpc/client.ts'
import { type GrpcMethod, registryMethod } from '../../lib/grpc/method.ts'
import { GrpcCode, type GrpcStatus, localStatus } from '../../lib/grpc/status.ts'
import type { ProtoRegistry } from '../../lib/proto/registry.ts'
import { ClusterFigures } from './figures.ts'
import { type ReportedCluster, ReportWriter } from './request.ts'

const SERVICE = 'envoy.service.load_stats.v3.LoadReportingService'
/** In the node of the first message: this client does `send_all_clusters`. */
export const SEND_ALL_CLUSTERS = 'envoy.lrs.supports_send_all_clusters'
const BACKOFF = Object.freeze({ baseMs: 500, maxMs: 30_000 })
/** A server that asks for reports more often gets them that often. */
const MIN_INTERVAL_MS = 100
/** Of timers. */
const MAX_INTERVAL_MS = 2 ** 31 - 1

export interface LoadReporterOptions {
  /** Called for each stream, so that credentials are read anew. May throw. */
  readonly client: () => GrpcClient
  readonly registry: ProtoRegistry
  /** `envoy.config.core.v3.Node`, as other requests to control planes carry it; its client features are added to. */
  readonly node: Message
  /** What hosts have counted since it was asked last (`LoadReader.take`). */
  figures(): Promise<readonly ClusterLoad[]>
  /** The clusters that there are. */
  clusters(): Iterable<ReportedCluster>
  readonly clock: Clock
  readonly random: () => number
  readonly metrics: Metrics
  readonly log: Log
  /** Undefined: 500 ms doubling up to 30 s. */
  readonly backoff?: { readonly baseMs: number; readonly maxMs: number }
}

/** What a server asked for last. */
interface Wish {
  readonly all: boolean
  readonly names: ReadonlySet<string>
  readonly intervalMs: number
  readonly byEndpoint: boolean
}

interface Response {
  readonly clusters: readonly string[]
  readonly sendAllClusters: boolean
  readonly loadReportingInterval?: { readonly seconds: bigint; readonly nanos: number }
  readonly reportEndpointGranularity: boolean
}

/**
 * Reports load to one server (`envoy.service.load_stats.v3.LoadReportingService.StreamLoadStats`): says who it is, and then
 * sends what the server asked for as often as it asked. A cluster counts from when it was first named (with
 * `send_all_clusters` from when it is there); one that is named again loses nothing, and neither does one whose stream broke
 * off. Streams that end are begun anew after a while that grows; counters are Envoy's, `load_reporter.*`.
 *
 * state: waiting (a timer until the next try) → asking (stream, no answer yet) → reporting (a timer until the next report)
 */
export class LoadReporter implements Disposable {
  readonly #options: LoadReporterOptions
  readonly #method: GrpcMethod<Message, Message>
  readonly #writer: ReportWriter
  readonly #stats: {
    readonly requests: Counter
    readonly responses: Counter
    readonly errors: Counter
    readonly retries: Counter
  }
  readonly #tracked = new Map<string, ClusterFigures>()
  #call: GrpcCall<Message> | undefined = undefined
  /** Of the stream that is open. */
  #wish: Wish | undefined = undefined
  /** By which clusters are tracked: the last wish of any stream. */
  #tracking: Wish | undefined = undefined
  /** When the list of clusters was looked at last. */
  #lookedMs = 0
  /** The server does not read what it asked for: its reports wait, and grow. */
  #blocked = false
  #cancelTimer: Cancel | undefined = undefined
  #failures = 0
  #closed = false
  /** Figures are taken one after the other, so that none is given to two reports. */
  #taking: Promise<void> = Promise.resolve()

  constructor(options: LoadReporterOptions) {
    const { registry, metrics } = options
    this.#options = options
    this.#method = registryMethod(registry, SERVICE, 'StreamLoadStats')
    this.#writer = new ReportWriter(registry)
    const counter = (name: string): Counter => metrics.counter(`load_reporter.${name}`)
    this.#stats = {
      requests: counter('requests'),
      responses: counter('responses'),
      errors: counter('errors'),
      retries: counter('retries'),
    }
    const features = (options.node as Message & { clientFeatures: string[] }).clientFeatures
    if (!features.includes(SEND_ALL_CLUSTERS)) features.push(SEND_ALL_CLUSTERS)
  }

  /** Opens the first stream. Call it once. */
  start(): void {
    this.#open()
  }

  [Symbol.dispose](): void {
    this.#closed = true
    this.#cancelTimer?.()
    this.#call?.cancel()
    this.#call = undefined
  }

  #open(): void {
    let client: GrpcClient
    try {
      client = this.#options.client()
    } catch (error) {
      this.#ended(localStatus(GrpcCode.UNAUTHENTICATED, error instanceof Error ? error.message : String(error)))
      return
    }
    const call = client.stream(this.#method, {
      onMessage: (message) => this.#asked(message as unknown as Response),
      onDrain: () => {
        this.#blocked = false
      },
      onEnd: (status) => this.#ended(status),
    })
    this.#call = call
    this.#blocked = !call.write(this.#writer.first(this.#options.node))
    this.#stats.responses.v++
  }

  #ended(status: GrpcStatus): void {
    this.#call = undefined
    this.#wish = undefined
    this.#cancelTimer?.()
    if (this.#closed) return
    if (status.code !== GrpcCode.OK) {
      this.#stats.errors.v++
      this.#options.log.debug('a stream of load reports ended', { code: status.code, message: status.message })
    }
    const { baseMs, maxMs } = this.#options.backoff ?? BACKOFF
    const limitMs = Math.min(maxMs, baseMs * 2 ** Math.min(this.#failures++, 30))
    this.#cancelTimer = this.#options.clock.schedule(Math.ceil(this.#options.random() * limitMs), () => {
      this.#stats.retries.v++
      this.#open()
    })
  }

  #asked(response: Response): void {
    this.#stats.requests.v++
    this.#failures = 0
    const { seconds = 0n, nanos = 0 } = response.loadReportingInterval ?? {}
    const wish: Wish = {
      all: response.sendAllClusters,
      names: new Set(response.clusters),
      intervalMs: Math.min(MAX_INTERVAL_MS, Math.max(MIN_INTERVAL_MS, Number(seconds) * 1000 + nanos / 1e6)),
      byEndpoint: response.reportEndpointGranularity,
    }
    this.#cancelTimer?.()
    this.#wish = wish
    // What was counted until now belongs to the clusters that were named before.
    this.#take(() => {
      if (this.#wish === wish) this.#track(wish)
    })
    this.#scheduleReport(wish)
  }

  /** Runs `then` when all figures until now have come. */
  #take(then: () => void): void {
    this.#taking = this.#taking.then(async () => {
      let loads: readonly ClusterLoad[] | undefined
      try {
        loads = await this.#options.figures()
      } catch (error) {
        this.#options.log.warn('load figures could not be had; they come with the next report', {
          error: String(error),
        })
      }
      if (this.#closed) return
      // All that is under way is told every time; of what is not told there is none any more.
      if (loads !== undefined) for (const figures of this.#tracked.values()) figures.nothingUnderWay()
      for (const load of loads ?? []) this.#figuresOf(load.name)?.add(load)
      then()
    })
  }

  /** Where the figures of a cluster go; undefined: nobody asked for them. */
  #figuresOf(name: string): ClusterFigures | undefined {
    const known = this.#tracked.get(name)
    if (known !== undefined || this.#tracking?.all !== true) return known
    // One that is new since the last report: that long at most.
    const figures = new ClusterFigures(name, this.#lookedMs)
    this.#tracked.set(name, figures)
    return figures
  }

  #track(wish: Wish): void {
    const now = this.#options.clock.now()
    const names = new Set(wish.names)
    if (wish.all) for (const { name } of this.#options.clusters()) names.add(name)
    for (const name of this.#tracked.keys()) if (!names.has(name)) this.#tracked.delete(name)
    for (const name of names) if (!this.#tracked.has(name)) this.#tracked.set(name, new ClusterFigures(name, now))
    this.#tracking = wish
    this.#lookedMs = now
  }

  #scheduleReport(wish: Wish): void {
    this.#cancelTimer = this.#options.clock.schedule(wish.intervalMs, () => {
      this.#take(() => {
        if (this.#wish !== wish) return
        if (!this.#blocked) this.#report(wish)
        this.#scheduleReport(wish)
      })
    })
  }

  #report({ byEndpoint, all }: Wish): void {
    const nowMs = this.#options.clock.now()
    const stats: Message[] = []
    const present = new Set<string>()
    for (const cluster of this.#options.clusters()) {
      present.add(cluster.name)
      let figures = this.#tracked.get(cluster.name)
      if (figures === undefined && all) {
        figures = new ClusterFigures(cluster.name, nowMs)
        this.#tracked.set(cluster.name, figures)
      }
      if (figures !== undefined) stats.push(this.#writer.cluster(cluster, figures, { nowMs, byEndpoint }))
    }
    // A cluster of that name that comes later counts anew.
    if (all) for (const name of this.#tracked.keys()) if (!present.has(name)) this.#tracked.delete(name)
    this.#lookedMs = nowMs
    this.#blocked = this.#call?.write(this.#writer.report(stats)) === false
    this.#stats.responses.v++
  }
}
