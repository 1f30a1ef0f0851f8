import t, { type Test } from 'tap'
import { TestClock } from '../support/clock.ts'
import { fieldValues } from '../support/http1-message.ts'
import type { Origin, OriginRequest } from '../support/origin.ts'
import type { Wire, WireResponse } from '../support/wire.ts'
import type { Fields } from './bootstrap.ts'
import { get, type SetupSpec, setup } from './setup.ts'

/** What the connection manager makes of requests and responses, as Envoy documents it. */

interface Asked {
  readonly response: WireResponse
  /** As the origin saw it; throws where it saw nothing. */
  readonly seen: OriginRequest
}

interface Manager {
  readonly origin: Origin
  readonly wire: Wire
  /** Sends one GET and answers both ends of it. */
  ask(target?: string, ...lines: readonly string[]): Promise<Asked>
  /** Sends one GET that must not get through. */
  refused(target?: string, ...lines: readonly string[]): Promise<WireResponse>
}

async function manager(t: Test, hcm: Fields, spec: SetupSpec & { from?: string } = {}): Promise<Manager> {
  const { origin, connect } = await setup(t, { ...spec, hcm })
  const localAddress = spec.from ?? '127.0.0.1'
  let wire = await connect({ localAddress })
  const exchange = async (target: string, lines: readonly string[]): Promise<WireResponse> => {
    if (wire.stream.ending !== 'open') wire = await connect({ localAddress })
    const response = await wire.exchange(get(target, ...lines))
    if (response.get('connection') === 'close') await wire.expectEnd()
    return response
  }
  return {
    origin,
    wire,
    async ask(target = '/', ...lines) {
      const before = origin.requests.length
      const response = await exchange(target, lines)
      if (origin.requests.length !== before + 1) throw new Error(`${response.status}: the origin saw nothing`)
      return { response, seen: origin.requests[before] }
    },
    async refused(target = '/', ...lines) {
      const before = origin.requests.length
      const response = await exchange(target, lines)
      if (origin.requests.length !== before) throw new Error('the origin has seen it')
      return response
    },
  }
}

const INTERNAL = {
  cidr_ranges: [
    { address_prefix: '127.0.0.1', prefix_len: 32 },
    { address_prefix: '10.0.0.0', prefix_len: 8 },
  ],
}
const XFF = 'x-forwarded-for'
const EXTERNAL_ADDRESS = 'x-envoy-external-address'
const DETECTION = 'type.googleapis.com/envoy.extensions.http.original_ip_detection'
const LOG_ADDRESS = { headers: ['x-client: %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%'] }

/** A route that tells the origin whom we take the client for. */
const tellClient = [
  {
    match: { prefix: '/' },
    route: { cluster: 'origin' },
    request_headers_to_add: [{ header: { key: 'x-client', value: LOG_ADDRESS.headers[0].slice('x-client: '.length) } }],
  },
]

t.test(
  'x-forwarded-for: left alone by default, appended to with use_remote_address, kept by skip_xff_append',
  async (t) => {
    const plain = await manager(t, {}, { routes: tellClient })
    t.equal((await plain.ask()).seen.get(XFF), undefined)
    const untouched = (await plain.ask('/', 'X-Forwarded-For: 1.1.1.1, 2.2.2.2')).seen
    t.equal(untouched.get(XFF), '1.1.1.1, 2.2.2.2')
    t.equal(untouched.get('x-client'), '2.2.2.2')
    t.equal((await plain.ask('/', 'X-Forwarded-For: nonsense')).seen.get('x-client'), '127.0.0.1')
    const edge = await manager(t, { use_remote_address: true }, { routes: tellClient })
    t.equal((await edge.ask()).seen.get(XFF), '127.0.0.1')
    const appended = (await edge.ask('/', 'X-Forwarded-For: 1.1.1.1', 'X-Forwarded-For: 2.2.2.2')).seen
    t.same(fieldValues(appended.fields, XFF), ['1.1.1.1,2.2.2.2,127.0.0.1'])
    t.equal(appended.get('x-client'), '127.0.0.1', 'whatever a stranger claims')
    t.equal(appended.get(EXTERNAL_ADDRESS), '127.0.0.1')
    const skip = await manager(t, { use_remote_address: true, skip_xff_append: true })
    t.equal((await skip.ask()).seen.get(XFF), undefined)
    t.equal((await skip.ask('/', 'X-Forwarded-For: 1.1.1.1')).seen.get(XFF), '1.1.1.1')
  },
)

