import t, { type Test } from 'tap'
import { Http2Code } from '../../lib/http2/contract.ts'
import { SessionRig } from '../support/http2-session.ts'
import {
  data,
  describe,
  type Fields,
  FLAG,
  frame,
  get,
  goaway,
  headerBlock,
  headers,
  PREFACE,
  padded,
  ping,
  priority,
  request,
  rstStream,
  SETTING,
  settings,
  settingsAck,
  splitHeaders,
  T,
  windowUpdate,
} from '../support/http2-wire.ts'

const { PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, STREAM_CLOSED, COMPRESSION_ERROR, REFUSED_STREAM } =
  Http2Code

/** What must come of it: a code on a stream, on the connection, or nothing at all. */
type Outcome = { readonly stream: number; readonly code: number } | { readonly connection: number } | 'fine'

interface Row {
  readonly name: string
  readonly bytes: readonly Buffer[]
  readonly outcome: Outcome
  /** Server: answers every request at once, with END_STREAM. */
  readonly answers?: boolean
}

const connection = (code: number): Outcome => ({ connection: code })
const stream = (id: number, code: number): Outcome => ({ stream: id, code })
const open = headers(1, request('POST'))
const ended = headers(1, get(), true)
const long = Buffer.alloc(16385)

/** Beyond the handshake; each row on a session of its own (RFC 9113, the section in brackets). */
const FRAMES: readonly Row[] = [
  // 4.1, 4.2
  { name: '4.1 an unknown type is ignored', bytes: [frame(0x42, 0xff, 0, 'x'), ping()], outcome: 'fine' },
  {
    name: '4.1 unknown flags and the reserved bit are ignored',
    bytes: [frame(T.PING, 0xf6, 0x80000000, '12345678')],
    outcome: 'fine',
  },
  { name: '4.2 DATA over our limit', bytes: [open, frame(T.DATA, 0, 1, long)], outcome: connection(FRAME_SIZE_ERROR) },
  { name: '4.2 HEADERS over our limit', bytes: [frame(T.HEADERS, 4, 1, long)], outcome: connection(FRAME_SIZE_ERROR) },
  { name: '4.2 unknown type over our limit', bytes: [frame(0x42, 0, 0, long)], outcome: connection(FRAME_SIZE_ERROR) },
  // 4.3, 6.10
  {
    name: '4.3 a block that is no HPACK',
    bytes: [headers(1, Buffer.from([0x80]))],
    outcome: connection(COMPRESSION_ERROR),
  },
  {
    name: '4.3 a block that breaks off',
    bytes: [headers(1, headerBlock(get()).subarray(0, 20))],
    outcome: connection(COMPRESSION_ERROR),
  },
  {
    name: '6.10 CONTINUATION out of nowhere',
    bytes: [frame(T.CONTINUATION, 4, 1, headerBlock(get()))],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: '6.10 CONTINUATION after END_HEADERS',
    bytes: [open, frame(T.CONTINUATION, 4, 1, '')],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: '6.10 CONTINUATION of another stream',
    bytes: [frame(T.HEADERS, 1, 1, headerBlock(get())), frame(T.CONTINUATION, 4, 3, '')],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: '6.10 CONTINUATION on stream 0',
    bytes: [frame(T.HEADERS, 1, 1, headerBlock(get())), frame(T.CONTINUATION, 4, 0, '')],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: '6.10 DATA inside of a block',
    bytes: [frame(T.HEADERS, 0, 1, headerBlock(get())), data(1, 'x')],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: '6.10 PRIORITY inside of a block',
    bytes: [frame(T.HEADERS, 0, 1, headerBlock(get())), priority(1)],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: '6.10 unknown type inside of a block',
    bytes: [frame(T.HEADERS, 0, 1, headerBlock(get())), frame(0x42, 0, 0, 'x')],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: '6.10 HEADERS inside of a block',
    bytes: [frame(T.HEADERS, 0, 1, headerBlock(get())), headers(3, get())],
    outcome: connection(PROTOCOL_ERROR),
  },
  { name: '6.10 a block in five frames', bytes: splitHeaders(1, get(), 17, true), outcome: 'fine' },
  // 5.1, idle
  { name: '5.1 DATA on an idle stream', bytes: [data(1, 'x')], outcome: connection(PROTOCOL_ERROR) },
  { name: '5.1 RST_STREAM on an idle stream', bytes: [rstStream(1)], outcome: connection(PROTOCOL_ERROR) },
  { name: '5.1 WINDOW_UPDATE on an idle stream', bytes: [windowUpdate(1, 5)], outcome: connection(PROTOCOL_ERROR) },
  { name: '5.1 PRIORITY on an idle stream', bytes: [priority(1)], outcome: 'fine' },
  { name: '5.1 DATA on a stream of our parity', bytes: [data(2, 'x')], outcome: connection(PROTOCOL_ERROR) },
  // 5.1, half-closed (remote)
  { name: '5.1 DATA after END_STREAM', bytes: [ended, data(1, 'x')], outcome: stream(1, STREAM_CLOSED) },
  { name: '5.1 HEADERS after END_STREAM', bytes: [ended, headers(1, get(), true)], outcome: stream(1, STREAM_CLOSED) },
  { name: '5.1 WINDOW_UPDATE after END_STREAM', bytes: [ended, windowUpdate(1, 5)], outcome: 'fine' },
  { name: '5.1 unknown type after END_STREAM', bytes: [ended, frame(0x42, 0, 1, 'x')], outcome: 'fine' },
  // 5.1, closed
  { name: '5.1 DATA after RST_STREAM', bytes: [open, rstStream(1), data(1, 'x')], outcome: stream(1, STREAM_CLOSED) },
  {
    name: '5.1 HEADERS after RST_STREAM',
    bytes: [open, rstStream(1), headers(1, get(), true)],
    outcome: stream(1, STREAM_CLOSED),
  },
  { name: '5.1 DATA after both ends', bytes: [ended, data(1, 'x')], answers: true, outcome: connection(STREAM_CLOSED) },
  {
    name: '5.1 HEADERS after both ends',
    bytes: [ended, headers(1, get(), true)],
    answers: true,
    outcome: connection(STREAM_CLOSED),
  },
  {
    name: '5.1 WINDOW_UPDATE, RST_STREAM and PRIORITY after both ends',
    bytes: [ended, windowUpdate(1, 5), rstStream(1), priority(1)],
    answers: true,
    outcome: 'fine',
  },
  // 5.1.1, 5.1.2
  { name: '5.1.1 an even id', bytes: [headers(2, get(), true)], outcome: connection(PROTOCOL_ERROR) },
  {
    name: '5.1.1 an id below the last',
    bytes: [headers(5, get(), true), headers(3, get(), true)],
    outcome: connection(PROTOCOL_ERROR),
  },
  { name: '5.1.1 stream 0', bytes: [headers(0, get(), true)], outcome: connection(PROTOCOL_ERROR) },
  {
    name: '5.1.2 more streams than announced',
    bytes: [headers(1, get()), headers(3, get()), headers(5, get())],
    outcome: stream(5, REFUSED_STREAM),
  },
  // 5.3.1
  {
    name: '5.3.1 HEADERS that depend on themselves',
    bytes: [frame(T.HEADERS, 0x25, 1, Buffer.concat([Buffer.from([0, 0, 0, 1, 9]), headerBlock(get())]))],
    outcome: stream(1, PROTOCOL_ERROR),
  },
  { name: '5.3.1 PRIORITY that depends on itself', bytes: [open, priority(1, 1)], outcome: stream(1, PROTOCOL_ERROR) },
  {
    name: '5.3.1 PRIORITY of an idle stream that depends on itself',
    bytes: [priority(7, 7)],
    outcome: connection(PROTOCOL_ERROR),
  },
  // 6.1
  { name: '6.1 DATA on stream 0', bytes: [data(0, 'x')], outcome: connection(PROTOCOL_ERROR) },
  {
    name: '6.1 DATA with more padding than payload',
    bytes: [open, frame(T.DATA, FLAG.PADDED, 1, Buffer.from([5, 1, 2]))],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: '6.1 DATA with as much padding as payload',
    bytes: [open, frame(T.DATA, FLAG.PADDED, 1, Buffer.from([3, 1, 2]))],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: '6.1 PADDED DATA without a pad length',
    bytes: [open, frame(T.DATA, FLAG.PADDED, 1, '')],
    outcome: connection(FRAME_SIZE_ERROR),
  },
  { name: '6.1 DATA of padding only', bytes: [open, frame(T.DATA, FLAG.PADDED, 1, padded('', 7))], outcome: 'fine' },
  // 6.2
  {
    name: '6.2 HEADERS with more padding than payload',
    bytes: [frame(T.HEADERS, 0xd, 1, Buffer.concat([Buffer.from([255]), headerBlock(get())]))],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: '6.2 PADDED HEADERS without a pad length',
    bytes: [frame(T.HEADERS, 0xd, 1, '')],
    outcome: connection(FRAME_SIZE_ERROR),
  },
  {
    name: '6.2 HEADERS with padding and priority',
    bytes: [frame(T.HEADERS, 0x2d, 1, padded(Buffer.concat([Buffer.from([0, 0, 0, 0, 9]), headerBlock(get())]), 9))],
    outcome: 'fine',
  },
  {
    name: '6.2 HEADERS too short for their priority',
    bytes: [frame(T.HEADERS, 0x25, 1, 'abc')],
    outcome: connection(FRAME_SIZE_ERROR),
  },
  // 6.3
  { name: '6.3 PRIORITY on stream 0', bytes: [priority(0)], outcome: connection(PROTOCOL_ERROR) },
  {
    name: '6.3 PRIORITY of 4 bytes',
    bytes: [open, frame(T.PRIORITY, 0, 1, 'abcd')],
    outcome: stream(1, FRAME_SIZE_ERROR),
  },
  {
    name: '6.3 PRIORITY of 4 bytes, idle',
    bytes: [frame(T.PRIORITY, 0, 1, 'abcd')],
    outcome: connection(FRAME_SIZE_ERROR),
  },
  // 6.4
  { name: '6.4 RST_STREAM on stream 0', bytes: [rstStream(0)], outcome: connection(PROTOCOL_ERROR) },
  {
    name: '6.4 RST_STREAM of 3 bytes',
    bytes: [open, frame(T.RST_STREAM, 0, 1, 'abc')],
    outcome: connection(FRAME_SIZE_ERROR),
  },
  // 6.5
  {
    name: '6.5 SETTINGS ACK with a payload',
    bytes: [frame(T.SETTINGS, FLAG.ACK, 0, 'abcdef')],
    outcome: connection(FRAME_SIZE_ERROR),
  },
  { name: '6.5 SETTINGS on a stream', bytes: [frame(T.SETTINGS, 0, 1)], outcome: connection(PROTOCOL_ERROR) },
  { name: '6.5 SETTINGS of 3 bytes', bytes: [frame(T.SETTINGS, 0, 0, 'abc')], outcome: connection(FRAME_SIZE_ERROR) },
  { name: '6.5.2 ENABLE_PUSH 2', bytes: [settings([SETTING.ENABLE_PUSH, 2])], outcome: connection(PROTOCOL_ERROR) },
  {
    name: '6.5.2 INITIAL_WINDOW_SIZE 2^31',
    bytes: [settings([SETTING.INITIAL_WINDOW_SIZE, 2 ** 31])],
    outcome: connection(FLOW_CONTROL_ERROR),
  },
  {
    name: '6.5.2 MAX_FRAME_SIZE 16383',
    bytes: [settings([SETTING.MAX_FRAME_SIZE, 16383])],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: '6.5.2 MAX_FRAME_SIZE 2^24',
    bytes: [settings([SETTING.MAX_FRAME_SIZE, 2 ** 24])],
    outcome: connection(PROTOCOL_ERROR),
  },
  { name: '6.5.2 unknown settings', bytes: [settings([0x4242, 5], [0, 0], [0xffff, 0xffffffff])], outcome: 'fine' },
  {
    name: '6.5.2 all at their most',
    bytes: [settings([1, 0xffffffff], [2, 1], [3, 0xffffffff], [4, 0x7fffffff], [5, 0xffffff], [6, 0xffffffff])],
    outcome: 'fine',
  },
  {
    name: 'RFC 8441 ENABLE_CONNECT_PROTOCOL 2',
    bytes: [settings([SETTING.ENABLE_CONNECT_PROTOCOL, 2])],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: 'RFC 8441 ENABLE_CONNECT_PROTOCOL taken back',
    bytes: [settings([8, 1]), settings([8, 0])],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: 'RFC 9218 NO_RFC7540_PRIORITIES 2',
    bytes: [settings([SETTING.NO_RFC7540_PRIORITIES, 2])],
    outcome: connection(PROTOCOL_ERROR),
  },
  // 6.6
  {
    name: '6.6 PUSH_PROMISE of a client',
    bytes: [open, frame(T.PUSH_PROMISE, 4, 1, Buffer.concat([Buffer.from([0, 0, 0, 2]), headerBlock(get())]))],
    outcome: connection(PROTOCOL_ERROR),
  },
  // 6.7
  { name: '6.7 PING on a stream', bytes: [frame(T.PING, 0, 1, '12345678')], outcome: connection(PROTOCOL_ERROR) },
  { name: '6.7 PING of 6 bytes', bytes: [frame(T.PING, 0, 0, '123456')], outcome: connection(FRAME_SIZE_ERROR) },
  { name: '6.7 an acknowledgement nobody asked for', bytes: [ping('12345678', true)], outcome: 'fine' },
  // 6.8
  { name: '6.8 GOAWAY on a stream', bytes: [frame(T.GOAWAY, 0, 1, '12345678')], outcome: connection(PROTOCOL_ERROR) },
  { name: '6.8 GOAWAY of 7 bytes', bytes: [frame(T.GOAWAY, 0, 0, '1234567')], outcome: connection(FRAME_SIZE_ERROR) },
  { name: '6.8 GOAWAY with debug data', bytes: [goaway(0, 0, 'bye')], outcome: 'fine' },
  // 6.9
  {
    name: '6.9 WINDOW_UPDATE of 3 bytes',
    bytes: [frame(T.WINDOW_UPDATE, 0, 0, 'abc')],
    outcome: connection(FRAME_SIZE_ERROR),
  },
  { name: '6.9 connection window by zero', bytes: [windowUpdate(0, 0)], outcome: connection(PROTOCOL_ERROR) },
  { name: '6.9 stream window by zero', bytes: [open, windowUpdate(1, 0)], outcome: stream(1, PROTOCOL_ERROR) },
  {
    name: '6.9.1 connection window over 2^31 - 1',
    bytes: [windowUpdate(0, 2 ** 31 - 1)],
    outcome: connection(FLOW_CONTROL_ERROR),
  },
  {
    name: '6.9.1 stream window over 2^31 - 1',
    bytes: [open, windowUpdate(1, 2 ** 31 - 1)],
    outcome: stream(1, FLOW_CONTROL_ERROR),
  },
  {
    name: '6.9.2 SETTINGS lift a window over 2^31 - 1',
    bytes: [open, windowUpdate(1, 2 ** 31 - 65536), settings([4, 65537])],
    outcome: connection(FLOW_CONTROL_ERROR),
  },
  // RFC 9218
  { name: 'PRIORITY_UPDATE', bytes: [frame(T.PRIORITY_UPDATE, 0, 0, '\0\0\0\x01u=1')], outcome: 'fine' },
  {
    name: 'PRIORITY_UPDATE on a stream',
    bytes: [frame(T.PRIORITY_UPDATE, 0, 1, '\0\0\0\x01u=1')],
    outcome: connection(PROTOCOL_ERROR),
  },
  {
    name: 'PRIORITY_UPDATE of 3 bytes',
    bytes: [frame(T.PRIORITY_UPDATE, 0, 0, 'abc')],
    outcome: connection(FRAME_SIZE_ERROR),
  },
]

