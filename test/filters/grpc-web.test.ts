import t from 'tap'
import { grpcWeb } from '../../filters/grpc-web/index.ts'
import type { HttpFilter } from '../../lib/chain/filter.ts'
import { Headers } from '../../lib/core/headers.ts'
import { build, type Driven, type DriveOptions, drive, lines, parseJson, testScope } from '../support/chain-driver.ts'
import { settle } from '../support/clock.ts'
import { byteByByte, cut, everySplit, randomSplits, sameHoweverSplit } from '../support/splits.ts'

const BINARY = 'application/grpc-web+proto'
const TEXT = 'application/grpc-web-text'
const GRPC = ['content-type', 'application/grpc']
const HEALTH = { health: { c: { healthy: 1, degraded: 0, total: 1 } } }
const CALL = { method: 'POST', path: '/pkg.Greeter/Hello' }

function frame(message: string, flag = 0): Buffer {
  const body = Buffer.from(message)
  const prefix = Buffer.alloc(5)
  prefix[0] = flag
  prefix.writeUInt32BE(body.length, 1)
  return Buffer.concat([prefix, body])
}

function call(more: Partial<DriveOptions> = {}, others: readonly HttpFilter<unknown>[] = []): Driven {
  const filter = build(grpcWeb, {}, { scope: testScope(HEALTH) })
  return drive({ filters: [filter, ...others], head: CALL, request: ['content-type', BINARY], end: false, ...more })
}

function feed(driven: Driven, pieces: readonly Buffer[], end = true): void {
  pieces.forEach((piece, i) => {
    driven.exchange.requestData(piece, end && i === pieces.length - 1)
  })
}

/** A gRPC response with this body and these trailers. */
function answer(driven: Driven, pieces: readonly Buffer[], trailers = ['grpc-status', '0']): void {
  const exchange = driven.upstream.exchange
  if (exchange === undefined) throw new Error('nothing was forwarded')
  exchange.upstreamHeaders(200, new Headers([...GRPC, 'content-length', '1', 'x-own', '1']), false)
  for (const piece of pieces) exchange.upstreamData(piece, false)
  exchange.upstreamTrailers(new Headers([...trailers]))
}

t.test('a binary request becomes gRPC, its bytes untouched', async (t) => {
  const types = ['application/grpc-web', BINARY]
  for (const type of types) {
    const driven = call({ request: ['content-type', type, 'content-length', '7', 'accept', type, 'x-grpc-web', '1'] })
    t.same(lines(driven.upstream.headers), [
      'content-type: application/grpc',
      `accept: ${type}`,
      'x-grpc-web: 1',
      'te: trailers',
      'grpc-accept-encoding: identity',
    ])
    feed(driven, byteByByte(frame('hi')))
    t.same(Buffer.concat(driven.upstream.chunks), frame('hi'))
    t.ok(driven.upstream.ended)
  }
  const asked = call({ request: ['content-type', BINARY, 'grpc-accept-encoding', 'gzip'] })
  t.same(asked.upstream.headers.getAll('grpc-accept-encoding'), ['gzip'], 'what the client accepts stays')
})

t.test('what is no gRPC-Web passes untouched, both ways', async (t) => {
  const heads: Partial<DriveOptions>[] = [
    { request: [] },
    { request: ['content-type', 'application/grpc'] },
    { request: ['content-type', 'application/grpc-web+json'] },
    { request: ['content-type', 'application/grpc-web;charset=utf-8'] },
    { head: { ...CALL, protocol: 'websocket' } },
    { head: { method: 'CONNECT', path: '' } },
  ]
  for (const more of heads) {
    const driven = call(more)
    const request = more.request ?? ['content-type', BINARY]
    t.same(driven.upstream.headers.raw, request)
    feed(driven, [Buffer.from('!!')])
    t.equal(driven.upstream.body, '!!')
    answer(driven, [frame('x')])
    t.equal(driven.downstream.headers.get('content-type'), 'application/grpc')
    t.equal(driven.downstream.headers.get('content-length'), '1')
    t.same(lines(driven.downstream.trailers), ['grpc-status: 0'])
  }
})

