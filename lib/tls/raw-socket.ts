import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

/**
 * The socket whose bytes are on the wire: a TLS socket's own `resetAndDestroy` throws. Node keeps it in a property
 * without documentation (a test watches over it); where it is missing the answer is undefined and the caller closes.
 */
export function rawSocket(socket: Socket): Socket | undefined {
  if (!(socket instanceof TLSSocket)) return socket
  return (socket as TLSSocket & { readonly _parent?: Socket | null })._parent ?? undefined
}

/**
 * Ends a connection so that its peer can tell it from a clean end: RST. Unix sockets know no RST (Node throws where it
 * is asked for one): they are closed.
 */
export function resetConnection(socket: Socket): void {
  if (socket.destroyed) return
  const raw = rawSocket(socket)
  if (raw === undefined || (raw.remoteAddress === undefined && !raw.destroyed)) socket.destroy()
  // A TLS socket goes with its raw one. Destroyed by hand as well, it would be closed before this returns.
  else raw.resetAndDestroy()
}
