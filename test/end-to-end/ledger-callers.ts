import { once } from 'node:events'
import http2 from 'node:http2'
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { settle } from '../support/clock.ts'
import type { Ledger } from '../support/ledger.ts'
import type { Random } from '../support/random.ts'
import { type Wire, WireClient } from '../support/wire.ts'
import type { Plan } from './ledger-plan.ts'

/** A client that keeps its side of the ledger. */
export interface Caller {
  /** All of them at once; resolves when each has its end. */
  ask(plans: readonly Plan[]): Promise<void>
  /** It has a connection for the next request. */
  readonly connected: boolean
  /** Of its connections, those that are being made too. */
  sockets(): readonly Socket[]
  close(): Promise<void>
}

export interface CallerParts {
  readonly ledger: Ledger
  readonly port: number
  readonly random: Random
  /** Certificates are not checked. */
  readonly tls?: boolean
  /**
   * node:http2 gives up requests that it has taken and not yet sent when a GOAWAY arrives, with REFUSED_STREAM: true
   * withdraws them from the ledger. What the gateway refuses itself is in its statistics.
   */
  readonly withdraws?: boolean
}

/** A socket on which the protocol may begin: at once, or after the handshake. */
function open({ port, tls }: CallerParts, alpn: string): Socket {
  if (tls !== true) return connect(port, '127.0.0.1')
  return connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: [alpn] })
}

/** One connection of node:http2 at a time; the next one where that was told to go, or was killed. */
export class Http2Caller implements Caller {
  readonly #parts: CallerParts
  #session: http2.ClientHttp2Session | undefined = undefined
  /** With the sockets beneath. */
  readonly #open = new Map<http2.ClientHttp2Session, Socket>()
  /** node:http2 ends the streams of those as if they had come to their end. */
  readonly #killed = new WeakSet<http2.ClientHttp2Session>()

  constructor(parts: CallerParts) {
    this.#parts = parts
  }

