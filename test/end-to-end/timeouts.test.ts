import t from 'tap'
import type { AnyFilterFactory } from '../../lib/chain/registry.ts'
import { settle, TestClock } from '../support/clock.ts'
import type { OriginScript } from '../support/origin.ts'
import type { Wire } from '../support/wire.ts'
import { type Fields, toOrigin, upstreamOptions } from './bootstrap.ts'
import { get, post, type Setup, type SetupSpec, setup } from './setup.ts'

/** Every deadline of connection, request, route and pool, on a clock that the test moves. */

const stall: OriginScript = async (request, reply) => {
  if (request.target === '/ok') {
    await reply.send({ body: 'ok' })
    return
  }
  if (request.target === '/begun') await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf')
  await reply.stall()
}

async function timed(t: Parameters<typeof setup>[0], spec: SetupSpec = {}): Promise<Setup & Timed> {
  const clock = new TestClock()
  const s = await setup(t, { origin: stall, ...spec, gateway: { clock, ...spec.gateway } })
  return {
    ...s,
    clock,
    /** Lets everything arrive, then moves on. */
    async pass(ms) {
      await settle(10)
      clock.advance(ms)
      await settle(10)
    },
  }
}

interface Timed {
  readonly clock: TestClock
  pass(ms: number): Promise<void>
}

const common = (fields: Fields): Fields => ({ common_http_protocol_options: fields })

t.test('request_headers_timeout: the whole head counts, however it drips', async (t) => {
  const { connect, gateway, pass, origin, finish } = await timed(t, { hcm: { request_headers_timeout: '5s' } })
  const wire = await connect()
  await pass(20_000)
  await wire.write('GET / HTTP/1.1\r\n')
  for (let i = 0; i < 4; i++) {
    await pass(1_200)
    await wire.write(`x-${i}: y\r\n`)
  }
  t.equal(wire.stream.received, 0)
  await pass(300)
  const response = await wire.readResponse()
  t.equal(response.status, 408)
  t.equal(response.get('connection'), 'close')
  t.equal(await wire.expectEnd(), 'fin')
  t.equal(gateway.stat('http.test.downstream_rq_header_timeout'), 1)
  t.equal(origin.requests.length, 0)
  const [line] = await finish()
  t.equal(line.status, 408)
  t.equal(line.details, 'request_header_timeout')
})

t.test('request_headers_timeout begins anew with each request of a connection', async (t) => {
  const { connect, pass } = await timed(t, { hcm: { request_headers_timeout: '5s' } })
  const wire = await connect()
  for (let i = 0; i < 3; i++) {
    await wire.write('GET /ok HTTP/1.1\r\n')
    await pass(4_000)
    t.equal((await wire.exchange('host: a\r\n\r\n')).text(), 'ok')
    await pass(4_000)
  }
})

t.test(
  'idle timeout of a connection: counts from the end of the last response, not while one is on its way',
  async (t) => {
    const { connect, gateway, pass } = await timed(t, {
      hcm: common({ idle_timeout: '10s' }),
      routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', timeout: '0s' } }],
    })
    const unused = await connect()
    const busy = await connect()
    const used = await connect()
    await busy.write(get('/stalls'))
    await pass(6_000)
    t.equal((await used.exchange(get('/ok'))).text(), 'ok')
    await pass(4_100)
    t.equal(await unused.expectEnd(), 'fin')
    t.equal(gateway.stat('http.test.downstream_cx_idle_timeout'), 1)
    await pass(5_600)
    t.equal(gateway.stat('http.test.downstream_cx_idle_timeout'), 1, 'not yet')
    await pass(400)
    t.equal(await used.expectEnd(), 'fin')
    t.equal(gateway.stat('http.test.downstream_cx_idle_timeout'), 2)
    await pass(60_000)
    t.equal(busy.stream.ending, 'open', 'an exchange is no idleness')
    t.equal(gateway.stat('http.test.downstream_cx_active'), 1)
  },
)

