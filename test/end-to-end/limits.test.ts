import { connect as connectHttp2 } from 'node:http2'
import t from 'tap'
import {
  adaptiveConcurrency,
  admissionControl,
  bandwidthLimit,
  createGateway,
  localRateLimit as localLimit,
} from '../../lib/cli/library.ts'
import { TestClock } from '../support/clock.ts'
import { Origin } from '../support/origin.ts'
import { WireClient } from '../support/wire.ts'
import { bootstrap, cluster, type Fields } from './bootstrap.ts'
import { get, post, setup } from './setup.ts'

const HTTP = 'type.googleapis.com/envoy.extensions.filters.http'
const ALL = { default_value: { numerator: 100, denominator: 'HUNDRED' } }
const bucket = (max: number, seconds = 3_600): Fields => ({
  max_tokens: max,
  tokens_per_fill: Math.max(1, max),
  fill_interval: `${seconds}s`,
})

function localRateLimit(fields: Fields): Fields {
  return {
    '@type': `${HTTP}.local_ratelimit.v3.LocalRateLimit`,
    stat_prefix: 'lrl',
    filter_enabled: ALL,
    filter_enforced: ALL,
    ...fields,
  }
}

const filter = (name: string, typed_config: Fields): Fields => ({ name, typed_config })

t.test(
  'local rate limits: routes, virtual hosts and stages, each with buckets of its own, over real sockets',
  async (t) => {
    const byUser = (key: string, fields: Fields = {}): Fields => ({
      actions: [{ request_headers: { header_name: 'x-user', descriptor_key: key } }],
      ...fields,
    })
    const descriptor = (key: string, value: string, max: number): Fields => ({
      entries: [value === '' ? { key } : { key, value }],
      token_bucket: bucket(max),
    })
    const route = (path: string, action: Fields = {}, perRoute?: Fields): Fields => ({
      match: { path },
      route: { cluster: 'origin', ...action },
      ...(perRoute && { typed_per_filter_config: { lrl: perRoute } }),
    })
    const own = localRateLimit({ token_bucket: bucket(1) })
    const { connect, gateway, finish } = await setup(t, {
      filters: [
        filter(
          'lrl',
          localRateLimit({
            token_bucket: bucket(100),
            enable_x_ratelimit_headers: 'DRAFT_VERSION_03',
            descriptors: [descriptor('route', '', 1), descriptor('host', 'ann', 2), descriptor('late', '', 0)],
          }),
        ),
      ],
      routeConfig: {
        virtual_hosts: [
          {
            name: 'v',
            domains: ['*'],
            rate_limits: [byUser('host')],
            routes: [
              route('/host'),
              route('/own', { rate_limits: [byUser('route')] }),
              route('/both', { rate_limits: [byUser('route')], include_vh_rate_limits: true }),
              route('/late', { rate_limits: [byUser('late', { stage: 3 })] }),
              route('/mine', {}, own),
              route('/yours', {}, own),
              { match: { path: '/direct' }, direct_response: { status: 204 } },
            ],
          },
        ],
      },
    })
    const wire = await connect()
    const at = async (path: string, ...lines: string[]): Promise<number> =>
      (await wire.exchange(get(path, ...lines))).status
    const statuses = async (times: number, path: string, ...lines: string[]): Promise<number[]> => {
      const found: number[] = []
      for (let i = 0; i < times; i++) found.push(await at(path, ...lines))
      return found
    }
    t.same(await statuses(3, '/host', 'x-user: ann'), [200, 200, 429])
    t.same(await statuses(3, '/host', 'x-user: bob'), [200, 200, 200])
    t.same(await statuses(2, '/own', 'x-user: ann'), [200, 429], 'not by what the virtual host says')
    t.same(await statuses(2, '/own', 'x-user: eve'), [200, 429])
    t.same(await statuses(1, '/both', 'x-user: ann'), [429])
    t.same(await statuses(2, '/late', 'x-user: ann'), [200, 200])
    t.same([await at('/mine'), await at('/yours'), await at('/mine'), await at('/yours')], [200, 200, 429, 429])
    t.same(await statuses(1, '/direct', 'x-user: ann'), [204])
    const told = await wire.exchange(get('/host', 'x-user: ann'))
    t.equal(told.status, 429)
    t.equal(told.get('x-ratelimit-limit'), '2')
    t.equal(told.text(), 'local_rate_limited')
    t.equal(gateway.stat('lrl.http_local_rate_limit.enforced'), 7)
    const log = await finish()
    const limited = log.filter(({ status }) => status === 429)
    t.equal(limited.length, 7)
    for (const line of limited) t.match(line, { flags: 'RL', details: 'local_rate_limited', attempts: 0 })
  },
)

