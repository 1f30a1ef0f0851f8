import t from 'tap'
import type { EngineStatus, HistogramSnapshot, HostStatus, MetricsSnapshot } from '../../lib/runtime/engine.ts'
import { withServerGauges } from '../../lib/runtime/server-state.ts'
import { StatsDelta } from '../../lib/runtime/stats-delta.ts'
import { StatsStore } from '../../lib/runtime/stats-store.ts'
import { mergeStatus } from '../../lib/runtime/status-merge.ts'

type Values = Readonly<Record<string, number>>

function snapshot(counters: Values, gauges: Values = {}, histograms: HistogramSnapshot[] = []): MetricsSnapshot {
  return { counters: Object.entries(counters), gauges: Object.entries(gauges), histograms }
}

function histogram(count: number, sum: number, cumulative: number[]): HistogramSnapshot {
  return { name: 'h', count, sum, bounds: [1, 10], cumulative }
}

t.test('a push carries only what has changed, counters as differences', async (t) => {
  const delta = new StatsDelta()
  const first = delta.next(snapshot({ a: 1, zero: 0 }, { g: 5 }, [histogram(2, 11, [1, 2])]), true)
  t.strictSame(first.counters, [
    ['a', 1],
    ['zero', 0],
  ])
  t.equal(first.full, true)
  const second = delta.next(snapshot({ a: 4, zero: 0 }, { g: 5, n: 0 }, [histogram(3, 12, [2, 3])]), false)
  t.strictSame(second.counters, [['a', 3]])
  t.strictSame(second.gauges, [['n', 0]])
  t.strictSame(second.histograms, [histogram(1, 1, [1, 1])])
  const third = delta.next(snapshot({ a: 4 }, { g: 4, n: 0 }, [histogram(3, 12, [2, 3])]), false)
  t.strictSame(third, { full: false, gone: ['zero'], counters: [], gauges: [['g', 4]], histograms: [] })
})

t.test('what workers count is added up and outlives them, their gauges do not', async (t) => {
  const store = new StatsStore()
  const one = new StatsDelta()
  const two = new StatsDelta()
  store.add(0, one.next(snapshot({ rq: 3 }, { active: 2 }, [histogram(1, 5, [0, 1])]), true))
  store.add(1, two.next(snapshot({ rq: 4 }, { active: 1 }, [histogram(2, 2, [2, 2])]), true))
  store.add(1, two.next(snapshot({ rq: 10 }, { active: 0 }, [histogram(2, 2, [2, 2])]), false))
  t.strictSame(store.snapshot(), snapshot({ rq: 13 }, { active: 2 }, [histogram(3, 7, [2, 3])]))
  store.retire(0)
  t.strictSame(store.snapshot(), snapshot({ rq: 13 }, { active: 0 }, [histogram(3, 7, [2, 3])]))
  // Its successor starts at nothing.
  store.add(0, new StatsDelta().next(snapshot({ rq: 1 }, { active: 1 }), true))
  t.strictSame(store.snapshot().counters, [['rq', 14]])
  store.retire(0)
  store.retire(1)
  t.strictSame(store.snapshot(), snapshot({ rq: 14 }, {}, [histogram(3, 7, [2, 3])]))
})

t.test('a difference without a base is left out until the whole has come', async (t) => {
  const store = new StatsStore()
  const delta = new StatsDelta()
  delta.next(snapshot({ rq: 100 }), true)
  store.add(0, delta.next(snapshot({ rq: 101 }), false))
  t.strictSame(store.snapshot().counters, [])
  store.add(0, delta.next(snapshot({ rq: 102 }), true))
  store.add(0, delta.next(snapshot({ rq: 105 }), false))
  t.strictSame(store.snapshot().counters, [['rq', 105]])
})

t.test('a statistic is gone when the last worker has dropped it, and not before', async (t) => {
  const store = new StatsStore()
  const deltas = [new StatsDelta(), new StatsDelta()]
  for (const [i, delta] of deltas.entries()) store.add(i, delta.next(snapshot({ 'cluster.x': 5, other: 1 }), true))
  store.add(0, deltas[0].next(snapshot({ other: 1 }), false))
  t.strictSame(store.snapshot().counters, [
    ['cluster.x', 10],
    ['other', 2],
  ])
  store.add(1, deltas[1].next(snapshot({ other: 1 }), false))
  t.strictSame(store.snapshot().counters, [['other', 2]])
})

t.test('what every worker knows for itself is not added up', async (t) => {
  const store = new StatsStore()
  store.add(0, new StatsDelta().next(snapshot({}, { 'cluster.x.membership_total': 3, 'cluster.x.cx_active': 3 }), true))
  store.add(1, new StatsDelta().next(snapshot({}, { 'cluster.x.membership_total': 3, 'cluster.x.cx_active': 1 }), true))
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
