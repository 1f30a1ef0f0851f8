import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import t from 'tap'
import type { HttpFilter } from '../../lib/chain/filter.ts'
import type { OriginRequest, OriginScript } from '../support/origin.ts'
import { seeded } from '../support/random.ts'
import type { Fields } from './bootstrap.ts'
import { withFilters } from './filter-instances.ts'
import { get, post, type Setup, type SetupSpec, setup } from './setup.ts'

/** Redirects that the gateway follows itself: the request runs through the chain again, on the client's one stream. */

const PREDICATE = 'type.googleapis.com/envoy.extensions.internal_redirect'

/** `a.example` follows redirects as `policy` says; so do `b.example` and `c.example`, and nobody else is known. */
function following(policy: Fields, more: Partial<SetupSpec> = {}, route: Fields = {}): SetupSpec {
  const host = (name: string): Fields => ({
    name,
    domains: [`${name}.example`],
    routes: [
      {
        name,
        match: { prefix: '/' },
        route: { cluster: 'origin', internal_redirect_policy: policy, ...route },
        request_headers_to_add: [
          { header: { key: 'x-route', value: name }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
        ],
      },
    ],
  })
  return { routeConfig: { name: 'r', virtual_hosts: ['a', 'b', 'c'].map(host) }, ...more }
}

/** Redirects in turn to each of these; then 200 and what the request was. */
function leadsTo(locations: readonly (string | undefined)[], status = 302): OriginScript {
  let at = 0
  return async (request, reply) => {
    const { bytes } = await request.body
    if (at < locations.length) {
      const location = locations[at++]
      await reply.send({ status, fields: location === undefined ? [] : [['location', location]], body: 'moved' })
    } else await reply.send({ body: `${request.method} ${request.get('host')}${request.target} ${bytes.toString()}` })
  }
}

const of = ({ gateway }: Setup, name: string): number =>
  gateway.stat(`cluster.origin.upstream_internal_redirect_${name}`)
const passed = ({ gateway }: Setup, why: string): number =>
  gateway.stat(`http.test.passthrough_internal_redirect_${why}`)

t.test(
  'a redirect is followed: the client gets the second answer, and each exchange its line in the log',
  async (t) => {
    const s = await setup(t, following({}, { origin: leadsTo(['http://b.example/next?x=1#part']) }))
    const wire = await s.connect()
    const response = await wire.exchange(get('/first?y', 'x-keep: 1', 'x-seq: 7'))
    t.equal(response.status, 200)
    t.equal(response.text(), 'GET b.example/next?x=1 ')
    const [first, second] = s.origin.requests
    t.equal(first.get('x-route'), 'a')
    t.equal(first.get('x-envoy-original-url'), undefined)
    t.match(
      ['x-route', 'x-keep', 'x-envoy-original-url'].map((name) => second.get(name)),
      ['b', '1', 'http://a.example/first?y'],
    )
    t.equal(second.get('x-request-id'), first.get('x-request-id'), 'it is the same request')
    t.equal((await wire.exchange(get('/'))).status, 200, 'the connection goes on')
    t.equal(of(s, 'succeeded_total'), 1)
    t.equal(of(s, 'failed_total'), 0)
    t.equal(s.gateway.stat('cluster.origin.upstream_rq_302'), 1)
    t.equal(s.gateway.stat('cluster.origin.upstream_rq_active'), 0)
    t.equal(s.gateway.stat('http.test.downstream_rq_active'), 0)
    t.equal(s.gateway.stat('http.test.downstream_rq_3xx'), 1)
    const lines = await s.finish()
    t.match(lines.slice(0, 2), [
      { seq: '7', status: 302, details: 'internal_redirect', path: '/first?y', flags: '-', attempts: 1 },
      { seq: '7', status: 200, details: 'via_upstream', path: '/next?x=1', flags: '-', attempts: 1 },
    ])
    t.equal(lines.length, 3)
  },
)

t.test('bodies go along, as long as they fit; See Other is asked for with GET', async (t) => {
  const policy = { redirect_response_codes: [302, 303, 307, 308] }
  const limits = { per_request_buffer_limit_bytes: 100_000 }
  const spec = following(policy)
  const hosts = (spec.routeConfig as { virtual_hosts: Fields[] }).virtual_hosts.map((host) => ({ ...host, ...limits }))
  const s = await setup(t, { routeConfig: { name: 'r', virtual_hosts: hosts } })
  const body = 'b'.repeat(90_000)
  for (const status of [302, 307, 308]) {
    s.origin.script = leadsTo(['http://b.example/p'], status)
    const wire = await s.connect()
    const response = await wire.exchange(post(body))
    t.equal(response.text(), `POST b.example/p ${body}`, `${status}`)
    t.equal((await wire.exchange(get('/'))).status, 200)
  }
  s.origin.script = leadsTo(['http://b.example/p'], 303)
  t.equal((await (await s.connect()).exchange(post('some'))).text(), 'GET b.example/p ')
  t.equal(s.origin.requests.at(-1)?.get('content-length'), undefined)
  const chunked = 'POST / HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n'
  s.origin.script = leadsTo(['http://b.example/p'], 307)
  t.equal(
    (await (await s.connect()).exchange(`${chunked}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n`)).text(),
    'POST b.example/p abcde',
  )
  t.equal((await (await s.connect()).exchange(`${chunked}0\r\n\r\n`)).text(), 'POST a.example/ ')
  const before = of(s, 'failed_total')
  s.origin.script = leadsTo(['http://b.example/p'], 307)
  const large = await (await s.connect()).exchange(post('b'.repeat(100_001)))
  t.equal(large.status, 307, 'what is not kept cannot be sent again')
  t.equal(of(s, 'failed_total') - before, 1)
  t.equal((await s.finish()).length, 15)
})

t.test("a redirect that comes before the whole request is the client's", async (t) => {
  const script: OriginScript = async (_request, reply) => {
    await reply.send({
      status: 302,
      fields: [
        ['location', 'http://b.example/'],
        ['connection', 'close'],
      ],
    })
  }
  const s = await setup(t, following({}, { origin: { script, readBodies: false } }))
  const wire = await s.connect()
  await wire.write('POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 10\r\n\r\nabc')
  const response = await wire.readResponse()
  t.equal(response.status, 302)
  t.equal(of(s, 'failed_total'), 1)
  t.equal(s.origin.requests.length, 1)
})

t.test("a redirect that comes before a filter has let the whole request go is the client's", async (t) => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  const { promise: whole, resolve: complete } = Promise.withResolvers<void>()
  t.teardown(release)
  const filter: HttpFilter = {
    async onRequestData(_stream, chunk, end) {
      if (!end) return chunk
      complete()
      await held
      return chunk
    },
  }
  const script: OriginScript = async (request, reply) => {
    if (request.get('host') === 'b.example') await request.body
    await whole
    await reply.send({ status: 302, fields: [['location', 'http://b.example/']], close: true })
  }
  const adjust = withFilters(filter as HttpFilter<unknown>)
  const s = await setup(t, following({}, { origin: { script, readBodies: false }, gateway: { adjust } }))
  const wire = await s.connect()
  await wire.write('POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 6\r\n\r\nabc')
  await s.origin.seen(1)
  await wire.write('def')
  const response = await wire.readResponse()
  t.equal(response.status, 302)
  t.equal(s.origin.requests.length, 1)
})

