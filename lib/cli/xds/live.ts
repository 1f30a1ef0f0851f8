import { DynamicGateway } from '../../../xds-client/dynamic/gateway.ts'
import type { LoadedBootstrap } from '../../../xds-client/envoy/load.ts'
import { type OpenSources, openSources } from '../../../xds-client/transport/open-sources.ts'
import type { LowerFilters } from '../../chain/factories.ts'
import type { FilterRegistry } from '../../chain/registry.ts'
import type { ResourceName } from '../../config/change.ts'
import type { DemandWish, LiveConfig, LiveConfigEvents, LiveFiles } from '../../config/live.ts'
import type { DynamicStatus } from '../../config/status.ts'
import type { Clock } from '../../core/clock.ts'
import type { ConfigError, JsonObject } from '../../core/errors.ts'
import type { Log } from '../../core/metrics.ts'
import type { MetricsSnapshot } from '../../core/status.ts'
import type { LoadReader } from '../../runtime/load-ledger.ts'
import { type RecordedFiles, stampOf } from '../../runtime/recorded-files.ts'
import { Channels } from './channels.ts'
import { resourceCheck } from './check.ts'
import { nodeFor } from './identity.ts'
import { LoadReports } from './load-reports.ts'

/** A bootstrap as it was read, and the files that it was made of. */
export interface BootstrapReading {
  readonly loaded: LoadedBootstrap
  readonly files: RecordedFiles
}

export interface XdsLiveOptions {
  readonly reading: BootstrapReading
  /** Reads the same bootstrap anew. @throws ConfigRefused */
  readonly again: () => BootstrapReading
  readonly registry: FilterRegistry
  readonly filters: LowerFilters
  readonly clock: Clock
  readonly random: () => number
  readonly log: Log
  /** What hosts count, for load reports; undefined: none are made. */
  readonly loads: (() => LoadReader) | undefined
  /** Undefined: nothing is kept. */
  readonly stateDir?: string
}

/**
 * What control planes make of a bootstrap, with everything that it takes to speak to them: clusters of this process,
 * clients, sources, load reports. One for each bootstrap; disposing of it ends all streams.
 */
export class XdsLive implements LiveConfig {
  readonly #channels: Channels
  readonly #sources: OpenSources
  readonly #gateway: DynamicGateway
  readonly #reports: LoadReports
  #files: RecordedFiles

  /** @throws ConfigRefused for a node that cannot be sent */
  constructor(options: XdsLiveOptions) {
    const { reading, registry, filters, clock, random, log, stateDir } = options
    const { loaded, files } = reading
    this.#files = files
    this.#channels = new Channels({ clock, random, log })
    const node = nodeFor(loaded.dynamic?.node ?? {}, registry, filters)
    const channels = this.#channels
    const { dynamic, context } = loaded
    this.#reports = new LoadReports({ dynamic, context, node, channels, loads: options.loads, clock, random, log })
    const { metrics, wheel } = channels
    const common = { clock, turn: wheel.turn, random, log, metrics }
    try {
      this.#sources = openSources({
        ...common,
        ads: loaded.dynamic?.ads,
        registry: loaded.context.registry,
        node,
        grpcClient: (target) => this.#channels.grpcClient(target),
        cluster: (name) => this.#channels.cluster(name),
      })
    } catch (error) {
      this.#channels[Symbol.dispose]()
      throw error
    }
    this.#gateway = new DynamicGateway({
      loaded,
      open: (source) => this.#sources.open(source),
      check: resourceCheck(registry, filters),
      clock,
      log,
      metrics,
      again: () => {
        const next = options.again()
        this.#files = next.files
        return next.loaded
      },
      bootstrapFiles: () => this.#files,
      stampOf: seen,
      ...(stateDir !== undefined && { stateDir }),
    })
  }

  get initialised(): Promise<void> {
    return this.#gateway.initialised
  }

  get confirmed(): Promise<void> {
    return this.#gateway.confirmed
  }

  /** What is counted in speaking to control planes. */
  metrics(): MetricsSnapshot {
    return this.#channels.metrics.snapshot()
  }

  start(events: LiveConfigEvents): void {
    this.#gateway.start({
      publish: (change) => {
        this.#channels.follow(change)
        events.publish(change)
        if (change.clusters !== undefined) this.#reports.follow(change.clusters)
      },
    })
    this.#reports.start()
  }

  demand(wish: DemandWish, timeoutMs: number): Promise<boolean> {
    return this.#gateway.demand(wish, timeoutMs)
  }

  refused(resource: ResourceName, errors: readonly ConfigError[]): void {
    this.#gateway.refused(resource, errors)
  }

  files(): LiveFiles {
    return this.#gateway.files()
  }

  reload(): readonly ConfigError[] {
    return this.#gateway.reload()
  }

  status(): DynamicStatus {
    return this.#gateway.status()
  }

  modifyRuntime(values: JsonObject): string | undefined {
    return this.#gateway.modifyRuntime(values)
  }

  [Symbol.dispose](): void {
    this.#reports[Symbol.dispose]()
    this.#gateway[Symbol.dispose]()
    this.#sources[Symbol.dispose]()
    this.#channels[Symbol.dispose]()
  }
}

function seen(path: string): string {
  try {
    return stampOf(path)
  } catch {
    return ''
  }
}
