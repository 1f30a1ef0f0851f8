import { once } from 'node:events'
import http2 from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { settle } from '../support/clock.ts'
import { type Ledger, sha256 } from '../support/ledger.ts'
import type { Random } from '../support/random.ts'
import { type Plan, stretched } from './ledger-plan.ts'

export interface OriginParts {
  readonly ledger: Ledger
  readonly plans: ReadonlyMap<string, Plan>
  readonly random: Random
  /** Numbers of the requests that an origin has refused. */
  readonly refused: Set<string>
}

/** An origin of node:http2 that keeps its side of the ledger and breaks what the plans say. */
export class LedgerHttp2Origin {
  readonly done = { refused: 0, goaways: 0, kills: 0, resets: 0, cuts: 0, connections: 0 }
  readonly #ledger: Ledger
  readonly #plans: ReadonlyMap<string, Plan>
  readonly #random: Random
  readonly #server: http2.Http2Server
  readonly #sockets = new Set<Socket>()
  /** Shared by all origins: a request is refused once. */
  readonly #refused: Set<string>

  private constructor({ ledger, plans, random, refused }: OriginParts) {
    this.#ledger = ledger
    this.#plans = plans
    this.#random = random
    this.#refused = refused
    this.#server = http2.createServer()
    this.#server.on('connection', (socket: Socket) => {
      this.done.connections++
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    this.#server.on('session', (session) => session.on('error', () => undefined))
    this.#server.on('stream', (stream, headers) => void this.#serve(stream as http2.ServerHttp2Stream, headers))
  }

  static async start(parts: OriginParts): Promise<LedgerHttp2Origin> {
    const origin = new LedgerHttp2Origin(parts)
    origin.#server.listen(0, '127.0.0.1')
    await once(origin.#server, 'listening')
    return origin
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  async close(): Promise<void> {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await once(this.#server, 'close')
  }

  async #serve(stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): Promise<void> {
    stream.on('error', () => undefined)
    const seq = String(headers['x-seq'])
    const plan = this.#plans.get(seq)
    if (plan?.fault === 'refuse' && !this.#refused.has(seq)) {
      this.#refused.add(seq)
      this.done.refused++
      stream.resume()
      stream.close(http2.constants.NGHTTP2_REFUSED_STREAM)
      return
    }
    if (plan?.fault === 'goaway') {
      this.done.goaways++
      stream.session?.close()
    }
    const body = await collect(stream)
    this.#ledger.delivered(seq, String(headers['x-body-sha256']), body)
    if (!body.clean || plan === undefined) return
    await settle(this.#random.below(12))
    if (stream.destroyed) return
    if (plan.fault === 'origin-kill') {
      this.done.kills++
      this.#kill(stream.session?.socket.remotePort)
    } else if (plan.fault === 'origin-reset') {
      this.done.resets++
      stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR)
    } else await this.#answer(stream, plan)
  }

  /** The socket beneath, without a word: session.destroy() would say goodbye, and corrupts memory in Node 26.10. */
  #kill(remotePort: number | undefined): void {
    for (const socket of this.#sockets) if (socket.remotePort === remotePort) socket.resetAndDestroy()
  }

  async #answer(stream: http2.ServerHttp2Stream, plan: Plan): Promise<void> {
    const random = this.#random
    const { seq, method } = plan.request
    const answer = stretched(plan.answerBytes, random)
    if (random.below(8) === 0) stream.additionalHeaders({ ':status': 103, link: '</a>' })
    const fields = {
      ':status': 200,
      'x-seq': seq,
      'x-body-sha256': sha256(answer),
      ...(plan.answerDeclared && { 'content-length': String(answer.length) }),
    }
    if (method === 'HEAD') {
      stream.respond(fields, { endStream: true })
      return
    }
    // Without that, node:http2 would end the body cleanly before it resets the stream.
    const broken = plan.fault === 'origin-cut'
    const trailers = random.below(3) === 0
    stream.respond(fields, { waitForTrailers: trailers || broken })
    if (trailers && !broken) stream.on('wantTrailers', () => stream.sendTrailers({ 'x-end': seq }))
    const cut = random.below(answer.length + 1)
    if (cut > 0) stream.write(answer.subarray(0, cut))
    await settle(random.below(4))
    if (broken) {
      this.done.cuts++
      stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR)
    } else if (!stream.destroyed) stream.end(answer.subarray(cut))
  }
}

/** The request's body; clean: it ended by END_STREAM. */
function collect(stream: http2.ServerHttp2Stream): Promise<{ bytes: Buffer; clean: boolean }> {
  const pieces: Buffer[] = []
  return new Promise((resolve) => {
    const end = (clean: boolean): void => resolve({ bytes: Buffer.concat(pieces), clean })
    stream.on('data', (piece: Buffer) => pieces.push(piece))
    stream.on('end', () => end(!stream.aborted))
    stream.on('close', () => end(false))
  })
}
