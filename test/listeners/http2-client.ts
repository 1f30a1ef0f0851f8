import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type ClientSessionOptions,
  connect,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2'
import type { Socket } from 'node:net'
import type { Test } from 'tap'
import { type Setup, type SetupSpec, setup } from '../end-to-end/setup.ts'
import { FLAG, type Frame, FrameReader, PREFACE, settings, settingsAck, T } from '../support/http2-wire.ts'
import type { Wire } from '../support/wire.ts'

/** How one request of the `node:http2` client ended. */
export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  readonly trailers: IncomingHttpHeaders | undefined
  /** Statuses of interim responses. */
  readonly interim: readonly number[]
  /** The stream ended as it should. */
  readonly whole: boolean
  /** Of RST_STREAM. */
  readonly code: number
}

/** Everything a stream brings, gathered. */
export function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
  let headers: IncomingHttpHeaders = {}
  let trailers: IncomingHttpHeaders | undefined
  const interim: number[] = []
  const chunks: Buffer[] = []
  let whole = false
  stream.on('headers', (fields) => interim.push(Number(fields[':status'])))
  stream.on('response', (fields) => {
    headers = fields
  })
  stream.on('trailers', (fields) => {
    trailers = fields
  })
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  stream.on('end', () => {
    whole = true
  })
  stream.on('error', () => {
    whole = false
  })
  return new Promise((resolve) => {
    stream.on('close', () => {
      const code = stream.rstCode ?? 0
      const status = Number(headers[':status'] ?? 0)
      resolve({ status, headers, body: Buffer.concat(chunks), trailers, interim, whole: whole && code === 0, code })
    })
  })
}

/** One client session, and what its peer says of its end. */
export class Client {
  readonly session: ClientHttp2Session
  readonly goaways: { readonly code: number; readonly last: number }[] = []
  readonly closed: Promise<void>

  constructor(session: ClientHttp2Session) {
    this.session = session
    session.on('error', () => {})
    session.on('goaway', (code, last) => this.goaways.push({ code, last }))
    this.closed = new Promise((resolve) => session.on('close', () => resolve()))
  }

  stream(headers: OutgoingHttpHeaders = {}, options: { endStream?: boolean } = {}): ClientHttp2Stream {
    return this.session.request({ ':path': '/', ...headers }, options)
  }

  request(headers: OutgoingHttpHeaders = {}, body?: Buffer | string): Promise<Answer> {
    const stream = this.stream(headers, { endStream: body === undefined })
    const answer = answerOf(stream)
    if (body !== undefined) stream.end(body)
    return answer
  }
}

export interface Http2Setup extends Setup {
  client2(options?: ClientSessionOptions): Client
  /** A connection on which the test writes frames itself; preface and SETTINGS have been exchanged. */
  frames(): Promise<FrameWire>
}

/** As `setup`, for clients that speak HTTP/2 in plaintext. */
export async function setup2(t: Test, spec: SetupSpec = {}): Promise<Http2Setup> {
  const sessions: ClientHttp2Session[] = []
  const base = await setup(t, spec)
  t.teardown(() => {
    for (const session of sessions) session.destroy()
  })
  return {
    ...base,
    client2(options) {
      const session = connect(`http://127.0.0.1:${base.gateway.port()}`, options)
      sessions.push(session)
      return new Client(session)
    },
    async frames() {
      const wire = new FrameWire(await base.connect({ halfOpen: true }))
      await wire.start()
      return wire
    },
    async finish() {
      for (const session of sessions) session.destroy()
      return base.finish()
    },
  }
}

/** Frames by hand over a socket. */
export class FrameWire {
  readonly wire: Wire
  readonly #reader = new FrameReader()
  readonly #frames: Frame[] = []
  /** How it ended, once `next` has answered undefined. */
  ending = 'open'

  constructor(wire: Wire) {
    this.wire = wire
  }

  get socket(): Socket {
    return this.wire.socket
  }

  /** Preface, SETTINGS both ways, and the gateway's acknowledgement; leaves nothing to read. */
  async start(...pairs: readonly (readonly [id: number, value: number])[]): Promise<void> {
    await this.write(PREFACE, settings(...pairs))
    await this.until((f) => f.type === T.SETTINGS && (f.flags & FLAG.ACK) === 0)
    await this.write(settingsAck())
    await this.until((f) => f.type === T.SETTINGS && (f.flags & FLAG.ACK) !== 0)
  }

  write(...pieces: readonly Buffer[]): Promise<boolean> {
    return this.wire.write(Buffer.concat(pieces))
  }

  /** The next frame; undefined at the end of the connection. */
  async next(): Promise<Frame | undefined> {
    for (;;) {
      const frame = this.#frames.shift()
      if (frame !== undefined) return frame
      const chunk = await this.wire.stream.takeSome(1 << 20, 'frame')
      if (chunk === undefined) {
        this.ending = this.wire.stream.ending
        return undefined
      }
      this.#frames.push(...this.#reader.read(chunk))
    }
  }

  /** Skips frames up to one that `wanted` takes, and answers it. */
  async until(wanted: (frame: Frame) => boolean): Promise<Frame> {
    for (;;) {
      const frame = await this.next()
      if (frame === undefined) throw new Error(`the connection ended (${this.ending}) before the frame`)
      if (wanted(frame)) return frame
    }
  }

  /** All frames up to the end of the connection. */
  async rest(): Promise<Frame[]> {
    const out: Frame[] = []
    for (let frame = await this.next(); frame !== undefined; frame = await this.next()) out.push(frame)
    return out
  }
}
