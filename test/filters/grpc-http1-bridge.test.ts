import t from 'tap'
import { grpcHttp1Bridge } from '../../filters/grpc-http1-bridge/index.ts'
import type { HttpFilter } from '../../lib/chain/filter.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { Protocol } from '../../lib/core/head.ts'
import { Headers } from '../../lib/core/headers.ts'
import { build, type Driven, type DriveOptions, drive, lines, parseJson } from '../support/chain-driver.ts'
import { settle } from '../support/clock.ts'
import { everyFeed } from '../support/splits.ts'

const GRPC = ['content-type', 'application/grpc']
const PROTOBUF = ['content-type', 'application/x-protobuf']
const UPGRADE = { upgrade_protobuf_to_grpc: true }
const CALL = { method: 'POST', path: '/pkg.Greeter/Hello?a=b' }

function frame(message: string, flag = 0): Buffer {
  const body = Buffer.from(message)
  const prefix = Buffer.alloc(5)
  prefix[0] = flag
  prefix.writeUInt32BE(body.length, 1)
  return Buffer.concat([prefix, body])
}

function call(config: JsonObject = {}, more: Partial<DriveOptions> = {}, protocol: Protocol = 'HTTP/1.1'): Driven {
  const first: HttpFilter<unknown> = {
    createState: (stream) => {
      stream.info.protocol = protocol
    },
  }
  const bridge = build(grpcHttp1Bridge, config)
  return drive({ filters: [first, bridge], head: CALL, request: GRPC, end: false, ...more })
}

interface Answer {
  readonly status?: number
  readonly headers?: readonly string[]
  readonly body?: readonly Buffer[]
  /** Undefined: the last piece of the body ends the response. */
  readonly trailers?: readonly string[] | undefined
}

async function answer(driven: Driven, how: Answer): Promise<void> {
  const { exchange } = driven.upstream
  if (exchange === undefined) throw new Error('nothing was forwarded')
  const { status = 200, headers = GRPC, body = [], trailers } = how
  exchange.upstreamHeaders(status, new Headers([...headers]), false)
  for (const piece of body) exchange.upstreamData(piece, false)
  if (trailers === undefined) exchange.upstreamData(Buffer.alloc(0), true)
  else exchange.upstreamTrailers(new Headers([...trailers]))
  await settle(2)
}

t.test('trailers are lifted into headers, and the response has a length', async (t) => {
  const body = Buffer.concat([frame('hello'), frame('')])
  for (const pieces of everyFeed(body, 5, 20)) {
    const driven = call()
    await answer(driven, { body: pieces, trailers: ['grpc-status', '0', 'grpc-message', 'ok', 'x-other', '1'] })
    t.equal(driven.downstream.status, 200)
    t.same(lines(driven.downstream.headers), [
      'content-type: application/grpc',
      'grpc-status: 0',
      'grpc-message: ok',
      `content-length: ${body.length}`,
    ])
    t.same(Buffer.concat(driven.downstream.chunks), body)
    t.ok(driven.downstream.ended)
    t.equal(driven.ends(), 1)
  }
})

t.test('nothing reaches the client before the trailers are there', async (t) => {
  const driven = call()
  const { exchange } = driven.upstream
  exchange?.upstreamHeaders(200, new Headers([...GRPC]), false)
  exchange?.upstreamData(frame('x'), false)
  await settle(2)
  t.equal(driven.downstream.status, 0)
  exchange?.upstreamTrailers(new Headers(['grpc-status', '0']))
  await settle(2)
  t.equal(driven.downstream.status, 200)
  t.equal(driven.exchange.responseTrailers?.get('grpc-status'), '0', 'logs read the trailers')
})

t.test('a call that failed is a 503, with what it said', async (t) => {
  for (const status of ['5', '16', '99', 'x', '']) {
    const driven = call()
    await answer(driven, { body: [frame('half')], trailers: ['grpc-status', status, 'grpc-message', 'no%20way'] })
    t.equal(driven.downstream.status, 503, status)
    t.equal(driven.downstream.headers.get('grpc-status'), status)
    t.equal(driven.downstream.headers.get('grpc-message'), 'no%20way')
    t.equal(driven.downstream.headers.get('content-length'), '9')
  }
  for (const [status, expected] of [
    ['12', 503],
    ['0', 200],
  ] as const) {
    const only = call()
    only.upstream.respond(200, [...GRPC, 'grpc-status', status])
    t.equal(only.downstream.status, expected, 'headers alone')
    t.equal(only.downstream.headers.get('grpc-status'), status)
    t.ok(only.downstream.ended)
  }
})

