import type { SourceStatus } from '../../lib/config/status.ts'
import type { Cluster } from '../../lib/core/attempt.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { GrpcClient } from '../../lib/grpc/client.ts'
import type { ProtoRegistry } from '../../lib/proto/registry.ts'
import type { ApiSourceConfig, ConfigSourceConfig, GrpcTargetConfig } from '../config.ts'
import { encodeNode } from '../node.ts'
import type { DiscoverySource, DiscoveryWatcher, SubscribeOptions, Subscription } from '../source.ts'
import { FileSource } from './file-source.ts'
import { GrpcSource, type SourceParts } from './grpc-source.ts'
import { RestSource } from './rest-source.ts'

export interface SourcesOptions extends SourceParts {
  /** Of all sources that are ADS; undefined: to open one is a mistake. */
  readonly ads: ApiSourceConfig | undefined
  readonly registry: ProtoRegistry
  /** As requests carry it (`describeNode`). */
  readonly node: JsonObject
  /** Called for each connection, so that what a client is made of (credentials, metadata) is as it is then. May throw. */
  readonly grpcClient: (target: GrpcTargetConfig) => GrpcClient
  /** Of REST sources. */
  readonly cluster: (name: string) => Cluster | undefined
}

/** The sources of one gateway. Disposing of it closes all that are open. */
export interface OpenSources extends Disposable {
  /**
   * The source that this describes: one for all who ask for the same `key`. Disposing of the answer gives it back; the last
   * one to do so closes the source.
   *
   * @throws TypeError for ADS where there is none; ConfigRefused for a node that is none
   */
  open(config: ConfigSourceConfig): DiscoverySource
  status(): SourceStatus[]
}

interface Shared {
  readonly source: DiscoverySource
  users: number
}

export function openSources(options: SourcesOptions): OpenSources {
  const sources = new Map<string, Shared>()
  const node = encodeNode(options.registry, options.node)
  return {
    open(config: ConfigSourceConfig): DiscoverySource {
      let shared = sources.get(config.key)
      if (shared === undefined) {
        shared = { source: makeSource(config, options, node), users: 0 }
        sources.set(config.key, shared)
      }
      shared.users++
      return new SharedSource(shared.source, () => {
        if (--shared.users > 0) return
        if (sources.get(config.key) === shared) sources.delete(config.key)
        shared.source[Symbol.dispose]()
      })
    },
    status: () => [...sources.values()].map(({ source }) => source.status()),
    [Symbol.dispose](): void {
      for (const { source } of sources.values()) source[Symbol.dispose]()
      sources.clear()
    },
  }
}

function makeSource({ source }: ConfigSourceConfig, options: SourcesOptions, node: Uint8Array): DiscoverySource {
  if (source.kind === 'file') return new FileSource({ ...options, config: source })
  const config = source.kind === 'ads' ? options.ads : source
  if (config === undefined) throw new TypeError('there is no ADS')
  const name = source.kind === 'ads' ? 'ads' : config.targets[0].cluster
  if (config.api === 'rest') return new RestSource({ ...options, config, name })
  const ads = source.kind === 'ads' || config.aggregated === true
  // Envoy's counters of streams have one place for all that are not of a single type: that of ADS.
  const counted = source.kind === 'ads' || options.ads === undefined
  return new GrpcSource({ ...options, config, name, node, ads, counted })
}

/** One user's share: what it subscribed to it closes itself. */
class SharedSource implements DiscoverySource {
  readonly #source: DiscoverySource
  readonly #release: () => void
  readonly #stops = new Set<() => void>()
  #released = false

  constructor(source: DiscoverySource, release: () => void) {
    this.#source = source
    this.#release = release
  }

  subscribe(options: SubscribeOptions, watcher: DiscoveryWatcher): Subscription {
    return this.#source.subscribe(options, watcher)
  }

  status(): SourceStatus {
    return this.#source.status()
  }

  onConnection(listener: (connected: boolean) => void): () => void {
    const stop = this.#source.onConnection(listener)
    this.#stops.add(stop)
    return () => {
      this.#stops.delete(stop)
      stop()
    }
  }

  [Symbol.dispose](): void {
    if (this.#released) return
    this.#released = true
    for (const stop of this.#stops) stop()
    this.#release()
  }
}