interface Refused {
  readonly locations: readonly (string | undefined)[]
  readonly policy?: Fields
  /** What `passthrough_internal_redirect_*` says; undefined: nothing. */
  readonly why: string | undefined
}

const predicate = (type: string, fields: Fields = {}): Fields => ({
  predicates: [{ name: 'p', typed_config: { '@type': `${PREDICATE}.${type}`, ...fields } }],
})
const ALLOWED = predicate('allow_listed_routes.v3.AllowListedRoutesConfig', { allowed_route_names: ['c'] })
const PREVIOUS = predicate('previous_routes.v3.PreviousRoutesConfig')
const SAFE = predicate('safe_cross_scheme.v3.SafeCrossSchemeConfig')

const REFUSED: Readonly<Record<string, Refused>> = {
  'no Location': { locations: [undefined], why: undefined },
  'an empty Location': { locations: [''], why: 'bad_location' },
  'a relative one': { locations: ['/next'], why: 'bad_location' },
  'one without a scheme': { locations: ['//b.example/next'], why: 'bad_location' },
  'another protocol': { locations: ['ftp://b.example/'], why: 'bad_location' },
  'credentials in it': { locations: ['http://me:secret@b.example/'], why: 'bad_location' },
  'a space in its path': { locations: ['http://b.example/a b'], why: 'bad_location' },
  'https, where the client came by http': { locations: ['https://b.example/'], why: 'unsafe_scheme' },
  'https, where only less is safe': {
    locations: ['https://b.example/'],
    policy: { ...SAFE, allow_cross_scheme_redirect: true },
    why: 'predicate',
  },
  'a host that nobody knows': { locations: ['http://d.example/'], why: 'no_route' },
  'one more than permitted': { locations: ['http://b.example/', 'http://c.example/'], why: 'too_many_redirects' },
  'none permitted': {
    locations: ['http://b.example/'],
    policy: { max_internal_redirects: 0 },
    why: 'too_many_redirects',
  },
  'a route that is not on the list': { locations: ['http://b.example/'], policy: ALLOWED, why: 'predicate' },
  'the same way a second time': {
    locations: ['http://b.example/', 'http://a.example/', 'http://b.example/again'],
    policy: { ...PREVIOUS, max_internal_redirects: 9 },
    why: 'predicate',
  },
}

