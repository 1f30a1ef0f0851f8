import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createServer1, type IncomingMessage, type Server } from 'node:http'
import {
  type ClientHttp2Session,
  connect as connect2,
  createServer as createServer2,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import { type AddressInfo, connect as connect1, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** Both ends of tunnels through a gateway, as Node's own HTTP speaks them: one face for HTTP/1 and HTTP/2. */

export type Kind = 'http1' | 'http2'

/** What a tunnel is asked for: an upgrade to a WebSocket, or a plain CONNECT. */
export type Wish = 'websocket' | 'connect'

/** One request for a tunnel, as the upstream sees it. */
export interface Asked {
  readonly path: string
  readonly headers: NodeJS.Dict<string | string[]>
  /** 101, or 200 for CONNECT and over HTTP/2; `early` follows at once. */
  grant(early?: string): Duplex
  refuse(status: number, body: string): void
  /** It sees that the client has gone; what the client has sent is lost. */
  gone(): Promise<void>
  /** Abruptly: RST, or RST_STREAM. */
  reset(): void
}

export class TunnelUpstream {
  readonly port: number
  readonly #waiting: Asked[] = []
  readonly #takers: ((asked: Asked) => void)[] = []
  readonly #close: () => void
  asked = 0

  private constructor(port: number, close: () => void) {
    this.port = port
    this.#close = close
  }

  static async start(kind: Kind): Promise<TunnelUpstream> {
    const open = new Set<{ destroy(): void }>()
    let made: TunnelUpstream | undefined
    const arrive = (asked: Asked): void => made?.arrived(asked)
    const server = kind === 'http1' ? server1(open, arrive) : server2(open, arrive)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    made = new TunnelUpstream((server.address() as AddressInfo).port, () => {
      for (const one of open) one.destroy()
      server.close()
    })
    return made
  }

  arrived(asked: Asked): void {
    this.asked++
    const taker = this.#takers.shift()
    if (taker === undefined) this.#waiting.push(asked)
    else taker(asked)
  }

  next(): Promise<Asked> {
    const asked = this.#waiting.shift()
    return asked === undefined ? new Promise((resolve) => this.#takers.push(resolve)) : Promise.resolve(asked)
  }

  close(): void {
    this.#close()
  }
}

function server1(open: Set<{ destroy(): void }>, arrive: (asked: Asked) => void): Server {
  const server = createServer1((_, response) => response.writeHead(500).end('no tunnel'))
  server.on('connection', (socket) => open.add(socket))
  const take = (request: IncomingMessage, stream: Duplex, head: Buffer): void => {
    const socket = stream as Socket
    socket.on('error', () => {})
    socket.allowHalfOpen = true
    if (head.length > 0) socket.unshift(head)
    arrive({
      path: request.url ?? '',
      headers: request.headers,
      grant(early = '') {
        const lines =
          request.method === 'CONNECT'
            ? ['HTTP/1.1 200 OK']
            : [
                'HTTP/1.1 101 Switching Protocols',
                'connection: Upgrade',
                `upgrade: ${request.headers.upgrade}`,
                `sec-websocket-accept: ${acceptOf(String(request.headers['sec-websocket-key']))}`,
              ]
        socket.write(`${lines.join('\r\n')}\r\n\r\n${early}`)
        return socket
      },
      refuse: (status, body) =>
        void socket.end(`HTTP/1.1 ${status} No\r\ncontent-length: ${body.length}\r\n\r\n${body}`),
      gone: () => goneOf(socket),
      reset: () => void socket.resetAndDestroy(),
    })
  }
  server.on('upgrade', take)
  server.on('connect', take)
  return server
}

function server2(open: Set<{ destroy(): void }>, arrive: (asked: Asked) => void): ReturnType<typeof createServer2> {
  const server = createServer2({ settings: { enableConnectProtocol: true } })
  server.on('session', (session: ServerHttp2Session) => open.add(session))
  // Without a listener of its own Node resets every plain CONNECT.
  server.on('connect', () => {})
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.on('error', () => {})
    arrive({
      path: headers[':path'] ?? '',
      headers,
      grant(early = '') {
        stream.respond({ ':status': 200 })
        if (early !== '') stream.write(early)
        return stream
      },
      refuse(status, body) {
        stream.respond({ ':status': status, 'content-length': body.length })
        stream.end(body)
      },
      gone: () => goneOf(stream),
      // `close` would say END_STREAM first.
      reset: () => void stream.destroy(new Error('reset')),
    })
  })
  return server
}

/** A client's request for a tunnel. */
export interface Asking {
  /** Bytes that do not wait for the answer go out through this as well. */
  readonly stream: Duplex
  /** The answer's head; the rest of the bytes are in `stream`. */
  readonly answer: Promise<{ readonly status: number; readonly headers: string }>
  reset(): void
}

const TARGET = 'origin.example:443'

export class TunnelClient {
  readonly kind: Kind
  readonly #port: number
  readonly #open = new Set<{ destroy(): void }>()
  #session: ClientHttp2Session | undefined = undefined

  constructor(kind: Kind, port: number) {
    this.kind = kind
    this.#port = port
  }

  async ask(wish: Wish, path = '/chat', upgrade = 'websocket'): Promise<Asking> {
    return this.kind === 'http1' ? this.#ask1(wish, path, upgrade) : await this.#ask2(wish, path, upgrade)
  }

  #ask1(wish: Wish, path: string, upgrade: string): Asking {
    const socket = connect1({ port: this.#port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    this.#open.add(socket)
    socket.on('error', () => {})
    const lines =
      wish === 'connect'
        ? [`CONNECT ${TARGET} HTTP/1.1`, `host: ${TARGET}`]
        : [
            `GET ${path} HTTP/1.1`,
            'host: a.example',
            'connection: Upgrade',
            `upgrade: ${upgrade}`,
            'sec-websocket-version: 13',
            'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==',
          ]
    socket.write(`${lines.join('\r\n')}\r\n\r\n`)
    return { stream: socket, answer: headOf(socket), reset: () => void socket.resetAndDestroy() }
  }

  async #ask2(wish: Wish, path: string, upgrade: string): Promise<Asking> {
    if (this.#session === undefined) {
      this.#session = connect2(`http://127.0.0.1:${this.#port}`)
      this.#session.on('error', () => {})
      this.#open.add(this.#session)
      await once(this.#session, 'remoteSettings')
    }
    const stream = this.#session.request(
      wish === 'connect'
        ? { ':method': 'CONNECT', ':authority': TARGET }
        : { ':method': 'CONNECT', ':protocol': upgrade, ':path': path, 'sec-websocket-version': '13' },
      { endStream: false },
    )
    stream.on('error', () => {})
    const answer = new Promise<{ status: number; headers: string }>((resolve) =>
      stream.on('response', (fields) =>
        resolve({ status: Number(fields[':status']), headers: JSON.stringify(fields) }),
      ),
    )
    return { stream, answer, reset: () => void stream.destroy(new Error('reset')) }
  }

  close(): void {
    for (const one of this.#open) one.destroy()
  }
}

/** Reads an HTTP/1 head and leaves what follows it in the socket. */
function headOf(socket: Socket): Promise<{ status: number; headers: string }> {
  return new Promise((resolve, reject) => {
    let text = ''
    const read = (): void => {
      const chunk = socket.read() as Buffer | null
      if (chunk === null) return
      text += chunk.toString('latin1')
      const end = text.indexOf('\r\n\r\n')
      if (end < 0) return
      socket.off('readable', read)
      const rest = text.slice(end + 4)
      if (rest !== '') socket.unshift(Buffer.from(rest, 'latin1'))
      resolve({ status: Number(text.slice(9, 12)), headers: text.slice(0, end) })
    }
    socket.on('readable', read)
    socket.on('close', () => reject(new Error(`closed before an answer, after "${text}"`)))
  })
}

function goneOf(stream: Duplex): Promise<void> {
  stream.resume()
  return new Promise((resolve) => {
    if (stream.closed || stream.readableEnded) resolve()
    stream.on('close', () => resolve())
    stream.on('end', () => resolve())
  })
}

function acceptOf(key: string): string {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
}

/** Everything that a stream brings until it ends; `broken`: it ended by a reset. */
export interface Gathered {
  bytes: number
  text: string
  ended: boolean
  broken: boolean
  readonly closed: Promise<void>
}

export function gather(stream: Duplex, keep = true): Gathered {
  const out: Gathered = {
    bytes: 0,
    text: '',
    ended: false,
    broken: false,
    closed: new Promise((resolve) => stream.on('close', () => resolve())),
  }
  // Node takes CANCEL for an end.
  stream.on('close', () => {
    if ('rstCode' in stream && stream.rstCode !== 0) out.broken = true
  })
  stream.on('data', (chunk: Buffer) => {
    out.bytes += chunk.length
    if (keep) out.text += chunk.toString('latin1')
  })
  stream.on('end', () => {
    out.ended = true
  })
  stream.on('error', () => {
    out.broken = true
  })
  stream.on('aborted', () => {
    out.broken = true
  })
  return out
}
