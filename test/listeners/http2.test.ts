import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { constants } from 'node:http2'
import t from 'tap'
import { upstreamOptions } from '../end-to-end/bootstrap.ts'
import { withFilters } from '../end-to-end/filter-instances.ts'
import type { SetupSpec } from '../end-to-end/setup.ts'
import { settle, TestClock } from '../support/clock.ts'
import { data, describe, type Fields, headers, request, splitHeaders, T } from '../support/http2-wire.ts'
import { answerOf, setup2 } from './http2-client.ts'

t.test('a request and its response pass, and are logged and counted as HTTP/2', async (t) => {
  const { gateway, origin, client2, finish } = await setup2(t, {
    origin: (_, reply) => void reply.send({ body: 'hello', fields: [['x-a', '1']] }),
  })
  const client = client2()
  const answer = await client.request({ ':path': '/x?y=1', cookie: ['a=1', 'b=2'], te: 'trailers', 'x-seq': '7' })
  t.equal(answer.status, 200)
  t.equal(answer.body.toString(), 'hello')
  t.ok(answer.whole)
  t.equal(answer.headers['x-a'], '1')
  t.equal(answer.headers['content-length'], '5')
  t.equal(answer.headers.connection, undefined)
  const seen = origin.requests[0]
  t.equal(seen.target, '/x?y=1')
  t.equal(seen.get('host'), `127.0.0.1:${gateway.port()}`)
  t.equal(seen.get('cookie'), 'a=1; b=2')
  t.equal(gateway.stat('http.test.downstream_cx_http2_total'), 1)
  t.equal(gateway.stat('http.test.downstream_cx_http2_active'), 1)
  t.equal(gateway.stat('http.test.downstream_cx_http1_total'), 0)
  t.equal(gateway.stat('http.test.downstream_rq_http2_total'), 1)
  t.ok(gateway.stat('http.test.downstream_cx_tx_bytes_total') > 20, 'header bytes are counted')
  const [line] = await finish()
  t.match(line, { seq: '7', method: 'GET', path: '/x?y=1', status: 200, sent: 5, flags: '-', details: 'via_upstream' })
  t.equal(gateway.stat('http.test.downstream_cx_http2_active'), 0)
})

