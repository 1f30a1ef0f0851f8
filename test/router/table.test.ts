import t from 'tap'
import type { HttpStream } from '../../lib/chain/filter.ts'
import type { Json } from '../../lib/core/errors.ts'
import { Headers } from '../../lib/core/headers.ts'
import type {
  FilterConfigs,
  HeaderEditsConfig,
  RouteActionConfig,
  RouteConfig,
  RouteMatchConfig,
  RouteTableConfig,
  VirtualHostConfig,
} from '../../lib/router/config.ts'
import type { CompiledRoute, RedirectAction, RouteTableDeps } from '../../lib/router/route.ts'
import { compileRouteTable, type RouteTable, routeTableSteps } from '../../lib/router/table.ts'
import { upgradeAllowed } from '../../lib/router/upgrade.ts'
import { VirtualHosts } from '../../lib/router/virtual-hosts.ts'
import { compileHeaderEdits } from '../../lib/telemetry/header-edits.ts'
import { peer, tlsInfo } from '../support/peers.ts'

/** `%REQ(name)%` only; the real formatter is lib/telemetry. */
function compileFormat(text: string, missing: string): (s: HttpStream) => string {
  if (/%(?!REQ\([a-z-]+\)%)/.test(text.replaceAll(/%REQ\([a-z-]+\)%/g, ''))) throw new Error(`bad format "${text}"`)
  return (s) => text.replaceAll(/%REQ\(([a-z-]+)\)%/g, (_all, name: string) => s.request.get(name) ?? missing)
}

function deps(more: Partial<RouteTableDeps<string>> = {}): RouteTableDeps<string> {
  return {
    planFor: (levels) => levels.map((l) => Object.keys(l).join('+')).join('/'),
    runtime: { get: () => undefined },
    compileFormat,
    compileBody: (format, body) => () => `${format.kind}:${body}`,
    ...more,
  }
}

interface Asked {
  readonly path?: string
  readonly authority?: string
  readonly raw?: string[]
  readonly scheme?: string
  readonly method?: string
  readonly random?: number
  readonly internal?: boolean
  readonly metadata?: Record<string, Json>
  readonly certificate?: boolean | 'unverified'
  readonly state?: Record<string, unknown>
}

/** As much of an exchange as routes look at. */
function stream(asked: Asked = {}): HttpStream {
  const { path = '/', authority = 'a.example', raw = [], scheme = 'http', method = 'GET' } = asked
  const { certificate } = asked
  const tls =
    certificate === undefined
      ? undefined
      : tlsInfo({ peerUnverified: certificate === 'unverified', peer: certificate === true ? peer() : undefined })
  return {
    head: { method, scheme, authority, path, protocol: undefined },
    request: new Headers(raw),
    connection: { tls },
    filterState: { get: (key: string) => asked.state?.[key] },
    metadata: { get: (ns: string) => asked.metadata?.[ns], merge: () => undefined },
    info: { internal: asked.internal ?? false, clientAddress: '' },
    random: asked.random ?? 0.5,
  } as unknown as HttpStream
}

const ANY: RouteMatchConfig = { path: { kind: 'prefix', value: '/', caseSensitive: true } }

function forward(cluster: string, more: Partial<RouteActionConfig> = {}): RouteActionConfig {
  return {
    kind: 'route',
    cluster: { kind: 'cluster', name: cluster },
    clusterNotFoundStatus: 503,
    timeoutMs: 15_000,
    priority: 'default',
    ...more,
  }
}

function route(
  name: string,
  action: RouteConfig['action'] = forward(name),
  more: Partial<RouteConfig> = {},
): RouteConfig {
  return { name, match: ANY, action, ...more }
}

function host(routes: RouteConfig[], more: Partial<VirtualHostConfig> = {}): VirtualHostConfig {
  return { name: 'vh', domains: ['*'], routes, requireTls: 'none', ...more }
}

function table(virtualHosts: VirtualHostConfig[], more: Partial<RouteTableConfig> = {}): RouteTableConfig {
  return {
    name: 'rt',
    virtualHosts,
    ignorePortInHostMatching: false,
    mostSpecificHeaderMutationsWins: false,
    validateClusters: false,
    maxDirectResponseBodyBytes: 4096,
    ...more,
  }
}

