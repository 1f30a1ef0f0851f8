import { once } from 'node:events'
import { createServer as createHttp1, type IncomingMessage, type ServerResponse } from 'node:http'
import { connect as connect2, constants, createServer as createHttp2, type ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, connect, type Server, type Socket } from 'node:net'
import type { Duplex, Readable } from 'node:stream'
import t, { type Test } from 'tap'
import type { HttpFilter, HttpStream } from '../../lib/chain/filter.ts'
import type { Sink } from '../../lib/core/body.ts'
import { Headers } from '../../lib/core/headers.ts'
import { settle } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { type Random, seeded } from '../support/random.ts'
import { bootstrap, cluster, type Fields } from './bootstrap.ts'
import { withFilters } from './filter-instances.ts'

/** As body-memory.test.ts, where a body does not simply go from one codec to the other. */

const PERIOD = 65_537
/** More than two kernels hold between them. */
const HUGE_BYTES = 12 << 20
const HTTP2: Fields = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: { allow_connect: true } },
    },
  },
}

/** The endless bytes of one direction; a prime period, so that no multiple of a read brings the same again. */
class Pattern {
  readonly #bytes: Buffer
  at = 0
  wrong: string | undefined = undefined

  constructor(seed: number) {
    const random = seeded(seed)
    const words = new Uint32Array((2 * PERIOD + 4) >> 2)
    for (let i = 0; i < words.length; i++) words[i] = random.next() * 2 ** 32
    this.#bytes = Buffer.from(words.buffer)
    this.#bytes.copyWithin(PERIOD, 0, PERIOD)
  }

  /** At most a period of them. */
  take(offset: number, size: number): Buffer {
    return this.#bytes.subarray(offset % PERIOD, (offset % PERIOD) + size)
  }

  all(size: number): Buffer {
    const out = Buffer.allocUnsafe(size)
    for (let at = 0; at < size; at += PERIOD) this.take(at, Math.min(PERIOD, size - at)).copy(out, at)
    return out
  }

  check(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; at += PERIOD) {
      const piece = chunk.subarray(at, at + PERIOD)
      if (!piece.equals(this.take(this.at, piece.length))) this.wrong ??= `at ${this.at}`
      this.at += piece.length
    }
  }
}

/** Reads with stalls; the first is long enough for every buffer on the way to fill. */
async function read(stream: Readable, pattern: Pattern, random: Random, stallMs = 60): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, stallMs))
  stream.on('data', (chunk: Buffer) => {
    pattern.check(chunk)
    if (random.below(12) > 0) return
    stream.pause()
    void settle(random.below(20)).then(() => stream.resume())
  })
  stream.resume()
  await new Promise((resolve) => stream.once('end', resolve).once('close', resolve))
}

async function write(
  stream: NodeJS.WritableStream,
  pattern: Pattern,
  { total, random }: { readonly total: number; readonly random: Random },
): Promise<void> {
  for (let sent = 0; sent < total; ) {
    const size = Math.min(total - sent, 1 + random.below(random.below(3) === 0 ? 3_000 : PERIOD - 1))
    if (!stream.write(pattern.take(sent, size)) && random.below(4) > 0) await once(stream, 'drain')
    sent += size
  }
  stream.end()
}

async function listen(t: Test, server: Server | ReturnType<typeof createHttp2>): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** Both directions at once, echoing nothing: each end sends what the other one knows. */
async function both(stream: Duplex, sends: Pattern, gets: Pattern, seed: number): Promise<void> {
  const random = seeded(seed)
  stream.on('error', () => {})
  await Promise.all([read(stream, gets, random), write(stream, sends, { total: HUGE_BYTES, random })])
}

const WEBSOCKET: Fields = {
  upgrade_configs: [{ upgrade_type: 'websocket' }],
  http2_protocol_options: { allow_connect: true },
}
const ASK = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n'
const KEY = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n'

