import t from 'tap'
import { cors } from '../../filters/cors/index.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { build, type Driven, drive, lines, parseJson, testScope } from '../support/chain-driver.ts'

const POLICY: JsonObject = {
  allow_origin_string_match: [{ exact: 'https://a.test' }, { safe_regex: { regex: 'https://.*\\.b\\.test' } }],
  allow_methods: 'GET, PUT',
  allow_headers: 'x-one',
  expose_headers: 'x-seen',
  max_age: '600',
  allow_credentials: true,
}

const PREFLIGHT = ['origin', 'https://a.test', 'access-control-request-method', 'PUT']

function through(
  levels: readonly JsonObject[],
  more: Partial<Parameters<typeof drive>[0]> = {},
  scope = testScope(),
): Driven {
  return drive({ filters: [build(cors, {}, { levels, scope })], ...more })
}

function preflight(levels: readonly JsonObject[], request: readonly string[] = PREFLIGHT): Driven {
  return through(levels, { head: { method: 'OPTIONS' }, request })
}

t.test('a preflight of an allowed origin is answered with what the policy allows', async (t) => {
  const driven = preflight([POLICY])
  t.equal(driven.upstream.begun, 0)
  t.equal(driven.downstream.status, 200)
  t.ok(driven.downstream.ended)
  t.same(lines(driven.downstream.headers), [
    'access-control-allow-origin: https://a.test',
    'access-control-allow-credentials: true',
    'access-control-allow-methods: GET, PUT',
    'access-control-allow-headers: x-one',
    'access-control-max-age: 600',
    'content-length: 0',
    'access-control-expose-headers: x-seen',
  ])
  t.equal(driven.exchange.info.details, 'cors_response')
  t.equal(driven.ends(), 1)
})

t.test('wildcards of methods and headers are answered with what was asked for', async (t) => {
  const levels = [{ allow_origin_string_match: [{ exact: '*' }], allow_methods: '*', allow_headers: '*' }]
  const request = [...PREFLIGHT, 'access-control-request-headers', 'x-a', 'access-control-request-headers', 'x-b']
  t.same(lines(preflight(levels, request).downstream.headers), [
    'access-control-allow-origin: https://a.test',
    'access-control-allow-methods: PUT',
    'access-control-allow-headers: x-a,x-b',
    'content-length: 0',
  ])
  t.notOk(preflight(levels).downstream.headers.has('access-control-allow-headers'), 'nothing was asked for')
})

t.test('private network access is granted only to those who ask and where it is allowed', async (t) => {
  const asks = [...PREFLIGHT, 'access-control-request-private-network', 'true']
  const granted = 'access-control-allow-private-network'
  const allowing = { ...POLICY, allow_private_network_access: true }
  t.equal(preflight([allowing], asks).downstream.headers.get(granted), 'true')
  t.notOk(preflight([allowing]).downstream.headers.has(granted))
  t.notOk(preflight([POLICY], asks).downstream.headers.has(granted))
})

t.test('a preflight of another origin goes to the upstream unless the policy keeps it', async (t) => {
  const request = ['origin', 'https://evil.test', 'access-control-request-method', 'PUT']
  const forwarded = preflight([POLICY], request)
  forwarded.upstream.respond(204, ['access-control-allow-origin', '*'])
  t.equal(forwarded.downstream.status, 204)
  t.same(lines(forwarded.downstream.headers), ['access-control-allow-origin: *'], 'the upstream decides')

  const kept = preflight([{ ...POLICY, forward_not_matching_preflights: false }], request)
  t.equal(kept.upstream.begun, 0)
  t.equal(kept.downstream.status, 200)
  t.notOk(kept.downstream.headers.has('access-control-allow-origin'))
})

t.test('what is no preflight is forwarded, and its response says who may read it', async (t) => {
  for (const [method, request] of [
    ['GET', ['origin', 'https://x.b.test']],
    ['OPTIONS', ['origin', 'https://x.b.test']],
    ['OPTIONS', ['origin', 'https://x.b.test', 'access-control-request-method', '']],
  ] as const) {
    const driven = through([POLICY], { head: { method }, request })
    driven.upstream.respond(200, ['access-control-allow-origin', '*', 'access-control-expose-headers', 'all', 'x', '1'])
    t.same(lines(driven.downstream.headers), [
      'access-control-allow-origin: https://x.b.test',
      'access-control-expose-headers: x-seen',
      'x: 1',
      'access-control-allow-credentials: true',
    ])
  }
})

t.test('a response to another origin, or to none, is left as it is', async (t) => {
  for (const request of [['origin', 'https://evil.test'], ['origin', ''], [], ['origin', 'null']]) {
    const driven = through([POLICY], { request })
    driven.upstream.respond(200, ['x', '1'])
    t.same(lines(driven.downstream.headers), ['x: 1'])
  }
  const twice = through([POLICY], { request: ['origin', 'https://a.test', 'origin', 'https://evil.test'] })
  twice.upstream.respond(200)
  t.same(lines(twice.downstream.headers), [], 'two origins are not one that is allowed')
})

