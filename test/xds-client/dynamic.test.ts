import t from 'tap'
import { ConfigError, type Json, type JsonObject } from '../../lib/core/errors.ts'
import { seeded } from '../support/random.ts'
import {
  ADS,
  BOOTSTRAP,
  clustersIn,
  edsCluster,
  encode,
  endpoints,
  listener,
  Rig,
  type RigOptions,
  rds,
  routes,
  staticCluster,
  TYPES,
} from './dynamic-rig.ts'

t.test('LDS, RDS, CDS and EDS become one configuration', async (t) => {
  const rig = new Rig().start()
  t.same(rig.changes.length, 1, 'what is static is published before start returns')
  t.ok(rig.state.clusters.has('xds'))
  t.same(rig.ads.wanted('cluster'), ['*'])
  t.same(rig.ads.wanted('listener'), [], 'listeners are asked for after clusters')
  t.same(rig.ads.whole('cluster', { a: edsCluster('a') }), [])
  await rig.turn()
  t.same(rig.ads.wanted('assignment'), ['a'])
  t.same(rig.names.clusters, [], 'a cluster without its endpoints is not there yet')
  rig.ads.whole('assignment', { a: endpoints('a', 1) })
  await rig.turn()
  t.same(rig.names.clusters, ['a'])
  t.equal(rig.state.assignments.get('a')?.localities[0].endpoints.length, 1)
  t.same(rig.ads.wanted('listener'), ['*'])
  t.notOk(rig.initialised)
  rig.ads.whole('listener', { web: listener('web') })
  await rig.turn()
  t.same(rig.ads.wanted('routes'), ['table'])
  t.same(rig.names.listeners, [])
  rig.ads.whole('routes', { table: routes('table', 'a') })
  await rig.turn()
  t.same(rig.names.listeners, ['web'])
  t.same(rig.names.tables, ['table'])
  t.ok(rig.initialised)
  t.ok(rig.confirmed)
  t.equal(rig.changes.length, 3, 'one step for the cluster, one for the listener and its table')
  t.same(rig.broken, [])
  rig.gateway[Symbol.dispose]()
  t.ok(rig.ads.disposed)
  t.equal(rig.clock.pending, 0)
})

/** A gateway that serves `web` by `table` to cluster `a`, all of it delivered. */
async function serving(options: RigOptions = {}): Promise<Rig> {
  const rig = new Rig(options).start()
  rig.ads.whole('cluster', { a: edsCluster('a') })
  await rig.turn()
  rig.ads.whole('assignment', { a: endpoints('a', 1) })
  await rig.turn()
  rig.ads.whole('listener', { web: listener('web') })
  await rig.turn()
  rig.ads.whole('routes', { table: routes('table', 'a') })
  await rig.turn()
  rig.changes.length = 0
  return rig
}

t.test('endpoints of a cluster that serves go out in the turn in which they come, and nothing else does', async (t) => {
  const rig = await serving()
  rig.ads.delta('assignment', { a: endpoints('a', 1, 2) })
  rig.ads.delta('assignment', { a: endpoints('a', 1, 2, 3) })
  await rig.turn()
  t.equal(rig.changes.length, 1)
  t.same(Object.keys(rig.changes[0]), ['assignments'])
  t.equal(rig.state.assignments.get('a')?.localities[0].endpoints.length, 3)
})

t.test('what comes again as it was changes nothing', async (t) => {
  const rig = await serving()
  t.same(rig.ads.whole('cluster', { a: edsCluster('a') }), [])
  t.same(rig.ads.whole('listener', { web: listener('web') }), [])
  t.same(rig.ads.whole('routes', { table: routes('table', 'a') }), [])
  t.same(rig.ads.whole('assignment', { a: endpoints('a', 1) }), [])
  await rig.turn()
  t.same(rig.changes, [])
  t.equal(rig.gateway.status().resources.find(({ name }) => name === 'web')?.active?.version, 'v6', 'but its version')
  t.equal(rig.counter('cluster_manager.cluster_modified'), 0)
})

t.test('maps in another order say the same', async (t) => {
  const rig = await serving()
  const web = (...keys: string[]): Json =>
    listener('web', {
      more: { metadata: { filter_metadata: { ns: Object.fromEntries(keys.map((key) => [key, key])) } } },
    })
  rig.ads.whole('listener', { web: web('a', 'b', 'c') })
  await rig.turn()
  t.equal(rig.changes.length, 1)
  rig.ads.whole('listener', { web: web('c', 'a', 'b') })
  await rig.turn()
  t.equal(rig.changes.length, 1)
})

