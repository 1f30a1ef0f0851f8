import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Json, JsonObject } from '../../lib/core/errors.ts'
import { decodeState, encodeState } from '../../xds-client/dynamic/state-file.ts'
import { Authority } from '../support/certificates.ts'
import {
  ADS,
  BOOTSTRAP,
  edsCluster,
  encode,
  endpoints,
  listener,
  load,
  Rig,
  type RigOptions,
  rds,
  routes,
  staticCluster,
  TYPES,
} from './dynamic-rig.ts'

const authority = await Authority.create('CN=ca')
const [first, second] = [await authority.issue(), await authority.issue()]

const DOWNSTREAM = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext'
const UPSTREAM = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext'

function tls(context: JsonObject, type = DOWNSTREAM): Json {
  return { name: 'envoy.transport_sockets.tls', typed_config: { '@type': type, ...context } }
}

function certificate({ chain, key }: { readonly chain: string; readonly key: string }, name = 'cert'): Json {
  return { name, tls_certificate: { certificate_chain: { inline_string: chain }, private_key: { inline_string: key } } }
}

const SDS = { tls_certificate_sds_secret_configs: [{ name: 'cert', sds_config: ADS }] }

/** The start is over: nothing but `xds` is there. */
async function ready(options: RigOptions = {}): Promise<Rig> {
  const rig = new Rig(options).start()
  rig.ads.whole('cluster', { a: staticCluster('a') })
  await rig.turn()
  rig.ads.whole('listener', {})
  await rig.turn()
  rig.changes.length = 0
  return rig
}

function direct(name: string): Readonly<Record<string, Json>> {
  return {
    route_config: {
      name,
      virtual_hosts: [
        { name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, direct_response: { status: 200 } }] },
      ],
    },
  }
}

const tlsOf = (rig: Rig, name = 'web') => rig.state.listeners.get(name)?.filterChains[0].tls

t.test('a listener waits for its certificate, and has the new one when it is rotated', async (t) => {
  const rig = await ready()
  const web = listener('web', { manager: direct('web'), transport: tls({ common_tls_context: SDS }) })
  rig.ads.whole('listener', {
    web,
    more: listener('more', { manager: direct('more'), transport: tls({ common_tls_context: SDS }) }),
  })
  await rig.turn()
  t.same(rig.ads.wanted('secret'), ['cert'])
  t.same(rig.changes, [])
  rig.ads.delta('secret', { cert: certificate(first) })
  await rig.turn()
  t.same(rig.names.listeners, ['more', 'web'])
  t.equal(tlsOf(rig)?.certificates[0].privateKey, first.key)
  t.equal(tlsOf(rig)?.secrets, undefined, 'no worker sees where it came from')
  rig.ads.delta('secret', { cert: certificate(second) })
  await rig.turn()
  t.equal(tlsOf(rig)?.certificates[0].privateKey, second.key)
  t.equal(tlsOf(rig, 'more')?.certificates[0].privateKey, second.key, 'one secret for many')
  t.equal(rig.changes.length, 2)
  const bad = certificate({ chain: first.chain, key: second.key })
  t.match(rig.ads.delta('secret', { cert: bad }), [{ name: 'cert' }])
  rig.ads.delta('secret', {}, ['cert'])
  await rig.turn()
  t.equal(rig.changes.length, 2, 'neither a pair that does not match nor a removal changes anything')
  rig.ads.whole('listener', {})
  await rig.turn()
  t.same(rig.ads.wanted('secret'), [])
})

t.test('a listener without its certificate is there and not ready after the time for it is over', async (t) => {
  const rig = await ready()
  rig.ads.whole('listener', {
    web: listener('web', { manager: direct('web'), transport: tls({ common_tls_context: SDS }) }),
  })
  await rig.turn()
  rig.ads.absent('secret', ['cert'])
  await rig.turn()
  t.equal(tlsOf(rig)?.notReady, true)
  rig.ads.delta('secret', { cert: certificate(first) })
  await rig.turn()
  t.equal(tlsOf(rig)?.notReady, undefined)
})

