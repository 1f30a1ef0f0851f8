import { once } from 'node:events'
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { cluster, type Fields } from '../end-to-end/bootstrap.ts'
import {
  data,
  FLAG,
  frame,
  goaway,
  type Fields as HeaderFields,
  headerBlock,
  headers,
  ping,
  priority,
  rstStream,
  settings,
  splitHeaders,
  T,
  windowUpdate,
} from '../support/http2-wire.ts'
import { Attacker } from './attacker.ts'
import { Lab } from './lab.ts'

t.setTimeout(100_000)

/** Upstreams that attack the gateway's HTTP/2 client: their requests fail, and nobody else's. */

const PROTOCOL_ERROR = 1
const FLOW_CONTROL_ERROR = 3
const CALM = 11
const LARGEST = 2 ** 31 - 1
const MANY = 5_000
const CONTROL = 'inbound_control_frames_flood'

interface Hostile {
  readonly name: string
  /** Before the flood, behind the request on stream `id`. */
  readonly first?: (id: number) => Buffer
  /** The flood, until the gateway has had enough. */
  readonly next?: (id: number, i: number) => Buffer
  /** What the gateway's GOAWAY says; undefined: the connection stays. */
  readonly code?: number
  /** Of the cluster; moves with every connection. */
  readonly counter?: string
  /** What the client gets; `cut`: a head, and a body that breaks off, or 502 where the mistake came with the head. Default 502 or 503. */
  readonly answer?: 'cut' | 504
  /** The client does not read; it is alone, as nobody else's stream is attacked. */
  readonly deaf?: boolean
  /** No SETTINGS of the upstream's. */
  readonly mute?: boolean
}

const head = (id: number, more: HeaderFields = []): Buffer => headers(id, [[':status', '200'], ...more])
const interim = (id: number): Buffer =>
  headers(id, [
    [':status', '103'],
    ['link', '</a>'],
  ])
const OK = headerBlock([[':status', '200']])
const BLOCK = Buffer.alloc(16_384, 'x')
/** One entry of 4,000 bytes, then references to it. */
const BOMB = Buffer.concat([
  OK,
  Buffer.from([0x40, 1, 0x61, 0x7f, 0xa1, 0x1e]),
  Buffer.alloc(4_000, 'x'),
  Buffer.alloc(12_000, 0xbe),
])