t.test('base64 requests are decoded however they are cut, padding between their parts included', async (t) => {
  const messages = [frame('a'), frame('bc'), frame('def'), frame('')]
  const wanted = Buffer.concat(messages)
  const texts = [wanted.toString('base64'), messages.map((message) => message.toString('base64')).join('')]
  t.match(texts[1], /=[A-Z]/, 'the second has padding in the middle')
  for (const text of texts) {
    sameHoweverSplit(Buffer.from(text), (pieces) => {
      const driven = call({ request: ['content-type', TEXT, 'content-length', '99'] })
      feed(driven, pieces)
      return {
        body: driven.upstream.body,
        ended: driven.upstream.ended,
        right: Buffer.concat(driven.upstream.chunks).equals(wanted) || 'wrong',
      }
    })
    const whole = call({ request: ['content-type', `${TEXT}+proto`] })
    feed(whole, [Buffer.from(text)])
    t.same(Buffer.concat(whole.upstream.chunks), wanted)
    t.notOk(whole.upstream.headers.has('content-length'))
  }
  const late = call({ request: ['content-type', TEXT] })
  feed(late, [Buffer.from(texts[0]), Buffer.alloc(0)])
  t.ok(late.upstream.ended, 'an end of its own ends the request')
  const trailed = call({ request: ['content-type', TEXT] })
  feed(trailed, [Buffer.from(texts[0])], false)
  trailed.exchange.requestTrailers(new Headers(['t', '1']))
  t.same(lines(trailed.upstream.trailersReceived), ['t: 1'])
})

t.test('what is no base64 is answered with 400, told as gRPC-Web, and the upstream is cancelled', async (t) => {
  const bad = [
    'AAAA!AAA',
    'AAA_',
    'AA AA',
    '=AAA',
    'A===',
    'AA=A',
    'AAAA====',
    'AAB=',
    'AB==',
    'AAAAA',
    'AAAAAA',
    'AAAAAA=',
  ]
  for (const text of bad) {
    for (const pieces of [cut(Buffer.from(text), []), byteByByte(Buffer.from(text))]) {
      const driven = call({ request: ['content-type', TEXT, 'accept', TEXT] })
      feed(driven, pieces)
      await settle(1)
      t.equal(driven.downstream.status, 400, text)
      t.same(lines(driven.downstream.headers), [
        'content-type: application/grpc-web-text+proto',
        'grpc-status: 13',
        'grpc-message: invalid base64 in a gRPC-Web request',
        'content-length: 0',
      ])
      t.equal(driven.downstream.body, '')
      t.ok(driven.downstream.ended)
      t.equal(driven.upstream.cancelled, 1)
      t.match(driven.exchange.info.details, /^grpc_base_64_decode_failed/)
      t.equal(driven.ends(), 1)
    }
  }
  const trailed = call({ request: ['content-type', TEXT] })
  feed(trailed, [Buffer.from('AAA')], false)
  trailed.exchange.requestTrailers(new Headers([]))
  await settle(1)
  t.equal(trailed.exchange.info.details, 'grpc_base_64_decode_failed_bad_size')
  t.equal(trailed.downstream.status, 400)
})

t.test('response trailers become the last frame of the body and are still what logs read', async (t) => {
  const driven = call()
  answer(driven, [frame('one'), frame('two')], ['grpc-status', '5', 'grpc-message', 'not%20found', 'x-bin', 'AQ'])
  const { downstream } = driven
  t.equal(downstream.status, 200)
  t.same(lines(downstream.headers), ['content-type: application/grpc-web+proto', 'x-own: 1'])
  const trailers = frame('grpc-status:5\r\ngrpc-message:not%20found\r\nx-bin:AQ\r\n', 0x80)
  t.same(Buffer.concat(downstream.chunks), Buffer.concat([frame('one'), frame('two'), trailers]))
  t.equal(downstream.trailers, undefined)
  t.ok(downstream.ended)
  t.equal(driven.exchange.responseTrailers?.get('grpc-status'), '5')
  t.same([driven.ends(), driven.upstream.cancelled, driven.errors], [1, 0, []])
})

t.test('base64 comes back to those who accept it, a message at a time, however the response is cut', async (t) => {
  const body = Buffer.concat([frame('a'), frame('bcd'), frame(''), frame('ef', 1)])
  const last = frame('grpc-status:0\r\n', 0x80)
  const wanted = [frame('a'), frame('bcd'), frame(''), frame('ef', 1), last]
    .map((one) => one.toString('base64'))
    .join('')
  const feeds = [cut(body, []), byteByByte(body), ...everySplit(body), ...randomSplits(body, 7, 40)]
  for (const accept of [TEXT, `${TEXT}+proto`]) {
    for (const pieces of feeds) {
      const driven = call({ request: ['content-type', BINARY, 'accept', accept] })
      answer(driven, pieces)
      t.equal(driven.downstream.body, wanted)
      t.equal(driven.downstream.headers.get('content-type'), 'application/grpc-web-text+proto')
      t.ok(driven.downstream.ended)
    }
  }
  const undecided = call({ request: ['content-type', TEXT, 'accept', '*/*'] })
  answer(undecided, [frame('a')])
  t.equal(undecided.downstream.headers.get('content-type'), BINARY, 'Accept alone decides, as in Envoy')
})

