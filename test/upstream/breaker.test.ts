import t from 'tap'
import { LocalLeases } from '../../lib/core/local-leases.ts'
import { type Metrics, noRuntime } from '../../lib/core/metrics.ts'
import { CircuitBreakers } from '../../lib/upstream/breaker.ts'
import { Host, type HostPool } from '../../lib/upstream/host.ts'
import { PoolRoom } from '../../lib/upstream/pool-room.ts'
import { ClusterStats, MembershipStats } from '../../lib/upstream/stats.ts'
import { TestClock } from '../support/clock.ts'

interface Cells extends Metrics {
  value(name: string): number | undefined
  readonly names: string[]
}

function cells(): Cells {
  const byName = new Map<string, { v: number }>()
  const cell = (name: string): { v: number } => {
    const known = byName.get(name) ?? { v: 0 }
    byName.set(name, known)
    return known
  }
  return {
    has: (name) => byName.has(name),
    counter: cell,
    gauge: cell,
    histogram: (name) => {
      const sum = cell(name)
      return { record: (value) => void (sum.v += value) }
    },
    value: (name) => byName.get(name)?.v,
    get names() {
      return [...byName.keys()]
    },
  }
}

const LIMITS = { maxConnections: 2, maxPendingRequests: 1, maxRequests: 3, maxRetries: 0 }
const WIDE = { maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024, maxRetries: 3 }

t.test('a limit admits up to its number, counts what it refused and shows that it is open', async (t) => {
  const metrics = cells()
  const { connections } = new CircuitBreakers(metrics, 'web', { default: LIMITS, high: WIDE }).of('default')
  const open = 'cluster.web.circuit_breakers.default.cx_open'
  t.equal(connections.tryAcquire(), true)
  t.equal(metrics.value(open), 0)
  t.equal(connections.tryAcquire(), true)
  t.equal(metrics.value(open), 1, 'nothing more would be admitted')
  t.equal(connections.tryAcquire(), false)
  t.equal(connections.tryAcquire(), false)
  t.equal(metrics.value('cluster.web.upstream_cx_overflow'), 2)
  connections.acquire()
  t.equal(connections.active, 3, 'the first connection of a host passes the limit')
  connections.release()
  t.equal(metrics.value(open), 1)
  connections.release()
  t.equal(metrics.value(open), 0)
  t.equal(connections.tryAcquire(), true)
  t.equal(metrics.value('cluster.web.upstream_cx_overflow'), 2)
})

t.test('each resource and priority has its own count, gauge and overflow counter', async (t) => {
  const metrics = cells()
  const breakers = new CircuitBreakers(metrics, 'web', { default: LIMITS, high: WIDE })
  t.equal(metrics.value('cluster.web.circuit_breakers.default.rq_retry_open'), 1, 'a limit of 0 is open from the start')
  t.equal(breakers.default.retries.tryAcquire(), false)
  t.equal(metrics.value('cluster.web.upstream_rq_retry_overflow'), 1)
  t.equal(breakers.default.pendingRequests.tryAcquire(), true)
  t.equal(breakers.default.pendingRequests.tryAcquire(), false)
  t.equal(metrics.value('cluster.web.circuit_breakers.default.rq_pending_open'), 1)
  for (let i = 0; i < 3; i++) t.equal(breakers.default.requests.tryAcquire(), true)
  t.equal(breakers.default.requests.tryAcquire(), false)
  t.equal(metrics.value('cluster.web.circuit_breakers.default.rq_open'), 1)
  t.equal(
    metrics.value('cluster.web.upstream_rq_pending_overflow'),
    2,
    'requests overflow as pending ones, as in Envoy',
  )
  t.equal(breakers.of('high').requests.tryAcquire(), true)
  t.equal(breakers.high.requests.active, 1)
  t.equal(metrics.value('cluster.web.circuit_breakers.high.rq_open'), 0)
})

t.test('a cluster and its successor share gauges, and the old one leaves them', async (t) => {
  const metrics = cells()
  const open = 'cluster.web.circuit_breakers.default.cx_open'
  const old = new CircuitBreakers(metrics, 'web', { default: LIMITS, high: WIDE })
  old.default.connections.acquire()
  old.default.connections.acquire()
  const next = new CircuitBreakers(metrics, 'web', { default: LIMITS, high: WIDE })
  t.equal(metrics.value(open), 1)
  next.default.connections.acquire()
  next.default.connections.acquire()
  t.equal(metrics.value(open), 2)
  old[Symbol.dispose]()
  t.equal(metrics.value(open), 1)
  old.default.connections.release()
  old.default.connections.release()
  t.equal(metrics.value(open), 1, 'what the old one still held no longer counts')
  next.default.connections.release()
  t.equal(metrics.value(open), 0)
  t.equal(metrics.value('cluster.web.circuit_breakers.default.rq_retry_open'), 1)
})

