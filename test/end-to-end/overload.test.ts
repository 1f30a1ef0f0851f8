import t, { type Test } from 'tap'
import { answerOf, type Http2Setup, setup2 } from '../listeners/http2-client.ts'
import { settle, TestClock } from '../support/clock.ts'
import { describe, headers, request, T } from '../support/http2-wire.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import { cluster, type Fields, toOrigin } from './bootstrap.ts'
import { get, post, type SetupSpec, setup } from './setup.ts'

/** What the overload manager does to connections and requests, by pressures that the test makes. */

const INJECTED = 'type.googleapis.com/envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig'
const MONITOR = 'injected'
const LONG_S = 3_600

const triggers = [{ name: MONITOR, threshold: { value: 0.9 } }]
const scaled = [{ name: MONITOR, scaled: { scaling_threshold: 0.5, saturation_threshold: 0.9 } }]

/** A manager whose monitor reads a file that is not there, and not before the test is over. */
function manager(fields: Fields): Fields {
  const typed_config = { '@type': INJECTED, filename: '/nowhere/pressure' }
  return { refresh_interval: `${LONG_S}s`, resource_monitors: [{ name: MONITOR, typed_config }], ...fields }
}

function action(name: string, more: Fields = {}): Fields {
  return manager({ actions: [{ name: `envoy.overload_actions.${name}`, triggers, ...more }] })
}

function point(name: string): Fields {
  return manager({ loadshed_points: [{ name: `envoy.load_shed_points.${name}`, triggers }] })
}

interface Pressed extends Http2Setup {
  press(pressure: number): void
}

async function pressed(t: Test, overload: Fields, spec: SetupSpec = {}): Promise<Pressed> {
  const s = await setup2(t, { overload, ...spec })
  return { ...s, press: (pressure) => s.gateway.engine.pressures?.([[MONITOR, pressure]]) }
}

const stat = (name: string): string => `overload.envoy.${name}`

t.test('stop_accepting_requests: 503 before any filter, and over with the pressure', async (t) => {
  const s = await pressed(t, action('stop_accepting_requests'))
  const wire = await s.connect()
  const client = s.client2()
  t.equal((await wire.exchange(get())).status, 200)
  s.press(0.9)
  const refused = await wire.exchange(get())
  t.equal(refused.status, 503)
  t.equal(refused.text(), 'envoy overloaded')
  t.equal(refused.get('retry-after'), '1')
  t.equal(refused.get('x-envoy-local-overloaded'), undefined)
  const second = await client.request()
  t.equal(second.status, 503)
  t.equal(second.body.toString(), 'envoy overloaded')
  const grpc = await client.request({ 'content-type': 'application/grpc', ':method': 'POST' }, '')
  t.equal(grpc.headers['grpc-status'], '14')
  t.equal(s.gateway.stat(stat('overload_actions.stop_accepting_requests.active')), 1)
  t.equal(s.gateway.stat(stat('overload_actions.stop_accepting_requests.scale_percent')), 100)
  s.press(0.89)
  t.equal((await wire.exchange(get())).status, 200, 'the connection is as good as before')
  t.equal((await client.request()).status, 200)
  t.equal(s.gateway.stat('http.test.downstream_rq_overload_close'), 3)
  t.equal(s.gateway.stat(stat('overload_actions.stop_accepting_requests.active')), 0)
  t.equal(s.origin.requests.length, 3)
  client.session.close()
  const lines = await s.finish()
  t.same(
    lines
      .filter(({ status, details }) => status === 503 || details === 'overload')
      .map(({ flags, details }) => [flags, details]),
    [
      ['OM', 'overload'],
      ['OM', 'overload'],
      ['OM', 'overload'],
    ],
  )
})

t.test('a request with a body is refused without waiting for it', async (t) => {
  const s = await pressed(t, action('stop_accepting_requests'), { hcm: { append_local_overload: true } })
  const wire = await s.connect()
  s.press(1)
  await wire.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n')
  const refused = await wire.readResponse()
  t.equal(refused.status, 503)
  t.equal(refused.get('x-envoy-local-overloaded'), 'true')
  t.equal(refused.get('connection'), 'close')
})