t.test('a cluster that changes takes the endpoints that are there, at once', async (t) => {
  const rig = await serving()
  rig.ads.whole('cluster', { a: edsCluster('a', { connect_timeout: '2s' }) })
  await rig.turn()
  t.equal(rig.state.clusters.get('a')?.connectTimeoutMs, 2000)
  t.same(rig.ads.wanted('assignment'), ['a'])
  t.equal(
    rig.ads.asked.filter((line) => line.startsWith('ClusterLoadAssignment')).length,
    1,
    'nothing is asked for anew',
  )
  t.equal(rig.counter('cluster_manager.cluster_modified'), 1)
})

t.test('a cluster that gets other endpoints serves with the old ones until the new ones have come', async (t) => {
  const rig = await serving()
  rig.ads.whole('cluster', {
    a: edsCluster('a', { eds_cluster_config: { eds_config: ADS, service_name: 'b' } }),
  })
  await rig.turn()
  t.same(rig.ads.wanted('assignment'), ['a', 'b'])
  t.equal(rig.state.clusters.get('a')?.assignment, 'a')
  t.equal(rig.gauge('cluster_manager.warming_clusters'), 1)
  t.match(rig.gateway.status().waiting, [{ target: 'cluster a', for: ['assignment b of ads'] }])
  rig.ads.delta('assignment', { a: endpoints('a', 7) })
  await rig.turn()
  t.equal(rig.changes.length, 1, 'the old ones are kept up to date meanwhile')
  rig.ads.delta('assignment', { b: endpoints('b', 9) })
  await rig.turn()
  t.equal(rig.state.clusters.get('a')?.assignment, 'b')
  t.same(rig.names.assignments, ['b'])
  t.same(rig.ads.wanted('assignment'), ['b'])
  t.equal(rig.gauge('cluster_manager.warming_clusters'), 0)
})

t.test('a cluster without endpoints serves none after the time for them is over', async (t) => {
  const rig = new Rig().start()
  rig.ads.whole('cluster', { a: edsCluster('a'), b: edsCluster('b') })
  await rig.turn()
  rig.ads.absent('assignment', ['a'])
  rig.ads.absent('assignment', ['b'], 'does-not-exist')
  await rig.turn()
  t.same(rig.names.clusters, ['a', 'b'])
  t.same(rig.names.assignments, [])
  t.same(
    rig.gateway.status().resources.map(({ name, client }) => `${name} ${client}`),
    ['a timeout', 'b does-not-exist', 'a acked', 'b acked'],
  )
  rig.ads.delta('assignment', { a: endpoints('a', 1) })
  await rig.turn()
  t.same(rig.names.assignments, ['a'])
})

t.test(
  'endpoints that are refused let a new cluster start without any, and stay as they were where there are some',
  async (t) => {
    const rig = await serving()
    const bad = { cluster_name: 'a', endpoints: [{ lb_endpoints: [{ endpoint: {} }] }] }
    const rejections = rig.ads.delta('assignment', { a: bad })
    t.match(rejections, [{ name: 'a', errors: [{ path: /address/ }] }])
    await rig.turn()
    t.same(rig.changes, [])
    const status = rig.gateway
      .status()
      .resources.find(({ typeName, name }) => typeName.endsWith('Assignment') && name === 'a')
    t.equal(status?.client, 'nacked')
    t.equal(status?.active?.version, 'v2')
    t.equal(rig.gauge('headgate.xds.rejected.eds'), 1)
    rig.ads.delta('cluster', { b: edsCluster('b') })
    await rig.turn()
    t.same(rig.names.clusters, ['a'])
    rig.ads.delta('assignment', { b: { ...bad, cluster_name: 'b' } })
    await rig.turn()
    t.same(rig.names.clusters, ['a', 'b'])
    rig.ads.delta('assignment', { a: endpoints('a', 2), b: endpoints('b', 2) })
    await rig.turn()
    t.equal(rig.gauge('headgate.xds.rejected.eds'), 0)
  },
)

