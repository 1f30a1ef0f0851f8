import t from 'tap'
import type { Counter } from '../../lib/core/metrics.ts'
import type { ClusterLoad, HostLoad } from '../../lib/core/status.ts'
import { LoadLedger } from '../../lib/runtime/load-ledger.ts'
import { Host } from '../../lib/upstream/host.ts'
import { LoadMeter } from '../../lib/upstream/load-meter.ts'

/** What hosts count, from the worker that counts it to whoever reports it. */

function cells(): {
  readonly metrics: ConstructorParameters<typeof LoadMeter>[0]
  cell(name: string): Counter
  drop(): void
} {
  let made = new Map<string, Counter>()
  const cell = (name: string): Counter => {
    let found = made.get(name)
    if (found === undefined) made.set(name, (found = { v: 0 }))
    return found
  }
  const metrics = {
    has: (name: string) => made.has(name),
    counter: cell,
    gauge: cell,
    histogram: () => ({ record() {} }),
  }
  return {
    metrics,
    cell,
    drop() {
      made = new Map()
    },
  }
}

function host(port: number, zone = 'a'): Host {
  const address = { kind: 'ip', host: '10.0.0.1', port } as const
  return new Host({ address, weight: 1, health: 'healthy' }, 0, { region: 'r', zone, subZone: '' })
}

function count(on: Host, success: number, error = 0): void {
  on.rqTotal += success + error
  on.rqSuccess += success
  on.rqError += error
}

/** issued/success/error/active by address and zone. */
function figures(loads: readonly ClusterLoad[]): Record<string, string> {
  const entries = loads.flatMap(({ name, hosts }) =>
    hosts.map((h): [string, string] => [
      `${name} ${h.address} ${h.zone}`,
      `${h.issued}/${h.success}/${h.error}/${h.active}`,
    ]),
  )
  return Object.fromEntries(entries)
}

t.test('a meter tells differences, of hosts that have gone too, and nothing from before it was asked', async (t) => {
  const { metrics, cell, drop } = cells()
  const [one, two] = [host(1), host(2)]
  const cluster = { name: 'c', statName: 's', hosts: { all: [one, two] as Host[], dropCategory: 'shed' } }
  const overflow = 'cluster.s.upstream_rq_pending_overflow'
  count(one, 5)
  cell(overflow).v = 3
  const meter = new LoadMeter(metrics)
  one.rqActive = 1
  t.strictSame(figures(meter.next([cluster])), { 'c 10.0.0.1:1 a': '0/0/0/1' })
  count(one, 2, 1)
  one.rqActive = 0
  cell(overflow).v += 2
  cell('cluster.s.upstream_rq_maintenance_mode').v++
  cell('cluster.s.upstream_rq_drop_overload').v += 4
  const next = meter.next([cluster])
  t.strictSame(figures(next), { 'c 10.0.0.1:1 a': '3/2/1/0' })
  t.equal(next[0].dropped, 7)
  t.strictSame(next[0].drops, [['shed', 4]])
  t.strictSame(meter.next([cluster]), [])
  // Removed with a request under way, which ends later.
  two.rqTotal = 2
  two.rqSuccess = 1
  two.rqActive = 1
  cluster.hosts.all = [one]
  t.strictSame(figures(meter.next([cluster])), { 'c 10.0.0.1:2 a': '2/1/0/1' })
  two.rqSuccess = 2
  two.rqActive = 0
  t.strictSame(figures(meter.next([cluster])), { 'c 10.0.0.1:2 a': '0/1/0/0' })
  // The same address, another host: its counts begin at nothing and are all new.
  const again = host(2)
  count(again, 1)
  cluster.hosts.all = [one, again]
  t.strictSame(figures(meter.next([cluster])), { 'c 10.0.0.1:2 a': '1/1/0/0' })
  // The cluster is replaced, and so are its hosts; its statistics are, too.
  drop()
  cell(overflow).v = 1
  const successor = { name: 'c', statName: 's', hosts: { all: [host(1)], dropCategory: '' } }
  count(one, 4)
  count(successor.hosts.all[0], 1)
  const last = meter.next([successor])
  t.equal(last[0].dropped, 1)
  t.strictSame(
    last[0].hosts.map(({ issued }) => issued),
    [1, 4],
  )
})

function load(port: number, parts: Partial<HostLoad>): HostLoad {
  const none = { issued: 0, success: 0, error: 0, active: 0 }
  return { address: `10.0.0.1:${port}`, priority: 0, region: 'r', zone: 'a', subZone: '', ...none, ...parts }
}

t.test('a ledger gives each reader everything once, of workers that have ended as well', async (t) => {
  let refreshed = 0
  const ledger = new LoadLedger({
    refresh: async () => {
      refreshed++
    },
  })
  t.equal(ledger.wanted, false)
  const first = ledger.reader()
  t.equal(ledger.wanted, true)
  ledger.add(1, [{ name: 'c', dropped: 1, drops: [['x', 1]], hosts: [load(1, { issued: 3, success: 2, active: 1 })] }])
  ledger.add(2, [
    {
      name: 'c',
      dropped: 2,
      drops: [
        ['x', 1],
        ['y', 1],
      ],
      hosts: [load(1, { issued: 1, error: 1, active: 4 })],
    },
  ])
  const second = ledger.reader()
  ledger.add(2, [{ name: 'c', dropped: 0, hosts: [load(2, { issued: 1, success: 1 })] }])
  const loads = await first.take()
  t.strictSame(figures(loads), { 'c 10.0.0.1:1 a': '4/2/1/5', 'c 10.0.0.1:2 a': '1/1/0/0' })
  t.equal(loads[0].dropped, 3)
  t.strictSame(loads[0].drops, [
    ['x', 2],
    ['y', 1],
  ])
  t.strictSame(figures(await second.take()), { 'c 10.0.0.1:1 a': '0/0/0/5', 'c 10.0.0.1:2 a': '1/1/0/0' })
  ledger.add(1, [{ name: 'c', dropped: 0, hosts: [load(1, { issued: 2, success: 3, active: 0 })] }])
  ledger.retire(2)
  t.strictSame(figures(await first.take()), { 'c 10.0.0.1:1 a': '2/3/0/0' }, 'what was under way there is no more')
  t.strictSame(await first.take(), [])
  t.equal(refreshed, 4)
  first[Symbol.dispose]()
  second[Symbol.dispose]()
  t.equal(ledger.wanted, false)
})