t.test('a scaled trigger refuses that share of the requests', async (t) => {
  let draw = 0
  const overload = manager({ actions: [{ name: 'envoy.overload_actions.stop_accepting_requests', triggers: scaled }] })
  const s = await pressed(t, overload, { gateway: { random: () => draw } })
  const wire = await s.connect()
  s.press(0.7)
  t.equal(s.gateway.stat(stat('overload_actions.stop_accepting_requests.scale_percent')), 50)
  t.equal(s.gateway.stat(stat('overload_actions.stop_accepting_requests.active')), 0)
  const statuses: number[] = []
  for (draw of [0, 0.49, 0.51, 0.99]) statuses.push((await wire.exchange(get())).status)
  t.same(statuses, [503, 503, 200, 200])
  s.press(0.5)
  draw = 0
  t.equal((await wire.exchange(get())).status, 200)
})

t.test('disable_http_keepalive: answers close HTTP/1 connections and drain those of HTTP/2', async (t) => {
  const s = await pressed(t, action('disable_http_keepalive'))
  const wire = await s.connect()
  t.equal((await wire.exchange(get())).get('connection'), undefined)
  s.press(1)
  const last = await wire.exchange(get())
  t.same([last.status, last.get('connection')], [200, 'close'])
  t.equal(await wire.expectEnd(), 'fin')
  const client = s.client2()
  t.equal((await client.request()).status, 200)
  await client.closed
  t.same(client.goaways[0], { code: 0, last: 0x7fffffff })
  t.equal(s.gateway.stat('http.test.downstream_cx_overload_disable_keepalive'), 2)
  s.press(0)
  t.equal((await (await s.connect()).exchange(get())).get('connection'), undefined)
})

for (const name of ['reject_incoming_connections', 'stop_accepting_connections'] as const) {
  t.test(`${name}: what is there goes on, what comes is turned away`, async (t) => {
    const s = await pressed(t, action(name))
    const wire = await s.connect()
    t.equal((await wire.exchange(get())).status, 200)
    const port = s.gateway.port()
    s.press(1)
    await t.rejects(s.connect().then((other) => other.exchange(get())))
    t.equal(s.gateway.stat('listener.127.0.0.1_0.downstream_cx_overload_reject'), 1)
    t.equal((await wire.exchange(get())).status, 200)
    t.equal(s.gateway.port(), port)
    s.press(0)
    await settle()
    t.equal((await (await s.connect()).exchange(get())).status, 200)
  })
}

t.test('tcp_listener_accept: connections are reset before anything is looked at', async (t) => {
  const s = await pressed(t, point('tcp_listener_accept'))
  s.press(0.95)
  await t.rejects(s.connect().then((wire) => wire.exchange(get())))
  t.equal(s.gateway.stat(stat('load_shed_points.tcp_listener_accept.shed_load_count')), 1)
  t.equal(s.gateway.stat(stat('load_shed_points.tcp_listener_accept.scale_percent')), 100)
  s.press(0.5)
  t.equal((await (await s.connect()).exchange(get())).status, 200)
})

t.test('http_connection_manager_decode_headers and http_downstream_filter_check answer 503', async (t) => {
  for (const name of ['http_connection_manager_decode_headers', 'http_downstream_filter_check']) {
    const s = await pressed(t, point(name))
    const wire = await s.connect()
    s.press(1)
    const refused = await wire.exchange(get())
    t.same([refused.status, refused.text()], [503, 'envoy overloaded'])
    t.equal(s.gateway.stat(stat(`load_shed_points.${name}.shed_load_count`)), 1)
    t.equal(s.origin.requests.length, 0)
    s.press(0)
    t.equal((await wire.exchange(get())).status, 200)
    const [line] = await s.finish()
    t.same([line.flags, line.details], ['OM', 'overload'], name)
  }
})

