import { createServer, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import type { FilterFactory } from '../../lib/chain/filter.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { TestClock } from '../support/clock.ts'
import { assignment, LiveGateway, Parts, setting } from '../support/live-gateway.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import { bootstrap, cluster, endpoint, type Fields } from './bootstrap.ts'
import { get, type Setup, setup } from './setup.ts'

/** Requests that say where they go: by labels, by a session, by a header. And hosts that say how much they can take. */

const EXTENSION = 'type.googleapis.com/envoy.extensions.'
const POLICIES = `${EXTENSION}load_balancing_policies.`
const STATEFUL = `${EXTENSION}filters.http.stateful_session.v3.`
const STATES = `${EXTENSION}http.stateful_session.`

function policy(name: string, type: string, fields: Fields = {}): Fields {
  return {
    policies: [{ typed_extension_config: { name, typed_config: { '@type': `${POLICIES}${type}`, ...fields } } }],
  }
}

const ROUND_ROBIN = policy('rr', 'round_robin.v3.RoundRobin')

async function origins(t: Test, count: number, script?: (name: string) => OriginScript): Promise<readonly Origin[]> {
  const said =
    script ??
    ((name: string): OriginScript =>
      async (_request, reply) => {
        await reply.send({ body: name })
      })
  const list = await Promise.all(Array.from({ length: count }, (_, i) => Origin.start(said(`${i}`))))
  t.teardown(() => Promise.all(list.map((origin) => origin.close())))
  return list
}

/** Endpoints with labels. */
function labelled(
  name: string,
  at: readonly (readonly [port: number, labels: Fields, fields?: Fields])[],
  rest: Fields,
): Fields {
  return {
    ...cluster(name, []),
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: at.map(([port, labels, fields]) =>
            endpoint('127.0.0.1', port, { metadata: { filter_metadata: { 'envoy.lb': labels } }, ...fields }),
          ),
        },
      ],
    },
    ...rest,
  }
}

/** The bodies of so many answers. */
async function bodies(s: Setup, count: number, ...lines: readonly string[]): Promise<string[]> {
  const wire = await s.connect()
  const all: string[] = []
  for (let i = 0; i < count; i++) all.push((await wire.exchange(get('/', ...lines))).text())
  wire.close()
  return all
}

async function reached(s: Setup, path: string, ...lines: readonly string[]): Promise<string> {
  const wire = await s.connect()
  const seen = new Set<string>()
  for (let i = 0; i < 6; i++) {
    const response = await wire.exchange(get(path, ...lines))
    seen.add(response.status === 200 ? response.text() : String(response.status))
  }
  wire.close()
  return [...seen].sort().join()
}

/** Notes what the header `x-lb` says, as JSON, under `envoy.lb`. */
const noting: FilterFactory<JsonObject> = {
  name: 'test.noting',
  typeUrls: ['test.Noting'],
  parse: () => ({}),
  compile: () => ({
    onRequestHeaders(stream): void {
      const text = stream.request.get('x-lb')
      if (text !== undefined) stream.metadata.merge('envoy.lb', JSON.parse(text))
    },
  }),
}
const NOTING: Fields = {
  name: 'test.noting',
  typed_config: { '@type': 'type.googleapis.com/xds.type.v3.TypedStruct', type_url: 'type.googleapis.com/test.Noting' },
}

function match(labels: Fields): Fields {
  return { filter_metadata: { 'envoy.lb': labels } }
}