t.test('of a bad answer the good resources apply, and the bad ones keep their last good version', async (t) => {
  const rig = await serving()
  const rejections = rig.ads.whole('cluster', {
    a: edsCluster('a', { lb_policy: 'CLUSTER_PROVIDED', lb_subset_config: { subset_selectors: [{ keys: ['x'] }] } }),
    b: staticCluster('b'),
    c: { name: 'c', type: 'STATIC', lb_policy: 'CLUSTER_PROVIDED' },
  })
  t.same(rejections.map(({ name }) => name).sort(), ['a', 'c'])
  await rig.turn()
  t.same(rig.names.clusters, ['a', 'b'])
  t.equal(rig.gauge('headgate.xds.rejected.cds'), 2)
  rig.ads.whole('cluster', { a: edsCluster('a'), b: staticCluster('b') })
  await rig.turn()
  t.equal(rig.gauge('headgate.xds.rejected.cds'), 0, 'one that was never good and is sent no more is forgotten')
  t.same(rig.broken, [])
})

t.test('a resource that is not what it was sent as, or comes twice, is refused', async (t) => {
  const rig = await serving()
  t.match(rig.ads.delta('cluster', { b: staticCluster('other') }), [{ name: 'b', errors: [{ path: 'name' }] }])
  const bytes = encode(TYPES.cluster, staticCluster('b'))
  const rejections = rig.ads.raw('cluster', [
    { name: 'b', bytes },
    { name: 'b', bytes: encode(TYPES.cluster, staticCluster('b', 81)) },
  ])
  t.match(rejections, [{ name: 'b', errors: [{ message: /a second cluster "b"/ }] }])
  t.match(rig.ads.raw('cluster', [{ name: 'c', bytes: Buffer.from('ff', 'hex') }]), [{ name: 'c', errors: [{}] }])
  await rig.turn()
  t.same(rig.names.clusters, ['a', 'b'])
})

t.test('what nobody asked for is passed over', async (t) => {
  const rig = await serving()
  const [routesOf] = rig.ads.subscriptions.filter(({ options }) => options.typeName === TYPES.routes)
  const received = {
    version: '1',
    typeName: TYPES.routes,
    aliases: [],
    bytes: encode(TYPES.routes, routes('other', 'a')),
  }
  t.same(routesOf.watcher.onUpdate({ version: '1', resources: [{ name: 'other', ...received }], removed: [] }), [])
  await rig.turn()
  t.same(rig.changes, [])
})

t.test('of two listeners of an update with one address the second is refused', async (t) => {
  const rig = await serving()
  const rejections = rig.ads.whole('listener', {
    web: listener('web', { port: 8080 }),
    other: listener('other', { port: 8080 }),
    third: listener('third', { port: 8081 }),
  })
  t.match(rejections, [
    { name: 'other', errors: [{ path: 'address', message: /127.0.0.1:8080 is the address of listener "web"/ }] },
  ])
  await rig.turn()
  t.same(rig.names.listeners, ['third', 'web'])
  t.same(rig.ads.whole('listener', { other: listener('other', { port: 8080 }) }), [], 'it is free once the first goes')
  await rig.turn()
  t.same(rig.names.listeners, ['other'])
})

t.test('a listener that changes is served as it was until what it needs has come', async (t) => {
  const rig = await serving()
  rig.ads.whole('listener', { web: listener('web', { manager: rds('next') }) })
  await rig.turn()
  t.same(rig.ads.wanted('routes'), ['next', 'table'])
  t.same(rig.changes, [])
  t.equal(rig.gauge('listener_manager.total_listeners_warming'), 1)
  rig.ads.delta('routes', { next: routes('next', 'a') })
  await rig.turn()
  t.equal(rig.state.listeners.get('web')?.filterChains[0].http?.routeTable, 'next')
  t.same(rig.names.tables, ['next'], 'the old table goes in the same step')
  t.same(rig.ads.wanted('routes'), ['next'])
  t.equal(rig.changes.length, 1)
  t.same(rig.broken, [])
})