t.test('http1_server_abort_dispatch: 500 and the end of the connection, but no answer is cut', async (t) => {
  const slow: OriginScript = async (request, reply) => {
    await request.body
    await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf')
    await held
    await reply.write('half')
  }
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  const s = await pressed(t, point('http1_server_abort_dispatch'), { origin: slow })
  const fresh = await s.connect()
  const uploading = await s.connect()
  const answered = await s.connect()
  await uploading.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n')
  await answered.write(get())
  await answered.readUntil('half')
  await s.gateway.until(() => s.gateway.stat('http.test.downstream_rq_active') === 2, 'upload')
  s.press(1)
  const refused = await fresh.exchange(get())
  t.same([refused.status, refused.get('connection')], [500, 'close'])
  t.equal(await fresh.expectEnd(), 'fin')
  await uploading.write('0123456789')
  t.equal((await uploading.readResponse()).status, 500)
  await answered.write(get())
  release()
  t.equal((await answered.readBytes(4)).toString(), 'half', 'an answer that is on its way comes to its end')
  t.equal(await answered.expectEnd(), 'fin')
  t.equal(s.gateway.stat('http.test.downstream_rq_overload_close'), 2)
  const lines = await s.finish()
  t.equal(lines.filter(({ flags }) => flags === 'OM').length, 2)
})

t.test('http1_server_abort_dispatch: a tunnel that is granted has all that was sent before', async (t) => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  const s = await pressed(t, point('http1_server_abort_dispatch'), {
    hcm: { upgrade_configs: [{ upgrade_type: 'websocket' }] },
    origin: async (_request, reply) => {
      await held
      const socket = reply.takeOver()
      await reply.write('HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n')
      socket.removeAllListeners('data')
      socket.on('data', (chunk: Buffer) => socket.write(chunk))
    },
  })
  const wire = await s.connect()
  await wire.write(get('/', 'connection: upgrade', 'upgrade: websocket'))
  await s.origin.seen(1)
  s.press(1)
  await wire.write('early;')
  const sheds = stat('load_shed_points.http1_server_abort_dispatch.shed_load_count')
  await s.gateway.until(() => s.gateway.stat(sheds) === 1, 'what was sent early')
  release()
  t.equal((await wire.readResponse({ interim: true })).status, 101)
  await wire.write('late;')
  t.equal((await wire.readUntil('late;')).toString(), 'early;late;')
})

t.test('http2_server_go_away_on_dispatch: what has begun is served, the rest may be tried elsewhere', async (t) => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  const s = await pressed(t, point('http2_server_go_away_on_dispatch'), {
    origin: async (_request, reply) => {
      await held
      await reply.send({ body: 'served' })
    },
  })
  const wire = await s.frames()
  await wire.write(headers(1, request('GET', '/1'), true))
  await s.origin.seen(1)
  s.press(1)
  await wire.write(headers(3, request('GET', '/3'), true))
  t.equal(describe(await wire.until((f) => f.type === T.GOAWAY)), 'GOAWAY 1 code 0')
  t.equal(describe(await wire.until((f) => f.type === T.RST_STREAM)), 'RST_STREAM 3 code 7')
  release()
  const data = (await wire.rest()).filter((f) => f.type === T.DATA)
  t.equal(Buffer.concat(data.map((f) => f.payload)).toString(), 'served')
  t.equal(wire.ending, 'fin')
  t.equal(s.origin.requests.length, 1)
})

t.test('http2_server_go_away_and_close_on_dispatch ends the connection with all that is on it', async (t) => {
  const s = await pressed(t, point('http2_server_go_away_and_close_on_dispatch'), {
    origin: async (_request, reply) => void (await reply.stall()),
  })
  const wire = await s.frames()
  await wire.write(headers(1, request('GET', '/1'), true))
  await s.origin.seen(1)
  s.press(1)
  await wire.write(headers(3, request('GET', '/3'), true))
  const kinds = (await wire.rest()).map(describe)
  t.ok(kinds.includes('GOAWAY 1 code 0'), kinds.join())
  const [line] = await s.finish()
  t.same([line.flags, line.details], ['OM', 'overload'])
})

t.test('hcm_ondata_creating_codec: closed before anything is read', async (t) => {
  const s = await pressed(t, point('hcm_ondata_creating_codec'))
  const idle = await s.connect()
  await settle(10)
  s.press(1)
  await t.rejects(idle.exchange(get()))
  t.equal(s.gateway.stat('http.test.downstream_rq_overload_close'), 1)
  t.equal(s.gateway.stat('http.test.downstream_rq_total'), 0)
})