t.test('a cluster waits for its certificate and its authorities', async (t) => {
  const rig = await ready()
  const validation = { name: 'ca', sds_config: ADS }
  const common_tls_context = { ...SDS, validation_context_sds_secret_config: validation }
  const cluster = {
    ...(staticCluster('b') as JsonObject),
    transport_socket: tls({ common_tls_context, sni: 'a.test' }, UPSTREAM),
  }
  rig.ads.delta('cluster', { b: cluster })
  await rig.turn()
  t.same(rig.ads.wanted('secret'), ['ca', 'cert'])
  rig.ads.delta('secret', { cert: certificate(first) })
  await rig.turn()
  t.same(rig.names.clusters, ['a'])
  rig.ads.delta('secret', { ca: { name: 'ca', validation_context: { trusted_ca: { inline_string: authority.pem } } } })
  await rig.turn()
  t.equal(rig.state.clusters.get('b')?.tls?.validation?.trustedCa, authority.pem)
})

t.test('resources of one name and different sources are different resources', async (t) => {
  const rig = await ready()
  const own = { path_config_source: { path: '/etc/one.yaml' }, resource_api_version: 'V3' }
  const one = { tls_certificate_sds_secret_configs: [{ name: 'cert', sds_config: own }] }
  rig.ads.whole('listener', {
    web: listener('web', { manager: rds('table', own), transport: tls({ common_tls_context: one }) }),
    more: listener('more', { manager: rds('table'), transport: tls({ common_tls_context: SDS }) }),
  })
  await rig.turn()
  const [key] = [...rig.sources.keys()].filter((name) => name !== '')
  rig.source(key).delta('secret', { cert: certificate(first) })
  rig.source(key).delta('routes', { table: routes('table', 'a') })
  await rig.turn()
  t.same([rig.names.listeners, rig.names.tables], [['web'], [`${key}/table`]])
  rig.ads.delta('secret', { cert: certificate(second) })
  rig.ads.delta('routes', { table: routes('table', 'a') })
  await rig.turn()
  t.same(rig.names.tables, ['table', `${key}/table`].sort())
  t.same(
    [tlsOf(rig)?.certificates[0].privateKey, tlsOf(rig, 'more')?.certificates[0].privateKey],
    [first.key, second.key],
  )
  t.same(rig.broken, [])
  rig.ads.whole('listener', {})
  await rig.turn()
  t.ok(rig.source(key).disposed)
})

t.test('files that a secret names are read anew when they are told to have changed', async (t) => {
  const folder = t.testdir({ 'tls.crt': first.chain, 'tls.key': first.key })
  const [crt, key] = [join(folder, 'tls.crt'), join(folder, 'tls.key')]
  const rig = await ready({ stampOf })
  rig.ads.whole('listener', {
    web: listener('web', { manager: direct('web'), transport: tls({ common_tls_context: SDS }) }),
  })
  await rig.turn()
  const named = {
    name: 'cert',
    tls_certificate: {
      certificate_chain: { filename: crt },
      private_key: { filename: key },
      watched_directory: { path: folder },
    },
  }
  t.same(rig.ads.delta('secret', { cert: named }), [])
  await rig.turn()
  t.equal(tlsOf(rig)?.certificates[0].privateKey, first.key)
  t.same([...rig.gateway.files().files.keys()].sort(), [crt, key])
  t.same([...rig.gateway.files().directories], [folder])
  const before = rig.gateway.files().files.get(key)
  writeFileSync(key, second.key)
  t.match(rig.gateway.reload(), [{ path: /private_key|certificate/ }], 'half of a change is told')
  t.equal(tlsOf(rig)?.certificates[0].privateKey, first.key, 'and not used')
  writeFileSync(crt, second.chain)
  t.same(rig.gateway.reload(), [])
  t.equal(tlsOf(rig)?.certificates[0].privateKey, second.key)
  t.not(rig.gateway.files().files.get(key), before)
  rig.ads.whole('listener', {})
  await rig.turn()
  t.equal(rig.gateway.files().files.size, 0)
})

const BUFFER = 'envoy.extensions.filters.http.buffer.v3.Buffer'

function extension(max: number, name = 'own'): Json {
  return { name, typed_config: { '@type': `type.googleapis.com/${BUFFER}`, max_request_bytes: max } }
}

function discovered(more: JsonObject = {}, name = 'own'): Json {
  return { name, config_discovery: { config_source: ADS, type_urls: [`type.googleapis.com/${BUFFER}`], ...more } }
}

const filterOf = (rig: Rig) => rig.state.listeners.get('web')?.filterChains[0].http?.filters[0]

