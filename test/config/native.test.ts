import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { FilterFactory, HttpFilter } from '../../lib/chain/filter.ts'
import { type AnyFilterFactory, createFilterRegistry } from '../../lib/chain/registry.ts'
import { EDGE_OUTLIER } from '../../lib/config/defaults.ts'
import type { HttpConnectionManagerConfig, HttpFilterConfig } from '../../lib/config/listener.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { NativeCluster } from '../../lib/config/native/clusters.ts'
import type { NativeConfig } from '../../lib/config/native/config.ts'
import type { NativeHttp } from '../../lib/config/native/http.ts'
import { readNativeConfig } from '../../lib/config/native/read.ts'
import type { NativeRoute } from '../../lib/config/native/routes.ts'
import { validateConfig } from '../../lib/config/validate.ts'
import { ConfigRefused } from '../../lib/core/errors.ts'
import { EDGE_HTTP2 } from '../../lib/http2/config.ts'
import type { RouteConfig, RouteTableConfig } from '../../lib/router/config.ts'
import { routerFactory } from '../../lib/router/router.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import { httpOf, managerOf, tableOf } from '../support/chains.ts'
import { FAKE_LISTENER_FILTERS, FAKE_NETWORK_FILTERS } from '../xds-client/fake-lower-filters.ts'

/** A filter that takes a text, and another one per route. */
const tag: FilterFactory<{ text: string }> = {
  name: 'test.filters.tag',
  typeUrls: ['test.Tag'],
  routeTypeUrls: ['test.TagPerRoute', 'test.Tag'],
  parse(fields) {
    const text = fields.string('text')
    if (text === 'bad') fields.error('text', 'must not be bad')
    fields.ignore('colour')
    return { text }
  },
  parseRoute: (fields) => ({ text: `route:${fields.string('text')}` }),
  compile: () => ({}),
}
const filterObject: HttpFilter = { onEnd() {} }

const registry = createFilterRegistry([tag, routerFactory])
const MINIMAL_ROUTE: NativeRoute = { match: {}, action: { kind: 'direct', status: 200 } }

function read(config: unknown): GatewayConfig {
  return readNativeConfig(config, { registry })
}

/** Every mistake as `path: message`. */
function mistakes(config: unknown): string[] {
  try {
    read(config)
    return []
  } catch (error) {
    if (!(error instanceof ConfigRefused)) throw error
    return error.errors.map(String)
  }
}

function withHttp(
  http: unknown,
  clusters: readonly unknown[] = [{ name: 'web', endpoints: ['127.0.0.1:1'] }],
): unknown {
  return { listeners: [{ name: 'main', address: '127.0.0.1:8080', http }], clusters }
}

function withRoute(route: unknown): unknown {
  return withHttp({ routes: [route] })
}

function readHttp(http: NativeHttp): HttpConnectionManagerConfig {
  return managerOf(read(withHttp(http)).listeners[0])
}

function readRoute(route: NativeRoute): RouteConfig {
  return tableOf(readHttp({ routes: [route] })).virtualHosts[0].routes[0]
}

function readCluster(cluster: NativeCluster): ClusterConfig {
  return read({ listeners: [], clusters: [cluster] }).clusters[0]
}

/** Mistakes in a route, without the path that leads to it. */
function routeMistakes(route: unknown): string[] {
  return mistakes(withRoute(route)).map((text) => text.replace('listeners[0].http.routes[0].', ''))
}

t.test('what is left out gets a default that is safe at the edge', async (t) => {
  const config: NativeConfig = {
    listeners: [{ address: '0.0.0.0:80', http: { routes: [] } }],
    clusters: [{ name: 'web', endpoints: ['127.0.0.1:1'] }],
  }
  const { listeners, clusters, overload: _, ...rest } = read(config)
  t.same(rest, { node: { id: '', cluster: '' }, runtime: {}, ignored: [] })
  const { filterChains, ...listener } = listeners[0]
  t.same(listener, {
    name: '0.0.0.0:80',
    statPrefix: '0.0.0.0_80',
    addresses: [{ kind: 'ip', host: '0.0.0.0', port: 80 }],
    internal: false,
    bufferLimitBytes: 32_768,
    listenerFilters: [],
    listenerFiltersTimeoutMs: 5_000,
    continueOnListenerFiltersTimeout: false,
    drainType: 'default',
    ignoreGlobalLimit: false,
    backlog: 65_535,
    maxConnections: 10_000,
    accessLogs: [],
  })
  const { routes, filters, ...http } = httpOf(filterChains[0])
  t.same(http, {
    statPrefix: '0.0.0.0:80',
    codec: 'auto',
    serverName: 'headgate',
    serverHeader: 'overwrite',
    via: '',
    addUserAgent: false,
    generateRequestId: true,
    preserveExternalRequestId: false,
    requestIdInResponse: false,
    useRemoteAddress: true,
    xffTrustedHops: 0,
    skipXffAppend: false,
    appendXForwardedPort: false,
    originalIpDetection: [],
    internalCidrs: [],
    internalUnixSockets: false,
    misdirected: 'refuse',
    normalizePath: true,
    mergeSlashes: true,
    escapedSlashes: 'redirect',
    stripPort: 'none',
    stripTrailingHostDot: false,
    underscores: 'reject',
    idleTimeoutMs: 75_000,
    requestTimeoutMs: 300_000,
    requestHeadersTimeoutMs: 10_000,
    streamIdleTimeoutMs: 300_000,
    maxStreamDurationMs: 0,
    maxConnectionDurationMs: 0,
    drainTimeoutMs: 5_000,
    delayedCloseTimeoutMs: 1_000,
    maxRequestsPerConnection: 1_000,
    maxRequestHeaderBytes: 61_440,
    maxRequestHeaders: 100,
    maxRequestLineBytes: 8_192,
    earlyHeaderMutations: [],
    proxy100Continue: false,
    http1: {
      acceptHttp10: false,
      defaultHostForHttp10: '',
      enableTrailers: false,
      headerCase: 'lower',
      allowAbsoluteUrl: true,
    },
    http2: EDGE_HTTP2,
    localReply: { mappers: [] },
    accessLogs: [],
    upgrades: [],
  })
  t.same(
    filters.map((filter) => filter.typeUrl),
    ['envoy.extensions.filters.http.router.v3.Router'],
  )
  t.match(routes, { validateClusters: true, maxDirectResponseBodyBytes: 4_096, virtualHosts: [{ domains: ['*'] }] })
  const limits = { maxConnections: 1_024, maxPendingRequests: 1_024, maxRequests: 1_024, maxRetries: 3 }
  t.same(clusters, [
    {
      name: 'web',
      statName: 'web',
      type: 'static',
      localities: [
        {
          priority: 0,
          endpoints: [{ address: { kind: 'ip', host: '127.0.0.1', port: 1 }, weight: 1, health: 'healthy' }],
        },
      ],
      balancer: { kind: 'peak-ewma', decayMs: 10_000 },
      outlier: EDGE_OUTLIER,
      connectTimeoutMs: 5_000,
      bufferLimitBytes: 32_768,
      thresholds: { default: limits, high: limits },
      idleTimeoutMs: 3_600_000,
      maxResponseHeaderBytes: 61_440,
      maxResponseHeaders: 100,
      protocol: 'http1',
      http1: { headerCase: 'lower', enableTrailers: false },
      http2: EDGE_HTTP2,
      preconnectRatio: 1,
    },
  ])
})