t.test('routes, weighted clusters and filters say which subset requests go to', async (t) => {
  const ports = (await origins(t, 4)).map(({ port }) => port)
  const at = ports.map((port, i) => [port, { v: i < 2 ? '1' : '2', s: i % 2 ? 'odd' : 'even' }] as const)
  const subsets = { fallback_policy: 'NO_FALLBACK', subset_selectors: [{ keys: ['v'] }, { keys: ['v', 's'] }] }
  const s = await setup(t, {
    clusters: [
      labelled('old', at, { lb_subset_config: subsets }),
      labelled('new', at, {
        load_balancing_policy: policy('s', 'subset.v3.Subset', { ...subsets, subset_lb_policy: ROUND_ROBIN }),
      }),
    ],
    routes: [
      ...['old', 'new'].flatMap((name) => [
        { match: { path: `/${name}/1` }, route: { cluster: name, metadata_match: match({ v: '1' }) } },
        {
          match: { path: `/${name}/weighted` },
          route: {
            metadata_match: match({ v: '1', s: 'odd' }),
            weighted_clusters: { clusters: [{ name, weight: 1, metadata_match: match({ v: '2' }) }] },
          },
        },
        { match: { prefix: `/${name}/` }, route: { cluster: name } },
      ]),
    ],
    filters: [NOTING],
    gateway: { filters: [noting] },
  })
  for (const name of ['old', 'new']) {
    t.equal(await reached(s, `/${name}/1`), '0,1')
    t.equal(await reached(s, `/${name}/weighted`), '3', 'the labels of both, those of the weighted cluster first')
    t.equal(await reached(s, `/${name}/none`), '503')
    t.equal(await reached(s, `/${name}/none`, 'x-lb: {"v":"2"}'), '2,3')
    t.equal(
      await reached(s, `/${name}/1`, 'x-lb: {"s":"even"}'),
      '0',
      'what filters have noted joins what the route says',
    )
    t.equal(await reached(s, `/${name}/1`, 'x-lb: {"v":"2"}'), '2,3', '... and goes before it')
  }
  t.equal(s.gateway.stat('cluster.new.lb_subsets_active'), 6)
  const lines = await s.finish()
  const refused = lines.filter(({ status }) => status === 503)
  t.equal(refused.length, 12)
  t.ok(refused.every(({ flags, details }) => flags === 'UH' && details === 'no_healthy_upstream'))
})

function session(state: string, fields: Fields, rest: Fields = {}): Fields {
  return {
    name: 'envoy.filters.http.stateful_session',
    typed_config: {
      '@type': `${STATEFUL}StatefulSession`,
      session_state: { name: 's', typed_config: { '@type': `${STATES}${state}`, ...fields } },
      stat_prefix: 'shop',
      ...rest,
    },
  }
}

const COOKIE = session('cookie.v3.CookieBasedSessionState', { cookie: { name: 'where', ttl: '60s', path: '/shop' } })

t.test('subsets within subsets go by the same labels', async (t) => {
  const list = await origins(t, 2)
  const [one, two] = list.map(({ port }) => port)
  const within = policy('s', 'subset.v3.Subset', {
    fallback_policy: 'NO_FALLBACK',
    subset_selectors: [{ keys: ['b'] }, { keys: ['a', 'b'] }],
    subset_lb_policy: ROUND_ROBIN,
  })
  const outer = policy('s', 'subset.v3.Subset', {
    fallback_policy: 'ANY_ENDPOINT',
    subset_selectors: [{ keys: ['a'] }],
    subset_lb_policy: within,
  })
  const at = [
    [one, { a: '1', b: '1' }],
    [two, { a: '1', b: '2' }],
  ] as const
  const s = await setup(t, {
    clusters: [labelled('nested', at, { load_balancing_policy: outer })],
    routes: [
      { match: { prefix: '/both' }, route: { cluster: 'nested', metadata_match: match({ a: '1', b: '1' }) } },
      { match: { prefix: '/a' }, route: { cluster: 'nested', metadata_match: match({ a: '1' }) } },
      { match: { prefix: '/b' }, route: { cluster: 'nested', metadata_match: match({ b: '2' }) } },
      { match: { prefix: '/' }, route: { cluster: 'nested' } },
    ],
  })
  const stat = (name: string): number => s.gateway.stat(`cluster.nested.lb_subsets_${name}`)
  t.equal(await reached(s, '/both'), '0')
  t.same([stat('selected'), stat('fallback')], [6, 6], 'among any of the outer ones, in one of the inner ones')
  t.equal(await reached(s, '/b'), '1')
  t.same([stat('selected'), stat('fallback')], [12, 12])
  t.equal(await reached(s, '/a'), '503', 'the inner ones know nothing of it')
  t.equal(await reached(s, '/'), '503')
  t.same([stat('selected'), stat('fallback')], [18, 12])
})