function compile(config: RouteTableConfig): RouteTable<string> {
  return compileRouteTable(config, deps())
}

/** The route of a table of one route. */
function only(action: RouteConfig['action'], match: RouteMatchConfig = ANY, asked: Asked = {}): CompiledRoute<string> {
  const found = compile(table([host([route('r', action, { match })])])).match(stream(asked))
  if (found === undefined) throw new Error('the only route does not match')
  return found
}

t.test('the virtual host is the exact domain, then the longest wildcard, suffixes before prefixes', async (t) => {
  const domains = [
    'a.example',
    '*.example',
    '*-x.example',
    '*.b.example',
    'a.*',
    'a.b.*',
    'a.example:8080',
    '*:9090',
    '*',
  ]
  const all = domains.map((domain) => ({ name: domain, domains: [domain], value: domain }))
  const expected: [string, string][] = [
    ['a.example', 'a.example'],
    ['A.Example', 'a.example'],
    ['a.example:8080', 'a.example:8080'],
    ['a.example:81', 'a.*'],
    ['c.example', '*.example'],
    ['.example', '*'],
    ['c-x.example', '*-x.example'],
    ['c.b.example', '*.b.example'],
    ['a.b.c', 'a.b.*'],
    ['a.c', 'a.*'],
    ['a.', '*'],
    ['any:9090', '*:9090'],
    ['', '*'],
  ]
  const hosts = new VirtualHosts(all, false)
  for (const [authority, domain] of [...expected, ...expected]) t.equal(hosts.find(authority), domain, authority)
  const ignoring = new VirtualHosts(all, true)
  t.equal(ignoring.find('a.example:81'), 'a.example')
  t.equal(ignoring.find('[::1]:80'), '*')
  const v6 = new VirtualHosts([{ name: 'v6', domains: ['[::1]'], value: 'v6' }], true)
  t.equal(v6.find('[::1]:80'), 'v6')
  t.equal(v6.find('[::1]'), 'v6')
  t.equal(v6.find('other'), undefined)
  for (let i = 0; i < 2000; i++) hosts.find(`h${i}.example`)
  t.equal(hosts.find('h1.example'), '*.example', 'many made-up hosts change nothing')
})

t.test('a domain of two virtual hosts, or with a wildcard inside, is refused', async (t) => {
  const two = [host([], { name: 'one', domains: ['x.example'] }), host([], { name: 'two', domains: ['X.example'] })]
  t.throws(() => compile(table(two)), { message: 'domain "x.example" of virtual host "two" is also in "one"' })
  t.throws(() => compile(table([host([], { domains: ['a.*.b'] })])), /"a.\*.b" has "\*" in its middle/)
})

t.test('a header may name the virtual host instead of the authority', async (t) => {
  const hosts = [host([route('one')], { domains: ['one'] }), host([route('two')], { domains: ['two'] })]
  const routes = compile(table(hosts, { virtualHostHeader: 'X-Host' }))
  t.equal(routes.match(stream({ raw: ['x-host', 'TWO'] }))?.name, 'two')
  t.equal(routes.match(stream({ authority: 'one' })), undefined)
})

t.test('a virtual host that requires TLS redirects before any route is looked at', async (t) => {
  const all = compile(table([host([route('r')], { requireTls: 'all' })]))
  const external = compile(table([host([route('r')], { requireTls: 'external' })]))
  const plain = { authority: 'a.example:80', path: '/x?y' }
  const redirect = all.match(stream(plain))?.action as RedirectAction
  t.match(redirect, { kind: 'redirect', status: 301 })
  t.equal(redirect.location(stream(plain)), 'https://a.example:80/x?y')
  t.equal(all.match(stream({ scheme: 'https' }))?.name, 'r')
  t.equal(all.match(stream({ raw: ['x-forwarded-proto', 'https'] }))?.name, 'r')
  t.equal(all.match(stream({ internal: true }))?.action.kind, 'redirect')
  t.equal(external.match(stream({ internal: true }))?.name, 'r')
  t.equal(external.match(stream())?.action.kind, 'redirect')
})

