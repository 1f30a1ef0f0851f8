import type { Duplex } from 'node:stream'
import type { ConnectionInfo } from './connection.ts'

/** What the far side of a connection from within should know. */
export interface InternalArrival {
  /** The connection on whose behalf this one is made; undefined: the gateway's own. */
  readonly downstream: ConnectionInfo | undefined
  /** Address that the client wanted, where the internal listener should see one. */
  readonly destination?: { readonly address: string; readonly port: number }
  /** Dynamic metadata and filter state that go along (`internal_upstream`), by namespace and key. */
  readonly metadata?: ReadonlyMap<string, unknown>
  readonly objects?: ReadonlyMap<string, unknown>
}

/** The internal listeners of a gateway, by name: how connections are made without a socket. */
export interface InternalListeners {
  /**
   * Hands one end of a new pair of streams to the listener and answers the other. Undefined where there is no such
   * listener, or it takes no more connections.
   */
  connect(listener: string, arrival: InternalArrival): Duplex | undefined
}