t.test('a listener whose routes do not come serves without them, and has them when they do', async (t) => {
  const rig = new Rig({ tolerated: new Set(['table']) }).start()
  rig.ads.whole('cluster', {})
  await rig.turn()
  rig.ads.whole('listener', { web: listener('web') })
  await rig.turn()
  t.same(rig.names.listeners, [])
  rig.ads.absent('routes', ['table'])
  await rig.turn()
  t.same(rig.names.listeners, ['web'])
  t.ok(rig.initialised)
  rig.ads.delta('cluster', { a: staticCluster('a') })
  rig.ads.delta('routes', { table: routes('table', 'a') })
  await rig.turn()
  t.same(rig.names.tables, ['table'])
})

t.test('two listeners share a route table, which stays as long as one of them does', async (t) => {
  const rig = await serving()
  rig.ads.whole('listener', { web: listener('web'), more: listener('more') })
  await rig.turn()
  t.same(rig.names.listeners, ['more', 'web'])
  rig.ads.whole('listener', { more: listener('more') })
  await rig.turn()
  t.same([rig.names.listeners, rig.names.tables, rig.ads.wanted('routes')], [['more'], ['table'], ['table']])
  rig.ads.whole('listener', {})
  await rig.turn()
  t.same([rig.names.listeners, rig.names.tables, rig.ads.wanted('routes')], [[], [], []])
  t.equal(rig.counter('listener_manager.listener_removed'), 2)
  rig.ads.whole('listener', { web: listener('web') })
  await rig.turn()
  t.same(rig.ads.wanted('routes'), ['table'], 'it is asked for anew')
})

t.test('a removal cancels warming', async (t) => {
  const rig = await serving()
  rig.ads.delta('cluster', { b: edsCluster('b') })
  rig.ads.delta('listener', { more: listener('more', { manager: rds('late') }) })
  await rig.turn()
  t.same(rig.ads.wanted('assignment'), ['a', 'b'])
  rig.ads.delta('cluster', {}, ['b'])
  rig.ads.delta('listener', {}, ['more'])
  await rig.turn()
  t.same(rig.changes, [])
  t.same([rig.ads.wanted('assignment'), rig.ads.wanted('routes')], [['a'], ['table']])
  t.equal(rig.gauge('cluster_manager.warming_clusters'), 0)
  t.equal(rig.clock.pending, 0)
})

t.test('what is removed and comes back within a turn has never been away', async (t) => {
  const rig = await serving()
  rig.ads.delta('cluster', {}, ['a'])
  rig.ads.delta('cluster', { a: edsCluster('a') })
  rig.ads.delta('listener', {}, ['web'])
  rig.ads.delta('listener', { web: listener('web') })
  await rig.turn()
  t.same(rig.changes, [])
  t.equal(rig.clock.pending, 0)
})

t.test('routes wait for the clusters that they name', async (t) => {
  const rig = await serving()
  rig.ads.delta('routes', { table: routes('table', 'a', 'b', 'c') })
  await rig.turn()
  t.same(rig.changes, [])
  t.match(rig.gateway.status().waiting, [{ target: 'route table table', for: ['cluster b', 'cluster c'] }])
  rig.ads.delta('cluster', { b: staticCluster('b') })
  await rig.turn()
  t.same(rig.changes.map(Object.keys), [['clusters']])
  rig.ads.delta('cluster', { c: edsCluster('c') })
  await rig.turn()
  rig.clock.advance(4_000)
  rig.ads.delta('assignment', { c: endpoints('c', 1) })
  await rig.turn()
  t.same(
    rig.changes.slice(1).map((change) => Object.keys(change).sort()),
    [['assignments', 'clusters', 'routeTables']],
  )
  t.same(clustersIn(rig.state.routeTables.get('table')).sort(), ['a', 'b', 'c'])
  t.same(rig.broken, [])
  t.equal(rig.clock.pending, 0)
})

t.test('they wait for 5 s at most, and not again for the same names', async (t) => {
  const rig = await serving({ tolerated: new Set(['never', 'neither']) })
  rig.ads.delta('routes', { table: routes('table', 'a', 'never') })
  await rig.turn()
  rig.clock.advance(4_000)
  rig.ads.delta('routes', { table: routes('table', 'a', 'never', 'neither') })
  await rig.turn()
  t.same(rig.changes, [])
  await rig.clock.advanceAsync(1_000)
  t.same(
    clustersIn(rig.state.routeTables.get('table')).sort(),
    ['a', 'neither', 'never'],
    'a newer version has no more time',
  )
  rig.ads.delta('routes', { table: routes('table', 'never', 'neither') })
  await rig.turn()
  t.same(clustersIn(rig.state.routeTables.get('table')).sort(), ['neither', 'never'])
  t.equal(rig.clock.pending, 0)
  rig.ads.delta('cluster', { never: staticCluster('never') })
  await rig.turn()
  rig.ads.delta('cluster', {}, ['never'])
  rig.ads.delta('routes', { table: routes('table', 'a') })
  await rig.turn()
  rig.ads.delta('routes', { table: routes('table', 'a', 'never') })
  await rig.turn()
  t.same(clustersIn(rig.state.routeTables.get('table')), ['a'], 'what has been there is waited for anew')
})

