import type { ConnectionManager } from '../http/connection-manager.ts'
import type { Http1ServerConnection } from './connection.ts'

/** What a connection needs from the listener that accepted it. */
export interface ConnectionHost {
  /** The manager of the current snapshot; asked again for each request. */
  readonly manager: ConnectionManager
  /** True once the listener drains: answers say `Connection: close`. */
  readonly draining: boolean
  connectionClosed(connection: Http1ServerConnection): void
}
