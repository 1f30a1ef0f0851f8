import t, { type Test } from 'tap'
import {
  data,
  type Fields,
  FLAG,
  frame,
  get,
  goaway,
  headerBlock,
  headers,
  hpackInteger,
  padded,
  ping,
  priority,
  request,
  rstStream,
  SETTING,
  settings,
  splitHeaders,
  T,
  windowUpdate,
} from '../support/http2-wire.ts'
import type { Attacker } from './attacker.ts'
import { EDGE_HTTP2, Lab } from './lab.ts'

t.setTimeout(100_000)

/** Floods of frames, each against a whole gateway with victims on other connections (RFC 9113 §10.5). */

const CALM = 11
const PROTOCOL_ERROR = 1
const STREAM_CLOSED = 5
/** More than any guard permits. */
const MANY = 20_000

interface Flood {
  readonly name: string
  /** One step of it; called until the gateway has had enough. */
  readonly next: (i: number) => Buffer
  /** Before the flood; streams that it needs. */
  readonly prepare?: (attacker: Attacker) => void
  /** Moves at least once per connection. */
  readonly counter: string
  /** Default ENHANCE_YOUR_CALM. */
  readonly code?: number
  /** Default: `main`. */
  readonly listener?: string
  /** Nothing that the gateway sends is read until the flood is over. */
  readonly deaf?: boolean
}

const idOf = (i: number): number => 2 * i + 1
const post = (id: number, path = '/hang', more: Fields = []): Buffer => headers(id, request('POST', path, more))
const ask = (id: number, path = '/hang', more: Fields = []): Buffer => headers(id, get(path, more), true)
const tunnel = (id: number): Buffer => headers(id, [[':protocol', 'websocket'], ...request('CONNECT', '/hang')])
const both = (...pieces: Buffer[]): Buffer => Buffer.concat(pieces)
const start = (attacker: Attacker): void => attacker.send(post(1))

/** RFC 7541 §6.2.1: a literal that is put into the dynamic table. */
function indexed(name: string, value: string): Buffer {
  return both(
    Buffer.from([0x40]),
    hpackInteger(name.length, 7),
    Buffer.from(name, 'latin1'),
    hpackInteger(value.length, 7),
    Buffer.from(value, 'latin1'),
  )
}

/** The newest entry of the dynamic table (RFC 7541 §2.3.3). */
const NEWEST = 0x80 | 62
const ENTRY = indexed('bomb', 'x'.repeat(4000))
const BASE = headerBlock(get('/hang'))

const RESETS = 'http2.premature_resets'
const CONTROL = 'http2.inbound_control_frames_flood'
const PRIORITIES = 'http2.inbound_priority_frames_flood'
const UPDATES = 'http2.inbound_window_update_frames_flood'
const EMPTY = 'http2.inbound_empty_frames_flood'
const OVERFLOW = 'http2.header_overflow'