t.test('a value that is set is the value that holds, undefined is not set', async (t) => {
  const http = readHttp({
    routes: [],
    statPrefix: 'edge',
    idleTimeoutMs: 0,
    maxRequestHeaders: undefined,
    maxRequestsPerConnection: 7,
    useRemoteAddress: false,
    http1: { acceptHttp10: true },
    upgrades: ['WebSocket', { type: 'connect', enabled: false }],
  })
  t.match(http, { statPrefix: 'edge', idleTimeoutMs: 0, maxRequestHeaders: 100, maxRequestsPerConnection: 7 })
  t.equal(http.useRemoteAddress, false)
  t.match(http.http1, { acceptHttp10: true, allowAbsoluteUrl: true })
  t.same(http.upgrades, [
    { type: 'websocket', enabled: true },
    { type: 'connect', enabled: false },
  ])
  t.equal(readHttp({ routes: [], originalIpDetection: [{ kind: 'xff', trustedHops: 1 }] }).useRemoteAddress, false)
  t.equal(readHttp({ routes: [], misdirected: 'serve' }).misdirected, undefined)
  const told = (clientCertificateHeader: NativeHttp['clientCertificateHeader']): unknown =>
    readHttp({ routes: [], clientCertificateHeader }).clientCertificateHeader
  t.same(told({ mode: 'sanitize-set' }), { mode: 'sanitize-set', fields: ['subject', 'uri', 'dns'] })
  t.same(told({ mode: 'append-forward', fields: [] }), { mode: 'append-forward', fields: [] })
  t.same(told({ mode: 'sanitize', byRequest: { onNoMatch: { action: { mode: 'sanitize-set', format: 'json' } } } }), {
    mode: 'sanitize',
    fields: ['subject', 'uri', 'dns'],
    byRequest: { onNoMatch: { action: { mode: 'sanitize-set', fields: ['subject', 'uri', 'dns'], format: 'json' } } },
  })
})

t.test('addresses are written as text or in parts', async (t) => {
  const addresses = (address: unknown): unknown =>
    read({ listeners: [{ address, http: { routes: [] } }] }).listeners[0].addresses
  t.same(addresses('[::1]:80'), [{ kind: 'ip', host: '::1', port: 80 }])
  t.same(addresses('/run/a.sock'), [{ kind: 'pipe', path: '/run/a.sock' }])
  t.same(addresses({ host: '[::1]', port: 8 }), [{ kind: 'ip', host: '::1', port: 8 }])
  t.same(
    addresses([
      { path: '@abstract', mode: 0o600 },
      { kind: 'ip', host: '10.0.0.1', port: 1 },
    ]),
    [
      { kind: 'pipe', path: '@abstract', mode: 0o600 },
      { kind: 'ip', host: '10.0.0.1', port: 1 },
    ],
  )
  for (const wrong of ['localhost', '127.0.0.1', ':80', '::1:80', '1.2.3.4:65536', 'a b:1', '1.2.3.4:-1', '']) {
    const [first, ...others] = mistakes({ listeners: [{ address: wrong, http: { routes: [] } }] })
    t.match(first, /^listeners\[0\]\.address: ".*" is not an address/, wrong)
    t.ok(
      others.every((text) => /name|address/.test(text)),
      'nothing unrelated follows',
    )
  }
  const listening = mistakes({ listeners: [{ address: 'localhost:80', http: { routes: [] } }] })
  t.same(listening, ['listeners[0].address: malformed IP address "localhost"'])
})

t.test('a route match has one short form for each kind of path', async (t) => {
  const path = (match: NativeRoute['match']): unknown => readRoute({ ...MINIMAL_ROUTE, match }).match.path
  t.same(path({}), { kind: 'prefix', value: '/', caseSensitive: true })
  t.same(path({ prefix: '/a', caseSensitive: false }), { kind: 'prefix', value: '/a', caseSensitive: false })
  t.same(path({ exact: '/a' }), { kind: 'exact', value: '/a', caseSensitive: true })
  t.same(path({ pathSeparatedPrefix: '/a' }), { kind: 'path-separated-prefix', value: '/a', caseSensitive: true })
  t.same(path({ regex: '/a+' }), { kind: 'regex', value: '/a+' })
  t.same(path({ template: '/a/{b}' }), { kind: 'template', value: '/a/{b}' })
  t.same(path({ connect: true }), { kind: 'connect' })
  t.same(path({ path: { kind: 'regex', value: 'x' } }), { kind: 'regex', value: 'x' })
  t.same(routeMistakes({ ...MINIMAL_ROUTE, match: { prefix: '/', exact: '/' } }), [
    'match: only one of prefix, exact may be set',
  ])
})

t.test('conditions on headers, queries, cookies and chance have short and long forms', async (t) => {
  const { match } = readRoute({
    ...MINIMAL_ROUTE,
    match: {
      headers: [
        { name: 'X-A', value: 'b' },
        { name: 'x-b', value: { prefix: 'p', ignoreCase: true }, invert: true },
        { name: 'x-c' },
        { name: 'x-d', present: false },
        { name: 'x-e', range: { start: 1, end: 5 } },
        { name: 'x-f', match: { kind: 'string', string: { kind: 'regex', value: 'r' } }, treatMissingAsEmpty: true },
      ],
      methods: ['GET', "M'S"],
      queryParameters: [{ name: 'q' }, { name: 'r', value: { kind: 'suffix', value: 's' } }],
      cookies: [{ name: 'c', value: { contains: 'v' } }],
      fraction: { percent: 12.5, runtimeKey: 'k' },
      grpc: true,
      tls: { presented: true },
    },
  })
  t.same(match.headers, [
    { name: 'x-a', match: { kind: 'string', string: { kind: 'exact', value: 'b' } } },
    { name: 'x-b', match: { kind: 'string', string: { kind: 'prefix', value: 'p', ignoreCase: true } }, invert: true },
    { name: 'x-c', match: { kind: 'present', present: true } },
    { name: 'x-d', match: { kind: 'present', present: false } },
    { name: 'x-e', match: { kind: 'range', start: 1, end: 5 } },
    { name: 'x-f', match: { kind: 'string', string: { kind: 'regex', value: 'r' } }, treatMissingAsEmpty: true },
    { name: ':method', match: { kind: 'string', string: { kind: 'regex', value: "GET|M\\'S" } } },
  ])
  t.same(match.queryParameters, [
    { name: 'q', match: { kind: 'present' } },
    { name: 'r', match: { kind: 'string', string: { kind: 'suffix', value: 's' } } },
  ])
  t.same(match.cookies, [{ name: 'c', string: { kind: 'contains', value: 'v' } }])
  t.same(match.fraction, { numerator: 125_000, denominator: 1_000_000, runtimeKey: 'k' })
  t.match(match, { grpc: true, tls: { presented: true } })
})

