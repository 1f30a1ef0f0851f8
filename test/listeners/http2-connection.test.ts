import { once } from 'node:events'
import t from 'tap'
import { bootstrap, cluster } from '../end-to-end/bootstrap.ts'
import { settle, TestClock } from '../support/clock.ts'
import {
  describe,
  FLAG,
  type Frame,
  headers,
  PREFACE,
  ping,
  request,
  SETTING,
  settings,
  T,
} from '../support/http2-wire.ts'
import { answerOf, FrameWire, setup2 } from './http2-client.ts'

/** Deadlines and endings of connections. */

const ANSWER = [{ match: { prefix: '/' }, direct_response: { status: 200 } }]
const MAX_ID = 0x7fffffff

function kinds(frames: readonly Frame[]): string[] {
  return frames.filter((f) => f.type !== T.WINDOW_UPDATE && f.type !== T.SETTINGS).map(describe)
}

function pong(frame: Frame): Buffer {
  return ping(frame.payload.toString('latin1'), true)
}

t.test('a drain is announced, what is on its way is served, then the connection closes', async (t) => {
  const waiting: (() => void)[] = []
  const clock = new TestClock()
  const { gateway, origin, frames } = await setup2(t, {
    gateway: { clock },
    origin: async (request, reply) => {
      await new Promise<void>((resolve) => waiting.push(resolve))
      await reply.send({ body: request.target })
    },
  })
  const wire = await frames()
  await wire.write(headers(1, request('GET', '/1'), true))
  await origin.seen(1)
  const drained = gateway.engine.drain(60_000)
  t.equal(describe(await wire.until((f) => f.type === T.GOAWAY)), `GOAWAY ${MAX_ID} code 0`)
  // It was on its way when the announcement came.
  await wire.write(headers(3, request('GET', '/3'), true))
  await origin.seen(2)
  await clock.advanceAsync(5_100)
  t.equal(describe(await wire.until((f) => f.type === T.GOAWAY)), 'GOAWAY 3 code 0')
  await wire.write(headers(5, request('GET', '/5'), true))
  t.equal(describe(await wire.until((f) => f.type === T.RST_STREAM)), 'RST_STREAM 5 code 7')
  for (const go of waiting) go()
  const bodies = (await wire.rest()).filter((f) => f.type === T.DATA)
  t.same(bodies.map((f) => f.payload.toString()).sort(), ['/1', '/3'])
  t.ok(bodies.every((f) => (f.flags & FLAG.END_STREAM) !== 0))
  t.equal(wire.ending, 'fin')
  wire.wire.end()
  await drained
  t.equal(gateway.stat('http.test.downstream_cx_drain_close'), 1)
})

t.test('an idle connection drains as soon as its client is known to have heard of it', async (t) => {
  const clock = new TestClock()
  const { gateway, frames } = await setup2(t, { gateway: { clock }, routes: ANSWER })
  const wire = await frames()
  const drained = gateway.engine.drain(60_000)
  t.equal(describe(await wire.until((f) => f.type === T.GOAWAY)), `GOAWAY ${MAX_ID} code 0`)
  const asked = await wire.until((f) => f.type === T.PING)
  // Sent before the client had seen it: the answer is not lost.
  await wire.write(headers(1, request('GET'), true))
  await wire.until((f) => f.type === T.HEADERS && f.streamId === 1)
  await wire.write(pong(asked))
  t.same(kinds(await wire.rest()), ['GOAWAY 1 code 0'])
  t.equal(wire.ending, 'fin')
  wire.wire.end()
  await drained
})

t.test('clients of node:http2 lose nothing in a drain', async (t) => {
  const { gateway, client2 } = await setup2(t, { origin: (_, reply) => void reply.send({ body: 'ok' }) })
  const clients = Array.from({ length: 5 }, () => client2())
  const answers = clients.flatMap((client) => Array.from({ length: 20 }, () => client.request()))
  await gateway.until(() => gateway.stat('http.test.downstream_cx_http2_active') === 5, 'all connections')
  const drained = gateway.engine.drain(20_000)
  t.same([...new Set((await Promise.all(answers)).map((a) => `${a.status} ${a.body}`))], ['200 ok'])
  await Promise.all(clients.map((client) => client.closed))
  await drained
  for (const client of clients) t.same(client.goaways[0], { code: 0, last: MAX_ID })
})

