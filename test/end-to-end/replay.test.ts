import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectHttp2, createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { settle } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { FrameReader, goaway, settings, T } from '../support/http2-wire.ts'
import { bootstrap, cluster, type Fields, type LogLine } from './bootstrap.ts'
import { TO_HTTP2 } from './tunnel-lane.ts'

/** Requests with bodies that an HTTP/2 upstream never looked at: sent again whole, or refused. */

const REPLAY_BYTES = 64 * 1024
const REFUSED_STREAM = 7

interface Processed {
  readonly path: string
  readonly attempt: string
  readonly bytes: number
  readonly digest: string
  readonly trailers: NodeJS.Dict<string | string[]>
}

/** RST_STREAM with REFUSED_STREAM, or a GOAWAY that leaves the stream out. */
type Refusal = 'refused' | 'goaway'

/** Refuses streams as long as it is told to; answers the others, and keeps what they were. */
class Picky {
  readonly processed: Processed[] = []
  /** Streams that were refused. */
  refused = 0
  /** How many are still to be refused; when their head is there, or so many bytes of their body. */
  left = 0
  how: Refusal = 'refused'
  afterBytes = 0
  /** The stream to be refused, unread until the test refuses it. */
  unread: ServerHttp2Stream | undefined = undefined
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(window: number | undefined) {
    const http2 = createHttp2Server({ settings: window === undefined ? {} : { initialWindowSize: window } })
    http2.on('session', (session) => session.on('error', () => {}))
    http2.on('stream', (stream: ServerHttp2Stream, headers) => this.#stream(stream, headers))
    this.#server = createServer((socket) => {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      if (this.how === 'goaway' && this.left > 0) this.#turnAway(socket)
      else http2.emit('connection', socket)
    })
  }

  static async start(window?: number): Promise<Picky> {
    const picky = new Picky(window)
    picky.#server.listen(0, '127.0.0.1')
    await once(picky.#server, 'listening')
    return picky
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** A connection that says GOAWAY instead of looking at its first stream. */
  #turnAway(socket: Socket): void {
    const reader = new FrameReader({ preface: true })
    let bytes = 0
    let said = false
    socket.write(settings())
    socket.on('data', (chunk: Buffer) => {
      for (const frame of reader.read(chunk)) {
        if (frame.type === T.DATA) bytes += frame.payload.length
        if (said || frame.streamId === 0 || bytes < this.afterBytes) continue
        said = true
        this.left--
        this.refused++
        socket.write(goaway(0))
      }
    })
  }

  #stream(stream: ServerHttp2Stream, headers: NodeJS.Dict<string | string[]>): void {
    stream.on('error', () => {})
    const refuse = this.left > 0
    if (refuse) this.left--
    if (refuse && this.afterBytes === Number.POSITIVE_INFINITY) {
      this.unread = stream
      return
    }
    if (refuse && this.afterBytes === 0) {
      this.refused++
      stream.close(REFUSED_STREAM)
      return
    }
    const hash = createHash('sha256')
    let bytes = 0
    let trailers: NodeJS.Dict<string | string[]> = {}
    stream.on('trailers', (fields) => {
      trailers = fields
    })
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      hash.update(chunk)
      if (!refuse || bytes < this.afterBytes || stream.closed) return
      this.refused++
      stream.close(REFUSED_STREAM)
    })
    stream.on('end', () => {
      if (refuse) return
      const path = String(headers[':path'])
      const attempt = String(headers['x-envoy-attempt-count'])
      this.processed.push({ path, attempt, bytes, digest: hash.digest('hex'), trailers: { ...trailers } })
      stream.respond({ ':status': 200 })
      stream.end(`took ${bytes}`)
    })
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
  }
}

interface Repeated {
  readonly gateway: TestGateway
  readonly picky: Picky
  finish(): Promise<LogLine[]>
}

async function repeated(
  t: Test,
  more: { route?: Fields; clusters?: readonly Fields[]; window?: number; ports?: readonly number[] } = {},
): Promise<Repeated> {
  const logPath = join(t.testdir(), 'access.log')
  const picky = await Picky.start(more.window)
  const source = bootstrap({
    log: logPath,
    hcm: { http2_protocol_options: {} },
    routeConfig: {
      virtual_hosts: [
        {
          name: 'all',
          domains: ['*'],
          include_request_attempt_count: true,
          routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', ...more.route } }],
        },
      ],
    },
    clusters: [cluster('origin', [picky.port, ...(more.ports ?? [])], TO_HTTP2), ...(more.clusters ?? [])],
  })
  const gateway = await TestGateway.start(source, { logPath })
  const end = async (): Promise<void> => {
    await gateway.close()
    picky.close()
  }
  t.teardown(end)
  return {
    gateway,
    picky,
    async finish() {
      await gateway.until(() => gateway.stat('http.test.downstream_rq_active') === 0, 'end of the exchange')
      await end()
      return gateway.lines().map((line) => JSON.parse(line) as LogLine)
    },
  }
}

