import t from 'tap'
import { settle, TestClock } from '../support/clock.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import { bootstrap, cluster, endpoint, upstreamOptions } from './bootstrap.ts'
import { withFilters } from './filter-instances.ts'
import { get, post, setup } from './setup.ts'

/** What becomes of attempts, mirrors and their timers at the edges of connections and requests. */

/** Goes on in the timers phase of the loop: sockets that are destroyed now report it after the next poll. */
const timersPhase = (): Promise<void> => new Promise((resolve) => setTimeout(resolve))

t.test('a pooled connection that has just timed out is not given to a request', async (t) => {
  const clock = new TestClock()
  const { gateway, origin, connect } = await setup(t, {
    gateway: { clock },
    cluster: upstreamOptions({ idle_timeout: '5s' }),
  })
  const wire = await connect()
  for (let round = 1; round <= 5; round++) {
    t.equal((await wire.exchange(get())).status, 200)
    await settle(5)
    await timersPhase()
    // Its bytes are read before the pool has heard of the end of its connection.
    const written = wire.write(post('not to be repeated'))
    clock.advance(5_100)
    await written
    t.equal((await wire.readResponse()).text(), 'not to be repeated')
    t.equal(gateway.stat('cluster.origin.upstream_cx_idle_timeout'), round)
    t.equal(origin.connections, 2 * round)
    origin.resetAll()
    await gateway.until(() => gateway.stat('cluster.origin.upstream_cx_active') === 0, 'end of the connection')
  }
})

t.test('who waits for a connection gets one though its cluster is replaced meanwhile', async (t) => {
  const waiting: (() => void)[] = []
  const script: OriginScript = async (request, reply) => {
    if (request.target === '/first') await new Promise<void>((resolve) => waiting.push(resolve))
    await reply.send({ body: request.target, close: request.target === '/first' })
    if (request.target === '/first') reply.close()
  }
  const fields = { circuit_breakers: { thresholds: [{ max_connections: 1 }] } }
  const { gateway, origin, connect } = await setup(t, { origin: script, cluster: fields })
  const [first, second] = [await connect(), await connect()]
  await first.write(get('/first'))
  await origin.seen(1)
  await second.write(get('/second'))
  await gateway.until(() => gateway.stat('cluster.origin.upstream_rq_pending_active') === 1, 'a request in line')
  await gateway.apply(bootstrap({ clusters: [cluster('origin', origin.port, { ...fields, connect_timeout: '3s' })] }))
  waiting[0]()
  t.equal((await first.readResponse()).text(), '/first')
  t.equal((await second.readResponse()).text(), '/second')
  t.equal(origin.connections, 2)
  await gateway.until(() => gateway.stat('cluster.origin.upstream_cx_active') === 0, 'end of the old connections')
})

for (const timeout of ['2s', '0s']) {
  t.test(`a mirrored request has a deadline of its own (timeout of the route: ${timeout})`, async (t) => {
    const clock = new TestClock()
    const mirror = await Origin.start(async (_, reply) => void (await reply.stall()))
    t.teardown(() => mirror.close())
    const { gateway, connect } = await setup(t, {
      gateway: { clock },
      clusters: [cluster('mirror', mirror.port)],
      routes: [
        {
          match: { prefix: '/' },
          route: { cluster: 'origin', timeout, request_mirror_policies: [{ cluster: 'mirror' }] },
        },
      ],
    })
    const wire = await connect()
    t.equal((await wire.exchange(get())).status, 200)
    await mirror.seen(1)
    const limitMs = timeout === '2s' ? 2_000 : 15_000
    clock.advance(limitMs - 100)
    await settle(5)
    t.equal(gateway.stat('cluster.mirror.upstream_rq_active'), 1)
    clock.advance(200)
    await gateway.until(() => gateway.stat('cluster.mirror.upstream_cx_active') === 0, 'end of the mirrored request')
    t.equal(await mirror.requests[0].ended, 'fin')
    t.equal(gateway.stat('cluster.mirror.upstream_rq_active'), 0)
    t.equal(gateway.stat('cluster.mirror.upstream_rq_timeout'), 1)
    t.equal(gateway.stat('cluster.origin.upstream_rq_timeout'), 0)
    t.equal((await wire.exchange(get())).status, 200)
  })
}