t.test('an action names a cluster, a header or a split', async (t) => {
  const action = readRoute({
    match: { template: '/u/{id}' },
    action: {
      kind: 'route',
      cluster: {
        weighted: [
          { name: 'web', weight: 3, responseHeaders: { append: { 'X-W': '1' } } },
          { clusterHeader: 'X-C', weight: 1 },
        ],
      },
      pathRewrite: { template: '/v/{id}' },
      hostRewrite: 'Other.example',
      mirrors: ['web', { clusterHeader: 'X-M', appendShadow: false, fraction: { percent: 1 } }],
    },
  }).action
  t.same(action, {
    kind: 'route',
    cluster: {
      kind: 'weighted',
      clusters: [
        {
          name: 'web',
          weight: 3,
          responseHeaders: { remove: [], add: [{ name: 'x-w', value: '1', action: 'append' }] },
        },
        { clusterHeader: 'x-c', weight: 1 },
      ],
    },
    clusterNotFoundStatus: 503,
    timeoutMs: 15_000,
    pathRewrite: { kind: 'template', value: '/v/{id}' },
    hostRewrite: { kind: 'literal', value: 'Other.example' },
    mirrors: [
      { cluster: 'web', appendShadow: true },
      { clusterHeader: 'x-m', fraction: { numerator: 10_000, denominator: 1_000_000 }, appendShadow: false },
    ],
    priority: 'default',
  })
  const choice = (cluster: unknown): unknown =>
    (readRoute({ match: {}, action: { kind: 'route', cluster: cluster as 'web' } }).action as { cluster: unknown })
      .cluster
  t.same(choice('web'), { kind: 'cluster', name: 'web' })
  t.same(choice({ header: 'X-To' }), { kind: 'header', name: 'x-to' })
  t.same(choice({ kind: 'cluster', name: 'web' }), { kind: 'cluster', name: 'web' })
  const redirect = readRoute({ match: {}, action: { kind: 'redirect', https: true } }).action
  t.same(redirect, { kind: 'redirect', https: true, status: 301, stripQuery: false })
})

t.test('header edits by name become a list, the long form first', async (t) => {
  const { requestHeaders } = readRoute({
    ...MINIMAL_ROUTE,
    requestHeaders: {
      remove: ['X-Gone'],
      set: { 'X-Set': '%PROTOCOL%' },
      append: { 'x-more': 'm' },
      addIfAbsent: { 'x-new': 'n' },
      add: [{ name: 'X-Long', value: 'l', action: 'overwrite-if-exists' }],
    },
  })
  t.same(requestHeaders, {
    remove: ['x-gone'],
    add: [
      { name: 'x-long', value: 'l', action: 'overwrite-if-exists' },
      { name: 'x-set', value: '%PROTOCOL%', action: 'overwrite-or-add' },
      { name: 'x-more', value: 'm', action: 'append' },
      { name: 'x-new', value: 'n', action: 'add-if-absent' },
    ],
  })
})

t.test('filters are named, given as objects, or brought by their factory', async (t) => {
  const http = readHttp({
    filters: [
      { name: 'tag', config: { text: 'one', colour: 'red' } },
      { name: 'second', type: 'test.Tag', config: { text: 'two' }, disabled: true },
      { name: 'third', type: 'test.filters.tag' },
      tag,
      { factory: tag, name: 'fifth', config: { text: 'five' } },
      { name: 'object', filter: filterObject },
    ],
    routes: [
      {
        ...MINIMAL_ROUTE,
        filterConfigs: {
          tag: { config: { text: 'r' } },
          second: true,
          object: false,
          fifth: { config: {}, type: 'test.Tag' },
        },
      },
    ],
  })
  const rest = { typeUrl: 'test.Tag', disabled: false }
  t.same(http.filters.slice(0, 5), [
    { ...rest, name: 'tag', config: { text: 'one' } },
    { ...rest, name: 'second', config: { text: 'two' }, disabled: true },
    { ...rest, name: 'third', config: { text: '' } },
    { ...rest, name: 'test.filters.tag', config: { text: '' } },
    { ...rest, name: 'fifth', config: { text: 'five' } },
  ])
  t.equal(http.filters[5].instance, filterObject, 'the very object')
  t.equal(http.filters[6].name, 'envoy.filters.http.router', 'the router is appended')
  t.same(
    { ...tableOf(http).virtualHosts[0].routes[0].filterConfigs },
    {
      tag: { config: { typeUrl: 'test.TagPerRoute', value: { text: 'route:r' } } },
      second: { disabled: false },
      object: { disabled: true },
      fifth: { config: { typeUrl: 'test.Tag', value: { text: 'route:' } } },
    },
  )
  const explicit = readHttp({ filters: [{ name: 'last', type: 'router' }], routes: [] }).filters
  t.same(
    explicit.map((filter: HttpFilterConfig) => filter.name),
    ['last'],
    'a router that is listed is not appended again',
  )
  t.same(read(withHttp({ filters: [{ name: 'tag', config: { colour: 'red' } }], routes: [] })).ignored, [
    'listeners[0].http.filters[0].config.colour',
  ])
})

t.test('mistakes of filters carry their paths', async (t) => {
  const other: AnyFilterFactory = { ...tag, name: 'other', typeUrls: ['test.Other'] }
  const config = withHttp({
    filters: [
      { name: 'tga' },
      { name: 'a', type: 'tag', config: { text: 'bad', txet: 1 } },
      { name: 'router' },
      { name: 'a', filter: filterObject },
      other,
    ],
    routes: [
      { ...MINIMAL_ROUTE, filterConfigs: { b: false, a: { type: 'test.Nope', config: {} }, router: false } },
      { ...MINIMAL_ROUTE, filterConfigs: { a: { config: { txet: 1 } } } },
    ],
  })
  t.same(mistakes(config), [
    'listeners[0].http.filters[0]: no filter is called "tga", did you mean "tag"?; this gateway has tag, router',
    'listeners[0].http.filters[1].config.text: must not be bad',
    'listeners[0].http.filters[1].config.txet: unknown field',
    'listeners[0].http.filters[4]: the factory "other" is not one that this gateway was created with',
    'listeners[0].http.routes[0].filterConfigs["b"]: no filter of the chain is called "b"',
    'listeners[0].http.routes[0].filterConfigs["a"].config: filter "a" is an object: it takes no per-route configuration',
    'listeners[0].http.routes[1].filterConfigs["a"].config: filter "a" is an object: it takes no per-route configuration',
    'listeners[0].http.filters[2]: "router" ends the filter chain and must be the last filter',
    'listeners[0].http.filters[3].name: a second HTTP filter "a"',
    'listeners[0].http.routes[0].filterConfigs["router"]: "router" ends the filter chain and cannot be disabled',
  ])
})