t.test('a filter that is delivered by name is swapped for the next one', async (t) => {
  const rig = await ready()
  rig.ads.whole('listener', { web: listener('web', { manager: direct('web'), filters: [discovered()] }) })
  await rig.turn()
  t.same(rig.ads.wanted('extension'), ['own'])
  t.same(rig.changes, [])
  const wrong = {
    name: 'own',
    typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors' },
  }
  t.match(rig.ads.delta('extension', { own: wrong }), [{ name: 'own', errors: [{ message: /cors/ }] }])
  rig.ads.delta('extension', { own: extension(10) })
  await rig.turn()
  t.match(filterOf(rig), { name: 'own', typeUrl: BUFFER })
  const config = JSON.stringify(filterOf(rig)?.config)
  rig.ads.delta('extension', { own: extension(20) })
  await rig.turn()
  t.not(JSON.stringify(filterOf(rig)?.config), config)
  rig.ads.delta('extension', {}, ['own'])
  await rig.turn()
  t.equal(filterOf(rig)?.missing, true)
})

t.test('or its default stands in, at once where that is said', async (t) => {
  const rig = await ready()
  const standard = (extension(5) as JsonObject).typed_config
  const defaults = { default_config: standard, apply_default_config_without_warming: true }
  rig.ads.whole('listener', { web: listener('web', { manager: direct('web'), filters: [discovered(defaults)] }) })
  await rig.turn()
  t.equal(filterOf(rig)?.missing, undefined)
  t.equal(filterOf(rig)?.typeUrl, BUFFER)
  const before = JSON.stringify(filterOf(rig)?.config)
  rig.ads.delta('extension', { own: extension(10) })
  await rig.turn()
  t.not(JSON.stringify(filterOf(rig)?.config), before)
  rig.ads.delta('extension', {}, ['own'])
  await rig.turn()
  t.equal(JSON.stringify(filterOf(rig)?.config), before)
})

t.test('a filter that does not come is missing', async (t) => {
  const rig = await ready()
  rig.ads.whole('listener', { web: listener('web', { manager: direct('web'), filters: [discovered()] }) })
  await rig.turn()
  rig.ads.absent('extension', ['own'])
  await rig.turn()
  t.equal(filterOf(rig)?.missing, true)
})

const SCOPED = {
  scoped_routes: {
    name: 'scoped',
    scope_key_builder: {
      fragments: [{ header_value_extractor: { name: 'x-scope', index: 0 } }],
    },
    rds_config_source: ADS,
    scoped_rds: { scoped_rds_config_source: ADS },
  },
}

function scope(name: string, key: string, table: string): Json {
  return { name, key: { fragments: [{ string_key: key }] }, route_configuration_name: table }
}

const scopesOf = (rig: Rig) => rig.state.listeners.get('web')?.filterChains[0].http?.scopedRoutes?.scopes

t.test('scopes come and go, each with its routes there before it is', async (t) => {
  const rig = await ready()
  rig.ads.whole('listener', { web: listener('web', { manager: SCOPED }) })
  await rig.turn()
  t.same(rig.ads.wanted('scope'), ['*'])
  rig.ads.whole('scope', { one: scope('one', '1', 't1'), two: scope('two', '2', 't2') })
  await rig.turn()
  t.same(rig.ads.wanted('routes'), ['t1', 't2'])
  rig.ads.delta('routes', { t1: routes('t1', 'a') })
  await rig.turn()
  t.same(rig.names.listeners, [], 'the first scopes are waited for, all of them')
  rig.ads.delta('routes', { t2: routes('t2', 'a') })
  await rig.turn()
  t.match(scopesOf(rig), [{ name: 'one', key: ['1'], routeTable: 't1' }, { name: 'two' }])
  rig.ads.delta('scope', { four: scope('four', '4', 't4') })
  rig.ads.delta('listener', {
    web: listener('web', { manager: SCOPED, more: { per_connection_buffer_limit_bytes: 4096 } }),
  })
  await rig.turn()
  t.equal(scopesOf(rig)?.length, 2, 'of later ones those that are ready serve')
  t.equal(rig.ads.wanted('scope').length, 1)
  rig.ads.delta('scope', {}, ['four'])
  await rig.turn()
  t.match(rig.ads.delta('scope', { three: scope('three', '1', 't1') }), [{ name: 'three', errors: [{ path: 'key' }] }])
  rig.ads.whole('scope', { two: scope('two', '2', 't3') })
  await rig.turn()
  t.match(
    scopesOf(rig),
    [{ name: 'two', routeTable: 't2' }],
    'a scope keeps its old routes until the new ones have come',
  )
  rig.ads.delta('routes', { t3: routes('t3', 'a') })
  await rig.turn()
  t.match(scopesOf(rig), [{ name: 'two', routeTable: 't3' }])
  t.same(rig.names.tables, ['t3'])
  t.same(rig.broken, [])
  rig.ads.whole('listener', {})
  await rig.turn()
  t.same([rig.ads.wanted('scope'), rig.ads.wanted('routes'), rig.names.tables], [[], [], []])
})