const HOSTILE: readonly Hostile[] = [
  { name: 'settings', next: () => settings(), code: CALM, counter: CONTROL },
  { name: 'ping', next: () => ping(), code: CALM, counter: CONTROL },
  { name: 'origin-frames', next: () => frame(0xc, 0, 0, '\0\u0009https://a'), code: CALM, counter: CONTROL },
  { name: 'unknown-frames', next: (_, i) => frame(0x20 + (i % 100), 0, 0, BLOCK), code: CALM, counter: CONTROL },
  { name: 'goaway', next: () => goaway(LARGEST), code: CALM, counter: CONTROL },
  { name: 'goaway-refusing', first: () => goaway(0) },
  {
    name: 'priority',
    next: (_, i) => priority(2 * (i % 100) + 1),
    code: CALM,
    counter: 'inbound_priority_frames_flood',
  },
  {
    name: 'priority-update',
    first: (id) => frame(T.PRIORITY_UPDATE, 0, 0, Buffer.from([0, 0, 0, id])),
    code: PROTOCOL_ERROR,
    counter: 'protocol_error',
  },
  {
    name: 'window-update',
    next: (id, i) => windowUpdate(i % 2 === 0 ? 0 : id, 1),
    code: CALM,
    counter: 'inbound_window_update_frames_flood',
  },
  {
    name: 'window-overflow',
    first: () => windowUpdate(0, LARGEST),
    code: FLOW_CONTROL_ERROR,
    counter: 'protocol_error',
  },
  { name: 'window-overflow-of-stream', first: (id) => windowUpdate(id, LARGEST) },
  { name: 'window-update-by-zero', first: (id) => windowUpdate(id, 0) },
  { name: 'interim-responses', next: interim, code: CALM, counter: CONTROL },
  {
    name: 'trailers',
    first: head,
    next: (id) => headers(id, [['a', 'b']]),
    code: PROTOCOL_ERROR,
    counter: 'protocol_error',
    answer: 'cut',
  },
  {
    name: 'empty-data',
    first: head,
    next: (id) => data(id, ''),
    code: CALM,
    counter: 'inbound_empty_frames_flood',
    answer: 'cut',
  },
  {
    name: 'continuation',
    first: (id) => frame(T.HEADERS, 0, id, OK),
    next: (id) => frame(T.CONTINUATION, 0, id, 'x'),
    code: CALM,
    counter: CONTROL,
  },
  {
    name: 'continuation-large',
    first: (id) => frame(T.HEADERS, 0, id, OK),
    next: (id) => frame(T.CONTINUATION, 0, id, BLOCK),
    code: CALM,
    counter: 'header_overflow',
  },
  {
    name: 'continuation-empty',
    first: (id) => frame(T.HEADERS, 0, id, OK),
    next: (id) => frame(T.CONTINUATION, 0, id),
    code: CALM,
    counter: 'inbound_empty_frames_flood',
  },
  {
    name: 'hpack-bomb',
    first: (id) => frame(T.HEADERS, FLAG.END_HEADERS, id, BOMB),
    code: CALM,
    counter: 'header_overflow',
  },
  {
    name: 'large-head',
    first: (id) =>
      Buffer.concat(
        splitHeaders(
          id,
          [
            [':status', '200'],
            ['a', 'x'.repeat(70_000)],
          ],
          16_384,
        ),
      ),
    counter: 'header_overflow',
  },
  {
    name: 'push-promise',
    first: (id) => frame(T.PUSH_PROMISE, FLAG.END_HEADERS, id, Buffer.from([0, 0, 0, 2])),
    code: PROTOCOL_ERROR,
    counter: 'protocol_error',
  },
  { name: 'data-before-head', first: (id) => data(id, 'x'), code: PROTOCOL_ERROR, counter: 'protocol_error' },
  {
    name: 'more-data-than-the-window',
    first: head,
    next: (id) => data(id, BLOCK),
    counter: 'tx_reset',
    answer: 'cut',
    deaf: true,
  },
  {
    name: 'more-data-than-announced',
    first: (id) => Buffer.concat([head(id, [['content-length', '3']]), data(id, 'four')]),
    code: PROTOCOL_ERROR,
    counter: 'rx_messaging_error',
    answer: 'cut',
  },
  {
    name: 'malformed-head',
    first: (id) =>
      headers(id, [
        [':status', '200'],
        ['Upper', 'x'],
      ]),
    code: PROTOCOL_ERROR,
    counter: 'rx_messaging_error',
  },
  { name: 'a-stream-nobody-opened', first: (id) => head(id + 100), code: PROTOCOL_ERROR, counter: 'protocol_error' },
  {
    name: 'broken-compression',
    first: (id) => frame(T.HEADERS, FLAG.END_HEADERS, id, Buffer.from([0x80])),
    code: 9,
    counter: 'protocol_error',
  },
  { name: 'resets', first: rstStream, next: rstStream, code: CALM, counter: CONTROL },
  {
    name: 'http1',
    mute: true,
    first: () => Buffer.from('HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n'),
    code: PROTOCOL_ERROR,
    counter: 'protocol_error',
  },
  { name: 'cut-in-a-frame', first: (id) => data(id, 'half of it').subarray(0, 12) },
  { name: 'silent', answer: 504 },
  { name: 'mute', mute: true, answer: 504 },
  { name: 'response-without-end', first: (id) => Buffer.concat([head(id), data(id, 'x')]), answer: 'cut' },
]

/** The connections that the gateway has made to one hostile upstream. */
interface Upstream {
  readonly port: number
  /** Of those that are over. */
  readonly codes: (number | undefined)[]
  connections: number
}