t.test('a session stays on the host of its first request, by a cookie', async (t) => {
  const list = await origins(t, 3)
  const s = await setup(t, {
    clusters: [
      cluster(
        'three',
        list.map(({ port }) => port),
      ),
    ],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'three' } }],
    filters: [COOKIE],
  })
  for (let client = 0; client < 5; client++) {
    const wire = await s.connect()
    const first = await wire.exchange(get('/shop/cart'))
    const cookie = first.get('set-cookie') ?? ''
    t.match(cookie, /^where="[A-Za-z0-9+/]+={0,2}"; Max-Age=60; Path=\/shop; HttpOnly$/)
    const place = first.text()
    for (let i = 0; i < 4; i++) {
      const next = await wire.exchange(get('/shop', `cookie: ${cookie.split(';')[0]}`))
      t.equal(next.text(), place)
      t.equal(next.get('set-cookie'), undefined)
    }
    const elsewhere = await wire.exchange(get('/shopping', `cookie: ${cookie.split(';')[0]}`))
    t.equal(elsewhere.get('set-cookie'), undefined, 'not below the path of the cookie')
    wire.close()
  }
  const http = s.gateway.engine.metrics().counters.filter(([name]) => name.includes('stateful_session.shop.'))
  t.same(Object.fromEntries(http.map(([name, value]) => [name.split('.').at(-1), value])), {
    routed: 20,
    failed_open: 0,
    failed_closed: 0,
    no_session: 10,
  })
})

t.test('cookies of other gateways are understood: a message with a time, or an address alone', async (t) => {
  const list = await origins(t, 3)
  const s = await setup(t, {
    clusters: [
      cluster(
        'three',
        list.map(({ port }) => port),
      ),
    ],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'three' } }],
    filters: [session('cookie.v3.CookieBasedSessionState', { cookie: { name: 'where' } })],
  })
  const address = `127.0.0.1:${list[2].port}`
  const text = Buffer.from(address)
  const message = (expires: readonly number[]): Buffer => Buffer.from([0x0a, text.length, ...text, ...expires])
  const sent = (value: Buffer | string): Promise<string> =>
    reached(s, '/', `cookie: where=${typeof value === 'string' ? value : value.toString('base64')}`)
  t.equal(await sent(message([])), '2')
  t.equal(await sent(message([0x10, 0xff, 0xff, 0xff, 0xff, 0x7f])), '2', 'not over yet')
  t.equal(await sent(message([0x10, 0x01])), '0,1,2', 'over since 1970')
  t.equal(await sent(text), '2')
  for (const bad of ['', '*', 'AAAA', Buffer.from([0x0a, 0xff, 0xff]).toString('base64'), 'x'.repeat(20_000)]) {
    t.equal(await sent(bad), '0,1,2', bad.slice(0, 10))
  }
  const wire = await s.connect()
  const first = await wire.exchange(get('/'))
  t.match(first.get('set-cookie'), /^where="[A-Za-z0-9+/]+={0,2}"; HttpOnly$/)
})

t.test('a host that is gone or sick is replaced, or, where sessions are strict, missed', async (t) => {
  const [a, b] = await origins(t, 2)
  const sick = { health_status: 'UNHEALTHY' }
  const perRoute = (fields: Fields): Fields => ({
    typed_per_filter_config: {
      'envoy.filters.http.stateful_session': { '@type': `${STATEFUL}StatefulSessionPerRoute`, ...fields },
    },
  })
  const header = { name: 's', typed_config: { '@type': `${STATES}header.v3.HeaderBasedSessionState`, name: 'X-Where' } }
  const all = {
    common_lb_config: { healthy_panic_threshold: {}, override_host_status: { statuses: ['UNHEALTHY', 'HEALTHY'] } },
  }
  const s = await setup(t, {
    clusters: [
      labelled(
        'two',
        [
          [a.port, {}],
          [b.port, {}, sick],
        ],
        { common_lb_config: { healthy_panic_threshold: {} } },
      ),
      labelled(
        'any',
        [
          [a.port, {}],
          [b.port, {}, sick],
        ],
        all,
      ),
    ],
    routes: [
      {
        match: { prefix: '/strict' },
        route: { cluster: 'two' },
        ...perRoute({ stateful_session: { session_state: header, strict: true } }),
      },
      {
        match: { prefix: '/gone' },
        route: { cluster: 'two' },
        ...perRoute({
          stateful_session: { session_state: header, strict: true, status_on_strict_destination_not_found: 410 },
        }),
      },
      { match: { prefix: '/off' }, route: { cluster: 'any' }, ...perRoute({ disabled: true }) },
      { match: { prefix: '/any' }, route: { cluster: 'any' } },
      { match: { prefix: '/' }, route: { cluster: 'two' } },
    ],
    filters: [session('header.v3.HeaderBasedSessionState', { name: 'X-Where' })],
  })
  const to = (port: number): string => `x-where: ${Buffer.from(`127.0.0.1:${port}`).toString('base64')}`
  const wire = await s.connect()
  const ask = async (path: string, ...lines: readonly string[]): Promise<readonly (string | number | undefined)[]> => {
    const response = await wire.exchange(get(path, ...lines))
    const where = response.get('x-where')
    return [response.status, where === undefined ? undefined : Buffer.from(where, 'base64').toString()]
  }
  const atA = `127.0.0.1:${a.port}`
  t.same(await ask('/'), [200, atA])
  t.same(await ask('/', to(a.port)), [200, undefined], 'it has been told already')
  t.same(await ask('/', to(b.port)), [200, atA], 'sick')
  t.same(await ask('/', to(1)), [200, atA], 'gone')
  t.same(await ask('/strict', to(b.port)), [503, undefined])
  t.same(await ask('/strict', to(a.port)), [200, undefined])
  t.same(await ask('/strict'), [200, atA], 'without a session any host will do')
  t.same(await ask('/gone', to(1)), [410, undefined])
  t.same(await ask('/any', to(b.port)), [200, undefined], 'sick ones may be wanted here')
  t.same(await ask('/off', to(b.port)), [200, undefined])
  const counted = (name: string): number => s.gateway.stat(`http.test.stateful_session.shop.${name}`)
  t.same([counted('failed_closed'), counted('failed_open')], [2, 2])
  const lines = await s.finish()
  const missed = lines.filter(({ status }) => status === 503 || status === 410)
  t.ok(missed.every(({ flags, details }) => flags === 'UH' && details === 'no_healthy_upstream'))
})