t.test('clusters have members, names or destinations in place of endpoints', async (t) => {
  t.match(readCluster({ name: 'a', members: ['b', 'c'] }), { type: 'aggregate', members: ['b', 'c'], localities: [] })
  t.match(readCluster({ name: 'a', type: 'composite', members: ['b'] }), { type: 'composite', members: ['b'] })
  const open = readCluster({ name: 'a', forwardProxy: {} })
  t.match(open, {
    type: 'dynamic-forward-proxy',
    forwardProxy: { maxHosts: 1_024, hostTtlMs: 300_000 },
    dns: { queryTimeoutMs: 5_000, minRefreshMs: 5_000, addresses: { kind: 'deny' } },
  })
  const ranges = open.dns?.addresses?.ranges.map(({ address, prefixLength }) => `${address}/${prefixLength}`)
  for (const range of ['127.0.0.0/8', '10.0.0.0/8', '169.254.0.0/16', 'fc00::/7']) t.ok(ranges?.includes(range), range)
  t.equal(readCluster({ name: 'a', forwardProxy: { addresses: 'any' } }).dns?.addresses, undefined)
  const forward: NativeCluster = {
    name: 'a',
    forwardProxy: {
      addresses: { allow: ['10.0.0.0/8', 'fd00::1'] },
      preresolve: ['a.example:443'],
      maxHosts: 3,
      balanceWithin: 'random',
    },
  }
  t.same(readCluster({ name: 'a', forwardProxy: { store: { path: '/names', maxEntries: 5 } } }).forwardProxy?.store, {
    path: '/names',
    flushMs: 1_000,
    maxEntries: 5,
  })
  t.match(readCluster(forward), {
    dns: { addresses: { kind: 'allow', ranges: [{ address: '10.0.0.0', prefixLength: 8 }, { prefixLength: 128 }] } },
    forwardProxy: {
      preresolve: [{ host: 'a.example', port: 443 }],
      maxHosts: 3,
      subClusters: { balancer: { kind: 'random' } },
    },
  })
  const metadata = { namespace: 'n', path: ['p'] }
  t.match(readCluster({ name: 'a', originalDst: { header: 'X-To', metadata, port: 443 } }), {
    type: 'original-dst',
    originalDst: { header: 'x-to', metadata, port: 443, cleanupMs: 5_000 },
  })
  const of = (...clusters: unknown[]): string[] => mistakes({ listeners: [], clusters })
  t.same(
    of({ name: 'a', type: 'static', members: ['b'] }, { name: 'b', type: 'aggregate', endpoints: ['10.0.0.1:1'] }),
    [
      'clusters[0].type: "static" is not what the cluster is: aggregate',
      'clusters[1].type: "aggregate" has no endpoints',
    ],
  )
  t.same(of({ name: 'a', members: ['b'] }, { name: 'b', members: ['c', 'c'] }, { name: 'c', members: ['a', 'c'] }), [
    'clusters[1].members[1]: "c" is named twice',
    'clusters[2].members[1]: "c" is the cluster itself',
    'clusters[0].members: make a circle: a → b → c → a',
  ])
  t.same(of({ name: 'a', forwardProxy: { addresses: { deny: ['10.0.0.0/33'] }, preresolve: ['/run/x'] } }), [
    'clusters[0].forwardProxy.preresolve[0]: "/run/x" is not host:port',
    'clusters[0].forwardProxy.addresses.deny[0]: "10.0.0.0/33" is not an IP address range',
  ])
  t.same(of({ name: 'a', forwardProxy: { store: { path: '/names' }, balanceWithin: 'random' } }), [
    'clusters[0].forwardProxy.store: does not go with balanceWithin',
  ])
  t.same(of({ name: 'a', originalDst: { header: 'a b' }, endpoints: [] }), [
    'clusters[0]: only one of endpoints, originalDst may be set',
  ])
})

t.test('the endpoints of a cluster are those of a service', async (t) => {
  const found = readCluster({ name: 'a', service: '_http._tcp.a.example', dns: { tcp: true, rotate: true } })
  t.match(found, {
    type: 'srv',
    service: '_http._tcp.a.example',
    localities: [],
    dns: { respectTtl: true, asking: { tcp: true, rotate: true } },
  })
  t.equal(readCluster({ name: 'a', type: 'srv', service: 'a.' }).dns?.asking, undefined)
  const of = (...clusters: unknown[]): string[] => mistakes({ listeners: [], clusters })
  t.same(of({ name: 'a', service: '_http._tcp..b' }, { name: 'b', service: '_x._tcp.b', type: 'strict-dns' }), [
    'clusters[1].type: "strict-dns" is not what the cluster is: srv',
    'clusters[0].service: "_http._tcp..b" is not the name of SRV records',
  ])
  t.same(of({ name: 'a', type: 'srv', endpoints: ['a:1'] }), ['clusters[0].type: "srv" has no endpoints'])
  t.same(of({ name: 'a', service: '_x._tcp.b', endpoints: ['a:1'] }), [
    'clusters[0]: only one of endpoints, service may be set',
  ])
})

t.test('clusters choose their type by their endpoints', async (t) => {
  t.equal(readCluster({ name: 'a', endpoints: ['10.0.0.1:1', '/run/a.sock'] }).type, 'static')
  const named = readCluster({
    name: 'a',
    endpoints: ['a.example:80', { address: { host: '::1', port: 2 }, weight: 3 }],
  })
  t.equal(named.type, 'strict-dns')
  t.match(named.dns, { refreshMs: 5_000, failureRefreshMaxMs: 50_000, respectTtl: true, resolvers: [] })
  t.same(named.localities[0].endpoints[1], {
    address: { kind: 'ip', host: '::1', port: 2 },
    weight: 3,
    health: 'healthy',
  })
  const logical = readCluster({
    name: 'a',
    type: 'logical-dns',
    localities: [{ priority: 1, locality: { zone: 'z' }, endpoints: ['a.example:80'] }],
    balancer: { kind: 'least-request', choiceCount: 4 },
    thresholds: { high: { maxRetries: 9 } },
    maxConnectionsPerHost: 2,
  })
  t.same(logical.balancer, { kind: 'least-request', choiceCount: 4, activeRequestBias: 1 })
  t.match(logical.thresholds, { high: { maxRetries: 9, maxRequests: 1_024 }, default: { maxRetries: 3 } })
  t.match(logical.localities, [{ priority: 1, locality: { region: '', zone: 'z', subZone: '' } }])
  t.equal(logical.maxConnectionsPerHost, 2)
})

t.test('balancers in their native forms', async (t) => {
  const balancer = (form: unknown): unknown =>
    readCluster({ name: 'a', endpoints: [], balancer: form as NativeCluster['balancer'] }).balancer
  const slowStart = { windowMs: 30_000, aggression: 1, minWeightPercent: 10 }
  const zoneAware = { kind: 'zone-aware', enabledPercent: 100, minClusterSize: 6, failOnPanic: false }
  for (const [form, expected] of [
    ['random', { kind: 'random' }],
    ['least-request', { kind: 'least-request', choiceCount: 2, activeRequestBias: 1 }],
    [
      { kind: 'least-request', fullScan: true },
      { kind: 'least-request', choiceCount: 2, activeRequestBias: 1, fullScan: true },
    ],
    ['peak-ewma', { kind: 'peak-ewma', decayMs: 10_000 }],
    [
      { kind: 'round-robin', slowStart: { windowMs: 30_000 } },
      { kind: 'round-robin', slowStart },
    ],
    [
      { kind: 'random', localities: 'weighted' },
      { kind: 'random', localities: { kind: 'weighted' } },
    ],
    [
      { kind: 'random', localities: { kind: 'zone-aware' } },
      { kind: 'random', localities: zoneAware },
    ],
    ['ring-hash', { kind: 'ring-hash', minSize: 1024, maxSize: 8_388_608, hash: 'xx', byHostname: false }],
    [
      { kind: 'maglev', tableSize: 251, byHostname: true, balanceFactor: 150, localities: 'weighted' },
      { kind: 'maglev', tableSize: 251, byHostname: true, balanceFactor: 150, localities: { kind: 'weighted' } },
    ],
  ]) {
    t.same(balancer(form), expected, JSON.stringify(form))
  }
  for (const [form, message] of [
    ['fastest', /balancer/],
    [{ kind: 'maglev', tableSize: 250 }, /tableSize: must be a prime number, is 250/],
    [{ kind: 'ring-hash', minSize: 10, maxSize: 5 }, /minSize: is 10, more than maxSize, which is 5/],
    [{ kind: 'ring-hash', balanceFactor: 99 }, /balanceFactor/],
    [{ kind: 'round-robin', slowStart: {} }, /windowMs/],
  ] as const) {
    t.throws(() => balancer(form), { message }, JSON.stringify(form))
  }
})