t.test('trusted hops: the client is counted from the right, the peer where the list is too short', async (t) => {
  const edge = await manager(t, { use_remote_address: true, xff_num_trusted_hops: 2 }, { routes: tellClient })
  t.equal((await edge.ask('/', 'X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3')).seen.get('x-client'), '2.2.2.2')
  t.equal((await edge.ask('/', 'X-Forwarded-For: 3.3.3.3')).seen.get('x-client'), '127.0.0.1')
  t.equal((await edge.ask('/', 'X-Forwarded-For: 1.1.1.1, x, 3.3.3.3')).seen.get('x-client'), '127.0.0.1')
  const behind = await manager(t, { xff_num_trusted_hops: 1 }, { routes: tellClient })
  t.equal((await behind.ask('/', 'X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3')).seen.get('x-client'), '2.2.2.2')
  t.equal((await behind.ask('/', 'X-Forwarded-For: ::ffff:9.9.9.9, 3.3.3.3')).seen.get('x-client'), '9.9.9.9')
  t.equal((await behind.ask('/', 'X-Forwarded-For: 3.3.3.3')).seen.get('x-client'), '127.0.0.1')
})

const STOLEN = [
  'X-Envoy-Internal: true',
  'X-Envoy-External-Address: 6.6.6.6',
  'X-Envoy-Retry-On: 5xx',
  'X-Envoy-Max-Retries: 9',
  'X-Envoy-Decorator-Operation: x',
  'X-Envoy-Downstream-Service-Cluster: x',
  'X-Envoy-Original-Path: /x',
  'X-Envoy-Upstream-Alt-Stat-Name: x',
  'X-Envoy-Force-Trace: 1',
  'X-Secret-Inside: 1',
]

t.test('external callers lose the headers that only internal ones may send', async (t) => {
  const spec = {
    routeConfig: {
      internal_only_headers: ['X-Secret-Inside'],
      virtual_hosts: [
        { name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: 'origin' } }] },
      ],
    },
  }
  const hcm = { use_remote_address: true, internal_address_config: INTERNAL }
  const external = (await (await manager(t, hcm, { ...spec, from: '127.0.0.3' })).ask('/', ...STOLEN)).seen
  for (const line of STOLEN) {
    const name = line.slice(0, line.indexOf(':')).toLowerCase()
    if (name === EXTERNAL_ADDRESS) t.equal(external.get(name), '127.0.0.3')
    else t.equal(external.get(name), undefined, name)
  }
  const internal = (await (await manager(t, hcm, spec)).ask('/', ...STOLEN)).seen
  t.equal(internal.get('x-envoy-internal'), 'true')
  t.equal(internal.get('x-envoy-downstream-service-cluster'), 'x')
  t.equal(internal.get('x-secret-inside'), '1')
  t.equal(internal.get('x-envoy-original-path'), '/x')
  const forged = (await (await manager(t, hcm, spec)).ask('/', 'X-Forwarded-For: 10.0.0.1', ...STOLEN)).seen
  t.equal(forged.get('x-envoy-internal'), undefined, 'behind a proxy nobody is internal at the edge')
  t.equal(forged.get('x-envoy-retry-on'), undefined)
})

t.test('without use_remote_address only a single internal address in x-forwarded-for is internal', async (t) => {
  const m = await manager(t, { internal_address_config: INTERNAL })
  t.equal((await m.ask('/', 'X-Forwarded-For: 10.1.2.3')).seen.get('x-envoy-internal'), 'true')
  t.equal((await m.ask('/', 'X-Forwarded-For: 1.1.1.1, 10.1.2.3')).seen.get('x-envoy-internal'), undefined)
  t.equal(
    (await m.ask('/', 'X-Forwarded-For: 11.1.2.3', 'X-Envoy-Internal: true')).seen.get('x-envoy-internal'),
    undefined,
  )
  t.equal((await m.ask()).seen.get('x-envoy-internal'), undefined, 'the peer itself says nothing')
  t.equal((await m.ask('/', 'X-Forwarded-For: 10.1.2.3')).seen.get(EXTERNAL_ADDRESS), undefined)
})

