import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { parse } from 'yaml'
import { parseConfigText } from '../../lib/config/parse.ts'
import { ConfigRefused, type Json } from '../../lib/core/errors.ts'
import { compileTemplateRewrite, templateToRegex } from '../../lib/match/template.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { RuleChecker } from '../../lib/proto/rules.ts'
import { checkTls } from '../../lib/tls/check.ts'
import { type EnvoyLoadContext, loadBootstrap, loadResourceLine } from '../../xds-client/envoy/load.ts'
import { managerOf, tableOf } from '../support/chains.ts'
import { FAKE_FILTERS } from './fake-filters.ts'
import { FAKE_LISTENER_FILTERS, FAKE_NETWORK_FILTERS } from './fake-lower-filters.ts'

/*
 * Goldens. A case is a file: `accepted/NAME.yaml` with its `NAME.json` (the IR), `refused/NAME.yaml` with its `NAME.txt` (one
 * mistake per line), an entry of `resources.yaml` with the one in `resources.json`. To add one, write the input,
 * let Biome format it, run this test with UPDATE_GOLDENS=1, and read what it wrote.
 */

const FIXTURES = new URL('../fixtures/envoy/', import.meta.url)
const UPDATE = process.env.UPDATE_GOLDENS === '1'

const registry = createProtoRegistry()
const context: EnvoyLoadContext = {
  registry,
  rules: new RuleChecker(registry),
  filters: FAKE_FILTERS,
  networkFilters: FAKE_NETWORK_FILTERS,
  listenerFilters: FAKE_LISTENER_FILTERS,
  checks: {
    format: (text) => (text.includes('%BAD%') ? 'there is no command %BAD%' : undefined),
    pathTemplate: (pattern) => problemOf(() => templateToRegex(pattern)),
    pathTemplateRewrite: (pattern, rewrite) => problemOf(() => compileTemplateRewrite(pattern, rewrite)),
    tls: checkTls,
  },
}