t.test('balancers that go by what requests ask for, and by what endpoints report, in their native forms', async (t) => {
  const cluster = (rest: Partial<NativeCluster>): unknown => readCluster({ name: 'a', endpoints: [], ...rest })
  const balancer = (form: unknown): unknown =>
    (cluster({ balancer: form as NativeCluster['balancer'] }) as { balancer: unknown }).balancer
  const peak = { kind: 'peak-ewma', decayMs: 10_000 }
  const weights = {
    kind: 'client-weighted',
    blackoutMs: 10_000,
    expirationMs: 180_000,
    updateMs: 1_000,
    errorPenalty: 1,
    metrics: [],
  }
  const selectors = [{ keys: ['a', 'b'], fallback: 'keys', fallbackKeys: ['a'] }]
  const plain = { kind: 'subset', fallback: 'none', defaultLabels: {}, selectors, within: peak }
  for (const [form, expected] of [
    ['client-weighted', weights],
    [
      { kind: 'client-weighted', outOfBand: { port: 90 }, localities: 'weighted', metrics: ['named_metrics.x'] },
      {
        ...weights,
        metrics: ['named_metrics.x'],
        outOfBand: { periodMs: 10_000, port: 90 },
        localities: { kind: 'weighted' },
      },
    ],
    [{ kind: 'subset', selectors }, plain],
    [
      { kind: 'subset', selectors, fallback: 'default', defaultLabels: { v: 1 }, listAsAny: true, within: 'random' },
      { ...plain, fallback: 'default', defaultLabels: { v: 1 }, listAsAny: true, within: { kind: 'random' } },
    ],
    [
      { kind: 'subset', selectors, within: { kind: 'subset', selectors } },
      { ...plain, within: plain },
    ],
    [
      { kind: 'override-host', sources: [{ header: 'X-Go' }, { namespace: 'n', path: ['p', 1] }] },
      { kind: 'override-host', sources: [{ header: 'x-go' }, { namespace: 'n', path: ['p', 1] }], otherwise: peak },
    ],
    [
      { kind: 'override-host', sources: [{ header: 'x' }], otherwise: { kind: 'subset', selectors } },
      { kind: 'override-host', sources: [{ header: 'x' }], otherwise: plain },
    ],
  ]) {
    t.same(balancer(form), expected, JSON.stringify(form))
  }
  for (const [form, message] of [
    ['subset', /balancer/],
    [{ kind: 'subset', selectors: [{ keys: [] }] }, /keys/],
    [{ kind: 'subset', selectors: [{ keys: ['a'], fallback: 'keys' }] }, /fallbackKeys: and fallback keys/],
    [
      { kind: 'subset', selectors: [{ keys: ['a'], fallback: 'keys', fallbackKeys: ['b'] }] },
      /"b" is none of the keys/,
    ],
    [{ kind: 'subset', selectors: [{ keys: ['a'], fallback: 'keys', fallbackKeys: ['a'] }] }, /must not be all keys/],
    [{ kind: 'subset', selectors, within: { kind: 'maglev', tableSize: 4 } }, /within.*must be a prime number/],
    [{ kind: 'subset', selectors, within: { kind: 'override-host', sources: [] } }, /within/],
    [
      { kind: 'subset', selectors, within: { kind: 'subset', selectors: [{ keys: [] }] } },
      /within\.selectors\[0\]\.keys/,
    ],
    [{ kind: 'override-host', sources: [] }, /sources/],
    [{ kind: 'override-host', sources: [{}] }, /sources/],
    [{ kind: 'client-weighted', updateMs: 50 }, /updateMs/],
  ] as const) {
    t.throws(() => balancer(form), { message }, JSON.stringify(form))
  }
  t.match(
    cluster({
      localCluster: { name: 'gateways', locality: { zone: 'z' } },
      assignmentPolicy: { overprovisioningFactor: 200, dropOverload: 0.1 },
      wantedHealth: ['healthy'],
      predictiveRatio: 2,
    }),
    {
      localCluster: { name: 'gateways', locality: { region: '', zone: 'z', subZone: '' } },
      assignmentPolicy: { overprovisioningFactor: 200, dropOverload: 0.1 },
      wantedHealth: ['healthy'],
      predictiveRatio: 2,
    },
  )
})

t.test('outlier detection and health checks in their native forms', async (t) => {
  t.equal(readCluster({ name: 'a', endpoints: [], outlier: false }).outlier, undefined)
  const judged = readCluster({
    name: 'a',
    endpoints: [{ address: '10.0.0.1:80', check: { port: 81, hostname: 'checks.test' } }],
    outlier: { consecutive5xx: 3, enforcing: { failurePercentage: 50 } },
    healthCheck: {
      http: { path: '/up', headers: { 'X-Probe': '1' }, expectedStatuses: [200, 204], receive: ['ok'] },
      intervalMs: 2_000,
      eventLogPath: '/dev/null',
    },
    ignoreHealthOnRemoval: true,
    closeOnHealthFailure: true,
    ignoreUnchecked: true,
  })
  t.same(judged.outlier, {
    ...EDGE_OUTLIER,
    consecutive5xx: 3,
    enforcing: { ...EDGE_OUTLIER.enforcing, failurePercentage: 50 },
  })
  const evicting = (retryAfter: object | true): unknown =>
    readCluster({ name: 'a', endpoints: [], outlier: { retryAfter } }).outlier?.retryAfter
  t.same(evicting(true), { statuses: [429, 503], maxMs: 30_000 })
  t.same(evicting({ statuses: [429], maxMs: 5_000 }), { statuses: [429], maxMs: 5_000 })
  t.match(judged, { ignoreHealthOnRemoval: true, closeOnHealthFailure: true, ignoreUnchecked: true })
  t.same(judged.localities[0].endpoints[0].check, { port: 81, hostname: 'checks.test', disabled: false })
  t.match(judged.healthCheck, {
    timeoutMs: 1_000,
    intervalMs: 2_000,
    noTrafficIntervalMs: 2_000,
    unhealthyEdgeIntervalMs: 2_000,
    unhealthyThreshold: 3,
    healthyThreshold: 2,
    eventLogPaths: ['/dev/null'],
    probe: {
      kind: 'http',
      method: 'GET',
      path: '/up',
      headers: ['x-probe', '1'],
      receive: [Buffer.from('ok').toString('base64')],
      expectedStatuses: [
        { start: 200, end: 201 },
        { start: 204, end: 205 },
      ],
    },
  })
  const probeOf = (healthCheck: NativeCluster['healthCheck']): unknown =>
    readCluster({ name: 'a', endpoints: [], healthCheck }).healthCheck?.probe
  t.same(probeOf({ grpc: { service: 'shop.Cart' } }), {
    kind: 'grpc',
    service: 'shop.Cart',
    authority: '',
    metadata: [],
  })
  t.same(probeOf({ tcp: {} }), { kind: 'tcp', receive: [] })
  t.same(probeOf({ tcp: { proxyProtocol: 2 } }), { kind: 'tcp', receive: [], proxyProtocol: 2 })
  t.same(probeOf({ redis: {} }), { kind: 'redis', key: '' })
  t.same(probeOf({ redis: { key: 'down' } }), { kind: 'redis', key: 'down' })
  const degrading = { name: 'a', endpoints: [], outlier: { detectDegradedHosts: true } }
  t.equal(readCluster(degrading).outlier?.detectDegradedHosts, true)
  const bad = (cluster: object): string =>
    mistakes({ listeners: [], clusters: [{ name: 'a', endpoints: [], ...cluster }] }).join()
  const secured = {
    name: 'a',
    endpoints: [],
    transports: { checks: {} },
    healthCheck: { tcp: {}, transport: 'checks' },
  }
  t.same(readCluster(secured).healthCheck?.transportLabels, { transport: 'checks' })
  t.match(bad({ healthCheck: { tcp: {}, transport: 'checks' } }), /healthCheck\.transport: unknown transport "checks"/)
  t.match(bad({ healthCheck: { tcp: {}, grpc: {} } }), /healthCheck/)
  t.match(bad({ healthCheck: { tcp: { proxyProtocol: 3 } } }), /proxyProtocol.*must be 1 or 2/)
  t.match(bad({ healthCheck: { http: { path: 'a b' } } }), /path.*visible ASCII/)
  t.match(bad({ healthCheck: { http: { path: '/', headers: { host: 'x' } } } }), /"host" is not a header/)
  t.match(bad({ healthCheck: { tcp: {}, intervalMs: 0 } }), /intervalMs/)
  t.match(bad({ outlier: { maxEjectionPercent: 101 } }), /maxEjectionPercent/)
  t.match(bad({ outlier: { retryAfter: { statuses: [500] } } }), /retryAfter\.statuses\[0\].*must be 429 or 503/)
  t.match(bad({ outlier: { retryAfter: { maxMs: 0 } } }), /retryAfter\.maxMs/)
  t.match(bad({ outlier: { baseEjectionTimeMs: 9, maxEjectionTimeMs: 5 } }), /must not be less than baseEjectionTimeMs/)
})