t.test('max_requests_per_connection: two steps, and the requests in between are answered', async (t) => {
  const clock = new TestClock()
  const { gateway, frames } = await setup2(t, {
    gateway: { clock },
    routes: ANSWER,
    hcm: { common_http_protocol_options: { max_requests_per_connection: 2 } },
  })
  const wire = await frames()
  await wire.write(...[1, 3, 5].map((id) => headers(id, request('GET'), true)))
  const seen: string[] = []
  let asked: Frame | undefined
  while (asked === undefined || seen.length < 4) {
    const frame = await wire.until((f) => f.type !== T.WINDOW_UPDATE)
    if (frame.type === T.PING) asked = frame
    else seen.push(describe(frame).replace(/ \d+$/, ''))
  }
  t.same(
    seen.filter((line) => line.startsWith('HEADERS')),
    ['HEADERS 1 +END_STREAM', 'HEADERS 3 +END_STREAM', 'HEADERS 5 +END_STREAM'],
  )
  t.equal(seen.filter((line) => line === `GOAWAY ${MAX_ID} code`).length, 1)
  await wire.write(pong(asked))
  t.same(kinds(await wire.rest()), ['GOAWAY 5 code 0'])
  t.equal(gateway.stat('http.test.downstream_cx_max_requests_reached'), 1)
})

t.test('an idle connection is drained and closed; one with a stream is not idle', async (t) => {
  const clock = new TestClock()
  let answer = (): void => {}
  const { gateway, origin, frames } = await setup2(t, {
    gateway: { clock },
    hcm: { common_http_protocol_options: { idle_timeout: '10s' } },
    origin: async (_, reply) => {
      await new Promise<void>((resolve) => {
        answer = resolve
      })
      await reply.send({})
    },
    routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', timeout: '0s' } }],
  })
  const wire = await frames()
  await wire.write(headers(1, request('GET'), true))
  await origin.seen(1)
  await clock.advanceAsync(15_000)
  t.equal(gateway.stat('http.test.downstream_cx_idle_timeout'), 0)
  answer()
  await wire.until((f) => f.type === T.HEADERS)
  await clock.advanceAsync(9_900)
  t.equal(gateway.stat('http.test.downstream_cx_idle_timeout'), 0)
  await clock.advanceAsync(200)
  t.equal(gateway.stat('http.test.downstream_cx_idle_timeout'), 1)
  t.equal(describe(await wire.until((f) => f.type === T.GOAWAY)), `GOAWAY ${MAX_ID} code 0`)
  // It never answers the PING: the second step comes with the time.
  await clock.advanceAsync(5_100)
  t.same(kinds(await wire.rest()).slice(-1), ['GOAWAY 1 code 0'])
  t.equal(wire.ending, 'fin')
  t.equal(gateway.stat('http.test.downstream_cx_active'), 1, 'its client has not closed')
  await clock.advanceAsync(1_100)
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'delayed close')
})

t.test('max_connection_duration drains a busy connection', async (t) => {
  const clock = new TestClock()
  const { gateway, origin, frames } = await setup2(t, {
    gateway: { clock },
    hcm: { common_http_protocol_options: { max_connection_duration: '30s' } },
    origin: (_, reply) => void reply.stall(),
    routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', timeout: '0s' } }],
  })
  const wire = await frames()
  await wire.write(headers(1, request('GET'), true))
  await origin.seen(1)
  await clock.advanceAsync(30_100)
  t.equal(describe(await wire.until((f) => f.type === T.GOAWAY)), `GOAWAY ${MAX_ID} code 0`)
  await clock.advanceAsync(5_100)
  t.equal(describe(await wire.until((f) => f.type === T.GOAWAY)), 'GOAWAY 1 code 0')
  t.equal(gateway.stat('http.test.downstream_cx_max_duration_reached'), 1)
  t.equal(gateway.stat('http.test.downstream_rq_active'), 1, 'its request goes on')
})