/** No byte like its neighbours, so that a piece lost or repeated is seen. */
function body(bytes: number): Buffer {
  const out = Buffer.alloc(bytes)
  for (let i = 0; i < bytes; i++) out[i] = (i * 7 + (i >> 8)) & 0xff
  return out
}

function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** An HTTP/1 client that writes a request in pieces of its own choosing. */
class Poster {
  readonly socket: Socket
  text = ''

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1')
    this.socket.on('error', () => {})
    this.socket.on('data', (chunk) => {
      this.text += chunk.toString('latin1')
    })
  }

  head(length: number | 'chunked', path = '/'): void {
    const framing = length === 'chunked' ? 'transfer-encoding: chunked' : `content-length: ${length}`
    this.socket.write(`POST ${path} HTTP/1.1\r\nhost: a.example\r\n${framing}\r\n\r\n`)
  }

  get status(): number {
    return this.text === '' ? 0 : Number(this.text.slice(9, 12))
  }
}

for (const how of ['refused', 'goaway'] as const) {
  for (const bytes of [1, 20_000, REPLAY_BYTES - 1, REPLAY_BYTES]) {
    for (const when of ['head', 'body'] as const) {
      t.test(`${how} at its ${when}: a body of ${bytes} bytes is sent again whole, and processed once`, async (t) => {
        const { gateway, picky, finish } = await repeated(t)
        picky.how = how
        picky.left = 1
        picky.afterBytes = when === 'head' ? 0 : Math.ceil(bytes / 2)
        const poster = new Poster(gateway.port())
        const sent = body(bytes)
        poster.head(bytes)
        poster.socket.write(sent)
        await gateway.until(() => poster.text.includes('took'), 'answer')
        poster.socket.destroy()
        t.equal(poster.status, 200)
        t.equal(picky.refused, 1)
        t.same(picky.processed, [{ path: '/', attempt: '2', bytes, digest: digest(sent), trailers: {} }])
        t.equal(gateway.stat('cluster.origin.upstream_rq_retry'), 1)
        t.equal(gateway.stat('cluster.origin.upstream_rq_200'), 1)
        const lines = await finish()
        t.equal(lines.length, 1)
        t.match(lines[0], { status: 200, attempts: 2, received: bytes, flags: '-' })
      })
    }
  }

  t.test(`${how}: a body over the limit that has been sent is answered with 503`, async (t) => {
    const { gateway, picky, finish } = await repeated(t)
    picky.how = how
    picky.left = 1
    picky.afterBytes = REPLAY_BYTES - 1_000
    const poster = new Poster(gateway.port())
    const sent = body(REPLAY_BYTES + 1)
    poster.head(sent.length)
    poster.socket.write(sent)
    await gateway.until(() => poster.status !== 0, 'answer')
    poster.socket.destroy()
    t.equal(poster.status, 503)
    t.same(picky.processed, [])
    const lines = await finish()
    t.equal(lines.length, 1)
    t.match(lines[0], { status: 503, attempts: 1, flags: 'UR' })
  })
}

for (const window of [1_000, 65_535]) {
  t.test(
    `a body that still arrives while its first attempt is refused goes on in the second (window ${window})`,
    async (t) => {
      const { gateway, picky, finish } = await repeated(t, { window })
      const poster = new Poster(gateway.port())
      const sent = body(3_000_000)
      picky.left = 1
      picky.afterBytes = 500
      poster.head('chunked')
      poster.socket.write(chunk(sent.subarray(0, 40_000)))
      await gateway.until(() => picky.refused === 1, 'refusal')
      for (let at = 40_000; at < sent.length; at += 100_000) poster.socket.write(chunk(sent.subarray(at, at + 100_000)))
      poster.socket.write('0\r\n\r\n')
      await gateway.until(() => poster.text.includes('took'), 'answer', 20_000)
      poster.socket.destroy()
      t.equal(poster.status, 200)
      t.same(
        picky.processed.map((p) => [p.bytes, p.digest]),
        [[sent.length, digest(sent)]],
      )
      t.equal((await finish()).length, 1)
    },
  )
}