/** Requests that break §8, as header lists; `body` follows in one DATA frame with END_STREAM. */
const REQUESTS: readonly {
  readonly name: string
  readonly fields: Fields
  readonly body?: string
  readonly fine?: true
}[] = [
  { name: 'a GET', fields: get(), fine: true },
  { name: 'upper case in a name', fields: get('/', [['X-A', 'b']]) },
  { name: 'an empty name', fields: get('/', [['', 'b']]) },
  { name: 'a space in a name', fields: get('/', [['a b', 'b']]) },
  { name: 'a colon in a name', fields: get('/', [['a:b', 'b']]) },
  { name: 'an 8-bit name', fields: get('/', [['\xe9', 'b']]) },
  { name: 'CR in a value', fields: get('/', [['a', 'b\rc']]) },
  { name: 'LF in a value', fields: get('/', [['a', 'b\nc: d']]) },
  { name: 'NUL in a value', fields: get('/', [['a', 'b\0']]) },
  { name: 'DEL in a value', fields: get('/', [['a', '\x7f']]) },
  { name: 'a control character in a value', fields: get('/', [['a', '\x01']]) },
  { name: 'a space before a value', fields: get('/', [['a', ' b']]) },
  { name: 'a tab behind a value', fields: get('/', [['a', 'b\t']]) },
  { name: 'tab and 8-bit characters inside of a value', fields: get('/', [['a', 'b\t\xe9 c']]), fine: true },
  { name: 'an unknown pseudo-header', fields: [...get(), [':x', 'y']] },
  { name: ':status in a request', fields: [...get(), [':status', '200']] },
  {
    name: 'a pseudo-header behind a field',
    fields: [
      [':method', 'GET'],
      [':scheme', 'http'],
      ['a', 'b'],
      [':path', '/'],
    ],
  },
  { name: ':method twice', fields: [[':method', 'GET'], ...get()] },
  { name: ':path twice', fields: [[':path', '/'], ...get()] },
  { name: ':scheme twice', fields: [[':scheme', 'http'], ...get()] },
  { name: ':authority twice', fields: [[':authority', 'a.example'], ...get()] },
  { name: 'no :method', fields: get().slice(1) },
  { name: 'no :scheme', fields: get().filter(([name]) => name !== ':scheme') },
  { name: 'no :path', fields: get().filter(([name]) => name !== ':path') },
  { name: 'an empty :path', fields: request('GET', '') },
  { name: 'an empty :method', fields: request('', '/') },
  {
    name: 'an empty :scheme',
    fields: [
      [':method', 'GET'],
      [':scheme', ''],
      [':path', '/'],
    ],
  },
  {
    name: 'an empty :authority',
    fields: [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', ''],
    ],
  },
  { name: 'a :path without a slash', fields: request('GET', 'x') },
  { name: 'an absolute :path', fields: request('GET', 'http://b/') },
  { name: 'a space in :path', fields: request('GET', '/ HTTP/1.1') },
  { name: 'CR LF in :path', fields: request('GET', '/ HTTP/1.1\r\nhost: b\r\n\r\n') },
  { name: 'a fragment in :path', fields: request('GET', '/a#b') },
  { name: '8 bits in :path', fields: request('GET', '/\xe9') },
  { name: '* for GET', fields: request('GET', '*') },
  { name: '* for OPTIONS', fields: request('OPTIONS', '*'), fine: true },
  { name: 'a space in :method', fields: request('GET /x HTTP/1.1', '/') },
  { name: 'CR LF in :method', fields: request('GET\r\n', '/') },
  {
    name: 'a :scheme that is none',
    fields: [
      [':method', 'GET'],
      [':scheme', 'ht tp'],
      [':path', '/'],
    ],
  },
  {
    name: 'userinfo in :authority',
    fields: [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'u@a'],
    ],
  },
  {
    name: 'a path in :authority',
    fields: [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'a/b'],
    ],
  },
  { name: 'another host than :authority', fields: get('/', [['host', 'b.example']]) },
  { name: 'the same host as :authority, other case', fields: get('/', [['host', 'A.example']]), fine: true },
  {
    name: 'host twice',
    fields: get('/', [
      ['host', 'a.example'],
      ['host', 'a.example'],
    ]),
  },
  {
    name: 'a host that is none',
    fields: [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      ['host', 'a b'],
    ],
  },
  { name: 'connection', fields: get('/', [['connection', 'close']]) },
  { name: 'keep-alive', fields: get('/', [['keep-alive', '5']]) },
  { name: 'proxy-connection', fields: get('/', [['proxy-connection', 'close']]) },
  { name: 'transfer-encoding', fields: get('/', [['transfer-encoding', 'chunked']]) },
  { name: 'upgrade', fields: get('/', [['upgrade', 'h2c']]) },
  { name: 'te: gzip', fields: get('/', [['te', 'gzip']]) },
  { name: 'te: trailers', fields: get('/', [['te', 'trailers']]), fine: true },
  { name: 'te: trailers, deflate', fields: get('/', [['te', 'trailers, deflate']]) },
  { name: 'content-length that is none', fields: get('/', [['content-length', '+0']]) },
  {
    name: 'content-length twice',
    fields: get('/', [
      ['content-length', '0'],
      ['content-length', '0'],
    ]),
  },
  { name: 'content-length 0 and no body', fields: get('/', [['content-length', '0']]), fine: true },
  { name: 'content-length 5 and no body', fields: get('/', [['content-length', '5']]) },
  { name: 'content-length below the body', fields: request('POST', '/', [['content-length', '4']]), body: 'hello' },
  { name: 'content-length above the body', fields: request('POST', '/', [['content-length', '6']]), body: 'hello' },
  {
    name: 'content-length as the body',
    fields: request('POST', '/', [['content-length', '5']]),
    body: 'hello',
    fine: true,
  },
  {
    name: 'CONNECT',
    fields: [
      [':method', 'CONNECT'],
      [':authority', 'a.example:443'],
    ],
    fine: true,
  },
  {
    name: 'CONNECT without a port',
    fields: [
      [':method', 'CONNECT'],
      [':authority', 'a.example'],
    ],
  },
  { name: 'CONNECT without :authority', fields: [[':method', 'CONNECT']] },
  {
    name: 'CONNECT with :path',
    fields: [
      [':method', 'CONNECT'],
      [':authority', 'a:1'],
      [':path', '/'],
    ],
  },
  {
    name: 'CONNECT with :scheme',
    fields: [
      [':method', 'CONNECT'],
      [':authority', 'a:1'],
      [':scheme', 'http'],
    ],
  },
  {
    name: 'CONNECT with a length',
    fields: [
      [':method', 'CONNECT'],
      [':authority', 'a:1'],
      ['content-length', '5'],
    ],
  },
  { name: ':protocol that was not announced', fields: [...request('CONNECT'), [':protocol', 'websocket']] },
  { name: ':protocol on GET', fields: [...get(), [':protocol', 'websocket']] },
]

