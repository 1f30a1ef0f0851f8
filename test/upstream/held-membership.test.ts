import t, { type Test } from 'tap'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { UpstreamCluster } from '../../lib/upstream/cluster.ts'
import type { AssignmentConfig, ClusterConfig, EndpointConfig } from '../../lib/upstream/config.ts'
import { AssignmentTable } from '../../lib/upstream/discovery/assignments.ts'
import { DnsResolvers } from '../../lib/upstream/discovery/dns/resolver.ts'
import type { Host } from '../../lib/upstream/host.ts'
import { LoadMeter } from '../../lib/upstream/load-meter.ts'
import { EDGE_OUTLIER } from '../../lib/upstream/outlier/config.ts'
import { settle, TestClock } from '../support/clock.ts'
import { CLUSTER } from '../support/cluster-config.ts'
import { CHECK } from '../support/health-check.ts'
import { type Random, seeded } from '../support/random.ts'

class Lab {
  readonly metrics = new MetricsStore()
  readonly assignments = new AssignmentTable()
  readonly cluster: UpstreamCluster

  constructor(t: Test, config: Partial<ClusterConfig> = {}) {
    const clock = new TestClock()
    const wheel = new TimerWheel(clock)
    const dns = new DnsResolvers({ clock })
    const silent = (): void => undefined
    this.cluster = new UpstreamCluster(
      { ...CLUSTER, ...config },
      {
        metrics: this.metrics,
        wheel,
        random: () => 0,
        log: { debug: silent, info: silent, warn: silent, error: silent },
        dns,
        nextConnectionId: () => 1,
        assignments: this.assignments,
      },
    )
    void this.cluster.warm()
    t.teardown(() => {
      this.cluster.destroy()
      wheel.close()
      dns[Symbol.dispose]()
    })
  }

  set(localities: AssignmentConfig['localities'], policy?: AssignmentConfig['policy']): void {
    this.assignments.set({ name: 'web', localities, ...(policy && { policy }) })
  }

  /** What is counted of its membership. */
  get figures(): Record<string, number> {
    const { counters, gauges } = this.metrics.snapshot()
    const all = [...counters, ...gauges].filter(([name]) => /\.(membership_|update_)/.test(name))
    return Object.fromEntries(all.map(([name, v]) => [name.replace('cluster.web.', ''), v]))
  }
}

function endpoint(host: string, rest: Partial<EndpointConfig> = {}): EndpointConfig {
  return { address: { kind: 'ip', host, port: 80 }, weight: 1, health: 'healthy', ...rest }
}

t.test('a cluster has no hosts until one is asked for, and counts them all the same', async (t) => {
  const lab = new Lab(t)
  const { cluster } = lab
  lab.set([
    { priority: 0, endpoints: [endpoint('10.0.0.1'), endpoint('10.0.0.2', { health: 'degraded' })] },
    { priority: 1, endpoints: [endpoint('10.0.0.1', { health: 'draining' })] },
  ])
  t.match(lab.figures, { membership_total: 3, membership_healthy: 1, membership_degraded: 1, membership_change: 3 })
  t.same(cluster.health(), { healthy: 1, degraded: 1, total: 3 })
  const shown = cluster.status().hosts
  t.same(
    shown.map(({ address, priority, health }) => [address, priority, health]),
    [
      ['10.0.0.1:80', 0, 'healthy'],
      ['10.0.0.2:80', 0, '/degraded_eds_health'],
      ['10.0.0.1:80', 1, '/eds_status_draining'],
    ],
  )
  t.same(new LoadMeter(lab.metrics).next([cluster]), [])
  t.equal(cluster.untouched, true, 'nothing of this makes them')
  const host = cluster.pick({}) as Host
  t.equal(host.addressText, '10.0.0.1:80')
  t.equal(cluster.untouched, false)
  t.same(cluster.status().hosts, shown)
  const before = lab.figures
  lab.set([{ priority: 0, endpoints: [endpoint('10.0.0.1'), endpoint('10.0.0.3')] }])
  t.equal(cluster.hosts.all[0], host, 'from then on they live')
  t.equal(lab.figures['membership_change'], (before['membership_change'] ?? 0) + 3)
  t.equal(lab.figures['membership_total'], 2)
})