t.test('a message can be read as soon as it is there, and one that breaks off is not lost', async (t) => {
  const driven = call({ request: ['content-type', TEXT, 'accept', TEXT] })
  const { exchange } = driven.upstream
  exchange?.upstreamHeaders(200, new Headers([...GRPC]), false)
  exchange?.upstreamData(frame('a'), false)
  t.equal(driven.downstream.body, frame('a').toString('base64'))
  exchange?.upstreamData(frame('bcde').subarray(0, 8), false)
  exchange?.upstreamTrailers(new Headers(['grpc-status', '13']))
  const rest = [frame('bcde').subarray(0, 8), frame('grpc-status:13\r\n', 0x80)]
  t.equal(driven.downstream.body, [frame('a'), ...rest].map((one) => one.toString('base64')).join(''))
  const ended = call({ request: ['content-type', TEXT, 'accept', TEXT] })
  ended.upstream.exchange?.upstreamHeaders(200, new Headers([...GRPC]), false)
  ended.upstream.exchange?.upstreamData(frame('bcde').subarray(0, 8), true)
  t.equal(ended.downstream.body, frame('bcde').subarray(0, 8).toString('base64'))
  t.ok(ended.downstream.ended)
})

t.test('other filters see the frame of the trailers as data, and their own data hooks keep the order', async (t) => {
  const seen: string[] = []
  const outer: HttpFilter<unknown> = {
    onResponseData: (_s, chunk) => void seen.push(chunk.toString('latin1')),
    onResponseTrailers: (_s, trailers) => void seen.push(`trailers${lines(trailers)}`),
  }
  const inner: HttpFilter<unknown> = {
    onResponseTrailers: async (_s, trailers) => trailers.append('x-inner', '1'),
  }
  const web = build(grpcWeb, {}) as HttpFilter<unknown>
  const driven = drive({ filters: [outer, web, inner], head: CALL, request: ['content-type', BINARY], end: false })
  answer(driven, [frame('m')])
  await settle(1)
  t.same(seen, [
    frame('m').toString('latin1'),
    frame('grpc-status:0\r\nx-inner:1\r\n', 0x80).toString('latin1'),
    'trailers',
  ])
  t.ok(driven.downstream.ended)
  t.equal(driven.downstream.trailers, undefined)
})

t.test('an answer of headers alone keeps its status there', async (t) => {
  const only = call()
  only.upstream.respond(200, [...GRPC, 'grpc-status', '7', 'grpc-message', 'no'])
  t.same(lines(only.downstream.headers), [
    'content-type: application/grpc-web+proto',
    'grpc-status: 7',
    'grpc-message: no',
  ])
  t.ok(only.downstream.ended)
  const plain = call()
  plain.upstream.respond(503, ['content-length', '0'])
  t.equal(plain.downstream.status, 503)
  t.same(lines(plain.downstream.headers), ['content-type: application/grpc-web+proto', 'grpc-status: 14'])
})

t.test('an answer that is no gRPC becomes a status and a message, and its body is dropped', async (t) => {
  const driven = call()
  driven.upstream.respond(404, ['content-type', 'text/html', 'content-length', '9'], 'näo <x>')
  await settle(1)
  t.equal(driven.downstream.status, 404)
  t.same(lines(driven.downstream.headers), [
    'content-type: application/grpc-web+proto',
    'grpc-status: 12',
    'grpc-message: n%C3%A4o <x>',
    'content-length: 0',
  ])
  t.equal(driven.downstream.body, '')
  t.ok(driven.downstream.ended)
  const zipped = call()
  zipped.upstream.respond(200, ['content-encoding', 'gzip'], 'zzz')
  await settle(1)
  t.equal(zipped.downstream.headers.get('grpc-status'), '2')
  t.notOk(zipped.downstream.headers.has('grpc-message'))
  t.notOk(zipped.downstream.headers.has('content-encoding'))
  const trailed = call()
  trailed.upstream.exchange?.upstreamHeaders(500, new Headers([]), false)
  trailed.upstream.exchange?.upstreamData(Buffer.from('oops'), false)
  trailed.upstream.exchange?.upstreamTrailers(new Headers(['t', '1']))
  await settle(1)
  t.equal(trailed.downstream.headers.get('grpc-message'), 'oops')
  t.equal(trailed.downstream.trailers, undefined)
  t.ok(trailed.downstream.ended)
})

t.test('of a large answer only the beginning is held, and told', async (t) => {
  const driven = call({ bufferLimit: 64 * 1024 })
  const { exchange } = driven.upstream
  exchange?.upstreamHeaders(500, new Headers([]), false)
  exchange?.upstreamData(Buffer.alloc(10_000, 'a'), false)
  await settle(1)
  t.equal(driven.downstream.status, 0)
  exchange?.upstreamData(Buffer.alloc(10_000, 'b'), false)
  await settle(1)
  t.equal(driven.downstream.status, 500)
  t.equal(driven.downstream.headers.get('grpc-message'), 'a'.repeat(10_000) + 'b'.repeat(6_384))
  for (let i = 0; i < 50; i++) t.ok(exchange?.upstreamData(Buffer.alloc(10_000), false))
  t.notOk(driven.downstream.ended)
  exchange?.upstreamData(Buffer.alloc(1), true)
  t.equal(driven.downstream.body, '')
  t.ok(driven.downstream.ended)
})

