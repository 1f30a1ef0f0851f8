import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ConfigError, type Json, type JsonObject } from '../../lib/core/errors.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import { Graph } from '../../xds-client/dynamic/graph.ts'
import { Publication } from '../../xds-client/dynamic/publication.ts'
import { Version } from '../../xds-client/dynamic/resource.ts'
import { StateDirectory } from '../../xds-client/dynamic/state-directory.ts'
import { Authority } from '../support/certificates.ts'
import { TestClock } from '../support/clock.ts'
import {
  ADS,
  BOOTSTRAP,
  edsCluster,
  encode,
  endpoints,
  type FakeSource,
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

const TLS = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3'
const SDS = { tls_certificate_sds_secret_configs: [{ name: 'cert', sds_config: ADS }] }

function tls(context: JsonObject, type = 'DownstreamTlsContext'): Json {
  return { name: 'envoy.transport_sockets.tls', typed_config: { '@type': `${TLS}.${type}`, ...context } }
}

function certificate({ chain, key }: { readonly chain: string; readonly key: string }, name = 'cert'): Json {
  return { name, tls_certificate: { certificate_chain: { inline_string: chain }, private_key: { inline_string: key } } }
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

const DELTA_BOOTSTRAP = {
  ...BOOTSTRAP,
  dynamic_resources: {
    ...BOOTSTRAP.dynamic_resources,
    ads_config: { ...BOOTSTRAP.dynamic_resources.ads_config, api_type: 'DELTA_GRPC' },
  },
}

/** The start is over: clusters `a` and `b` are there, and a listener on port 8080. */
async function serving(options: RigOptions = {}): Promise<Rig> {
  const rig = new Rig(options).start()
  rig.ads.whole('cluster', { a: staticCluster('a'), b: staticCluster('b') })
  await rig.turn()
  rig.ads.whole('listener', { web: listener('web', { manager: direct('web'), port: 8080 }) })
  await rig.turn()
  rig.changes.length = 0
  return rig
}

t.test('what is taken away and comes back as it was has its name and its address as before', async (t) => {
  const rig = await serving()
  rig.ads.whole('listener', {
    web: listener('web', { manager: direct('web'), port: 8080 }),
    user: listener('user', {
      manager: { route_config: { ...(routes('own', 'b') as JsonObject), validate_clusters: false } },
    }),
  })
  await rig.turn()
  rig.ads.delta('cluster', {}, ['b'])
  await rig.turn()
  t.same(rig.names.clusters, ['a', 'b'], 'it is still named')
  rig.ads.delta('cluster', { b: staticCluster('b') })
  rig.ads.delta('listener', {}, ['web'])
  rig.ads.delta('listener', { web: listener('web', { manager: direct('web'), port: 8080 }) })
  const strict = { ...(routes('table', 'b') as JsonObject), validate_clusters: true }
  t.same(rig.ads.delta('listener', { own: listener('own', { manager: { route_config: strict } }) }), [])
  const thief = listener('thief', { manager: direct('thief'), port: 8080 })
  t.match(rig.ads.delta('listener', { thief }), [{ name: 'thief', errors: [{ path: 'address' }] }])
})

t.test('the address of a listener whose name the bootstrap takes is free', async (t) => {
  let next: JsonObject = BOOTSTRAP
  const rig = await serving({ again: () => load(next) })
  next = {
    ...BOOTSTRAP,
    static_resources: {
      ...BOOTSTRAP.static_resources,
      listeners: [listener('web', { manager: direct('web'), port: 8081 })],
    },
  }
  t.same(rig.gateway.reload(), [])
  t.same(rig.ads.delta('listener', { next: listener('next', { manager: direct('next'), port: 8080 }) }), [])
})

t.test('after a cold start a delta server is told all that is held, so that it can take it away', async (t) => {
  const stateDir = t.testdir({})
  const before = await serving({ stateDir, bootstrap: DELTA_BOOTSTRAP })
  before.gateway[Symbol.dispose]()
  const rig = new Rig({ stateDir, bootstrap: DELTA_BOOTSTRAP }).start()
  await rig.turn()
  rig.ads.connect(false)
  await rig.turn()
  t.same(rig.names.listeners, ['web'])
  const own = rig.ads.subscriptions.find(({ options }) => options.typeName === TYPES.listener)
  t.same([...(own?.options.held?.keys() ?? [])], ['web'])
  rig.gateway[Symbol.dispose]()
})

const TARGET: JsonObject = {
  api_config_source: {
    api_type: 'GRPC',
    transport_api_version: 'V3',
    grpc_services: [{ google_grpc: { target_uri: '127.0.0.1:1234', stat_prefix: 'sds' } }],
  },
  resource_api_version: 'V3',
}

t.test('clusters of channels that a delivered resource names stay when the bootstrap is read anew', async (t) => {
  let next: JsonObject = BOOTSTRAP
  const rig = await serving({ again: () => load(next) })
  const common = { tls_certificate_sds_secret_configs: [{ name: 'cert', sds_config: TARGET }] }
  const web = listener('web', { manager: direct('web'), transport: tls({ common_tls_context: common }) })
  t.same(rig.ads.whole('listener', { web }), [])
  await rig.turn()
  const [channel] = rig.names.clusters.filter((name) => name !== 'a' && name !== 'b')
  t.ok(channel)
  next = { ...BOOTSTRAP, node: { id: 'test-id', cluster: 'test-cluster' } }
  t.same(rig.gateway.reload(), [])
  await rig.clock.advanceAsync(10_000)
  t.ok(rig.state.clusters.has(channel))
})

t.test('a listener that changes to scopes waits for the route tables of those', async (t) => {
  const rig = await serving()
  const scoped: Readonly<Record<string, Json>> = {
    scoped_routes: {
      name: 'scopes',
      scope_key_builder: {
        fragments: [
          { header_value_extractor: { name: 'x', element_separator: ';', element: { key: 'a', separator: '=' } } },
        ],
      },
      rds_config_source: ADS,
      scoped_rds: { scoped_rds_config_source: ADS },
    },
  }
  t.same(rig.ads.whole('listener', { web: listener('web', { manager: scoped, port: 8080 }) }), [])
  await rig.turn()
  rig.ads.whole('scope', {
    one: { name: 'one', route_configuration_name: 't1', key: { fragments: [{ string_key: '1' }] } },
  })
  await rig.turn()
  t.same(rig.ads.wanted('routes'), ['t1'])
  t.equal(rig.state.listeners.get('web')?.filterChains[0].http?.scopedRoutes, undefined, 'the one before serves')
  rig.ads.delta('routes', { t1: routes('t1', 'a') })
  await rig.turn()
  t.match(rig.state.listeners.get('web')?.filterChains[0].http?.scopedRoutes?.scopes, [
    { name: 'one', routeTable: 't1' },
  ])
})

const ON_DEMAND = {
  name: 'envoy.filters.http.on_demand',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand',
    odcds: { source: ADS, timeout: '5s' },
  },
}

t.test('names that requests ask for and that nobody answers are not asked for without end', async (t) => {
  const rig = await serving()
  rig.ads.delta('listener', { od: listener('od', { manager: direct('od'), filters: [ON_DEMAND] }) })
  await rig.turn()
  for (let round = 0; round < 4; round++) {
    const answers: Promise<boolean>[] = []
    for (let i = 0; i < 900; i++) {
      answers.push(rig.gateway.demand({ kind: 'cluster', name: `n${round}-${i}`, source: '' }, 1_000))
    }
    await rig.clock.advanceAsync(1_000)
    t.same(new Set(await Promise.all(answers)), new Set([false]))
  }
  await rig.turn()
  t.ok(rig.ads.wanted('cluster').length <= 1_001, `${rig.ads.wanted('cluster').length} names`)
  t.ok(rig.ads.wanted('cluster').includes('n3-899'), 'the newest may still come')
  rig.ads.absent('cluster', ['n3-899'], 'timeout')
  await rig.turn()
  t.notOk(rig.ads.wanted('cluster').includes('n3-899'))
  rig.ads.delta('cluster', { 'n3-898': staticCluster('n3-898') })
  await rig.turn()
  t.ok(rig.state.clusters.has('n3-898'), 'one that comes late is there')
  t.ok(rig.ads.wanted('cluster').includes('n3-898'))
})

t.test('a secret of another kind than is asked for is refused, and the good one stays', async (t) => {
  const rig = await serving()
  const transport = tls({ common_tls_context: SDS })
  rig.ads.whole('listener', { web: listener('web', { manager: direct('web'), transport }) })
  await rig.turn()
  const wrong = { name: 'cert', generic_secret: { secret: { inline_string: 'x' } } }
  const reasons = [{ name: 'cert', errors: [{ message: /generic_secret.*tls_certificate/ }] }]
  t.match(rig.ads.delta('secret', { cert: wrong }), reasons, 'as a first one')
  await rig.turn()
  rig.ads.delta('secret', { cert: certificate(first) })
  await rig.turn()
  t.match(rig.ads.delta('secret', { cert: wrong }), reasons)
  await rig.turn()
  const found = rig.state.listeners.get('web')?.filterChains[0].tls
  t.equal(found?.certificates[0].privateKey, first.key)
  t.equal(found?.notReady, undefined)
})

t.test('thousands of scopes cost what they are, not their square', async (t) => {
  const rig = await serving()
  const scoped: Readonly<Record<string, Json>> = {
    scoped_routes: {
      name: 'scopes',
      scope_key_builder: {
        fragments: [
          { header_value_extractor: { name: 'x', element_separator: ';', element: { key: 'a', separator: '=' } } },
        ],
      },
      rds_config_source: ADS,
      scoped_rds: { scoped_rds_config_source: ADS },
    },
  }
  rig.ads.whole('listener', { web: listener('web', { manager: scoped, port: 8080 }) })
  await rig.turn()
  const scope = (name: string, key: string): Json => ({
    name,
    route_configuration_name: 't',
    key: { fragments: [{ string_key: key }] },
  })
  const many: Record<string, Json> = {}
  for (let i = 0; i < 4_000; i++) many[`s${i}`] = scope(`s${i}`, `${i}`)
  const stringify = JSON.stringify
  let calls = 0
  JSON.stringify = ((...args: Parameters<typeof stringify>) => {
    calls++
    return stringify(...args)
  }) as typeof stringify
  t.teardown(() => {
    JSON.stringify = stringify
  })
  t.same(rig.ads.whole('scope', many), [])
  JSON.stringify = stringify
  t.ok(calls < 40_000, `${calls} keys were made`)
  t.match(rig.ads.delta('scope', { other: scope('other', '7') }), [{ name: 'other', errors: [{ path: 'key' }] }])
  t.same(rig.ads.delta('scope', { other: scope('other', '7') }, ['s7']), [], 'one that goes leaves its key')
  t.match(rig.ads.delta('scope', { s7: scope('s7', '7') }), [{ name: 's7' }])
  t.same(rig.ads.delta('scope', { other: scope('other', '9999') }), [])
  t.same(rig.ads.delta('scope', { s7: scope('s7', '7') }), [], 'one that changes leaves its key')
})

t.test('what workers cannot use stays shown as refused when it comes again as it was', async (t) => {
  const rig = await serving()
  rig.gateway.refused({ kind: 'listeners', name: 'web' }, [new ConfigError('address', 'the port is in use')])
  rig.ads.whole('listener', { web: listener('web', { manager: direct('web'), port: 8080 }) })
  await rig.turn()
  const web = rig.gateway.status().resources.find(({ name }) => name === 'web')
  t.equal(web?.client, 'nacked')
  t.equal(rig.gauge('headgate.xds.rejected.lds'), 1)
})

t.test(
  'an empty delta answer that was held back through a loss of the connection is believed in the end',
  async (t) => {
    const rig = await serving({ bootstrap: DELTA_BOOTSTRAP })
    rig.ads.connect(true)
    rig.ads.connect(false)
    rig.ads.connect(true)
    rig.ads.delta('cluster', {}, ['a', 'b'])
    await rig.clock.advanceAsync(1_000)
    t.same(rig.names.clusters, ['a', 'b'])
    rig.ads.connect(false)
    rig.ads.connect(true)
    rig.ads.delta('cluster', { c: staticCluster('c') })
    await rig.clock.advanceAsync(14_000)
    rig.ads.delta('cluster', { b: staticCluster('b') })
    await rig.clock.advanceAsync(1_000)
    await rig.turn()
    t.same(rig.names.clusters, ['b', 'c'])
  },
)

t.test('a file that takes the place of what was sent inline is read anew when it changes', async (t) => {
  const dir = t.testdir({ 'cert.pem': first.chain, 'key.pem': first.key })
  const stampOf = (path: string): string => String(statSync(path).mtimeMs)
  const rig = await serving({ stampOf })
  rig.ads.whole('listener', {
    web: listener('web', { manager: direct('web'), transport: tls({ common_tls_context: SDS }) }),
  })
  await rig.turn()
  rig.ads.delta('secret', { cert: certificate(first) })
  await rig.turn()
  const files = {
    certificate_chain: { filename: join(dir, 'cert.pem') },
    private_key: { filename: join(dir, 'key.pem') },
  }
  t.same(rig.ads.delta('secret', { cert: { name: 'cert', tls_certificate: files } }), [])
  await rig.turn()
  t.same([...rig.gateway.files().files.keys()].sort(), [join(dir, 'cert.pem'), join(dir, 'key.pem')])
  writeFileSync(join(dir, 'cert.pem'), second.chain)
  writeFileSync(join(dir, 'key.pem'), second.key)
  t.same(rig.gateway.reload(), [])
  t.equal(rig.state.listeners.get('web')?.filterChains[0].tls?.certificates[0].privateKey, second.key)
})

// --- the state directory ----------------------------------------------------------------------------------------------

function held(dir: string): string[] {
  return readdirSync(dir).filter((file) => file.endsWith('.state'))
}

t.test(
  'an empty first answer, which may be that of a server without knowledge, does not wipe what is kept',
  async (t) => {
    const stateDir = t.testdir({})
    const before = await serving({ stateDir })
    before.gateway[Symbol.dispose]()
    const kept = new Map(held(stateDir).map((file) => [file, readFileSync(join(stateDir, file), 'latin1')]))
    t.equal(kept.size, 2)
    const rig = new Rig({ stateDir }).start()
    await rig.turn()
    rig.ads.connect(true)
    rig.ads.whole('cluster', {})
    await rig.turn()
    rig.ads.whole('listener', {})
    await rig.clock.advanceAsync(10_000)
    rig.gateway[Symbol.dispose]()
    for (const [file, bytes] of kept) t.equal(readFileSync(join(stateDir, file), 'latin1'), bytes)
  },
)

t.test('a secret that nobody needs any more does not stay on disk', async (t) => {
  const stateDir = t.testdir({})
  const rig = await serving({ stateDir })
  const web = listener('web', { manager: direct('web'), transport: tls({ common_tls_context: SDS }) })
  rig.ads.whole('listener', { web })
  await rig.turn()
  rig.ads.delta('secret', { cert: certificate(first) })
  await rig.turn()
  const secrets = (): string[] => held(stateDir).filter((file) => file.startsWith('secret'))
  const eventually = async (count: number): Promise<void> => {
    await rig.clock.advanceAsync(2_000)
    for (let i = 0; i < 100 && secrets().length !== count; i++) await new Promise((resolve) => setTimeout(resolve, 10))
    t.equal(secrets().length, count)
  }
  await eventually(1)
  rig.ads.whole('listener', { web: listener('web', { manager: direct('web') }) })
  await rig.turn()
  t.same(rig.ads.wanted('secret'), [])
  await eventually(0)
  rig.gateway[Symbol.dispose]()
})

t.test('what files deliver is not kept a second time', async (t) => {
  const dir = t.testdir({ 'sds.yaml': 'resources: []' })
  const stateDir = join(dir, 'state')
  const rig = await serving({ stateDir })
  const file: JsonObject = { path_config_source: { path: join(dir, 'sds.yaml') }, resource_api_version: 'V3' }
  const common = { tls_certificate_sds_secret_configs: [{ name: 'cert', sds_config: file }] }
  const web = listener('web', { manager: direct('web'), transport: tls({ common_tls_context: common }) })
  t.same(rig.ads.whole('listener', { web }), [])
  await rig.turn()
  const source = [...rig.sources].find(([key]) => key !== '')?.[1] as FakeSource
  source.delta('secret', { cert: certificate(first) })
  await rig.turn()
  rig.gateway[Symbol.dispose]()
  t.same(
    held(stateDir)
      .map((name) => name.split('-')[0])
      .sort(),
    ['cluster', 'listener'],
  )
})

t.test('files that a process could not finish are swept, and links are not followed', async (t) => {
  const dir = t.testdir({ outside: 'mine', state: {} })
  const state = join(dir, 'state')
  const old = join(state, 'secret-0011223344556677.state.4711.new')
  const young = join(state, 'secret-0011223344556677.state.4712.new')
  const other = join(state, 'notes.new')
  for (const path of [old, young, other]) writeFileSync(path, 'x')
  const longAgo = new Date(Date.now() - 3_600_000)
  for (const path of [old, other]) utimesSync(path, longAgo, longAgo)
  const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
  const directory = new StateDirectory(state, log)
  t.same([existsSync(old), existsSync(young), existsSync(other)], [false, true, true])
  const identity = { node: 'n', typeName: TYPES.secret, source: '' }
  const record = { name: 'a', version: '1', collection: '', bytes: encode(TYPES.secret, certificate(first)) }
  const later = directory.write(identity, [record])
  directory.writeNow(identity, [{ ...record, version: '2' }])
  await later
  t.match(directory.read(identity), [{ version: '2' }], 'a write that was on its way does not undo the last one')
  t.equal(readdirSync(state).filter((name) => name.includes(String(process.pid))).length, 0)
  mkdirSync(join(dir, 'unused'))
  t.equal(readFileSync(join(dir, 'outside'), 'utf8'), 'mine')
})

t.test('an error of ours in what was kept costs that resource, not the process', async (t) => {
  const stateDir = t.testdir({})
  const before = await serving({ stateDir, bootstrap: DELTA_BOOTSTRAP })
  before.gateway[Symbol.dispose]()
  const check = (kind: string, config: unknown): ConfigError[] => {
    if (kind === 'cluster' && (config as { name: string }).name === 'b') throw new TypeError('ours')
    return []
  }
  const rig = new Rig({ stateDir, bootstrap: DELTA_BOOTSTRAP, check }).start()
  await rig.turn()
  const own = rig.ads.subscriptions.find(({ options }) => options.typeName === TYPES.cluster)
  t.same([...(own?.options.held?.keys() ?? [])], ['a'], 'what cannot be used is not claimed')
  rig.ads.connect(false)
  await rig.turn()
  t.same(rig.names.clusters, ['a'])
  rig.gateway[Symbol.dispose]()
})

t.test('a route table whose source is gone with its listener comes anew with the next', async (t) => {
  const rig = await serving()
  t.equal(rig.clock instanceof TestClock, true)
  for (let round = 0; round < 3; round++) {
    rig.ads.whole('listener', { web: listener('web', { manager: rds('table') }) })
    await rig.turn()
    t.same(rig.ads.wanted('routes'), ['table'])
    rig.ads.delta('routes', { table: routes('table', 'a') })
    rig.ads.delta('cluster', { e: edsCluster('e') })
    await rig.turn()
    rig.ads.delta('assignment', { e: endpoints('e', round + 1) })
    await rig.turn()
    t.same([rig.names.tables, rig.names.assignments], [['table'], ['e']])
    rig.ads.whole('listener', {})
    rig.ads.delta('cluster', {}, ['e'])
    await rig.turn()
    t.same([rig.names.tables, rig.names.assignments, rig.ads.wanted('routes')], [[], [], []])
  }
})

t.test('an error of ours in one resource keeps no other from coming into force', async (t) => {
  const lines: unknown[] = []
  const nothing = (): void => {}
  const promoted: string[] = []
  const graph = new Graph({
    clock: new TestClock(),
    log: { debug: nothing, info: nothing, warn: nothing, error: (message, fields) => lines.push([message, fields]) },
    publication: new Publication(),
    clustersCanCome: () => true,
    wanted: nothing,
    dropped: nothing,
    accepted: nothing,
    failures: nothing,
    stale: nothing,
    promoted: ({ name }) => {
      if (name === 'bad') throw new TypeError('ours')
      promoted.push(name)
    },
    schedule: nothing,
  })
  for (const name of ['bad', 'good']) {
    const config = { name } as unknown as ClusterConfig
    const translation = { config, references: [], ignored: [], files: [], directories: [] }
    graph.accept(graph.add('cluster', name, name, undefined), new Version('1', new Uint8Array(), 0, translation))
  }
  graph.settle()
  t.same(promoted, ['good'])
  t.match(lines, [[/could not be put into force/, { name: 'bad', reason: /TypeError: ours/ }]])
})