t.test('where nobody delivers clusters nobody waits for them', async (t) => {
  const { cds_config: _, ...dynamic } = BOOTSTRAP.dynamic_resources
  const rig = new Rig({ bootstrap: { ...BOOTSTRAP, dynamic_resources: dynamic }, tolerated: new Set(['a']) }).start()
  await rig.turn()
  rig.ads.whole('listener', { web: listener('web') })
  await rig.turn()
  rig.ads.whole('routes', { table: routes('table', 'a') })
  await rig.turn()
  t.same(rig.names.listeners, ['web'])
  t.ok(rig.initialised)
})

t.test('a cluster that is taken away stays until no routes name it, for 5 s at most', async (t) => {
  const rig = await serving()
  rig.ads.whole('cluster', { b: staticCluster('b') })
  await rig.turn()
  t.same(rig.names.clusters, ['a', 'b'])
  rig.ads.delta('routes', { table: routes('table', 'b') })
  await rig.turn()
  t.same(rig.names.clusters, ['b'], 'it goes in the step in which the routes let go of it')
  t.same(rig.names.assignments, [])
  t.equal(rig.changes.length, 2)
  t.equal(rig.clock.pending, 0)
  rig.tolerated.add('b')
  rig.ads.whole('cluster', {})
  await rig.turn()
  t.same(rig.names.clusters, ['b'])
  await rig.clock.advanceAsync(5_000)
  t.same(rig.names.clusters, [])
  t.same(rig.broken, [])
})

t.test('routes that are told to are refused where they name clusters that are not there', async (t) => {
  const rig = await serving()
  const strict = { ...(routes('table', 'a', 'b') as JsonObject), validate_clusters: true }
  t.match(rig.ads.delta('routes', { table: strict }), [{ name: 'table', errors: [{ message: /unknown cluster "b"/ }] }])
  rig.ads.delta('cluster', { b: edsCluster('b') })
  t.same(rig.ads.delta('routes', { table: strict }), [], 'one that warms is one')
  const inline = listener('inline', { manager: { route_config: routes('own', 'c') } })
  t.match(rig.ads.delta('listener', { inline }), [{ name: 'inline' }])
  await rig.turn()
  rig.ads.delta('assignment', { b: endpoints('b', 1) })
  await rig.turn()
  t.same(clustersIn(rig.state.routeTables.get('table')).sort(), ['a', 'b'])
})

t.test('a lost connection changes nothing, and an empty answer after it deletes nothing for 15 s', async (t) => {
  const rig = await serving()
  rig.ads.connect(true)
  rig.ads.connect(false)
  await rig.clock.advanceAsync(3_600_000)
  t.same(rig.changes, [])
  rig.ads.connect(true)
  rig.ads.whole('cluster', {})
  rig.ads.whole('listener', {})
  await rig.clock.advanceAsync(14_000)
  t.same(rig.changes, [])
  rig.ads.whole('cluster', { a: edsCluster('a') })
  await rig.clock.advanceAsync(1_000)
  t.same([rig.names.clusters, rig.names.listeners], [['a'], []], 'a better answer replaces it')
  t.match(rig.log, [{ message: /held back/ }, { message: /held back/ }])
  rig.ads.whole('cluster', {})
  await rig.turn()
  t.same(rig.names.clusters, [], 'later ones are believed at once')
  t.equal(rig.clock.pending, 0)
})

