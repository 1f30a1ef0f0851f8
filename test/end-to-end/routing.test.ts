import t, { type Test } from 'tap'
import { fieldValues } from '../support/http1-message.ts'
import { Origin, type OriginRequest, type OriginScript } from '../support/origin.ts'
import type { Wire, WireResponse } from '../support/wire.ts'
import { cluster, type Fields } from './bootstrap.ts'
import { get, post, type SetupSpec, setup } from './setup.ts'

/** One pass over everything that the router does, from the bytes of a request to those of its answer. */

/** A route that answers with its own name. */
const says = (name: string, match: Fields, more: Fields = {}): Fields => ({
  match,
  direct_response: { status: 200, body: { inline_string: name } },
  ...more,
})
const toOrigin = (match: Fields, action: Fields = {}, more: Fields = {}): Fields => ({
  match,
  route: { cluster: 'origin', ...action },
  ...more,
})

interface Router {
  readonly origin: Origin
  readonly wire: Wire
  ask(target: string, ...lines: readonly string[]): Promise<WireResponse>
  /** The body of the answer, or its status where there is none. */
  told(target: string, ...lines: readonly string[]): Promise<string>
  /** As the origin saw it. */
  seen(target: string, ...lines: readonly string[]): Promise<OriginRequest>
}

async function router(t: Test, spec: SetupSpec): Promise<Router> {
  const { origin, connect } = await setup(t, spec)
  const wire = await connect()
  const ask = (target: string, ...lines: readonly string[]): Promise<WireResponse> =>
    lines.some((line) => /^host:/i.test(line))
      ? wire.exchange([`GET ${target} HTTP/1.1`, ...lines, '', ''].join('\r\n'))
      : wire.exchange(get(target, ...lines))
  return {
    origin,
    wire,
    ask,
    async told(target, ...lines) {
      const response = await ask(target, ...lines)
      return response.text() === '' ? String(response.status) : response.text()
    },
    async seen(target, ...lines) {
      const before = origin.requests.length
      const response = await ask(target, ...lines)
      if (origin.requests.length !== before + 1) throw new Error(`${target}: ${response.status} ${response.text()}`)
      return origin.requests[before]
    },
  }
}

t.test('virtual hosts: exact, then the longest suffix, then the longest prefix, then any', async (t) => {
  const host = (name: string, ...domains: readonly string[]): Fields => ({
    name,
    domains,
    routes: [says(name, { prefix: '/' })],
  })
  const hosts = [
    host('exact', 'www.a.example', 'a.example:81'),
    host('suffix', '*.a.example'),
    host('longer', '*-x.a.example'),
    host('prefix', 'www.*'),
  ]
  const { told } = await router(t, { routeConfig: { virtual_hosts: [...hosts, host('any', '*')] } })
  for (const [name, expected] of [
    ['www.a.example', 'exact'],
    ['WWW.A.Example', 'exact'],
    ['b.a.example', 'suffix'],
    ['b-x.a.example', 'longer'],
    ['.a.example', 'any'],
    ['www.b.example', 'prefix'],
    ['a.example', 'any'],
    ['a.example:81', 'exact'],
    ['www.a.example:80', 'prefix'],
  ]) {
    t.equal(await told('/', `host: ${name}`), expected, name)
  }
  const portless = await router(t, {
    routeConfig: { ignore_port_in_host_matching: true, virtual_hosts: hosts },
  })
  t.equal(await portless.told('/', 'host: www.a.example:80'), 'exact')
  const none = await portless.ask('/', 'host: nobody.example')
  t.equal(none.status, 404)
  t.equal(none.text(), '')
})

const TEMPLATE = 'type.googleapis.com/envoy.extensions.path'

