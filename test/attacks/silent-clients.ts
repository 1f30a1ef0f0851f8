import { once } from 'node:events'
import http2 from 'node:http2'
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { PREFACE, settings, settingsAck } from '../support/http2-wire.ts'

/** How long a client was left alone, from its last byte to the gateway's end, ms; and with what it ended. */
export interface Silence {
  readonly forMs: number
  readonly got: Buffer
}

/** Opens a connection, or a stream on one, takes it so far and falls silent; resolves when the gateway has ended it. */
export type SilentClient = (port: number) => Promise<Silence>

const LATE_MS = 30_000

/** Connections at a time that are being opened: clients are slow to make, and their deadlines begin with them. */
const OPENING = 50

/** All of `count`, opened a few at a time. */
export async function silence(client: SilentClient, port: number, count: number): Promise<Silence[]> {
  const all: Promise<Silence>[] = []
  for (let made = 0; made < count; made++) {
    all.push(client(port))
    if (made % OPENING === OPENING - 1) await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return Promise.all(all)
}

/** Sends these bytes on a plain connection, nothing more. */
export function afterBytes(bytes: Buffer): SilentClient {
  return async (port) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    const ended = untilEnd(socket)
    await once(socket, 'connect')
    if (bytes.length > 0) socket.write(bytes)
    return ended(performance.now())
  }
}

/** Finishes a TLS handshake, sends these bytes, nothing more. */
export function afterHandshake(alpn: string, bytes: Buffer = Buffer.alloc(0)): SilentClient {
  return async (port) => {
    const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: [alpn] })
    const ended = untilEnd(socket)
    await once(socket, 'secureConnect')
    if (bytes.length > 0) socket.write(bytes)
    return ended(performance.now())
  }
}

/** Speaks HTTP/2 as far as SETTINGS and asks for nothing. */
export const HTTP2_GREETING: Buffer = Buffer.concat([PREFACE, settings(), settingsAck()])

/** CONNECTs on HTTP/2 over TLS, up to 50 on a connection, that are accepted and then carry nothing. */
export class SilentTunnels {
  readonly #options: http2.SecureClientSessionOptions
  readonly #sessions: http2.ClientHttp2Session[] = []
  #streams = 0

  constructor(options: http2.SecureClientSessionOptions) {
    this.#options = options
  }

  readonly client: SilentClient = async (port) => {
    const session = this.#session(port)
    const stream = session.request({ ':method': 'CONNECT', ':authority': '127.0.0.1:1' }, { endStream: false })
    const closed = new Promise<void>((resolve) => stream.on('close', resolve))
    stream.on('error', () => undefined)
    const [headers] = (await within(once(stream, 'response'), 'no answer to CONNECT')) as [http2.IncomingHttpHeaders]
    if (Number(headers[':status']) !== 200) throw new Error(`CONNECT was answered with ${headers[':status']}`)
    const since = performance.now()
    stream.resume()
    await within(closed, 'the tunnel was not ended')
    return { forMs: performance.now() - since, got: Buffer.alloc(0) }
  }

  #session(port: number): http2.ClientHttp2Session {
    if (this.#streams++ % 50 > 0) return this.#sessions[this.#sessions.length - 1]
    const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false, ...this.#options })
    session.on('error', () => undefined)
    this.#sessions.push(session)
    return session
  }

  close(): void {
    for (const session of this.#sessions) session.destroy()
  }
}

/** Begins to watch; what it answers waits for the end and counts from the time that it is given. */
function untilEnd(socket: Socket): (since: number) => Promise<Silence> {
  const pieces: Buffer[] = []
  let endedMs = 0
  const over = new Promise<void>((resolve) => {
    const end = (): void => {
      endedMs ||= performance.now()
      resolve()
    }
    socket.on('data', (piece: Buffer) => pieces.push(piece))
    socket.on('error', () => undefined)
    socket.on('end', end)
    socket.on('close', end)
  })
  return async (since) => {
    await within(over, 'the gateway did not end it')
    socket.destroy()
    return { forMs: endedMs - since, got: Buffer.concat(pieces) }
  }
}

async function within<T>(work: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} within ${LATE_MS} ms`)), LATE_MS)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}
