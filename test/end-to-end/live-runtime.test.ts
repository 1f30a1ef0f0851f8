import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { JsonObject } from '../../lib/core/errors.ts'
import { TestGateway } from '../support/gateway.ts'
import { Origin } from '../support/origin.ts'
import { type Wire, WireClient } from '../support/wire.ts'
import { type BootstrapSpec, bootstrap, cluster, type Fields, fileLog } from './bootstrap.ts'
import { get } from './setup.ts'

/** Values of the runtime that change while a gateway runs: every setting that has a key follows, nothing is compiled anew. */

const TYPE = 'type.googleapis.com/envoy'
const CORS = `${TYPE}.extensions.filters.http.cors.v3.CorsPolicy`

const says = (body: string): Fields => ({ status: 200, body: { inline_string: body } })
const percent = (numerator: number, key: string): Fields => ({
  default_value: { numerator, denominator: 'HUNDRED' },
  runtime_key: key,
})

interface Stage {
  readonly gateway: TestGateway
  readonly client: WireClient
  set(values: JsonObject): Promise<void>
}

async function stage(t: Test, spec: Partial<BootstrapSpec>, logPath?: string): Promise<Stage> {
  const client = new WireClient()
  const gateway = await TestGateway.start(bootstrap({ clusters: [], ...spec }), { ...(logPath && { logPath }) })
  t.teardown(async () => {
    await client.closeAll()
    await gateway.close()
  })
  return { gateway, client, set: (runtime) => gateway.engine.update({ runtime }) }
}

t.test('shares of requests: what a route takes, and what CORS applies to', async (t) => {
  const cors = {
    '@type': CORS,
    allow_origin_string_match: [{ exact: 'https://a.example' }],
    filter_enabled: percent(0, 'cors.on'),
  }
  const routes = [
    {
      match: { prefix: '/', runtime_fraction: percent(0, 'routes.new') },
      route: { cluster: 'b' },
      typed_per_filter_config: { cors },
    },
    { match: { prefix: '/' }, route: { cluster: 'a' }, typed_per_filter_config: { cors } },
  ]
  const filters = [{ name: 'cors', typed_config: { '@type': `${TYPE}.extensions.filters.http.cors.v3.Cors` } }]
  const { clusters, close } = await twoOrigins()
  t.teardown(close)
  const { gateway, client, set } = await stage(t, { routes, filters, clusters })
  const wire = await client.connect(gateway.port())
  const seen = async (): Promise<[string, string | undefined]> => {
    const answer = await wire.exchange(get('/', 'origin: https://a.example'))
    return [answer.text(), answer.get('access-control-allow-origin')]
  }
  t.same(await seen(), ['a', undefined])
  await set({ 'routes.new': 100 })
  t.same(await seen(), ['b', undefined])
  await set({ 'routes.new': { numerator: 1, denominator: 'MILLION' }, 'cors.on': '100' })
  t.same(await seen(), ['b', 'https://a.example'])
  await set({ 'routes.new': 0, 'cors.on': 100 })
  t.same(await seen(), ['a', 'https://a.example'])
  await set({})
  t.same(await seen(), ['a', undefined], 'a key that is gone leaves what is configured')
})

t.test('weights of clusters', async (t) => {
  const { clusters, close } = await twoOrigins()
  t.teardown(close)
  const weighted_clusters = {
    runtime_key_prefix: 'split',
    clusters: [
      { name: 'a', weight: 100 },
      { name: 'b', weight: 0 },
    ],
  }
  const { gateway, client, set } = await stage(t, {
    routes: [{ match: { prefix: '/' }, route: { weighted_clusters } }],
    clusters,
  })
  const wire = await client.connect(gateway.port())
  const answered = async (): Promise<string> => (await wire.exchange(get())).text()
  t.equal(await answered(), 'a')
  await set({ 'split.a': 0, 'split.b': 1 })
  t.equal(await answered(), 'b')
  await set({ 'split.b': 5 })
  t.equal(await answered(), 'a', 'one that is not overridden keeps its weight')
  await set({ 'split.a': 0 })
  t.equal(await answered(), 'a', 'weights that come to 0 do not count')
  await set({ 'split.a': -1, 'split.b': 'many' })
  t.equal(await answered(), 'a', 'nor does what is no weight')
})

