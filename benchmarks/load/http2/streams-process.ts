/**
 * Holds many concurrent HTTP/2 streams, started by streams.ts: frames on raw node:net, so that a thousand streams cost the
 * client little. Response heads are not decoded; what is checked is the content, byte by byte, and that every stream ends
 * in order. See `StreamsTask` for the two kinds.
 */
import { connect, type Socket } from 'node:net'
import { EVENT_BYTES, eventsOf } from '../event-clock.ts'
import {
  ACK,
  DATA,
  END_HEADERS,
  END_STREAM,
  FrameReader,
  GOAWAY,
  HEADERS,
  INITIAL_WINDOW_SIZE,
  literal,
  Outbox,
  PING,
  PREFACE,
  RST_STREAM,
  SETTINGS,
} from './frames.ts'
import type { StreamsCounts, StreamsQuestion, StreamsTask } from './streams.ts'

const MESSAGE_BYTES = 21
const WINDOW = 2 ** 31 - 1
const CONNECTION_WINDOW = 16 * 1024 * 1024
const counts = { messages: 0, started: 0, ended: 0, failures: 0, firstFailure: '' }

/** gRPC framing of 16 bytes; the first four are the message's number. */
const message = Buffer.concat([Buffer.from([0, 0, 0, 0, 16]), Buffer.alloc(16, 'm')])
const expected = Buffer.from(message)
let events: Buffer = Buffer.alloc(0)

interface Stream {
  /** Of the message that is awaited. */
  number: number
  /** Bytes of it (of all events) that have come. */
  got: number
}

function fail(reason: string): void {
  counts.failures++
  counts.firstFailure ||= reason
}

function requestHead(task: StreamsTask): Buffer {
  const fields: [string, string][] = [
    [':method', task.kind === 'events' ? 'GET' : 'POST'],
    [':scheme', 'http'],
    [':path', task.path],
    [':authority', `127.0.0.1:${task.port}`],
    ...(task.kind === 'events' ? [['accept', 'text/event-stream'] as [string, string]] : GRPC_FIELDS),
  ]
  return Buffer.concat(fields.map(([name, value]) => literal(name, value)))
}

const GRPC_FIELDS: [string, string][] = [
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
]

class Connection {
  stopping = false
  readonly #task: StreamsTask
  readonly #out: Outbox
  readonly #socket: Socket
  readonly #streams = new Map<number, Stream>()
  #received = 0

  constructor(task: StreamsTask) {
    this.#task = task
    this.#socket = connect({ port: task.port, host: '127.0.0.1', noDelay: true })
    this.#out = new Outbox(this.#socket)
    const reader = new FrameReader((frame) => this.#onFrame(frame))
    this.#socket.on('connect', () => this.#begin())
    this.#socket.on('data', (chunk: Buffer) => {
      reader.push(chunk)
      this.#out.flush()
    })
    this.#socket.on('error', (error) => fail(error.message))
    this.#socket.on('close', () => {
      if (this.#streams.size > 0) fail(`a connection was closed with ${this.#streams.size} streams`)
    })
  }

  /** Ends the requests of all streams; each then has to be ended by the other side. */
  stop(): void {
    this.stopping = true
    // A message on its way is waited for: its echo ends the stream.
  }

  #begin(): void {
    this.#out.raw(PREFACE)
    this.#out.settings([[INITIAL_WINDOW_SIZE, WINDOW]])
    this.#out.windowUpdate(0, CONNECTION_WINDOW - 65_535)
    const head = requestHead(this.#task)
    for (let i = 0; i < this.#task.streams; i++) {
      const stream = 1 + 2 * i
      this.#streams.set(stream, { number: 0, got: 0 })
      const ends = this.#task.kind === 'events'
      this.#out.frame(HEADERS, ends ? END_HEADERS | END_STREAM : END_HEADERS, stream, head)
      if (!ends) this.#send(stream, 0)
    }
    this.#out.flush()
  }

  #send(stream: number, number: number): void {
    message.writeUInt32BE(number, 5)
    this.#out.frame(DATA, 0, stream, message)
  }

  #onFrame(frame: FrameReader): void {
    const ends = (frame.flags & END_STREAM) !== 0
    if (frame.type === DATA) this.#onData(frame, ends)
    else if (frame.type === HEADERS) {
      if (ends) this.#onEnd(frame.stream)
    } else if (frame.type === RST_STREAM) {
      this.#streams.delete(frame.stream)
      fail(`a stream was reset with code ${frame.buffer.readUInt32BE(frame.start)}`)
    } else if (frame.type === GOAWAY) fail(`GOAWAY with code ${frame.buffer.readUInt32BE(frame.start + 4)}`)
    else if (frame.type === SETTINGS && (frame.flags & ACK) === 0) this.#out.frame(SETTINGS, ACK, 0)
    else if (frame.type === PING && (frame.flags & ACK) === 0)
      this.#out.frame(PING, ACK, 0, frame.buffer, frame.start, frame.end)
  }

  #onData(frame: FrameReader, ends: boolean): void {
    const length = frame.end - frame.start
    this.#received += length
    if (this.#received > CONNECTION_WINDOW / 2) {
      this.#out.windowUpdate(0, this.#received)
      this.#received = 0
    }
    const stream = this.#streams.get(frame.stream)
    if (stream === undefined) return void fail(`DATA on stream ${frame.stream}, which is not open`)
    if (length > 0) {
      if (this.#task.kind === 'events') this.#onEvents(frame, stream, length)
      else this.#onEcho(frame, stream, length)
    }
    if (ends) this.#onEnd(frame.stream)
  }

  #onEvents(frame: FrameReader, stream: Stream, length: number): void {
    if (events.compare(frame.buffer, frame.start, frame.end, stream.got, stream.got + length) !== 0)
      return void fail('an event is not the one that was due')
    if (stream.got === 0) counts.started++
    const before = Math.floor(stream.got / EVENT_BYTES)
    stream.got += length
    counts.messages += Math.floor(stream.got / EVENT_BYTES) - before
  }

  #onEcho(frame: FrameReader, stream: Stream, length: number): void {
    expected.writeUInt32BE(stream.number, 5)
    if (expected.compare(frame.buffer, frame.start, frame.end, stream.got, stream.got + length) !== 0)
      return void fail('an echo is not what was sent')
    stream.got += length
    if (stream.got < MESSAGE_BYTES) return
    counts.messages++
    if (stream.number === 0) counts.started++
    stream.number++
    stream.got = 0
    if (this.stopping) this.#out.frame(DATA, END_STREAM, frame.stream)
    else this.#send(frame.stream, stream.number)
  }

  #onEnd(id: number): void {
    const stream = this.#streams.get(id)
    this.#streams.delete(id)
    if (stream === undefined) return void fail(`stream ${id} ended twice`)
    if (this.#task.kind === 'events' && stream.got !== events.length)
      return void fail(`a stream ended after ${stream.got / EVENT_BYTES} events`)
    if (this.#task.kind === 'ping-pong' && !this.stopping) return void fail('a stream was ended while it was in use')
    counts.ended++
  }
}

const connections: Connection[] = []

process.on('message', (question: StreamsQuestion) => {
  if (typeof question === 'object') {
    events = eventsOf(question.events ?? 0)
    for (let i = 0; i < question.connections; i++) connections.push(new Connection(question))
    return
  }
  if (question === 'stop') for (const connection of connections) connection.stop()
  process.send?.({ ...counts } satisfies StreamsCounts)
})
process.on('disconnect', () => process.exit(0))