for (const protocol of ['HTTP/1', 'HTTP/2'] as const) {
  t.test(`connection_pool_new_connection over ${protocol}: pools serve with what they have`, async (t) => {
    const { promise: held, resolve: release } = Promise.withResolvers<void>()
    const http2 = {
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
    }
    if (protocol === 'HTTP/2') {
      // Nothing is ever opened.
      const s = await pressed(t, point('connection_pool_new_connection'), { cluster: http2 })
      s.press(1)
      t.equal((await (await s.connect()).exchange(get())).status, 503)
      t.equal(s.gateway.stat('cluster.origin.upstream_cx_total'), 0)
      return
    }
    const s = await pressed(t, point('connection_pool_new_connection'), {
      origin: async (request, reply) => {
        if (request.target === '/held') await held
        await reply.send({ body: 'ok' })
      },
    })
    const [one, two] = [await s.connect(), await s.connect()]
    t.equal((await one.exchange(get())).status, 200)
    s.press(1)
    t.equal((await one.exchange(get())).status, 200, 'the connection that is there serves')
    await one.write(get('/held'))
    await s.origin.seen(3)
    t.equal((await two.exchange(get())).status, 503)
    t.equal(s.gateway.stat('cluster.origin.upstream_cx_total'), 1)
    release()
    t.equal((await one.readResponse()).status, 200)
  })
}

t.test('connection_pool_new_connection: nothing is opened ahead of need', async (t) => {
  const two = await Origin.start()
  t.teardown(() => two.close())
  const ahead = (name: string, port: number, policy: Fields): Fields =>
    cluster(name, [port], { preconnect_policy: policy })
  const names = ['predicted', 'kept']
  const s = await pressed(t, point('connection_pool_new_connection'), {
    clusters: [
      ahead('predicted', two.port, { predictive_preconnect_ratio: 3 }),
      ahead('kept', two.port, { per_upstream_preconnect_ratio: 3 }),
    ],
    routes: names.map((name) => ({ match: { prefix: `/${name}` }, route: { cluster: name } })),
  })
  const opened = (name: string): number => s.gateway.stat(`cluster.${name}.upstream_cx_total`)
  s.press(1)
  for (const name of names) {
    t.equal((await (await s.connect()).exchange(get(`/${name}`))).status, 503)
    t.equal(opened(name), 0)
  }
  s.press(0)
  for (const name of names) {
    t.equal((await (await s.connect()).exchange(get(`/${name}`))).status, 200)
    t.equal(opened(name), 3)
  }
})

const reduce = (timer: string, minimum: Fields): Fields =>
  manager({
    actions: [
      {
        name: 'envoy.overload_actions.reduce_timeouts',
        triggers: scaled,
        typed_config: {
          '@type': 'type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig',
          timer_scale_factors: [{ timer, ...minimum }],
        },
      },
    ],
  })

t.test('reduce_timeouts: what waits already waits no longer than it may now', async (t) => {
  const clock = new TestClock()
  const hcm = { common_http_protocol_options: { idle_timeout: '600s' } }
  const overload = reduce('HTTP_DOWNSTREAM_CONNECTION_IDLE', { min_timeout: '2s' })
  const s = await pressed(t, overload, { gateway: { clock }, hcm })
  const wire = await s.connect()
  const client = s.client2()
  t.equal((await wire.exchange(get())).status, 200)
  t.equal((await client.request()).status, 200)
  await clock.advanceAsync(100_000)
  // Of the way from 0.5 to 0.9 as in Envoy's documentation: 2 + 598 × 0.3 = 181.4 s.
  s.press(0.78)
  await clock.advanceAsync(81_000)
  t.equal((await wire.exchange(get())).status, 200, 'after 181 s it is still there')
  t.notOk(client.session.destroyed)
  await clock.advanceAsync(1_000)
  await client.closed
  t.equal(s.gateway.stat('http.test.downstream_cx_idle_timeout'), 1)
  s.press(1)
  await clock.advanceAsync(500)
  t.equal((await wire.exchange(get())).status, 200)
  await clock.advanceAsync(2_100)
  t.equal(await wire.expectEnd(), 'fin')
  s.press(0)
  const calm = await s.connect()
  t.equal((await calm.exchange(get())).status, 200)
  await clock.advanceAsync(590_000)
  t.equal((await calm.exchange(get())).status, 200, 'and the configured time holds again')
})

