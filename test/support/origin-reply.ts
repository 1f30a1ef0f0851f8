import type { Socket } from 'node:net'
import type { ByteStream, Ending } from './byte-stream.ts'
import { settle } from './clock.ts'
import type { Field } from './http1-message.ts'

export interface ReplySpec {
  /** Default 200. */
  readonly status?: number
  readonly fields?: readonly Field[]
  /** Sent with Content-Length, unless `chunks` is given. */
  readonly body?: Buffer | string
  /** Sent with chunked coding, one chunk each. */
  readonly chunks?: readonly (Buffer | string)[]
  /** After `chunks` only. */
  readonly trailers?: readonly Field[]
  /** Says `Connection: close` and closes after the response. */
  readonly close?: boolean
}

/** What a script may do to its connection. Nothing here is checked: an origin may say anything. */
export class OriginReply {
  readonly socket: Socket
  readonly stream: ByteStream
  /** The connection ends after this response. */
  closing = false
  /** The script took the connection over; no further request is read from it. */
  upgraded = false
  /** A whole response was sent by `send`, or bytes by `write` and no abort followed. */
  finished = false
  readonly #method: string
  readonly #startBody: () => void

  constructor(socket: Socket, stream: ByteStream, method: string, startBody: () => void) {
    this.socket = socket
    this.stream = stream
    this.#method = method
    this.#startBody = startBody
  }

  /** Any bytes; resolves when the kernel has them, false where the connection is gone. */
  write(bytes: Buffer | string): Promise<boolean> {
    const data = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes
    if (this.socket.destroyed || this.socket.writableEnded) return Promise.resolve(false)
    this.finished = true
    return new Promise((resolve) => this.socket.write(data, (error) => resolve(error == null)))
  }

  /** Cut at `offsets`, each piece its own segment. */
  async writeSplit(bytes: Buffer | string, offsets: readonly number[]): Promise<boolean> {
    const data = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes
    let from = 0
    for (const to of [...offsets, data.length]) {
      if (to > from && !(await this.write(data.subarray(from, to)))) return false
      from = Math.max(from, to)
      await settle()
    }
    return true
  }

  /** An interim response. */
  inform(status: number, fields: readonly Field[] = []): Promise<boolean> {
    return this.write(`HTTP/1.1 ${status} Interim\r\n${lines(fields)}\r\n`)
  }

  /** A whole, well-formed response. */
  async send(spec: ReplySpec = {}): Promise<boolean> {
    const status = spec.status ?? 200
    const body = typeof spec.body === 'string' ? Buffer.from(spec.body, 'utf8') : (spec.body ?? Buffer.alloc(0))
    const framing = spec.chunks === undefined ? `content-length: ${body.length}` : 'transfer-encoding: chunked'
    const bodyless = status === 204 || status === 304
    const head = `HTTP/1.1 ${status} Scripted\r\n${lines(spec.fields ?? [])}${bodyless ? '' : `${framing}\r\n`}`
    if (spec.close === true) this.closing = true
    await this.write(`${head}${spec.close === true ? 'connection: close\r\n' : ''}\r\n`)
    if (bodyless || this.#method === 'HEAD') return !this.socket.destroyed
    if (spec.chunks === undefined) return body.length === 0 ? true : this.write(body)
    for (const chunk of spec.chunks) if (!(await this.chunk(chunk))) return false
    return this.write(`0\r\n${lines(spec.trailers ?? [])}\r\n`)
  }

  /** One chunk of a chunked body. */
  chunk(data: Buffer | string): Promise<boolean> {
    const bytes = typeof data === 'string' ? Buffer.from(data, 'latin1') : data
    return this.write(Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]))
  }

  /** Starts reading the body where the origin was told to leave it in the kernel. */
  readBody(): void {
    this.#startBody()
  }

  /** Says nothing more until the peer has gone. */
  async stall(): Promise<Ending> {
    this.finished = false
    return this.stream.ending === 'open'
      ? new Promise((resolve) => this.socket.once('close', () => resolve(this.stream.ending)))
      : this.stream.ending
  }

  /** Ends the connection after this response, in order (FIN). */
  close(): void {
    this.closing = true
    this.socket.end()
  }

  /** Ends it at once, without waiting for the request's body. */
  destroy(): void {
    this.finished = false
    this.closing = true
    this.socket.destroy()
  }

  /** Ends it with RST. */
  reset(): void {
    this.finished = false
    this.closing = true
    this.socket.resetAndDestroy()
  }

  /** Sends the first `count` bytes, waits until they have left, then resets. */
  async resetAt(bytes: Buffer, count: number): Promise<void> {
    await this.write(bytes.subarray(0, count))
    await settle()
    this.reset()
  }

  /** Hands the connection to the script for good: tunnels, WebSocket. What had come already is in `stream`. */
  takeOver(): Socket {
    this.upgraded = true
    return this.socket
  }
}

function lines(fields: readonly Field[]): string {
  return fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')
}