async function twoOrigins(): Promise<{ clusters: Fields[]; close(): Promise<void> }> {
  const names = ['a', 'b']
  const origins = await Promise.all(
    names.map((name) =>
      Origin.start(async (request, reply) => {
        await request.body
        await reply.send({ body: name })
      }),
    ),
  )
  return {
    clusters: origins.map((origin, i) => cluster(names[i], origin.port)),
    async close() {
      for (const origin of origins) await origin.close()
    },
  }
}

t.test('thresholds of access log filters and of local reply mappers', async (t) => {
  const path = join(t.testdir(), 'access.log')
  const status = (value: number, key: string): Fields => ({
    status_code_filter: { comparison: { op: 'GE', value: { default_value: value, runtime_key: key } } },
  })
  const hcm = {
    access_log: [{ ...fileLog(path), filter: status(500, 'log.from') }],
    local_reply_config: { mappers: [{ filter: status(600, 'map.from'), body: { inline_string: 'mapped' } }] },
  }
  const { gateway, client, set } = await stage(t, { routes: [], hcm }, path)
  const wire = await client.connect(gateway.port())
  const ask = async (target: string): Promise<string> => (await wire.exchange(get(target))).text()
  t.equal(await ask('/1'), '')
  await set({ 'log.from': 404, 'map.from': '404' })
  t.equal(await ask('/2'), 'mapped')
  await set({ 'log.from': 405 })
  t.equal(await ask('/3'), '')
  await client.closeAll()
  await gateway.close()
  t.same(
    gateway.lines().map((line) => (JSON.parse(line) as { path: string }).path),
    ['/2'],
  )
})

t.test('whether paths are normalised, of connection managers that do not say', async (t) => {
  const routes = [
    { match: { path: '/b' }, direct_response: says('normal') },
    { match: { prefix: '/' }, direct_response: says('as it came') },
  ]
  const { gateway, client, set } = await stage(t, {
    listeners: [
      { name: 'unsaid', routes },
      { name: 'no', routes, hcm: { normalize_path: false } },
      { name: 'yes', routes, hcm: { normalize_path: true } },
    ],
  })
  const wires = await Promise.all(['unsaid', 'no', 'yes'].map((name) => client.connect(gateway.port(name))))
  const seen = (): Promise<string[]> =>
    Promise.all(wires.map(async (wire: Wire) => (await wire.exchange(get('/a/../b'))).text()))
  const key = 'http_connection_manager.normalize_path'
  t.same(await seen(), ['as it came', 'as it came', 'normal'])
  for (const value of [true, 'true', 100]) {
    await set({ [key]: value })
    t.same(await seen(), ['normal', 'as it came', 'normal'], String(value))
  }
  for (const value of [false, 0, {}, 'perhaps']) {
    await set({ [key]: value })
    t.same(await seen(), ['as it came', 'as it came', 'normal'], String(value))
  }
})

t.test('limits of connections: of one listener, and of the gateway', async (t) => {
  const routes = [{ match: { prefix: '/' }, direct_response: says('in') }]
  const { gateway, client, set } = await stage(t, {
    listeners: [
      { name: 'few', routes, fields: { stat_prefix: 'few' } },
      { name: 'many', routes, fields: { stat_prefix: 'many' } },
    ],
  })
  const taken = async (listener: string): Promise<boolean> => {
    try {
      const wire = await client.connect(gateway.port(listener))
      return (await wire.exchange(get())).text() === 'in'
    } catch {
      return false
    }
  }
  t.ok(await taken('few'))
  await set({ 'envoy.resource_limits.listener.few.connection_limit': 1 })
  t.notOk(await taken('few'))
  t.ok(await taken('many'))
  t.equal(gateway.stat('listener.few.downstream_cx_overflow'), 1)
  await set({ 'envoy.resource_limits.listener.few.connection_limit': '2' })
  t.ok(await taken('few'))
  await set({ 'overload.global_downstream_max_connections': 3 })
  t.notOk(await taken('many'))
  t.equal(gateway.stat('listener.many.downstream_global_cx_overflow'), 1)
  await set({ 'overload.global_downstream_max_connections': 4 })
  t.ok(await taken('many'))
  await set({})
  t.ok(await taken('few'))
})

