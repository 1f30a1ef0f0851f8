import type { SourceStatus } from '../../lib/config/status.ts'
import type { Clock } from '../../lib/core/clock.ts'
import type { Log, Metrics } from '../../lib/core/metrics.ts'
import type { TurnWork } from '../../lib/core/turn.ts'
import type { GrpcClient } from '../../lib/grpc/client.ts'
import type { ApiSourceConfig, GrpcTargetConfig } from '../config.ts'
import { DiscoverySession } from '../protocol/session.ts'
import type { DiscoverySource, DiscoveryWatcher, SubscribeOptions, Subscription } from '../source.ts'
import { discoveryMethod } from './discovery-method.ts'
import { ReconnectingStream } from './reconnecting-stream.ts'

/** What sources have in common. */
export interface SourceParts {
  readonly clock: Clock
  /** Work for the end of a turn of the loop: that of the timer wheel. */
  readonly turn: { defer(work: TurnWork): void }
  readonly random: () => number
  readonly log: Log
  readonly metrics: Metrics
}

export interface GrpcSourceParts extends SourceParts {
  /** As in `SourceStatus.name`. */
  readonly name: string
  readonly config: ApiSourceConfig
  /** One stream for all types; otherwise one for each. */
  readonly ads: boolean
  /** Its one stream is that of `control_plane.*`. */
  readonly counted: boolean
  /** `envoy.config.core.v3.Node`, encoded. */
  readonly node: Uint8Array
  readonly grpcClient: (target: GrpcTargetConfig) => GrpcClient
}

interface Channel {
  readonly session: DiscoverySession
  readonly stream: ReconnectingStream
}

/** Resources from a management server over gRPC: by one stream of all types (ADS), or by a stream of each type. */
export class GrpcSource implements DiscoverySource {
  readonly #parts: GrpcSourceParts
  /** By type; '' for all. */
  readonly #channels = new Map<string, Channel>()
  readonly #listeners = new Set<(connected: boolean) => void>()

  constructor(parts: GrpcSourceParts) {
    this.#parts = parts
  }

  /** @throws TypeError for a type that has no stream of its own, or none of this variant */
  subscribe(options: SubscribeOptions, watcher: DiscoveryWatcher): Subscription {
    return this.#channel(options).session.subscribe(options, watcher)
  }

  #channel({ typeName, statPrefix }: SubscribeOptions): Channel {
    const { ads, counted } = this.#parts
    const key = ads ? '' : typeName
    let channel = this.#channels.get(key)
    if (channel === undefined) {
      channel = this.#open(
        ads ? undefined : typeName,
        ads ? (counted ? '' : undefined) : typeof statPrefix === 'string' ? statPrefix : undefined,
      )
      this.#channels.set(key, channel)
    }
    return channel
  }

  #open(typeName: string | undefined, statPrefix: string | undefined): Channel {
    const { config, node, name, clock, turn, random, log, metrics, grpcClient } = this.#parts
    const { nodeOnFirstMessageOnly, rateLimit, targets } = config
    const variant = config.api === 'delta-grpc' ? 'delta' : 'sotw'
    const method = discoveryMethod(typeName, variant, node)
    if (method === undefined) throw new TypeError(`${name} has no ${variant} stream of ${typeName}`)
    const session = new DiscoverySession({
      name,
      variant,
      typeName,
      nodeOnFirstMessageOnly,
      rateLimit,
      clock,
      turn,
      log,
      metrics,
      statPrefix,
      onWanted: (wanted) => (wanted ? stream.start() : stream.stop()),
    })
    const onConnection = (connected: boolean): void => {
      for (const listener of [...this.#listeners]) listener(connected)
    }
    const stream = new ReconnectingStream({
      name,
      targets,
      method,
      session,
      grpcClient,
      clock,
      turn,
      random,
      log,
      onConnection,
    })
    return { session, stream }
  }

  status(): SourceStatus {
    const streams = [...this.#channels.values()].filter(({ session }) => session.wanted).map(({ stream }) => stream)
    const times = streams.map(({ lastUpdateMs }) => lastUpdateMs ?? 0)
    const lastMs = Math.max(0, ...times)
    return {
      name: this.#parts.name,
      connected: streams.length > 0 && streams.every(({ connected }) => connected),
      lastUpdateMs: lastMs === 0 ? undefined : lastMs,
      lastError: streams.find(({ lastError }) => lastError !== undefined)?.lastError,
    }
  }

  onConnection(listener: (connected: boolean) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  [Symbol.dispose](): void {
    this.#listeners.clear()
    for (const { session, stream } of this.#channels.values()) {
      stream.stop()
      session.dispose()
    }
    this.#channels.clear()
  }
}
