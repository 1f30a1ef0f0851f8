import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import type { Test } from 'tap'

export const MIB = 1 << 20
const SIZES = [0, 1, 1000, 65_536, MIB] as const

export function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

interface Answer {
  readonly status: number
  readonly body: Buffer
}

/** Of every size, with a length and without, three times. */
const ROUNDS = SIZES.flatMap((size) => [false, true].flatMap((chunked) => [0, 1, 2].map(() => ({ size, chunked }))))

/** Requests that one of the functions here sends. */
export const EXCHANGES = ROUNDS.length

/** Bodies of all sizes, with lengths and in chunks, several at a time over kept connections: all come back whole. */
export async function exchangeBodies(t: Test, port: number): Promise<void> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 })
  t.teardown(() => agent.destroy())
  await exchange(t, (body, chunked) => ask(agent, port, body, chunked))
}

export interface Http2Options {
  /** PEM of the authority that the server's certificate is of: over TLS. */
  readonly ca?: string
  /** No bodies beyond this size. */
  readonly mostBytes?: number
}

/** The same over one HTTP/2 connection, all at once. */
export async function exchangeHttp2Bodies(t: Test, port: number, options: Http2Options = {}): Promise<void> {
  const { ca, mostBytes } = options
  const url = ca === undefined ? `http://127.0.0.1:${port}` : `https://localhost:${port}`
  const session = http2.connect(url, { ...(ca !== undefined && { ca }) })
  const failed = new Promise<never>((_, reject) => session.on('error', reject))
  try {
    await Promise.race([failed, exchange(t, (body, chunked) => askHttp2(session, body, chunked), mostBytes)])
  } finally {
    session.destroy()
  }
}

async function exchange(
  t: Test,
  request: (body: Buffer, chunked: boolean) => Promise<Answer>,
  mostBytes = MIB,
): Promise<void> {
  await Promise.all(
    ROUNDS.filter(({ size }) => size <= mostBytes).map(async ({ size, chunked }) => {
      const sent = randomBytes(size)
      const { status, body } = await request(sent, chunked)
      t.same([status, hash(body)], [200, hash(sent)], `${size} bytes, ${chunked ? 'in chunks' : 'with a length'}`)
    }),
  )
}

/** One request over an agent of node:http; `chunked` leaves the length out. */
async function ask(agent: http.Agent, port: number, body: Buffer, chunked: boolean): Promise<Answer> {
  const headers = chunked ? { 'transfer-encoding': 'chunked' } : { 'content-length': body.length }
  const request = http.request({ host: '127.0.0.1', port, method: 'POST', path: '/echo?x=1', agent, headers })
  const response = once(request, 'response') as Promise<[http.IncomingMessage]>
  writePieces(request, body)
  const [message] = await response
  return { status: message.statusCode ?? 0, body: await collect(message) }
}

async function askHttp2(session: http2.ClientHttp2Session, body: Buffer, chunked: boolean): Promise<Answer> {
  const length = chunked ? {} : { 'content-length': String(body.length) }
  const request = session.request({ ':method': 'POST', ':path': '/echo?x=1', ...length })
  const response = once(request, 'response') as Promise<[http2.IncomingHttpHeaders]>
  writePieces(request, body)
  const [headers] = await response
  return { status: Number(headers[':status']), body: await collect(request) }
}

/** In pieces that fall where they like, so that chunks are not just packets. */
function writePieces(request: http.ClientRequest | http2.ClientHttp2Stream, body: Buffer): void {
  for (let at = 0; at < body.length; at += 50_021) request.write(body.subarray(at, at + 50_021))
  request.end()
}

async function collect(message: AsyncIterable<unknown>): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of message) pieces.push(piece as Buffer)
  return Buffer.concat(pieces)
}