t.test('path matchers, first match in order', async (t) => {
  const { told } = await router(t, {
    routes: [
      says('path', { path: '/exact' }),
      says('any case', { path: '/CASE', case_sensitive: false }),
      says('separated', { path_separated_prefix: '/sep' }),
      says('regex', { safe_regex: { regex: '/r/[0-9]+(/.*)?' } }),
      says('template', {
        path_match_policy: {
          name: 'template',
          typed_config: {
            '@type': `${TEMPLATE}.match.uri_template.v3.UriTemplateMatchConfig`,
            path_template: '/t/{name}/end',
          },
        },
      }),
      says('prefix', { prefix: '/pre' }),
      says('shadowed', { prefix: '/prefix' }),
      says('rest', { prefix: '/' }),
    ],
  })
  for (const [target, expected] of [
    ['/exact', 'path'],
    ['/exact?q=1', 'path'],
    ['/exact/', 'rest'],
    ['/EXACT', 'rest'],
    ['/case', 'any case'],
    ['/sep', 'separated'],
    ['/sep/x', 'separated'],
    ['/sepx', 'rest'],
    ['/sep?x', 'separated'],
    ['/r/12', 'regex'],
    ['/r/12/x?y', 'regex'],
    ['/r/12x', 'rest'],
    ['/xr/12', 'rest'],
    ['/t/some/end', 'template'],
    ['/t/some/more/end', 'rest'],
    ['/prefix/x', 'prefix'],
    ['/', 'rest'],
  ]) {
    t.equal(await told(target), expected, target)
  }
})

t.test('header matchers', async (t) => {
  const on = (name: string, matcher: Fields): Fields =>
    says(name, { prefix: '/', headers: [{ name: 'x-h', ...matcher }] })
  const cases: readonly (readonly [Fields, readonly string[], readonly string[]])[] = [
    [{ string_match: { exact: 'a' } }, ['x-h: a'], ['x-h: A', 'x-h: a b', '']],
    [{ string_match: { exact: 'A', ignore_case: true } }, ['x-h: a'], ['x-h: b']],
    [{ string_match: { prefix: 'ab' } }, ['x-h: abc'], ['x-h: cab']],
    [{ string_match: { suffix: 'bc' } }, ['x-h: abc'], ['x-h: bca']],
    [{ string_match: { contains: 'b' } }, ['x-h: abc'], ['x-h: ac']],
    [{ string_match: { safe_regex: { regex: '[ab]+' } } }, ['x-h: abba'], ['x-h: abc']],
    [{ exact_match: 'a' }, ['x-h: a'], ['x-h: b']],
    [{ range_match: { start: -1, end: 10 } }, ['x-h: -1', 'x-h: 9'], ['x-h: 10', 'x-h: 1.5', 'x-h: x']],
    [{ present_match: true }, ['x-h: a', 'x-h:'], ['']],
    [{ present_match: false }, [''], ['x-h: a']],
    [{}, ['x-h: a'], ['']],
    [{ string_match: { exact: 'a' }, invert_match: true }, ['x-h: b'], ['x-h: a', '']],
    [
      { string_match: { exact: 'a' }, invert_match: true, treat_missing_header_as_empty: true },
      ['x-h: b', ''],
      ['x-h: a'],
    ],
    [{ name: ':method', string_match: { exact: 'GET' } }, [''], []],
    [{ name: ':path', string_match: { prefix: '/?' } }, [], ['']],
    [{ name: ':authority', string_match: { exact: 'a.example' } }, [''], []],
  ]
  for (const [matcher, takes, leaves] of cases) {
    const { told } = await router(t, { routes: [on('yes', matcher), says('no', { prefix: '/' })] })
    for (const line of takes)
      t.equal(await told('/', ...(line === '' ? [] : [line])), 'yes', JSON.stringify([matcher, line]))
    for (const line of leaves)
      t.equal(await told('/', ...(line === '' ? [] : [line])), 'no', JSON.stringify([matcher, line]))
  }
})

