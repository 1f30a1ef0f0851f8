import t from 'tap'
import type { ListenerConfig } from '../../lib/config/listener.ts'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { EngineStatus, HistogramSnapshot, HostStatus, MetricsSnapshot } from '../../lib/runtime/engine.ts'
import { ManagerStats } from '../../lib/runtime/manager-stats.ts'
import type { StatsPush } from '../../lib/runtime/messages.ts'
import { withServerGauges } from '../../lib/runtime/server-state.ts'
import { StatsStore } from '../../lib/runtime/stats-store.ts'
import { mergeStatus } from '../../lib/runtime/status-merge.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'

type Values = Readonly<Record<string, number>>

function snapshot(counters: Values, gauges: Values = {}, histograms: HistogramSnapshot[] = []): MetricsSnapshot {
  return { counters: Object.entries(counters), gauges: Object.entries(gauges), histograms }
}

function histogram(count: number, sum: number, cumulative: number[]): HistogramSnapshot {
  return { name: 'h', count, sum, bounds: [1, 10], cumulative }
}

/** What a worker tells of these values: `full` all of them, otherwise differences. */
function push(values: MetricsSnapshot, more: Partial<StatsPush> = {}): StatsPush {
  return { full: true, gone: [], tables: [], declared: [], undeclared: [], ...values, ...more }
}

const DIFFERENCE = { full: false }

t.test('what workers count is added up and outlives them, their gauges do not', async (t) => {
  const store = new StatsStore()
  store.add(0, push(snapshot({ rq: 3 }, { active: 2 }, [histogram(1, 5, [0, 1])])))
  store.add(1, push(snapshot({ rq: 4 }, { active: 1 }, [histogram(2, 2, [2, 2])])))
  store.add(1, push(snapshot({ rq: 6 }, { active: 0 }), DIFFERENCE))
  t.strictSame(store.snapshot(), snapshot({ rq: 13 }, { active: 2 }, [histogram(3, 7, [2, 3])]))
  store.retire(0)
  t.strictSame(store.snapshot(), snapshot({ rq: 13 }, { active: 0 }, [histogram(3, 7, [2, 3])]))
  // Its successor starts at nothing.
  store.add(0, push(snapshot({ rq: 1 }, { active: 1 })))
  t.strictSame(store.snapshot().counters, [['rq', 14]])
  store.retire(0)
  store.retire(1)
  t.strictSame(store.snapshot(), snapshot({ rq: 14 }, {}, [histogram(3, 7, [2, 3])]))
})

t.test('a circuit breaker is open when all that there is of it is taken, in whichever workers', async (t) => {
  const store = new StatsStore()
  const open = 'cluster.a.circuit_breakers.default.rq_open'
  const shown = (...parts: number[]): number | undefined => {
    for (const [worker, part] of parts.entries()) store.add(worker, push(snapshot({}, { [open]: part, other: part })))
    return store.snapshot().gauges.find(([name]) => name === open)?.[1]
  }
  t.equal(shown(3 / 7, 2 / 7, 1 / 7), 0)
  t.equal(shown(3 / 7, 3 / 7, 1 / 7), 1)
  t.equal(shown(0, 0, 0), 0)
  t.equal(shown(1, 1, 1), 1, 'a limit of 0 is open everywhere')
  t.equal(shown(9 / 7, 0, 0), 1, 'more is taken than there is')
  t.equal(shown(1 / 3, 1 / 3, 1 / 3), 1)
})

t.test('a difference without a base is left out until the whole has come', async (t) => {
  const store = new StatsStore()
  store.add(0, push(snapshot({ rq: 1 }), DIFFERENCE))
  t.strictSame(store.snapshot().counters, [])
  store.add(0, push(snapshot({ rq: 102 })))
  store.add(0, push(snapshot({ rq: 3 }), DIFFERENCE))
  t.strictSame(store.snapshot().counters, [['rq', 105]])
})

t.test('a statistic is gone when the last worker has dropped it, and not before', async (t) => {
  const store = new StatsStore()
  for (const worker of [0, 1]) store.add(worker, push(snapshot({ 'cluster.x': 5, other: 1 })))
  const gone = push(snapshot({}), { ...DIFFERENCE, gone: ['cluster.x'] })
  store.add(0, gone)
  t.strictSame(store.snapshot().counters, [
    ['cluster.x', 10],
    ['other', 2],
  ])
  store.add(1, gone)
  t.strictSame(store.snapshot().counters, [['other', 2]])
})

t.test(
  'what is declared shows with the value 0 until somebody counts, or the last worker has dropped it',
  async (t) => {
    const store = new StatsStore()
    const names = { counters: ['rq', 'cx'], gauges: ['active'], histograms: ['time'] }
    const tables: StatsPush['tables'] = [[0, names]]
    store.add(0, push(snapshot({ 'cluster.x.rq': 4 }), { tables, declared: [['cluster.x.', 0]] }))
    store.add(1, push(snapshot({}), { tables, declared: [['cluster.x.', 0]] }))
    store.add(1, push(snapshot({}), { ...DIFFERENCE, declared: [['cluster.y.', 0]] }))
    const shown = (): unknown => {
      const { counters, gauges, histograms } = store.snapshot()
      return [Object.fromEntries([...counters, ...gauges]), histograms.map((h) => [h.name, h.count])]
    }
    const zeros = { 'cluster.y.cx': 0, 'cluster.y.rq': 0, 'cluster.y.active': 0 }
    const x = { 'cluster.x.cx': 0, 'cluster.x.rq': 4, 'cluster.x.active': 0 }
    t.strictSame(shown(), [
      { ...x, ...zeros },
      [
        ['cluster.x.time', 0],
        ['cluster.y.time', 0],
      ],
    ])
    store.add(1, push(snapshot({}), { ...DIFFERENCE, undeclared: ['cluster.x.', 'cluster.y.'] }))
    t.strictSame(shown(), [x, [['cluster.x.time', 0]]])
    store.add(0, push(snapshot({}), { ...DIFFERENCE, gone: ['cluster.x.rq'], undeclared: ['cluster.x.'] }))
    t.strictSame(shown(), [{}, []])
    // A table that nobody has told of (control was restarted) is not guessed at.
    store.add(2, push(snapshot({}), { declared: [['cluster.z.', 7]] }))
    t.strictSame(shown(), [{}, []])
  },
)