t.test('an envelope holds the host beside what the upstream keeps in its header', async (t) => {
  const seen: (string | undefined)[] = []
  const list = await origins(t, 2, (name) => async (request, reply) => {
    seen.push(request.get('mcp-session-id'))
    await reply.send({
      body: name,
      fields: request.target === '/plain' ? [] : [['mcp-session-id', `session of ${name}`]],
    })
  })
  const s = await setup(t, {
    clusters: [
      cluster(
        'two',
        list.map(({ port }) => port),
      ),
    ],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'two' } }],
    filters: [session('envelope.v3.EnvelopeSessionState', { header: { name: 'mcp-session-id' } })],
  })
  const wire = await s.connect()
  await wire.exchange(get('/'))
  const first = await wire.exchange(get('/'))
  const place = first.text()
  const value = first.get('mcp-session-id') ?? ''
  const encoded = (text: string): string => Buffer.from(text).toString('base64')
  t.equal(value, `${encoded(`127.0.0.1:${list[Number(place)].port}`)};UV:${encoded(`session of ${place}`)}`)
  for (let i = 0; i < 3; i++) {
    const next = await wire.exchange(get('/', `mcp-session-id: ${value}`))
    t.equal(next.text(), place)
    t.equal(seen.at(-1), `session of ${place}`)
  }
  const plain = await wire.exchange(get('/plain', 'mcp-session-id: no envelope'))
  t.equal(plain.get('mcp-session-id'), undefined)
  t.equal(seen.at(-1), 'no envelope')
  const evil = `${encoded('127.0.0.1:1')};UV:${encoded('a\r\nx-evil: 1')}`
  await wire.exchange(get('/', `mcp-session-id: ${evil}`))
  t.equal(seen.at(-1), evil, 'what would break a header is not unpacked')
})