t.test('every criterion of a route must hold', async (t) => {
  const match: RouteMatchConfig = {
    path: ANY.path,
    headers: [
      { name: ':method', match: { kind: 'string', string: { kind: 'exact', value: 'POST' } } },
      { name: 'x-a', match: { kind: 'string', string: { kind: 'exact', value: '1' } } },
      { name: 'x-b', match: { kind: 'string', string: { kind: 'exact', value: '2' } } },
      { name: 'x-c', match: { kind: 'string', string: { kind: 'prefix', value: '3' } } },
    ],
    queryParameters: [{ name: 'q', match: { kind: 'present' } }],
    cookies: [{ name: 'c', string: { kind: 'exact', value: 'v' } }],
    grpc: true,
    fraction: { numerator: 50, denominator: 100 },
    metadata: [{ namespace: 'n', path: ['k'], value: { kind: 'bool', value: true } }],
    filterState: [{ key: 's', string: { kind: 'prefix', value: 'v' } }],
    tls: { presented: true, validated: true },
  }
  const good = {
    path: '/x?q=1',
    method: 'POST',
    raw: ['x-a', '1', 'x-b', '2', 'x-c', '33', 'cookie', 'c=v', 'content-type', 'application/grpc+proto'],
    random: 0.49,
    metadata: { n: { k: true } },
    certificate: true,
    state: { s: 'value' },
  } satisfies Asked
  const routes = compile(table([host([route('strict', forward('c'), { match }), route('rest')])]))
  const name = (more: Partial<Asked>): string | undefined => routes.match(stream({ ...good, ...more }))?.name
  const without = (field: string, value: string): string[] => good.raw.with(good.raw.indexOf(field) + 1, value)
  t.equal(name({}), 'strict')
  t.equal(name({ method: 'GET' }), 'rest')
  t.equal(name({ raw: without('x-a', '2') }), 'rest')
  t.equal(name({ raw: without('x-b', '1') }), 'rest')
  t.equal(name({ raw: without('x-c', '4') }), 'rest')
  t.equal(name({ raw: without('cookie', 'c=w') }), 'rest')
  t.equal(name({ path: '/x?p=1' }), 'rest')
  t.equal(name({ raw: without('content-type', 'application/grpc-web') }), 'rest')
  t.equal(name({ raw: without('content-type', 'application/grpc') }), 'strict')
  t.equal(name({ random: 0.5 }), 'rest')
  t.equal(name({ metadata: { n: { k: false } } }), 'rest')
  t.equal(name({ certificate: false }), 'rest')
  t.equal(name({ certificate: 'unverified' }), 'rest')
  t.equal(name({ state: { s: 'other' } }), 'rest')
  t.equal(name({ state: {} }), 'rest')
})

t.test('a cluster comes from the route, a header, or the draw', async (t) => {
  t.equal(only(forward('web')).cluster, 'web')
  const byHeader = compile(table([host([route('h', forward('', { cluster: { kind: 'header', name: 'X-To' } }))])]))
  const first = byHeader.match(stream({ raw: ['x-to', 'one', 'x-to', 'two'] }))
  t.match(first, { cluster: 'one', name: 'h' })
  t.equal(byHeader.match(stream({ raw: ['x-to', 'one'] })), first, 'one object per cluster')
  t.equal(byHeader.match(stream())?.cluster, '')
  for (let i = 0; i < 1000; i++) t.equal(byHeader.match(stream({ raw: ['x-to', `c${i}`] }))?.cluster === `c${i}`, true)

  const clusters = [
    { name: 'a', weight: 1 },
    { name: 'none', weight: 0 },
    { clusterHeader: 'x-to', weight: 3 },
  ]
  const weighted = compile(
    table([host([route('w', forward('', { cluster: { kind: 'weighted', clusters, randomHeader: 'x-draw' } }))])]),
  )
  const drawn = (asked: Asked): string | undefined => weighted.match(stream(asked))?.cluster
  t.same(
    [0, 0.24, 0.25, 0.9999].map((random) => drawn({ random, raw: ['x-to', 'h'] })),
    ['a', 'a', 'h', 'h'],
  )
  t.equal(drawn({ random: 0.9 }), '')
  t.equal(drawn({ random: 0.9, raw: ['x-draw', '4'] }), 'a', 'the header is the draw, modulo the sum')
  t.equal(drawn({ random: 0.9, raw: ['x-draw', '18446744073709551612'] }), 'a')
  t.equal(drawn({ random: 0.1, raw: ['x-draw', '18446744073709551615', 'x-to', 'h'] }), 'h')
  t.equal(drawn({ random: 0.1, raw: ['x-draw', 'x'] }), 'a')
  t.equal(drawn({ random: 0.1, raw: ['x-draw', '3', 'x-draw', '3'] }), 'a')
  const zero = forward('', { cluster: { kind: 'weighted', clusters: [{ name: 'a', weight: 0 }] } })
  t.throws(() => only(zero), {
    message: 'route "r" of virtual host "vh": the weights of weighted clusters add up to 0',
  })
})

