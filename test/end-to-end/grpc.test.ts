import t, { type Test } from 'tap'
import { TestGateway } from '../support/gateway.ts'
import { bootstrap, cluster, type Fields } from './bootstrap.ts'
import {
  type Ask,
  ask,
  BRIDGE,
  BRIDGE_ASKS,
  framed,
  type Said,
  STATS,
  startGrpcServer,
  WEB,
  WEB_ASKS,
} from './grpc-peers.ts'
import { TO_HTTP2 } from './tunnel-lane.ts'

/**
 * gRPC filters through a whole gateway: HTTP/1 clients, a gRPC server of an independent implementation behind HTTP/2. What
 * is expected here is what Envoy answered to the same requests, but for words, and for the bridge's 503s and content-types, which are the filter's own (filters/grpc-http1-bridge).
 */

async function gateway(t: Test, filters: readonly Fields[]): Promise<TestGateway> {
  const server = await startGrpcServer()
  const made = await TestGateway.start(bootstrap({ filters, clusters: [cluster('origin', server.port, TO_HTTP2)] }))
  t.teardown(async () => {
    await made.close()
    server.close()
  })
  return made
}

function header(said: Said, name: string): string | undefined {
  const found = said.headers.filter(([n]) => n === name)
  return found.length === 0 ? undefined : found.map(([, value]) => value).join(' | ')
}

/** A gRPC-Web body: messages as `flag:text`, long ones by their length; the trailers' lines at its end. */
function messages(body: Buffer): string[] {
  const out: string[] = []
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32BE(at + 1)
    const text = body.toString('latin1', at + 5, at + 5 + length)
    out.push(`${body[at]}:${length > 1_000 ? length : text}`)
    at += 5 + length
  }
  return out
}

/** Groups of base64 that are padded one by one. */
function unpacked(text: string): Buffer {
  return Buffer.concat((text.match(/[^=]+=*/g) ?? []).map((part) => Buffer.from(part, 'base64')))
}

const OK = '128:grpc-status:0\r\ngrpc-message:OK\r\nx-trailing:t\r\n'
const COUNTED = '128:grpc-status:0\r\ngrpc-message:OK\r\n'
const LOST = '128:grpc-status:15\r\ngrpc-message:lost\r\n'
const BAD = 'invalid base64 in a gRPC-Web request'
const WHY = 'n%C3%A3o%20hoje:%20100%25'
const NOTHING = 'The server does not implement the method /test.Peer/Nothing'

type Expected = readonly [status: number, grpcStatus: string | undefined, message: string | undefined, body: string[]]

/** In the order of `WEB_ASKS`. */
const WEB_EXPECTED: readonly Expected[] = [
  [200, undefined, undefined, ['0:hello', OK]],
  [200, undefined, undefined, ['0:', OK]],
  [200, undefined, undefined, ['0:200000', OK]],
  [200, undefined, undefined, ['0:hello', OK]],
  [200, '12', undefined, []],
  [200, undefined, undefined, ['0:accepts bytes', OK]],
  [400, '13', BAD, []],
  [400, '13', BAD, []],
  [200, '9', WHY, []],
  [200, '9', WHY, []],
  [200, undefined, undefined, ['0:', '0:B', '0:CC', '0:DDD', COUNTED]],
  [200, undefined, undefined, ['0:', '0:B', '0:CC', '0:DDD', '0:EEEE', COUNTED]],
  [200, '0', 'OK', []],
  [200, undefined, undefined, ['0:', '0:B', '0:CC', LOST]],
  [200, undefined, undefined, ['0:', '0:B', '0:CC', LOST]],
  [200, '12', NOTHING, []],
  [200, '12', NOTHING, []],
]

t.test('gRPC-Web: what clients may ask, and what they hear', async (t) => {
  const made = await gateway(t, [WEB, STATS])
  for (const [i, what] of WEB_ASKS.entries()) {
    const said = await ask(made.port(), what)
    const [status, grpcStatus, message, body] = WEB_EXPECTED[i]
    const text = what.headers.accept?.startsWith('application/grpc-web-text') === true
    t.equal(said.status, status, `${i} ${what.name}`)
    t.equal(header(said, 'grpc-status'), grpcStatus)
    if (message !== undefined) t.equal(header(said, 'grpc-message'), message)
    t.equal(header(said, 'content-type'), `application/grpc-web${text ? '-text' : ''}+proto`)
    t.same(messages(text ? unpacked(said.body.toString('latin1')) : said.body), body)
    t.same(said.trailers, {})
  }
  const count = (name: string): number => made.stat(`cluster.origin.grpc.test.Peer.${name}`)
  t.equal(count('Echo.0'), 5)
  t.equal(count('Echo.total'), 6)
  t.equal(count('Refuse.9'), 2)
  t.equal(count('Count.success'), 3)
  t.equal(count('Count.15'), 2)
  t.equal(count('Count.request_message_count'), 5)
  t.equal(count('Count.response_message_count'), 4 + 5 + 3 + 3)
  t.equal(made.stat('cluster.origin.grpc-web.test.Peer.Echo.success'), 5)
})

/** In the order of `BRIDGE_ASKS`; bodies without frames where they went without. */
const BRIDGE_EXPECTED: readonly (readonly [status: number, grpcStatus: string, message: string, body: Buffer])[] = [
  [200, '0', 'OK', framed('hello')],
  [200, '0', 'OK', framed('')],
  [200, '0', 'OK', framed(Buffer.alloc(200_000, 'x'))],
  [503, '9', WHY, Buffer.alloc(0)],
  [200, '0', 'OK', Buffer.concat([framed(''), framed('B'), framed('CC'), framed('DDD')])],
  [503, '15', 'lost', Buffer.concat([framed(''), framed('B'), framed('CC')])],
  [503, '12', NOTHING, Buffer.alloc(0)],
  [200, '0', 'OK', Buffer.from('hello')],
  [200, '0', 'OK', Buffer.alloc(0)],
  [503, '9', WHY, Buffer.alloc(0)],
  [503, '12', NOTHING, Buffer.alloc(0)],
]

t.test('the HTTP/1 bridge: calls with and without frames', async (t) => {
  const made = await gateway(t, [BRIDGE, STATS])
  for (const [i, what] of BRIDGE_ASKS.entries()) {
    const said = await ask(made.port(), what)
    const [status, grpcStatus, message, body] = BRIDGE_EXPECTED[i]
    t.equal(said.status, status, `${i} ${what.name}`)
    t.equal(header(said, 'grpc-status'), grpcStatus)
    t.equal(header(said, 'grpc-message'), message)
    t.equal(header(said, 'content-length'), String(body.length))
    t.ok(said.body.equals(body))
    t.same(said.trailers, {})
  }
  const count = (name: string): number => made.stat(`cluster.origin.grpc.test.Peer.${name}`)
  t.equal(count('Echo.success'), 5)
  t.equal(count('Refuse.failure'), 2)
  t.equal(count('Count.total'), 2)
  t.equal(count('Nothing.12'), 2)
})

t.test('a call whose status a filter sees twice is counted once', async (t) => {
  // In front of the bridge: the status stands in the headers that it made, and in the trailers.
  const made = await gateway(t, [STATS, BRIDGE])
  const calls: readonly Ask[] = BRIDGE_ASKS.slice(0, 2)
  for (const what of calls) t.equal((await ask(made.port(), what)).status, 200)
  t.equal(made.stat('cluster.origin.grpc.test.Peer.Echo.total'), 2)
})
