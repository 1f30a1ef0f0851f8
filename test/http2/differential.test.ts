import { once } from 'node:events'
import http2 from 'node:http2'
import net from 'node:net'
import t, { type Test } from 'tap'
import { Headers } from '../../lib/core/headers.ts'
import { TurnQueue } from '../../lib/core/turn.ts'
import { ENVOY_HTTP2, type Http2Config } from '../../lib/http2/config.ts'
import type { SessionHandler, StreamFace, StreamHandler, StreamReset } from '../../lib/http2/contract.ts'
import { Http2Session } from '../../lib/http2/session.ts'
import { SessionRig, type StreamLog, testStats } from '../support/http2-session.ts'
import { type Random, seeded } from '../support/random.ts'
import { sameHoweverSplit } from '../support/splits.ts'

/*
 * node:http2 is the other side: generated exchanges with bodies, trailers, interim responses, small windows and resets,
 * over real sockets. What each side saw is compared with what the other one sent.
 */

interface Exchange {
  readonly method: string
  readonly path: string
  readonly fields: readonly string[]
  readonly body: Buffer
  readonly trailers: string | undefined
  readonly status: number
  readonly answer: Buffer
  readonly answerTrailers: string | undefined
  readonly interim: boolean
  /** The client gives up after the head of the answer. */
  readonly cancel: boolean
}

function generate(random: Random, id: number): Exchange {
  const body = random.next() < 0.5 ? 0 : random.pick([1, 100, 9000, 70_000, 300_000])
  const answer = random.pick([0, 0, 5, 1000, 17_000, 200_000])
  const fields: string[] = []
  for (let i = random.below(12); i > 0; i--) {
    fields.push(
      `x-${random.pick(['a', 'b', 'c'])}-${i}`,
      random.pick(['', 'v', 'é~'.repeat(20), `r${random.below(1000)}`]),
    )
  }
  return {
    method: body > 0 ? 'POST' : 'GET',
    path: `/${id}?${random.below(1000)}`,
    fields,
    body: Buffer.alloc(body, id % 251),
    trailers: body > 0 && random.next() < 0.4 ? `t${id}` : undefined,
    status: random.pick([200, 200, 201, 404, 503]),
    answer: Buffer.alloc(answer, (id * 7) % 251),
    answerTrailers: random.next() < 0.4 ? `a${id}` : undefined,
    interim: random.next() < 0.3,
    cancel: random.next() < 0.1,
  }
}

/** As one side saw it; '' where the exchange was cancelled before. */
interface Seen {
  request: string
  response: string
}

const requestText = (e: Exchange): string => {
  const fields = e.fields.map((text) => Buffer.from(text, 'latin1').toString('latin1'))
  return JSON.stringify([e.method, e.path, fields, digest(e.body), e.trailers ?? ''])
}
const responseText = (e: Exchange): string =>
  JSON.stringify([e.interim ? 1 : 0, e.status, e.fields.length, digest(e.answer), e.answerTrailers ?? ''])
const digest = (body: Buffer): string => (body.length === 0 ? '0' : `${body.length}:${body[0]}:${body.at(-1)}`)

const CONFIGS: readonly Partial<Http2Config>[] = [
  {},
  { initialStreamWindowBytes: 65535, initialConnectionWindowBytes: 65535 },
  { initialStreamWindowBytes: 1000, initialConnectionWindowBytes: 70_000, hpackTableBytes: 0 },
  { maxConcurrentStreams: 3, hpackTableBytes: 16_384 },
]

const NODE_SETTINGS: readonly http2.Settings[] = [
  {},
  { initialWindowSize: 100, headerTableSize: 0 },
  { initialWindowSize: 1 << 20, headerTableSize: 65_536, maxFrameSize: 65_536 },
]

/** A session on a socket, as an owner would have it. */
function attach(
  socket: net.Socket,
  role: 'server' | 'client',
  config: Partial<Http2Config>,
  more: Partial<SessionHandler>,
  split: Random | undefined,
): Http2Session {
  const nothing = (): void => {}
  const session = new Http2Session({
    role,
    config: { ...ENVOY_HTTP2, ...config },
    maxHeaderListBytes: 61_440,
    maxHeaders: 100,
    transport: socket,
    turn: new TurnQueue(),
    now: () => performance.now(),
    stats: testStats(),
    handler: {
      onRequest: nothing,
      onRefused: nothing,
      onSettings: nothing,
      onGoaway: nothing,
      onPong: nothing,
      onStreamClosed: nothing,
      onFailed: (_, detail) => socket.destroy(new Error(detail)),
      ...more,
    },
  })
  socket.on('data', (chunk: Buffer) => {
    if (split === undefined) return session.receive(chunk)
    // At random places, each piece in memory of its own that is overwritten afterwards.
    for (let at = 0; at < chunk.length; ) {
      const to = Math.min(chunk.length, at + 1 + split.below(split.next() < 0.3 ? 12 : 20_000))
      const piece = Buffer.from(chunk.subarray(at, to))
      session.receive(piece)
      // Bodies are handed on as views; heads and frames in the making must not be.
      at = to
    }
  })
  socket.on('drain', () => session.transportDrained())
  socket.on('close', () => session.transportClosed('closed'))
  socket.on('error', nothing)
  session.start()
  return session
}

