import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { Agent, createServer as createHttp1, type IncomingMessage, request as request1 } from 'node:http'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connect2,
  constants,
  createServer as createHttp2,
  type ServerHttp2Stream,
} from 'node:http2'
import { type AddressInfo, connect } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import t, { type Test } from 'tap'
import type { HttpFilter } from '../../lib/chain/filter.ts'
import { settle } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { FLAG, FrameReader, get, headers, PREFACE, SETTING, settings, T, windowUpdate } from '../support/http2-wire.ts'
import { type Random, seeded } from '../support/random.ts'
import { bootstrap, cluster, type Fields } from './bootstrap.ts'
import { withFilters } from './filter-instances.ts'

/**
 * Memory that bodies are read into again and again, proven on every way from codec to codec: many exchanges side by side,
 * each with bytes of its own, against slow readers, small windows and resets, and every byte that arrives is compared.
 */

const CALLS = 40
const AT_ONCE = 8
const MOST_BYTES = 1 << 20
/** More than two kernels hold between them. */
const HUGE_BYTES = 8 << 20
/** A prime, so that no multiple of a read brings the same bytes again. */
const PERIOD = 65_537

/** The endless body of one direction of one exchange. */
function patternOf(seed: number): Buffer {
  const words = new Uint32Array((2 * PERIOD + 4) >> 2)
  const random = seeded(seed)
  for (let i = 0; i < words.length; i++) words[i] = random.next() * 2 ** 32
  const bytes = Buffer.from(words.buffer)
  bytes.copyWithin(PERIOD, 0, PERIOD)
  return bytes
}

/** One exchange: what both of its ends do, and what became of it. */
class Call {
  readonly seed: number
  readonly up: number
  readonly down: number
  readonly reset: 'client' | 'origin' | undefined
  readonly #patterns: { readonly up: Buffer; readonly down: Buffer }
  readonly received = { up: 0, down: 0 }
  wrong: string | undefined = undefined
  whole = false

  constructor(seed: number) {
    const random = seeded(seed)
    const size = (): number => {
      const draw = random.below(10)
      return draw === 0 ? HUGE_BYTES + random.below(9) : random.below(draw < 4 ? 20_000 : MOST_BYTES)
    }
    this.seed = seed
    this.up = size()
    this.down = size()
    const draw = random.below(8)
    this.reset = draw === 0 ? 'client' : draw === 1 ? 'origin' : undefined
    this.#patterns = { up: patternOf(seed + 1), down: patternOf(seed + 2) }
  }

  #at(direction: 'up' | 'down', offset: number, size: number): Buffer {
    const from = offset % PERIOD
    return this.#patterns[direction].subarray(from, from + size)
  }

  /** Reads to the end, now and then not at all for a while; what is huge begins with that. */
  async receive(stream: Readable, direction: 'up' | 'down', random: Random): Promise<void> {
    if (this[direction] >= HUGE_BYTES) await new Promise((resolve) => setTimeout(resolve, 60))
    if (stream.destroyed) return
    stream.on('data', (chunk: Buffer) => {
      for (let at = 0; at < chunk.length; at += PERIOD) {
        const piece = chunk.subarray(at, at + PERIOD)
        const offset = this.received[direction]
        if (!piece.equals(this.#at(direction, offset, piece.length))) this.wrong ??= `${direction} at ${offset}`
        this.received[direction] += piece.length
      }
      if (random.below(12) > 0) return
      stream.pause()
      void settle(random.below(random.below(10) === 0 ? 60 : 6)).then(() => stream.resume())
    })
    await new Promise((resolve) => {
      stream.once('close', resolve)
      stream.once('end', () => {
        if (direction === 'down') this.whole = true
        resolve(undefined)
      })
    })
  }

  /** Sends what is due; what it was to break off breaks off half-way. */
  async send(stream: Writable, direction: 'up' | 'down', random: Random): Promise<void> {
    const total = this[direction]
    const breaksOff = this.reset === (direction === 'up' ? 'client' : 'origin')
    const due = breaksOff ? total >> 1 : total
    for (let sent = 0; sent < due && !stream.destroyed; ) {
      const size = Math.min(due - sent, 1 + random.below(random.below(3) === 0 ? 3_000 : PERIOD - 1))
      const more = stream.write(this.#at(direction, sent, size))
      sent += size
      if (!more && random.below(4) > 0) await drained(stream)
      else if (random.below(8) === 0) await settle(random.below(4))
    }
    if (stream.destroyed) return
    if (!breaksOff) stream.end()
    else if ('rstCode' in stream) (stream as unknown as ClientHttp2Stream).close(constants.NGHTTP2_CANCEL)
    else stream.destroy()
  }

  get problem(): string | undefined {
    const { up, down } = this.received
    const got = `call ${this.seed}: ${up}/${this.up} up, ${down}/${this.down} down`
    if (this.wrong !== undefined) return `${got}: wrong bytes ${this.wrong}`
    if (this.reset !== undefined) return undefined
    return up === this.up && down === this.down && this.whole ? undefined : got
  }
}

function drained(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done)
      stream.off('close', done)
      resolve()
    }
    stream.on('drain', done)
    stream.on('close', done)
  })
}