t.test('keepalive PINGs: whoever answers lives, whoever does not is cut', async (t) => {
  const clock = new TestClock()
  const { gateway, origin, frames } = await setup2(t, {
    gateway: { clock },
    hcm: { http2_protocol_options: { connection_keepalive: { interval: '10s', timeout: '2s' } } },
    origin: (_, reply) => void reply.stall(),
    routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', timeout: '0s' } }],
  })
  const wire = await frames()
  await wire.write(headers(1, request('GET'), true))
  await origin.seen(1)
  for (let round = 0; round < 3; round++) {
    await clock.advanceAsync(10_100)
    await wire.write(pong(await wire.until((f) => f.type === T.PING)))
    await settle(10)
  }
  t.equal(gateway.stat('http2.keepalive_timeout'), 0)
  await clock.advanceAsync(10_100)
  await wire.until((f) => f.type === T.PING)
  // Anything shows that it lives.
  await clock.advanceAsync(1_500)
  await wire.write(ping('otherone'))
  await wire.until((f) => f.type === T.PING && (f.flags & FLAG.ACK) !== 0)
  await clock.advanceAsync(1_500)
  t.equal(gateway.stat('http2.keepalive_timeout'), 0)
  await clock.advanceAsync(1_000)
  t.equal(gateway.stat('http2.keepalive_timeout'), 1)
  await wire.rest()
  t.equal(wire.ending, 'reset')
  await gateway.until(() => gateway.stat('http.test.downstream_rq_active') === 0, 'end of the request')
})

t.test('deadlines that are shorter than that of the preface are kept from the beginning', async (t) => {
  for (const [hcm, stat] of [
    [{ common_http_protocol_options: { idle_timeout: '1s' } }, 'downstream_cx_idle_timeout'],
    [{ common_http_protocol_options: { max_connection_duration: '1s' } }, 'downstream_cx_max_duration_reached'],
  ] as const) {
    for (const asks of [0, 1]) {
      const clock = new TestClock()
      const { gateway, frames } = await setup2(t, { gateway: { clock }, routes: ANSWER, hcm })
      const wire = await frames()
      if (asks > 0) await wire.write(headers(1, request('GET'), true))
      if (asks > 0) await wire.until((f) => f.type === T.HEADERS)
      await clock.advanceAsync(900)
      t.equal(gateway.stat(`http.test.${stat}`), 0)
      await clock.advanceAsync(200)
      t.equal(describe(await wire.until((f) => f.type === T.GOAWAY)), `GOAWAY ${MAX_ID} code 0`)
      t.equal(gateway.stat(`http.test.${stat}`), 1)
    }
  }
  const clock = new TestClock()
  const { frames } = await setup2(t, {
    gateway: { clock },
    hcm: { http2_protocol_options: { connection_keepalive: { interval: '1s', timeout: '1s' } } },
  })
  const wire = await frames()
  await clock.advanceAsync(1_100)
  await wire.until((f) => f.type === T.PING)
})

t.test('a client that says nothing, or half a preface, or acknowledges nothing', async (t) => {
  const clock = new TestClock()
  const { gateway, connect } = await setup2(t, { gateway: { clock }, routes: ANSWER, hcm: { codec_type: 'HTTP2' } })
  const silent = new FrameWire(await connect({ halfOpen: true }))
  const half = new FrameWire(await connect({ halfOpen: true }))
  const mute = new FrameWire(await connect({ halfOpen: true }))
  await half.write(PREFACE.subarray(0, 10))
  await mute.write(PREFACE, settings(), headers(1, request('GET'), true))
  await mute.until((f) => f.type === T.HEADERS)
  await clock.advanceAsync(4_900)
  t.equal(gateway.stat('http.test.downstream_cx_http2_setup_timeout'), 0)
  await clock.advanceAsync(200)
  for (const wire of [silent, half]) t.match(kinds(await wire.rest()), [/GOAWAY 0 code 4/])
  t.equal(gateway.stat('http.test.downstream_cx_http2_setup_timeout'), 2)
  await clock.advanceAsync(5_000)
  t.same(kinds(await mute.rest()), ['GOAWAY 1 code 4'])
  t.equal(gateway.stat('http.test.downstream_cx_http2_setup_timeout'), 3)
  await clock.advanceAsync(1_100)
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'delayed close')
})