const DELTA = {
  api_config_source: {
    api_type: 'DELTA_GRPC',
    transport_api_version: 'V3',
    grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
  },
  resource_api_version: 'V3',
}

t.test('virtual hosts are asked for when a request needs them', async (t) => {
  const rig = await ready()
  rig.ads.whole('listener', { web: listener('web') })
  await rig.turn()
  rig.ads.delta('routes', { table: { name: 'table', vhds: { config_source: DELTA } } })
  await rig.turn()
  const [key] = [...rig.sources.keys()].filter((name) => name !== '')
  const vhds = rig.source(key)
  t.same(vhds.wanted('host'), ['table'])
  vhds.absent('host', ['table'], 'does-not-exist')
  await rig.turn()
  t.same(rig.names.listeners, ['web'])
  const found = rig.gateway.demand({ kind: 'virtual-host', table: 'table', host: 'a.test' }, 5_000)
  const again = rig.gateway.demand({ kind: 'virtual-host', table: 'table', host: 'a.test' }, 5_000)
  const none = rig.gateway.demand({ kind: 'virtual-host', table: 'table', host: 'b.test' }, 5_000)
  const late = rig.gateway.demand({ kind: 'virtual-host', table: 'table', host: 'c.test' }, 5_000)
  await rig.turn()
  t.same(
    vhds.wanted('host'),
    ['table', 'table/a.test', 'table/b.test', 'table/c.test'].filter((name) => vhds.wanted('host').includes(name)),
  )
  const host = { name: 'one', domains: ['a.test'], routes: [{ match: { prefix: '/' }, route: { cluster: 'a' } }] }
  vhds.raw('host', [{ name: 'table/one', aliases: ['table/a.test'], bytes: encode(TYPES.host, host) }])
  vhds.absent('host', ['table/b.test'], 'does-not-exist')
  t.equal(await found, true)
  t.equal(await again, true)
  t.equal(await none, false)
  await rig.clock.advanceAsync(5_000)
  t.equal(await late, false)
  t.same(
    rig.state.routeTables.get('table')?.virtualHosts.map(({ name }) => name),
    ['one'],
  )
  t.notOk(vhds.wanted('host').includes('table/b.test'))
  t.equal(await rig.gateway.demand({ kind: 'virtual-host', table: 'other', host: 'a.test' }, 5_000), false)
  rig.ads.whole('listener', {})
  await rig.turn()
  t.ok(vhds.disposed, 'a source that nobody uses any more is closed')
})

t.test('endpoints of localities are delivered apart', async (t) => {
  const rig = await ready()
  const collection = 'xdstp://x/envoy.config.endpoint.v3.LbEndpoint/b/*'
  rig.ads.delta('cluster', { b: edsCluster('b') })
  await rig.turn()
  const leds = { leds_config: DELTA, leds_collection_name: collection }
  t.same(
    rig.ads.delta('assignment', {
      b: { cluster_name: 'b', endpoints: [{ locality: { zone: 'z' }, leds_cluster_locality_config: leds }] },
    }),
    [],
  )
  await rig.turn()
  t.same(rig.names.clusters, ['a'])
  const [key] = [...rig.sources.keys()].filter((name) => name !== '')
  const source = rig.source(key)
  t.same(source.wanted('endpoint'), [collection])
  const member = (port: number): Json => ({
    endpoint: { address: { socket_address: { address: '10.0.0.1', port_value: port } } },
  })
  const at = (name: string): string => collection.replace('*', name)
  source.delta('endpoint', { [at('one')]: member(1), [at('two')]: member(2) })
  await rig.turn()
  t.same(rig.names.clusters, ['a', 'b'])
  const ports = (): unknown =>
    rig.state.assignments
      .get('b')
      ?.localities[0].endpoints.map(({ address }) => (address.kind === 'ip' ? address.port : 0))
  t.same(ports(), [1, 2])
  source.delta('endpoint', { [at('three')]: member(3) }, [at('one')])
  await rig.turn()
  t.same(ports(), [3, 2])
  t.equal(rig.state.assignments.get('b')?.localities[0].delivered, undefined)
})