t.test(
  'equal limits of two listeners are two; an update that leaves a limit alone leaves its tokens alone',
  async (t) => {
    const listener = (name: string, max: number): Fields => ({
      name,
      filters: [filter('lrl', localRateLimit({ token_bucket: bucket(max) }))],
    })
    const spec = (max: number): Fields => ({ listeners: [listener('one', 1), listener('two', max)] })
    const { gateway, client, origin } = await setup(t, { ...spec(1) })
    const at = async (name: string): Promise<number> => {
      const wire = await client.connect(gateway.port(name))
      return (await wire.exchange(get())).status
    }
    t.same([await at('one'), await at('two'), await at('one'), await at('two')], [200, 200, 429, 429])
    await gateway.apply(bootstrap({ ...spec(3), clusters: [cluster('origin', origin.port)] }))
    t.equal(await at('one'), 429)
    t.equal(gateway.stat('lrl.http_local_rate_limit.enforced'), 3)
  },
)

t.test('connections have limits of their own', async (t) => {
  const config = localRateLimit({ token_bucket: bucket(2), local_rate_limit_per_downstream_connection: true })
  const { connect } = await setup(t, { filters: [filter('lrl', config)] })
  for (let i = 0; i < 2; i++) {
    const wire = await connect()
    const found: number[] = []
    for (let n = 0; n < 3; n++) found.push((await wire.exchange(get())).status)
    t.same(found, [200, 200, 429])
  }
})

t.test('bandwidth: bodies of several connections share the rate, both ways, and arrive whole', async (t) => {
  const body = 'abcdefgh'.repeat(8_192)
  const { connect, gateway, finish } = await setup(t, {
    origin: async (request, reply) => {
      const { bytes } = await request.body
      await reply.write(`HTTP/1.1 200 OK\r\ncontent-length: ${bytes.length}\r\n\r\n`)
      await reply.write(bytes)
    },
    filters: [
      filter('bw', {
        '@type': `${HTTP}.bandwidth_limit.v3.BandwidthLimit`,
        stat_prefix: 'bw',
        enable_mode: 'REQUEST_AND_RESPONSE',
        limit_kbps: 256,
        fill_interval: '0.02s',
      }),
    ],
  })
  const begun = performance.now()
  const wires = await Promise.all([1, 2, 3].map(() => connect()))
  const responses = await Promise.all(wires.map((wire) => wire.exchange(post(body))))
  const tookMs = performance.now() - begun
  for (const response of responses) {
    t.equal(response.status, 200)
    t.ok(response.text() === body)
  }
  // 384 KiB at 256 a second, after the first 256.
  t.ok(tookMs >= 450, `${tookMs} ms`)
  t.equal(gateway.stat('bw.http_bandwidth_limit.request_allowed_total_size'), 3 * body.length)
  t.equal(gateway.stat('bw.http_bandwidth_limit.response_allowed_total_size'), 3 * body.length)
  await finish()
})

t.test('admission control: while an upstream fails most requests never reach it', async (t) => {
  let failing = true
  const clock = new TestClock()
  const { connect, origin, gateway, finish } = await setup(t, {
    origin: async (_request, reply) => {
      await reply.write(`HTTP/1.1 ${failing ? 500 : 200} X\r\ncontent-length: 0\r\n\r\n`)
    },
    gateway: { clock, random: Math.random },
    filters: [
      filter('ac', {
        '@type': `${HTTP}.admission_control.v3.AdmissionControl`,
        success_criteria: {},
        sampling_window: '10s',
      }),
    ],
  })
  const wire = await connect()
  const counts = new Map<number, number>()
  const send = async (times: number): Promise<void> => {
    counts.clear()
    for (let i = 0; i < times; i++) {
      const { status } = await wire.exchange(get())
      counts.set(status, (counts.get(status) ?? 0) + 1)
    }
  }
  await send(300)
  const reached = counts.get(500) ?? 0
  t.ok(reached < 150 && reached > 20, `${reached} of 300`)
  t.equal(origin.requests.length, reached)
  t.equal(gateway.stat('http.test.admission_control.rq_rejected'), counts.get(503))
  t.equal(gateway.stat('http.test.admission_control.rq_failure'), reached)
  failing = false
  await clock.advanceAsync(10_000)
  await send(50)
  t.equal(counts.get(200), 50)
  await wire.close()
  const log = await finish()
  t.equal(log.filter(({ details }) => details === 'denied_by_admission_control').length, 300 - reached)
})