t.test('original IP detection by x-forwarded-for: hops, or every address that is not trusted', async (t) => {
  const xff = (config: Fields): Fields => ({
    original_ip_detection_extensions: [
      { name: 'xff', typed_config: { '@type': `${DETECTION}.xff.v3.XffConfig`, ...config } },
    ],
  })
  const hops = await manager(t, xff({ xff_num_trusted_hops: 1 }), { routes: tellClient })
  const first = (await hops.ask('/', 'X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3')).seen
  t.equal(first.get('x-client'), '2.2.2.2')
  t.equal(first.get(XFF), '1.1.1.1, 2.2.2.2, 3.3.3.3', 'not appended to unless asked')
  const trusted = await manager(
    t,
    xff({
      skip_xff_append: false,
      xff_trusted_cidrs: {
        cidrs: [
          { address_prefix: '127.0.0.0', prefix_len: 8 },
          { address_prefix: '10.0.0.0', prefix_len: 8 },
        ],
      },
    }),
    { routes: tellClient },
  )
  const second = (await trusted.ask('/', 'X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.0.0.1')).seen
  t.equal(second.get('x-client'), '1.1.1.1')
  t.equal(second.get(XFF), '6.6.6.6, 1.1.1.1, 10.0.0.1,127.0.0.1')
})

t.test('original IP detection by a header of its own, with and without a refusal', async (t) => {
  const custom = (config: Fields): Fields => ({
    original_ip_detection_extensions: [
      { name: 'custom', typed_config: { '@type': `${DETECTION}.custom_header.v3.CustomHeaderConfig`, ...config } },
    ],
    internal_address_config: INTERNAL,
  })
  const lax = await manager(t, custom({ header_name: 'X-Real-Ip' }), { routes: tellClient })
  t.equal((await lax.ask('/', 'X-Real-Ip: 10.5.5.5')).seen.get('x-client'), '10.5.5.5')
  t.equal((await lax.ask('/', 'X-Real-Ip: 10.5.5.5')).seen.get('x-envoy-internal'), undefined)
  t.equal((await lax.ask('/', 'X-Real-Ip: nonsense')).seen.get('x-client'), '127.0.0.1')
  const trusting = await manager(
    t,
    custom({ header_name: 'X-Real-Ip', allow_extension_to_set_address_as_trusted: true }),
  )
  t.equal((await trusting.ask('/', 'X-Real-Ip: 10.5.5.5')).seen.get('x-envoy-internal'), 'true')
  const strict = await manager(t, custom({ header_name: 'X-Real-Ip', reject_with_status: { code: 'Unauthorized' } }))
  t.equal((await strict.refused()).status, 401)
  t.equal((await strict.refused('/', 'X-Real-Ip: nonsense')).status, 401)
  t.equal((await strict.ask('/', 'X-Real-Ip: 1.2.3.4')).response.status, 200)
})

t.test(
  'request ids: made for strangers, kept for internal callers or where asked to, returned where asked to',
  async (t) => {
    const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
    const standard = await manager(t, {})
    const one = await standard.ask()
    t.match(one.seen.get('x-request-id'), UUID)
    t.equal(one.response.get('x-request-id'), undefined)
    t.equal((await standard.ask('/', 'X-Request-Id: mine')).seen.get('x-request-id'), 'mine', 'behind the edge')
    const edge = await manager(t, { use_remote_address: true })
    const two = await edge.ask('/', 'X-Request-Id: mine')
    t.match(two.seen.get('x-request-id'), UUID, 'at the edge a stranger does not choose')
    t.not(two.seen.get('x-request-id'), one.seen.get('x-request-id'))
    const kept = await manager(t, {
      use_remote_address: true,
      preserve_external_request_id: true,
      always_set_request_id_in_response: true,
    })
    const mine = await kept.ask('/', 'X-Request-Id: mine')
    t.equal(mine.seen.get('x-request-id'), 'mine')
    t.equal(mine.response.get('x-request-id'), 'mine')
    const internal = await manager(t, { use_remote_address: true, internal_address_config: INTERNAL })
    t.equal((await internal.ask('/', 'X-Request-Id: mine')).seen.get('x-request-id'), 'mine')
    const off = await manager(t, { generate_request_id: false })
    t.equal((await off.ask()).seen.get('x-request-id'), undefined)
  },
)