t.test('runtime layers come first, and each change of them is published', async (t) => {
  const bootstrap: Json = {
    ...BOOTSTRAP,
    layered_runtime: {
      layers: [
        { name: 'base', static_layer: { a: 1, b: 1 } },
        { name: 'delivered', rtds_layer: { name: 'layer', rtds_config: ADS } },
        { name: 'admin', admin_layer: {} },
      ],
    },
  }
  const rig = new Rig({ bootstrap }).start()
  t.match(rig.state.base.runtime, { a: 1, b: 1 })
  await rig.turn()
  t.same([rig.ads.wanted('runtime'), rig.ads.wanted('cluster')], [['layer'], []])
  rig.ads.delta('runtime', { layer: { name: 'layer', layer: { b: 2, c: { d: 3 } } } })
  await rig.turn()
  t.same(rig.ads.wanted('cluster'), ['*'])
  t.match(rig.state.base.runtime, { a: 1, b: 2, 'c.d': 3 })
  t.equal(rig.gateway.modifyRuntime({ a: '9' }), undefined)
  await rig.turn()
  t.equal(rig.state.base.runtime.a, 9)
  rig.ads.delta('runtime', {}, ['layer'])
  await rig.turn()
  t.equal(rig.state.base.runtime.b, 1)
  t.same(
    rig.gateway.status().layers.map(({ name }) => name),
    ['base', 'delivered', 'admin'],
  )
})

t.test('static resources wait for what is delivered to them', async (t) => {
  const web = listener('web', { transport: tls({ common_tls_context: SDS }) })
  const bootstrap: Json = {
    ...BOOTSTRAP,
    static_resources: {
      clusters: [...BOOTSTRAP.static_resources.clusters, edsCluster('b')],
      listeners: [web],
    },
  }
  const rig = new Rig({ bootstrap }).start()
  await rig.turn()
  t.same(rig.ads.wanted('assignment'), ['b'])
  t.same([rig.ads.wanted('secret'), rig.ads.wanted('routes')], [['cert'], ['table']])
  t.same(rig.names.listeners, [])
  rig.ads.delta('assignment', { b: endpoints('b', 1) })
  rig.ads.delta('secret', { cert: certificate(first) })
  rig.ads.delta('routes', { table: routes('table', 'b') })
  rig.ads.whole('cluster', {})
  await rig.turn()
  rig.ads.whole('listener', {})
  await rig.turn()
  t.same([rig.names.clusters, rig.names.listeners], [['b'], ['web']])
  t.ok(rig.initialised)
})

t.test('a bootstrap that is read anew changes what has changed in it', async (t) => {
  const certificateOf = (issued: typeof first): JsonObject => ({
    tls_certificates: [
      { certificate_chain: { inline_string: issued.chain }, private_key: { inline_string: issued.key } },
    ],
  })
  const bootstrap = (issued: typeof first, clusters: Json[], more: JsonObject = {}): JsonObject => ({
    ...BOOTSTRAP,
    ...more,
    static_resources: {
      clusters: [...BOOTSTRAP.static_resources.clusters, ...clusters],
      listeners: [
        listener('web', { manager: direct('web'), transport: tls({ common_tls_context: certificateOf(issued) }) }),
        listener('plain', { manager: direct('plain') }),
      ],
      secrets: [{ name: 'token', generic_secret: { secret: { inline_string: issued.key } } }],
    },
  })
  let next = bootstrap(first, [staticCluster('s')])
  const rig: Rig = new Rig({ bootstrap: next, again: () => load(next) }).start()
  t.equal(tlsOf(rig)?.certificates[0].privateKey, first.key)
  t.equal(rig.state.secrets.size, 1)
  t.same(rig.gateway.reload(), [])
  rig.changes.length = 0
  next = bootstrap(second, [staticCluster('r')])
  t.same(rig.gateway.reload(), [])
  t.equal(tlsOf(rig)?.certificates[0].privateKey, second.key)
  t.same(
    rig.changes.map(({ listeners }) => listeners?.set.map(({ name }) => name)),
    [['web']],
  )
  t.same(rig.names.clusters, ['r'])
  t.equal(Buffer.from(rig.state.secrets.get('token')?.value ?? '', 'base64').toString(), second.key)
  next = bootstrap(first, [{ name: 'r', type: 'STATIC', lb_policy: 'CLUSTER_PROVIDED' }])
  t.match(rig.gateway.reload(), [{ message: /CLUSTER_PROVIDED/ }])
  t.equal(tlsOf(rig)?.certificates[0].privateKey, second.key, 'one that is wrong changes nothing')
})