t.test('requests name hosts in a header or in metadata, one for each attempt, and learn which it was', async (t) => {
  const list = await origins(t, 4, (name) => async (request, reply) => {
    await reply.send(name === request.get('x-fails') ? { status: 503, body: name } : { body: name })
  })
  const ports = list.map(({ port }) => port)
  const fields = {
    override_host_sources: [
      { header: 'X-Go' },
      { metadata: { key: 'envoy.lb', path: [{ key: 'go' }, { key: 'to' }] } },
      { metadata: { key: 'envoy.lb', path: [{ key: 'list' }, { index: 1 }, { key: 'to' }] } },
    ],
    selected_host_key: { key: 'chosen', path: [{ key: 'at' }] },
    fallback_policy: ROUND_ROBIN,
  }
  const s = await setup(t, {
    clusters: [cluster('four', ports, { load_balancing_policy: policy('o', 'override_host.v3.OverrideHost', fields) })],
    routes: [
      {
        match: { prefix: '/' },
        route: { cluster: 'four', retry_policy: { retry_on: '5xx', num_retries: 2 } },
        response_headers_to_add: [{ header: { key: 'x-at', value: '%DYNAMIC_METADATA(chosen:at)%' } }],
      },
    ],
    filters: [NOTING],
    gateway: { filters: [noting] },
  })
  const at = (i: number): string => `127.0.0.1:${ports[i]}`
  t.equal(await reached(s, '/'), '0,1,2,3')
  t.equal(await reached(s, '/', `x-go: ${at(2)}`), '2')
  t.equal(await reached(s, '/', `x-go: 127.0.0.1:1, ,${at(3)}`), '3', 'the first that is there')
  t.equal(await reached(s, '/', 'x-go: 127.0.0.1:1'), '0,1,2,3')
  t.equal(await reached(s, '/', `x-lb: {"go":{"to":"${at(1)}"}}`), '1')
  t.equal(await reached(s, '/', `x-lb: {"list":[{},{"to":"${at(1)}"}]}`), '1', 'by its place in a list')
  t.equal(await reached(s, '/', `x-lb: {"list":[{"to":"${at(1)}"}]}`), '0,1,2,3', 'the list is shorter')
  t.equal(await reached(s, '/', `x-lb: {"list":{"1":{"to":"${at(1)}"}}}`), '0,1,2,3', 'no list')
  t.equal(await reached(s, '/', `x-go: ${at(0)}`, `x-lb: {"go":{"to":"${at(1)}"}}`), '0')
  t.equal(await reached(s, '/', `x-go: ${at(2)},${at(1)}`, 'x-fails: 2'), '1', 'a retry takes the next')
  const wire = await s.connect()
  const response = await wire.exchange(get('/', `x-go: ${at(3)}`))
  t.equal(response.get('x-at'), at(3))
})

t.test('hosts that report their load get requests by it', async (t) => {
  const forms: readonly (readonly [name: string, value: string])[] = [
    ['endpoint-load-metrics', 'TEXT cpu_utilization:0.5,rps_fractional:300'],
    ['endpoint-load-metrics', 'JSON {"cpu_utilization": 0.5, "rps_fractional": 100}'],
    ['endpoint-load-metrics', 'JSON {"applicationUtilization": 0.25, "rpsFractional": "50", "cpuUtilization": 1}'],
  ]
  const list = await origins(t, 3, (name) => async (_request, reply) => {
    await reply.send({ body: name, fields: [forms[Number(name)]] })
  })
  const fields = { blackout_period: '0s', weight_update_period: '0.1s' }
  const clock = new TestClock()
  const type = 'client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin'
  const s = await setup(t, {
    clusters: [
      cluster(
        'three',
        list.map(({ port }) => port),
        {
          load_balancing_policy: policy('w', 'wrr_locality.v3.WrrLocality', {
            endpoint_picking_policy: policy('c', type, fields),
          }),
        },
      ),
    ],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'three' } }],
    gateway: { clock },
  })
  const all = await bodies(s, 3)
  t.equal([...all].sort().join(), '0,1,2', 'in turns at first')
  clock.advance(150)
  const later = await bodies(s, 100)
  const shares = ['0', '1', '2'].map((name) => later.filter((body) => body === name).length)
  t.ok(Math.abs(shares[0] - 60) <= 2 && Math.abs(shares[1] - 20) <= 2 && Math.abs(shares[2] - 20) <= 2, `${shares}`)
})