for (const [name, { locations, policy, why }] of Object.entries(REFUSED)) {
  t.test(`${name}: the redirect is the client's, as it came`, async (t) => {
    const s = await setup(t, following(policy ?? {}, { origin: leadsTo(locations) }))
    const wire = await s.connect()
    const response = await wire.exchange(get('/'))
    t.equal(response.status, 302)
    t.equal(response.get('location'), locations.at(-1))
    t.equal(response.text(), 'moved')
    t.equal(of(s, 'failed_total'), 1)
    t.equal(of(s, 'succeeded_total'), locations.length - 1)
    if (why !== undefined) t.equal(passed(s, why), 1)
    const lines = await s.finish()
    t.equal(lines.length, locations.length)
    t.match(lines.at(-1), { status: 302, details: 'via_upstream' })
  })
}

t.test('what predicates permit is followed, across schemes too', async (t) => {
  const cases: readonly (readonly [Fields, string])[] = [
    [ALLOWED, 'http://c.example/'],
    [PREVIOUS, 'http://b.example/'],
    [{ allow_cross_scheme_redirect: true }, 'https://b.example/'],
    [{ ...SAFE, allow_cross_scheme_redirect: true }, 'http://b.example/'],
  ]
  for (const [policy, location] of cases) {
    const s = await setup(t, following(policy, { origin: leadsTo([location]) }))
    const response = await (await s.connect()).exchange(get('/'))
    t.equal(response.status, 200, location)
  }
  // Who came by https may be led anywhere.
  const trusted = { use_remote_address: false, xff_num_trusted_hops: 1 }
  const s = await setup(
    t,
    following({ ...SAFE, allow_cross_scheme_redirect: true }, { origin: leadsTo(['http://b.example/']), hcm: trusted }),
  )
  const response = await (await s.connect()).exchange(get('/', 'x-forwarded-proto: https'))
  t.equal(response.status, 200)
  t.equal(s.origin.requests[1].get('x-envoy-original-url'), 'https://a.example/')
})

t.test('what a filter has left in the filter state permits redirects', async (t) => {
  const gate: HttpFilter = {
    onRequestHeaders(stream) {
      const text = stream.request.get('x-gate')
      if (text !== undefined) stream.filterState.set('gate', text === 'yes' ? true : text)
    },
  }
  const STATE = 'filter_state.v3.FilterStateConfig'
  const followed = async (ifAbsent: boolean, ...lines: readonly string[]): Promise<boolean> => {
    const policy = predicate(STATE, { redirect_enabled_key: 'gate', redirect_if_absent: ifAbsent })
    const adjust = withFilters(gate as HttpFilter<unknown>)
    const s = await setup(t, following(policy, { origin: leadsTo(['http://b.example/']), gateway: { adjust } }))
    const response = await (await s.connect()).exchange(get('/', ...lines))
    if (response.status === 302) t.equal(passed(s, 'predicate'), 1)
    return response.status === 200
  }
  for (const ifAbsent of [false, true]) {
    t.equal(await followed(ifAbsent, 'x-gate: yes'), true)
    t.equal(await followed(ifAbsent, 'x-gate: true'), true)
    t.equal(await followed(ifAbsent, 'x-gate: false'), false)
    t.equal(await followed(ifAbsent), ifAbsent)
    t.equal(await followed(ifAbsent, 'x-gate: maybe'), ifAbsent, 'which is no flag')
  }
})