for (const client of ['HTTP/1', 'HTTP/2'] as const) {
  t.test(`the bytes of a tunnel arrive as they were sent, both ways, from ${client}`, async (t) => {
    const [upSent, upGot, downSent, downGot] = [1, 1, 2, 2].map((seed) => new Pattern(seed))
    let served: Promise<void> | undefined
    const origin = createHttp1().on('upgrade', (_request, socket: Socket, head: Buffer) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n')
      if (head.length > 0) socket.unshift(head)
      served = both(socket, downSent, upGot, 11)
    })
    const gateway = await TestGateway.start(
      bootstrap({ hcm: WEBSOCKET, clusters: [cluster('origin', await listen(t, origin))] }),
    )
    let stream: Duplex
    if (client === 'HTTP/1') {
      const socket = connect({ port: gateway.port(), host: '127.0.0.1', allowHalfOpen: true })
      socket.write(ASK + KEY)
      stream = socket
      let head = ''
      while (!head.includes('\r\n\r\n')) {
        const [chunk] = (await once(socket, 'data')) as [Buffer]
        socket.pause()
        head += chunk.toString('latin1')
        const end = head.indexOf('\r\n\r\n')
        if (end >= 0 && head.length > end + 4) socket.unshift(Buffer.from(head.slice(end + 4), 'latin1'))
        else if (end < 0) socket.resume()
      }
      t.match(head, /^HTTP\/1\.1 101/)
    } else {
      const session = connect2(`http://127.0.0.1:${gateway.port()}`)
      t.teardown(() => session.destroy())
      await once(session, 'remoteSettings')
      const request = session.request({
        ':method': 'CONNECT',
        ':protocol': 'websocket',
        ':path': '/',
        ':scheme': 'http',
      })
      await once(request, 'response')
      stream = request
    }
    t.teardown(() => {
      stream.destroy()
      return gateway.close()
    })
    await both(stream, upSent, downGot, 12)
    await served
    for (const [name, pattern] of Object.entries({ upGot, downGot })) {
      t.equal(pattern.wrong, undefined, name)
      t.equal(pattern.at, HUGE_BYTES, name)
    }
  })
}

t.test('bodies of second attempts arrive as they were sent, also where the first is still being written', async (t) => {
  const CALLS = 12
  const seen = new Map<string, number>()
  const problems: string[] = []
  const origin = createHttp2({ settings: { initialWindowSize: 200_000 } }).on(
    'stream',
    (stream: ServerHttp2Stream, headers) => {
      const path = String(headers[':path'])
      const tries = (seen.get(path) ?? 0) + 1
      const seed = Number(path.slice(1))
      seen.set(path, tries)
      stream.on('error', () => {})
      if (tries === 1) {
        // After some of the body, or where all of it has long left the gateway.
        const refuse = (): void => stream.close(constants.NGHTTP2_REFUSED_STREAM)
        if (seed % 3 > 0) stream.on('end', refuse).resume()
        else stream.once('data', refuse)
        return
      }
      const pattern = new Pattern(seed)
      void read(stream, pattern, seeded(seed)).then(() => {
        if (pattern.wrong !== undefined) problems.push(`${path} ${pattern.wrong}`)
        if (!stream.destroyed) stream.respond({ ':status': 200, 'x-bytes': pattern.at }, { endStream: true })
      })
    },
  )
  const gateway = await TestGateway.start(bootstrap({ clusters: [cluster('origin', await listen(t, origin), HTTP2)] }))
  t.teardown(() => gateway.close())
  let repeated = 0
  const one = async (seed: number): Promise<void> => {
    const random = seeded(seed)
    // Up to what is kept; a few are larger and cannot be repeated once they have come that far.
    const total = seed % 7 === 0 ? 400_000 : 20_000 + random.below(45_000)
    const session = connect2(`http://127.0.0.1:${gateway.port()}`)
    const request = session.request({ ':method': 'POST', ':path': `/${seed}` })
    request.on('error', () => {})
    const answered = once(request, 'response')
    // Pieces that are read one by one, each large enough for memory of its own.
    for (let at = 0, pattern = new Pattern(seed); at < total && !request.destroyed; at += 20_000) {
      request.write(pattern.take(at, Math.min(20_000, total - at)))
      await settle(10)
    }
    request.end()
    const [headers] = await answered
    session.destroy()
    if (headers[':status'] !== 200) return
    repeated++
    if (Number(headers['x-bytes']) !== total) problems.push(`/${seed}: ${headers['x-bytes']} of ${total}`)
  }
  // One by one, so that nothing else decides what a read brings.
  for (let i = 0; i < CALLS; i++) await one(100 + i)
  t.strictSame(problems, [])
  t.ok(repeated > CALLS / 2, `${repeated} were repeated`)
})

/** Answers with the request's own body, chunk by chunk, as it comes: what it was given goes out later. */
class Mirror implements HttpFilter<{ sink: Sink | undefined }> {
  readonly createState = (): { sink: Sink | undefined } => ({ sink: undefined })