async function listen(t: Test, how: Hostile): Promise<Upstream> {
  const codes: (number | undefined)[] = []
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket)
    upstream.connections++
    const attacker = Attacker.adopt(socket, { preface: how.mute !== true, ack: how.mute !== true })
    let begun = false
    attacker.onFrame((f) => {
      if (f.type !== T.HEADERS || (begun && how.next !== undefined)) return
      begun = true
      void attack(attacker, f.streamId, how)
    })
    socket.once('close', () => {
      sockets.delete(socket)
      codes.push(attacker.goaway)
    })
    socket.once('end', () => socket.end())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const upstream = { port: (server.address() as AddressInfo).port, codes, connections: 0 }
  return upstream
}

async function attack(attacker: Attacker, id: number, { name, first, next }: Hostile): Promise<void> {
  if (first !== undefined) attacker.send(first(id))
  if (name === 'cut-in-a-frame') attacker.socket.end()
  if (next !== undefined) await attacker.flood(MANY, (i) => next(id, i))
}

/** One request of an innocent client: its status, 0 where even the head was lost, and whether the answer came whole. */
async function ask(port: number, name: string, deaf: boolean): Promise<{ status: number; whole: boolean }> {
  const sent: ClientRequest = httpRequest({ port, path: `/bad/${name}`, host: '127.0.0.1', agent: false }).end()
  sent.on('error', () => {})
  const late = setTimeout(() => sent.destroy(new Error('no answer within 10 s')), 10_000)
  try {
    const [response] = (await once(sent, 'response')) as [IncomingMessage]
    const closed = new Promise((resolve) => response.once('close', resolve))
    response.on('error', () => {})
    if (deaf) await new Promise((resolve) => setTimeout(resolve, 200))
    response.resume()
    await closed
    return { status: response.statusCode ?? 0, whole: response.complete }
  } catch {
    return { status: 0, whole: false }
  } finally {
    clearTimeout(late)
  }
}

const HTTP2_UPSTREAM: Fields = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: {
        http2_protocol_options: { initial_stream_window_size: 65_536, initial_connection_window_size: 1_048_576 },
      },
    },
  },
}

t.test('hostile upstreams fail the requests that they get, and nothing else', async (t) => {
  const upstreams = new Map<string, Upstream>()
  for (const one of HOSTILE) upstreams.set(one.name, await listen(t, one))
  const lab = await Lab.start(t, {
    upstream: true,
    clusters: [...upstreams].map(([name, { port }]) => cluster(name, port, HTTP2_UPSTREAM)),
    routes: [...upstreams.keys()].map((name) => ({
      match: { path: `/bad/${name}` },
      route: { cluster: name, timeout: /silent|mute|without-end/.test(name) ? '0.3s' : '10s' },
    })),
  })
  const port = await lab.gateway.port('main')
  for (const one of HOSTILE) {
    await t.test(one.name, async (t: Test) => {
      const upstream = upstreams.get(one.name) as Upstream
      const answers: { status: number; whole: boolean }[] = []
      const run = async (): Promise<void> => void answers.push(await ask(port, one.name, one.deaf === true))
      const changes = await lab.under(t, { name: one.name, run, forMs: 150, attackers: one.deaf ? 1 : 3 })
      if (one.answer === 'cut')
        t.ok(
          answers.every((a) => !a.whole || a.status === 502),
          'no answer looks whole',
        )
      else {
        const statuses = one.answer === undefined ? [502, 503] : [one.answer]
        t.strictSame(
          answers.filter((a) => !statuses.includes(a.status)),
          [],
          `each is answered ${statuses.join(' or ')}`,
        )
      }
      t.comment(`answers: ${[...new Set(answers.map((a) => `${a.status}${a.whole ? '' : ' cut'}`))].join(', ')}`)
      if (one.code !== undefined) {
        const { codes } = upstream
        for (let i = 0; i < 300 && codes.length < upstream.connections; i++) await new Promise((r) => setTimeout(r, 10))
        t.equal(codes.length, upstream.connections, 'every connection is over')
        // What a flood has sent and nobody reads makes a reset of the close, which may overtake the GOAWAY.
        const said = new Set(codes.filter((code) => code !== undefined))
        if (one.next === undefined || said.size > 0) t.strictSame([...said], [one.code], 'what the GOAWAYs say')
      }
      if (one.counter !== undefined) t.ok(changes.of(`cluster.${one.name}.http2.${one.counter}`) > 0, one.counter)
    })
  }
  await lab.calm(t)
})