t.test('routes that a predicate permits are those of the path as it will be, not as it is written', async (t) => {
  const redirect = { ...predicate('allow_listed_routes.v3.AllowListedRoutesConfig', { allowed_route_names: ['open'] }) }
  const route = (name: string, prefix: string, more: Fields = {}): Fields => ({
    name,
    match: { prefix },
    route: { cluster: 'origin', ...more },
  })
  const routes = [
    route('open', '/open/'),
    route('start', '/start', { internal_redirect_policy: redirect }),
    route('closed', '/'),
  ]
  const routeConfig = { name: 'r', virtual_hosts: [{ name: 'a', domains: ['a.example'], routes }] }
  const hcm = { normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: 'UNESCAPE_AND_FORWARD' }
  for (const [path, leads] of [
    ['/open/here', '/open/here'],
    ['/open/./there', '/open/there'],
    ['/open/../admin', undefined],
    ['/open/%2e%2e/admin', undefined],
    ['/open/..%2fadmin', undefined],
    ['/closed/../open/', '/open/'],
    ['/../open/', undefined],
  ] as const) {
    const s = await setup(t, { routeConfig, hcm, origin: leadsTo([`http://a.example${path}`]) })
    const response = await (await s.connect()).exchange(get('/start'))
    t.equal(response.status, leads === undefined ? 302 : 200, path)
    if (leads !== undefined) t.equal(response.text(), `GET a.example${leads} `)
    else t.equal(s.origin.requests.length, 1)
  }
})

t.test('a share of the requests that a route is for is the same share when it is gone to', async (t) => {
  const random = seeded(7)
  const marked = (name: string): Fields => ({
    name,
    request_headers_to_add: [{ header: { key: 'x-route', value: name } }],
    route: { cluster: 'origin' },
  })
  const share = { default_value: { numerator: 50, denominator: 'HUNDRED' } }
  const routes = [
    { ...marked('open'), match: { prefix: '/open', runtime_fraction: share } },
    {
      name: 'start',
      match: { prefix: '/start' },
      route: {
        cluster: 'origin',
        internal_redirect_policy: predicate('allow_listed_routes.v3.AllowListedRoutesConfig', {
          allowed_route_names: ['open'],
        }),
      },
    },
    { ...marked('closed'), match: { prefix: '/' } },
  ]
  const script: OriginScript = async (request, reply) => {
    if (request.target === '/start') await reply.send({ status: 302, fields: [['location', 'http://a.example/open']] })
    else await reply.send({ body: request.get('x-route') ?? 'none' })
  }
  const s = await setup(t, {
    routeConfig: { name: 'r', virtual_hosts: [{ name: 'a', domains: ['*'], routes }] },
    origin: script,
    gateway: { random: () => random.below(1000) / 1000 },
  })
  const wire = await s.connect()
  const answers = new Set<string>()
  for (let i = 0; i < 40; i++) {
    const response = await wire.exchange(get('/start'))
    answers.add(`${response.status} ${response.text()}`)
  }
  t.strictSame([...answers].sort(), ['200 open', '302 '])
})

t.test('ports and dots that authorities are without, those of a Location are without', async (t) => {
  const s = await setup(
    t,
    following(
      {},
      {
        origin: leadsTo(['http://b.example.:10000/']),
        hcm: { strip_any_host_port: true, strip_trailing_host_dot: true },
      },
    ),
  )
  t.equal((await (await s.connect()).exchange(get('/'))).text(), 'GET b.example/ ')
})

t.test('a Location whose host could not come from a client either is not followed', async (t) => {
  for (const host of ['b.example:99999', 'b.example:x', ':80', 'a:b:c', '[b.example]', 'b%zz']) {
    const s = await setup(t, {
      ...following({}, { origin: leadsTo([`http://${host}/`]) }),
      routeConfig: {
        name: 'r',
        virtual_hosts: [
          {
            name: 'all',
            domains: ['*'],
            routes: [{ match: { prefix: '/' }, route: { cluster: 'origin', internal_redirect_policy: {} } }],
          },
        ],
      },
    })
    t.equal((await (await s.connect()).exchange(get('/'))).status, 302, host)
    t.equal(passed(s, 'bad_location'), 1)
  }
})