t.test('bodies and trailers pass both ways, without a switch', async (t) => {
  const { origin, client2 } = await setup2(t, {
    cluster: upstreamOptions({}, { enable_trailers: true }),
    origin: async (request, reply) => {
      const { bytes } = await request.body
      await reply.send({ chunks: ['got ', String(bytes.length)], trailers: [['x-sum', 'abc']] })
    },
  })
  const stream = client2().session.request({ ':path': '/', ':method': 'POST' }, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-up': 'def' }))
  const answer = answerOf(stream)
  stream.write(Buffer.alloc(100_000))
  stream.end(Buffer.alloc(23))
  const { status, body, trailers } = await answer
  t.equal(status, 200)
  t.equal(body.toString(), 'got 100023')
  t.equal(trailers?.['x-sum'], 'abc')
  t.equal(origin.requests[0].get('transfer-encoding'), 'chunked')
  t.same((await origin.requests[0].body).trailers, [['x-up', 'def']])
})

t.test('interim responses, and 100 Continue from us or from upstream', async (t) => {
  for (const proxied of [false, true]) {
    const { client2, origin } = await setup2(t, {
      hcm: { proxy_100_continue: proxied },
      origin: async (request, reply) => {
        await reply.inform(103, [['link', '</a>']])
        if (request.get('expect') !== undefined) await reply.inform(100)
        const { bytes } = await request.body
        await reply.send({ body: bytes })
      },
    })
    const stream = client2().stream({ ':method': 'POST', expect: '100-continue' })
    const answer = answerOf(stream)
    await once(stream, 'continue')
    stream.end('later')
    const { interim, body } = await answer
    t.same([...interim].sort(), [100, 103])
    t.equal(body.toString(), 'later')
    t.equal(origin.requests[0].get('expect'), proxied ? '100-continue' : undefined)
  }
})

t.test('HEAD, 204 and 304 have no body, whatever their headers say', async (t) => {
  const { client2 } = await setup2(t, {
    origin: (request, reply) => {
      if (request.target === '/204') return void reply.write('HTTP/1.1 204 No\r\n\r\n')
      if (request.target === '/304') return void reply.write('HTTP/1.1 304 No\r\ncontent-length: 9\r\n\r\n')
      return void reply.send({ body: '123456789' })
    },
  })
  const client = client2()
  const head = await client.request({ ':method': 'HEAD' })
  t.equal(head.headers['content-length'], '9')
  const none = await client.request({ ':path': '/204' })
  t.equal(none.headers['content-length'], undefined)
  const unchanged = await client.request({ ':path': '/304' })
  t.equal(unchanged.headers['content-length'], '9')
  for (const answer of [head, none, unchanged]) {
    t.equal(answer.body.length, 0)
    t.ok(answer.whole)
  }
})

t.test('a hundred streams at once on one connection, answered out of order', async (t) => {
  const waiting: (() => void)[] = []
  const { gateway, client2 } = await setup2(t, {
    origin: async (request, reply) => {
      await new Promise<void>((resolve) => {
        waiting.push(resolve)
      })
      await reply.send({ body: request.target })
    },
  })
  const client = client2()
  const order: number[] = []
  const answers = Array.from({ length: 100 }, (_, i) =>
    client.request({ ':path': `/${i}` }).then((answer) => {
      order.push(i)
      return answer
    }),
  )
  await gateway.until(() => waiting.length === 100, 'all requests at the origin')
  t.equal(gateway.stat('http.test.downstream_rq_active'), 100)
  for (const go of waiting.reverse()) go()
  const all = await Promise.all(answers)
  t.same(
    all.map((answer) => answer.body.toString()),
    Array.from({ length: 100 }, (_, i) => `/${i}`),
  )
  t.ok(order.indexOf(99) < order.indexOf(0))
  t.equal(gateway.stat('http.test.downstream_cx_total'), 1)
})

t.test('many requests in one packet begin over several turns, in order, and all are answered', async (t) => {
  const { gateway, frames } = await setup2(t, {
    routes: [{ match: { prefix: '/' }, direct_response: { status: 200 } }],
  })
  const wire = await frames()
  const ids = Array.from({ length: 300 }, (_, i) => i * 2 + 1)
  await wire.write(...ids.map((id) => headers(id, request('GET', `/${id}`), true)))
  const answered: number[] = []
  while (answered.length < ids.length) {
    const frame = await wire.until((f) => f.type === T.HEADERS)
    answered.push(frame.streamId)
  }
  t.same(answered, ids)
  t.equal(gateway.stat('http.test.downstream_rq_http2_total'), 300)
})

/** Half a millisecond passes with every look at it: a turn is over after a few requests. */
class HastyClock extends TestClock {
  override now(): number {
    this.advance(0.5)
    return super.now()
  }
}

const HASTY: SetupSpec = {
  routes: [
    { match: { path: '/upload' }, route: { cluster: 'origin' } },
    { match: { prefix: '/' }, direct_response: { status: 200 } },
  ],
  hcm: { stream_idle_timeout: '0s', request_headers_timeout: '0s' },
}

t.test('a packet full of requests does not keep the other connections waiting', async (t) => {
  const { gateway, frames } = await setup2(t, { ...HASTY, gateway: { clock: new HastyClock() } })
  const [greedy, modest] = [await frames(), await frames()]
  const ids = Array.from({ length: 300 }, (_, i) => i * 2 + 1)
  const total = (): number => gateway.stat('http.test.downstream_rq_http2_total')
  await greedy.write(...ids.map((id) => headers(id, request('GET', `/${id}`), true)))
  await gateway.until(() => total() > 0, 'the first of them')
  await modest.write(headers(1, request('GET', '/modest'), true))
  await modest.until((f) => f.type === T.HEADERS)
  t.ok(total() < 200, `${total()} of 301 requests begun`)
  await greedy.until((f) => f.type === T.HEADERS && f.streamId === 599)
  t.equal(total(), 301)
})

t.test('what a client says at last is heard behind requests that wait', async (t) => {
  const { gateway, frames } = await setup2(t, { ...HASTY, gateway: { clock: new HastyClock() } })
  const wire = await frames()
  const ids = Array.from({ length: 50 }, (_, i) => i * 2 + 1)
  await wire.write(...ids.map((id) => headers(id, request('GET', `/${id}`), true)))
  wire.socket.end()
  const answered = (await wire.rest()).filter((f) => f.type === T.HEADERS).length
  t.equal(answered, 50)
  t.equal(wire.ending, 'fin')
  t.equal(gateway.stat('http.test.downstream_rq_2xx'), 50)
})

t.test('a body that comes behind requests that wait arrives whole and in order', async (t) => {
  const body = randomBytes(300_000)
  const { frames, origin } = await setup2(t, {
    ...HASTY,
    gateway: { clock: new HastyClock() },
    hcm: { ...HASTY.hcm, http2_protocol_options: { initial_stream_window_size: 1 << 20 } },
  })
  const wire = await frames()
  const ids = Array.from({ length: 40 }, (_, i) => i * 2 + 1)
  const pieces = ids.map((id) => headers(id, request('GET', `/${id}`), true))
  pieces.push(headers(81, request('POST', '/upload')))
  for (let at = 0; at < body.length; at += 16_000) {
    pieces.push(data(81, body.subarray(at, at + 16_000), at + 16_000 >= body.length))
    pieces.push(headers(83 + (at / 16_000) * 2, request('GET', '/between'), true))
  }
  await wire.write(...pieces)
  await wire.until((f) => f.type === T.HEADERS && f.streamId === 81)
  const upload = await origin.requests.find(({ target }) => target === '/upload')?.body
  t.ok(upload?.bytes.equals(body))
})

t.test('a reader that stalls does not hold up the other streams of its connection', async (t) => {
  const big = Buffer.alloc(4 << 20, 'x')
  const { gateway, client2 } = await setup2(t, {
    origin: (request, reply) => void reply.send({ body: request.target === '/big' ? big : 'small' }),
  })
  const client = client2()
  const stalled = client.stream({ ':path': '/big' })
  stalled.pause()
  await once(stalled, 'response')
  for (let i = 0; i < 20; i++) t.equal((await client.request()).body.toString(), 'small')
  t.ok(gateway.stat('http2.pending_send_bytes') <= 256 * 1024, 'what waits in the session is bounded')
  const answer = answerOf(stalled)
  stalled.resume()
  const { body, whole } = await answer
  t.ok(whole)
  t.equal(body.length, big.length)
})

t.test('an upload goes no further than its origin reads', async (t) => {
  let read = (): void => {}
  const { gateway, client2 } = await setup2(t, {
    hcm: { http2_protocol_options: { initial_stream_window_size: 65_535, initial_connection_window_size: 1 << 20 } },
    origin: {
      readBodies: false,
      script: async (request, reply) => {
        await new Promise<void>((resolve) => {
          read = resolve
        })
        reply.readBody()
        const { bytes } = await request.body
        await reply.send({ body: String(bytes.length) })
      },
    },
  })
  const client = client2()
  const size = 32 << 20
  const stream = client.stream({ ':method': 'POST' })
  const answer = answerOf(stream)
  let sent = 0
  const piece = Buffer.alloc(64 * 1024)
  const feed = async (): Promise<void> => {
    for (; sent < size; sent += piece.length) if (!stream.write(piece)) await once(stream, 'drain')
    stream.end()
  }
  const fed = feed()
  // Until nothing moves any more.
  for (let still = 0, before = -1; still < 50; before = sent) {
    await settle(2)
    still = sent === before ? still + 1 : 0
  }
  t.ok(sent > 0 && sent < size / 2, `${sent} bytes have left`)
  // Another stream of the connection is not held up by it.
  const first = read
  const other = client.stream({ ':method': 'POST', ':path': '/other' })
  const otherAnswer = answerOf(other)
  other.end('small')
  await gateway.until(() => read !== first, 'the second request')
  read()
  t.equal((await otherAnswer).body.toString(), '5')
  first()
  await fed
  t.equal((await answer).body.toString(), String(size))
})

t.test('a client that resets its stream ends the request alone', async (t) => {
  const { gateway, origin, client2, finish } = await setup2(t, {
    origin: async (request, reply) => {
      if (request.target !== '/slow') return void reply.send({ body: 'ok' })
      await reply.stall()
    },
  })
  const client = client2()
  const stream = client.stream({ ':path': '/slow', ':method': 'POST' })
  const gone = answerOf(stream)
  stream.write('part')
  await origin.seen(1)
  stream.close(constants.NGHTTP2_CANCEL)
  await gone
  await gateway.until(() => gateway.stat('http.test.downstream_rq_active') === 0, 'end of the request')
  t.equal((await origin.requests[0].ended) === 'open', false)
  t.equal((await client.request()).body.toString(), 'ok')
  t.equal(gateway.stat('http.test.downstream_rq_rx_reset'), 1)
  t.equal(gateway.stat('http2.rx_reset'), 1)
  const lines = await finish()
  t.match(lines[0], { status: 0, flags: 'DR', details: 'http2.remote_reset', received: 4 })
})

t.test('an upstream that dies within its response shows as RST_STREAM, before it as an answer', async (t) => {
  const { gateway, client2, finish } = await setup2(t, {
    origin: async (request, reply) => {
      if (request.target === '/') return void reply.send({ body: 'ok' })
      if (request.target === '/after') {
        await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf')
        await settle(5)
      }
      reply.reset()
    },
  })
  const client = client2()
  const after = await client.request({ ':path': '/after' })
  t.equal(after.status, 200)
  t.equal(after.body.toString(), 'half')
  t.equal(after.code, constants.NGHTTP2_INTERNAL_ERROR)
  const before = await client.request({ ':path': '/before' })
  t.equal(before.status, 503)
  t.ok(before.whole)
  t.equal((await client.request()).status, 200)
  t.equal(gateway.stat('http.test.downstream_cx_total'), 1)
  const lines = await finish()
  t.match(lines[0], { status: 200, flags: 'UC' })
})

t.test('an answer before the request is complete ends the stream with NO_ERROR behind it', async (t) => {
  const { frames } = await setup2(t, {
    routes: [{ match: { prefix: '/' }, direct_response: { status: 403, body: { inline_string: 'no' } } }],
  })
  const wire = await frames()
  await wire.write(headers(1, request('POST')), data(1, 'some'))
  const seen: string[] = []
  for (;;) {
    const frame = await wire.until((f) => f.streamId === 1)
    seen.push(describe(frame).replace(/^(HEADERS 1) \d+/, '$1'))
    if (frame.type === T.RST_STREAM) break
  }
  t.same(seen, ['HEADERS 1', 'DATA 1 +END_STREAM 2', 'RST_STREAM 1 code 0'])
  await wire.write(data(1, 'more'), headers(3, request('GET'), true))
  t.equal((await wire.until((f) => f.type === T.HEADERS)).streamId, 3, 'what follows is ignored')
})

t.test('bodies that do not keep their Content-Length break off', async (t) => {
  const filters = [
    {
      onResponseData: (_: unknown, chunk: Buffer): Buffer => chunk.subarray(0, chunk.length - 1),
    },
  ]
  const { client2, gateway } = await setup2(t, {
    origin: (_, reply) => void reply.send({ body: 'hello' }),
    gateway: { adjust: withFilters(...filters) },
  })
  const answer = await client2().request()
  t.equal(answer.status, 200)
  t.notOk(answer.whole)
  t.equal(answer.code, constants.NGHTTP2_INTERNAL_ERROR)
  await gateway.until(() => gateway.stat('http.test.downstream_rq_active') === 0, 'end of the request')
})

t.test('fields that need CONTINUATION pass both ways', async (t) => {
  const long = 'v'.repeat(40_000)
  const { client2, origin } = await setup2(t, {
    origin: (_, reply) =>
      void reply.send({
        body: 'ok',
        fields: [
          ['x-long', long.slice(0, 30_000)],
          ['x-last', '1'],
        ],
      }),
  })
  const client = client2({ settings: { maxHeaderListSize: 1 << 20 } })
  for (let round = 0; round < 3; round++) {
    const answer = await client.request({ 'x-big': long, 'x-end': 'e' })
    t.equal(answer.headers['x-long'] === long.slice(0, 30_000), true)
    t.equal(answer.headers['x-last'], '1')
    t.equal(answer.body.toString(), 'ok')
    t.equal(origin.requests[round].get('x-big') === long, true)
    t.equal(origin.requests[round].get('x-end'), 'e')
  }
})

t.test('heads over their limit are answered 431, and the connection lives', async (t) => {
  const { client2, gateway, frames, finish, origin } = await setup2(t, { hcm: { max_request_headers_kb: 8 } })
  const big: Fields = [['x-big', 'y'.repeat(10_000)]]
  const wire = await frames()
  await wire.write(headers(1, request('GET', '/', big), true))
  t.match(describe(await wire.until((f) => f.streamId === 1)), /^HEADERS 1 \d+$/)
  t.equal(describe(await wire.until((f) => f.streamId === 1)), 'DATA 1 +END_STREAM 31')
  await wire.write(headers(3, request('GET'), true))
  t.equal((await wire.until((f) => f.type === T.HEADERS)).streamId, 3)
  t.equal(gateway.stat('http2.header_overflow'), 1)
  // HEAD has no body, and the rest of an upload is not wanted.
  await wire.write(headers(5, request('HEAD', '/h', big), true), headers(7, request('POST', '/p', big)), data(7, 'x'))
  t.match(describe(await wire.until((f) => f.streamId === 5)), /^HEADERS 5 \+END_STREAM \d+$/)
  t.match(describe(await wire.until((f) => f.streamId === 7)), /^HEADERS 7 \d+$/)
  t.equal(describe(await wire.until((f) => f.streamId === 7)), 'DATA 7 +END_STREAM 31')
  t.equal(describe(await wire.until((f) => f.streamId === 7)), 'RST_STREAM 7 code 0')
  const many = Object.fromEntries(Array.from({ length: 120 }, (_, i) => [`x-${i}`, 'v']))
  const answer = await client2().request({ ':path': '/many', ...many })
  t.equal(answer.status, 431)
  t.equal(answer.body.toString(), 'Request Header Fields Too Large')
  t.equal(origin.requests.length, 1)
  t.equal(gateway.stat('http.test.downstream_rq_total'), 5)
  t.equal(gateway.stat('http.test.downstream_rq_http2_total'), 5)
  t.equal(gateway.stat('http.test.downstream_rq_4xx'), 4)
  t.equal(gateway.stat('http.test.downstream_rq_active'), 0)
  const refused = { status: 431, flags: 'DPE', details: 'http2.too_many_headers', attempts: 0 }
  t.match(
    (await finish()).filter((line) => line.status === 431),
    [
      { ...refused, method: 'GET', path: '/', sent: 31 },
      { ...refused, method: 'HEAD', path: '/h', sent: 0 },
      { ...refused, method: 'POST', path: '/p' },
      { ...refused, method: 'GET', path: '/many' },
    ],
  )
})

for (const alone of [true, false]) {
  t.test(
    `malformed requests are logged and counted, where ${alone ? 'the stream' : 'the connection'} ends`,
    async (t) => {
      const { gateway, frames, finish, origin } = await setup2(t, {
        hcm: { http2_protocol_options: { override_stream_error_on_invalid_http_message: alone } },
      })
      const malformed: readonly [Fields | Buffer, string][] = [
        [request('GET', '/', [['Upper', 'case']]), 'http2.invalid_header_name'],
        [request('GET', 'no-slash'), 'http2.invalid_path'],
        [request('GET', '/', [['connection', 'close']]), 'http2.connection_header'],
        [request('GET', '/', [['content-length', '5']]), 'http2.content_length_differs_from_data'],
      ]
      let wire = await frames()
      let id = 1
      for (const [fields] of malformed) {
        await wire.write(headers(id, fields, true))
        if (alone) t.equal(describe(await wire.until((f) => f.streamId === id)), `RST_STREAM ${id} code 1`)
        else {
          t.equal(describe(await wire.until((f) => f.type === T.GOAWAY)), 'GOAWAY 1 code 1')
          wire = await frames()
        }
        if (alone) id += 2
      }
      // One whose head was good, and whose body is not.
      await wire.write(headers(id, request('POST', '/late', [['content-length', '2']])), data(id, 'long', true))
      await wire.until((f) => f.type === (alone ? T.RST_STREAM : T.GOAWAY))
      t.equal(gateway.stat('http2.rx_messaging_error'), 5)
      t.equal(gateway.stat('http.test.downstream_rq_total'), 5)
      t.equal(gateway.stat('http.test.downstream_rq_active'), 0)
      t.equal(gateway.stat('http2.streams_active'), 0)
      t.equal(gateway.stat('http.test.downstream_cx_protocol_error'), alone ? 0 : 5)
      t.ok(origin.requests.length <= 1)
      const details = [...malformed.map(([, detail]) => detail), 'http2.content_length_differs_from_data']
      t.match(
        await finish(),
        details.map((detail) => ({ status: 0, flags: 'DPE', details: detail })),
      )
    },
  )
}

t.test('a flood of what is refused ends the connection and not the log', async (t) => {
  const { gateway, frames, finish } = await setup2(t, {
    hcm: {
      max_request_headers_kb: 1,
      http2_protocol_options: { override_stream_error_on_invalid_http_message: true },
    },
  })
  for (const more of [[['x-big', 'y'.repeat(2000)]], [['Upper', 'case']]] satisfies Fields[]) {
    const wire = await frames()
    const flood = Array.from({ length: 400 }, (_, i) => headers(2 * i + 1, request('GET', '/', more), true))
    await wire.write(...flood)
    await wire.until((f) => f.type === T.GOAWAY && f.payload.readUInt32BE(4) === 11)
  }
  t.equal(gateway.stat('http2.premature_resets'), 500)
  t.equal(gateway.stat('http.test.downstream_rq_active'), 0)
  t.equal((await finish()).length, 249 + 250)
})

t.test('a head that does not come to its end is logged', async (t) => {
  const clock = new TestClock()
  const { gateway, frames, finish } = await setup2(t, {
    gateway: { clock },
    hcm: { request_headers_timeout: '5s' },
  })
  const inFrame = await frames()
  await inFrame.write(headers(1, request('GET'), true).subarray(0, 20))
  const between = await frames()
  await between.write(splitHeaders(1, request('GET'), 20, true)[0])
  await settle(10)
  await clock.advanceAsync(5_200)
  for (const wire of [inFrame, between])
    await wire.until((f) => f.type === T.GOAWAY && f.payload.readUInt32BE(4) === 11)
  t.equal(gateway.stat('http.test.downstream_rq_header_timeout'), 2)
  t.equal(gateway.stat('http.test.downstream_rq_active'), 0)
  const line = { status: 0, flags: 'DPE', details: 'http2.request_header_timeout' }
  t.match(await finish(), [line, line])
})

t.test('requests that are refused before any filter are answered', async (t) => {
  const { frames, client2, origin } = await setup2(t, {
    hcm: {
      normalize_path: true,
      common_http_protocol_options: { headers_with_underscores_action: 'REJECT_REQUEST' },
    },
  })
  const client = client2()
  t.equal((await client.request({ x_y: '1' })).status, 400)
  t.equal((await client.request({ expect: 'miracles' })).status, 417)
  t.equal((await client.request({ ':method': 'OPTIONS', ':path': '*' })).status, 404)
  t.equal((await client.request({ ':path': '/a/../b' })).status, 200)
  const wire = await frames()
  await wire.write(
    headers(
      1,
      [
        [':method', 'GET'],
        [':scheme', 'http'],
        [':path', '/'],
      ],
      true,
    ),
  )
  const refused = await wire.until((f) => f.streamId === 1)
  t.equal(refused.payload[0], 0x8c, ':status 400 of the static table')
  t.same(
    origin.requests.map((r) => r.target),
    ['/b'],
  )
})

t.test('malformed messages end the stream, or by default the connection, as configured', async (t) => {
  for (const perStream of [false, true]) {
    const { frames, gateway, origin, finish } = await setup2(t, {
      hcm: { http2_protocol_options: { override_stream_error_on_invalid_http_message: perStream } },
      origin: (_, reply) => void reply.stall(),
    })
    const wire = await frames()
    await wire.write(headers(1, request('POST', '/', [['content-length', '3']])))
    await origin.seen(1)
    await wire.write(data(1, 'four'))
    const frame = await wire.until((f) => f.type === T.RST_STREAM || f.type === T.GOAWAY)
    t.equal(describe(frame), perStream ? 'RST_STREAM 1 code 1' : 'GOAWAY 1 code 1')
    await gateway.until(() => gateway.stat('http.test.downstream_rq_active') === 0, 'end of the request')
    if (!perStream) t.equal((await wire.rest()).length, 0)
    t.equal(gateway.stat('http.test.downstream_cx_protocol_error'), perStream ? 0 : 1)
    const [line] = await finish()
    t.match(line, { flags: 'DPE', details: 'http2.content_length_differs_from_data' })
  }
})

t.test('a connection that is cut fails its requests, and nothing else', async (t) => {
  const { gateway, origin, client2, frames, finish } = await setup2(t, { origin: (_, reply) => void reply.stall() })
  const wire = await frames()
  await wire.write(headers(1, request('GET'), true), headers(3, request('GET'), true))
  await origin.seen(2)
  wire.socket.resetAndDestroy()
  await gateway.until(() => gateway.stat('http.test.downstream_rq_active') === 0, 'end of the requests')
  const other = client2()
  const stream = other.stream()
  const gone = answerOf(stream)
  await origin.seen(3)
  stream.close()
  await gone
  const fin = await frames()
  await fin.write(headers(1, request('GET'), true))
  await origin.seen(4)
  fin.wire.end()
  t.equal((await fin.rest()).filter((f) => f.type === T.HEADERS).length, 0)
  await gateway.until(() => gateway.stat('http.test.downstream_rq_active') === 0, 'end of the last request')
  const lines = await finish()
  t.same(
    lines.map((line) => line.flags),
    ['DC', 'DC', 'DR', 'DC'],
  )
})

t.test('streams above the limit are refused so that they can be tried again', async (t) => {
  const { origin, frames } = await setup2(t, {
    hcm: { http2_protocol_options: { max_concurrent_streams: 2 } },
    origin: (_, reply) => void reply.stall(),
  })
  const wire = await frames()
  await wire.write(...[1, 3, 5].map((id) => headers(id, request('GET'), true)))
  t.equal(describe(await wire.until((f) => f.streamId > 0)), 'RST_STREAM 5 code 7')
  await origin.seen(2)
  t.equal(origin.requests.length, 2)
})