t.test('a cluster that drains does not bring its limits back when runtime values change', async (t) => {
  let version = 1
  const values = new Map<string, string>()
  const runtime = {
    get version(): number {
      return version
    },
    get: (key: string) => values.get(key),
  }
  const source = { name: 'web', leases: new LocalLeases(new TestClock()), runtime, now: () => 0 }
  const make = (maxConnections: number): CircuitBreakers =>
    new CircuitBreakers(cells(), 'web', { default: { ...WIDE, maxConnections }, high: WIDE }, source)
  const old = make(2)
  const next = make(5)
  t.equal(next.default.connections.max, 5)
  version++
  t.equal(next.default.connections.tryAcquire(), true)
  t.equal(old.default.connections.tryAcquire(), true)
  t.equal(next.default.connections.max, 5)
  values.set('circuit_breakers.web.default.max_connections', '7')
  version++
  t.equal(next.default.connections.tryAcquire(), true)
  t.equal(old.default.connections.tryAcquire(), true)
  t.equal(next.default.connections.max, 7, 'what runtime values say holds for both')
  values.clear()
  version++
  t.equal(next.default.connections.tryAcquire(), true)
  t.equal(old.default.connections.tryAcquire(), false)
  t.equal(next.default.connections.max, 5)
})

t.test('a version of a cluster that never takes its place leaves the limits as they were', async (t) => {
  const metrics = cells()
  const open = 'cluster.web.circuit_breakers.default.cx_open'
  const leases = new LocalLeases(new TestClock())
  const source = { name: 'web', leases, runtime: noRuntime, now: () => 0 }
  const make = (maxConnections: number): CircuitBreakers =>
    new CircuitBreakers(metrics, 'web', { default: { ...WIDE, maxConnections }, high: WIDE }, source)
  const live = make(2)
  const refused = make(0)
  refused[Symbol.dispose]()
  t.equal(live.default.connections.max, 2)
  t.equal(live.default.connections.tryAcquire(), true)
  t.equal(metrics.value(open), 0)
  const [first, second] = [make(5), make(6)]
  first[Symbol.dispose]()
  t.equal(live.default.connections.max, 6, 'not of the youngest')
  second[Symbol.dispose]()
  t.equal(live.default.connections.max, 2)
  t.equal(live.default.connections.tryAcquire(), true)
  t.equal(metrics.value(open), 1)
  live.default.connections.release()
  live.default.connections.release()
  live[Symbol.dispose]()
  t.equal(leases.size, 0)
})

t.test('cluster statistics stand under Envoy names, status codes when they are seen', async (t) => {
  const metrics = cells()
  const stats = new ClusterStats(metrics, 'web')
  new MembershipStats(metrics, 'web').membershipTotal.v += 3
  stats.cxTotal.v++
  stats.cxActive.v += 2
  stats.rqTime.record(12)
  for (const status of [200, 204, 200, 404, 503, 101, 799]) stats.rqStatus.count(status)
  const expected = {
    upstream_cx_total: 1,
    upstream_cx_active: 2,
    upstream_rq_time: 12,
    upstream_rq_completed: 7,
    upstream_rq_1xx: 1,
    upstream_rq_2xx: 3,
    upstream_rq_3xx: 0,
    upstream_rq_4xx: 1,
    upstream_rq_5xx: 1,
    upstream_rq_200: 2,
    upstream_rq_204: 1,
    upstream_rq_404: 1,
    upstream_rq_799: 1,
    upstream_rq_500: undefined,
    membership_total: 3,
    update_no_rebuild: undefined,
  }
  for (const [name, value] of Object.entries(expected)) t.equal(metrics.value(`cluster.web.${name}`), value, name)
  t.equal(new ClusterStats(metrics, 'web').cxTotal, stats.cxTotal, 'the same name gives the same cell')
  t.equal(new Set(metrics.names).size, metrics.names.length)
  t.ok(metrics.names.every((name) => /^cluster\.web\.[a-z0-9_]+$/.test(name)))
})