t.test('server, via and date', async (t) => {
  const origin =
    (server: boolean): SetupSpec['origin'] =>
    async (_, reply) => {
      await reply.send({
        fields: server
          ? [
              ['server', 'origin'],
              ['date', 'then'],
            ]
          : [],
      })
    }
  const header = async (hcm: Fields, server: boolean): Promise<string | undefined> =>
    (await (await manager(t, hcm, { origin: origin(server) })).ask()).response.get('server')
  t.equal(await header({}, true), 'envoy')
  t.equal(await header({ server_name: 'gate' }, true), 'gate')
  t.equal(await header({ server_header_transformation: 'APPEND_IF_ABSENT' }, true), 'origin')
  t.equal(await header({ server_header_transformation: 'APPEND_IF_ABSENT' }, false), 'envoy')
  t.equal(await header({ server_header_transformation: 'PASS_THROUGH' }, true), 'origin')
  t.equal(await header({ server_header_transformation: 'PASS_THROUGH' }, false), undefined)
  const via = await manager(t, { via: '1.1 gate' })
  const { seen, response } = await via.ask('/', 'Via: 1.0 before')
  t.same(fieldValues(seen.fields, 'via'), ['1.0 before, 1.1 gate'])
  t.equal(response.get('via'), '1.1 gate')
  const clock = new TestClock()
  const dated = await manager(t, {}, { gateway: { clock }, origin: origin(false) })
  t.equal((await dated.ask()).response.get('date'), 'Mon, 01 Jan 2024 00:00:00 GMT')
  clock.advance(61_000)
  t.equal((await dated.ask()).response.get('date'), 'Mon, 01 Jan 2024 00:01:01 GMT')
  const passed = await manager(t, {}, { origin: origin(true) })
  t.equal((await passed.ask()).response.get('date'), 'then', 'the origin knows better')
})

t.test('x-forwarded-proto and port: our word at the edge, the word of trusted hops behind', async (t) => {
  const FORGED = ['X-Forwarded-Proto: https', 'X-Forwarded-Port: 1']
  const edge = await manager(t, { use_remote_address: true })
  t.equal((await edge.ask('/', ...FORGED)).seen.get('x-forwarded-proto'), 'http')
  const hops = await manager(t, { use_remote_address: true, xff_num_trusted_hops: 1 })
  t.equal((await hops.ask('/', ...FORGED)).seen.get('x-forwarded-proto'), 'https')
  const mesh = await manager(t, {})
  t.equal((await mesh.ask('/', ...FORGED)).seen.get('x-forwarded-proto'), 'https')
  t.equal((await mesh.ask()).seen.get('x-forwarded-proto'), 'http')
  const { gateway, connect, origin } = await setup(t, {
    hcm: { use_remote_address: true, append_x_forwarded_port: true },
  })
  await (await connect()).exchange(get())
  t.equal(origin.requests[0].get('x-forwarded-port'), String(gateway.port()))
})

t.test('paths are normalised before they are matched, and forwarded as they were matched', async (t) => {
  const routes = [
    { match: { prefix: '/secret' }, direct_response: { status: 403 } },
    { match: { prefix: '/' }, route: { cluster: 'origin' } },
  ]
  const off = await manager(t, {}, { routes })
  t.equal((await off.ask('/a/../b//c')).seen.target, '/a/../b//c')
  const on = await manager(t, { normalize_path: true }, { routes })
  for (const [from, to] of [
    ['/a/../b', '/b'],
    ['/a/./b/', '/a/b/'],
    ['/a/b/..', '/a/'],
    ['/%61%2d%7E', '/a-~'],
    ['/a%2fb', '/a%2fb'],
    ['/a\\b', '/a/b'],
    ['/a//b', '/a//b'],
    ['/a?x=/../%61', '/a?x=/../%61'],
    ['/.hidden', '/.hidden'],
    ['/..a', '/..a'],
  ]) {
    t.equal((await on.ask(from)).seen.target, to, from)
  }
  for (const target of ['/secret', '/x/../secret', '/%73ecret', '/./secret', '/x/%2e%2e/secret', '/x\\..\\secret']) {
    t.equal((await on.refused(target)).status, 403, target)
  }
  for (const target of ['/..', '/a/../../b', '/%', '/%zz', '/%4', '/%00']) {
    const response = await on.refused(target)
    t.equal(response.status, 400, target)
  }
  const merged = await manager(t, { normalize_path: true, merge_slashes: true }, { routes })
  t.equal((await merged.ask('//a///b?x=//')).seen.target, '/a/b?x=//')
  t.equal((await merged.refused('//secret')).status, 403)
  t.equal((await merged.ask('/x//..//secret')).seen.target, '/x/secret', 'dot segments first, then slashes, as Envoy')
})