t.test('reduce_timeouts: streams, ages and connections that say nothing', async (t) => {
  const stall: OriginScript = async (_request, reply) => void (await reply.stall())
  const idle = async (t: Test, timer: string, hcm: Fields): Promise<Pressed & { clock: TestClock }> => {
    const clock = new TestClock()
    const overload = reduce(timer, { min_scale: { value: 10 } })
    const spec = {
      gateway: { clock },
      hcm,
      origin: stall,
      routes: [{ ...toOrigin, route: { cluster: 'origin', timeout: '0s' } }],
    }
    return { ...(await pressed(t, overload, spec)), clock }
  }
  t.test('a stream', async (t) => {
    const s = await idle(t, 'HTTP_DOWNSTREAM_STREAM_IDLE', { stream_idle_timeout: '100s' })
    const wire = await s.connect()
    await wire.write(get())
    await s.origin.seen(1)
    s.press(0.9)
    await s.clock.advanceAsync(9_900)
    t.equal(s.gateway.stat('http.test.downstream_rq_idle_timeout'), 0)
    await s.clock.advanceAsync(200)
    t.equal((await wire.readResponse()).status, 504)
  })
  t.test('a connection', async (t) => {
    const common = { max_connection_duration: '100s', idle_timeout: '0s' }
    const s = await idle(t, 'HTTP_DOWNSTREAM_CONNECTION_MAX', { common_http_protocol_options: common })
    const silent = await s.connect()
    await settle(10)
    s.press(0.9)
    await s.clock.advanceAsync(10_100)
    t.equal(await silent.expectEnd(), 'fin')
    t.equal(s.gateway.stat('http.test.downstream_cx_max_duration_reached'), 1)
  })
})

t.test(
  'close_idle_http_connections: what has been idle for a minute, and all that is idle when it is saturated',
  async (t) => {
    const { promise: held, resolve: release } = Promise.withResolvers<void>()
    const clock = new TestClock()
    const fields = manager({
      actions: [{ name: 'envoy.overload_actions.close_idle_http_connections', triggers: scaled }],
    })
    const s = await pressed(
      t,
      { ...fields, refresh_interval: '1s' },
      {
        gateway: { clock },
        origin: async (request, reply) => {
          if (request.target === '/held') await held
          await reply.send({ body: Buffer.from('ok') })
        },
      },
    )
    const old = await s.connect()
    t.equal((await old.exchange(get())).status, 200)
    const old2 = s.client2()
    t.equal((await old2.request()).status, 200)
    await clock.advanceAsync(50_000)
    const young = await s.connect()
    t.equal((await young.exchange(get())).status, 200)
    const busy = await s.connect()
    await busy.write(get('/held'))
    await s.gateway.until(() => s.gateway.stat('http.test.downstream_rq_active') === 1, 'a request')
    const silent = await s.connect()
    await settle()
    s.press(0.7)
    await clock.advanceAsync(9_000)
    t.equal((await old.exchange(get())).status, 200, 'not yet')
    await clock.advanceAsync(2_000)
    await old2.closed
    t.equal(s.gateway.stat('http.test.downstream_cx_active'), 4, 'a minute of nothing')
    s.press(1)
    await clock.advanceAsync(1_000)
    for (const wire of [old, young, silent]) t.equal(await wire.expectEnd(), 'fin')
    release()
    t.equal((await busy.readResponse()).status, 200, 'what is under way comes to its end')
    await clock.advanceAsync(1_000)
    t.equal(await busy.expectEnd(), 'fin')
    s.press(0)
    const calm = await s.connect()
    t.equal((await calm.exchange(get())).status, 200)
    await clock.advanceAsync(100_000)
    t.equal((await calm.exchange(get())).status, 200)
  },
)

t.test('the limit of connections is a pressure too, before it is reached', async (t) => {
  const clock = new TestClock()
  const type =
    'type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig'
  const name = 'envoy.resource_monitors.global_downstream_max_connections'
  const overload = {
    refresh_interval: '1s',
    resource_monitors: [{ name, typed_config: { '@type': type, max_active_downstream_connections: 4 } }],
    actions: [
      { name: 'envoy.overload_actions.disable_http_keepalive', triggers: [{ name, threshold: { value: 0.75 } }] },
    ],
  }
  const s = await setup2(t, { overload, gateway: { clock } })
  const wires = [await s.connect(), await s.connect()]
  for (const wire of wires) t.equal((await wire.exchange(get())).get('connection'), undefined)
  await clock.advanceAsync(1_000)
  t.equal(s.gateway.stat(`overload.${name}.pressure`), 50)
  const third = await s.connect()
  await settle()
  await clock.advanceAsync(1_000)
  t.equal(s.gateway.stat(`overload.${name}.pressure`), 75)
  t.equal(s.gateway.stat('server.total_connections'), 3)
  t.equal((await third.exchange(get())).get('connection'), 'close')
  await third.expectEnd()
  await clock.advanceAsync(1_000)
  t.equal((await wires[0].exchange(get())).get('connection'), undefined)
  t.equal(s.gateway.stat(`overload.${name}.pressure`), 50)
})

