/**
 * The origin that every proxy is measured against, started by origin.ts: raw node:net and canned answers, as cheap as
 * Node can be, so that it is never what limits a run.
 *
 * `GET /_/bytes/N` answers N bytes, `/_/headers` the request head as it arrived, `/_/events` ten events, one a second, in
 * chunks; everything else 13 bytes of text, after the request's content has been read to its end.
 */
import { createServer, type Socket } from 'node:net'
import { EVENT_BYTES, EventClock, eventsOf } from './event-clock.ts'
import { MessageCounter } from './message-counter.ts'

export interface OriginReady {
  readonly port: number
}

/** Answer to the message `count`. */
export interface OriginCounts {
  readonly requests: number
  readonly connections: number
}

const SMALL = Buffer.from(
  'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 13\r\n\r\nHello, world\n',
)
const BLOCK = Buffer.alloc(64 * 1024, 'x')

const EVENT_COUNT = 10
const EVENTS = eventsOf(EVENT_COUNT).toString('latin1')
const EVENTS_HEAD =
  'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nTransfer-Encoding: chunked\r\n\r\n'
const clock = new EventClock(EVENT_COUNT)

const counts = { requests: 0, connections: 0 }

const server = createServer({ noDelay: true }, (socket) => {
  counts.connections++
  const counter = new MessageCounter()
  socket.on('data', (chunk: Buffer) => {
    if (counter.idle && isSmallGet(chunk)) {
      counts.requests++
      socket.write(SMALL)
      return
    }
    for (let complete = counter.push(chunk); complete > 0; complete--) {
      counts.requests++
      answer(socket, counter.head)
    }
  })
  // A proxy that is ended resets its connections.
  socket.on('error', () => socket.destroy())
})

/** A whole GET in one packet whose path does not begin with `/_`; no proxy here sends a second request before the answer. */
function isSmallGet(chunk: Buffer): boolean {
  const end = chunk.length
  return (
    chunk[0] === 0x47 &&
    chunk[5] !== 0x5f &&
    chunk[end - 1] === 0x0a &&
    chunk[end - 2] === 0x0d &&
    chunk[end - 3] === 0x0a
  )
}

function answer(socket: Socket, head: string): void {
  const path = head.slice(head.indexOf(' ') + 1, head.indexOf(' HTTP/'))
  if (path.startsWith('/_/bytes/')) {
    const length = Number(path.slice('/_/bytes/'.length))
    socket.write(`HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: ${length}\r\n\r\n`)
    writeBytes(socket, length)
  } else if (path === '/_/headers') {
    const length = Buffer.byteLength(head, 'latin1')
    socket.write(`HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${length}\r\n\r\n${head}`, 'latin1')
  } else if (path === '/_/events') {
    socket.write(EVENTS_HEAD)
    clock.add((n, last) => writeEvent(socket, n, last))
  } else {
    socket.write(SMALL)
  }
}

function writeEvent(socket: Socket, n: number, last: boolean): boolean {
  if (socket.destroyed) return false
  const event = EVENTS.slice(n * EVENT_BYTES, (n + 1) * EVENT_BYTES)
  socket.write(`${EVENT_BYTES.toString(16)}\r\n${event}\r\n${last ? '0\r\n\r\n' : ''}`, 'latin1')
  return true
}

/** Back-pressure is obeyed: with stalled readers the memory is to be seen in the proxy, not here. */
function writeBytes(socket: Socket, length: number): void {
  let left = length
  while (left > 0) {
    const size = Math.min(left, BLOCK.length)
    left -= size
    if (!socket.write(size === BLOCK.length ? BLOCK : BLOCK.subarray(0, size)) && left > 0) {
      const rest = left
      socket.once('drain', () => writeBytes(socket, rest))
      return
    }
  }
}

server.listen(0, '127.0.0.1', 4096, () => {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no TCP address')
  process.send?.({ port: address.port } satisfies OriginReady)
})
process.on('message', () => process.send?.({ ...counts } satisfies OriginCounts))
process.on('disconnect', () => process.exit(0))
process.on('SIGTERM', () => process.exit(0))