t.test('a response without trailers, or that is no gRPC, arrives as it is', async (t) => {
  const bare = call()
  await answer(bare, { body: [frame('x')] })
  t.same([bare.downstream.status, bare.downstream.headers.get('grpc-status')], [200, undefined])
  t.equal(bare.downstream.headers.get('content-length'), '6')
  const html = call({}, { bufferLimit: 2 })
  await answer(html, { status: 404, headers: ['content-type', 'text/html'], body: [Buffer.from('<p>')] })
  t.same([html.downstream.status, html.downstream.body], [404, '<p>'])
  t.same(lines(html.downstream.headers), ['content-type: text/html'], 'nothing of it was held')
})

t.test('a response beyond the buffer limit is not forwarded', async (t) => {
  const driven = call({}, { bufferLimit: 100 })
  await answer(driven, { body: [Buffer.alloc(60), Buffer.alloc(60)] })
  t.equal(driven.downstream.headers.get('grpc-status'), '2')
  t.equal(driven.exchange.info.details, 'response_payload_too_large')
  t.same([driven.downstream.body, driven.ends(), driven.upstream.cancelled], ['', 1, 1])
  const plain = call(UPGRADE, { bufferLimit: 100, request: PROTOBUF })
  plain.send('x', true)
  await settle(1)
  await answer(plain, { body: [Buffer.alloc(60), Buffer.alloc(60)] })
  t.equal(plain.downstream.status, 500)
})

t.test('HTTP/2, other content and upgrades pass untouched', async (t) => {
  const calls = [
    call({ ...UPGRADE, ignore_query_parameters: true }, {}, 'HTTP/2'),
    call({ ...UPGRADE, ignore_query_parameters: true }, { request: PROTOBUF }, 'HTTP/2'),
    call({ ignore_query_parameters: true }, { request: PROTOBUF }),
    call({ ignore_query_parameters: true }, { request: ['content-type', 'application/json'] }),
    call({ ignore_query_parameters: true }, { head: { ...CALL, protocol: 'websocket' } }),
  ]
  for (const driven of calls) {
    t.equal(driven.upstream.head?.path, CALL.path)
    t.notOk(driven.upstream.headers.has('te'))
    driven.send('body', true)
    t.equal(driven.upstream.body, 'body')
    const { exchange } = driven.upstream
    exchange?.upstreamHeaders(200, new Headers([...GRPC]), false)
    t.equal(driven.downstream.status, 200, 'nothing is held')
    exchange?.upstreamTrailers(new Headers(['grpc-status', '5']))
    t.same(lines(driven.downstream.trailers), ['grpc-status: 5'])
  }
})

t.test('HTTP/1.0 is bridged too; the query goes where it is told to', async (t) => {
  const driven = call({ ignore_query_parameters: true }, { request: [...GRPC, 'content-length', '5'] }, 'HTTP/1.0')
  t.equal(driven.upstream.head?.path, '/pkg.Greeter/Hello')
  t.same(lines(driven.upstream.headers), ['content-type: application/grpc', 'content-length: 5', 'te: trailers'])
  await answer(driven, { trailers: ['grpc-status', '7'] })
  t.equal(driven.downstream.status, 503)
  t.equal(call().upstream.head?.path, CALL.path)
})

t.test('a protobuf request is framed and the message of its response taken out', async (t) => {
  const request = [...PROTOBUF, 'content-length', '9', 'grpc-accept-encoding', 'gzip']
  const body = frame('an answer')
  for (const pieces of everyFeed(Buffer.from('a request'), 9, 10)) {
    const driven = call(UPGRADE, { request })
    pieces.forEach((piece, i) => {
      driven.exchange.requestData(piece, i === pieces.length - 1)
    })
    await settle(2)
    t.same(Buffer.concat(driven.upstream.chunks), frame('a request'))
    t.ok(driven.upstream.ended)
    t.same(lines(driven.upstream.headers), ['content-type: application/grpc', 'te: trailers'])
  }
  for (const pieces of everyFeed(body, 9, 10)) {
    const driven = call(UPGRADE, { request })
    driven.send('x', true)
    await settle(2)
    await answer(driven, { body: pieces, trailers: ['grpc-status', '0'] })
    t.equal(driven.downstream.body, 'an answer')
    t.same(lines(driven.downstream.headers), [
      'content-type: application/x-protobuf',
      'grpc-status: 0',
      'content-length: 9',
    ])
    t.ok(driven.downstream.ended)
    t.same(driven.errors, [])
  }
})