/** Gathers one message. */
class Gather implements StreamHandler {
  readonly chunks: Buffer[] = []
  interim = 0
  status = 0
  fields = 0
  trailers = ''
  reset: StreamReset | undefined = undefined
  readonly done: (seen: Gather) => void
  onHead: () => void = () => {}
  onRoom: () => void = () => {}

  constructor(done: (seen: Gather) => void) {
    this.done = done
  }

  onInformational(): void {
    this.interim++
  }

  onHeaders(status: number, headers: Headers, end: boolean): void {
    this.status = status
    this.fields = headers.raw.length - (headers.has('date') ? 2 : 0)
    this.onHead()
    if (end) this.done(this)
  }

  onData(chunk: Buffer, end: boolean): void {
    this.chunks.push(Buffer.from(chunk))
    if (end) this.done(this)
  }

  onTrailers(trailers: Headers): void {
    this.trailers = trailers.get('x-trailer') ?? '?'
    this.done(this)
  }

  onDrain(): void {
    this.onRoom()
  }

  onReset(reset: StreamReset): void {
    this.reset = reset
    this.done(this)
  }

  get body(): Buffer {
    return Buffer.concat(this.chunks)
  }
}

/** Writes in pieces and obeys `write`. */
function pour(stream: StreamFace, gather: Gather, body: Buffer, trailers: string | undefined, random: Random): void {
  let at = 0
  const go = (): void => {
    while (at < body.length) {
      const to = Math.min(body.length, at + random.pick([10, 1000, 9000, 65_536]))
      const more = stream.write(body.subarray(at, to), to === body.length && trailers === undefined)
      at = to
      if (!more && at < body.length) return
    }
    if (trailers !== undefined) stream.trailers(new Headers(['x-trailer', trailers]))
    else if (body.length === 0) stream.write(body, true)
    gather.onRoom = () => {}
  }
  gather.onRoom = go
  go()
}

function serveWithOurs(
  socket: net.Socket,
  exchanges: ReadonlyMap<string, Exchange>,
  options: { config: Partial<Http2Config>; random: Random; seen: Map<string, Seen> },
): Http2Session {
  const { config, random, seen } = options
  return attach(
    socket,
    'server',
    config,
    {
      onRequest(stream, head, headers, end) {
        const exchange = exchanges.get(head.path)!
        const gather = new Gather((g) => {
          if (g.reset !== undefined) return
          const request = JSON.stringify([head.method, head.path, headers.raw, digest(g.body), g.trailers])
          seen.set(head.path, { request, response: '' })
          if (exchange.interim) stream.informational(103, new Headers(['link', '</a>']))
          stream.respond(exchange.status, new Headers([...exchange.fields]), false)
          pour(stream, g, exchange.answer, exchange.answerTrailers, random)
        })
        stream.handler = gather
        if (end) gather.done(gather)
      },
    },
    random,
  )
}

async function askWithNode(client: http2.ClientHttp2Session, exchange: Exchange): Promise<string> {
  const pairs = [
    ':method',
    exchange.method,
    ':path',
    exchange.path,
    ':authority',
    'a.example',
    ':scheme',
    'http',
    ...exchange.fields,
  ]
  const request = client.request(pairs as unknown as http2.OutgoingHttpHeaders, {
    endStream: exchange.body.length === 0,
    waitForTrailers: exchange.trailers !== undefined,
  })
  let interim = 0
  let trailers = ''
  let status = 0
  let fields = 0
  const chunks: Buffer[] = []
  request.on('headers', () => interim++)
  request.on('trailers', (list) => {
    trailers = String(list['x-trailer'])
  })
  request.on('wantTrailers', () => request.sendTrailers({ 'x-trailer': exchange.trailers! }))
  request.on('response', (list, _flags, raw: string[] = []) => {
    status = Number(list[':status'])
    fields = raw.length - 2
    if (exchange.cancel) request.close(http2.constants.NGHTTP2_CANCEL)
  })
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  if (exchange.body.length > 0) request.end(exchange.body)
  await once(request, 'close').catch(() => {})
  if (exchange.cancel) return ''
  return JSON.stringify([interim, status, fields, digest(Buffer.concat(chunks)), trailers])
}