t.test('query parameters, gRPC and fractions', async (t) => {
  let draw = 0
  const { told } = await router(t, {
    gateway: { random: () => draw },
    runtime: { 'half.key': 50 },
    routes: [
      says('exact', { prefix: '/q', query_parameters: [{ name: 'a', string_match: { exact: '1' } }] }),
      says('present', { prefix: '/q', query_parameters: [{ name: 'b', present_match: true }] }),
      says('grpc', { prefix: '/', grpc: {} }),
      says('half', {
        prefix: '/f',
        runtime_fraction: { default_value: { numerator: 0 }, runtime_key: 'half.key' },
      }),
      says('tenth', {
        prefix: '/t',
        runtime_fraction: { default_value: { numerator: 1, denominator: 'TEN_THOUSAND' } },
      }),
      says('rest', { prefix: '/' }),
    ],
  })
  t.equal(await told('/q?a=1'), 'exact')
  t.equal(await told('/q?x&a=1&y'), 'exact')
  t.equal(await told('/q?a=2&a=1'), 'rest', 'the first value counts')
  t.equal(await told('/q?b'), 'present')
  t.equal(await told('/q?c=b'), 'rest')
  t.equal(await told('/', 'content-type: text/plain'), 'rest')
  t.equal(await told('/f'), 'half')
  t.equal(await told('/t'), 'tenth')
  draw = 0.49
  t.equal(await told('/f'), 'half')
  t.equal(await told('/t'), 'rest')
  draw = 0.5
  t.equal(await told('/f'), 'rest')
})

t.test('redirects', async (t) => {
  const redirect = (name: string, fields: Fields): Fields => ({ match: { prefix: `/${name}` }, redirect: fields })
  const { ask } = await router(t, {
    routes: [
      redirect('https', { https_redirect: true }),
      redirect('host', { host_redirect: 'b.example', response_code: 'FOUND' }),
      redirect('port', { port_redirect: 8443, https_redirect: true }),
      redirect('path', { path_redirect: '/new', response_code: 'SEE_OTHER' }),
      redirect('query', { path_redirect: '/new?own=1', response_code: 'TEMPORARY_REDIRECT' }),
      redirect('strip', { path_redirect: '/new', strip_query: true, response_code: 'PERMANENT_REDIRECT' }),
      redirect('prefix', { prefix_rewrite: '/other' }),
      redirect('regex', { regex_rewrite: { pattern: { regex: '^/regex/(.*)$' }, substitution: '/r/\\1' } }),
      redirect('scheme', { scheme_redirect: 'HTTPS' }),
    ],
  })
  for (const [target, status, location] of [
    ['/https/x?y', 301, 'https://a.example/https/x?y'],
    ['/host/x', 302, 'http://b.example/host/x'],
    ['/port', 301, 'https://a.example:8443/port'],
    ['/path?x', 303, 'http://a.example/new?x'],
    ['/query?x', 307, 'http://a.example/new?own=1'],
    ['/strip?x', 308, 'http://a.example/new'],
    ['/prefix/x?y', 301, 'http://a.example/other/x?y'],
    ['/regex/x/y?z', 301, 'http://a.example/r/x/y?z'],
    ['/scheme', 301, 'https://a.example/scheme'],
  ] as const) {
    const response = await ask(target)
    t.equal(response.status, status, target)
    t.equal(response.get('location'), location, target)
    t.equal(response.get('content-length'), '0')
  }
  t.equal(
    (await ask('/https', 'host: a.example:80')).get('location'),
    'https://a.example/https',
    'the port of http goes',
  )
  t.equal((await ask('/https', 'host: a.example:8080')).get('location'), 'https://a.example:8080/https')
})