t.test('the origin that was judged is the one that is echoed, whatever later filters do to the request', async (t) => {
  const filter = build(cors, {}, { levels: [POLICY] })
  const later = {
    onRequestHeaders: (stream: { request: { set(n: string, v: string): void } }) => stream.request.set('origin', 'x'),
  }
  const driven = drive({ filters: [filter, later], request: ['origin', 'https://a.test'] })
  driven.upstream.respond(200)
  t.equal(driven.downstream.headers.get('access-control-allow-origin'), 'https://a.test')
})

t.test('local replies of other filters carry the headers too', async (t) => {
  const denies = { onRequestHeaders: (stream: Driven['exchange']) => stream.reply({ status: 401, details: 'denied' }) }
  const driven = drive({
    filters: [build(cors, {}, { levels: [POLICY] }), denies],
    request: ['origin', 'https://a.test'],
  })
  t.equal(driven.downstream.status, 401)
  t.equal(driven.downstream.headers.get('access-control-allow-origin'), 'https://a.test')
})

t.test('routes that do not forward are left alone', async (t) => {
  for (const route of [undefined, { name: 'd', virtualHost: 'v', cluster: '', metadata: undefined }]) {
    const driven = through([POLICY], { head: { method: 'OPTIONS' }, request: PREFLIGHT, route })
    t.equal(driven.upstream.begun, 1)
    driven.upstream.respond(301)
    t.same(lines(driven.downstream.headers), [])
  }
})

t.test('origins are counted, and a shadow policy only counts', async (t) => {
  const scope = testScope()
  const counts = (): unknown[] =>
    ['valid', 'invalid'].map((k) => scope.counters.get(`http.ingress.cors.origin_${k}`)?.v)
  through([POLICY], { request: PREFLIGHT }, scope)
  through([POLICY], { request: ['origin', 'https://evil.test'] }, scope)
  through([POLICY], {}, scope)
  t.same(counts(), [1, 1])

  const none = { default_value: { numerator: 0 } }
  const all = { default_value: { numerator: 100, denominator: 'HUNDRED' } }
  const shadow = through([{ ...POLICY, filter_enabled: none, shadow_enabled: all }], { request: PREFLIGHT }, scope)
  shadow.upstream.respond(200)
  t.same(counts(), [2, 1])
  t.same(lines(shadow.downstream.headers), [])

  through([{ ...POLICY, filter_enabled: none }], { request: PREFLIGHT }, scope)
  t.same(counts(), [2, 1], 'off and not shadowed: not even counted')
})

t.test('shares of requests follow the draw, and the runtime overrides them', async (t) => {
  const half = { ...POLICY, filter_enabled: { default_value: { numerator: 50 }, runtime_key: 'cors.on' } }
  const answered = (random: number, runtime: JsonObject): boolean => {
    const scope = testScope({ runtime })
    const filters = [build(cors, {}, { levels: [half], scope })]
    return drive({ filters, head: { method: 'OPTIONS' }, request: PREFLIGHT, random }).upstream.begun === 0
  }
  t.same([answered(0.49, {}), answered(0.5, {})], [true, false])
  t.same([answered(0.49, { 'cors.on': 0 }), answered(0.99, { 'cors.on': 100 })], [false, true])
})

t.test('levels fill in what more specific ones leave open; the switch is the most specific one alone', async (t) => {
  const off = { default_value: { numerator: 0 } }
  const general = { ...POLICY, max_age: '1', filter_enabled: off }
  const specific = { allow_methods: 'DELETE', allow_credentials: false }
  t.same(lines(preflight([general, specific]).downstream.headers), [
    'access-control-allow-origin: https://a.test',
    'access-control-allow-methods: DELETE',
    'access-control-allow-headers: x-one',
    'access-control-max-age: 1',
    'content-length: 0',
    'access-control-expose-headers: x-seen',
  ])
  t.equal(preflight([POLICY, { filter_enabled: off }]).upstream.begun, 1)
  t.equal(build(cors, {}), undefined, 'without a policy the filter is off')
})

t.test('a policy with mistakes is refused with all of them', async (t) => {
  const { errors } = parseJson(
    {
      allow_origin_string_match: [{ safe_regex: { regex: '(?<=a)b' } }, {}, { prefix: '' }, { custom: {} }],
      allow_methods: 'GET\r\nx: y',
      allow_credentials: 'perhaps',
      filter_enabled: { default_value: { numerator: -1, denominator: 'DOZEN' } },
      allow_origin: ['*'],
    },
    (fields) => cors.parseRoute?.(fields),
  )
  const paths = errors.map((error) => error.slice(0, error.indexOf(': ')))
  t.same(
    new Set(paths),
    new Set([
      'filter_enabled.default_value.denominator',
      'filter_enabled.default_value.numerator',
      'allow_origin_string_match[0].safe_regex.regex',
      'allow_origin_string_match[1]',
      'allow_origin_string_match[2].prefix',
      'allow_origin_string_match[3].custom',
      'allow_methods',
      'allow_credentials',
      'allow_origin',
    ]),
  )
  t.match(parseJson({ allow_methods: 'GET' }, (fields) => cors.parse(fields)).errors, [/allow_methods: unknown field/])
})
