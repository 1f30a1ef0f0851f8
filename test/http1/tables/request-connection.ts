import { accept, forwarded, get, HOP_BY_HOP, head, post, type RequestCase, reject, row } from './case.ts'

const CONNECTION = 'hop-by-hop'
const UPGRADE = 'Upgrade'
const EXPECT = 'Expect'
const PIPELINE = 'pipelining'

/** A Connection field may not name these: to strip them would change framing, routing, identity or trust. */
const protectedNames: readonly string[] = [
  'Host',
  'Content-Length',
  'Transfer-Encoding',
  'Authorization',
  'Cookie',
  'X-Forwarded-For',
  'X-Forwarded-Proto',
  'X-Forwarded-Host',
  'Forwarded',
  'X-Request-Id',
  'X-Envoy-External-Address',
  ':path',
]

const next = head('GET /2 HTTP/1.1', 'Host: a.example')
const second = accept({ target: '/2' })

const stripped = accept({ fields: [['x-keep', '1']], absent: ['x-hop'] })
const h2c = ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAAP__']
const ws = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
]
const continued = accept({ method: 'POST', framing: 'length', body: 'hello' })

/** Rows on what belongs to the connection: persistence, hop-by-hop fields, upgrades, expectations, pipelining. */
export const requestConnectionCases: readonly RequestCase[] = [
  row(CONNECTION, 'a connection is kept', get() + next, accept(), { after: [second] }),
  row(
    CONNECTION,
    'close: what follows is never looked at',
    get('Connection: close') + next,
    accept({ keepAlive: false }),
  ),
  row(CONNECTION, 'CLOSE in capitals', get('Connection: CLOSE'), accept({ keepAlive: false })),
  row(CONNECTION, 'close within a list', get('Connection: foo , close'), accept({ keepAlive: false })),
  row(
    CONNECTION,
    'close in a second field',
    get('Connection: keep-alive', 'Connection: close'),
    accept({ keepAlive: false }),
  ),
  row(CONNECTION, 'close wins over keep-alive', get('Connection: close, keep-alive'), accept({ keepAlive: false })),
  row(
    CONNECTION,
    'keep-alive is nothing new',
    get('Connection: keep-alive', 'Keep-Alive: timeout=5') + next,
    accept({ absent: ['keep-alive'] }),
    { after: [second] },
  ),
  row(CONNECTION, 'empty list elements', get('Connection: , keep-alive, ,'), accept()),
  row(CONNECTION, 'a word that only begins with close', get('Connection: closed'), accept()),
  row(CONNECTION, 'what it lists is stripped', get('Connection: X-Hop', 'X-Hop: 1', 'X-Keep: 1'), stripped),
  row(
    CONNECTION,
    'what it lists in another case is stripped',
    get('X-HOP: 1', 'connection: x-hOp', 'X-Keep: 1'),
    stripped,
  ),
  row(
    CONNECTION,
    'every field of a listed name is stripped',
    get('X-Hop: 1', 'X-Keep: 1', 'X-Hop: 2', 'Connection: x-hop'),
    stripped,
  ),
  row(CONNECTION, 'TE may be listed', get('Connection: TE', 'TE: trailers'), accept(), {
    upstream: [forwarded(accept())],
  }),
  row(CONNECTION, 'TE without trailers goes no further', get('Connection: TE', 'TE: gzip'), accept({ absent: ['te'] })),
  row(
    CONNECTION,
    'Proxy-Connection is stripped',
    get('Proxy-Connection: keep-alive'),
    accept({ absent: ['proxy-connection'] }),
  ),
  ...protectedNames.map((name) =>
    row(CONNECTION, `Connection: ${name} is refused`, get(`Connection: ${name}`), reject(400)),
  ),
  row(
    CONNECTION,
    'a protected name within a list is refused',
    get('Connection: keep-alive, content-length'),
    reject(400),
  ),
  row(
    CONNECTION,
    'a protected name in a second field is refused',
    get('Connection: keep-alive', 'Connection: Host'),
    reject(400),
  ),
  row(
    CONNECTION,
    'Connection: Content-Length with a body is refused',
    `${post('Connection: Content-Length', 'Content-Length: 5')}hello`,
    reject(400),
  ),
  row(CONNECTION, 'a listed word that is no token is refused', get('Connection: x y'), reject(400)),
  row(CONNECTION, 'a quoted word is refused', get('Connection: "close"'), reject(400)),
  row(UPGRADE, 'h2c is stripped and answered in HTTP/1', get(...h2c), accept({ absent: HOP_BY_HOP })),
  row(
    UPGRADE,
    'h2c with a body',
    `${post(...h2c, 'Content-Length: 5')}hello`,
    accept({ method: 'POST', framing: 'length', body: 'hello', absent: HOP_BY_HOP }),
  ),
  row(
    UPGRADE,
    'h2c, and the preface behind it',
    `${get(...h2c)}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`,
    accept({ absent: HOP_BY_HOP }),
    { after: [reject(505)], upstream: [forwarded(accept())] },
  ),
  row(UPGRADE, 'h2c in capitals', get('Connection: upgrade', 'Upgrade: H2C'), accept({ absent: HOP_BY_HOP })),
  row(
    UPGRADE,
    'HTTP2-Settings alone is stripped',
    get('HTTP2-Settings: AAMAAABk'),
    accept({ absent: ['http2-settings'] }),
  ),
  row(
    UPGRADE,
    'without a Connection that lists it, it is nothing',
    get('Upgrade: websocket'),
    accept({ absent: ['upgrade'] }),
  ),
  row(UPGRADE, 'a Connection that lists it without the field is nothing', get('Connection: Upgrade'), accept()),
  row(UPGRADE, 'websocket is refused unless enabled', get(...ws), reject(403, 'policy')),
  row(UPGRADE, 'another protocol is refused', get('Connection: upgrade', 'Upgrade: TLS/1.3'), reject(403, 'policy')),
  row(
    UPGRADE,
    'a protected name beside it is refused',
    get('Connection: Upgrade, Host', 'Upgrade: websocket'),
    reject(400),
  ),
  row(EXPECT, '100-continue is answered by us', `${post('Expect: 100-continue', 'Content-Length: 5')}hello`, continued),
  row(EXPECT, '100-continue in capitals', `${post('Expect: 100-Continue', 'Content-Length: 5')}hello`, continued),
  row(EXPECT, '100-continue without a body is nothing', get('Expect: 100-continue'), accept()),
  row(EXPECT, 'an unknown expectation', `${post('Expect: 200-ok', 'Content-Length: 5')}hello`, reject(417, 'policy')),
  row(
    EXPECT,
    'a list with an unknown expectation',
    `${post('Expect: 100-continue, x', 'Content-Length: 5')}hello`,
    reject(417, 'policy'),
  ),
  row(EXPECT, 'an empty expectation', `${post('Expect:', 'Content-Length: 5')}hello`, reject(417, 'policy')),
  row(
    EXPECT,
    'two expectations, one unknown',
    `${post('Expect: 100-continue', 'Expect: x', 'Content-Length: 5')}hello`,
    reject(417, 'policy'),
  ),
  row(PIPELINE, 'three requests in one segment', `${get()}${post('Content-Length: 5')}hello${next}`, accept(), {
    after: [accept({ method: 'POST', framing: 'length', body: 'hello' }), second],
  }),
  row(PIPELINE, 'garbage behind a request', `${get()}GARBAGE\r\n\r\n`, accept(), { after: [reject(400)] }),
  row(PIPELINE, 'zero bytes behind a request', `${get()}\0\0\0\0`, accept(), { after: [reject(400)] }),
  row(PIPELINE, 'a bad request behind a good one, a good one behind that', `${get()}${get('X : y')}${next}`, accept(), {
    after: [reject(400)],
  }),
  row(PIPELINE, 'half a request behind a whole one', `${get()}GET /2 HT`, accept(), {
    after: [{ kind: 'unfinished', in: 'head' }],
  }),
  row(PIPELINE, 'nothing is dispatched behind a refused request', `${get('Content-Length: 05')}${next}`, reject(400)),
]
