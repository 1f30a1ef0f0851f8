import type { SourceStatus } from '../lib/config/status.ts'
import type { ConfigError } from '../lib/core/errors.ts'

/**
 * One resource as a source delivered it: not looked into further than its name. Owned by whoever gets it.
 */
export interface ReceivedResource {
  /** As the server calls it; taken from the resource itself where the protocol has no place for it. */
  readonly name: string
  readonly version: string
  /** The type inside the Any, without `type.googleapis.com/`. */
  readonly typeName: string
  /** The content of the Any. A part of a larger buffer at times: copy what is to be kept. */
  readonly bytes: Uint8Array
  /** Other names that it answers to (virtual hosts on demand). */
  readonly aliases: readonly string[]
}

export interface DiscoveryUpdate {
  /** Of the response; with delta that of `system_version_info`. */
  readonly version: string
  /** New ones and those that have changed; in state-of-the-world responses those that are as they were too. */
  readonly resources: readonly ReceivedResource[]
  /**
   * Names that are no more: said so by a delta server, absent from a state-of-the-world answer of a type where that means
   * removal (listeners, clusters), or past their time to live.
   */
  readonly removed: readonly string[]
}

/** What is wrong with one resource of an update. The others are in use. */
export interface Rejection {
  readonly name: string
  readonly errors: readonly ConfigError[]
}

/**
 * Who wants resources of one type. Nothing is called after `close` of the subscription, nor before `subscribe` has
 * returned.
 */
export interface DiscoveryWatcher {
  /**
   * Takes an update over, at once, and says what cannot be used: none is an ACK, any a NACK with all reasons. Updates come
   * one at a time.
   */
  onUpdate(update: DiscoveryUpdate): readonly Rejection[]
  /**
   * Names that were asked for, and that do not exist or have not come within the initial fetch timeout: once for each, until
   * it comes or is asked for anew. For a wildcard subscription: `*`, where the first answer has not come in time.
   */
  onAbsent(names: readonly string[], why: 'timeout' | 'does-not-exist'): void
}

/** Interest in resources of one type. */
export interface Subscription {
  /** Names to have, all of them; `*` alone: everything the server has, and `*` with others: them too. Unsent until the turn ends. */
  want(names: ReadonlySet<string>): void
  /** Nothing is asked for while paused (answers are still taken); one request with all that has changed follows `resume`. */
  pause(): void
  resume(): void
  close(): void
}

export interface SubscribeOptions {
  /** Without `type.googleapis.com/`, for example `envoy.config.cluster.v3.Cluster`. */
  readonly typeName: string
  readonly initialFetchTimeoutMs: number
  /** Versions that the watcher holds already, from a state directory: sent as what it has. */
  readonly held?: ReadonlyMap<string, string>
  /**
   * Where updates are counted, Envoy's names with their dot (`cluster_manager.cds.`), or where those of each resource are
   * (`cluster.<name>.`). Undefined: they are not.
   */
  readonly statPrefix?: string | ((name: string) => string)
}

/**
 * One place that resources come from: an ADS stream, the streams of a server for single types, a REST server, files. All
 * subscriptions of one type on one source share what goes over the wire.
 */
export interface DiscoverySource extends Disposable {
  subscribe(options: SubscribeOptions, watcher: DiscoveryWatcher): Subscription
  status(): SourceStatus
  /** Told whenever the first answer to anything has come on a new connection, and when the connection is lost. */
  onConnection(listener: (connected: boolean) => void): () => void
}
