import type { GatewayConfig } from '../config/model.ts'
import type { Address } from '../core/address.ts'
import type {
  ClusterStatus,
  EngineStatus,
  HistogramSnapshot,
  HostStatus,
  ListenerStatus,
  MetricsSnapshot,
} from '../core/status.ts'

/** What a worker (or the one process of an embedded gateway) does; `lib/cli/gateway.ts` implements it. */
export interface Engine {
  /**
   * Compiles the configuration aside, waits (bounded) until its clusters are warm, opens new listeners, then swaps by one
   * assignment. Rejects with `ConfigRefused` and changes nothing where that cannot be done (port in use, for example).
   */
  apply(config: GatewayConfig): Promise<void>
  /** Stop accepting, answer what is in flight with `Connection: close`, resolve when idle or after `deadlineMs`. */
  drain(deadlineMs: number): Promise<void>
  /** Ends everything at once. Idempotent. */
  close(): Promise<void>
  status(): EngineStatus
  metrics(): MetricsSnapshot
  /** pino level names. */
  setLogLevel(level: string): void
  reopenLogs(): void
}

export type { ClusterStatus, EngineStatus, HistogramSnapshot, HostStatus, ListenerStatus, MetricsSnapshot }

/**
 * Finds the socket for an address. In a worker it asks the supervisor, which owns the listening sockets; embedded, it
 * answers the address itself. The result is something `net.Server.listen` takes.
 */
export interface Binder {
  bind(address: Address, backlog: number): Promise<unknown>
  /** The listener is gone; the supervisor closes the socket once no configuration names it. */
  release(address: Address): void
}