t.test('require_tls sends plaintext callers to https before any route is looked at', async (t) => {
  const host = (name: string, required: string): Fields => ({
    name,
    domains: [`${name}.example`],
    require_tls: required,
    routes: [says(name, { prefix: '/' })],
  })
  const { ask } = await router(t, {
    hcm: {
      use_remote_address: true,
      internal_address_config: { cidr_ranges: [{ address_prefix: '127.0.0.1', prefix_len: 32 }] },
    },
    routeConfig: { virtual_hosts: [host('all', 'ALL'), host('external', 'EXTERNAL_ONLY'), host('none', 'NONE')] },
  })
  const moved = await ask('/x?y', 'host: all.example')
  t.equal(moved.status, 301)
  t.equal(moved.get('location'), 'https://all.example/x?y')
  t.equal((await ask('/', 'host: external.example')).text(), 'external', 'internal callers may stay')
  t.equal((await ask('/', 'host: external.example', 'x-forwarded-for: 1.1.1.1')).status, 301)
  t.equal((await ask('/', 'host: none.example')).text(), 'none')
})

t.test('direct responses, with bodies, formats and header edits; non-forwarding routes answer 404', async (t) => {
  const { ask } = await router(t, {
    routes: [
      { match: { path: '/empty' }, direct_response: { status: 204 } },
      {
        match: { path: '/format' },
        direct_response: {
          status: 200,
          body_format: { json_format: { path: '%REQ(:PATH)%' }, content_type: 'application/problem+json' },
        },
      },
      says(
        'edited',
        { path: '/edited' },
        { response_headers_to_add: [{ header: { key: 'x-r', value: '%REQ(:PATH)%' } }] },
      ),
      { match: { path: '/none' }, non_forwarding_action: {} },
    ],
  })
  const empty = await ask('/empty')
  t.equal(empty.status, 204)
  t.equal(empty.get('content-length'), undefined)
  const format = await ask('/format')
  t.same(JSON.parse(format.text()), { path: '/format' })
  t.equal(format.get('content-type'), 'application/problem+json')
  const edited = await ask('/edited')
  t.equal(edited.text(), 'edited')
  t.equal(edited.get('content-type'), 'text/plain')
  t.equal(edited.get('x-r'), '/edited')
  t.equal((await ask('/none')).status, 503)
})

t.test('a direct response to a POST leaves its connection in order', async (t) => {
  const { wire } = await router(t, { routes: [says('here', { prefix: '/' })] })
  await wire.write(post('hello') + post('again') + get('/last'))
  const first = await wire.readResponse()
  t.equal(first.text(), 'here')
  if (first.get('connection') === 'close') t.equal(await wire.expectEnd(), 'fin')
  else for (let i = 0; i < 2; i++) t.equal((await wire.readResponse()).text(), 'here')
})

t.test('path rewrites: prefix, whole path, regex, template; the original is told', async (t) => {
  const { seen } = await router(t, {
    routes: [
      toOrigin({ prefix: '/p/' }, { prefix_rewrite: '/new/' }),
      toOrigin({ path: '/exact' }, { prefix_rewrite: '/whole' }),
      toOrigin({ prefix: '/r/' }, { regex_rewrite: { pattern: { regex: '/([a-z])/' }, substitution: '/<\\1>/' } }),
      toOrigin(
        {
          path_match_policy: {
            name: 'm',
            typed_config: {
              '@type': `${TEMPLATE}.match.uri_template.v3.UriTemplateMatchConfig`,
              path_template: '/t/{a}/{b=**}',
            },
          },
        },
        {
          path_rewrite_policy: {
            name: 'r',
            typed_config: {
              '@type': `${TEMPLATE}.rewrite.uri_template.v3.UriTemplateRewriteConfig`,
              path_template_rewrite: '/{b}/{a}',
            },
          },
        },
      ),
      toOrigin({ prefix: '/' }),
    ],
  })
  for (const [from, to] of [
    ['/p/x?y=/p/', '/new/x?y=/p/'],
    ['/exact?y', '/whole?y'],
    ['/r/a/b/c?d=/e/', '/<r>/a/<b>/c?d=/e/'],
    ['/t/1/2/3?q', '/2/3/1?q'],
  ]) {
    const request = await seen(from)
    t.equal(request.target, to)
    t.equal(request.get('x-envoy-original-path'), from)
  }
  const same = await seen('/same')
  t.equal(same.get('x-envoy-original-path'), undefined)
})

