import { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

/**
 * The socket whose bytes are on the wire: a TLS socket's own `resetAndDestroy` throws. Node keeps it in a property
 * without documentation (a test watches over it); where it is missing the answer is undefined and the caller closes.
 */
export function rawSocket(socket: Socket): Socket | undefined {
  if (!(socket instanceof TLSSocket)) return socket
  const { _parent, ssl } = socket as unknown as TlsInsides
  // Above a stream that is no socket of the runtime's (connections within the gateway) it lies one level deeper.
  return _parent ?? ssl?._parentWrap?.stream
}

interface TlsInsides {
  readonly _parent?: Socket | null
  readonly ssl?: { readonly _parentWrap?: { readonly stream?: Socket } | null } | null
}

/**
 * Ends a connection so that its peer can tell it from a clean end: RST. Unix sockets know no RST (Node throws where it
 * is asked for one): they are closed.
 */
export function resetConnection(socket: Socket): void {
  if (socket.destroyed) return
  const raw = rawSocket(socket)
  if (raw === undefined || (raw.remoteAddress === undefined && !raw.destroyed)) socket.destroy()
  else if (raw instanceof Socket && finishing(socket)) raw.destroy()
  // A TLS socket goes with its raw one. Destroyed by hand as well, it would be closed before this returns.
  else raw.resetAndDestroy()
}

/**
 * A FIN is on its way to the system, or with it and not yet sent: until it has left, the system refuses to reset, and Node
 * then leaves the descriptor open for ever, without a 'close'.
 */
function finishing(socket: Socket): boolean {
  return socket.writableEnded && !socket.writableFinished && socket.writableLength === 0
}