t.test(
  'adaptive concurrency: what is beyond the limit is answered at once, and its place is free again after an answer',
  async (t) => {
    const waiting: (() => void)[] = []
    const { connect, gateway, finish } = await setup(t, {
      origin: async (_request, reply) => {
        await new Promise<void>((resolve) => void waiting.push(resolve))
        await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
      },
      filters: [
        filter('adaptive', {
          '@type': `${HTTP}.adaptive_concurrency.v3.AdaptiveConcurrency`,
          gradient_controller_config: {
            concurrency_limit_params: { concurrency_update_interval: '60s' },
            min_rtt_calc_params: { interval: '60s', min_concurrency: 2, request_count: 10 },
          },
        }),
      ],
    })
    const prefix = 'http.test.adaptive_concurrency.gradient_controller.'
    t.equal(gateway.stat(`${prefix}concurrency_limit`), 2)
    const wires = await Promise.all([1, 2].map(() => connect()))
    const held = wires.map((wire) => wire.exchange(get()))
    while (waiting.length < 2) await new Promise((resolve) => setImmediate(resolve))
    const refused = await (await connect()).exchange(get())
    t.equal(refused.status, 503)
    t.equal(refused.text(), 'reached concurrency limit')
    for (const release of waiting.splice(0)) release()
    for (const response of await Promise.all(held)) t.equal(response.status, 200)
    const next = (await connect()).exchange(get())
    while (waiting.length < 1) await new Promise((resolve) => setImmediate(resolve))
    waiting[0]()
    t.equal((await next).status, 200)
    t.equal(gateway.stat(`${prefix}rq_blocked`), 1)
    await finish()
  },
)

t.test('HTTP/2: trailers tell what a limit of bandwidth cost', async (t) => {
  const { gateway } = await setup(t, {
    origin: async (_request, reply) => {
      await reply.write(`HTTP/1.1 200 OK\r\ncontent-length: 12000\r\n\r\n${'x'.repeat(12_000)}`)
    },
    filters: [
      filter('bw', {
        '@type': `${HTTP}.bandwidth_limit.v3.BandwidthLimit`,
        stat_prefix: 'bw',
        enable_mode: 'RESPONSE',
        limit_kbps: 8,
        enable_response_trailers: true,
      }),
    ],
  })
  const session = connectHttp2(`http://127.0.0.1:${gateway.port()}`)
  const stream = session.request({ ':path': '/' })
  let size = 0
  stream.on('data', (chunk: Buffer) => {
    size += chunk.length
  })
  const trailers = await new Promise<Record<string, unknown>>((resolve, reject) => {
    stream.on('trailers', resolve)
    stream.on('error', reject)
    session.on('error', reject)
  })
  await new Promise((resolve) => session.close(() => resolve(undefined)))
  t.equal(size, 12_000)
  t.ok(Number(trailers['bandwidth-response-delay-ms']) >= 300)
  t.ok(Number(trailers['bandwidth-response-filter-delay-ms']) >= 300)
})

t.test('native configurations have the same filters, with settings of routes', async (t) => {
  const origin = await Origin.start()
  const client = new WireClient()
  const quiet = { debug() {}, info() {}, warn() {}, error() {} }
  const everybody = localLimit({ all: { tokens: 2, perMs: 3_600_000 } })
  const name = everybody.factory.name
  const to = { kind: 'route', cluster: { kind: 'cluster', name: 'origin' } } as const
  const gateway = createGateway(
    {
      listeners: [
        {
          name: 'main',
          address: '127.0.0.1:0',
          http: {
            filters: [everybody, bandwidthLimit({ kibPerSecond: 1_024 }), admissionControl(), adaptiveConcurrency()],
            routes: [
              {
                match: { path: { kind: 'exact', value: '/strict', caseSensitive: true } },
                action: to,
                filterConfigs: { [name]: { config: localLimit({ all: { tokens: 1, perMs: 3_600_000 } }).config } },
              },
              {
                match: { path: { kind: 'exact', value: '/free', caseSensitive: true } },
                action: to,
                filterConfigs: { [name]: false },
              },
              { match: {}, action: to },
            ],
          },
        },
      ],
      clusters: [{ name: 'origin', endpoints: [{ address: `127.0.0.1:${origin.port}` }] }],
    },
    { log: quiet },
  )
  t.teardown(async () => {
    await client.closeAll()
    await gateway.close({ drainMs: 0 })
    await origin.close()
  })
  await gateway.start()
  const address = gateway.addresses.main[0]
  if (address.kind !== 'ip') throw new Error('no port')
  const wire = await client.connect(address.port)
  const at = async (path: string): Promise<number> => (await wire.exchange(get(path))).status
  t.same([await at('/'), await at('/'), await at('/')], [200, 200, 429])
  t.same([await at('/strict'), await at('/strict')], [200, 429])
  t.same([await at('/free'), await at('/free')], [200, 200])
})
