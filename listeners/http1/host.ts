import type { ConnectionInfo } from '../../lib/core/connection.ts'
import type { Http2Stats } from '../../lib/http2/contract.ts'
import type { HeavyStream } from '../../lib/runtime/overload/heavy-streams.ts'
import type { AcceptedReads } from '../detect/accepted-reads.ts'
import type { ConnectionManager } from '../http/connection-manager.ts'
import type { HttpStats } from '../http/stats.ts'

/** What is known of a connection before its protocol is. */
export interface Opening {
  readonly info: ConnectionInfo
  /** When it was accepted; monotonic ms. */
  readonly openedMs: number
  /** Of the manager that accepted it: an update may bring another one before it closes. */
  readonly stats: HttpStats
  /** When the first bytes of what may be a head came; 0: none have. */
  readonly headSinceMs: number
}

/** One accepted connection as its listener sees it, whatever it speaks. */
export interface ServerConnection {
  readonly info: ConnectionInfo
  /** Undefined where it is not known to be HTTP. */
  readonly stats?: HttpStats
  readonly openedMs: number
  /** The TLS handshake has begun and is not complete. */
  readonly securing?: boolean
  /** Nothing is in progress and nothing of a request has arrived. */
  readonly idle: boolean
  /** Ends at once, whatever is in progress: with a reset where the client must not take what it has for the whole. */
  destroy(): void
  /** Ends where nothing is in progress, or has been since then (HTTP connections alone are asked that); a client that still reads its last response gets all of it. */
  closeIdle(sinceMs?: number): void
  /** The listener has begun to drain. Without it the connection asks `ConnectionHost.draining` when it answers. */
  drain?(): void
  /** Shows what is under way on it, and how much of it waits in memory. */
  streams?(see: (stream: HeavyStream) => void): void
}

/** What a connection needs from the listener that accepted it. */
export interface ConnectionHost {
  /** The manager of the current snapshot; asked again for each request. */
  readonly manager: ConnectionManager
  /** True once the listener drains: answers say `Connection: close`. */
  readonly draining: boolean
  /** Cells of the HTTP/2 codec. */
  readonly http2Stats: Http2Stats
  /** Undefined: sockets read as the runtime lets them. */
  readonly reads: AcceptedReads | undefined
  connectionClosed(connection: ServerConnection): void
}