t.test('mistakes in clusters', async (t) => {
  const of = (...clusters: unknown[]): string[] => mistakes({ listeners: [], clusters })
  t.same(of({ name: 'a', type: 'static', endpoints: ['a.example:1'] }), [
    'clusters[0].endpoints[0]: malformed IP address "a.example"',
  ])
  t.same(of({ name: 'a', endpoints: ['a.example:1', '/run/x'] }), [
    'clusters[0].endpoints[1]: a DNS cluster cannot have Unix sockets',
  ])
  t.same(of({ name: 'a', type: 'logical-dns', endpoints: ['a.example:1', 'b.example:1'] }), [
    'clusters[0]: a logical DNS cluster must have a single endpoint, this one has 2',
  ])
  t.same(of({ name: 'a', endpoints: [{ address: '10.0.0.1:0' }, 'a_b!:1'] }), [
    'clusters[0].endpoints[0].address: port 0 cannot be connected to',
    'clusters[0].endpoints[1]: "a_b!" is neither an IP address nor a name',
  ])
  t.same(of({ name: 'a', endpoints: ['a:1'], dns: { resolvers: ['ns.example:53', '[::1]:53'] } }), [
    'clusters[0].dns.resolvers[0]: "ns.example:53" is not an IP address with a port',
  ])
  t.same(of({ name: 'a', endpoints: ['a:1'], dns: { failureRefreshMs: 9, failureRefreshMaxMs: 8 } }), [
    'clusters[0].dns.failureRefreshMaxMs: must not be shorter than failureRefreshMs',
  ])
  t.same(of({ name: 'a', endpoints: [] }, { name: 'a', endpoints: [], bindAddress: 'x' }), [
    'clusters[1].name: a second cluster "a"',
    'clusters[1].bindAddress: malformed IP address "x"',
  ])
  t.same(of({ name: 'a' }), [
    'clusters[0]: one of endpoints, localities, service, members, forwardProxy, originalDst is required',
  ])
})

t.test('shapes are judged field by field, all of them at once', async (t) => {
  t.same(mistakes(undefined), ['is required'])
  t.same(mistakes([]), ['must be an object, is a list'])
  t.same(mistakes({}), ['listeners: is required'])
  const found = mistakes({
    listners: [],
    listeners: [
      {
        address: 8080,
        http: {
          idleTimeoutMs: -1,
          maxRequestHeaders: 1.5,
          streamIdleTimeoutMs: '5s',
          underscores: 'maybe',
          routes: [
            { match: { prefix: 5 }, action: { kind: 'rout' } },
            { action: { kind: 'direct', status: 99 } },
            { match: { headers: [{ name: 'a', value: { exat: 'x' } }] }, action: { kind: 'route' } },
          ],
          filters: [5, { name: 'x', filter: {} }, { name: 'y', config: { f: () => 1 } }],
        },
      },
    ],
    clusters: [{ name: '', endpoints: ['127.0.0.1:1'], thresholds: { high: { maxRequests: -1 } } }],
    runtime: [],
  })
  t.same(
    found.sort(),
    [
      'clusters[0].name: must not be empty',
      'clusters[0].thresholds.high.maxRequests: must be at least 0, is -1',
      'listeners[0].address: must be an address such as "127.0.0.1:8080", is 8080',
      'listeners[0].http.filters[0]: must be a filter: an object with name, and config or filter; or a factory, is 5',
      'listeners[0].http.filters[1].filter: has none of the hooks of a filter: onRequestHeaders, onRequestData, ' +
        'onRequestTrailers, onInformational, onResponseHeaders, onResponseData, onResponseTrailers, onEnd',
      'listeners[0].http.filters[2].config: must be plain JSON data',
      'listeners[0].http.idleTimeoutMs: must be at least 0, is -1',
      'listeners[0].http.maxRequestHeaders: must be a whole number, is 1.5',
      'listeners[0].http.routes[0].action.kind: must be "route", "redirect", "direct" or "none", is "rout"',
      'listeners[0].http.routes[0].match.prefix: must be a text, is 5',
      'listeners[0].http.routes[1].action.status: must be at least 200, is 99',
      'listeners[0].http.routes[1].match: is required',
      'listeners[0].http.routes[2].action.cluster: is required',
      'listeners[0].http.routes[2].match.headers[0].value.exat: unknown field "exat", did you mean "exact"?',
      'listeners[0].http.routes[2].match.headers[0].value: one of exact, prefix, suffix, contains, regex is required',
      'listeners[0].http.streamIdleTimeoutMs: must be a number, is "5s"',
      'listeners[0].http.underscores: must be "allow", "reject" or "drop", is "maybe"',
      'listners: unknown field "listners", did you mean "listeners"?',
      'runtime: must be an object, is a list',
    ].sort(),
  )
})