t.test('a repeated attempt takes the name of its own host; what was before is told once', async (t) => {
  let resets = 0
  /** The first connection that is used again ends instead. */
  const script: OriginScript = async (request, reply) => {
    if (request.index === 2 && resets++ === 0) reply.reset()
    else await reply.send({ body: 'ok' })
  }
  const [a, b] = [await Origin.start(script), await Origin.start(script)]
  t.teardown(() => Promise.all([a.close(), b.close()]))
  const host = (port: number, hostname: string): object => {
    const { endpoint: where } = endpoint('127.0.0.1', port) as { endpoint: object }
    return { endpoint: { ...where, hostname } }
  }
  const named = {
    ...cluster('named', []),
    load_assignment: {
      cluster_name: 'named',
      endpoints: [{ lb_endpoints: [host(a.port, 'a.test'), host(b.port, 'b.test')] }],
    },
  }
  const { connect } = await setup(t, {
    clusters: [named],
    routes: [
      {
        match: { prefix: '/' },
        route: { cluster: 'named', auto_host_rewrite: true, append_x_forwarded_host: true },
      },
    ],
  })
  const wire = await connect()
  for (let i = 0; i < 3; i++) t.equal((await wire.exchange(get(`/${i}`))).status, 200)
  const last = [...a.requests, ...b.requests].filter((request) => request.target === '/2')
  t.equal(last.length, 2, 'one attempt on either host')
  t.same(last.map((request) => request.get('host')).sort(), ['a.test', 'b.test'])
  for (const request of last) {
    t.equal(request.get('x-forwarded-host'), 'a.example')
    t.equal(request.get('x-envoy-original-host'), 'a.example')
  }
})

t.test('a route that a filter changes brings its own limits', async (t) => {
  const clock = new TestClock()
  const route = { cluster: 'origin', timeout: '0s' }
  const by = (value: string): object => ({ prefix: '/', headers: [{ name: 'x-to', string_match: { exact: value } }] })
  const { connect, gateway, origin } = await setup(t, {
    origin: async (_, reply) => void (await reply.stall()),
    gateway: {
      clock,
      adjust: withFilters({
        onRequestHeaders(stream): void {
          stream.request.set('x-to', stream.head.path.slice(1))
          stream.refreshRoute()
        },
      }),
    },
    hcm: { stream_idle_timeout: '40s' },
    routes: [
      { match: by('idle'), route: { ...route, idle_timeout: '3s' } },
      { match: by('duration'), route: { ...route, max_stream_duration: { max_stream_duration: '3s' } } },
      { match: { prefix: '/' }, route },
    ],
  })
  const counters = { idle: 'downstream_rq_idle_timeout', duration: 'downstream_rq_max_duration_reached' }
  for (const [i, name] of (['idle', 'duration'] as const).entries()) {
    const wire = await connect()
    await wire.write(get(`/${name}`))
    await origin.seen(i + 1)
    clock.advance(2_900)
    await settle(5)
    t.equal(wire.stream.received, 0)
    clock.advance(200)
    const response = await wire.readResponse()
    t.equal(response.status, 504)
    t.equal(gateway.stat(`http.test.${counters[name]}`), 1)
  }
})

t.test('a request that ends after its response has arms nothing', async (t) => {
  const clock = new TestClock()
  let goOn = (): void => {}
  const going = new Promise<void>((resolve) => {
    goOn = resolve
  })
  const { gateway, origin, connect } = await setup(t, {
    gateway: { clock, adjust: withFilters({ onResponseHeaders: () => going }) },
    origin: { readBodies: false, script: (_, reply) => void reply.send({ body: 'early' }) },
    routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', timeout: '60s' } }],
  })
  const wire = await connect()
  await wire.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nha')
  await origin.seen(1)
  await gateway.until(() => gateway.stat('cluster.origin.upstream_cx_active') === 0, 'the whole response')
  await wire.write('lf')
  await settle(20)
  goOn()
  t.equal((await wire.readResponse()).text(), 'early')
  await wire.close()
  await gateway.until(() => gateway.stat('http.test.downstream_cx_active') === 0, 'end of the connection')
  t.equal(gateway.armed, 0)
})