t.test(
  'filter settings are combined once per distinct set of levels, each weighted cluster with its own',
  async (t) => {
    const at = (name: string): FilterConfigs => ({ [name]: { disabled: true } })
    const calls: string[] = []
    const clusters = [
      { name: 'a', weight: 1, filterConfigs: at('weighted') },
      { name: 'b', weight: 1 },
    ]
    const shared = at('shared')
    const routes = compileRouteTable(
      table(
        [
          host(
            [
              route('one', forward('x'), { match: { path: { kind: 'prefix', value: '/1', caseSensitive: true } } }),
              route('two', forward('x'), {
                match: { path: { kind: 'prefix', value: '/2', caseSensitive: true } },
                filterConfigs: shared,
              }),
              route('three', forward('x'), {
                match: { path: { kind: 'prefix', value: '/3', caseSensitive: true } },
                filterConfigs: shared,
              }),
              route('w', forward('', { cluster: { kind: 'weighted', clusters } }), { filterConfigs: at('route') }),
            ],
            { filterConfigs: at('host') },
          ),
        ],
        { filterConfigs: at('table') },
      ),
      deps({
        planFor: (levels) => {
          const key = levels.map((l) => Object.keys(l).join()).join('/')
          calls.push(key)
          return key
        },
      }),
    )
    t.equal(routes.match(stream({ path: '/1' }))?.plan, 'table/host')
    t.equal(routes.match(stream({ path: '/2' }))?.plan, 'table/host/shared')
    t.equal(routes.match(stream({ path: '/3' }))?.plan, 'table/host/shared')
    t.equal(routes.match(stream({ random: 0.1 }))?.plan, 'table/host/route/weighted')
    t.equal(routes.match(stream({ random: 0.9 }))?.plan, 'table/host/route')
    t.equal(calls.length, new Set(calls).size)
  },
)

t.test('header edits apply level by level, and the order of levels can be turned round', async (t) => {
  const level = (name: string): HeaderEditsConfig => ({
    remove: [`x-${name}`],
    add: [
      { name: 'x-who', value: name, action: 'overwrite-or-add' },
      { name: 'x-all', value: name, action: 'append' },
    ],
  })
  const clusters = [{ name: 'c', weight: 1, requestHeaders: level('weighted'), responseHeaders: level('weighted') }]
  const config = table(
    [
      host(
        [
          route('r', forward('', { cluster: { kind: 'weighted', clusters } }), {
            requestHeaders: level('route'),
            responseHeaders: level('route'),
          }),
        ],
        { requestHeaders: level('host') },
      ),
    ],
    { requestHeaders: level('table') },
  )
  const s = stream()
  const edited = (c: RouteTableConfig, which: 'requestHeaderEdits' | 'responseHeaderEdits'): string[] => {
    const headers = new Headers(['x-route', '1', 'keep', '1'])
    compile(c).match(s)?.[which]?.(headers, s)
    return headers.raw
  }
  t.same(edited(config, 'requestHeaderEdits'), [
    ...['keep', '1', 'x-who', 'table', 'x-all', 'weighted', 'x-all', 'route', 'x-all', 'host', 'x-all', 'table'],
  ])
  t.same(edited({ ...config, mostSpecificHeaderMutationsWins: true }, 'requestHeaderEdits'), [
    ...['keep', '1', 'x-who', 'weighted', 'x-all', 'table', 'x-all', 'host', 'x-all', 'route', 'x-all', 'weighted'],
  ])
  t.same(edited(config, 'responseHeaderEdits'), ['keep', '1', 'x-who', 'route', 'x-all', 'weighted', 'x-all', 'route'])
})