t.test('mistakes of shape and of meaning are told together, without echoes', async (t) => {
  const found = mistakes({
    listeners: [
      {
        name: 'main',
        address: '127.0.0.1:1',
        http: { idleTimeoutMs: 'x', routes: [{ match: { regex: '(' }, action: { kind: 'route', cluster: 'wbe' } }] },
      },
    ],
    clusters: [{ name: 'web', endpoints: 5 }],
    nodee: {},
  })
  t.same(found, [
    'listeners[0].http.idleTimeoutMs: must be a number, is "x"',
    'clusters[0].endpoints: must be a list, is 5',
    'nodee: unknown field "nodee", did you mean "node"?',
  ])
  const readable = mistakes({
    listeners: [
      {
        name: 'main',
        address: '127.0.0.1:1',
        http: { idleTimeoutMs: 'x', routes: [{ match: { regex: '(' }, action: { kind: 'route', cluster: 'wbe' } }] },
      },
    ],
    clusters: [{ name: 'web', endpoints: ['127.0.0.1:1'], tpye: 'static' }],
  })
  t.same(readable, [
    'listeners[0].http.idleTimeoutMs: must be a number, is "x"',
    'clusters[0].tpye: unknown field "tpye", did you mean "type"?',
    'listeners[0].http.routes[0].match.regex: invalid regex "(": missing closing ): `(`',
    'listeners[0].http.routes[0].action.cluster: unknown cluster "wbe" in virtual host "all", did you mean "web"?',
  ])
})

t.test('names and addresses are unique', async (t) => {
  const http = { routes: [] }
  const found = mistakes({
    admin: { address: '127.0.0.1:9' },
    listeners: [
      { name: 'a', address: ['127.0.0.1:1', '127.0.0.1:0', '127.0.0.1:9'], http },
      { name: 'a', address: ['127.0.0.1:0', '127.0.0.1:1'], http },
    ],
  })
  t.same(found, [
    'listeners[0].address[2]: 127.0.0.1:9 is the address of the admin server already',
    'listeners[1].name: a second listener "a"',
    'listeners[1].address[1]: 127.0.0.1:1 is the address of listener "a" already',
  ])
  const hosts = mistakes(
    withHttp({
      virtualHosts: [
        { name: 'x', domains: ['a.example', 'A.example'], routes: [] },
        { name: 'x', domains: ['a*b', 'a.example'], routes: [] },
      ],
    }),
  )
  t.same(
    hosts.map((text) => text.replace('listeners[0].http.', '')),
    [
      'virtualHosts[0].domains[1]: "a.example" belongs to virtual host "x" already; domains must be unique',
      'virtualHosts[1].name: a second virtual host "x"',
      'virtualHosts[1].domains[0]: "a*b" has "*" in its middle',
      'virtualHosts[1].domains[1]: "a.example" belongs to virtual host "x" already; domains must be unique',
    ],
  )
})

t.test('a route to a cluster that is not there is refused unless the table says otherwise', async (t) => {
  const forward = { name: 'checkout', match: {}, action: { kind: 'route', cluster: 'paymets' } }
  const clusters = [{ name: 'payments', endpoints: [] }]
  t.same(mistakes(withHttp({ routes: [forward] }, clusters)), [
    'listeners[0].http.routes[0].action.cluster: unknown cluster "paymets" in route "checkout", did you mean "payments"?',
  ])
  t.same(mistakes(withHttp({ routes: [forward], routeTable: { validateClusters: false } }, clusters)), [])
  t.same(mistakes(withHttp({ routes: [], routeTable: { mirrors: ['nix'] } }, clusters)), [
    'listeners[0].http.routeTable.mirrors[0]: unknown cluster "nix" in the route table',
  ])
})

t.test('every text that is compiled later is checked where it stands', async (t) => {
  const action = { kind: 'route', cluster: 'web' }
  const rows: readonly (readonly [route: unknown, message: string])[] = [
    [
      { match: { regex: '(?=a)' }, action },
      'match.regex: invalid regex "(?=a)": invalid or unsupported Perl syntax: `(?=`',
    ],
    [
      { match: { template: 'a' }, action },
      'match.template: invalid URI template "a": must begin with "/" and be printable',
    ],
    [
      { match: { pathSeparatedPrefix: '/a/' }, action },
      'match.pathSeparatedPrefix: must begin with "/" and not end with it',
    ],
    [
      { match: { headers: [{ name: 'a', value: { regex: '[' } }] }, action },
      'match.headers[0].value: invalid regex "[": missing closing ]: `[`',
    ],
    [{ match: { headers: [{ name: 'a b' }] }, action }, 'match.headers[0].name: "a b" is not a valid header name'],
    [
      { match: { headers: [{ name: 'a', range: { start: 5, end: 5 } }] }, action },
      'match.headers[0].range: ends at 5, which is not behind its start, 5',
    ],
    [
      { match: { cookies: [{ name: 'a', value: { regex: ')' } }] }, action },
      'match.cookies[0].value: invalid regex ")": unexpected ): `)`',
    ],
    [
      { match: {}, action: { ...action, pathRewrite: { regex: '(a)', substitution: '\\2' } } },
      'action.pathRewrite.substitution: substitution "\\2" names group 2, the regex has 1',
    ],
    [
      { match: {}, action: { ...action, pathRewrite: { template: '/a' } } },
      'action.pathRewrite.template: a template rewrite needs a route that matches by a path template',
    ],
    [
      { match: { template: '/a/{b}' }, action: { ...action, pathRewrite: { template: '/{c}' } } },
      'action.pathRewrite.template: invalid URI template rewrite "/{c}": "/a/{b}" has no variable "c"',
    ],
    [
      { match: {}, action: { ...action, hostRewrite: { format: '%X%' } } },
      'action.hostRewrite.format: %X% is not supported (at character 1)',
    ],
    [{ match: {}, action: { ...action, hostRewrite: 'a b' } }, 'action.hostRewrite: "a b" is not a host'],
    [
      { match: {}, action: { ...action, hostRewrite: { pathRegex: { regex: '(', substitution: '' } } } },
      'action.hostRewrite.pathRegex.regex: invalid regex "(": missing closing ): `(`',
    ],
    [{ match: {}, action: { ...action, upgrades: ['a', 'A'] } }, 'action.upgrades[1]: "a" is listed twice'],
    [
      { match: {}, action, requestHeaders: { set: { Host: 'x' } } },
      'requestHeaders.set.Host: "host": :-prefixed or host headers may not be modified',
    ],
    [
      { match: {}, action, requestHeaders: { set: { a: 'x\r\ny' } } },
      'requestHeaders.set.a: must not contain NUL, CR or LF',
    ],
    [
      { match: {}, action, responseHeaders: { append: { a: '%' } } },
      'responseHeaders.append.a: a "%" must begin a command',
    ],
    [
      { match: {}, action, responseHeaders: { remove: ['a:'] } },
      'responseHeaders.remove[0]: "a:" is not a valid header name',
    ],
    [
      { match: {}, action: { kind: 'route', cluster: { weighted: [{ name: 'web', weight: 0 }] } } },
      'action.cluster: the weights must add up to 1…4294967295, they are 0',
    ],
    [
      { match: {}, action: { kind: 'redirect', regexRewrite: { regex: 'a', substitution: '\\x' } } },
      'action.regexRewrite.substitution: substitution "\\x" has a backslash',
    ],
    [
      { match: {}, action: { kind: 'direct', status: 200, body: 'x'.repeat(4_097) } },
      'action.body: is 4097 bytes long, the limit is 4096',
    ],
    [
      { match: {}, action: { kind: 'direct', status: 200, bodyFormat: { json: { a: '%X%' } } } },
      'action.bodyFormat.json: "a": %X% is not supported',
    ],
  ]
  for (const [route, message] of rows) {
    const found = routeMistakes(route)
    t.equal(found.length, 1, `${message}: nothing else`)
    t.ok(found[0]?.startsWith(message), `${found[0]} begins with ${message}`)
  }
  const http = mistakes(
    withHttp({
      routes: [],
      accessLogs: [
        { format: '%X%\n' },
        { filter: { kind: 'response-flag', flags: ['UF', 'ZZ'] } },
        { filter: { kind: 'and', filters: [{ kind: 'header', header: { name: 'a', value: { regex: '(' } } }] } },
      ],
      localReply: { mappers: [{ filter: { kind: 'grpc-status', statuses: [17] }, bodyFormat: '%X%' }] },
      internalCidrs: ['10.0.0.0/8', '10.0.0.0/33', 'x'],
      originalIpDetection: [{ kind: 'xff', trustedCidrs: ['::/x'] }],
      useRemoteAddress: true,
      earlyHeaderMutations: [{ remove: ':path' }],
    }),
  )
  t.same(
    http.map((text) => text.replace('listeners[0].http.', '')),
    [
      'internalCidrs[1]: "10.0.0.0/33" is not an IP address range',
      'internalCidrs[2]: "x/32" is not an IP address range',
      'originalIpDetection[0].trustedCidrs[0]: "::/-1" is not an IP address range',
      'useRemoteAddress: excludes originalIpDetection',
      'earlyHeaderMutations[0].remove: ":path": :-prefixed or host headers may not be modified',
      'localReply.mappers[0].filter.statuses[0]: 17 is not a gRPC status',
      'localReply.mappers[0].bodyFormat: %X% is not supported (at character 1)',
      'accessLogs[0].format: %X% is not supported (at character 1)',
      'accessLogs[1].filter.flags[1]: unknown response flag "ZZ"',
      'accessLogs[2].filter.filters[0].header.value: invalid regex "(": missing closing ): `(`',
    ],
  )
})