t.test('stream_idle_timeout: 504 before the response has begun, a broken response after', async (t) => {
  const { connect, gateway, pass, origin, finish } = await timed(t, {
    hcm: { stream_idle_timeout: '3s' },
    routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', timeout: '0s' } }],
  })
  const wire = await connect()
  await wire.write(get('/stalls'))
  await origin.seen(1)
  await pass(2_900)
  t.equal(wire.stream.received, 0)
  await pass(200)
  const response = await wire.readResponse()
  t.equal(response.status, 504)
  t.equal(response.text(), 'stream timeout')
  t.not(await origin.requests[0].ended, 'open', 'the upstream request was cancelled')
  const other = await connect()
  await other.write(get('/begun'))
  await other.readUntil('half')
  await pass(3_100)
  t.equal((await other.readToEnd()).ending, 'reset')
  t.equal(gateway.stat('http.test.downstream_rq_idle_timeout'), 2)
  const lines = await finish()
  t.same(
    lines.map((line) => [line.status, line.flags, line.details]),
    [
      [504, 'SI', 'stream_idle_timeout'],
      [200, 'SI', 'stream_idle_timeout'],
    ],
  )
})

t.test('stream_idle_timeout: each piece of a body starts it anew, in either direction', async (t) => {
  let answer = (_: string): Promise<boolean> => Promise.resolve(false)
  const { connect, pass } = await timed(t, {
    hcm: { stream_idle_timeout: '3s' },
    routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', timeout: '0s' } }],
    origin: async (request, reply) => {
      await request.body
      await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n')
      answer = (bytes) => reply.write(bytes)
    },
  })
  const wire = await connect()
  await wire.write('POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n')
  for (let i = 0; i < 4; i++) {
    await pass(2_500)
    await wire.write('1\r\na\r\n')
  }
  await pass(2_500)
  await wire.write('0\r\n\r\n')
  await settle(10)
  for (let i = 0; i < 4; i++) {
    await pass(2_500)
    await answer('b')
  }
  t.equal((await wire.readResponse()).text(), 'bbbb')
})

t.test('the idle timeout of a route replaces the one of the connection manager', async (t) => {
  const { connect, pass } = await timed(t, {
    hcm: { stream_idle_timeout: '3s' },
    routes: [
      { match: { prefix: '/short' }, route: { cluster: 'origin', timeout: '0s', idle_timeout: '1s' } },
      { match: { prefix: '/off' }, route: { cluster: 'origin', timeout: '0s', idle_timeout: '0s' } },
    ],
  })
  const short = await connect()
  const off = await connect()
  await short.write(get('/short'))
  await off.write(get('/off'))
  await pass(1_100)
  t.equal((await short.readResponse()).status, 504)
  await pass(100_000)
  t.equal(off.stream.received, 0)
  t.equal(off.stream.ending, 'open')
})

t.test('request_timeout: 408 where the request has not arrived whole, nothing where it has', async (t) => {
  const { connect, gateway, pass, origin, finish } = await timed(t, { hcm: { request_timeout: '4s' } })
  const slow = await connect()
  await slow.write('POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n')
  const whole = await connect()
  await whole.write(post('abc'))
  await origin.seen(2)
  await pass(3_900)
  t.equal(slow.stream.received, 0)
  await pass(200)
  const response = await slow.readResponse()
  t.equal(response.status, 408)
  t.equal(response.text(), 'request timeout')
  t.equal(await slow.expectEnd(), 'fin')
  t.equal(gateway.stat('http.test.downstream_rq_timeout'), 1)
  t.equal(whole.stream.received, 0)
  const lines = await finish()
  t.equal(lines.find((line) => line.status === 408)?.details, 'request_overall_timeout')
})

t.test(
  'max_stream_duration of the connection manager: 504 before the response, DT and a broken one after',
  async (t) => {
    const { connect, gateway, pass, finish } = await timed(t, { hcm: common({ max_stream_duration: '5s' }) })
    const before = await connect()
    const after = await connect()
    await before.write(get('/stalls'))
    await after.write(get('/begun'))
    await after.readUntil('half')
    await pass(5_100)
    t.equal((await before.readResponse()).status, 504)
    t.equal((await after.readToEnd()).ending, 'reset')
    t.equal(gateway.stat('http.test.downstream_rq_max_duration_reached'), 2)
    t.same(
      (await finish()).map((line) => line.flags),
      ['-', 'DT'],
    )
  },
)