t.test('the actions of a header edit, and values from the headers as they came', async (t) => {
  const edit = (config: HeaderEditsConfig, raw: string[]): string[] => {
    const s = stream({ raw })
    compileHeaderEdits([config], compileFormat)?.(s.request, s)
    return s.request.raw
  }
  const add = (action: HeaderEditsConfig['add'][number]['action'], value = 'new', keepEmpty = false) => ({
    remove: [],
    add: [{ name: 'X', value, action, keepEmpty }],
  })
  t.same(edit(add('append'), ['x', 'old']), ['x', 'old', 'x', 'new'])
  t.same(edit(add('add-if-absent'), ['x', 'old']), ['x', 'old'])
  t.same(edit(add('add-if-absent'), []), ['x', 'new'])
  t.same(edit(add('overwrite-or-add'), ['x', 'a', 'y', '1', 'x', 'b']), ['x', 'new', 'y', '1'])
  t.same(edit(add('overwrite-or-add'), []), ['x', 'new'])
  t.same(edit(add('overwrite-if-exists'), []), [])
  t.same(edit(add('overwrite-if-exists'), ['x', 'old']), ['x', 'new'])
  t.same(edit(add('append', '%REQ(none)%'), ['x', 'old']), ['x', 'old'], 'an empty value is dropped')
  t.same(edit(add('overwrite-or-add', '%REQ(none)%'), ['x', 'old']), ['x', 'old'])
  t.same(edit(add('append', '', true), []), ['x', ''])
  t.same(edit(add('append', '100%%'), []), ['x', '100%'])
  const swap: HeaderEditsConfig = {
    remove: ['gone'],
    add: [
      { name: 'a', value: '%REQ(b)%', action: 'overwrite-or-add' },
      { name: 'b', value: '%REQ(a)%', action: 'overwrite-or-add' },
      { name: 'c', value: '%REQ(gone)%', action: 'append' },
    ],
  }
  t.same(edit(swap, ['a', '1', 'b', '2', 'gone', '3']), ['a', '2', 'b', '1'])
  const mixed: HeaderEditsConfig = {
    remove: [],
    add: [
      { name: 'x', value: 'added', action: 'append' },
      { name: 'x', value: 'set', action: 'overwrite-or-add' },
    ],
  }
  t.same(edit(mixed, ['x', 'old']), ['x', 'set', 'x', 'added'], 'a level overwrites before it adds')
  t.equal(compileHeaderEdits([undefined, { remove: [], add: [] }], compileFormat), undefined)
  for (const name of [':path', 'Host', '']) {
    t.throws(
      () => compileHeaderEdits([{ remove: [name], add: [] }], compileFormat),
      /can't be added, changed or removed/,
    )
  }
  t.throws(() => compileHeaderEdits([add('append', '%REQ(')], compileFormat), /bad format/)
})

t.test('a path is rewritten by prefix, regex, template or format, its query kept', async (t) => {
  const rewritten = (pathRewrite: RouteActionConfig['pathRewrite'], path: RouteMatchConfig['path'], asked: Asked) => {
    const { action } = only(forward('c', { pathRewrite }), { path }, asked)
    return action.kind === 'route' ? action.rewritePath?.(stream(asked)) : undefined
  }
  const prefix = (value: string, kind: 'prefix' | 'exact' | 'path-separated-prefix' = 'prefix') =>
    ({ kind, value, caseSensitive: false }) as const
  t.equal(rewritten({ kind: 'prefix', value: '/' }, prefix('/p'), { path: '/p/x?q=/p' }), '//x?q=/p')
  t.equal(rewritten({ kind: 'prefix', value: '/n' }, prefix('/P'), { path: '/p/x' }), '/n/x')
  t.equal(rewritten({ kind: 'prefix', value: '/n' }, prefix('/p', 'path-separated-prefix'), { path: '/p?q' }), '/n?q')
  t.equal(rewritten({ kind: 'prefix', value: '/n' }, prefix('/p/x', 'exact'), { path: '/p/x?q#f' }), '/n?q#f')
  t.equal(rewritten({ kind: 'prefix', value: '/n' }, { kind: 'regex', value: '/p.*' }, { path: '/p/x?q' }), '/n?q')
  const rewrite = { regex: '^/([^/]+)/x', substitution: '/x/\\1' }
  t.equal(rewritten({ kind: 'regex', rewrite }, prefix('/'), { path: '/p/x/y?z=/p/x' }), '/x/p/y?z=/p/x')
  const template = { kind: 'template', value: '/{a}/{b=**}' } as const
  t.equal(rewritten({ kind: 'template', value: '/t/{b}/{a}' }, template, { path: '/1/2/3?q' }), '/t/2/3/1?q')
  t.equal(rewritten({ kind: 'format', value: '/f%REQ(x)%' }, prefix('/'), { path: '/a?q', raw: ['x', '1'] }), '/f1?q')
  t.equal(rewritten({ kind: 'format', value: '/f' }, prefix('/'), { path: '/a?q' }), '/f?q')
  t.equal(rewritten(undefined, prefix('/'), {}), undefined)
  t.throws(() => rewritten({ kind: 'template', value: '/{a}' }, prefix('/'), {}), /needs a URI template match/)
})

