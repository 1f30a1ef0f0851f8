import type { ConfigChange } from '../config/change.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { Address } from '../core/address.ts'
import type {
  ClusterLoad,
  ClusterStatus,
  EngineStatus,
  HistogramSnapshot,
  HostStatus,
  ListenerStatus,
  MetricsChange,
  MetricsSnapshot,
} from '../core/status.ts'
import type { Pressures } from './overload/run.ts'

/** Which listeners are asked to drain, and how (Envoy's `/drain_listeners`). */
export interface DrainWish {
  /** Only listeners of traffic that comes in. */
  readonly inboundOnly: boolean
  /** They go on accepting for the whole drain time, and answers close their connections; only then they are closed. */
  readonly graceful: boolean
  /** With `graceful`: they are not even closed then. */
  readonly skipExit: boolean
  /** Another process serves in its place: health checks go on as before. */
  readonly replaced?: true
  /** With `skipExit`: how long it takes until the end that is to follow. A gradual drain goes on over all of that. */
  readonly overMs?: number
}

/** All of them, at once: what a gateway does that ends. */
export const DRAIN_ALL: DrainWish = Object.freeze({ inboundOnly: false, graceful: false, skipExit: false })

/** The same of a process that another one takes the place of. */
export const DRAIN_REPLACED: DrainWish = Object.freeze({ ...DRAIN_ALL, replaced: true })

/** They go on accepting, and whoever is answered learns that it should go elsewhere. */
export const DRAIN_ANNOUNCED: DrainWish = Object.freeze({ inboundOnly: false, graceful: true, skipExit: true })

/** What a worker (or the one process of an embedded gateway) does; `lib/cli/gateway.ts` implements it. */
export interface Engine {
  /**
   * Compiles the configuration aside, waits (bounded) until its clusters are warm, opens new listeners, then swaps by one
   * assignment. Rejects with `ConfigRefused` and changes nothing where that cannot be done (port in use, for example).
   */
  apply(config: GatewayConfig): Promise<void>
  /**
   * The same for what a change names, in time that depends on the change alone. Endpoints of clusters that are there are in
   * force when this returns, whatever else is under way; everything else waits for its turn. Rejects with
   * `ChangeRefused` and leaves all else of the change undone.
   */
  update(change: ConfigChange): Promise<void>
  /**
   * Stop accepting, answer what is in flight with `Connection: close`, resolve when idle or after `deadlineMs`. A graceful
   * wish: answer so for `deadlineMs`, stop accepting at its end. Default: `DRAIN_ALL`.
   */
  drain(deadlineMs: number, wish?: DrainWish): Promise<void>
  /** Ends everything at once. Idempotent. */
  close(): Promise<void>
  status(): EngineStatus
  metrics(): MetricsSnapshot
  /**
   * What has changed since this was asked last; `full`: everything, and the next answer begins there. In pieces, at least one,
   * which are read in order and to the end before it is asked again; the loop may turn between them. Undefined is no piece: it
   * has looked at many and found nothing.
   */
  metricsChanges(full: boolean): Iterable<MetricsChange | undefined>
  /** What hosts have counted since this was asked last, those of hosts and clusters that went in between included. */
  loads?(): readonly ClusterLoad[]
  /** pino level names. */
  /** What control has measured against overload. */
  pressures?(list: Pressures): void
  setLogLevel(level: string): void
  reopenLogs(): void
}

export type {
  ClusterLoad,
  ClusterStatus,
  EngineStatus,
  HistogramSnapshot,
  HostStatus,
  ListenerStatus,
  MetricsChange,
  MetricsSnapshot,
}

/**
 * Finds the socket for an address. In a worker it asks the supervisor, which owns the listening sockets; embedded, it
 * answers the address itself. The result is something `net.Server.listen` takes.
 */
export interface Binder {
  bind(address: Address, backlog: number): Promise<unknown>
  /**
   * The same socket once more, after the server on it was closed without `release`; meanwhile connections have queued on it.
   * `bound`: its real address. Undefined: what is closed here is gone.
   */
  again?(address: Address, bound: Address, backlog: number): Promise<unknown>
  /** The listener is gone; the supervisor closes the socket once no configuration names it. */
  release(address: Address): void
}