t.test('max_stream_duration of a route and of a cluster', async (t) => {
  const { connect, pass, finish } = await timed(t, {
    cluster: upstreamOptions({ max_stream_duration: '4s' }),
    routes: [
      {
        match: { prefix: '/route' },
        route: { cluster: 'origin', timeout: '0s', max_stream_duration: { max_stream_duration: '2s' } },
      },
      { match: { prefix: '/' }, route: { cluster: 'origin', timeout: '0s' } },
    ],
  })
  const byRoute = await connect()
  const byCluster = await connect()
  await byRoute.write(get('/route'))
  await byCluster.write(get('/cluster'))
  await pass(2_100)
  t.equal((await byRoute.readResponse()).status, 504)
  t.equal(byCluster.stream.received, 0)
  await pass(2_000)
  t.equal((await byCluster.readResponse()).status, 504)
  t.same(
    (await finish()).map((line) => line.flags),
    ['-', 'UMSDR'],
  )
})

t.test('max_connection_duration: an idle connection ends, a busy one after its response', async (t) => {
  let answer = (): Promise<boolean> => Promise.resolve(false)
  const { connect, gateway, pass } = await timed(t, {
    hcm: common({ max_connection_duration: '10s' }),
    origin: async (request, reply) => {
      if (request.target === '/late') {
        await new Promise<void>((resolve) => {
          answer = () => {
            resolve()
            return reply.send({ body: 'late' })
          }
        })
      } else if (request.target === '/begun') {
        await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nbe')
        await new Promise<void>((resolve) => {
          answer2 = () => {
            resolve()
            return reply.write('gun')
          }
        })
      } else await reply.send({ body: 'ok' })
    },
  })
  let answer2 = (): Promise<boolean> => Promise.resolve(false)
  const idle = await connect()
  const late = await connect()
  const begun = await connect()
  t.equal((await idle.exchange(get('/ok'))).get('connection'), undefined)
  await pass(9_000)
  await late.write(get('/late'))
  await begun.write(get('/begun'))
  await begun.readUntil('be')
  await pass(1_100)
  t.equal(await idle.expectEnd(), 'fin')
  t.equal(late.stream.ending, 'open')
  await answer()
  const response = await late.readResponse()
  t.equal(response.text(), 'late')
  t.equal(response.get('connection'), 'close', 'its time is up')
  t.equal(await late.expectEnd(), 'fin')
  await answer2()
  t.equal((await begun.readUntil('gun')).toString(), 'gun')
  t.equal(await begun.expectEnd(), 'fin', 'too late to say so, but not too late to end it')
  t.equal(gateway.stat('http.test.downstream_cx_max_duration_reached'), 3)
})

t.test('max_requests_per_connection: the last response says that it is the last', async (t) => {
  const { connect, gateway } = await timed(t, { hcm: common({ max_requests_per_connection: 3 }) })
  const wire = await connect()
  await wire.write(get('/ok').repeat(4))
  for (const last of [false, false, true]) {
    const response = await wire.readResponse()
    t.equal(response.text(), 'ok')
    t.equal(response.get('connection'), last ? 'close' : undefined)
  }
  t.equal(await wire.expectEnd(), 'fin')
  t.equal(gateway.stat('http.test.downstream_cx_max_requests_reached'), 1)
})