t.test('a better answer takes away what is not in it, whatever was held back', async (t) => {
  const rig = await serving()
  rig.ads.whole('cluster', { a: edsCluster('a'), b: staticCluster('b'), c: staticCluster('c') })
  await rig.turn()
  rig.ads.connect(false)
  rig.ads.connect(true)
  rig.ads.whole('cluster', {})
  await rig.clock.advanceAsync(1_000)
  rig.ads.connect(false)
  await rig.clock.advanceAsync(60_000)
  t.same(rig.names.clusters, ['a', 'b', 'c'], 'a connection that is lost again stops the clock')
  rig.ads.whole('cluster', { a: edsCluster('a'), b: staticCluster('b') })
  await rig.turn()
  t.same(rig.names.clusters, ['a', 'b'])
  t.equal(rig.clock.pending, 0)
})

t.test('the start goes on when answers do not come', async (t) => {
  const rig = new Rig().start()
  await rig.clock.advanceAsync(15_000)
  t.same(rig.ads.wanted('listener'), ['*'])
  t.notOk(rig.initialised)
  await rig.clock.advanceAsync(15_000)
  t.ok(rig.initialised)
  t.notOk(rig.confirmed)
  rig.ads.whole('cluster', { a: staticCluster('a') })
  rig.ads.whole('listener', {})
  await rig.clock.advanceAsync(14_000)
  t.notOk(rig.confirmed, 'that there is nothing is not believed at once')
  await rig.clock.advanceAsync(1_000)
  t.ok(rig.confirmed)
})

t.test('what follows from an update is asked for once it is worked out, all of it at once', async (t) => {
  const rig = await serving()
  const paused = (type: string): boolean[] =>
    rig.ads.subscriptions.filter(({ options }) => options.typeName === type).map((own) => own.paused)
  rig.ads.asked.length = 0
  rig.ads.delta('cluster', { b: edsCluster('b') })
  t.same([paused(TYPES.assignment), paused(TYPES.routes)], [[true], [false]])
  rig.ads.delta('cluster', { c: edsCluster('c') })
  rig.ads.delta('listener', { more: listener('more', { manager: rds('more') }) })
  t.same(paused(TYPES.routes), [true])
  t.same(rig.ads.asked, [])
  await rig.turn()
  t.same(rig.ads.asked.sort(), ['ClusterLoadAssignment: a b c', 'RouteConfiguration: more table'])
  t.same([paused(TYPES.assignment), paused(TYPES.routes)], [[false], [false]])
})

t.test('those who wait longer for the same kind have a subscription of their own', async (t) => {
  const rig = await serving()
  rig.ads.delta('listener', {
    more: listener('more', { manager: rds('slow', { ...ADS, initial_fetch_timeout: '60s' }) }),
  })
  await rig.turn()
  const own = rig.ads.subscriptions.filter(({ options }) => options.typeName === TYPES.routes)
  t.same(
    own.map(({ options, names }) => [options.initialFetchTimeoutMs, [...names]]),
    [
      [15_000, ['table']],
      [60_000, ['slow']],
    ],
  )
})

t.test('an error of ours in one resource refuses that one', async (t) => {
  const rig = await serving({
    check: (_, config) => {
      if ((config as { name?: string }).name === 'bug') throw new Error('not thought of')
      return []
    },
  })
  t.match(rig.ads.delta('cluster', { bug: staticCluster('bug'), b: staticCluster('b') }), [{ name: 'bug' }])
  await rig.turn()
  t.same(rig.names.clusters, ['a', 'b'])
})

t.test('or for ever where there is no limit', async (t) => {
  const forever = { ...ADS, initial_fetch_timeout: '0s' }
  const dynamic = { ...BOOTSTRAP.dynamic_resources, cds_config: forever, lds_config: forever }
  const rig = new Rig({ bootstrap: { ...BOOTSTRAP, dynamic_resources: dynamic } }).start()
  await rig.clock.advanceAsync(1_000_000)
  t.same(rig.ads.wanted('listener'), [])
  t.match(rig.gateway.status().waiting, [{ target: 'clusters', for: ['first answer of ads'] }])
  rig.ads.whole('cluster', { a: { name: 'a', type: 'STATIC', lb_policy: 'CLUSTER_PROVIDED' } })
  await rig.turn()
  t.same(rig.ads.wanted('listener'), ['*'], 'an answer that is refused is one')
})