t.test('the monitor of the overload manager goes before the runtime', async (t) => {
  const monitor = `${TYPE}.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig`
  const resource_monitors = [
    {
      name: 'envoy.resource_monitors.global_downstream_max_connections',
      typed_config: { '@type': monitor, max_active_downstream_connections: 1 },
    },
  ]
  const routes = [{ match: { prefix: '/' }, direct_response: says('in') }]
  const source = {
    ...bootstrap({ routes, fields: { stat_prefix: 'main' }, clusters: [] }),
    overload_manager: { resource_monitors },
  }
  const gateway = await TestGateway.start(source)
  const client = new WireClient()
  t.teardown(async () => {
    await client.closeAll()
    await gateway.close()
  })
  await gateway.engine.update({ runtime: { 'overload.global_downstream_max_connections': 5 } })
  const first = await client.connect(gateway.port())
  t.equal((await first.exchange(get())).text(), 'in')
  await t.rejects(client.connect(gateway.port()).then((second) => second.exchange(get())))
  t.equal(gateway.stat('listener.main.downstream_global_cx_overflow'), 1)
})

t.test('flags of filters of layer 4 and of listeners', async (t) => {
  const rateLimit = {
    '@type': `${TYPE}.extensions.filters.network.local_ratelimit.v3.LocalRateLimit`,
    stat_prefix: 'rl',
    token_bucket: { max_tokens: 1, fill_interval: '3600s' },
    runtime_enabled: { default_value: false, runtime_key: 'rl.on' },
  }
  const early = {
    '@type': `${TYPE}.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit`,
    stat_prefix: 'early',
    token_bucket: { max_tokens: 1, fill_interval: '3600s' },
    runtime_enabled: { default_value: false, runtime_key: 'early.on' },
  }
  const answer = {
    '@type': `${TYPE}.extensions.filters.network.direct_response.v3.Config`,
    response: { inline_string: 'in' },
  }
  const chain = {
    filters: [
      { name: 'rl', typed_config: rateLimit },
      { name: 'answer', typed_config: answer },
    ],
  }
  const { gateway, client, set } = await stage(t, {
    chain,
    fields: { listener_filters: [{ name: 'early', typed_config: early }] },
  })
  /** What came, and '' where the connection was refused. */
  const heard = async (): Promise<string> => {
    try {
      const wire = await client.connect(gateway.port())
      const { bytes } = await wire.readToEnd()
      await wire.close()
      return bytes.toString()
    } catch {
      return ''
    }
  }
  for (const key of ['early.on', 'rl.on']) {
    t.equal(await heard(), 'in')
    t.equal(await heard(), 'in')
    await set({ [key]: 'true' })
    t.equal(await heard(), 'in', 'the one token')
    t.equal(await heard(), '', key)
    await set({ [key]: false })
    t.equal(await heard(), 'in')
  }
})

t.test('the flag of the filter that limits connections', async (t) => {
  const limit = {
    '@type': `${TYPE}.extensions.filters.network.connection_limit.v3.ConnectionLimit`,
    stat_prefix: 'cl',
    max_connections: 1,
    runtime_enabled: { default_value: false, runtime_key: 'cl.on' },
  }
  const routes = [{ match: { prefix: '/' }, direct_response: says('in') }]
  const { gateway, client, set } = await stage(t, { network: [{ name: 'cl', typed_config: limit }], routes })
  const first = await client.connect(gateway.port())
  const second = await client.connect(gateway.port())
  t.equal((await first.exchange(get())).text() + (await second.exchange(get())).text(), 'inin')
  await set({ 'cl.on': true })
  const third = await client.connect(gateway.port())
  t.equal((await third.exchange(get())).text(), 'in', 'those from before are not counted')
  await t.rejects(client.connect(gateway.port()).then((fourth) => fourth.exchange(get())))
  t.equal(gateway.stat('connection_limit.cl.limited_connections'), 1)
})