t.test('a header block that stalls ends its connection', async (t) => {
  const clock = new TestClock()
  const { gateway, frames } = await setup2(t, {
    gateway: { clock },
    routes: ANSWER,
    hcm: { request_headers_timeout: '3s' },
  })
  const wire = await frames()
  const whole = headers(1, request('GET'), true)
  whole[4] &= ~FLAG.END_HEADERS
  await wire.write(whole)
  await settle(10)
  await clock.advanceAsync(2_900)
  t.equal(gateway.stat('http.test.downstream_rq_header_timeout'), 0)
  await clock.advanceAsync(200)
  t.match(kinds(await wire.rest()), [/GOAWAY 1 code 11|GOAWAY 0 code 11/])
  t.equal(gateway.stat('http.test.downstream_rq_header_timeout'), 1)
})

t.test('a response that is complete, and never read, is given up', async (t) => {
  const clock = new TestClock()
  const { gateway, connect } = await setup2(t, {
    gateway: { clock },
    hcm: { stream_idle_timeout: '20s' },
    origin: (_, reply) => void reply.send({ body: 'x'.repeat(5_000) }),
  })
  const wire = new FrameWire(await connect({ halfOpen: true }))
  await wire.start([SETTING.INITIAL_WINDOW_SIZE, 100])
  await wire.write(headers(1, request('GET'), true))
  await wire.until((f) => f.type === T.DATA)
  await gateway.until(() => gateway.stat('http.test.downstream_rq_active') === 0, 'end of the exchange')
  t.equal(gateway.stat('http2.streams_active'), 1)
  await clock.advanceAsync(41_000)
  t.equal(describe(await wire.until((f) => f.type === T.RST_STREAM)), 'RST_STREAM 1 code 8')
  t.equal(gateway.stat('http2.tx_flush_timeout'), 1)
  t.equal(gateway.stat('http2.streams_active'), 0)
  t.equal(gateway.stat('http2.pending_send_bytes'), 0)
})

t.test('a client that goes with FIN while idle is answered with GOAWAY and FIN', async (t) => {
  const { gateway, frames } = await setup2(t, { routes: ANSWER })
  const wire = await frames()
  await wire.write(headers(1, request('GET'), true))
  await wire.until((f) => f.type === T.HEADERS)
  wire.wire.end()
  t.same(kinds(await wire.rest()), ['GOAWAY 1 code 0'])
  t.equal(wire.ending, 'fin')
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'end of the connection')
})

t.test('an update changes the limits of connections that are open', async (t) => {
  const { gateway, client2, origin } = await setup2(t, { origin: (_, reply) => void reply.send({ body: 'old' }) })
  const client = client2()
  t.equal((await client.request()).body.toString(), 'old')
  await gateway.apply(
    bootstrap({
      clusters: [cluster('origin', origin.port)],
      routes: [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'new' } } }],
    }),
  )
  t.equal((await client.request()).body.toString(), 'new')
  t.equal(gateway.stat('http.test.downstream_cx_total'), 1)
})

t.test('a gateway that closes ends all streams', async (t) => {
  const { gateway, origin, client2 } = await setup2(t, { origin: (_, reply) => void reply.stall() })
  const client = client2()
  const stream = client.stream()
  const answer = answerOf(stream)
  await origin.seen(1)
  const closed = once(client.session, 'close')
  await gateway.close()
  t.notOk((await answer).whole)
  await closed
})