type Protocol = 'HTTP/1' | 'HTTP/2'
const WINDOWS = { initialWindowSize: 100_000 }

/** Reads each request and then answers it, both as its call says; a shadow's copy, which has no call, is thrown away. */
async function origin(t: Test, protocol: Protocol, calls: ReadonlyMap<string, Call>): Promise<number> {
  const answer = (call: Call | undefined, request: Readable, response: Writable): void => {
    request.on('error', () => {})
    response.on('error', () => {})
    if (call === undefined) {
      request.resume()
      response.end()
      return
    }
    const random = seeded(call.seed + 3)
    void call.receive(request, 'up', random).then(() => call.send(response, 'down', random))
  }
  const server =
    protocol === 'HTTP/1'
      ? createHttp1({ noDelay: true }, (request, response) => {
          const call = calls.get(request.url as string)
          if (call !== undefined && (call.seed & 4) === 0) response.setHeader('content-length', call.down)
          answer(call, request, response)
        })
      : createHttp2({ settings: WINDOWS }).on('stream', (stream: ServerHttp2Stream, headers) => {
          stream.respond({ ':status': 200 })
          answer(calls.get(headers[':path'] as string), stream, stream)
        })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return (server.address() as AddressInfo).port
}

interface Caller {
  call(call: Call): Promise<void>
  close(): void
}

function http1Caller(port: number): Caller {
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE / 2 })
  return {
    call: (call) =>
      new Promise((resolve) => {
        const random = seeded(call.seed + 4)
        const headers = random.below(2) === 0 ? { 'content-length': call.up } : { 'transfer-encoding': 'chunked' }
        const path = `/${call.seed}`
        const request = request1({ host: '127.0.0.1', port, agent, method: 'POST', path, headers })
        request.on('error', () => resolve())
        request.on('response', (response) => {
          response.on('error', () => {})
          if (response.statusCode === 200) void call.receive(response, 'down', random).then(resolve)
          else response.on('close', resolve).resume()
        })
        void call.send(request, 'up', random)
      }),
    close: () => agent.destroy(),
  }
}

function http2Caller(port: number): Caller {
  const sessions: ClientHttp2Session[] = [0, 1].map(() =>
    connect2(`http://127.0.0.1:${port}`, { settings: WINDOWS }).on('error', () => {}),
  )
  return {
    call: (call) =>
      new Promise((resolve) => {
        const random = seeded(call.seed + 4)
        const stream = sessions[call.seed & 1].request({ ':method': 'POST', ':path': `/${call.seed}` })
        stream.on('error', () => {})
        stream.on('close', resolve)
        // Where the origin has broken off before its head came, the gateway answers.
        stream.on('response', (headers) => {
          if (headers[':status'] === 200) void call.receive(stream, 'down', random)
          else stream.resume()
        })
        void call.send(stream, 'up', random)
      }),
    close: () => {
      for (const session of sessions) session.destroy()
    },
  }
}

/** Keeps every chunk that it sees, as a filter may, and knows what it was. */
class Keeper implements HttpFilter<unknown> {
  readonly #kept: { readonly chunk: Buffer; readonly hash: string }[] = []

  readonly onRequestData = (_stream: unknown, chunk: Buffer): void => this.#keep(chunk)
  readonly onResponseData = (_stream: unknown, chunk: Buffer): void => this.#keep(chunk)

  #keep(chunk: Buffer): void {
    if (chunk.length > 0) this.#kept.push({ chunk, hash: hash(chunk) })
  }

  get chunks(): number {
    return this.#kept.length
  }

  get changed(): number {
    return this.#kept.filter(({ chunk, hash: was }) => hash(chunk) !== was).length
  }
}

function hash(bytes: Buffer): string {
  return createHash('sha1').update(bytes).digest('latin1')
}

const HTTP2: Fields = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
}

interface Way {
  readonly client: Protocol
  readonly upstream: Protocol
  readonly keeper?: Keeper
  /** Every request goes to a second origin as well. */
  readonly mirrored?: boolean
}

async function talk(t: Test, { client, upstream, keeper, mirrored = false }: Way): Promise<void> {
  const calls = new Map<string, Call>()
  const port = await origin(t, upstream, calls)
  const shadows = new Map<string, Call>()
  const shadow = mirrored ? await origin(t, 'HTTP/1', shadows) : port
  const options = upstream === 'HTTP/2' ? HTTP2 : {}
  const mirrors = mirrored ? { request_mirror_policies: [{ cluster: 'shadow' }] } : {}
  const gateway = await TestGateway.start(
    bootstrap({
      routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', timeout: '0s', ...mirrors } }],
      clusters: [cluster('origin', port, options), cluster('shadow', shadow)],
    }),
    keeper === undefined ? {} : { adjust: withFilters(keeper) },
  )
  const caller = (client === 'HTTP/1' ? http1Caller : http2Caller)(gateway.port())
  t.teardown(async () => {
    caller.close()
    await gateway.close()
  })
  const waiting = Array.from({ length: CALLS }, (_, i) => new Call(1_000 + i * 11))
  for (const call of waiting) {
    calls.set(`/${call.seed}`, call)
    shadows.set(`/${call.seed}`, new Call(call.seed))
  }
  const problems: string[] = []
  const one = async (): Promise<void> => {
    for (let call = waiting.shift(); call !== undefined; call = waiting.shift()) {
      await caller.call(call)
      if (call.problem !== undefined) problems.push(call.problem)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, one))
  t.strictSame(problems, [])
  const mirrorsWrong = [...shadows.values()].filter((call) => call.wrong !== undefined)
  t.strictSame(mirrorsWrong, [])
}