t.test('route timeout: 504 UT, counted from the end of the request; a broken response once it has begun', async (t) => {
  const { connect, gateway, pass, origin, finish } = await timed(t, {
    routes: [
      { match: { prefix: '/off' }, route: { cluster: 'origin', timeout: '0s' } },
      { match: { prefix: '/standard' }, route: { cluster: 'origin' } },
      { match: { prefix: '/' }, route: { cluster: 'origin', timeout: '2s' } },
    ],
  })
  const upload = await connect()
  await upload.write('POST /upload HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n')
  await origin.seen(1)
  await pass(10_000)
  t.equal(upload.stream.received, 0, 'the upload takes as long as it likes')
  await upload.write('0\r\n\r\n')
  await pass(1_900)
  t.equal(upload.stream.received, 0)
  await pass(200)
  const response = await upload.readResponse()
  t.equal(response.status, 504)
  t.equal(response.text(), 'upstream request timeout')
  t.equal(response.get('connection'), undefined, 'the client did nothing wrong')
  t.equal((await upload.exchange(get('/ok'))).text(), 'ok')

  const begun = await connect()
  await begun.write(get('/begun'))
  await begun.readUntil('half')
  await pass(2_100)
  t.equal((await begun.readToEnd()).ending, 'reset')
  t.equal(gateway.stat('cluster.origin.upstream_rq_timeout'), 2)

  const [standard, off] = [await connect(), await connect()]
  await standard.write(get('/standard'))
  await off.write(get('/off'))
  await pass(14_800)
  t.equal(standard.stream.received, 0)
  await pass(300)
  t.equal((await standard.readResponse()).status, 504, '15 s where nothing is said')
  await pass(100_000)
  t.equal(off.stream.received, 0)
  await off.close()
  const flags = (await finish()).map((line) => [line.path, line.flags])
  t.same(flags, [
    ['/upload', 'UT'],
    ['/ok', '-'],
    ['/begun', 'UT'],
    ['/standard', 'UT'],
    ['/off', 'DC'],
  ])
})

/** Moves the clock before a connection attempt, which has begun by then, can succeed. */
function hasty(clock: TestClock, ms: number): AnyFilterFactory {
  return {
    name: 'hasty',
    // Any message without fields.
    typeUrls: ['envoy.extensions.filters.http.alternate_protocols_cache.v3.FilterConfig'],
    parse: () => ({}),
    compile: () => ({
      onRequestHeaders(): undefined {
        queueMicrotask(() => clock.advance(ms))
      },
    }),
  }
}

t.test('connect timeout: 503 UF, and the connection is given up', async (t) => {
  const clock = new TestClock()
  const { connect, gateway, finish } = await setup(t, {
    gateway: { clock, filters: [hasty(clock, 400)] },
    filters: [
      {
        name: 'hasty',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.filters.http.alternate_protocols_cache.v3.FilterConfig',
        },
      },
    ],
    cluster: { connect_timeout: '0.25s' },
  })
  const wire = await connect()
  const response = await wire.exchange(get())
  t.equal(response.status, 503)
  t.equal(
    response.text(),
    'upstream connect error or disconnect/reset before headers. reset reason: connection timeout',
  )
  t.equal(gateway.stat('cluster.origin.upstream_cx_connect_timeout'), 1)
  t.equal(gateway.stat('cluster.origin.upstream_cx_connect_fail'), 1)
  await gateway.until(() => gateway.stat('cluster.origin.upstream_cx_active') === 0, 'end of the attempt')
  const [line] = await finish()
  t.equal(line.flags, 'UF')
  t.equal(line.details, 'upstream_reset_before_response_started{connection_timeout}')
})

t.test('idle timeout of a pool: the connection ends, the next request gets a new one', async (t) => {
  const { connect, gateway, pass, origin } = await timed(t, { cluster: upstreamOptions({ idle_timeout: '5s' }) })
  const wire = await connect()
  t.equal((await wire.exchange(get('/ok'))).text(), 'ok')
  await pass(4_000)
  t.equal((await wire.exchange(get('/ok'))).text(), 'ok')
  await pass(4_900)
  t.equal(origin.open, 1, 'used meanwhile')
  await pass(200)
  await origin.until(() => origin.open === 0, 'end of the idle connection')
  t.equal(gateway.stat('cluster.origin.upstream_cx_idle_timeout'), 1)
  t.equal((await wire.exchange(get('/ok'))).text(), 'ok')
  t.equal(origin.connections, 2)
})