  async ask(plans: readonly Plan[]): Promise<void> {
    const killed = plans.some(({ fault }) => fault === 'client-kill')
    // What is open on the connection when it is killed goes down with it.
    if (killed) for (const { request } of plans) this.#parts.ledger.excuse(request.seq)
    const asking = Promise.all(plans.map((plan) => this.#one(plan)))
    if (killed) {
      await settle(this.#parts.random.below(30))
      if (this.#session !== undefined) this.#kill(this.#session)
    }
    await asking
  }

  async close(): Promise<void> {
    const ended = [...this.#open.keys()].map((session) => once(session, 'close'))
    for (const socket of this.#open.values()) socket.destroy()
    await Promise.all(ended)
  }

  /** A connection is open that takes requests. */
  get connected(): boolean {
    const session = this.#session
    return session !== undefined && !session.closed && !session.destroyed
  }

  sockets(): readonly Socket[] {
    return [...this.#open.values()]
  }

  #kill(session: http2.ClientHttp2Session): void {
    this.#killed.add(session)
    // Without a word: session.destroy() would say goodbye.
    this.#open.get(session)?.resetAndDestroy()
  }

  #connected(): http2.ClientHttp2Session {
    let session = this.#session
    if (session === undefined || !this.connected) {
      const socket = open(this.#parts, 'h2')
      const scheme = this.#parts.tls === true ? 'https' : 'http'
      const opened = http2.connect(`${scheme}://ledger.example`, { createConnection: () => socket })
      opened.on('error', () => undefined)
      opened.on('close', () => this.#open.delete(opened))
      this.#open.set(opened, socket)
      this.#session = session = opened
    }
    return session
  }

  async #one(plan: Plan): Promise<void> {
    const { ledger, random, withdraws } = this.#parts
    const { seq, method, body, fields } = plan.request
    const broken = plan.fault === 'client-reset'
    const session = this.#connected()
    const stream = session.request(
      {
        ':method': method,
        ':path': `/${random.below(1000)}`,
        ...Object.fromEntries(fields),
        ...(plan.declared && body.length > 0 && { 'content-length': String(body.length) }),
      },
      // A stream that waits for trailers is not ended cleanly by node:http2 before it is reset.
      { endStream: body.length === 0 && !broken, waitForTrailers: broken },
    )
    const answer = receive(stream)
    if (broken) {
      const part = body.subarray(0, random.below(body.length + 1))
      if (part.length > 0) stream.write(part)
      await settle(random.below(12))
      stream.close(http2.constants.NGHTTP2_CANCEL)
    } else if (body.length > 0) {
      const cut = random.below(body.length)
      if (cut > 0) stream.write(body.subarray(0, cut))
      if (random.below(2) === 0) await settle(random.below(6))
      stream.end(body.subarray(cut))
    }
    const got = await answer
    if (withdraws === true && got.code === http2.constants.NGHTTP2_REFUSED_STREAM) ledger.withdraw(seq)
    else if (got.status === 0) ledger.failed(seq, `no response, code ${got.code}`)
    else if (this.#killed.has(session)) ledger.failed(seq, 'its connection was killed')
    else ledger.answered(seq, { ...got, get: (name) => got.headers[name] as string | undefined })
  }
}

interface Received {
  readonly status: number
  readonly headers: http2.IncomingHttpHeaders
  readonly body: Buffer
  readonly clean: boolean
  readonly code: number | undefined
}

/** Never throws: what broke off is not clean, what had no response has status 0. */
function receive(stream: http2.ClientHttp2Stream): Promise<Received> {
  const pieces: Buffer[] = []
  let headers: http2.IncomingHttpHeaders = {}
  let ended = false
  stream.on('error', () => undefined)
  stream.on('response', (fields) => {
    headers = fields
  })
  stream.on('data', (piece: Buffer) => pieces.push(piece))
  stream.on('end', () => {
    ended = true
  })
  return new Promise((resolve) => {
    stream.on('close', () => {
      const clean = ended && !stream.aborted && (stream.rstCode ?? 0) === http2.constants.NGHTTP2_NO_ERROR
      const status = Number(headers[':status'] ?? 0)
      resolve({ status, headers, body: Buffer.concat(pieces), clean, code: stream.rstCode })
    })
  })
}

/** HTTP/1 connections, as many as are asked for at once, kept for the next round. */
export class Http1Caller implements Caller {
  readonly #parts: CallerParts
  readonly #client = new WireClient()
  readonly #free: Wire[] = []
  readonly #sockets = new Set<Socket>()

  constructor(parts: CallerParts) {
    this.#parts = parts
  }

  async ask(plans: readonly Plan[]): Promise<void> {
    await Promise.all(plans.map((plan) => this.#one(plan)))
  }

  close(): Promise<void> {
    return this.#client.closeAll()
  }

  /** A connection is open on which nothing is under way. */
  get connected(): boolean {
    return this.#free.some((wire) => !wire.socket.destroyed && !wire.socket.readableEnded)
  }

  sockets(): readonly Socket[] {
    return [...this.#sockets]
  }

  async #opened(): Promise<Wire> {
    const socket = open(this.#parts, 'http/1.1')
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    await once(socket, this.#parts.tls === true ? 'secureConnect' : 'connect')
    return this.#client.adopt(socket, 15_000)
  }

  /** One that is still there: a response that was whole to us may have broken off behind its last byte. */
  #kept(): Wire | undefined {
    for (let wire = this.#free.pop(); wire !== undefined; wire = this.#free.pop()) {
      if (!wire.socket.destroyed && !wire.socket.readableEnded) return wire
    }
    return undefined
  }

  async #one(plan: Plan): Promise<void> {
    const { ledger, random } = this.#parts
    const { seq, method } = plan.request
    const wire = this.#kept() ?? (await this.#opened())
    const bytes = encode(plan)
    if (plan.fault === 'client-reset' || plan.fault === 'client-kill') {
      await wire.write(bytes.subarray(0, random.below(bytes.length + 1)))
      await settle(random.below(8))
      wire.reset()
      return
    }
    const writing = wire.write(bytes)
    try {
      const response = await wire.readResponse({ method })
      const { status, bytes: body, clean } = response
      ledger.answered(seq, { status, body, clean, get: (name) => response.get(name) })
      await writing
      if (clean && response.get('connection') !== 'close') this.#free.push(wire)
    } catch (error) {
      ledger.failed(seq, String(error))
    }
  }
}

function encode({ request, declared }: Plan): Buffer {
  const { method, body, fields } = request
  const lines = [
    `${method} /ledger HTTP/1.1`,
    'Host: ledger.example',
    ...fields.map(([name, value]) => `${name}: ${value}`),
  ]
  const chunked = body.length > 0 && !declared
  if (chunked) lines.push('Transfer-Encoding: chunked')
  else if (body.length > 0 || method === 'POST') lines.push(`Content-Length: ${body.length}`)
  const head = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`)
  if (!chunked) return Buffer.concat([head, body])
  return Buffer.concat([head, Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n0\r\n\r\n')])
}
