import { chmod, lstat, unlink } from 'node:fs/promises'
import { connect } from 'node:net'

/** Envoy writes abstract sockets as `@name`; the system wants a NUL in front. */
export function pipeName(path: string): string {
  return path.startsWith('@') ? `\0${path.slice(1)}` : path
}

/**
 * Removes the socket file of a process that ended without doing so. A file that is no socket, or on which somebody still
 * listens, stays: binding then fails with EADDRINUSE, as it should.
 */
export async function clearStaleSocket(path: string): Promise<void> {
  if (path.startsWith('@')) return
  const found = await lstat(path).catch(() => undefined)
  if (found?.isSocket() !== true || (await someoneListens(path))) return
  await unlink(path).catch(() => undefined)
}

function someoneListens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    // Only a refusal proves that nobody is there; a full queue (EAGAIN) or a missing permission does not.
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'))
  })
}

/** Applies `Pipe.mode` of the configuration; abstract sockets have none. */
export async function setSocketMode(path: string, mode: number | undefined): Promise<void> {
  if (mode !== undefined && mode !== 0 && !path.startsWith('@')) await chmod(path, mode)
}