const FLOODS: readonly Flood[] = [
  { name: 'rapid reset', next: (i) => both(ask(idOf(i)), rstStream(idOf(i))), counter: RESETS },
  {
    name: "rapid reset at the victims' origin",
    next: (i) => both(ask(idOf(i), '/small'), rstStream(idOf(i))),
    counter: RESETS,
  },
  {
    name: 'rapid reset of uploads',
    next: (i) => both(post(idOf(i)), data(idOf(i), 'x'.repeat(1000)), rstStream(idOf(i))),
    counter: RESETS,
  },

  // What makes the gateway reset ("MadeYouReset").
  {
    name: 'provoked: WINDOW_UPDATE by zero',
    next: (i) => both(ask(idOf(i)), windowUpdate(idOf(i), 0)),
    counter: RESETS,
  },
  {
    name: 'provoked: window overflow',
    next: (i) => both(ask(idOf(i)), windowUpdate(idOf(i), 2 ** 31 - 1)),
    counter: RESETS,
  },
  { name: 'provoked: DATA after the end', next: (i) => both(ask(idOf(i)), data(idOf(i), 'x')), counter: RESETS },
  { name: 'provoked: HEADERS after the end', next: (i) => both(ask(idOf(i)), ask(idOf(i))), counter: RESETS },
  {
    name: 'provoked: PRIORITY of 4 bytes',
    next: (i) => both(ask(idOf(i)), frame(T.PRIORITY, 0, idOf(i), 'abcd')),
    counter: RESETS,
  },
  { name: 'provoked: depends on itself', next: (i) => both(ask(idOf(i)), priority(idOf(i), idOf(i))), counter: RESETS },
  {
    name: 'provoked: malformed request',
    next: (i) => ask(idOf(i), '/hang', [['connection', 'close']]),
    counter: RESETS,
  },
  {
    name: 'provoked: less DATA than announced',
    next: (i) => both(post(idOf(i), '/hang', [['content-length', '5']]), data(idOf(i), 'abcd', true)),
    counter: RESETS,
  },
  {
    name: 'provoked: malformed trailers',
    next: (i) => both(post(idOf(i)), headers(idOf(i), [[':path', '/']], true)),
    counter: RESETS,
  },
  {
    // A tunnel that is not granted yet takes nothing: what comes is held, up to its window.
    name: 'provoked: DATA over the window',
    listener: 'tunnels',
    next: (i) => both(tunnel(idOf(i)), ...Array.from({ length: 5 }, () => data(idOf(i), Buffer.alloc(16_384)))),
    counter: RESETS,
  },
  { name: 'provoked: more streams than permitted', next: (i) => ask(idOf(i)), counter: 'http2.stream_refused_errors' },

  {
    name: 'CONTINUATION without end, a byte each',
    prepare: (a) => a.send(frame(T.HEADERS, 0, 1, BASE)),
    next: () => frame(T.CONTINUATION, 0, 1, 'x'),
    counter: CONTROL,
  },
  {
    name: 'CONTINUATION without end, 16 KiB each',
    prepare: (a) => a.send(frame(T.HEADERS, 0, 1, BASE)),
    next: () => frame(T.CONTINUATION, 0, 1, Buffer.alloc(16_384)),
    counter: OVERFLOW,
  },
  {
    name: 'CONTINUATION without end, empty',
    prepare: (a) => a.send(frame(T.HEADERS, 0, 1, BASE)),
    next: () => frame(T.CONTINUATION, 0, 1),
    counter: EMPTY,
  },
  {
    name: 'CONTINUATION with END_HEADERS, a byte each',
    next: (i) =>
      both(
        frame(T.HEADERS, FLAG.END_STREAM, idOf(i), BASE.subarray(0, 1)),
        ...[...BASE.subarray(1)].map((byte, at) =>
          frame(T.CONTINUATION, at === BASE.length - 2 ? FLAG.END_HEADERS : 0, idOf(i), Buffer.from([byte])),
        ),
      ),
    counter: CONTROL,
  },
  { name: 'empty DATA', prepare: start, next: () => data(1, ''), counter: EMPTY },
  {
    name: 'DATA of padding',
    prepare: start,
    next: () => frame(T.DATA, FLAG.PADDED, 1, padded('', 200)),
    counter: EMPTY,
  },
  {
    name: 'empty HEADERS',
    next: (i) => frame(T.HEADERS, 0, idOf(i)),
    counter: EMPTY,
    code: CALM,
    prepare: (a) => a.send(frame(T.HEADERS, 0, 1), frame(T.CONTINUATION, 0, 1)),
  },

  { name: 'SETTINGS', next: () => settings(), counter: CONTROL },
  { name: 'SETTINGS, acknowledgements not read', next: () => settings(), counter: CONTROL, deaf: true },
  {
    name: 'SETTINGS of 16 KiB',
    next: (i) =>
      settings(
        ...Array.from(
          { length: 2_700 },
          (_, at) => [SETTING.HEADER_TABLE_SIZE, (i + at) % 2 === 0 ? 0 : 4096] as const,
        ),
      ),
    counter: CONTROL,
  },
  {
    name: 'SETTINGS that move the windows of 100 streams',
    prepare: (a) => a.send(...Array.from({ length: 100 }, (_, i) => ask(idOf(i), '/big'))),
    next: (i) => settings([SETTING.INITIAL_WINDOW_SIZE, i % 2 === 0 ? 1 : 0]),
    counter: CONTROL,
  },
  { name: 'SETTINGS acknowledgements', next: () => frame(T.SETTINGS, FLAG.ACK, 0), counter: CONTROL },
  { name: 'PING', next: () => ping(), counter: CONTROL },
  { name: 'PING, answers not read', next: () => ping(), counter: CONTROL, deaf: true },
  { name: 'PING acknowledgements', next: () => ping('pingping', true), counter: CONTROL },
  { name: 'PRIORITY', next: (i) => priority(idOf(i % 1000), 0, i & 255), counter: PRIORITIES },
  {
    name: 'PRIORITY_UPDATE',
    next: (i) => frame(T.PRIORITY_UPDATE, 0, 0, both(Buffer.from([0, 0, 0, idOf(i % 100)]), Buffer.from('u=3'))),
    counter: PRIORITIES,
  },
  { name: 'WINDOW_UPDATE of the connection', next: () => windowUpdate(0, 1), counter: UPDATES },
  { name: 'WINDOW_UPDATE of a stream', prepare: start, next: () => windowUpdate(1, 1), counter: UPDATES },
  {
    name: 'WINDOW_UPDATE by zero on the connection',
    next: () => windowUpdate(0, 0),
    counter: 'http2.protocol_error',
    code: PROTOCOL_ERROR,
  },
  { name: 'unknown frames', next: (i) => frame(0x20 + (i % 200), 0, 0), counter: CONTROL },
  {
    name: 'unknown frames of 16 KiB',
    next: (i) => frame(0x20 + (i % 200), 0, 0, Buffer.alloc(16_384)),
    counter: CONTROL,
  },
  { name: 'GOAWAY', next: () => goaway(0), counter: CONTROL },
  {
    name: 'RST_STREAM on what is gone',
    prepare: (a) => a.send(ask(1), rstStream(1)),
    next: () => rstStream(1),
    counter: CONTROL,
  },
  {
    name: 'DATA on what is gone',
    prepare: (a) => a.send(ask(1, '/direct')),
    next: () => data(1, 'x'),
    counter: 'http2.protocol_error',
    code: STREAM_CLOSED,
  },

  {
    name: 'HPACK bomb',
    prepare: (a) => a.send(frame(T.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, 1, both(BASE, ENTRY))),
    next: (i) =>
      frame(T.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, idOf(i + 1), both(BASE, Buffer.alloc(16_000, NEWEST))),
    counter: OVERFLOW,
  },
  {
    name: 'HPACK bombs that are a little over the limit',
    prepare: (a) => a.send(frame(T.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, 1, both(BASE, ENTRY))),
    next: (i) =>
      frame(T.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, idOf(i + 1), both(BASE, Buffer.alloc(20, NEWEST))),
    counter: OVERFLOW,
  },
  {
    name: 'header lists over the limit',
    next: (i) =>
      both(
        ...splitHeaders(
          idOf(i),
          get(
            '/hang',
            Array.from({ length: 5 }, () => ['big', 'x'.repeat(13_000)] as const),
          ),
          16_384,
          true,
        ),
      ),
    counter: OVERFLOW,
  },
  {
    name: 'more fields than permitted',
    next: (i) =>
      ask(
        idOf(i),
        '/hang',
        Array.from({ length: 150 }, () => ['f', ''] as const),
      ),
    counter: OVERFLOW,
  },
]