t.test('escaped slashes: kept, refused, redirected or unescaped', async (t) => {
  const action = (name: string): Fields => ({ path_with_escaped_slashes_action: name, normalize_path: true })
  t.equal((await (await manager(t, action('KEEP_UNCHANGED'))).ask('/a%2Fb')).seen.target, '/a%2Fb')
  const reject = await manager(t, action('REJECT_REQUEST'))
  t.equal((await reject.refused('/a%2fb')).status, 400)
  t.equal((await reject.refused('/a%5cb')).status, 400)
  t.equal((await reject.ask('/a%20b?x=%2f')).seen.target, '/a%20b?x=%2f')
  const forward = await manager(t, action('UNESCAPE_AND_FORWARD'))
  t.equal((await forward.ask('/a%2F..%2fb')).seen.target, '/b')
  t.equal((await forward.ask('/a%5Cb')).seen.target, '/a/b')
  const redirect = await manager(t, action('UNESCAPE_AND_REDIRECT'))
  const moved = await redirect.refused('/a%2Fb?x=1')
  t.equal(moved.status, 307)
  t.equal(moved.get('location'), '/a/b?x=1')
  t.equal((await redirect.ask('/a/b?x=1')).seen.target, '/a/b?x=1', 'the connection goes on')
})

t.test('ports and the trailing dot of hosts', async (t) => {
  const { origin, connect, gateway } = await setup(t, { hcm: { strip_matching_host_port: true } })
  const wire = await connect()
  const hostOf = async (w: Wire, o: Origin, host: string): Promise<string | undefined> => {
    await w.exchange(`GET / HTTP/1.1\r\nhost: ${host}\r\n\r\n`)
    return o.requests.at(-1)?.get('host')
  }
  t.equal(await hostOf(wire, origin, `a.example:${gateway.port()}`), 'a.example')
  t.equal(await hostOf(wire, origin, 'a.example:1'), 'a.example:1')
  const any = await setup(t, { hcm: { strip_any_host_port: true, strip_trailing_host_dot: true } })
  const other = await any.connect()
  t.equal(await hostOf(other, any.origin, 'a.example:1'), 'a.example')
  t.equal(await hostOf(other, any.origin, 'a.example.:80'), 'a.example')
  t.equal(await hostOf(other, any.origin, '[::1]:80'), '[::1]')
  t.equal(await hostOf(other, any.origin, '[::1]'), '[::1]')
  const dot = await setup(t, { hcm: { strip_trailing_host_dot: true } })
  t.equal(await hostOf(await dot.connect(), dot.origin, 'a.example.:80'), 'a.example:80')
})

t.test('underscores in names: let through, refused and counted, or dropped', async (t) => {
  const action = (name: string): Fields => ({ common_http_protocol_options: { headers_with_underscores_action: name } })
  t.equal((await (await manager(t, {})).ask('/', 'X_A: b')).seen.get('x_a'), 'b')
  const { connect, gateway, origin } = await setup(t, { hcm: action('REJECT_REQUEST') })
  const wire = await connect()
  t.equal((await wire.exchange(get('/', 'X_A: b'))).status, 400)
  t.equal(origin.requests.length, 0)
  t.equal(gateway.stat('http.test.downstream_rq_rejected_underscore_headers'), 1)
  const dropped = (await (await manager(t, action('DROP_HEADER'))).ask('/', 'X_A: b', 'X-B: c')).seen
  t.equal(dropped.get('x_a'), undefined)
  t.equal(dropped.get('x-b'), 'c')
})