t.test('upstream connections have a number of requests and an age', async (t) => {
  const numbered = await timed(t, { cluster: upstreamOptions({ max_requests_per_connection: 2 }) })
  const wire = await numbered.connect()
  for (let i = 0; i < 5; i++) t.equal((await wire.exchange(get('/ok'))).text(), 'ok')
  t.same(
    numbered.origin.requests.map((request) => request.connection),
    [1, 1, 2, 2, 3],
  )
  t.equal(numbered.gateway.stat('cluster.origin.upstream_cx_max_requests'), 2)
  const aged = await timed(t, { cluster: upstreamOptions({ max_connection_duration: '10s' }) })
  const other = await aged.connect()
  t.equal((await other.exchange(get('/ok'))).text(), 'ok')
  await aged.pass(9_000)
  t.equal((await other.exchange(get('/ok'))).text(), 'ok')
  await aged.pass(2_000)
  t.equal((await other.exchange(get('/ok'))).text(), 'ok')
  t.equal((await other.exchange(get('/ok'))).text(), 'ok')
  const used = aged.origin.requests.map((request) => request.connection)
  t.equal(used[1], 1)
  t.equal(used[3], 2, 'not on the old one')
  t.equal(aged.gateway.stat('cluster.origin.upstream_cx_max_duration_reached'), 1)
})

t.test('delayed close: the client has its time to read, and no longer', async (t) => {
  const { connect, gateway, pass } = await timed(t)
  const wire = await connect({ halfOpen: true })
  const response = await wire.exchange('BAD\r\n\r\n')
  t.equal(response.status, 400)
  t.equal((await wire.readToEnd()).ending, 'fin')
  for (let i = 0; i < 5; i++) await wire.write('still talking')
  await pass(900)
  t.equal(gateway.stat('http.test.downstream_cx_active'), 1)
  await pass(200)
  t.equal(gateway.stat('http.test.downstream_cx_active'), 0)
})

t.test('a delayed close of 0 ends at once, the answer not lost', async (t) => {
  const { connect, gateway } = await timed(t, { hcm: { delayed_close_timeout: '0s' } })
  const wire = await connect({ halfOpen: true })
  t.equal((await wire.exchange('BAD\r\n\r\n')).status, 400)
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'end of the connection')
})

t.test('a body of known length must come at a pace; one without may be as slow as it likes', async (t) => {
  const { connect, gateway, pass, origin, finish } = await timed(t, {
    origin: async (request, reply) => {
      const { bytes } = await request.body
      await reply.send({ body: String(bytes.length) })
    },
  })
  const slow = await connect()
  const steady = await connect()
  const stream = await connect()
  await slow.write('POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 10000\r\n\r\n')
  await steady.write('POST /steady HTTP/1.1\r\nhost: a\r\ncontent-length: 10000\r\n\r\n')
  await stream.write('POST /stream HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n')
  await origin.seen(3)
  for (let i = 0; i < 5; i++) {
    await slow.write('x'.repeat(100))
    await steady.write('x'.repeat(400))
    await stream.write('1\r\nx\r\n')
    await pass(1_100)
  }
  const response = await slow.readResponse()
  t.equal(response.status, 408)
  t.equal(await slow.expectEnd(), 'fin')
  t.equal(gateway.stat('http.test.downstream_rq_slow_body'), 1)
  for (let i = 0; i < 10; i++) {
    await steady.write('x'.repeat(800))
    await pass(2_000)
  }
  t.equal((await steady.readResponse()).text(), '10000')
  t.equal((await stream.exchange('0\r\n\r\n')).text(), '5')
  const lines = await finish()
  t.equal(lines.find((line) => line.path === '/slow')?.details, 'request_body_too_slow')
})

t.test('a body that we hold up is not called slow', async (t) => {
  let release = (): void => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  const SIZE = 24 << 20
  const { connect, pass } = await timed(t, {
    hcm: { stream_idle_timeout: '0s' },
    routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', timeout: '0s' } }],
    origin: {
      readBodies: false,
      script: async (request, reply) => {
        await held
        reply.readBody()
        const { bytes } = await request.body
        await reply.send({ body: String(bytes.length) })
      },
    },
  })
  const wire = await connect()
  await wire.write(`POST / HTTP/1.1\r\nhost: a\r\ncontent-length: ${SIZE}\r\n\r\n`)
  const sending = wire.write(Buffer.alloc(SIZE, 97))
  await settle(200)
  for (let i = 0; i < 12; i++) await pass(5_000)
  t.equal(wire.stream.received, 0)
  release()
  await sending
  t.equal((await wire.readResponse()).text(), String(SIZE))
})