function feed(rig: SessionRig, row: Row): void {
  for (const bytes of row.bytes) {
    rig.feed(bytes)
    if (!row.answers) continue
    for (const log of rig.requests) log.stream!.respond(204, log.headers!, true)
  }
}

/** RST_STREAM and GOAWAY among what was written, and nothing of the other kind. */
function check(t: Test, rig: SessionRig, outcome: Outcome, name: string): void {
  const frames = rig.take()
  const resets = frames.filter((f) => f.type === T.RST_STREAM).map(describe)
  const goaways = frames.filter((f) => f.type === T.GOAWAY)
  if (outcome === 'fine') {
    t.same([resets, goaways.map(describe), rig.failure], [[], [], undefined], name)
  } else if ('connection' in outcome) {
    t.equal(goaways.length === 1 ? goaways[0].payload.readUInt32BE(4) : -1, outcome.connection, name)
    t.equal(rig.failure?.code, outcome.connection, `${name}: the owner knows`)
    t.equal(rig.session.failed, true)
  } else {
    t.same([resets, goaways.map(describe)], [[`RST_STREAM ${outcome.stream} code ${outcome.code}`], []], name)
    // The connection goes on.
    rig.feed(ping('still up'))
    t.same(rig.taken(), ['PING ACK'], `${name}: the connection lives`)
  }
}

