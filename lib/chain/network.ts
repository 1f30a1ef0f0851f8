import type { ConnectionInfo } from '../core/connection.ts'
import type { Failure } from '../core/failure.ts'
import type { Next, NextChunk } from './filter.ts'

/**
 * Looks at the first bytes of a connection before anything is decided about it (PROXY header, TLS hello). A pure
 * function of bytes: incremental, state in and state out, so that a drip costs linear time.
 */
export interface ListenerFilter<S = undefined> {
  /** How far it may look; a connection that needs more is closed. */
  readonly maxBytes: number
  onAccept?(facts: ConnectionInfo): Failure | undefined
  /**
   * `peeked` holds everything received so far, `from` is where the bytes begin that the last call has not seen.
   * `strip`: so many bytes are consumed, and `facts` replace what is known of the connection.
   */
  inspect(
    peeked: Buffer,
    from: number,
    state: S | undefined,
  ): { readonly more: S } | { readonly strip: number; readonly facts: Partial<ConnectionInfo> } | Failure
}

/** One downstream connection as network filters see it: a socket, a TLS stream or a tunnel behind one face. */
export interface NetworkConnection {
  readonly info: ConnectionInfo
  /** False: wait for drained. Passes the write hooks of the filters before this one. */
  write(chunk: Buffer): boolean
  /** Half-close: no more is written. */
  end(): void
  /** Closes with a reset. */
  reset(): void
  pause(): void
  resume(): void
}

/**
 * A filter of layer 4, in front of the terminal one. Same rules as `HttpFilter`: hooks on one immutable object, nothing
 * returned means go on, a promise pauses that direction.
 */
export interface NetworkFilter<S = undefined> {
  createState?(connection: NetworkConnection): S
  onConnect?(connection: NetworkConnection, state: S): Next
  onRead?(connection: NetworkConnection, chunk: Buffer, end: boolean, state: S): NextChunk
  onWrite?(connection: NetworkConnection, chunk: Buffer, end: boolean, state: S): NextChunk
  /** Exactly once. */
  onClose?(connection: NetworkConnection, state: S): void
}