t.test('a client that the first attempt held back goes on where the second has room', async (t) => {
  const wide = await Picky.start(1 << 20)
  t.teardown(() => wide.close())
  const { gateway, picky, finish } = await repeated(t, { window: 0, ports: [wide.port] })
  const poster = new Poster(gateway.port())
  // Both have a connection.
  for (const host of [picky, wide]) {
    poster.text = ''
    poster.head(0)
    await gateway.until(() => poster.text.includes('took'), 'answer')
    t.equal(host.processed.length, 1)
  }
  const sent = body(200_000)
  picky.left = 1
  picky.afterBytes = Number.POSITIVE_INFINITY
  poster.text = ''
  poster.head(sent.length)
  poster.socket.write(sent.subarray(0, 1_000))
  await gateway.until(() => picky.unread !== undefined, 'stream')
  // It gives no window: what comes waits in the gateway, and then the client does.
  for (let at = 1_000; at < 60_000; at += 20_000) {
    poster.socket.write(sent.subarray(at, Math.min(60_000, at + 20_000)))
    for (let i = 0; i < 30; i++) await settle()
  }
  picky.unread?.close(REFUSED_STREAM)
  await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_retry') === 1, 'repetition')
  poster.socket.write(sent.subarray(60_000))
  await gateway.until(() => poster.text.includes('took'), 'answer')
  poster.socket.destroy()
  t.match(wide.processed[1], { bytes: sent.length, digest: digest(sent), attempt: '2' })
  await finish()
})

t.test('a body byte by byte comes whole, over several refusals', async (t) => {
  const { gateway, picky, finish } = await repeated(t)
  const poster = new Poster(gateway.port())
  const sent = body(600)
  picky.left = 3
  picky.afterBytes = 200
  poster.socket.setNoDelay(true)
  poster.head(sent.length)
  for (const byte of sent) {
    poster.socket.write(Buffer.from([byte]))
    await settle()
  }
  await gateway.until(() => poster.text.includes('took'), 'answer')
  poster.socket.destroy()
  t.equal(picky.refused, 3)
  t.same(
    picky.processed.map((p) => [p.bytes, p.digest, p.attempt]),
    [[600, digest(sent), '4']],
  )
  t.match(await finish(), [{ status: 200, attempts: 4 }])
})

t.test('an upstream that refuses for ever is given up, and the client is told', async (t) => {
  const { gateway, picky, finish } = await repeated(t)
  picky.left = 100
  const poster = new Poster(gateway.port())
  poster.head(3)
  poster.socket.write('abc')
  await gateway.until(() => poster.status !== 0, 'answer')
  poster.socket.destroy()
  t.equal(poster.status, 503)
  t.equal(picky.refused, 4)
  t.match(await finish(), [{ status: 503, attempts: 4, flags: 'UR' }])
})

t.test('request trailers are sent again as well', async (t) => {
  const { gateway, picky, finish } = await repeated(t)
  const session = connectHttp2(`http://127.0.0.1:${gateway.port()}`)
  picky.left = 1
  picky.afterBytes = 0
  const stream = session.request({ ':method': 'POST', ':path': '/' }, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': 'abc' }))
  stream.resume()
  stream.end('with trailers')
  const [fields] = await once(stream, 'response')
  t.equal(fields[':status'], 200)
  session.destroy()
  t.equal(picky.processed.length, 1)
  t.match(picky.processed[0], { bytes: 13, trailers: { 'x-sum': 'abc' } })
  t.match(await finish(), [{ status: 200, attempts: 2 }])
})

t.test('a mirror gets the body once, however often the request is sent', async (t) => {
  const mirror = await Picky.start()
  t.teardown(() => mirror.close())
  const { gateway, picky, finish } = await repeated(t, {
    route: { request_mirror_policies: [{ cluster: 'mirror' }] },
    clusters: [cluster('mirror', mirror.port, TO_HTTP2)],
  })
  picky.left = 2
  picky.afterBytes = 5_000
  const poster = new Poster(gateway.port())
  const sent = body(10_000)
  poster.head(sent.length)
  poster.socket.write(sent)
  await gateway.until(() => poster.text.includes('took') && mirror.processed.length > 0, 'answer')
  poster.socket.destroy()
  t.same(
    [...picky.processed, ...mirror.processed].map((p) => [p.bytes, p.digest]),
    [
      [sent.length, digest(sent)],
      [sent.length, digest(sent)],
    ],
  )
  t.match(await finish(), [{ status: 200, attempts: 3 }])
})

function chunk(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')])
}
