import { once } from 'node:events'
import { connect, type IpcNetConnectOpts, type Socket, type TcpNetConnectOpts } from 'node:net'
import { ByteStream, type Ending, excerpt, WireError } from './byte-stream.ts'
import { settle } from './clock.ts'
import {
  type Body,
  type BodyConsumer,
  type Field,
  type Framing,
  fieldValue,
  framingOf,
  readBody,
  readHead,
} from './http1-message.ts'

export interface WireOptions {
  /** Any wait that takes longer fails the test, saying what it waited for. Default 5,000. */
  readonly deadlineMs?: number
  /** Keep our half open when the peer has sent its FIN. Default false. */
  readonly halfOpen?: boolean
  /** Bind to this address, to be another client than 127.0.0.1. */
  readonly localAddress?: string
}

/** A port on 127.0.0.1, or anything that net.connect takes. */
export type WireTarget = number | TcpNetConnectOpts | IpcNetConnectOpts

export interface WireResponse extends Body {
  readonly version: string
  readonly status: number
  readonly reason: string
  readonly fields: readonly Field[]
  /** Every byte of the head, as it came. */
  readonly rawHead: Buffer
  /** Interim responses that came before, in order. */
  readonly informational: readonly { readonly status: number; readonly fields: readonly Field[] }[]
  /** Value of a field whatever its case; several joined by `, `. */
  get(name: string): string | undefined
  /** The body as latin1. */
  text(): string
}

export interface ReadResponseOptions {
  /** Of the request that is answered: HEAD has no body, CONNECT none after a 2xx. Default GET. */
  readonly method?: string
  /** Answer with an interim response (1xx) as soon as it comes, instead of collecting it. */
  readonly interim?: boolean
  /** Takes the body instead of keeping it: for bodies larger than memory should hold. */
  readonly consume?: BodyConsumer
}

/** One client connection, raw: writes any bytes at any split, reads by hand or by a strict response reader. */
export class Wire {
  readonly socket: Socket
  readonly stream: ByteStream

  constructor(socket: Socket, deadlineMs = 5_000) {
    this.socket = socket
    this.stream = new ByteStream(socket, deadlineMs)
  }

  /** Resolves when the kernel has the bytes; false: the connection is gone (what the peer said can still be read). */
  write(bytes: Buffer | string): Promise<boolean> {
    const data = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes
    if (this.socket.destroyed || this.socket.writableEnded) return Promise.resolve(false)
    return new Promise((resolve) => this.socket.write(data, (error) => resolve(error == null)))
  }

  /**
   * Writes in pieces cut at `offsets`, each its own segment: Nagle is off, and the loop turns after each piece so that a
   * peer in this process has read it before the next one leaves.
   */
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

  /** Each piece its own segment, as `writeSplit`. */
  async writePieces(pieces: Iterable<Buffer>): Promise<boolean> {
    for (const piece of pieces) {
      if (!(await this.write(piece))) return false
      await settle()
    }
    return true
  }

  /** Exactly `size` bytes; rejects where the connection ends first. */
  async readBytes(size: number): Promise<Buffer> {
    if (await this.stream.need(size, `${size} bytes`)) return this.stream.take(size)
    throw this.#ended(`${size} bytes were expected`)
  }

  /** Up to and with `mark`, or as many bytes as `find` answers (-1: more). */
  async readUntil(mark: string | Buffer | ((bytes: Buffer) => number)): Promise<Buffer> {
    const find =
      typeof mark === 'function'
        ? mark
        : (bytes: Buffer): number => {
            const at = bytes.indexOf(mark)
            return at < 0 ? -1 : at + mark.length
          }
    const what =
      typeof mark === 'function' ? 'bytes that satisfy the predicate' : JSON.stringify(mark.toString('latin1'))
    const bytes = await this.stream.takeUntil(find, what)
    if (bytes === undefined) throw this.#ended(`${what} was expected`)
    return bytes
  }

  /** Everything up to the end of the connection, and how it ended. */
  async readToEnd(): Promise<{ bytes: Buffer; ending: Ending }> {
    const ending = await this.stream.untilEnd()
    return { bytes: this.stream.take(this.stream.buffered), ending }
  }

