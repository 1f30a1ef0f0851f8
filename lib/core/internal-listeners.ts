import type { Duplex } from 'node:stream'
import type { ConnectionInfo, TlsPeer } from './connection.ts'
import type { Json } from './errors.ts'

/** What the far side of a connection from within should know besides whose it is. */
export interface ArrivalFacts {
  /** Address that the client wanted, where the internal listener should see one. */
  readonly destination?: { readonly address: string; readonly port: number }
  /** Dynamic metadata that goes along, by namespace. */
  readonly metadata?: ReadonlyMap<string, Json>
  /** Verified identity that the connection inherits (HBONE). */
  readonly peer?: TlsPeer
}

/** What the far side of a connection from within should know. */
export interface InternalArrival extends ArrivalFacts {
  /** The connection on whose behalf this one is made; undefined: the gateway's own. */
  readonly downstream: ConnectionInfo | undefined
  /** Internal listeners that it has come through, where `downstream` does not say; default 0. */
  readonly depth?: number
  /** Filter state that goes along (`internal_upstream`), by key. */
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