  readonly onRequestHeaders = async (stream: HttpStream): Promise<undefined> => {
    if (stream.head.path !== '/mirror') return
    const body = await stream.collectRequest(HUGE_BYTES + 1)
    if (!Buffer.isBuffer(body)) return
    const sink = stream.respond(200, new Headers())
    for (let at = 0; at < body.length; at += 50_000) sink.write(body.subarray(at, at + 50_000))
    sink.end()
  }
}

t.test('a filter answers with the request itself, others are answered while they are still sent', async (t) => {
  const pattern = new Pattern(3)
  const origin = createHttp1((request: IncomingMessage, response: ServerResponse) => {
    if (request.url === '/early') {
      // The answer is long, and comes while the body does.
      void write(response, new Pattern(4), { total: HUGE_BYTES, random: seeded(4) })
      request.resume()
    } else request.pipe(response)
  })
  const gateway = await TestGateway.start(bootstrap({ clusters: [cluster('origin', await listen(t, origin))] }), {
    adjust: withFilters(new Mirror() as HttpFilter<unknown>),
  })
  const session = connect2(`http://127.0.0.1:${gateway.port()}`)
  t.teardown(() => {
    session.destroy()
    return gateway.close()
  })
  const ask = async (path: string, total: number, expected: Pattern): Promise<void> => {
    const request = session.request({ ':method': 'POST', ':path': path })
    request.on('error', () => {})
    void write(request, pattern, { total, random: seeded(5) }).catch(() => {})
    await read(request, expected, seeded(6))
    t.equal(expected.wrong, undefined, path)
  }
  const [mirrored, early, echoed] = [new Pattern(3), new Pattern(4), new Pattern(3)]
  await Promise.all([
    ask('/mirror', 600_000, mirrored),
    ask('/early', HUGE_BYTES, early),
    ask('/echo', HUGE_BYTES, echoed),
  ])
  t.equal(early.at, HUGE_BYTES)
  t.equal(echoed.at, HUGE_BYTES)
  t.equal(mirrored.at, 600_000)
})

t.test('pipelined requests with bodies bring what was sent, however packets and answers fall', async (t) => {
  const CALLS = 40
  const bodies = new Map<string, number>()
  const problems: string[] = []
  const order: string[] = []
  // Windows far below what one packet of the client brings: much of it waits, and must be what it was when its turn comes.
  const origin = createHttp2({ settings: { initialWindowSize: 20_000 } }, (request, response) => {
    const path = String(request.url)
    const seed = Number(path.slice(1))
    const got = new Pattern(seed)
    void read(request as unknown as Readable, got, seeded(seed), 1).then(async () => {
      if (got.wrong !== undefined) problems.push(`${path} ${got.wrong}`)
      if (got.at !== bodies.get(path)) problems.push(`${path}: ${got.at} of ${bodies.get(path)}`)
      order.push(path)
      const random = seeded(seed + 1)
      response.setHeader('content-length', 30_000)
      await write(response as unknown as NodeJS.WritableStream, new Pattern(seed), { total: 30_000, random })
    })
  })
  const gateway = await TestGateway.start(bootstrap({ clusters: [cluster('origin', await listen(t, origin), HTTP2)] }))
  t.teardown(() => gateway.close())
  const socket = connect(gateway.port(), '127.0.0.1')
  t.teardown(() => void socket.destroy())
  const random = seeded(77)
  const parts: Buffer[] = []
  for (let i = 0; i < CALLS; i++) {
    const seed = 1_000 + i
    const total = random.below(4) === 0 ? 1_500_000 : random.below(120_000)
    bodies.set(`/${seed}`, total)
    parts.push(
      Buffer.from(`POST /${seed} HTTP/1.1\r\nHost: x\r\nContent-Length: ${total}\r\n\r\n`),
      new Pattern(seed).all(total),
    )
  }
  let answers = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    answers = Buffer.concat([answers, chunk])
  })
  const all = Buffer.concat(parts)
  for (let at = 0; at < all.length; ) {
    const size = 1 + random.below(300_000)
    if (!socket.write(all.subarray(at, at + size))) await once(socket, 'drain')
    at += size
  }
  await gateway.until(() => answers.length > CALLS * 30_000 && order.length === CALLS, 'all answers', 20_000)
  t.strictSame(problems, [])
  t.strictSame(order, [...bodies.keys()])
  for (let i = 0, at = 0; i < CALLS; i++) {
    const head = answers.indexOf('\r\n\r\n', at)
    const got = new Pattern(1_000 + i)
    got.check(answers.subarray(head + 4, head + 4 + 30_000))
    if (got.wrong !== undefined) t.fail(`answer ${i} ${got.wrong}`)
    at = head + 4 + 30_000
  }
})