  /** Waits for the end and insists that no byte came before it. */
  async expectEnd(): Promise<Ending> {
    const { bytes, ending } = await this.readToEnd()
    if (bytes.length > 0) throw new WireError('protocol', `bytes before the end (${ending}): ${excerpt(bytes)}`)
    return ending
  }

  /**
   * The next response, interim ones collected. Throws where the peer breaks the protocol or ends before the head is
   * whole; a body that ends early is returned with `clean: false`. Bytes after it stay for the next read.
   */
  async readResponse(options: ReadResponseOptions = {}): Promise<WireResponse> {
    const informational: { status: number; fields: readonly Field[] }[] = []
    for (;;) {
      const head = await readHead(this.stream, 'response head')
      if (head === undefined) throw this.#ended('a response was expected')
      const line = /^(HTTP\/1\.[01]) ([1-9][0-9][0-9]) ([^\x00-\x08\x0a-\x1f\x7f]*)$/.exec(head.startLine)
      if (line === null) throw new WireError('protocol', `status line ${JSON.stringify(head.startLine)}`)
      const status = Number(line[2])
      if (status < 200 && status !== 101 && options.interim !== true) {
        informational.push({ status, fields: head.fields })
        continue
      }
      const frame = responseFrame(status, head.fields, options.method ?? 'GET')
      const body = await readBody(this.stream, frame, options.consume)
      return {
        ...body,
        version: line[1],
        status,
        reason: line[3],
        fields: head.fields,
        rawHead: head.raw,
        informational,
        get: (name) => fieldValue(head.fields, name),
        text: () => body.bytes.toString('latin1'),
      }
    }
  }

  /** One exchange: writes the request, reads its response. */
  async exchange(request: Buffer | string, options: ReadResponseOptions = {}): Promise<WireResponse> {
    await this.write(request)
    return this.readResponse(options)
  }

  /** Sends FIN; reading goes on. */
  end(): void {
    this.socket.end()
  }

  /** Sends RST. Throws on TLS sockets: reset the raw socket beneath. */
  reset(): void {
    this.socket.resetAndDestroy()
  }

  /** Drops the connection and waits until the socket is gone. */
  async close(): Promise<void> {
    if (this.socket.closed) return
    const closed = once(this.socket, 'close')
    this.socket.destroy()
    await closed
  }

  #ended(what: string): WireError {
    return new WireError(
      'ended',
      `connection ended (${this.stream.ending}), ${what}; had: ${excerpt(this.stream.peek())}`,
    )
  }
}

function responseFrame(status: number, fields: readonly Field[], method: string): { framing: Framing; length: number } {
  const frame = framingOf(fields, 'close')
  const bodyless = status < 200 || status === 204 || status === 304 || method === 'HEAD'
  if (bodyless || (method === 'CONNECT' && status < 300)) return { framing: 'none', length: 0 }
  return frame
}

/** Makes connections and counts those that are still open, so that a test can insist on none. */
export class WireClient {
  readonly #open = new Set<Socket>()

  /** Resolves when connected; rejects with the system's error, or after the deadline. */
  async connect(target: WireTarget, options: WireOptions = {}): Promise<Wire> {
    const where = typeof target === 'number' ? { host: '127.0.0.1', port: target } : target
    const socket = connect({
      ...where,
      allowHalfOpen: options.halfOpen === true,
      localAddress: options.localAddress,
    } as TcpNetConnectOpts)
    const deadlineMs = options.deadlineMs ?? 5_000
    const failed = setTimeout(
      () => socket.destroy(new WireError('deadline', `not connected within ${deadlineMs} ms`)),
      deadlineMs,
    )
    try {
      await once(socket, 'connect')
    } finally {
      clearTimeout(failed)
    }
    return this.adopt(socket, deadlineMs)
  }

  /** Counts and wraps a socket that somebody else has made: TLS, a tunnel. */
  adopt(socket: Socket, deadlineMs = 5_000): Wire {
    socket.setNoDelay(true)
    this.#open.add(socket)
    socket.once('close', () => this.#open.delete(socket))
    return new Wire(socket, deadlineMs)
  }

  /** Connections of this client that are not closed. */
  get open(): number {
    return this.#open.size
  }

  /** Destroys what is left and waits for it; for `t.teardown`. */
  async closeAll(): Promise<void> {
    await Promise.all(
      [...this.#open].map((socket) => {
        const closed = once(socket, 'close')
        socket.destroy()
        return closed
      }),
    )
  }
}