t.test('clusters are asked for on demand', async (t) => {
  const filter = {
    name: 'envoy.filters.http.on_demand',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand',
      odcds: { source: ADS, timeout: '5s' },
    },
  }
  const rig = await ready({ tolerated: new Set(['later']) })
  t.same(rig.ads.whole('listener', { web: listener('web', { manager: direct('web'), filters: [filter] }) }), [])
  await rig.turn()
  const found = rig.gateway.demand({ kind: 'cluster', name: 'later', source: '' }, 5_000)
  const none = rig.gateway.demand({ kind: 'cluster', name: 'never', source: '' }, 5_000)
  await rig.turn()
  t.same(rig.ads.wanted('cluster'), ['*', 'later', 'never'])
  rig.ads.delta('cluster', { later: edsCluster('later') })
  rig.ads.absent('cluster', ['never'], 'does-not-exist')
  t.equal(await none, false)
  await rig.turn()
  rig.ads.delta('assignment', { later: endpoints('later', 1) })
  t.equal(await found, true)
  t.ok(rig.state.clusters.has('later'))
  t.equal(await rig.gateway.demand({ kind: 'cluster', name: 'later', source: '' }, 5_000), true)
  t.equal(await rig.gateway.demand({ kind: 'cluster', name: 'x', source: 'other' }, 5_000), false)
})

t.test("a name of a request that stands for all clusters is nobody's, and ends no subscription", async (t) => {
  const rig = await ready()
  const before = rig.ads.wanted('cluster')
  const glob = 'xdstp://a/envoy.config.cluster.v3.Cluster/*'
  const wild = ['*', glob].map((name) => rig.gateway.demand({ kind: 'cluster', name, source: '' }, 1_000))
  await rig.turn()
  t.same(rig.ads.wanted('cluster'), before)
  rig.clock.advance(1_000)
  t.same(await Promise.all(wild), [false, false])
  const others = Array.from({ length: 2_000 }, (_, i) => `n${i}`)
  for (let at = 0; at < others.length; at += 100) {
    const answers = others
      .slice(at, at + 100)
      .map((name) => rig.gateway.demand({ kind: 'cluster', name, source: '' }, 1_000))
    await rig.turn()
    rig.clock.advance(1_000)
    await Promise.all(answers)
  }
  await rig.turn()
  t.ok(rig.ads.wanted('cluster').includes('*'))
})

t.test('who gives clusters no time to come waits for none, and leaves room for others', async (t) => {
  const rig = await ready({ tolerated: new Set(['later']) })
  const hasty = Array.from({ length: 1_000 }, (_, i) =>
    rig.gateway.demand({ kind: 'cluster', name: `n${i}`, source: '' }, 0),
  )
  await rig.turn()
  rig.clock.advance(1)
  const found = rig.gateway.demand({ kind: 'cluster', name: 'later', source: '' }, 5_000)
  await rig.turn()
  rig.ads.delta('cluster', { later: staticCluster('later') })
  await rig.turn()
  t.equal(await found, true)
  t.ok((await Promise.all(hasty)).every((answer) => !answer))
})

/** All of a small configuration, answered. */
async function answered(rig: Rig): Promise<void> {
  await rig.turn()
  rig.ads.connect(true)
  rig.ads.whole('cluster', { a: edsCluster('a'), b: staticCluster('b') })
  await rig.turn()
  rig.ads.delta('assignment', { a: endpoints('a', 1) })
  await rig.turn()
  rig.ads.whole('listener', { web: listener('web', { transport: tls({ common_tls_context: SDS }) }) })
  await rig.turn()
  rig.ads.delta('routes', { table: routes('table', 'a', 'b') })
  rig.ads.delta('secret', { cert: certificate(first) })
  await rig.turn()
}

