import type { Socket } from 'node:net'
import type { ConnectionLogger } from '../../lib/chain/network.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import type { Log } from '../../lib/core/metrics.ts'
import type { TimerWheel } from '../../lib/core/timer-wheel.ts'
import type { CompiledChain } from '../compile.ts'
import type { AcceptedReads } from '../detect/accepted-reads.ts'
import type { ServerConnection } from '../http1/host.ts'

/** What the engine of network filters needs of the filter chain that accepted a connection. */
export interface NetworkHost {
  readonly wheel: TimerWheel
  readonly log: Log
  /** Per connection and direction; soft. */
  readonly bufferLimitBytes: number
  /** Makes accepted sockets read into memory that is used again; undefined: they read as Node does by itself. */
  readonly reads?: AcceptedReads | undefined
  /** The listener's own access log: gets one line per connection, when its socket has closed. */
  readonly logger: ConnectionLogger | undefined
  /** A handshake took longer than the filter chain permits. */
  handshakeExpired(): void
  /**
   * All filters have let the connection in and the chain ends in HTTP, which `socket` belongs to from now on; nothing has
   * been read from it. `connection` is HTTP's business from here on as well: `connectionClosed` does not follow.
   */
  handOver(connection: ServerConnection, socket: Socket, facts: ConnectionInfo): void
  /** Gone; called once, unless it was handed over. */
  connectionClosed(connection: ServerConnection): void
  /** No filter of the chain hears of the connection any more; called once, handed over or not. */
  connectionFinished?(chain: CompiledChain): void
}