t.test('a host is rewritten to a literal, a header, the path, a format or the upstream name', async (t) => {
  const host = (hostRewrite: RouteActionConfig['hostRewrite'], asked: Asked = {}): (string | boolean | undefined)[] => {
    const { action } = only(forward('c', { hostRewrite }), ANY, asked)
    if (action.kind !== 'route') throw new Error('not a forwarding route')
    return [action.rewriteHost?.(stream(asked), 'up.example'), action.autoHostRewrite]
  }
  t.same(host({ kind: 'literal', value: 'l' }), ['l', false])
  t.same(host({ kind: 'header', name: 'X-H' }, { raw: ['x-h', 'h'] }), ['h', false])
  t.same(host({ kind: 'header', name: 'x-h' }), [undefined, false])
  const rewrite = { regex: '^/(.+)/.+$', substitution: '\\1' }
  t.same(host({ kind: 'path-regex', rewrite }, { path: '/envoyproxy.io/some/path?q=/a/b' }), [
    'envoyproxy.io/some',
    false,
  ])
  t.same(host({ kind: 'format', value: '%REQ(x)%.example' }, { raw: ['x', 'a'] }), ['a.example', false])
  t.same(host({ kind: 'auto' }), ['up.example', true])
})

t.test('a weighted cluster may have a host and a metadata match of its own', async (t) => {
  const clusters = [
    { name: 'a', weight: 1, hostRewrite: 'own', metadataMatch: { v: 2, o: { y: 1 } } },
    { name: 'b', weight: 1 },
  ]
  const action = forward('', {
    cluster: { kind: 'weighted', clusters },
    hostRewrite: { kind: 'auto' },
    metadataMatch: { v: 1, z: 'x', o: { x: 1 } },
  })
  const routes = compile(table([host([route('r', action)])]))
  const a = routes.match(stream({ random: 0 }))?.action
  const b = routes.match(stream({ random: 0.9 }))?.action
  t.match(a, { autoHostRewrite: false })
  t.same(a?.kind === 'route' && a.metadataMatch, { v: 2, z: 'x', o: { y: 1 } }, 'label by label')
  t.equal(a?.kind === 'route' && a.rewriteHost?.(stream(), 'up'), 'own')
  t.match(b, { autoHostRewrite: true, metadataMatch: { v: 1, z: 'x' } })
})