t.test('a message without fields is framed too, with and without a body', async (t) => {
  const seen: string[] = []
  const inner: HttpFilter<unknown> = {
    onRequestHeaders: (_s, end) => void seen.push(`headers ${end}`),
    onRequestData: (_s, chunk, end) => void seen.push(`data ${chunk.toString('hex')} ${end}`),
  }
  const outer: HttpFilter<unknown> = { onRequestData: () => void seen.push('outer data') }
  const filters = [outer, build(grpcHttp1Bridge, UPGRADE), inner]
  const none = drive({ filters, head: CALL, request: [...PROTOBUF, 'content-length', '0'], end: true })
  t.same(Buffer.concat(none.upstream.chunks), frame(''))
  t.ok(none.upstream.ended)
  t.same(seen, ['headers false', 'data 0000000000 true'])
  t.notOk(none.upstream.headers.has('content-length'))
  const empty = call(UPGRADE, { request: PROTOBUF })
  empty.send('', true)
  await settle(2)
  t.same(Buffer.concat(empty.upstream.chunks), frame(''))
  t.ok(empty.upstream.ended)
  const trailed = call(UPGRADE, { request: PROTOBUF })
  trailed.exchange.requestTrailers(new Headers(['t', '1']))
  await settle(2)
  t.same(Buffer.concat(trailed.upstream.chunks), frame(''))
  t.same(lines(trailed.upstream.trailersReceived), ['t: 1'])
  await answer(none, { body: [frame('')], trailers: ['grpc-status', '0'] })
  t.equal(none.downstream.headers.get('content-length'), '0')
  t.same([none.downstream.body, none.downstream.ended], ['', true])
})

t.test('a protobuf request beyond the buffer limit is answered with 413', async (t) => {
  const driven = call(UPGRADE, { request: PROTOBUF, bufferLimit: 10 })
  driven.send('123456')
  driven.send('789012')
  await settle(2)
  t.equal(driven.downstream.status, 413)
  t.equal(driven.downstream.body, 'Payload Too Large')
  t.equal(driven.upstream.begun, 0)
})

t.test('the route is matched again, as gRPC and without the query', async (t) => {
  const asked: string[] = []
  const bridge = build(grpcHttp1Bridge, { ...UPGRADE, ignore_query_parameters: true })
  const driven = drive({
    filters: [bridge],
    head: CALL,
    request: PROTOBUF,
    end: true,
    reroute: (exchange) => {
      asked.push(`${exchange.head.path} ${exchange.request.get('content-type')}`)
      return { route: exchange.route, plan: exchange.plan }
    },
  })
  t.same(asked, ['/pkg.Greeter/Hello application/grpc'])
  t.equal(driven.upstream.begun, 1)
})

t.test('a response that is not one plain message is refused, unless it tells of a failure and has none', async (t) => {
  const bodies = [
    [],
    [Buffer.from('abc')],
    [frame('a'), frame('b')],
    [frame('a', 1)],
    [frame('abc').subarray(0, 6)],
    [frame('a'), Buffer.from('x')],
  ]
  for (const body of bodies) {
    const driven = call(UPGRADE, { request: PROTOBUF })
    driven.send('x', true)
    await settle(2)
    await answer(driven, { body, trailers: ['grpc-status', '0'] })
    t.equal(driven.downstream.status, 502)
    t.equal(driven.exchange.info.details, 'grpc_bridge_response_malformed')
    t.ok(driven.downstream.ended)
    t.equal(driven.ends(), 1)
  }
  const failed = call(UPGRADE, { request: PROTOBUF })
  failed.send('x', true)
  await settle(2)
  await answer(failed, { trailers: ['grpc-status', '5', 'grpc-message', 'none'] })
  t.equal(failed.downstream.status, 503)
  t.same(lines(failed.downstream.headers), [
    'content-type: application/grpc',
    'grpc-status: 5',
    'grpc-message: none',
    'content-length: 0',
  ])
  t.ok(failed.downstream.ended)
})

t.test('answers of the gateway are gRPC for gRPC clients and plain for those that were upgraded', async (t) => {
  const limiter: HttpFilter<unknown> = {
    onRequestHeaders: (stream) => stream.reply({ status: 429, body: 'slow down', details: 'limited' }),
  }
  const bridge = build(grpcHttp1Bridge, UPGRADE)
  const plain = drive({ filters: [bridge, limiter], head: CALL, request: PROTOBUF, end: true })
  await settle(2)
  t.same([plain.downstream.status, plain.downstream.body], [429, 'slow down'])
  t.equal(plain.downstream.headers.get('content-length'), '9')
  const grpc = drive({ filters: [bridge, limiter], head: CALL, request: GRPC, end: true })
  await settle(2)
  t.equal(grpc.downstream.status, 503)
  t.equal(grpc.downstream.headers.get('grpc-status'), '14')
})

t.test('a client that goes away while its response is held leaves nothing behind', async (t) => {
  const driven = call()
  driven.upstream.exchange?.upstreamHeaders(200, new Headers([...GRPC]), false)
  driven.upstream.exchange?.upstreamData(frame('x'), false)
  driven.clientGone()
  await settle(2)
  t.same([driven.downstream.status, driven.ends(), driven.errors], [0, 1, []])
  t.equal(driven.upstream.cancelled, 1)
})

t.test('its configuration is read strictly', async (t) => {
  t.same(parseJson({ ...UPGRADE, ignore_query_parameters: true }, grpcHttp1Bridge.parse), {
    value: { upgradesProtobuf: true, dropsQuery: true },
    errors: [],
  })
  t.equal(parseJson({ unknown: true }, grpcHttp1Bridge.parse).errors.length, 1)
})