t.test('bytes that came are counted once, whoever has read them', async (t) => {
  const policy = { redirect_response_codes: [303, 307] }
  const total = async (body: string, status: number, location: string): Promise<number> => {
    const filter: HttpFilter = {
      onRequestHeaders(stream) {
        if (stream.head.path === '/denied') return stream.reply({ status: 403, details: 'denied' })
      },
    }
    const adjust = withFilters(filter as HttpFilter<unknown>)
    const s = await setup(t, following(policy, { origin: leadsTo([location], status), gateway: { adjust } }))
    const request = post(body)
    await (await s.connect()).exchange(request)
    await s.gateway.until(() => s.gateway.stat('http.test.downstream_rq_active') === 0, 'the end')
    return s.gateway.stat('http.test.downstream_cx_rx_bytes_total') - Buffer.byteLength(request)
  }
  t.equal(await total('b'.repeat(1000), 307, 'http://b.example/'), 0)
  t.equal(await total('b'.repeat(1000), 303, 'http://b.example/'), 0, 'a body that goes no further')
  t.equal(await total('b'.repeat(1000), 307, 'http://b.example/denied'), 0, 'a body that nobody wants any more')
})

t.test('other codes than those of the policy are left alone', async (t) => {
  const s = await setup(
    t,
    following({ redirect_response_codes: [307, 200] }, { origin: leadsTo(['http://b.example/']) }),
  )
  t.equal((await (await s.connect()).exchange(get('/'))).status, 302)
  t.equal(of(s, 'failed_total'), 0)
})

t.test("headers of the redirect take the place of the request's", async (t) => {
  const script: OriginScript = async (request: OriginRequest, reply) => {
    if (s.origin.requests.length > 1) return void (await reply.send({ body: 'done' }))
    await request.body
    await reply.send({
      status: 302,
      fields: [
        ['location', 'http://b.example/'],
        ['x-token', 'new'],
        ['x-token', 'newer'],
      ],
    })
  }
  const s = await setup(
    t,
    following({ response_headers_to_copy: ['X-Token', 'x-gone', 'x-never'] }, { origin: script }),
  )
  await (await s.connect()).exchange(get('/', 'x-token: old', 'x-gone: 1', 'x-stays: 1'))
  const [, second] = s.origin.requests
  t.strictSame(
    second.fields.filter(([name]) => name.startsWith('x-token')).map(([, value]) => value),
    ['new', 'newer'],
  )
  t.equal(second.get('x-gone'), undefined)
  t.equal(second.get('x-stays'), '1')
})

t.test('each exchange has filters, state and an end of its own, and filters may answer the second one', async (t) => {
  let ends = 0
  const seen: string[] = []
  const filter: HttpFilter<{ n: number }> = {
    createState: () => ({ n: 0 }),
    onRequestHeaders(stream, _end, state) {
      state.n++
      seen.push(`${stream.head.authority} ${state.n}`)
      if (stream.head.path === '/denied') return stream.reply({ status: 403, details: 'denied' })
    },
    onResponseHeaders(stream) {
      seen.push(`response of ${stream.head.authority}`)
    },
    onEnd: () => {
      ends++
    },
  }
  const adjust = withFilters(filter as HttpFilter<unknown>)
  const s = await setup(t, following({}, { origin: leadsTo(['http://b.example/denied']), gateway: { adjust } }))
  const response = await (await s.connect()).exchange(get('/'))
  t.equal(response.status, 403)
  t.strictSame(seen, ['a.example 1', 'b.example 1', 'response of b.example'])
  t.equal(ends, 2)
  t.equal(s.origin.requests.length, 1)
  const lines = await s.finish()
  t.match(lines, [
    { status: 302, details: 'internal_redirect' },
    { status: 403, details: 'denied' },
  ])
})