t.test('answers of the gateway itself keep their status and become gRPC-Web', async (t) => {
  const limiter: HttpFilter<unknown> = {
    onRequestHeaders: (stream) => stream.reply({ status: 429, body: 'slow down', details: 'limited' }),
  }
  const driven = call({}, [limiter])
  await settle(1)
  t.equal(driven.downstream.status, 429)
  t.same(lines(driven.downstream.headers), [
    'content-type: application/grpc-web+proto',
    'grpc-status: 14',
    'grpc-message: slow down',
    'content-length: 0',
  ])
  t.ok(driven.downstream.ended)
})

t.test('an upstream that speaks gRPC-Web itself is believed', async (t) => {
  const body = Buffer.concat([frame('x'), frame('grpc-status:0\r\n', 0x80)])
  for (const accept of [BINARY, TEXT]) {
    const driven = call({ request: ['content-type', BINARY, 'accept', accept] })
    driven.upstream.exchange?.upstreamHeaders(200, new Headers(['content-type', 'Application/grpc-web ; a=b']), false)
    for (const piece of byteByByte(body)) driven.upstream.exchange?.upstreamData(piece, false)
    driven.upstream.exchange?.upstreamData(Buffer.alloc(0), true)
    const got = Buffer.from(driven.downstream.body, 'latin1')
    if (accept === BINARY) t.same(Buffer.concat(driven.downstream.chunks), body)
    else t.same(got.toString(), frame('x').toString('base64') + frame('grpc-status:0\r\n', 0x80).toString('base64'))
    t.ok(driven.downstream.ended)
  }
})

t.test('back-pressure of the client reaches the upstream and nothing is lost', async (t) => {
  const driven = call({ request: ['content-type', TEXT, 'accept', TEXT], bufferLimit: 1024 })
  const { downstream, upstream } = driven
  upstream.exchange?.upstreamHeaders(200, new Headers([...GRPC]), false)
  downstream.ready = false
  const message = frame('x'.repeat(2000))
  upstream.exchange?.upstreamData(message, false)
  t.ok(upstream.paused)
  t.equal(upstream.exchange?.upstreamData(message, false), false)
  upstream.exchange?.upstreamTrailers(new Headers(['grpc-status', '0']))
  downstream.ready = true
  driven.exchange.downstreamDrained()
  const parts = [message, message, frame('grpc-status:0\r\n', 0x80)]
  t.equal(downstream.body, parts.map((one) => one.toString('base64')).join(''))
  t.ok(downstream.ended)
  const request = call({ request: ['content-type', TEXT] })
  request.upstream.ready = false
  feed(request, [Buffer.from('AAAA')], false)
  t.ok(request.downstream.paused)
  request.exchange.drained()
  t.notOk(request.downstream.paused)
})

t.test('calls are counted by cluster, service and method', async (t) => {
  const scope = testScope(HEALTH)
  const filters = [build(grpcWeb, {}, { scope })]
  const one = (more: Partial<DriveOptions> = {}): Driven =>
    drive({ filters, head: CALL, request: ['content-type', BINARY], end: false, ...more })
  answer(one(), [])
  answer(one(), [], ['grpc-status', '5'])
  one().upstream.respond(200, [...GRPC, 'grpc-status', '0'])
  one({ head: { ...CALL, path: '/nothing' } }).upstream.respond(200, [...GRPC, 'grpc-status', '0'])
  one({ route: undefined }).upstream.respond(200, [...GRPC, 'grpc-status', '0'])
  const prefix = 'cluster.c.grpc-web.pkg.Greeter.Hello.'
  const counted = [...scope.counters].filter(([name]) => name.startsWith('cluster.'))
  t.same(Object.fromEntries(counted.map(([name, cell]) => [name, cell.v])), {
    [`${prefix}total`]: 3,
    [`${prefix}success`]: 2,
    [`${prefix}0`]: 2,
    [`${prefix}failure`]: 1,
    [`${prefix}5`]: 1,
  })
})

t.test('a client that goes away while an answer is looked at leaves nothing behind', async (t) => {
  const driven = call()
  driven.upstream.exchange?.upstreamHeaders(500, new Headers([]), false)
  driven.clientGone()
  await settle(1)
  t.same([driven.downstream.status, driven.ends(), driven.errors], [0, 1, []])
})

t.test('its configuration has no fields', async (t) => {
  t.same(parseJson({}, grpcWeb.parse), { value: {}, errors: [] })
  t.equal(parseJson({ x: 1 }, grpcWeb.parse).errors.length, 1)
})