t.test('every broken frame has the error that RFC 9113 names', async (t) => {
  for (const row of FRAMES) {
    const rig = SessionRig.ready({ config: { maxConcurrentStreams: 2 } })
    feed(rig, row)
    check(t, rig, row.outcome, row.name)
  }
})

t.test('the same, whole in one packet and byte by byte', async (t) => {
  for (const row of FRAMES) {
    if (row.answers) continue
    const bytes = Buffer.concat([PREFACE, settings(), settingsAck(), ...row.bytes])
    const feeds = [[bytes], Array.from(bytes, (byte) => Buffer.from([byte]))]
    if (bytes.length > 16000) feeds.pop()
    for (const pieces of feeds) {
      const rig = new SessionRig({ config: { maxConcurrentStreams: 2 } })
      rig.session.start()
      rig.feed(...pieces)
      check(t, rig, row.outcome, `${row.name} in ${pieces.length}`)
    }
  }
})

t.test('the preface and what follows it', async (t) => {
  const rows: readonly (readonly [string, readonly Buffer[]])[] = [
    ['another protocol', [Buffer.from('GET / HTTP/1.1\r\nhost: a\r\n\r\n')]],
    ['a preface that differs in its last byte', [Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r')]],
    ['no SETTINGS', [PREFACE, ping()]],
    ['an acknowledgement instead of SETTINGS', [PREFACE, settingsAck()]],
    ['HEADERS first', [PREFACE, headers(1, get(), true)]],
  ]
  for (const [name, bytes] of rows) {
    const rig = new SessionRig()
    rig.session.start()
    rig.feed(...bytes)
    check(t, rig, connection(PROTOCOL_ERROR), name)
    t.equal(rig.stats.protocolErrors.v, 1)
  }
})

t.test('a malformed request is a stream error, or by default the end of the connection', async (t) => {
  for (const { name, fields, body, fine } of REQUESTS) {
    for (const streamError of [true, false]) {
      const rig = SessionRig.ready({ config: { streamErrorOnInvalidMessage: streamError } })
      rig.feed(headers(1, fields, body === undefined))
      if (body !== undefined) rig.feed(data(1, body, true))
      const bad = streamError ? stream(1, PROTOCOL_ERROR) : connection(PROTOCOL_ERROR)
      check(t, rig, fine ? 'fine' : bad, `${name}, ${streamError ? 'stream' : 'connection'}`)
      t.equal(rig.stats.rxMessagingError.v, fine ? 0 : 1, name)
      // Nobody has been handed a request that is malformed; one that turned out so has been told.
      if (!fine && body === undefined) t.same(rig.requests, [], name)
      if (!fine && body !== undefined) t.match(rig.requests[0].lines.at(-1), /^reset/, name)
      if (fine) t.equal(rig.requests[0].ended || rig.requests[0].lines.at(-1) === 'data 5 end', true, name)
    }
  }
})

t.test('what a request is handed on as', async (t) => {
  const rig = SessionRig.ready({ config: { allowConnect: true } })
  const more: Fields = [
    ['cookie', 'a=1'],
    ['x', '1'],
    ['host', 'A.EXAMPLE'],
    ['cookie', 'b=2'],
    ['te', 'Trailers'],
    ['cookie', 'c=3'],
    ['y', ''],
  ]
  rig.feed(headers(1, get('/p?q', more), true))
  t.same(rig.requests[0].head, {
    method: 'GET',
    scheme: 'http',
    authority: 'a.example',
    path: '/p?q',
    protocol: undefined,
  })
  t.same(rig.requests[0].headers!.raw, ['cookie', 'a=1; b=2; c=3', 'x', '1', 'te', 'trailers', 'y', ''])
  rig.feed(
    headers(
      3,
      [
        [':path', '/'],
        [':method', 'GET'],
        [':scheme', 'HTTPS'],
        ['host', 'h:8080'],
      ],
      true,
    ),
  )
  t.same(rig.requests[1].head, { method: 'GET', scheme: 'https', authority: 'h:8080', path: '/', protocol: undefined })
  t.same(rig.requests[1].headers!.raw, [])
  rig.feed(
    headers(5, [
      [':method', 'CONNECT'],
      [':authority', 'a:443'],
      ['content-length', '0'],
    ]),
  )
  t.same(rig.requests[2].head, { method: 'CONNECT', scheme: '', authority: 'a:443', path: '', protocol: undefined })
  t.same(rig.requests[2].headers!.raw, [])
  rig.feed(headers(7, [...request('CONNECT', '/chat'), [':protocol', 'websocket'], ['sec-websocket-version', '13']]))
  t.same(rig.requests[3].head, {
    method: 'CONNECT',
    scheme: 'http',
    authority: 'a.example',
    path: '/chat',
    protocol: 'websocket',
  })
  rig.feed(
    headers(
      9,
      [
        [':method', 'GET'],
        [':scheme', 'http'],
        [':path', '/'],
      ],
      true,
    ),
  )
  t.equal(rig.requests[4].head!.authority, '')
  t.equal(rig.requests[0].stream!.receivedHeaderBytes, headerBlock(get('/p?q', more)).length)
})

t.test('trailers of a request: the same rules, and a few names less', async (t) => {
  const bad: readonly Fields[] = [
    [[':path', '/']],
    [[':status', '200']],
    [['Upper', 'x']],
    [['connection', 'close']],
    [['te', 'trailers']],
    [['host', 'a']],
    [['content-length', '5']],
    [['a', 'b\r\nc']],
  ]
  for (const fields of bad) {
    const rig = SessionRig.ready()
    rig.feed(open, headers(1, fields, true))
    check(t, rig, stream(1, PROTOCOL_ERROR), String(fields))
    t.match(rig.requests[0].lines, ['reset 1 protocol processed'])
  }
  const endless = SessionRig.ready()
  endless.feed(open, headers(1, [['a', 'b']]))
  check(t, endless, stream(1, PROTOCOL_ERROR), 'without END_STREAM')
  const short = SessionRig.ready()
  short.feed(
    headers(1, request('POST', '/', [['content-length', '5']])),
    data(1, 'four'),
    headers(1, [['a', 'b']], true),
  )
  check(t, short, stream(1, PROTOCOL_ERROR), 'before the announced length')
  const good = SessionRig.ready()
  good.feed(open, data(1, 'x'), headers(1, [['grpc-status', '0']], true))
  t.same(good.requests[0].lines, ['data 1', 'trailers grpc-status 0'])
  t.equal(good.stats.trailers.v, 1)
})

t.test('a list over the limit is answered with 431 and nobody hears of it', async (t) => {
  const big: Fields = get('/', [['a', 'x'.repeat(3000)]])
  const many: Fields = get(
    '/',
    Array.from({ length: 30 }, (_, i) => [`a${i}`, 'b'] as const),
  )
  for (const fields of [big, many]) {
    const rig = SessionRig.ready({ maxHeaderListBytes: 2048, maxHeaders: 20 })
    rig.feed(headers(1, fields, true), headers(3, fields))
    const frames = rig.take()
    t.match(frames.map(describe), [/^HEADERS 1 \+END_STREAM/, /^HEADERS 3 \+END_STREAM/, 'RST_STREAM 3 code 0'])
    // :status 431 as a literal with the name of entry 8.
    t.match(frames[0].payload.toString('latin1'), /^H/)
    t.equal(rig.requests.length, 0)
    t.equal(rig.stats.headerOverflow.v, 2)
    rig.feed(headers(5, get(), true), data(3, 'late'), headers(3, [['late', 'trailer']], true))
    t.equal(rig.requests.length, 1)
    t.same(rig.taken(), [])
  }
  const trailers = SessionRig.ready({ maxHeaders: 20 })
  trailers.feed(
    open,
    headers(
      1,
      Array.from({ length: 30 }, (_, i) => [`a${i}`, 'b'] as const),
      true,
    ),
  )
  check(t, trailers, stream(1, Http2Code.ENHANCE_YOUR_CALM), 'trailers')
})

const OK: Fields = [[':status', '200']]

/** Responses that break §8, with the method asked for. */
const RESPONSES: readonly {
  readonly name: string
  readonly bytes: readonly Buffer[]
  readonly method?: string
  readonly outcome?: Outcome
}[] = [
  { name: 'a response', bytes: [headers(1, OK, true)], outcome: 'fine' },
  { name: 'no :status', bytes: [headers(1, [['a', 'b']], true)] },
  { name: 'nothing at all', bytes: [headers(1, [], true)] },
  {
    name: ':status behind a field',
    bytes: [
      headers(
        1,
        [
          ['a', 'b'],
          [':status', '200'],
        ],
        true,
      ),
    ],
  },
  {
    name: ':status twice',
    bytes: [
      headers(
        1,
        [
          [':status', '200'],
          [':status', '200'],
        ],
        true,
      ),
    ],
  },
  {
    name: ':path in a response',
    bytes: [
      headers(
        1,
        [
          [':status', '200'],
          [':path', '/'],
        ],
        true,
      ),
    ],
  },
  { name: 'two digits', bytes: [headers(1, [[':status', '20']], true)] },
  { name: 'no digits', bytes: [headers(1, [[':status', '2x0']], true)] },
  { name: 'below 100', bytes: [headers(1, [[':status', '099']], true)] },
  { name: '101', bytes: [headers(1, [[':status', '101']])] },
  { name: '100 with END_STREAM', bytes: [headers(1, [[':status', '100']], true)] },
  {
    name: 'a connection field',
    bytes: [
      headers(
        1,
        [
          [':status', '200'],
          ['connection', 'close'],
        ],
        true,
      ),
    ],
  },
  {
    name: 'te',
    bytes: [
      headers(
        1,
        [
          [':status', '200'],
          ['te', 'trailers'],
        ],
        true,
      ),
    ],
  },
  { name: 'DATA before HEADERS', bytes: [data(1, 'x', true)] },
  { name: 'DATA after 103', bytes: [headers(1, [[':status', '103']]), data(1, 'x', true)] },
  { name: 'trailers without END_STREAM', bytes: [headers(1, OK), headers(1, [['a', 'b']])] },
  { name: 'a second :status', bytes: [headers(1, OK), headers(1, OK, true)] },
  { name: 'too little', bytes: [headers(1, [...OK, ['content-length', '5']]), data(1, 'four', true)] },
  { name: 'too much', bytes: [headers(1, [...OK, ['content-length', '3']]), data(1, 'four', true)] },
  { name: 'a length and END_STREAM', bytes: [headers(1, [...OK, ['content-length', '5']], true)] },
  {
    name: 'a length for HEAD',
    method: 'HEAD',
    bytes: [headers(1, [...OK, ['content-length', '5']], true)],
    outcome: 'fine',
  },
  {
    name: 'a body for HEAD',
    method: 'HEAD',
    bytes: [headers(1, [...OK, ['content-length', '4']]), data(1, 'four', true)],
  },
  {
    name: 'a length for 304',
    bytes: [
      headers(
        1,
        [
          [':status', '304'],
          ['content-length', '5'],
        ],
        true,
      ),
    ],
    outcome: 'fine',
  },
  { name: 'a body for 204', bytes: [headers(1, [[':status', '204']]), data(1, 'x', true)] },
  {
    name: 'a length for a tunnel',
    method: 'CONNECT',
    bytes: [headers(1, [...OK, ['content-length', '5']]), data(1, 'longer than that', true)],
    outcome: 'fine',
  },
  { name: 'trailers in a tunnel', method: 'CONNECT', bytes: [headers(1, OK), headers(1, [['a', 'b']], true)] },
  { name: 'HEADERS on an idle stream', bytes: [headers(3, OK, true)], outcome: connection(PROTOCOL_ERROR) },
  { name: 'HEADERS on an even stream', bytes: [headers(2, OK, true)], outcome: connection(PROTOCOL_ERROR) },
  {
    name: 'PUSH_PROMISE',
    bytes: [frame(T.PUSH_PROMISE, 4, 1, Buffer.concat([Buffer.from([0, 0, 0, 2]), headerBlock(get())]))],
    outcome: connection(PROTOCOL_ERROR),
  },
  { name: 'ENABLE_PUSH 1 of a server', bytes: [settings([2, 1])], outcome: connection(PROTOCOL_ERROR) },
  { name: 'ENABLE_PUSH 0 of a server', bytes: [settings([2, 0])], outcome: 'fine' },
  {
    name: 'PRIORITY_UPDATE of a server',
    bytes: [frame(T.PRIORITY_UPDATE, 0, 0, '\0\0\0\x01u=1')],
    outcome: connection(PROTOCOL_ERROR),
  },
  { name: 'DATA after END_STREAM', bytes: [headers(1, OK, true), data(1, 'x')], outcome: connection(STREAM_CLOSED) },
]

t.test('a client looks at responses the same way', async (t) => {
  for (const { name, bytes, method, outcome } of RESPONSES) {
    const rig = SessionRig.ready({ role: 'client' })
    const log = rig.request({ method: method ?? 'GET' }, method !== 'CONNECT')!
    rig.take()
    rig.feed(...bytes)
    check(t, rig, outcome ?? stream(1, PROTOCOL_ERROR), name)
    if (outcome === undefined) t.equal(log.lines.at(-1), 'reset 1 protocol processed', name)
    t.equal(log.lines.filter((line) => line.startsWith('reset')).length, log.reset === undefined ? 0 : 1)
  }
})

t.test('ten interim responses and no more', async (t) => {
  const rig = SessionRig.ready({ role: 'client' })
  const log = rig.request()!
  rig.take()
  for (let i = 0; i < 10; i++)
    rig.feed(
      headers(1, [
        [':status', '103'],
        ['link', '</a>'],
      ]),
    )
  t.equal(log.lines.length, 10)
  t.equal(log.lines[0], 'informational 103 link </a>')
  t.same(rig.taken(), [])
  rig.feed(headers(1, [[':status', '103']]))
  check(t, rig, stream(1, Http2Code.ENHANCE_YOUR_CALM), 'the eleventh')
})

t.test(
  '4.2 larger frames where they were announced: DATA of any such length, HEADERS no longer than fields may be',
  async (t) => {
    const MIB = 1024 * 1024
    const begun = (): SessionRig =>
      SessionRig.ready({
        config: { maxFrameBytes: MIB, initialStreamWindowBytes: 4 * MIB, initialConnectionWindowBytes: 4 * MIB },
        maxHeaderListBytes: 64 * 1024,
      })
    const feed = (rig: SessionRig, bytes: Buffer): void => {
      // As the network brings them: in pieces, whose ends are nobody's business.
      for (let at = 0; at < bytes.length; at += 60_001) rig.feed(bytes.subarray(at, at + 60_001))
    }
    const rig = begun()
    rig.feed(open)
    feed(rig, frame(T.DATA, 0, 1, Buffer.alloc(MIB, 'x')))
    feed(rig, frame(0x42, 0, 0, Buffer.alloc(MIB)))
    feed(
      rig,
      frame(T.DATA, FLAG.PADDED | FLAG.END_STREAM, 1, Buffer.concat([Buffer.from([255]), Buffer.alloc(MIB - 1)])),
    )
    t.equal(rig.failure, undefined)
    t.equal(rig.requests[0].text.length, 2 * MIB - 256)
    t.ok(rig.requests[0].ended)
    const wide = begun()
    const fields: Fields = [...get(), ['x-wide', '~'.repeat(30_000)]]
    feed(wide, headers(1, fields, true))
    t.equal(wide.failure, undefined)
    t.equal(wide.requests.length, 1)
    for (const tooLong of [
      frame(T.DATA, 0, 1, Buffer.alloc(MIB + 1)),
      frame(0x42, 0, 0, Buffer.alloc(MIB + 1)),
      // Only the head of a frame: nothing is set aside for the rest.
      frame(T.HEADERS, 4, 3, Buffer.alloc(64 * 1024 + 1)).subarray(0, 9),
      frame(T.CONTINUATION, 4, 3, Buffer.alloc(64 * 1024 + 1)).subarray(0, 9),
      frame(0x10, 0, 0, Buffer.alloc(64 * 1024 + 1)).subarray(0, 9),
    ]) {
      const strict = begun()
      strict.feed(open)
      feed(strict, tooLong)
      t.equal(strict.failure?.code, FRAME_SIZE_ERROR)
    }
  },
)
