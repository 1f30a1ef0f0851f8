/**
 * The HTTP/2 origin (prior knowledge, plain text), started by origin.ts: frames on raw node:net and canned answers, so that
 * it costs a fraction of what a proxy does. What it answers is chosen by its argument, not by the request, so that no header
 * has to be decoded:
 *
 * - `small`: 13 bytes of text, once the request has been read to its end
 * - `echo`: a gRPC service that sends each piece of content back and ends with `grpc-status: 0`
 * - `bytes`: 1 MiB
 * - `events`: ten events, one a second; a request with content gets the small answer, so that a probe need not wait
 *
 * The first bytes of each connection are also given to a node:http2 server whose answers nobody reads: that is how the
 * request headers of a probe can be told.
 */
import { performServerHandshake } from 'node:http2'
import { createServer, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { EVENT_BYTES, EventClock, eventsOf } from '../event-clock.ts'
import {
  ACK,
  DATA,
  END_HEADERS,
  END_STREAM,
  FrameReader,
  HEADER_TABLE_SIZE,
  HEADERS,
  INITIAL_WINDOW_SIZE,
  literal,
  MAX_CONCURRENT_STREAMS,
  Outbox,
  PING,
  PREFACE,
  RST_STREAM,
  readSettings,
  SETTINGS,
  WINDOW_UPDATE,
} from './frames.ts'
import type { OriginAnswers, OriginQuestion, OriginReply } from './origin.ts'

const answers = process.argv[2] as OriginAnswers
const SMALL = Buffer.from('Hello, world\n')
const DOWNLOAD_BYTES = 1024 * 1024
const BLOCK = Buffer.alloc(16_384, 'x')
const EVENT_COUNT = 10
const EVENTS = eventsOf(EVENT_COUNT)
const STATUS_200 = Buffer.from([0x88])
/** Receiving: streams never wait for a window, the connection's is given back in halves. */
const STREAM_WINDOW = 2 ** 31 - 1
const CONNECTION_WINDOW = 16 * 1024 * 1024
/** Bytes of a connection that are decoded for probes. */
const DECODED_BYTES = 4096

const fields: [string, string][] = [
  ['content-type', answers === 'echo' ? 'application/grpc' : answers === 'events' ? 'text/event-stream' : 'text/plain'],
  ['date', 'Thu, 01 Jan 2026 00:00:00 GMT'],
]
if (answers === 'small') fields.push(['content-length', String(SMALL.length)])
if (answers === 'bytes') fields.push(['content-length', String(DOWNLOAD_BYTES)])

/** As an encoder with a dynamic table does it: the first head fills the table, later ones refer to it. */
const FIRST_HEAD = Buffer.concat([STATUS_200, ...fields.map(([name, value]) => literal(name, value, true))])
const NEXT_HEAD = Buffer.concat([STATUS_200, Buffer.from(fields.map((_, i) => 0x80 | (61 + fields.length - i)))])
const PLAIN_HEAD = Buffer.concat([STATUS_200, ...fields.map(([name, value]) => literal(name, value))])
const TRAILERS = literal('grpc-status', '0')

const counts = { requests: 0, connections: 0 }
const clock = new EventClock(EVENT_COUNT)
let lastHeaders = ''

/** A stream that has more to send than went out at once. */
interface Sending {
  left: number
  window: number
}

class Session {
  readonly #socket: Socket
  readonly #out: Outbox
  readonly #reader = new FrameReader((frame) => this.#onFrame(frame))
  readonly #open = new Map<number, Sending>()
  #prefaceLeft = PREFACE.length
  #received = 0
  #window = 65_535
  #streamWindow = 65_535
  #indexing = true
  #headSent = false
  #flushing = false
  #full = false

  constructor(socket: Socket) {
    this.#socket = socket
    this.#out = new Outbox(socket)
    this.#out.settings([
      [MAX_CONCURRENT_STREAMS, 100],
      [INITIAL_WINDOW_SIZE, STREAM_WINDOW],
    ])
    this.#out.windowUpdate(0, CONNECTION_WINDOW - 65_535)
    socket.on('drain', () => {
      this.#full = false
      this.#pump()
      this.#flush()
    })
  }

  push(chunk: Buffer): void {
    const skipped = Math.min(this.#prefaceLeft, chunk.length)
    this.#prefaceLeft -= skipped
    this.#reader.push(skipped === 0 ? chunk : chunk.subarray(skipped))
    this.#pump()
    this.#flush()
  }

  #onFrame(frame: FrameReader): void {
    const ends = (frame.flags & END_STREAM) !== 0
    if (frame.type === DATA) this.#onData(frame, ends)
    else if (frame.type === HEADERS) this.#onHeaders(frame.stream, ends)
    else if (frame.type === WINDOW_UPDATE) this.#onWindowUpdate(frame)
    else if (frame.type === RST_STREAM) this.#open.delete(frame.stream)
    else if (frame.type === SETTINGS && (frame.flags & ACK) === 0) this.#onSettings(frame)
    else if (frame.type === PING && (frame.flags & ACK) === 0)
      this.#out.frame(PING, ACK, 0, frame.buffer, frame.start, frame.end)
  }

  #onHeaders(stream: number, ends: boolean): void {
    if (answers === 'echo') {
      this.#open.set(stream, { left: 0, window: 0 })
      this.#head(stream)
    }
    if (ends) this.#onEnd(stream, false)
  }

  #onData(frame: FrameReader, ends: boolean): void {
    this.#received += frame.end - frame.start
    if (this.#received > CONNECTION_WINDOW / 2) {
      this.#out.windowUpdate(0, this.#received)
      this.#received = 0
    }
    if (answers === 'echo' && frame.end > frame.start && this.#open.has(frame.stream)) {
      this.#window -= frame.end - frame.start
      this.#out.frame(DATA, 0, frame.stream, frame.buffer, frame.start, frame.end)
    }
    if (ends) this.#onEnd(frame.stream, true)
  }

  /** The request is complete. */
  #onEnd(stream: number, hadContent: boolean): void {
    counts.requests++
    if (answers === 'echo') {
      if (this.#open.delete(stream)) this.#out.frame(HEADERS, END_HEADERS | END_STREAM, stream, TRAILERS)
      return
    }
    this.#head(stream)
    if (answers === 'small' || (answers === 'events' && hadContent)) this.#data(stream, SMALL, true)
    else if (answers === 'bytes') this.#open.set(stream, { left: DOWNLOAD_BYTES, window: this.#streamWindow })
    else this.#tick(stream)
  }

  #tick(stream: number): void {
    this.#open.set(stream, { left: 0, window: 0 })
    clock.add((n, last) => {
      if (this.#socket.destroyed || !this.#open.has(stream)) return false
      this.#data(stream, EVENTS.subarray(n * EVENT_BYTES, (n + 1) * EVENT_BYTES), last)
      if (last) this.#open.delete(stream)
      this.#flushSoon()
      return true
    })
  }

  #head(stream: number): void {
    const block = !this.#indexing ? PLAIN_HEAD : this.#headSent ? NEXT_HEAD : FIRST_HEAD
    this.#headSent = true
    this.#out.frame(HEADERS, END_HEADERS, stream, block)
  }

  /** Small content, without looking at windows: what is in flight here is far below the smallest that peers announce. */
  #data(stream: number, bytes: Buffer, end: boolean): void {
    this.#window -= bytes.length
    this.#out.frame(DATA, end ? END_STREAM : 0, stream, bytes)
  }

  #onSettings(frame: FrameReader): void {
    for (const [id, value] of readSettings(frame)) {
      if (id === HEADER_TABLE_SIZE && value < 4096) this.#indexing = false
      if (id !== INITIAL_WINDOW_SIZE) continue
      for (const one of this.#open.values()) one.window += value - this.#streamWindow
      this.#streamWindow = value
    }
    this.#out.frame(SETTINGS, ACK, 0)
  }

  #onWindowUpdate(frame: FrameReader): void {
    const increment = frame.buffer.readUInt32BE(frame.start) & 0x7fffffff
    if (frame.stream === 0) this.#window += increment
    else {
      const sending = this.#open.get(frame.stream)
      if (sending !== undefined) sending.window += increment
    }
  }

  /** Sends what windows and socket allow, a frame per stream in turn. */
  #pump(): void {
    if (answers !== 'bytes') return
    for (let sent = true; sent && !this.#full; ) {
      sent = false
      for (const [stream, one] of this.#open) {
        const size = Math.min(one.left, one.window, this.#window, BLOCK.length)
        if (size <= 0) continue
        one.left -= size
        one.window -= size
        this.#window -= size
        this.#out.frame(DATA, one.left === 0 ? END_STREAM : 0, stream, BLOCK, 0, size)
        if (one.left === 0) this.#open.delete(stream)
        sent = true
      }
      if (sent) this.#full = !this.#out.flush()
    }
  }

  #flush(): void {
    if (!this.#out.flush()) this.#full = true
  }

  #flushSoon(): void {
    if (this.#flushing) return
    this.#flushing = true
    setImmediate(() => {
      this.#flushing = false
      this.#flush()
    })
  }
}