function flood(
  lab: Lab,
  { prepare, next, listener, deaf = false }: Flood,
  codes: (number | undefined)[],
): () => Promise<void> {
  return async () => {
    const attacker = await lab.attacker({}, listener)
    prepare?.(attacker)
    if (deaf) attacker.socket.pause()
    await attacker.flood(MANY, next)
    codes.push(await attacker.end())
  }
}

t.test('floods of frames end the connection that sends them, and nothing else', async (t) => {
  const hung = new Set<unknown>()
  const lab = await Lab.start(t, {
    target: (request, response) => {
      request.resume()
      if (request.url === '/big') response.end(Buffer.alloc(4 << 20))
      else hung.add(response)
    },
    listeners: [
      {
        name: 'tunnels',
        hcm: {
          http2_protocol_options: { ...EDGE_HTTP2, allow_connect: true },
          upgrade_configs: [{ upgrade_type: 'websocket' }],
        },
      },
    ],
    routes: [{ match: { path: '/direct' }, direct_response: { status: 200, body: { inline_string: 'ok' } } }],
  })
  for (const one of FLOODS) {
    await t.test(one.name, async (t: Test) => {
      const codes: (number | undefined)[] = []
      const changes = await lab.under(t, { name: one.name, run: flood(lab, one, codes) })
      t.strictSame([...new Set(codes)], [one.code ?? CALM], 'what its GOAWAY says')
      t.ok(changes.of(one.counter) >= changes.connections, `${one.counter} by ${changes.of(one.counter)}`)
      t.ok(changes.of('http2.goaway_sent') >= changes.connections)
    })
  }
  await t.test('resets below every limit, on connection after connection', async (t) => {
    const run = async (): Promise<void> => {
      const attacker = await lab.attacker()
      await attacker.flood(200, (i) => both(ask(idOf(i)), rstStream(idOf(i))))
      attacker.send(ping())
      await attacker.until(() => attacker.frames.some((f) => f.type === T.PING), 'pong')
      t.equal(attacker.goaway, undefined)
      attacker.close()
    }
    const changes = await lab.under(t, { name: 'resets below the limit', run })
    t.equal(changes.of(RESETS), 200 * changes.connections)
  })
  await lab.calm(t)
})