t.test('what every worker knows for itself is not added up', async (t) => {
  const store = new StatsStore()
  store.add(0, push(snapshot({}, { 'cluster.x.membership_total': 3, 'cluster.x.cx_active': 3 })))
  store.add(1, push(snapshot({}, { 'cluster.x.membership_total': 3, 'cluster.x.cx_active': 1 })))
  t.strictSame(store.snapshot().gauges, [
    ['cluster.x.cx_active', 4],
    ['cluster.x.membership_total', 3],
  ])
})

t.test('the server as a whole has its own gauges, once', async (t) => {
  const memory = { rss: 30, heapUsed: 10, heapTotal: 20, external: 1 }
  const merged = withServerGauges(snapshot({}, { 'server.live': 7, a: 1 }), {
    state: 'DRAINING',
    uptimeMs: 61_500,
    workers: 2,
    memory,
  })
  t.strictSame(Object.fromEntries(merged.gauges), {
    a: 1,
    'server.concurrency': 2,
    'server.live': 0,
    'server.memory_allocated': 11,
    'server.memory_heap_size': 21,
    'server.memory_physical_size': 30,
    'server.state': 1,
    'server.uptime': 61,
  })
})

function host(address: string, health: string, total: number): HostStatus {
  const where = { region: 'r', zone: '', subZone: '' }
  return { address, hostname: '', weight: 1, priority: 0, ...where, health, stats: { rq_total: total } }
}

t.test(
  'the status of several workers shows every host once, with the sum of its numbers and the worst health',
  async (t) => {
    const status = (hosts: HostStatus[]): EngineStatus => ({
      listeners: [{ name: 'l', addresses: [{ kind: 'ip', host: '127.0.0.1', port: 80 }] }],
      clusters: [{ name: 'c', thresholds: [], hosts }],
    })
    const merged = mergeStatus([
      status([host('a:1', 'healthy', 1), host('b:1', 'healthy', 2)]),
      status([host('a:1', '/failed_outlier_check', 10), host('b:1', 'healthy', 20)]),
      { listeners: [], clusters: [] },
    ])
    t.strictSame(merged, status([host('a:1', '/failed_outlier_check', 11), host('b:1', 'healthy', 22)]))
    t.strictSame(mergeStatus([]), { listeners: [], clusters: [] })
  },
)

t.test('the managers of clusters and listeners are counted, where nobody delivers either', async (t) => {
  const cluster = (name: string, connectTimeoutMs = 1): ClusterConfig => ({ name, connectTimeoutMs }) as ClusterConfig
  const listener = (name: string, port: number, bufferLimitBytes = 1): ListenerConfig =>
    ({ name, bufferLimitBytes, addresses: [{ kind: 'ip', host: '127.0.0.1', port }] }) as unknown as ListenerConfig
  const config = (clusters: ClusterConfig[], listeners: ListenerConfig[]): GatewayConfig => ({
    node: { id: '', cluster: '' },
    runtime: {},
    ignored: [],
    clusters,
    listeners,
  })
  const managers = new ManagerStats()
  managers.follow(config([cluster('a'), cluster('b')], [listener('l', 1), listener('m', 2)]))
  const last = config([cluster('a'), cluster('c'), cluster('b', 2)], [listener('l', 1, 2), listener('m', 3)])
  managers.follow(last)
  managers.follow(last)
  managers.stopped({ graceful: false, skipExit: false, inboundOnly: false }, last)
  const { counters, gauges } = managers.with(snapshot({}), 'LIVE')
  t.strictSame(Object.fromEntries(counters), {
    'cluster_manager.cluster_added': 3,
    'cluster_manager.cluster_modified': 1,
    'cluster_manager.cluster_removed': 0,
    'cluster_manager.cluster_updated': 0,
    'cluster_manager.cluster_updated_via_merge': 0,
    'cluster_manager.update_merge_cancelled': 0,
    'cluster_manager.update_out_of_merge_window': 0,
    'listener_manager.listener_added': 2,
    'listener_manager.listener_in_place_updated': 1,
    'listener_manager.listener_modified': 2,
    'listener_manager.listener_removed': 0,
    'listener_manager.listener_stopped': 2,
  })
  t.strictSame(Object.fromEntries(gauges), {
    'cluster_manager.active_clusters': 3,
    'cluster_manager.warming_clusters': 0,
    'listener_manager.total_listeners_active': 2,
    'listener_manager.total_listeners_warming': 0,
    'listener_manager.workers_started': 1,
  })
  const own = managers.with(snapshot({ 'cluster_manager.cluster_added': 9 }), 'INITIALIZING')
  t.equal(
    new Map(own.counters).get('cluster_manager.cluster_added'),
    9,
    'what a control plane delivers is counted there',
  )
  t.equal(new Map(own.gauges).get('listener_manager.workers_started'), 0)
})
