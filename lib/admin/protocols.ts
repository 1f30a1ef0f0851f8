import type { Server } from 'node:http'
import { createServer as createHttp2Server, type Http2Server } from 'node:http2'
import type { Socket } from 'node:net'

/** What every HTTP/2 connection begins with (RFC 9113 §3.4). */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')
/** For the first bytes to come. */
const FIRST_BYTES_MS = 10_000
const MAX_STREAMS = 64
/** A connection of HTTP/2 on which nothing happens; a stream of the client status service may wait this long for its next question. */
const IDLE_MS = 300_000

/** The second protocol of a port. */
export interface SecondProtocol {
  readonly server: Http2Server
  /** Ends every connection of the port, of either protocol and of none yet. */
  destroyAll(): void
}

/**
 * Gives a port of HTTP/1 a second protocol: connections that begin with the preface of HTTP/2 are handed to a server of that
 * one, all others go where they went before.
 */
export function serveBoth(http1: Server): SecondProtocol {
  const sockets = new Set<Socket>()
  const http2 = createHttp2Server({ settings: { maxConcurrentStreams: MAX_STREAMS } })
  http2.on('session', (session) => session.setTimeout(IDLE_MS, () => session.destroy()))
  const plain = http1.listeners('connection') as ((socket: Socket) => void)[]
  http1.removeAllListeners('connection')
  http1.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    detect(socket, (isHttp2) => {
      if (isHttp2) http2.emit('connection', socket)
      else for (const listener of plain) listener.call(http1, socket)
    })
  })
  return {
    server: http2,
    destroyAll() {
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** Looks at the first bytes and puts them back. A connection that sends none for too long is closed. */
function detect(socket: Socket, found: (isHttp2: boolean) => void): void {
  let held: Buffer = Buffer.alloc(0)
  const end = (): void => {
    socket.off('data', look)
    socket.off('end', stop)
    socket.off('error', stop)
    socket.off('timeout', stop)
    socket.setTimeout(0)
  }
  const stop = (): void => {
    end()
    socket.on('error', () => {})
    socket.destroy()
  }
  const look = (chunk: Buffer): void => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    const length = Math.min(held.length, PREFACE.length)
    const same = held.subarray(0, length).equals(PREFACE.subarray(0, length))
    if (same && length < PREFACE.length) return
    end()
    socket.pause()
    socket.unshift(held)
    found(same)
    // A session of HTTP/2 takes what is buffered by itself, and must find it there.
    if (!same) socket.resume()
  }
  socket.on('data', look)
  socket.on('end', stop)
  socket.on('error', stop)
  socket.on('timeout', stop)
  socket.setTimeout(FIRST_BYTES_MS)
}