t.test(
  'a retry budget that is exceeded since requests have ended admits nothing before it is not any more',
  async (t) => {
    const metrics = cells()
    const wide = { ...WIDE, retryBudget: { percent: 20, minConcurrency: 3 } }
    const { requests, retries } = new CircuitBreakers(metrics, 'web', { default: wide, high: WIDE }).of('default')
    for (let i = 0; i < 100; i++) t.equal(requests.tryAcquire(), true)
    for (let i = 0; i < 20; i++) t.equal(retries.tryAcquire(), true, 'a fifth of the requests')
    t.equal(retries.tryAcquire(), false)
    for (let i = 0; i < 100; i++) requests.release()
    for (let left = 19; left >= 3; left--) {
      retries.release()
      t.equal(retries.tryAcquire(), false, `${left} are under way, of 3`)
    }
    retries.release()
    t.equal(retries.tryAcquire(), true)
    t.equal(retries.tryAcquire(), false)
  },
)

t.test(
  'a retry budget with an interval looks back on requests that have begun, whether they have ended or not',
  async (t) => {
    const metrics = cells()
    let nowMs = 0
    const budget = { percent: 20, minConcurrency: 1, intervalMs: 1000 }
    const source = { name: 'web', leases: new LocalLeases(new TestClock()), runtime: noRuntime, now: () => nowMs }
    const { default: at } = new CircuitBreakers(
      metrics,
      'web',
      { default: { ...WIDE, retryBudget: budget }, high: WIDE },
      source,
    )
    const { requests, retries } = at
    const most = (): number => {
      let taken = 0
      while (retries.tryAcquire()) taken++
      for (let i = 0; i < taken; i++) retries.release()
      return taken
    }
    t.equal(most(), 1, 'so many in any case')
    for (let i = 0; i < 50; i++) {
      t.ok(requests.tryAcquire())
      requests.release()
    }
    t.equal(most(), 10, 'a fifth of 50, which have all ended')
    nowMs = 500
    for (let i = 0; i < 25; i++) t.ok(requests.tryAcquire())
    t.equal(most(), 15)
    nowMs = 1150
    t.equal(most(), 5, 'the first 50 are too long ago')
    nowMs = 1650
    t.equal(most(), 1, 'and so are those that are still under way')
    t.equal(metrics.value('cluster.web.upstream_rq_retry_overflow'), 5, 'of each time the one that was too many')
    t.equal(metrics.value('cluster.web.circuit_breakers.default.rq_retry_open'), 0)
  },
)

t.test('a pool makes room for one of its own priority alone', async (t) => {
  const one = { ...WIDE, maxConnectionPools: 1 }
  const breakers = new CircuitBreakers(cells(), 'web', { default: one, high: one })
  const room = new PoolRoom()
  const closed: string[] = []
  const open = (name: string, priority: 'default' | 'high', busy: boolean): boolean => {
    const taken = room.take(breakers.of(priority).pools)
    const host = new Host(
      { address: { kind: 'ip', host: '127.0.0.1', port: 1 }, weight: 1, health: 'healthy' },
      0,
      undefined,
    )
    if (busy) host.rqActive++
    const pool: HostPool = {
      open: () => undefined,
      preconnect: () => false,
      close: () => void closed.push(name),
      destroy: () => {},
    }
    if (taken) room.given(pool, host)
    return taken
  }
  t.equal(open('idle', 'default', false), true)
  t.equal(open('busy', 'high', true), true)
  t.equal(open('next', 'high', false), false)
  t.same(closed, [], 'no room would have come of it')
  t.equal(open('other', 'default', false), true)
  t.same(closed, ['idle'])
})

t.test('limits of a cluster that is gone follow the runtime no longer, and hold nothing for good', async (t) => {
  const leases = new LocalLeases(new TestClock())
  const runtime = { version: 1, get: () => undefined }
  const source = { name: 'web', leases, runtime, now: () => 0 }
  const old = new CircuitBreakers(cells(), 'web', { default: WIDE, high: WIDE }, source)
  old.default.connections.acquire()
  old[Symbol.dispose]()
  const next = new CircuitBreakers(cells(), 'web', { default: LIMITS, high: WIDE }, source)
  runtime.version++
  t.equal(next.default.connections.tryAcquire(), true)
  t.equal(old.default.connections.tryAhead(), false, 'the limit is that of its successor')
  t.equal(next.default.connections.max, 2)
  next.default.connections.release()
  old.default.connections.release()
  next[Symbol.dispose]()
  t.equal(leases.size, 0)
})