t.test('where something has to be done with each host they are there at once', async (t) => {
  const hosts: AssignmentConfig['localities'] = [{ priority: 0, endpoints: [endpoint('127.0.0.1')] }]
  const made = (config: Partial<ClusterConfig>): boolean => {
    const lab = new Lab(t, config)
    lab.set(hosts)
    return !lab.cluster.untouched
  }
  t.equal(made({}), false)
  t.equal(made({ outlier: EDGE_OUTLIER }), false, 'without requests there is nothing to detect')
  t.equal(made({ healthCheck: CHECK }), true)
  t.equal(
    made({ balancer: { kind: 'maglev', tableSize: 11 } as ClusterConfig['balancer'] }),
    true,
    'tables are made ahead',
  )
  const slowStart = { windowMs: 1_000, aggression: 1, minWeightPercent: 10 }
  t.equal(made({ balancer: { kind: 'round-robin', slowStart } as ClusterConfig['balancer'] }), true)
})

t.test('outlier detection watches hosts from the moment they are made', async (t) => {
  const lab = new Lab(t, { outlier: { ...EDGE_OUTLIER, consecutive5xx: 2, maxEjectionPercent: 100 } })
  lab.set([{ priority: 0, endpoints: [endpoint('10.0.0.1'), endpoint('10.0.0.2')] }])
  const shown = lab.cluster.status()
  const host = lab.cluster.pick({}) as Host
  t.same(lab.cluster.status(), shown, 'what is shown of them is the same before and after')
  for (let i = 0; i < 2; i++) host.monitor?.onResponse(500, undefined, 1)
  await settle(5)
  t.equal(host.healthFlags(), '/failed_outlier_check')
})

t.test('a cluster that goes takes its figures along, also those of hosts that were never made', async (t) => {
  const lab = new Lab(t)
  const { metrics } = lab
  lab.set([{ priority: 0, endpoints: [endpoint('10.0.0.1'), endpoint('10.0.0.2')] }])
  const gauges = ['membership_total', 'membership_healthy'].map((name) => metrics.gauge(`cluster.web.${name}`))
  lab.cluster.retire()
  t.same(
    gauges.map(({ v }) => v),
    [0, 0],
  )
  t.equal((lab.cluster.pick({}) as Host).addressText, '10.0.0.1:80', 'whoever has got it may go on')
  t.same(
    gauges.map(({ v }) => v),
    [0, 0],
  )
})

const HEALTHS = ['healthy', 'healthy', 'degraded', 'unhealthy', 'draining'] as const

/** Of few addresses, so that updates have much in common; now and then with more endpoints than are compared one by one. */
function someLocalities(random: Random): AssignmentConfig['localities'] {
  const many = random.below(5) === 0
  return Array.from({ length: random.below(4) }, () => {
    const zone = random.below(3)
    const metadata = random.below(6) === 0 ? { lb: { v: random.below(2) } } : undefined
    return {
      priority: random.below(2),
      ...(zone > 0 && { locality: { region: '', zone: `z${zone}`, subZone: '' } }),
      ...(random.below(4) === 0 && { weight: 1 + random.below(2) }),
      ...(metadata && { metadata }),
      endpoints: Array.from({ length: random.below(many ? 30 : 4) }, () => {
        const pipe = random.below(8) === 0
        const address = pipe ? { kind: 'pipe' as const, path: `/s${random.below(4)}` } : undefined
        return endpoint(`10.0.0.${random.below(many ? 200 : 6)}`, {
          weight: 1 + random.below(2),
          health: random.pick(HEALTHS),
          ...(address && { address }),
          ...(random.below(5) === 0 && { hostname: `h${random.below(2)}` }),
        })
      }),
    }
  })
}

t.test(
  'over any updates a cluster without hosts counts what one with hosts counts, and has the same in the end',
  async (t) => {
    let held = 0
    for (let seed = 1; seed <= 150; seed++) {
      const random = seeded(seed)
      const [lazy, eager] = [new Lab(t), new Lab(t)]
      void eager.cluster.hosts
      let localities = someLocalities(random)
      for (let step = 0; step < 8; step++) {
        const what = random.below(6)
        if (what === 0) localities = structuredClone(localities)
        else if (what === 1) localities = localities.toReversed()
        else localities = someLocalities(random)
        const policy = random.below(5) === 0 ? { overprovisioningFactor: 100 + random.below(2) } : undefined
        lazy.set(localities, policy)
        eager.set(localities, policy)
        if (lazy.cluster.untouched) held++
        const [a, b] = [lazy.figures, eager.figures]
        if (JSON.stringify(Object.entries(a).sort()) !== JSON.stringify(Object.entries(b).sort())) {
          t.same(a, b, `seed ${seed}, step ${step}`)
        }
      }
      const [a, b] = [lazy, eager].map(({ cluster }) => JSON.stringify([cluster.status(), cluster.hosts.choices]))
      if (a !== b) t.equal(a, b, `seed ${seed}`)
    }
    t.ok(held > 300, `${held} updates were held`)
  },
)