/** A gRPC server on HTTP/2 that streams load reports: what it was asked, and whom to answer. */
async function reporting(
  t: Test,
): Promise<{ readonly port: number; readonly asked: Buffer[]; readonly streams: ServerHttp2Stream[] }> {
  const asked: Buffer[] = []
  const streams: ServerHttp2Stream[] = []
  const server = createServer()
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.on('error', () => {})
    if (headers[':path'] !== '/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics') {
      stream.respond({ ':status': 200 })
      stream.end(String(headers[':authority']))
      return
    }
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('data', (chunk: Buffer) => void asked.push(chunk))
    streams.push(stream)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const sessions = new Set<ServerHttp2Session>()
  server.on('session', (session) => void sessions.add(session))
  t.teardown(async () => {
    for (const session of sessions) session.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  return { port: (server.address() as AddressInfo).port, asked, streams }
}

/** `{ cpu_utilization, rps_fractional }` as one gRPC message. */
function grpcReport(cpu: number, rps: number): Buffer {
  const message = Buffer.alloc(5 + 18)
  message.writeUInt32BE(18, 1)
  message[5] = 0x09
  message.writeDoubleLE(cpu, 6)
  message[14] = 0x31
  message.writeDoubleLE(rps, 15)
  return message
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}

t.test(
  'hosts are asked for reports by a stream each, again when it ends, and never again where they have none',
  async (t) => {
    const [a, b] = [await reporting(t), await reporting(t)]
    const clock = new TestClock()
    const type = 'client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin'
    const http2 = {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    }
    const s = await setup(t, {
      clusters: [
        cluster('two', [a.port, b.port], {
          typed_extension_protocol_options: { 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': http2 },
          load_balancing_policy: policy('w', type, {
            enable_oob_load_report: true,
            oob_reporting_period: '2.5s',
            oob_reporting_config: { authority: 'reports.example' },
            blackout_period: '0s',
          }),
        }),
      ],
      routes: [{ match: { prefix: '/' }, route: { cluster: 'two', host_rewrite_literal: 'two' } }],
      gateway: { clock },
    })
    const stat = (name: string): number => s.gateway.stat(`cluster.two.lb_orca_oob.${name}`)
    await bodies(s, 2)
    t.equal(stat('active_sessions'), 2)
    clock.advance(2_500)
    await until(() => a.asked.length === 1 && b.asked.length === 1)
    // report_interval { seconds: 2, nanos: 500000000 }
    t.equal(a.asked[0].toString('hex'), '00000000' + '0a' + '0a08' + '080210' + '80cab5ee01')
    a.streams[0].write(grpcReport(0.5, 300))
    b.streams[0].write(grpcReport(0.5, 100))
    await until(() => stat('reports_received') === 2)
    clock.advance(1_000)
    await bodies(s, 100)
    const requests = (): number[] => {
      const { hosts } = s.gateway.engine.status().clusters.find(({ name }) => name === 'two') ?? { hosts: [] }
      return hosts.map(({ stats }) => stats.rq_total)
    }
    const [toA, toB] = requests()
    t.ok(Math.abs(toA - 76) <= 2 && Math.abs(toB - 26) <= 2, `${toA} ${toB}`)
    const ended =
      (code: string) =>
      (stream: ServerHttp2Stream): void => {
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': code }))
        stream.end()
      }
    ended('12')(a.streams[0])
    ended('14')(b.streams[0])
    await until(() => stat('stream_terminated') === 1 && stat('stream_failures') === 1)
    t.equal(stat('active_sessions'), 1)
    // The least of what may be waited: a tenth of 1 s, then of 3 s.
    clock.advance(120)
    await until(() => b.streams.length === 2)
    clock.advance(7_500)
    await until(() => stat('stream_failures') === 2)
    clock.advance(320)
    await until(() => b.streams.length === 3)
    t.equal(a.streams.length, 1)
    b.streams[2].write(Buffer.from([0, 0, 0, 0, 1, 0x09]))
    await until(() => stat('stream_failures') === 3)
  },
)

t.test('a host that an update has changed is asked for reports as it is now', async (t) => {
  const [server, dead] = [await reporting(t), await Origin.start()]
  await dead.close()
  const clock = new TestClock()
  const live = await LiveGateway.start(t, { clock })
  const [parts, outOfBand] = [new Parts(), { periodMs: 1_000 }]
  const balancer = { kind: 'client-weighted', blackoutMs: 0, expirationMs: 180_000, updateMs: 1_000 } as const
  const { localities } = assignment('one', dead.port)
  const also = { kind: 'ip', host: '127.0.0.1', port: server.port } as const
  const moved = localities.map((locality) => ({
    ...locality,
    endpoints: locality.endpoints.map((one) => ({ ...one, additionalAddresses: [also] })),
  }))
  await live.update({
    clusters: setting(parts.cluster('one', { balancer: { ...balancer, errorPenalty: 1, metrics: [], outOfBand } })),
    assignments: setting({ name: 'one', localities }),
    listeners: setting(parts.listener('in', { routes: parts.forwarding('routes', 'one') })),
  })
  t.equal((await live.get('in')).status, 503)
  const failures = (): number => live.stat('cluster.one.lb_orca_oob.stream_failures')
  clock.advance(1_100)
  await until(() => failures() === 1)
  await live.update({ assignments: setting({ name: 'one', localities: moved }) })
  clock.advance(1_100)
  await until(() => server.streams.length === 1 || failures() === 2)
  t.equal(server.streams.length, 1)
})

t.test('connections are opened ahead of need: to the host in use, and to those that are next', async (t) => {
  const [a, b, c] = (await origins(t, 3)).map(({ port }) => port)
  const s = await setup(t, {
    clusters: [
      cluster('ahead', [a, b, c], { preconnect_policy: { predictive_preconnect_ratio: 3 } }),
      cluster('limited', [a, b, c], {
        preconnect_policy: { predictive_preconnect_ratio: 3 },
        circuit_breakers: { thresholds: [{ max_connections: 1 }] },
      }),
      cluster('tables', [a, b, c], { preconnect_policy: { predictive_preconnect_ratio: 3 }, lb_policy: 'MAGLEV' }),
      cluster('each', [a], { preconnect_policy: { per_upstream_preconnect_ratio: 2 } }),
    ],
    routes: ['ahead', 'limited', 'tables', 'each'].map((name) => ({
      match: { prefix: `/${name}` },
      route: { cluster: name },
    })),
  })
  const wire = await s.connect()
  const ask = async (path: string): Promise<string> => (await wire.exchange(get(path))).text()
  const opened = (name: string): number => s.gateway.stat(`cluster.${name}.upstream_cx_total`)
  t.equal(await ask('/ahead'), '0')
  t.equal(opened('ahead'), 3)
  t.same([await ask('/ahead'), await ask('/ahead'), await ask('/ahead'), await ask('/ahead')], ['1', '2', '0', '1'])
  t.equal(opened('ahead'), 3, 'there are as many as it takes')
  t.equal(await ask('/limited'), '0')
  t.equal(opened('limited'), 2, 'a pool always gets its first connection')
  await ask('/tables')
  t.equal(opened('tables'), 1, 'who is next cannot be told')
  t.equal(await ask('/each'), '0')
  t.equal(opened('each'), 2)
  await ask('/each')
  t.equal(opened('each'), 2)
})

t.test('raw connections go to subsets, too', async (t) => {
  const list = await origins(t, 2)
  const at = list.map(({ port }, i) => [port, { v: String(i) }] as const)
  const tcp = {
    name: 'tcp',
    typed_config: {
      '@type': `${EXTENSION}filters.network.tcp_proxy.v3.TcpProxy`,
      stat_prefix: 't',
      metadata_match: match({ v: '0' }),
      weighted_clusters: { clusters: [{ name: 'two', weight: 1, metadata_match: match({ v: '1' }) }] },
    },
  }
  const s = await setup(t, {
    clusters: [labelled('two', at, { lb_subset_config: { subset_selectors: [{ keys: ['v'] }] } })],
    chain: { filters: [tcp] },
  })
  for (let i = 0; i < 3; i++) t.same(await bodies(s, 1), ['1'])
})

t.test('a cluster that is replaced gives its subsets back, and its successor counts on', async (t) => {
  const list = await origins(t, 3)
  const spec = (versions: readonly string[]): Parameters<typeof bootstrap>[0] => ({
    clusters: [
      labelled(
        'three',
        list.map(({ port }, i) => [port, { v: versions[i] }] as const),
        { lb_subset_config: { fallback_policy: 'ANY_ENDPOINT', subset_selectors: [{ keys: ['v'] }] } },
      ),
    ],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'three', metadata_match: match({ v: '1' }) } }],
  })
  const s = await setup(t, spec(['1', '2', '3']))
  const counted = (name: string): number => s.gateway.stat(`cluster.three.lb_subsets_${name}`)
  t.equal(await reached(s, '/'), '0')
  t.same([counted('active'), counted('selected')], [3, 6])
  const origin = cluster('origin', s.origin.port)
  const next = spec(['2', '1', '1'])
  await s.gateway.apply(bootstrap({ ...next, clusters: [origin, ...next.clusters] }))
  t.equal(await reached(s, '/'), '1,2')
  t.same([counted('active'), counted('created'), counted('removed'), counted('selected')], [2, 5, 3, 12])
})