t.test('what was accepted is kept on disk, and used where no control plane answers', async (t) => {
  const stateDir = join(t.testdir({}), 'state')
  const before = new Rig({ stateDir }).start()
  await answered(before)
  t.ok(before.initialised)
  before.gateway[Symbol.dispose]()
  const rig = new Rig({ stateDir }).start()
  await rig.clock.advanceAsync(2_999)
  t.same(rig.names.listeners, [], 'not at once')
  await rig.clock.advanceAsync(1)
  await rig.turn()
  t.same([rig.names.clusters, rig.names.listeners, rig.names.tables], [['a', 'b'], ['web'], ['table']])
  t.equal(tlsOf(rig)?.certificates[0].privateKey, first.key)
  t.ok(rig.initialised)
  t.notOk(rig.confirmed)
  t.ok(rig.gateway.status().stale)
  t.equal(rig.gauge('headgate.xds.stale'), 6)
  t.match(
    rig.log.map(({ message }) => message),
    [/no answer from a control plane/],
  )
  rig.ads.connect(true)
  rig.ads.whole('cluster', { a: edsCluster('a') })
  await rig.turn()
  t.same(rig.names.clusters, ['a', 'b'], 'b is still named')
  rig.ads.delta('routes', { table: routes('table', 'a') })
  rig.ads.delta('assignment', { a: endpoints('a', 1) })
  rig.ads.delta('secret', { cert: certificate(first) })
  rig.ads.whole('listener', { web: listener('web', { transport: tls({ common_tls_context: SDS }) }) })
  await rig.turn()
  t.same(rig.names.clusters, ['a'], 'what the answer does not have goes')
  t.notOk(rig.gateway.status().stale)
  t.equal(rig.gauge('headgate.xds.stale'), 0)
  t.ok(rig.confirmed)
  rig.gateway[Symbol.dispose]()
})

t.test('at once where the first connection fails', async (t) => {
  const stateDir = t.testdir({})
  const before = new Rig({ stateDir }).start()
  await answered(before)
  before.gateway[Symbol.dispose]()
  const rig = new Rig({ stateDir }).start()
  rig.ads.connect(false)
  await rig.turn()
  t.same(rig.names.listeners, ['web'])
  rig.ads.connect(true)
  rig.ads.whole('cluster', {})
  await rig.turn()
  t.same(rig.names.clusters, ['a', 'b'], 'an empty answer is not believed at once')
  rig.gateway[Symbol.dispose]()
})

t.test('it is not used where there is an answer, or where it is of another node or broken', async (t) => {
  const stateDir = t.testdir({})
  const before = new Rig({ stateDir }).start()
  await answered(before)
  await before.clock.advanceAsync(2_000)
  for (let i = 0; i < 50 && files(stateDir).length < 5; i++) await new Promise((resolve) => setTimeout(resolve, 10))
  t.equal(files(stateDir).length, 5, 'it is written while it runs, a file for each type')
  before.gateway[Symbol.dispose]()
  for (const file of files(stateDir)) t.equal(statSync(join(stateDir, file)).mode & 0o777, 0o600)
  const quick = new Rig({ stateDir }).start()
  await quick.turn()
  quick.ads.connect(true)
  quick.ads.whole('cluster', { c: staticCluster('c') })
  await quick.clock.advanceAsync(3_000)
  t.same(quick.names.clusters, ['c'])
  const bootstrap = { ...BOOTSTRAP, node: { id: 'other', cluster: 'test' } }
  const other = new Rig({ stateDir, bootstrap }).start()
  await other.clock.advanceAsync(3_000)
  t.same(other.names.clusters, [])
  for (const file of files(stateDir)) {
    const bytes = readFileSync(join(stateDir, file))
    bytes[bytes.length - 1] ^= 1
    writeFileSync(join(stateDir, file), bytes)
  }
  const broken = new Rig({ stateDir }).start()
  await broken.clock.advanceAsync(3_000)
  t.same(broken.names.clusters, [])
  t.match(broken.log, [{ message: /ignored/, fields: { reason: /checksum/ } }])
})

t.test('a delta server is told which versions are held, and what it does not send stays', async (t) => {
  const stateDir = t.testdir({})
  const dynamic = {
    ...BOOTSTRAP.dynamic_resources,
    ads_config: { ...BOOTSTRAP.dynamic_resources.ads_config, api_type: 'DELTA_GRPC' },
  }
  const bootstrap = { ...BOOTSTRAP, dynamic_resources: dynamic }
  const before = new Rig({ stateDir, bootstrap }).start()
  await answered(before)
  before.gateway[Symbol.dispose]()
  const rig = new Rig({ stateDir, bootstrap }).start()
  await rig.turn()
  const heldBy = (type: string): unknown => {
    const own = rig.ads.subscriptions.find(({ options }) => options.typeName === type)
    return own?.options.held && Object.fromEntries(own.options.held)
  }
  t.same(heldBy(TYPES.cluster), { a: 'v1', b: 'v1' })
  t.same(rig.names.clusters, [], 'but not used yet')
  rig.ads.connect(true)
  rig.ads.delta('cluster', { b: staticCluster('b', 99) })
  await rig.turn()
  t.same(rig.names.clusters, ['b'])
  t.notOk(rig.gateway.status().stale, 'what it says nothing of is confirmed')
  t.same(rig.ads.wanted('assignment'), ['a'])
  rig.gateway[Symbol.dispose]()
})