t.test('a redirect changes what it names and keeps the rest', async (t) => {
  const to = (more: Partial<Parameters<typeof only>[0]>, asked: Asked, match: RouteMatchConfig = ANY): string => {
    const config = { kind: 'redirect', status: 301, stripQuery: false, ...more } as RouteConfig['action']
    const { action } = only(config, match, asked)
    return action.kind === 'redirect' ? action.location(stream(asked)) : ''
  }
  const plain = { authority: 'a.example:80', path: '/x/y?q=1' }
  t.equal(to({ https: true }, plain), 'https://a.example/x/y?q=1', 'the port of the old scheme goes')
  t.equal(to({ scheme: 'https' }, { ...plain, authority: 'a.example:81' }), 'https://a.example:81/x/y?q=1')
  t.equal(to({ https: true, port: 8443 }, plain), 'https://a.example:8443/x/y?q=1')
  t.equal(to({ https: true }, { ...plain, authority: '[::1]:80' }), 'https://[::1]/x/y?q=1')
  t.equal(to({ https: true }, { ...plain, authority: '[::1]' }), 'https://[::1]/x/y?q=1')
  t.equal(to({ scheme: 'http' }, { authority: 'a:443', scheme: 'https' }), 'http://a/')
  t.equal(to({ host: 'b.example' }, plain), 'http://b.example/x/y?q=1')
  t.equal(to({ host: 'b.example', stripQuery: true }, plain), 'http://b.example/x/y')
  t.equal(to({ path: '/new' }, plain), 'http://a.example:80/new?q=1')
  t.equal(to({ path: '/new', stripQuery: true }, plain), 'http://a.example:80/new')
  t.equal(to({ path: '/new?own', stripQuery: true }, plain), 'http://a.example:80/new?own')
  const x: RouteMatchConfig = { path: { kind: 'prefix', value: '/x', caseSensitive: true } }
  t.equal(to({ prefixRewrite: '/z' }, plain, x), 'http://a.example:80/z/y?q=1')
  t.equal(to({ prefixRewrite: '/z', stripQuery: true }, plain, x), 'http://a.example:80/z/y')
  const regexRewrite = { regex: '/x/(.*)', substitution: '/\\1/x' }
  t.equal(to({ regexRewrite }, plain), 'http://a.example:80/y/x?q=1')
})

t.test('direct responses, and routes that do not forward', async (t) => {
  const direct = (more: object): CompiledRoute<string>['action'] =>
    only({ kind: 'direct', status: 418, ...more } as RouteConfig['action']).action
  const body = (action: CompiledRoute<string>['action']): string | Buffer | undefined =>
    action.kind === 'direct' ? action.body?.(stream()) : 'not direct'
  t.equal(body(direct({ body: 'tea' })), 'tea')
  t.equal(body(direct({})), undefined)
  t.same(body(direct({ bodyBase64: 'AAH/' })), Buffer.from([0, 1, 255]))
  const format = direct({ body: 'tea', bodyFormat: { kind: 'json', json: {} } })
  t.equal(body(format), 'json:tea')
  t.match(format, { status: 418, contentType: 'application/json' })
  t.same(only({ kind: 'none' }).action, { kind: 'none' })
  t.equal(only({ kind: 'none' }).cluster, '')
})

t.test('mirrors are those of the most specific level that has any', async (t) => {
  const mirror = (cluster: string) => [{ cluster, appendShadow: true }]
  const levels = (own: string | undefined, ofHost: string | undefined): string | undefined => {
    const action = forward('c', { mirrors: own === undefined ? [] : mirror(own) })
    const config = table([host([route('r', action)], ofHost === undefined ? {} : { mirrors: mirror(ofHost) })], {
      mirrors: mirror('table'),
    })
    const found = compile(config).match(stream())?.action
    return found?.kind === 'route' ? found.mirrors.map((m) => m.cluster(stream())).join() : undefined
  }
  t.equal(levels('route', 'host'), 'route')
  t.equal(levels(undefined, 'host'), 'host')
  t.equal(levels(undefined, undefined), 'table')
  const mirrors = [
    { clusterHeader: 'x-m', appendShadow: false, fraction: { numerator: 10, denominator: 100 } as const },
  ]
  const { action } = only(forward('c', { mirrors }))
  const [compiled] = action.kind === 'route' ? action.mirrors : []
  t.equal(compiled.cluster(stream({ raw: ['x-m', 'm'] })), 'm')
  t.equal(compiled.cluster(stream()), undefined)
  t.same([compiled.sampled?.(0.09), compiled.sampled?.(0.1)], [true, false])
})

t.test('what a compiled route tells filters and the router', async (t) => {
  const action = forward('c', { timeoutMs: 0, idleTimeoutMs: 5, maxStreamDurationMs: 6, grpcTimeoutMaxMs: 7 })
  const config = table(
    [
      host(
        [route('r', { ...action, priority: 'high', grpcTimeoutOffsetMs: 8 }, { metadata: { n: 1 }, statPrefix: 's' })],
        {
          includeAttemptCount: true,
          includeAttemptCountInResponse: true,
        },
      ),
    ],
    { internalOnlyHeaders: ['X-Secret'] },
  )
  const routes = compile(config)
  t.match(routes.match(stream()), {
    name: 'r',
    virtualHost: 'vh',
    cluster: 'c',
    metadata: { n: 1 },
    statPrefix: 's',
    includeAttemptCount: true,
    includeAttemptCountInResponse: true,
    requestHeaderEdits: undefined,
    action: {
      timeoutMs: 0,
      idleTimeoutMs: 5,
      maxStreamDurationMs: 6,
      grpcTimeoutMaxMs: 7,
      grpcTimeoutOffsetMs: 8,
      priority: 'high',
    },
  })
  t.same(routes.internalOnlyHeaders, ['x-secret'])
  t.equal(routes.name, 'rt')
})