t.test('reset_high_memory_stream: the streams that hold most go, largest first', async (t) => {
  const MIB = 1 << 20
  const overload = {
    ...manager({ actions: [{ name: 'envoy.overload_actions.reset_high_memory_stream', triggers: scaled }] }),
    refresh_interval: '1s',
    buffer_factory_config: { minimum_account_to_track_power_of_two: 15 },
  }
  const clock = new TestClock()
  const s = await pressed(t, overload, {
    gateway: { clock },
    origin: async (request, reply) => {
      await reply.send({ body: Buffer.alloc(request.target === '/large' ? 16 * MIB : 1_000) })
    },
    routes: [{ ...toOrigin, route: { cluster: 'origin', timeout: '0s' } }],
    hcm: { stream_idle_timeout: '0s' },
  })
  const client = s.client2({ settings: { initialWindowSize: 10 } })
  const small = client.stream({ ':path': '/small' })
  const large = client.stream({ ':path': '/large' })
  // Neither client reads; windows hold the rest back.
  const answers = [small, large].map(answerOf)
  for (const stream of [small, large]) stream.pause()
  const waiting = (): number => s.gateway.stat('http2.pending_send_bytes')
  await s.gateway.until(() => waiting() > 100_000, 'response that waits')
  s.press(1)
  await clock.advanceAsync(1_000)
  // The small answer is whole, and only waits for its client.
  await s.gateway.until(() => s.gateway.stat('http.test.downstream_rq_active') === 0, 'reset')
  t.equal(s.gateway.stat('envoy.overload_actions.reset_high_memory_stream.count'), 1)
  const lost = await answers[1]
  t.notOk(lost.whole)
  t.equal(lost.code, 11, 'ENHANCE_YOUR_CALM')
  small.resume()
  t.equal((await answers[0]).body.length, 1_000, 'the small one is let be')
  client.session.close()
  const lines = await s.finish()
  t.same(lines.map(({ path, flags }) => [path, flags]).sort(), [
    ['/large', 'OM'],
    ['/small', '-'],
  ])
})

t.test('a listener that bypasses the overload manager notices nothing', async (t) => {
  const names = [
    'stop_accepting_requests',
    'disable_http_keepalive',
    'reject_incoming_connections',
    'stop_accepting_connections',
  ]
  const actions = names.map((name) => ({ name: `envoy.overload_actions.${name}`, triggers }))
  const points = ['tcp_listener_accept', 'http_connection_manager_decode_headers', 'http1_server_abort_dispatch']
  const loadshed_points = points.map((name) => ({ name: `envoy.load_shed_points.${name}`, triggers }))
  const s = await pressed(t, manager({ actions, loadshed_points }), {
    listeners: [{ name: 'shedding' }, { name: 'health', fields: { bypass_overload_manager: true } }],
  })
  s.press(1)
  await t.rejects(s.client.connect(s.gateway.port('shedding')).then((wire) => wire.exchange(get())))
  const wire = await s.client.connect(s.gateway.port('health'))
  for (const text of [get(), post('body')]) {
    const answer = await wire.exchange(text)
    t.same([answer.status, answer.get('connection')], [200, undefined])
  }
})

t.test('another configuration moves the levers back', async (t) => {
  const { gateway, connect } = await setup(t, { overload: action('stop_accepting_requests') })
  gateway.engine.pressures?.([[MONITOR, 1]])
  const wire = await connect()
  t.equal((await wire.exchange(get())).status, 503)
  await gateway.apply({
    node: { id: 'gate-1', cluster: 'edge' },
    static_resources: { listeners: [], clusters: [] },
  })
  t.equal(gateway.stat(stat('overload_actions.stop_accepting_requests.active')), 0)
})