/** A node:http2 server that reads a copy of the connection's first bytes and remembers the last request's headers. */
function decoderOf(): Duplex {
  const copy = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
  const session = performServerHandshake(copy)
  session.on('stream', (stream, headers) => {
    lastHeaders = Object.entries(headers)
      .map(([name, value]) => `${name}: ${String(value)}\r\n`)
      .join('')
    stream.on('error', () => {})
  })
  session.on('error', () => {})
  copy.on('error', () => {})
  return copy
}

const server = createServer({ noDelay: true }, (socket) => {
  counts.connections++
  const session = new Session(socket)
  let decoder: Duplex | undefined = decoderOf()
  let decoded = 0
  socket.on('data', (chunk: Buffer) => {
    if (decoder !== undefined) {
      decoder.push(chunk)
      decoded += chunk.length
      if (decoded > DECODED_BYTES) {
        decoder.destroy()
        decoder = undefined
      }
    }
    session.push(chunk)
  })
  socket.on('error', () => socket.destroy())
  socket.on('close', () => decoder?.destroy())
})

server.listen(0, '127.0.0.1', 4096, () => {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no TCP address')
  process.send?.({ port: address.port })
})
process.on('message', (question: OriginQuestion) => {
  const reply: OriginReply = question === 'count' ? { counts: { ...counts } } : { headers: lastHeaders }
  process.send?.(reply)
})
process.on('disconnect', () => process.exit(0))
process.on('SIGTERM', () => process.exit(0))