t.test('what workers cannot use is shown as refused, and the version before as the one that serves', async (t) => {
  const rig = await serving()
  rig.ads.whole('listener', { web: listener('web', { port: 8080 }) })
  await rig.turn()
  rig.gateway.refused({ kind: 'listeners', name: 'web' }, [new ConfigError('address', 'the port is in use')])
  const of = () => rig.gateway.status().resources.find(({ name }) => name === 'web')
  t.match(of(), {
    client: 'nacked',
    active: { version: 'v3' },
    failure: { version: 'v5', errors: [{ message: 'the port is in use' }] },
  })
  t.equal(rig.counter('headgate.xds.refused_by_workers.listener'), 1)
  rig.ads.whole('listener', { web: listener('web', { port: 8081 }) })
  await rig.turn()
  t.match(of(), { client: 'acked', active: { version: 'v6' }, failure: undefined })
})

t.test("names of the bootstrap are not a control plane's to change", async (t) => {
  const rig = await serving()
  t.same(rig.ads.delta('cluster', { xds: staticCluster('xds', 99) }), [])
  rig.ads.delta('cluster', {}, ['xds'])
  await rig.turn()
  t.same(rig.changes, [])
})

t.test(
  'any order of the same resources comes to the same, and no step on the way names what is not there',
  async (t) => {
    const final = {
      cluster: {
        a: edsCluster('a'),
        b: staticCluster('b'),
        c: edsCluster('c', { eds_cluster_config: { eds_config: ADS, service_name: 'cc' } }),
      },
      assignment: { a: endpoints('a', 1), cc: endpoints('cc', 2) },
      listener: {
        web: listener('web'),
        more: listener('more', { manager: rds('table2') }),
        own: listener('own', {
          manager: { route_config: { ...(routes('own', 'b') as JsonObject), validate_clusters: false } },
        }),
      },
      routes: { table: routes('table', 'a', 'b'), table2: routes('table2', 'c') },
    } as const
    const kinds = ['cluster', 'assignment', 'listener', 'routes'] as const
    const reference = new Map<string, string>()
    for (let seed = 1; seed <= 60; seed++) {
      const random = seeded(seed)
      const rig = new Rig().start()
      // Where no time passes nobody gives up waiting, and the rule has no exception.
      const passing = seed % 2 === 0
      // Noise of every kind first, then all that there is in the end, in any order.
      const noise = (): void => {
        const kind = random.pick(kinds)
        const names = Object.keys(final[kind])
        const name = random.pick(names)
        const resource = (final[kind] as Readonly<Record<string, Json>>)[name]
        // That a table does not exist is an answer, too, and one to go on with.
        if (random.below(3) === 0 && (passing || kind === 'cluster' || kind === 'listener'))
          rig.ads.delta(kind, {}, [name])
        else if (kind === 'routes') rig.ads.delta(kind, { [name]: routes(name, random.pick(['a', 'b', 'c'])) })
        else if (kind === 'cluster' && random.below(2) === 0)
          rig.ads.delta(kind, { [name]: staticCluster(name, 1 + random.below(100)) })
        else rig.ads.delta(kind, { [name]: resource })
      }
      const step = async (): Promise<void> => {
        if (random.below(2) === 0) await rig.turn()
        if (passing && random.below(4) === 0) await rig.clock.advanceAsync(random.below(3_000))
      }
      for (let i = 0; i < 30; i++) {
        noise()
        await step()
      }
      for (let round = 0; round < 4; round++) {
        for (const kind of [...kinds].sort(() => random.next() - 0.5)) {
          rig.ads.delta(kind, final[kind] as Readonly<Record<string, Json>>)
          await step()
        }
        await rig.turn()
      }
      await rig.clock.advanceAsync(6_000)
      const { clusters, assignments, listeners, routeTables } = rig.state
      for (const [what, map] of Object.entries({ clusters, assignments, listeners, routeTables })) {
        const text = JSON.stringify([...map.entries()].sort(([a], [b]) => (a < b ? -1 : 1)))
        if (!reference.has(what)) reference.set(what, text)
        if (reference.get(what) !== text) t.equal(text, reference.get(what), `seed ${seed}: ${what}`)
      }
      if (!passing && rig.broken.length > 0) t.same(rig.broken, [], `seed ${seed}`)
      rig.gateway[Symbol.dispose]()
      if (rig.clock.pending > 0) t.equal(rig.clock.pending, 0, `seed ${seed}: timers`)
    }
    t.equal(reference.size, 4)
  },
)