t.test('a file of the state directory is whole, or is not used', async (t) => {
  const identity = { node: 'n', typeName: TYPES.cluster, source: '' }
  const records = [
    { name: 'a', version: '1', collection: '', bytes: Buffer.from('one') },
    { name: 'b', version: '2', collection: 'c', bytes: Buffer.alloc(0) },
  ]
  const file = Buffer.concat(encodeState(identity, records))
  t.same(
    decodeState(file, identity).map((record) => ({ ...record, bytes: Buffer.from(record.bytes) })),
    records,
  )
  for (let end = 0; end < file.length; end++) t.throws(() => decodeState(file.subarray(0, end), identity))
  for (let at = 0; at < file.length; at++) {
    const other = Buffer.from(file)
    other[at] ^= 0x20
    let read: unknown
    try {
      read = decodeState(other, identity).map(({ name }) => name)
    } catch {
      continue
    }
    // What the line says beside what is looked at (the number of records) is for readers.
    t.same(read, ['a', 'b'])
  }
  for (const change of [{ node: 'm' }, { source: 'x' }, { typeName: TYPES.listener }]) {
    t.throws(() => decodeState(file, { ...identity, ...change }), /is of another/)
  }
})

function stampOf(path: string): string {
  const { ino, size, mtimeMs } = statSync(path)
  return `${ino}:${size}:${mtimeMs}`
}

function files(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.endsWith('.state'))
}

t.test('an update that leaves too few clusters is refused as a whole, and what it took away goes later', async (t) => {
  const { ads_config, ...services } = BOOTSTRAP.dynamic_resources
  const validator =
    'type.googleapis.com/envoy.extensions.config.validators.minimum_clusters.v3.MinimumClustersValidator'
  const config_validators = [{ name: 'minimum', typed_config: { '@type': validator, min_clusters_num: 2 } }]
  const rig = new Rig({
    bootstrap: { ...BOOTSTRAP, dynamic_resources: { ...services, ads_config: { ...ads_config, config_validators } } },
  }).start()
  const [refused] = rig.ads.whole('cluster', { a: staticCluster('a') })
  t.match([refused.name, refused.errors.map(String)], ['a', [/leaves 1 clusters, and at least 2 are demanded/]])
  await rig.turn()
  t.same(rig.names.clusters, [])
  t.same(rig.ads.wanted('listener'), ['*'], 'nobody waits for it')
  t.same(rig.ads.whole('cluster', { a: staticCluster('a'), b: staticCluster('b') }), [])
  await rig.turn()
  t.same(rig.names.clusters, ['a', 'b'])
  t.equal(rig.ads.whole('cluster', {}).length, 1)
  await rig.turn()
  t.same(rig.names.clusters, ['a', 'b'])
  t.same(rig.ads.whole('cluster', { b: staticCluster('b', 1), c: staticCluster('c') }), [])
  await rig.turn()
  t.same(rig.names.clusters, ['b', 'c'], 'a is gone since the update that was refused')
  const route_config = routes('web', 'c') as JsonObject
  rig.ads.whole('listener', { web: listener('web', { manager: { route_config } }) })
  await rig.turn()
  t.same(rig.ads.delta('cluster', { d: staticCluster('d') }, ['c']), [])
  await rig.turn()
  t.same(rig.names.clusters, ['b', 'c', 'd'], 'c serves on for as long as it is named')
  const [counted] = rig.ads.delta('cluster', {}, ['d'])
  t.match(counted?.errors.map(String), [/leaves 1 clusters/], 'but counts no more')
  const [again] = rig.ads.delta('cluster', { d: staticCluster('d', 1) }, ['b'])
  t.match(again?.errors.map(String), [/leaves 1 clusters/])
  t.same(rig.ads.delta('cluster', { e: staticCluster('e'), f: staticCluster('f') }, []), [])
  await rig.turn()
  t.same(rig.names.clusters, ['c', 'd', 'e', 'f'], 'd was named again, b was not')
})