t.test('a matcher tree holds routes of the short form', async (t) => {
  const matcher = (value: string, cluster: string): unknown => ({
    list: [
      {
        predicate: {
          kind: 'single',
          input: { kind: 'request-header', name: 'x' },
          string: { kind: 'regex', value },
        },
        onMatch: { action: { match: { prefix: '/a' }, action: { kind: 'route', cluster } } },
      },
    ],
    onNoMatch: {
      matcher: { tree: { input: { kind: 'source-ip' }, kind: 'exact', map: [['a', { action: MINIMAL_ROUTE }]] } },
    },
  })
  const withMatcher = (tree: unknown): unknown =>
    withHttp({ virtualHosts: [{ name: 'x', domains: ['*'], matcher: tree }] })
  const table: RouteTableConfig = tableOf(managerOf(read(withMatcher(matcher('a', 'web'))).listeners[0]))
  t.match(table.virtualHosts[0], {
    routes: [],
    matcher: {
      list: [{ onMatch: { action: { action: { cluster: { kind: 'cluster', name: 'web' } } } } }],
      onNoMatch: { matcher: { tree: { map: [['a', { action: { action: { kind: 'direct', status: 200 } } }]] } } },
    },
  })
  t.same(mistakes(withMatcher(matcher('(', 'nix'))), [
    'listeners[0].http.virtualHosts[0].matcher.list[0].predicate.string.value: invalid regex "(": missing closing ): `(`',
    'listeners[0].http.virtualHosts[0].matcher.list[0].onMatch.action.action.cluster: unknown cluster "nix" in virtual host "x"',
  ])
})

t.test('the result shares nothing with what was given', async (t) => {
  const text = { text: 'one' }
  const json = { a: '%PROTOCOL%' }
  const runtime = { key: 1 }
  const config = {
    ...(withHttp({
      filters: [{ name: 'tag', config: text }],
      routes: [MINIMAL_ROUTE],
      accessLogs: [{ format: { json } }],
    }) as object),
    runtime,
  }
  const result = read(config)
  text.text = 'two'
  json.a = 'changed'
  runtime.key = 2
  const http = managerOf(result.listeners[0])
  t.same(http.filters[0].config, { text: 'one' })
  t.same(http.accessLogs, [{ sink: { kind: 'stdout' }, format: { kind: 'json', json: { a: '%PROTOCOL%' } } }])
  t.same(result.runtime, { key: 1 })
})

t.test('names that objects inherit are names like any other', async (t) => {
  const config = JSON.parse(
    '{"listeners": [{"address": "127.0.0.1:1", "http": {"routes": [], "constructor": 1, "__proto__": {}}}],' +
      ' "clusters": [{"name": "__proto__", "endpoints": []}], "toString": 1}',
  ) as unknown
  t.same(mistakes(config).sort(), [
    'listeners[0].http.__proto__: unknown field "__proto__"',
    'listeners[0].http.constructor: unknown field "constructor"',
    'toString: unknown field "toString"',
  ])
  const overrides = JSON.parse('{"__proto__": false, "constructor": false}') as NativeRoute['filterConfigs']
  t.same(routeMistakes({ ...MINIMAL_ROUTE, filterConfigs: overrides }), [
    'filterConfigs["__proto__"]: no filter of the chain is called "__proto__"',
    'filterConfigs["constructor"]: no filter of the chain is called "constructor"',
  ])
})

t.test('what the Envoy dialect accepts passes the same checks', async (t) => {
  const folder = join(import.meta.dirname, '../fixtures/envoy/accepted')
  const goldens = readdirSync(folder).filter((name) => name.endsWith('.json'))
  t.ok(goldens.length > 0)
  for (const name of goldens) {
    const config = JSON.parse(readFileSync(join(folder, name), 'utf8')) as GatewayConfig
    const isTerminal = (typeUrl: string): boolean => typeUrl.endsWith('.Router')
    const networkFilter = (typeUrl: string) => FAKE_NETWORK_FILTERS.get(typeUrl)
    const listenerFilter = (typeUrl: string) => FAKE_LISTENER_FILTERS.get(typeUrl)
    t.same(validateConfig(config, { isTerminal, networkFilter, listenerFilter }), [], name)
  }
})

t.test('without origins the paths are those of the IR', async (t) => {
  const config = read(withHttp({ routes: [{ match: { regex: 'a' }, action: { kind: 'route', cluster: 'web' } }] }))
  const broken = JSON.parse(JSON.stringify(config).replace('"value":"a"', '"value":"("')) as GatewayConfig
  const errors = validateConfig({ ...broken, clusters: [] }, { isTerminal: (typeUrl) => typeUrl.endsWith('.Router') })
  t.same(errors.map(String), [
    'listeners[0].filterChains[0].http.routes.virtualHosts[0].routes[0].match.path.value: invalid regex "(": missing closing ): `(`',
    'listeners[0].filterChains[0].http.routes.virtualHosts[0].routes[0].action.cluster.name: unknown cluster "web" in virtual host "all"',
  ])
  t.match(String(validateConfig({ ...config }, { isTerminal: () => false })[0]), /must be one that ends the chain/)
})

t.test('ten thousand routes are read in one go', async (t) => {
  const routes = Array.from({ length: 10_000 }, (_, i) => ({
    match: { prefix: `/${i}/`, headers: [{ name: 'x', value: { prefix: 'a' } }] },
    action: { kind: 'route', cluster: 'web' },
    requestHeaders: { set: { a: '%PROTOCOL%' } },
  }))
  const table = tableOf(managerOf(read(withHttp({ routes })).listeners[0]))
  t.equal(table.virtualHosts[0].routes.length, 10_000)
  t.match(table.virtualHosts[0].routes[9_999].match.path, { value: '/9999/' })
})