t.test('early header mutations act before routes are matched', async (t) => {
  const m = await manager(
    t,
    {
      early_header_mutation_extensions: [
        {
          name: 'early',
          typed_config: {
            '@type':
              'type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation',
            mutations: [
              { remove: 'x-remove' },
              { append: { header: { key: 'x-route', value: 'here' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' } },
            ],
          },
        },
      ],
    },
    {
      routes: [
        {
          match: { prefix: '/', headers: [{ name: 'x-route', string_match: { exact: 'here' } }] },
          route: { cluster: 'origin' },
        },
      ],
    },
  )
  const { seen } = await m.ask('/', 'X-Remove: 1', 'X-Route: there')
  t.equal(seen.get('x-remove'), undefined)
  t.same(fieldValues(seen.fields, 'x-route'), ['here'])
})

const localReply = (config: Fields): Fields => ({ local_reply_config: config })
const statusIs = (value: number): Fields => ({
  filter: { status_code_filter: { comparison: { op: 'EQ', value: { default_value: value, runtime_key: 'none' } } } },
})

t.test(
  'local replies: mappers change status, body, format and headers; responses of the origin are left alone',
  async (t) => {
    const m = await manager(
      t,
      localReply({
        mappers: [
          {
            ...statusIs(404),
            status_code: 410,
            body: { inline_string: 'gone for good' },
            headers_to_add: [{ header: { key: 'x-mapped', value: '%RESPONSE_CODE%' } }],
          },
          {
            ...statusIs(403),
            body_format_override: { text_format: 'no: %LOCAL_REPLY_BODY%', content_type: 'text/html' },
          },
        ],
        body_format: { json_format: { status: '%RESPONSE_CODE%', body: '%LOCAL_REPLY_BODY%', path: '%REQ(:PATH)%' } },
      }),
      {
        routes: [
          { match: { path: '/403' }, direct_response: { status: 403, body: { inline_string: 'why' } } },
          { match: { path: '/500' }, direct_response: { status: 500, body: { inline_string: 'oops "x"' } } },
          { match: { prefix: '/origin' }, route: { cluster: 'origin' } },
        ],
        origin: async (_, reply) => void (await reply.send({ status: 404, body: 'mine' })),
      },
    )
    const gone = await m.refused('/nowhere')
    t.equal(gone.status, 410)
    t.equal(gone.get('x-mapped'), '410')
    t.equal(gone.get('content-type'), 'application/json')
    t.same(JSON.parse(gone.text()), { status: 410, body: 'gone for good', path: '/nowhere' })
    const no = await m.refused('/403')
    t.equal(no.status, 403)
    t.equal(no.text(), 'no: why')
    t.equal(no.get('content-type'), 'text/html')
    t.equal(no.get('content-length'), '7')
    t.same(JSON.parse((await m.refused('/500')).text()), { status: 500, body: 'oops "x"', path: '/500' })
    const { response } = await m.ask('/origin')
    t.equal(response.status, 404)
    t.equal(response.text(), 'mine')
  },
)

t.test('a mapper without a format: the new body as it is', async (t) => {
  const m = await manager(
    t,
    localReply({ mappers: [{ ...statusIs(404), status_code: 418, body: { inline_string: 'tea' } }] }),
    { routes: [] },
  )
  const response = await m.refused('/x')
  t.equal(response.status, 418)
  t.equal(response.text(), 'tea')
  t.equal(response.get('content-length'), '3')
  t.equal(response.get('content-type'), 'text/plain')
})

t.test('what is no request gets its local reply mapped too', async (t) => {
  const { connect } = await setup(t, {
    hcm: localReply({ mappers: [{ ...statusIs(400), body: { inline_string: 'bad' } }] }),
  })
  const response = await (await connect()).exchange('GARBAGE\r\n\r\n')
  t.equal(response.status, 400)
  t.equal(response.text(), 'bad')
})

t.test('gRPC callers get local replies as trailers-only responses', async (t) => {
  const m = await manager(
    t,
    {},
    { routes: [{ match: { path: '/403' }, direct_response: { status: 403, body: { inline_string: 'no äöü' } } }] },
  )
  const notFound = await m.refused('/x', 'Content-Type: application/grpc')
  t.equal(notFound.status, 200)
  t.equal(notFound.get('content-type'), 'application/grpc')
  t.equal(notFound.get('grpc-status'), '12')
  t.equal(notFound.text(), '')
  const forbidden = await m.refused('/403', 'Content-Type: application/grpc+proto')
  t.equal(forbidden.get('grpc-status'), '7')
  t.equal(forbidden.get('grpc-message'), 'no %C3%A4%C3%B6%C3%BC')
  t.equal((await m.refused('/403', 'Content-Type: application/grpc-web')).status, 403, 'that is another protocol')
})

t.test('user-agent is added where asked, the scheme overwritten where asked', async (t) => {
  const m = await manager(t, { add_user_agent: true, server_name: 'gate' })
  const { seen } = await m.ask()
  t.equal(seen.get('user-agent'), 'edge', "the node's cluster")
  t.equal(seen.get('x-envoy-downstream-service-cluster'), 'edge')
  t.equal(seen.get('x-envoy-downstream-service-node'), 'gate-1')
  t.equal((await m.ask('/', 'User-Agent: me')).seen.get('user-agent'), 'me')
  const scheme = await manager(
    t,
    { scheme_header_transformation: { scheme_to_overwrite: 'https' } },
    { routes: [{ match: { prefix: '/' }, redirect: { path_redirect: '/x' } }] },
  )
  t.equal((await scheme.refused()).get('location'), 'https://a.example/x')
})

t.test('counters of the connection manager tell responses by class, requests and bytes', async (t) => {
  const { connect, gateway } = await setup(t, {
    routes: [
      { match: { path: '/direct' }, direct_response: { status: 302 } },
      { match: { path: '/origin' }, route: { cluster: 'origin' } },
    ],
  })
  const wire = await connect()
  await wire.exchange(get('/direct'))
  await wire.exchange(get('/origin'))
  await wire.exchange(get('/nowhere'))
  await wire.exchange('BAD\r\n\r\n')
  const stat = (name: string): number => gateway.stat(`http.test.${name}`)
  t.equal(stat('downstream_rq_total'), 4)
  t.equal(stat('downstream_rq_completed'), 4)
  t.equal(stat('downstream_rq_2xx'), 1)
  t.equal(stat('downstream_rq_3xx'), 1)
  t.equal(stat('downstream_rq_4xx'), 2)
  t.equal(stat('downstream_rq_5xx'), 0)
  t.equal(stat('downstream_rq_active'), 0)
  t.equal(stat('no_route'), 1)
  t.equal(stat('rq_direct_response'), 1)
  t.equal(stat('downstream_cx_protocol_error'), 1)
  t.ok(stat('downstream_cx_rx_bytes_total') > 100)
  t.ok(stat('downstream_cx_tx_bytes_total') > 300)
  t.equal(gateway.stat('listener.127.0.0.1_0.downstream_cx_total'), 1)
})

t.test('answers are counted by where their requests came from, and by the listener', async (t) => {
  const { gateway, connect } = await setup(t, {
    hcm: { internal_address_config: INTERNAL },
    routes: [
      { match: { prefix: '/none' }, direct_response: { status: 404 } },
      { match: { prefix: '/' }, route: { cluster: 'origin' } },
    ],
  })
  const counted = (): object => {
    const { counters } = gateway.engine.metrics()
    const found = counters.filter(([name, value]) => /external|internal|^listener.*\.http\./.test(name) && value > 0)
    return Object.fromEntries(
      found.map(([name, value]) => [name.replace(/^listener\..*(?=\.http)/, 'listener'), value]),
    )
  }
  const wire = await connect()
  t.same(counted(), {})
  await wire.exchange(get('/'))
  for (const round of ['1', '2']) await wire.exchange(get(`/${round}`, `${XFF}: 10.1.2.3`))
  await wire.exchange(get('/none'))
  t.same(counted(), {
    'cluster.origin.external.upstream_rq_200': 1,
    'cluster.origin.external.upstream_rq_2xx': 1,
    'cluster.origin.external.upstream_rq_completed': 1,
    'cluster.origin.internal.upstream_rq_200': 2,
    'cluster.origin.internal.upstream_rq_2xx': 2,
    'cluster.origin.internal.upstream_rq_completed': 2,
    'listener.http.test.downstream_rq_2xx': 3,
    'listener.http.test.downstream_rq_4xx': 1,
    'listener.http.test.downstream_rq_completed': 4,
  })
  const { histograms } = gateway.engine.metrics()
  t.equal(histograms.find(({ name }) => name === 'cluster.origin.internal.upstream_rq_time')?.count, 2)
})
