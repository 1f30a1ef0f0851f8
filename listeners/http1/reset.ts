import type { Socket } from 'node:net'

/**
 * Ends a connection so that its peer can tell it from a clean end: RST. Unix sockets know no RST (Node throws where it
 * is asked for one): they are closed.
 */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return
  if (socket.remoteAddress === undefined) socket.destroy()
  else socket.resetAndDestroy()
}