t.test('the second answer may be a failure, and may be retried; a client that leaves ends it', async (t) => {
  let calls = 0
  const script: OriginScript = async (request, reply) => {
    calls++
    if (calls === 1 || calls === 4) await reply.send({ status: 302, fields: [['location', 'http://b.example/']] })
    else if (calls === 2) await reply.send({ status: 503 })
    else if (calls === 3) await reply.send({ body: 'at last' })
    else await request.ended
  }
  const retry = { retry_policy: { retry_on: '5xx', retry_back_off: { base_interval: '0.001s' } } }
  const s = await setup(t, following({}, { origin: script }, retry))
  const wire = await s.connect()
  t.equal((await wire.exchange(get('/'))).text(), 'at last')
  await wire.write(get('/'))
  await s.origin.seen(5)
  wire.reset()
  await s.gateway.until(() => s.gateway.stat('http.test.downstream_rq_active') === 0, 'end of the exchange')
  await s.gateway.until(() => s.gateway.stat('cluster.origin.upstream_rq_active') === 0, 'end of the attempt')
  const lines = await s.finish()
  t.match(
    lines.map(({ details, flags }) => [details, flags]),
    [
      ['internal_redirect', '-'],
      ['via_upstream', '-'],
      ['internal_redirect', '-'],
      ['downstream_remote_disconnect', 'DC'],
    ],
  )
})

t.test('over HTTP/2 the stream stays the same, bodies and all', async (t) => {
  const s = await setup(t, following({ redirect_response_codes: [302, 307] }))
  const session = connectHttp2(`http://127.0.0.1:${s.gateway.port()}`)
  t.teardown(() => session.close())
  for (const [method, status, body] of [
    ['GET', 302, ''],
    ['POST', 307, 'b'.repeat(30_000)],
  ] as const) {
    s.origin.script = leadsTo(['http://b.example/n'], status)
    const stream = session.request(
      { ':method': method, ':authority': 'a.example', ':path': '/' },
      { endStream: body === '' },
    )
    if (body !== '') stream.end(body)
    const [headers] = (await once(stream, 'response')) as [Record<string, unknown>]
    let text = ''
    for await (const chunk of stream) text += String(chunk)
    t.equal(headers[':status'], 200)
    t.equal(text, `${method} b.example/n ${body}`)
  }
})

t.test('the deprecated fields of a route say the same', async (t) => {
  const spec = following({}, { origin: leadsTo(['http://b.example/', 'http://c.example/']) })
  const hosts = (spec.routeConfig as { virtual_hosts: { routes: { route: Fields }[] }[] }).virtual_hosts
  for (const { routes } of hosts) {
    routes[0].route = {
      cluster: 'origin',
      internal_redirect_action: 'HANDLE_INTERNAL_REDIRECT',
      max_internal_redirects: 2,
    }
  }
  const s = await setup(t, spec)
  t.equal((await (await s.connect()).exchange(get('/'))).text(), 'GET c.example/ ')
})

t.test('policies that cannot be are refused by name', async (t) => {
  const refused = async (policy: Fields): Promise<string> => {
    try {
      await setup(t, following(policy))
      return 'accepted'
    } catch (error) {
      return String(error)
    }
  }
  t.match(await refused({ response_headers_to_copy: [':path'] }), /response_headers_to_copy/)
  t.match(await refused({ response_headers_to_copy: ['Host'] }), /response_headers_to_copy/)
  const unknown = { name: 'p', typed_config: { '@type': 'type.googleapis.com/google.protobuf.Duration', value: '1s' } }
  t.match(await refused({ predicates: [unknown] }), /internal redirect predicate "google.protobuf.Duration"/)
})

t.test('whatever a Location says, the client gets one answer and the connection goes on', async (t) => {
  const s = await setup(t, following({ max_internal_redirects: 3, allow_cross_scheme_redirect: true }))
  const random = seeded(20_261_121)
  const pieces = [
    'http://',
    'HTTPS://',
    'b.example',
    'a.example',
    ':80',
    ':x',
    '/',
    '?',
    '#',
    '@',
    '%',
    '[::1]',
    '..',
    '\\',
    '*',
    ' ',
  ]
  const wire = await s.connect()
  for (let i = 0; i < 300; i++) {
    const count = random.below(7)
    const location = Array.from({ length: count }, () => random.pick(pieces))
      .join('')
      .trim()
    s.origin.script = leadsTo([location, location])
    const response = await wire.exchange(get('/'))
    t.ok([200, 302, 400].includes(response.status), `${location}: ${response.status}`)
    if (response.status === 302) t.equal(response.get('location'), location)
  }
})