function problemOf(run: () => unknown): string | undefined {
  try {
    run()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

function pathOf(name: string): string {
  return new URL(name, FIXTURES).pathname
}

/** The mistakes of a bootstrap, each with its place in the file called `config.yaml`. */
function mistakes(text: string, using = context): string[] {
  try {
    loadBootstrap(parseConfigText(text, 'config.yaml'), using)
  } catch (error) {
    if (error instanceof ConfigRefused) return error.errors.map((mistake) => mistake.toString())
    throw error
  }
  return []
}

function accepted(text: string, using = context): Json {
  const { source, ...config } = loadBootstrap(parseConfigText(text, 'config.yaml'), using)
  return JSON.parse(JSON.stringify(config)) as Json
}

function golden(name: string, actual: string): string {
  const path = pathOf(name)
  if (UPDATE || !existsSync(path)) {
    if (!UPDATE) return ''
    writeFileSync(path, actual)
  }
  return readFileSync(path, 'utf8')
}

function casesIn(folder: string): string[] {
  return readdirSync(pathOf(folder))
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => `${folder}/${name.slice(0, -'.yaml'.length)}`)
    .sort()
}

t.test('a bootstrap becomes the IR with every default filled in', async (t) => {
  for (const name of ['front-proxy', ...casesIn('accepted')]) {
    const config = accepted(readFileSync(pathOf(`${name}.yaml`), 'utf8'))
    const text = `${JSON.stringify(config, null, 2)}\n`
    t.same(JSON.parse(text), JSON.parse(golden(`${name}.json`, text)), name)
  }
})

t.test('a bootstrap with TLS becomes the IR with the material that its files and variables hold', async (t) => {
  const using: EnvoyLoadContext = {
    ...context,
    checks: { ...context.checks, tls: () => [] },
    readFile: (path) => Buffer.from(`content of ${path}`),
    environment: (name) => `value of ${name}`,
  }
  const config = accepted(readFileSync(pathOf('tls-front-proxy.yaml'), 'utf8'), using)
  const text = `${JSON.stringify(config, null, 2)}\n`
  t.same(JSON.parse(text), JSON.parse(golden('tls-front-proxy.json', text)))
})

t.test('a bootstrap with mistakes is refused with all of them, each with its place', async (t) => {
  for (const name of casesIn('refused')) {
    const text = `${mistakes(readFileSync(pathOf(`${name}.yaml`), 'utf8')).join('\n')}\n`
    t.equal(text, golden(`${name}.txt`, text), name)
    t.notMatch(text, /^[^c]/m, `${name}: every mistake begins with its file`)
  }
})

t.test('a single resource is accepted or refused, and says why and what it ignores', async (t) => {
  const { resources } = parse(readFileSync(pathOf('resources.yaml'), 'utf8'), { merge: true }) as {
    resources: Record<string, Json>
  }
  const answers: Record<string, Json> = {}
  for (const [title, resource] of Object.entries(resources)) {
    const { type, ...answer } = loadResourceLine(JSON.stringify(resource), context)
    answers[title] = answer as unknown as Json
    t.equal(answer.result === 'refused', answer.errors.length > 0, `${title}: refused where there are errors`)
  }
  const text = `${JSON.stringify(answers, null, 2)}\n`
  const expected = JSON.parse(golden('resources.json', text)) as Record<string, Json>
  for (const title of Object.keys(answers)) t.same(answers[title], expected[title], title)
  t.same(Object.keys(expected), Object.keys(answers), 'no expectation is left over')
})

t.test(
  "Envoy's documented defaults hold for what a connection manager, a route and a cluster do not say",
  async (t) => {
    const { listeners, clusters } = loadBootstrap(
      parseConfigText(readFileSync(pathOf('accepted/minimal.yaml'), 'utf8'), 'x'),
      context,
    )
    const http = managerOf(listeners[0])
    t.match(http, {
      codec: 'auto',
      streamIdleTimeoutMs: 5 * 60_000,
      requestTimeoutMs: 0,
      requestHeadersTimeoutMs: 0,
      idleTimeoutMs: 3_600_000,
      maxConnectionDurationMs: 0,
      maxStreamDurationMs: 0,
      maxRequestHeaders: 100,
      maxRequestHeaderBytes: 60 * 1024,
      maxRequestsPerConnection: 0,
      drainTimeoutMs: 5000,
      delayedCloseTimeoutMs: 1000,
      underscores: 'allow',
      useRemoteAddress: false,
      generateRequestId: true,
      preserveExternalRequestId: false,
      requestIdInResponse: false,
      serverHeader: 'overwrite',
      serverName: 'envoy',
      normalizePath: false,
      mergeSlashes: false,
      escapedSlashes: 'keep',
      stripPort: 'none',
      stripTrailingHostDot: false,
      proxy100Continue: false,
      via: '',
      http1: { acceptHttp10: false, enableTrailers: false, allowAbsoluteUrl: true, headerCase: 'lower' },
      internalCidrs: [],
      internalUnixSockets: false,
      addUserAgent: false,
      localReply: { mappers: [] },
      upgrades: [],
      xffTrustedHops: 0,
      skipXffAppend: false,
      appendXForwardedPort: false,
    })
    t.equal(http.schemeOverwrite, undefined)
    t.match(http.routes, { maxDirectResponseBodyBytes: 4096, validateClusters: true, ignorePortInHostMatching: false })
    t.match(tableOf(http).virtualHosts[0].routes[0].action, {
      timeoutMs: 15_000,
      clusterNotFoundStatus: 503,
      priority: 'default',
    })
    t.match(listeners[0], { bufferLimitBytes: 1 << 20, listenerFiltersTimeoutMs: 15_000 })
    t.match(clusters[0], {
      connectTimeoutMs: 5000,
      bufferLimitBytes: 1 << 20,
      balancer: { kind: 'round-robin' },
      thresholds: { default: { maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024, maxRetries: 3 } },
      idleTimeoutMs: 3_600_000,
      maxResponseHeaders: 100,
      maxResponseHeaderBytes: 80 * 1024,
    })
    const names = clusters.find(({ name }) => name === 'names')
    t.match(names?.dns, { refreshMs: 5000, failureRefreshMs: 5000, jitterMs: 0, respectTtl: false, family: 'auto' })
  },
)

t.test('the result of a bootstrap carries the document it came from, and nothing of it twice', async (t) => {
  const text = readFileSync(pathOf('front-proxy.yaml'), 'utf8')
  const parsed = parseConfigText(text, 'front-proxy.yaml')
  t.equal(loadBootstrap(parsed, context).source, parsed.value)
  const { ignored } = loadBootstrap(parseConfigText(readFileSync(pathOf('accepted/routes.yaml'), 'utf8'), 'x'), context)
  t.equal(new Set(ignored).size, ignored.length)
})

t.test('a bootstrap that is not an object, or empty, says so', async (t) => {
  t.match(mistakes('[]'), [/^config.yaml:1:1: expected an object/])
  t.same(accepted('{}'), {
    node: { id: '', cluster: '' },
    listeners: [],
    clusters: [],
    maxConnectionsKey: 'overload.global_downstream_max_connections',
    runtime: {},
    ignored: [],
  })
})

/** A bootstrap with one listener that has this route, as JSON. */
function withRoute(route: Json, rest: { [key: string]: Json } = {}): string {
  const type = 'type.googleapis.com/envoy.extensions.filters.'
  const http = {
    '@type': `${type}network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: 's',
    route_config: { virtual_hosts: [{ name: 'v', domains: ['*'], routes: [route] }] },
    http_filters: [{ name: 'router', typed_config: { '@type': `${type}http.router.v3.Router` } }],
  }
  const address = { socket_address: { address: '127.0.0.1', port_value: 80 } }
  const listener = { name: 'l', address, filter_chains: [{ filters: [{ name: 'hcm', typed_config: http }] }] }
  const static_resources = { listeners: [listener], clusters: [{ name: 'a' }, { name: 'b' }] }
  return JSON.stringify({ static_resources, ...rest })
}

t.test('data sources read files and environment variables where the context lets them', async (t) => {
  const using: EnvoyLoadContext = {
    ...context,
    environment: (name) => (name === 'BODY' ? 'from the environment' : undefined),
    readFile: (path) => {
      if (path !== '/body') throw new Error('no such file')
      return Buffer.from('from a file')
    },
  }
  const direct = (body: Json): string => withRoute({ match: { prefix: '/' }, direct_response: { status: 200, body } })
  const bodyOf = (body: Json): unknown => {
    const { listeners } = loadBootstrap(parseConfigText(direct(body), 'x'), using)
    return (tableOf(managerOf(listeners[0])).virtualHosts[0].routes[0].action as { body?: string }).body
  }
  t.equal(bodyOf({ filename: '/body' }), 'from a file')
  t.equal(bodyOf({ environment_variable: 'BODY' }), 'from the environment')
  t.match(mistakes(direct({ filename: '/other' }), using), [/cannot read "\/other": no such file/])
  t.match(mistakes(direct({ environment_variable: 'OTHER' }), using), [/"OTHER" is not set/])
})

t.test('settings keep the runtime keys that name them: the values are looked up where they are used', async (t) => {
  const weighted = {
    runtime_key_prefix: 'split',
    clusters: [
      { name: 'a', weight: 1 },
      { name: 'b', weight: 1 },
    ],
  }
  const layered_runtime = {
    layers: [
      {
        name: 'base',
        static_layer: { 'split.a': 90, split: { b: '10' }, http_connection_manager: { normalize_path: true } },
      },
    ],
  }
  const text = withRoute({ match: { prefix: '/' }, route: { weighted_clusters: weighted } }, { layered_runtime })
  const { listeners, runtime } = loadBootstrap(parseConfigText(text, 'x'), context)
  const http = managerOf(listeners[0])
  t.match(http, { normalizePath: false, normalizePathKey: 'http_connection_manager.normalize_path' })
  const clusters = [
    { weight: 1, runtimeKey: 'split.a' },
    { weight: 1, runtimeKey: 'split.b' },
  ]
  t.match(tableOf(http).virtualHosts[0].routes[0].action, { cluster: { clusters } })
  t.same({ ...runtime }, { 'split.a': 90, 'split.b': '10', 'http_connection_manager.normalize_path': true })
})

t.test('an unknown cluster is a mistake in an inline route table unless it says otherwise', async (t) => {
  const text = withRoute({ name: 'checkout', match: { prefix: '/' }, route: { cluster: 'paymets' } })
  t.match(mistakes(text), [/unknown cluster "paymets" in route "checkout"$/])
  t.same(mistakes(text.replace('"virtual_hosts"', '"validate_clusters":false,"virtual_hosts"')), [])
})

t.test('a filter that only its name configures gets the defaults of its type', async (t) => {
  const text = withRoute({ match: { prefix: '/' }, redirect: {} }).replace(
    '"http_filters":[',
    '"http_filters":[{"name":"envoy.filters.http.header_mutation"},{"name":"x","disabled":true,"typed_config":' +
      '{"@type":"type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"}},',
  )
  const { listeners } = loadBootstrap(parseConfigText(text, 'x'), context)
  const { filters } = managerOf(listeners[0])
  t.match(filters, [
    { name: 'envoy.filters.http.header_mutation', config: { removed: [] }, disabled: false },
    { name: 'x', typeUrl: /HeaderMutation$/, config: { removed: [] }, disabled: true },
    { name: 'router' },
  ])
})

t.test('a line that is no resource at all is refused, never thrown', async (t) => {
  t.match(loadResourceLine('{', context), {
    type: '',
    name: '',
    result: 'refused',
    errors: [{ message: /is not JSON/ }],
  })
  t.match(loadResourceLine('null', context), { result: 'refused' })
  t.match(loadResourceLine('{"@type":7}', context), { type: '', result: 'refused' })
  const twice = '{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":"a","name":"b"}'
  t.match(loadResourceLine(twice, context), { result: 'refused', errors: [{ message: /name/ }] })
  const good = '{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":"a"}'
  t.same(loadResourceLine(good, context), {
    type: 'type.googleapis.com/envoy.config.cluster.v3.Cluster',
    name: 'a',
    result: 'accepted',
    errors: [],
    ignored: [],
  })
})

t.test('translations share nothing: the same document twice gives equal and separate results', async (t) => {
  const text = readFileSync(pathOf('accepted/routes.yaml'), 'utf8')
  const one = loadBootstrap(parseConfigText(text, 'x'), context)
  const two = loadBootstrap(parseConfigText(text, 'x'), context)
  t.same(one, two)
  t.not(one.listeners, two.listeners)
})