t.test('host rewrites: literal, by header, by path; the original is told', async (t) => {
  const { seen } = await router(t, {
    routes: [
      toOrigin({ prefix: '/literal' }, { host_rewrite_literal: 'new.example', append_x_forwarded_host: true }),
      toOrigin({ prefix: '/header' }, { host_rewrite_header: 'X-Host' }),
      toOrigin(
        { prefix: '/path' },
        { host_rewrite_path_regex: { pattern: { regex: '^/path/([^/]+)/.*$' }, substitution: '\\1.example' } },
      ),
    ],
  })
  const literal = await seen('/literal')
  t.equal(literal.get('host'), 'new.example')
  t.equal(literal.get('x-envoy-original-host'), 'a.example')
  t.equal(literal.get('x-forwarded-host'), 'a.example')
  t.equal((await seen('/header', 'x-host: from.header')).get('host'), 'from.header')
  t.equal((await seen('/header')).get('host'), 'a.example')
  t.equal((await seen('/path/name/x?y')).get('host'), 'name.example')
})

t.test('weighted clusters: the draw decides, or a number in a header; each edits its own headers', async (t) => {
  let draw = 0
  const weighted = (name: string, weight: number): Fields => ({
    name: 'origin',
    weight,
    request_headers_to_add: [{ header: { key: 'x-which', value: name } }],
    response_headers_to_add: [{ header: { key: 'x-which', value: name } }],
  })
  const { ask, seen } = await router(t, {
    gateway: { random: () => draw },
    routes: [
      {
        match: { prefix: '/header' },
        route: { weighted_clusters: { header_name: 'x-number', clusters: [weighted('a', 1), weighted('b', 1)] } },
      },
      {
        match: { prefix: '/' },
        route: { weighted_clusters: { clusters: [weighted('a', 20), weighted('none', 0), weighted('b', 80)] } },
      },
    ],
  })
  for (const [random, which] of [
    [0, 'a'],
    [0.19, 'a'],
    [0.2, 'b'],
    [0.99, 'b'],
  ] as const) {
    draw = random
    t.equal((await ask('/')).get('x-which'), which)
    t.equal((await seen('/')).get('x-which'), which)
  }
  draw = 0
  t.equal((await ask('/header', 'x-number: 3')).get('x-which'), 'b')
  t.equal((await ask('/header', 'x-number: 4')).get('x-which'), 'a')
})

const add = (key: string, value: string, more: Fields = {}): Fields => ({ header: { key, value }, ...more })

t.test('header edits at every level, in order, removals first', async (t) => {
  const level = (name: string): Fields => ({
    request_headers_to_add: [
      add('x-levels', name),
      add('x-last', name, { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }),
    ],
    response_headers_to_add: [add('x-levels', name)],
  })
  const routeConfig = (specificWins: boolean): Fields => ({
    ...level('table'),
    request_headers_to_remove: ['x-strip'],
    response_headers_to_remove: ['x-echo-method'],
    most_specific_header_mutations_wins: specificWins,
    virtual_hosts: [
      {
        name: 'all',
        domains: ['*'],
        ...level('host'),
        routes: [
          {
            match: { prefix: '/' },
            ...level('route'),
            route: { weighted_clusters: { clusters: [{ name: 'origin', weight: 1, ...level('cluster') }] } },
          },
        ],
      },
    ],
  })
  const order = ['cluster', 'route', 'host', 'table']
  for (const specificWins of [false, true]) {
    const { origin, ask } = await router(t, { routeConfig: routeConfig(specificWins) })
    const response = await ask('/', 'x-strip: 1', 'x-last: client')
    const wanted = specificWins ? [...order].reverse() : order
    const [request] = origin.requests
    t.same(fieldValues(request.fields, 'x-levels'), wanted)
    t.same(fieldValues(response.fields, 'x-levels'), wanted)
    t.same(fieldValues(request.fields, 'x-last'), [wanted[3]], 'later levels may override')
    t.equal(request.get('x-strip'), undefined)
    t.equal(response.get('x-echo-method'), undefined)
    t.equal(response.get('x-echo-target'), '/')
  }
})