async function serverRole(t: Test, seed: number): Promise<void> {
  const random = seeded(seed)
  const exchanges = new Map<string, Exchange>()
  for (let i = 0; i < 25; i++) {
    const exchange = generate(random, i)
    exchanges.set(exchange.path, exchange)
  }
  const seen = new Map<string, Seen>()
  const sessions: Http2Session[] = []
  const server = net.createServer((socket) => {
    sessions.push(serveWithOurs(socket, exchanges, { config: CONFIGS[seed % CONFIGS.length], random, seen }))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as net.AddressInfo
  const client = http2.connect(`http://127.0.0.1:${port}`, { settings: NODE_SETTINGS[seed % NODE_SETTINGS.length] })
  client.on('error', (error) => t.fail(`seed ${seed}: ${error.message}`))
  // Before it knows how many streams it may open, it opens them all.
  await once(client, 'remoteSettings')
  const answers = await Promise.all(
    [...exchanges.values()].map(async (e) => [e, await askWithNode(client, e)] as const),
  )
  for (const [exchange, answer] of answers) {
    t.equal(seen.get(exchange.path)?.request, requestText(exchange), `seed ${seed}: request ${exchange.path}`)
    if (!exchange.cancel) t.equal(answer, responseText(exchange), `seed ${seed}: response ${exchange.path}`)
  }
  t.same(
    sessions.map((s) => [s.openStreams, s.failed, s.pendingBytes]),
    [[0, false, 0]],
  )
  client.close()
  await once(client, 'close')
  server.close()
}

t.test('our server, the client of Node', async (t) => {
  for (let seed = 1; seed <= 12; seed++) await serverRole(t, seed)
})

function nodeServer(
  exchanges: ReadonlyMap<string, Exchange>,
  seen: Map<string, Seen>,
  own: http2.Settings,
): http2.Http2Server {
  const server = http2.createServer({ settings: own })
  server.on('stream', (stream: http2.ServerHttp2Stream, list, _flags, raw: string[] = []) => {
    const path = String(list[':path'])
    const exchange = exchanges.get(path)!
    const chunks: Buffer[] = []
    let trailers = ''
    stream.on('error', () => {})
    stream.on('trailers', (fields) => {
      trailers = String(fields['x-trailer'])
    })
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('end', () => {
      const regular = raw.filter((_, i) => !raw[i & ~1].startsWith(':'))
      seen.set(path, {
        request: JSON.stringify([list[':method'], path, regular, digest(Buffer.concat(chunks)), trailers]),
        response: '',
      })
      if (stream.destroyed) return
      if (exchange.interim) stream.additionalHeaders({ ':status': 103, link: '</a>' })
      stream.respond([':status', String(exchange.status), ...exchange.fields] as unknown as http2.OutgoingHttpHeaders, {
        waitForTrailers: exchange.answerTrailers !== undefined,
      })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-trailer': exchange.answerTrailers! }))
      stream.end(exchange.answer)
    })
  })
  return server
}

async function askWithOurs(
  session: Http2Session,
  exchange: Exchange,
  random: Random,
  room: () => Promise<void>,
): Promise<string> {
  while (session.available === 0) await room()
  return new Promise((resolve) => {
    const gather = new Gather((g) => {
      if (g.reset !== undefined) resolve(`reset ${g.reset.code} ${g.reset.by}`)
      else resolve(JSON.stringify([g.interim, g.status, g.fields, digest(g.body), g.trailers]))
    })
    const head = {
      method: exchange.method,
      scheme: 'http',
      authority: 'a.example',
      path: exchange.path,
      protocol: undefined,
    }
    const end = exchange.body.length === 0
    const stream = session.request(head, new Headers([...exchange.fields]), end, gather)!
    if (exchange.cancel) {
      gather.onHead = () => {
        stream.reset(8)
        resolve('')
      }
    }
    if (!end) pour(stream, gather, exchange.body, exchange.trailers, random)
  })
}

async function clientRole(t: Test, seed: number): Promise<void> {
  const random = seeded(seed * 31)
  const exchanges = new Map<string, Exchange>()
  for (let i = 0; i < 25; i++) {
    const exchange = generate(random, i)
    exchanges.set(exchange.path, exchange)
  }
  const seen = new Map<string, Seen>()
  const server = nodeServer(exchanges, seen, {
    ...NODE_SETTINGS[seed % NODE_SETTINGS.length],
    // Node counts a stream until it has cleaned up behind it, and resets what comes meanwhile: the limit is ours.
    maxConcurrentStreams: 100,
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
  await once(socket, 'connect')
  let wake: (() => void)[] = []
  const awaken = (): void => {
    const all = wake
    wake = []
    for (const one of all) one()
  }
  const session = attach(
    socket,
    'client',
    CONFIGS[seed % CONFIGS.length],
    { onStreamClosed: awaken, onSettings: awaken },
    random,
  )
  await new Promise<void>((resolve) => wake.push(resolve))
  const room = (): Promise<void> => new Promise((resolve) => wake.push(resolve))
  const answers = await Promise.all(
    [...exchanges.values()].map(async (e) => [e, await askWithOurs(session, e, random, room)] as const),
  )
  for (const [exchange, answer] of answers) {
    if (exchange.cancel) continue
    t.equal(seen.get(exchange.path)?.request, requestText(exchange), `seed ${seed}: request ${exchange.path}`)
    t.equal(answer, responseText(exchange), `seed ${seed}: response ${exchange.path}`)
  }
  t.same([session.openStreams, session.failed, session.pendingBytes], [0, false, 0])
  session.shutdown()
  session.flush()
  socket.end()
  await once(socket, 'close')
  server.close()
}

t.test('our client, the server of Node', async (t) => {
  for (let seed = 1; seed <= 12; seed++) await clientRole(t, seed)
})

/** Small exchanges, all of whose bytes can be cut at every place. */
const SMALL: readonly Exchange[] = [1, 2, 3].map((id) => ({
  method: id === 2 ? 'POST' : 'GET',
  path: `/${id}`,
  fields: ['x-a', 'b', 'x-long', 'c'.repeat(40)],
  body: Buffer.alloc(id === 2 ? 9 : 0, 'r'),
  trailers: id === 2 ? 'behind it' : undefined,
  status: 200,
  answer: Buffer.alloc(id === 1 ? 0 : 12, 'a'),
  answerTrailers: id === 3 ? 'and here' : undefined,
  interim: id === 3,
  cancel: false,
}))

/** What each stream of a rig was told, bodies whole, and what the session failed of. */
function told(rig: SessionRig, logs: readonly StreamLog[]): unknown {
  const lines = logs.map((log) => [
    log.head,
    log.headers?.raw,
    log.text,
    log.ended,
    log.lines.filter((line) => !line.startsWith('data')),
  ])
  return [rig.failure, lines]
}

t.test('what the client of Node sends is the same wherever it is cut', async (t) => {
  const recorded: Buffer[] = []
  const exchanges = new Map(SMALL.map((e) => [e.path, e]))
  const server = net.createServer((socket) => {
    socket.on('data', (chunk: Buffer) => recorded.push(Buffer.from(chunk)))
    serveWithOurs(socket, exchanges, { config: {}, random: seeded(1), seen: new Map() })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const client = http2.connect(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`)
  for (const exchange of SMALL) t.equal(await askWithNode(client, exchange), responseText(exchange))
  client.close()
  await once(client, 'close')
  server.close()
  const bytes = Buffer.concat(recorded)
  sameHoweverSplit(bytes, (pieces) => {
    const rig = new SessionRig()
    rig.session.start()
    rig.feed(...pieces)
    return told(rig, rig.requests)
  })
  const rig = new SessionRig()
  rig.session.start()
  rig.feed(bytes)
  t.same(
    rig.requests.map((log) => [log.head!.path, log.text, log.ended]),
    [
      ['/1', '', true],
      ['/2', 'rrrrrrrrr', true],
      ['/3', '', true],
    ],
  )
})

t.test('what the server of Node sends is the same wherever it is cut', async (t) => {
  const server = nodeServer(new Map(SMALL.map((e) => [e.path, e])), new Map(), {})
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
  const recorded: Buffer[] = []
  socket.on('data', (chunk: Buffer) => recorded.push(Buffer.from(chunk)))
  const session = attach(socket, 'client', {}, {}, undefined)
  await once(socket, 'connect')
  const room = async (): Promise<void> => {}
  await Promise.all(SMALL.map((e) => askWithOurs(session, e, seeded(1), room)))
  session.shutdown()
  session.flush()
  socket.end()
  await once(socket, 'close')
  server.close()
  const replay = (pieces: readonly Buffer[]): unknown => {
    const rig = new SessionRig({ role: 'client' })
    rig.session.start()
    const logs = SMALL.map((e) => rig.request({ method: e.method, path: e.path }, e.body.length === 0)!)
    rig.feed(...pieces)
    return told(rig, logs)
  }
  const bytes = Buffer.concat(recorded)
  const whole = JSON.stringify(sameHoweverSplit(bytes, replay))
  t.match(whole, /informational 103.*trailers x-trailer and here/)
  t.notMatch(whole, /reset/)
})