t.test('a matcher tree chooses a route, which must then match by itself', async (t) => {
  const own: RouteMatchConfig = { path: { kind: 'prefix', value: '/one', caseSensitive: true } }
  const matcher: VirtualHostConfig['matcher'] = {
    tree: {
      input: { kind: 'request-header', name: 'x-to' },
      kind: 'exact',
      map: [['1', { action: route('one', forward('one'), { match: own }) }]],
    },
    onNoMatch: { action: route('other') },
  }
  const routes = compile(table([host([], { matcher })]))
  t.equal(routes.match(stream({ raw: ['x-to', '1'], path: '/one/x' }))?.cluster, 'one')
  t.equal(routes.match(stream({ raw: ['x-to', '1'], path: '/two' })), undefined)
  t.equal(routes.match(stream({ path: '/two' }))?.cluster, 'other')
})

t.test('what cannot be compiled names its route', async (t) => {
  const bad = (more: Partial<RouteConfig>, reason: RegExp): void => {
    const build = (): unknown => compile(table([host([route('bad', forward('c'), more)])]))
    t.throws(build, reason)
  }
  bad({ match: { path: { kind: 'regex', value: '(?=x)' } } }, /^.*route "bad" of virtual host "vh": invalid regex/)
  bad({ match: { path: { kind: 'template', value: 'x' } } }, /route "bad" of virtual host "vh": invalid URI template/)
  bad({ requestHeaders: { remove: ['host'], add: [] } }, /route "bad" .*can't be added/)
  const hostRewrite = { kind: 'format', value: '%BAD' } as const
  bad({ action: forward('c', { hostRewrite }) }, /route "bad" .*bad format/)
})

t.test('compiling pauses often enough that a large table need not block', async (t) => {
  const routes = Array.from({ length: 1_000 }, (_, i) =>
    route(`r${i}`, forward('c'), { match: { path: { kind: 'exact', value: `/${i}`, caseSensitive: true } } }),
  )
  const steps = routeTableSteps(table([host(routes)]), deps())
  let pauses = 0
  let step = steps.next()
  for (; step.done !== true; step = steps.next()) pauses++
  t.ok(pauses >= 15, `${pauses} pauses`)
  t.equal(step.value.match(stream({ path: '/999' }))?.name, 'r999')
})

t.test('an upgrade is allowed by the route where it speaks of it, else by the connection manager', async (t) => {
  const manager = [
    { type: 'websocket', enabled: true },
    { type: 'connect', enabled: false },
  ]
  t.equal(upgradeAllowed('WebSocket', manager, undefined), true)
  t.equal(upgradeAllowed('websocket', manager, [{ type: 'WEBSOCKET', enabled: false }]), false)
  t.equal(upgradeAllowed('connect', manager, [{ type: 'connect', enabled: true }]), true)
  t.equal(upgradeAllowed('h2c', manager, []), false)
  t.equal(upgradeAllowed('websocket', [], [{ type: 'other', enabled: true }]), false)
})

t.test('a certificate that is shown and one that is verified are two questions', async (t) => {
  const routes = compile(
    table([
      host([
        route('verified', forward('c'), { match: { ...ANY, tls: { validated: true } } }),
        route('shown', forward('c'), { match: { ...ANY, tls: { presented: true } } }),
        route('none', forward('c'), { match: { ...ANY, tls: { presented: false, validated: false } } }),
      ]),
    ]),
  )
  const name = (certificate?: Asked['certificate']): string | undefined => routes.match(stream({ certificate }))?.name
  t.equal(name(true), 'verified')
  t.equal(name('unverified'), 'shown')
  t.equal(name(false), 'none')
  t.equal(name(), 'none')
})