t.test('append actions, empty values and format commands', async (t) => {
  const { seen } = await router(t, {
    routes: [
      toOrigin(
        { prefix: '/' },
        {},
        {
          request_headers_to_add: [
            add('x-append', 'new'),
            add('x-absent', 'new', { append_action: 'ADD_IF_ABSENT' }),
            add('x-over', 'new', { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }),
            add('x-only-over', 'new', { append_action: 'OVERWRITE_IF_EXISTS' }),
            add('x-empty', '%REQ(x-missing)%'),
            add('x-kept', '%REQ(x-missing)%', { keep_empty_value: true }),
            add('x-text', '%REQ(:METHOD)% %% %PROTOCOL%'),
            add('x-peer', '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%'),
          ],
        },
      ),
    ],
  })
  const without = await seen('/')
  const with_ = await seen('/', 'x-append: old', 'x-absent: old', 'x-over: old', 'x-only-over: old')
  const values = (request: OriginRequest, name: string): string[] => fieldValues(request.fields, name)
  t.same(values(without, 'x-append'), ['new'])
  t.same(values(with_, 'x-append'), ['old', 'new'])
  t.same(values(without, 'x-absent'), ['new'])
  t.same(values(with_, 'x-absent'), ['old'])
  t.same(values(without, 'x-over'), ['new'])
  t.same(values(with_, 'x-over'), ['new'])
  t.same(values(without, 'x-only-over'), [])
  t.same(values(with_, 'x-only-over'), ['new'])
  t.same(values(without, 'x-empty'), [])
  t.same(values(without, 'x-kept'), [''])
  t.same(values(without, 'x-text'), ['GET % HTTP/1.1'])
  t.same(values(without, 'x-peer'), ['127.0.0.1'])
})

t.test('a value from the client cannot add lines to what is sent', async (t) => {
  const { seen } = await router(t, {
    routes: [toOrigin({ prefix: '/' }, {}, { request_headers_to_add: [add('x-copy', '%REQ(x-evil)%')] })],
  })
  const request = await seen('/', 'x-evil: a%0d%0ax-injected: 1')
  t.equal(request.get('x-copy'), 'a%0d%0ax-injected: 1')
  t.equal(request.get('x-injected'), undefined)
})