t.test('a tunnel lives while bytes pass, however old it is, and ends when it has been silent', async (t) => {
  const { connect, gateway, pass, finish } = await timed(t, {
    hcm: { upgrade_configs: [{ upgrade_type: 'websocket' }], stream_idle_timeout: '60s' },
    origin: async (_, reply) => {
      const socket = reply.takeOver()
      await reply.write('HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n')
      socket.removeAllListeners('data')
      socket.on('data', (chunk: Buffer) => void socket.write(chunk))
      socket.on('end', () => socket.end())
    },
  })
  const wire = await connect()
  await wire.write(get('/', 'connection: upgrade', 'upgrade: websocket'))
  t.equal((await wire.readResponse({ interim: true })).status, 101)
  for (let i = 0; i < 20; i++) {
    await pass(50_000)
    await wire.write('ping')
    t.equal((await wire.readBytes(4)).toString(), 'ping', `${i}`)
  }
  await pass(61_000)
  t.equal((await wire.readToEnd()).ending, 'reset')
  await gateway.until(() => gateway.stat('cluster.origin.upstream_cx_active') === 0, 'end upstream')
  const [line] = await finish()
  t.equal(line.flags, 'SI')
})

t.test('without any deadline configured nothing is armed that would end a connection', async (t) => {
  const { connect, pass, clock } = await timed(t, {
    hcm: { stream_idle_timeout: '0s', ...common({ idle_timeout: '0s' }) },
    routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', timeout: '0s' } }],
    cluster: upstreamOptions({ idle_timeout: '0s' }),
  })
  const wire = await connect()
  t.equal((await wire.exchange(get('/ok'))).text(), 'ok')
  await pass(10_000_000)
  t.equal((await wire.exchange(get('/ok'))).text(), 'ok')
  await wire.write(get('/stalls'))
  await pass(10_000_000)
  t.equal(wire.stream.ending, 'open')
  t.ok(clock.pending <= 1)
})

t.test('timeouts that callers ask for by header hold only for internal ones', async (t) => {
  const { connect, pass, origin } = await timed(t, {
    hcm: {
      use_remote_address: true,
      internal_address_config: { cidr_ranges: [{ address_prefix: '127.0.0.1', prefix_len: 32 }] },
    },
    routes: [toOrigin],
  })
  const internal = await connect()
  await internal.write(get('/1', 'x-envoy-upstream-rq-timeout-ms: 500'))
  await origin.seen(1)
  t.equal(origin.requests[0].get('x-envoy-expected-rq-timeout-ms'), '500')
  t.equal(origin.requests[0].get('x-envoy-upstream-rq-timeout-ms'), undefined)
  const external = await connect({ localAddress: '127.0.0.2' })
  await external.write(get('/2', 'x-envoy-upstream-rq-timeout-ms: 500'))
  await origin.seen(2)
  t.equal(origin.requests[1].get('x-envoy-expected-rq-timeout-ms'), '15000')
  await pass(600)
  t.equal((await internal.readResponse()).status, 504)
  t.equal(external.stream.received, 0)
})

/** A gRPC call over HTTP/1. */
const call = (target: string, ...lines: readonly string[]): string =>
  get(target, 'content-type: application/grpc', ...lines)