/** Sends a body in pieces that are read one by one. */
async function dribble(port: number, body: Buffer, pieceBytes: number): Promise<number> {
  const request = request1({ host: '127.0.0.1', port, method: 'POST', headers: { 'content-length': body.length } })
  const answered = once(request, 'response')
  for (let at = 0; at < body.length; at += pieceBytes) {
    request.write(body.subarray(at, at + pieceBytes))
    await settle(10)
  }
  request.end()
  const [response] = (await answered) as [IncomingMessage]
  response.resume()
  await once(response, 'end')
  return response.statusCode as number
}

t.test('a request that is repeated brings the body that was kept for it', async (t) => {
  const bodies: Buffer[] = []
  const server = createHttp2().on('stream', (stream: ServerHttp2Stream) => {
    const chunks: Buffer[] = []
    stream.on('error', () => {})
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('end', () => {
      bodies.push(Buffer.concat(chunks))
      if (bodies.length === 1) stream.close(constants.NGHTTP2_REFUSED_STREAM)
      else stream.respond({ ':status': 200 }, { endStream: true })
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const gateway = await TestGateway.start(
    bootstrap({ clusters: [cluster('origin', (server.address() as AddressInfo).port, HTTP2)] }),
  )
  t.teardown(async () => {
    await gateway.close()
    server.close()
  })
  const body = patternOf(5).subarray(0, 60_000)
  t.equal(await dribble(gateway.port(), body, 20_000), 200)
  t.strictSame(
    bodies.map((bytes) => bytes.equals(body)),
    [true, true],
  )
})

t.test('an HTTP/2 client whose windows are wide and who reads late gets what was sent', async (t) => {
  const bodies = [patternOf(6), patternOf(7), patternOf(8)].map((bytes) =>
    Buffer.concat(new Array(Math.ceil(HUGE_BYTES / bytes.length)).fill(bytes)),
  )
  const server = createHttp1((request, response) => {
    response.end(bodies[Number(request.url?.slice(1))])
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const port = (server.address() as AddressInfo).port
  const gateway = await TestGateway.start(bootstrap({ clusters: [cluster('origin', port)] }))
  const socket = connect(gateway.port(), '127.0.0.1')
  t.teardown(async () => {
    socket.destroy()
    await gateway.close()
    server.closeAllConnections()
    server.close()
  })
  socket.write(Buffer.concat([PREFACE, settings([SETTING.INITIAL_WINDOW_SIZE, 2 ** 31 - 1]), windowUpdate(0, 2 ** 30)]))
  for (const i of bodies.keys()) socket.write(headers(1 + 2 * i, get(`/${i}`), true))
  const reader = new FrameReader({ preface: false })
  const at = bodies.map(() => 0)
  const wrong: string[] = []
  let open = bodies.length
  let paused = 0
  socket.on('data', (bytes: Buffer) => {
    for (const { type, flags, streamId, payload } of reader.read(bytes)) {
      if (type !== T.DATA) continue
      const i = (streamId - 1) / 2
      if (!payload.equals(bodies[i].subarray(at[i], at[i] + payload.length))) wrong.push(`${i} at ${at[i]}`)
      at[i] += payload.length
      if ((flags & FLAG.END_STREAM) !== 0) open--
    }
    // Now and then the system's buffers fill, also in the middle of a frame.
    const total = at[0] + at[1] + at[2]
    if (total - paused < HUGE_BYTES / 4) return
    paused = total
    socket.pause()
    setTimeout(() => socket.resume(), 30)
  })
  await gateway.until(() => open === 0, 'all responses', 20_000)
  t.strictSame(wrong, [])
  t.strictSame(
    at,
    bodies.map((bytes) => bytes.length),
  )
})

for (const client of ['HTTP/1', 'HTTP/2'] as const) {
  for (const upstream of ['HTTP/1', 'HTTP/2'] as const) {
    t.test(`bodies from ${client} to ${upstream} and back arrive as they were sent`, (t) =>
      talk(t, { client, upstream }),
    )
  }

  t.test(`a filter's chunks stay what they were, from ${client} to HTTP/1`, async (t) => {
    const keeper = new Keeper()
    await talk(t, { client, upstream: 'HTTP/1', keeper })
    t.ok(keeper.chunks > CALLS, `${keeper.chunks} chunks`)
    t.equal(keeper.changed, 0)
  })

  t.test(`bodies that are mirrored arrive as they were sent, from ${client} to HTTP/1`, (t) =>
    talk(t, { client, upstream: 'HTTP/1', mirrored: true }),
  )
}