t.test('mirroring: a copy with its body, another host name, and no influence on the answer', async (t) => {
  let mirrorDoes: OriginScript = async (_, reply) => void (await reply.send({ status: 500, body: 'shadow' }))
  const mirror = await Origin.start((request, reply) => mirrorDoes(request, reply))
  t.teardown(() => mirror.close())
  let draw = 0
  const { connect, gateway } = await setup(t, {
    gateway: { random: () => draw },
    clusters: [cluster('mirror', mirror.port), cluster('void', [])],
    routes: [
      toOrigin(
        { prefix: '/some' },
        {
          request_mirror_policies: [
            {
              cluster: 'mirror',
              runtime_fraction: { default_value: { numerator: 50 } },
              disable_shadow_host_suffix_append: true,
            },
          ],
        },
      ),
      toOrigin({ prefix: '/void' }, { request_mirror_policies: [{ cluster: 'void' }] }),
      toOrigin({ prefix: '/' }, { request_mirror_policies: [{ cluster: 'mirror' }] }),
    ],
  })
  const wire = await connect()
  const body = 'b'.repeat(300_000)
  const response = await wire.exchange(post(body, 'x-a: 1'))
  t.equal(response.status, 200)
  t.equal(response.text(), body)
  await mirror.seen(1)
  const [copy] = mirror.requests
  t.equal(copy.method, 'POST')
  t.equal(copy.get('host'), 'a.example-shadow')
  t.equal(copy.get('x-a'), '1')
  t.equal((await copy.body).bytes.toString(), body)
  await wire.exchange(
    'POST / HTTP/1.1\r\nhost: a:81\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n3\r\n ya\r\n0\r\n\r\n',
  )
  await mirror.seen(2)
  t.equal(mirror.requests[1].get('host'), 'a-shadow:81')
  t.equal((await mirror.requests[1].body).bytes.toString(), 'hi ya')
  mirrorDoes = (_, reply) => reply.reset()
  t.equal((await wire.exchange(get())).status, 200)
  await mirror.seen(3)
  mirrorDoes = async (_, reply) => void (await reply.stall())
  t.equal((await wire.exchange(get())).status, 200, 'nobody waits for a mirror')
  await mirror.seen(4)
  await wire.exchange(get('/some'))
  await mirror.seen(5)
  t.equal(mirror.requests[4].get('host'), 'a.example')
  draw = 0.5
  await wire.exchange(get('/some'))
  t.equal((await wire.exchange(get('/void'))).status, 200)
  // More than a mirror may hold: the request itself is not bothered.
  const large = 'l'.repeat(3 << 20)
  t.equal((await wire.exchange(post(large))).text().length, large.length)
  t.equal(mirror.requests.length, 5)
  t.equal(gateway.stat('cluster.mirror.upstream_rq_500'), 2)
  mirror.resetAll()
})

t.test('suppress_envoy_headers leaves no x-envoy header on either side', async (t) => {
  const spec: SetupSpec = { routes: [toOrigin({ prefix: '/' }, { prefix_rewrite: '/new/' })] }
  for (const suppress of [false, true]) {
    const { origin, ask } = await router(t, { ...spec, router: { suppress_envoy_headers: suppress } })
    const response = await ask('/x')
    const names = [...origin.requests[0].fields, ...response.fields].map(([name]) => name)
    const envoy = names.filter((name) => name.startsWith('x-envoy-')).sort()
    t.same(
      envoy,
      suppress ? [] : ['x-envoy-expected-rq-timeout-ms', 'x-envoy-original-path', 'x-envoy-upstream-service-time'],
    )
  }
})

t.test('attempt counts, where a virtual host asks for them', async (t) => {
  const { origin, ask } = await router(t, {
    routeConfig: {
      virtual_hosts: [
        {
          name: 'all',
          domains: ['*'],
          include_request_attempt_count: true,
          include_attempt_count_in_response: true,
          routes: [toOrigin({ prefix: '/' })],
        },
      ],
    },
  })
  const response = await ask('/')
  t.equal(origin.requests[0].get('x-envoy-attempt-count'), '1')
  t.equal(response.get('x-envoy-attempt-count'), '1')
})

t.test('a matcher tree chooses the route', async (t) => {
  const ROUTE = 'type.googleapis.com/envoy.config.route.v3.Route'
  const input = (name: string): Fields => ({
    name: 'header',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput',
      header_name: name,
    },
  })
  const route = (name: string): Fields => ({
    action: { name, typed_config: { '@type': ROUTE, ...says(name, { prefix: '/' }) } },
  })
  const { told } = await router(t, {
    routeConfig: {
      virtual_hosts: [
        {
          name: 'all',
          domains: ['*'],
          matcher: {
            matcher_tree: {
              input: input(':path'),
              prefix_match_map: { map: { '/a': route('a'), '/a/b': route('longest') } },
            },
            on_no_match: route('else'),
          },
        },
      ],
    },
  })
  t.equal(await told('/a/x'), 'a')
  t.equal(await told('/a/b/c'), 'longest')
  t.equal(await told('/x'), 'else')
})