t.test('grpc-timeout is a limit of the stream where the route says so, and the upstream hears of it', async (t) => {
  const { connect, gateway, pass, origin, finish } = await timed(t, {
    routes: [
      {
        match: { prefix: '/grpc' },
        route: {
          cluster: 'origin',
          max_stream_duration: { grpc_timeout_header_max: '2s', grpc_timeout_header_offset: '0.1s' },
        },
      },
      { match: { prefix: '/' }, route: { cluster: 'origin', max_stream_duration: { max_stream_duration: '1s' } } },
    ],
  })
  const told = async (request: string): Promise<[Wire, string | undefined]> => {
    const wire = await connect()
    const before = origin.requests.length
    await wire.write(request)
    await origin.seen(before + 1)
    const { [before]: seen } = origin.requests
    t.equal(seen.get('x-envoy-expected-rq-timeout-ms'), undefined, 'of the request there is no limit')
    return [wire, seen.get('grpc-timeout')]
  }
  const [asked, askedTold] = await told(call('/grpc', 'grpc-timeout: 1000m'))
  t.equal(askedTold, '900m')
  const [capped, cappedTold] = await told(call('/grpc', 'grpc-timeout: 1H'))
  t.equal(cappedTold, '1900m')
  const [plain, plainTold] = await told(get('/grpc', 'grpc-timeout: 500m'))
  t.equal(plainTold, '500m', 'what is no call is not told, but limited')
  const [free, freeTold] = await told(call('/grpc'))
  t.equal(freeTold, undefined)
  const [fixed, fixedTold] = await told(call('/fixed', 'grpc-timeout: 9S'))
  t.equal(fixedTold, '1000m')
  const [late, lateTold] = await told(call('/grpc', 'grpc-timeout: 50m'))
  t.equal(lateTold, '0m')
  await pass(50)
  t.equal((await late.readResponse()).get('grpc-status'), '4', 'nothing is left')
  await pass(460)
  t.equal((await plain.readResponse()).status, 504)
  await pass(410)
  const response = await asked.readResponse()
  t.equal(response.status, 200, 'a gRPC error travels in its own field')
  t.equal(response.get('grpc-status'), '4')
  t.equal(response.get('grpc-message'), 'downstream duration timeout')
  t.equal(fixed.stream.received, 0)
  await pass(100)
  t.equal((await fixed.readResponse()).get('grpc-status'), '4')
  t.equal(capped.stream.received, 0)
  await pass(1_000)
  t.equal((await capped.readResponse()).get('grpc-status'), '4')
  await pass(30_000)
  t.equal(free.stream.received, 0, 'whoever says nothing has any time')
  t.equal(gateway.stat('http.test.downstream_rq_max_duration_reached'), 5)
  const details = (await finish()).map((line) => line.details)
  t.equal(details.filter((text) => text === 'max_duration_timeout').length, 5)
})

t.test('max_grpc_timeout: grpc-timeout takes the place of the route timeout', async (t) => {
  const route = { cluster: 'origin', timeout: '9s', grpc_timeout_offset: '0.5s' }
  const { connect, pass, origin } = await timed(t, {
    routes: [
      { match: { prefix: '/any' }, route: { ...route, max_grpc_timeout: '0s' } },
      { match: { prefix: '/' }, route: { ...route, max_grpc_timeout: '2s' } },
    ],
  })
  const expected = async (request: string): Promise<string | undefined> => {
    const before = origin.requests.length
    const wire = await connect()
    await wire.write(request)
    await origin.seen(before + 1)
    return origin.requests[before].get('x-envoy-expected-rq-timeout-ms')
  }
  t.equal(await expected(call('/', 'grpc-timeout: 1000m')), '500')
  t.equal(await expected(call('/', 'grpc-timeout: 300m')), '300', 'an offset that leaves nothing does not count')
  t.equal(await expected(call('/', 'grpc-timeout: 1H')), '2000')
  t.equal(await expected(call('/')), '2000', 'any time is more than the limit')
  t.equal(await expected(get('/', 'grpc-timeout: 1S')), '9000', 'no call')
  t.equal(await expected(call('/any')), undefined)
  t.equal(await expected(call('/any', 'grpc-timeout: 1H')), String(3_600_000 - 500))
  t.equal(origin.requests[0].get('grpc-timeout'), '500m')
  t.equal(origin.requests[3].get('grpc-timeout'), '2000m')
  const wire = await connect()
  await wire.write(call('/', 'grpc-timeout: 1000m'))
  await origin.seen(8)
  await pass(520)
  const response = await wire.readResponse()
  t.equal(response.get('grpc-status'), '14')
  t.equal(response.get('grpc-message'), 'upstream request timeout')
})
