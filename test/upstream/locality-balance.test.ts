import t, { type Test } from 'tap'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { createBalancer } from '../../lib/upstream/balance/balancer.ts'
import { Narrowed } from '../../lib/upstream/choice/narrowed.ts'
import type { BalancerConfig, EndpointConfig, LocalityConfig } from '../../lib/upstream/config.ts'
import { HEALTH } from '../../lib/upstream/health-flags.ts'
import type { Host } from '../../lib/upstream/host.ts'
import { HostSet, type HostSetOptions } from '../../lib/upstream/host-set.ts'
import { seeded } from '../support/random.ts'

const WEIGHTED = { kind: 'weighted' } as const
const KINDS: readonly BalancerConfig[] = [
  { kind: 'round-robin', localities: WEIGHTED },
  { kind: 'random', localities: WEIGHTED },
  { kind: 'least-request', choiceCount: 2, activeRequestBias: 1, localities: WEIGHTED },
  { kind: 'peak-ewma', decayMs: 10_000, localities: WEIGHTED },
  { kind: 'ring-hash', minSize: 100_000, maxSize: 8_388_608, hash: 'xx', byHostname: false, localities: WEIGHTED },
  { kind: 'maglev', tableSize: 65_537, byHostname: false, localities: WEIGHTED },
]

function zone(name: string): LocalityConfig {
  return { region: 'r', zone: name, subZone: '' }
}

/** `count` hosts of a zone, of which the first `sick` are unhealthy. */
function endpoints(net: number, count: number, sick = 0, rest: Partial<EndpointConfig> = {}): EndpointConfig[] {
  return Array.from({ length: count }, (_, i) => ({
    address: { kind: 'ip', host: `10.${net}.0.${i}`, port: 80 },
    weight: 1,
    health: i < sick ? 'unhealthy' : 'healthy',
    ...rest,
  }))
}

function shares(pick: () => Host | undefined, count: number): Map<string, number> {
  const counts = new Map<string, number>()
  for (let i = 0; i < count; i++) {
    const name = pick()?.locality?.zone ?? '-'
    counts.set(name, (counts.get(name) ?? 0) + 1 / count)
  }
  return counts
}

/** Within one percent of all requests. */
function near(t: Test, got: Map<string, number>, expected: Record<string, number>, name: string): void {
  t.same([...got.keys()].sort(), Object.keys(expected).sort(), name)
  for (const [zone, share] of Object.entries(expected)) {
    const off = Math.abs((got.get(zone) ?? 0) - share)
    t.ok(off < 0.01, `${name}: ${zone} has ${got.get(zone)}, wanted ${share}`)
  }
}

t.test('localities get requests by weight, and less as their hosts become unusable', async (t) => {
  for (const config of KINDS) {
    const hosts = new HostSet()
    const update = (sick: number, weights: readonly (number | undefined)[]): void => {
      hosts.update([
        { priority: 0, locality: zone('a'), weight: weights[0], endpoints: endpoints(1, 5, sick) },
        { priority: 0, locality: zone('b'), weight: weights[1], endpoints: endpoints(2, 20) },
        { priority: 0, locality: zone('c'), weight: weights[2], endpoints: endpoints(3, 10) },
      ])
    }
    update(0, [2, 1, undefined])
    const balancer = createBalancer(config, hosts, { random: seeded(4).next, later: (run) => run() })
    const pick = (): Host | undefined => balancer.pick({})
    near(t, shares(pick, 30_000), { a: 2 / 3, b: 1 / 3 }, config.kind)
    update(0, [1, 1, 2])
    near(t, shares(pick, 30_000), { a: 1 / 4, b: 1 / 4, c: 1 / 2 }, `${config.kind}, other weights`)
    update(1, [1, 1, 2])
    near(t, shares(pick, 30_000), { a: 1 / 4, b: 1 / 4, c: 1 / 2 }, `${config.kind}, overprovisioned`)
    // 2 of 5 usable, times 1.4. Tables of hashes take the weights as they are, as Envoy's.
    update(3, [1, 1, 2])
    const effective = config.kind === 'ring-hash' || config.kind === 'maglev' ? 1 : 0.56
    const sum = effective + 3
    near(t, shares(pick, 30_000), { a: effective / sum, b: 1 / sum, c: 2 / sum }, `${config.kind}, sick`)
    update(0, [undefined, undefined, undefined])
    near(t, shares(pick, 30_000), { a: 5 / 35, b: 20 / 35, c: 10 / 35 }, `${config.kind}, no weights`)
  }
})

t.test('without being asked for the weights of localities do not count', async (t) => {
  const hosts = new HostSet()
  hosts.update([
    { priority: 0, locality: zone('a'), weight: 100, endpoints: endpoints(1, 5) },
    { priority: 0, locality: zone('b'), weight: 1, endpoints: endpoints(2, 15) },
  ])
  const balancer = createBalancer({ kind: 'random' }, hosts, { random: seeded(4).next })
  near(
    t,
    shares(() => balancer.pick({}), 30_000),
    { a: 0.25, b: 0.75 },
    'by hosts',
  )
})

const ZONE_AWARE = { kind: 'zone-aware', enabledPercent: 100, minClusterSize: 6, failOnPanic: false } as const

interface Zones {
  readonly cluster: readonly (readonly [name: string, hosts: number, sick?: number])[]
  readonly gateways: readonly (readonly [name: string, hosts: number])[]
}

function zones(list: Zones['cluster'], options: HostSetOptions = {}): HostSet {
  const hosts = new HostSet(options)
  hosts.update(
    list.map(([name, count, sick], i) => ({
      priority: 0,
      locality: zone(name),
      endpoints: endpoints(i + 1, count, sick),
    })),
  )
  return hosts
}

// By Envoy's formulas, in ten-thousandths: what stays is upstream share / own share, the rest goes by what is left over.
const ZONE_CASES: readonly [name: string, zones: Zones, expected: Record<string, number>, counter: string][] = [
  [
    'as many hosts as gateways: all stay',
    {
      cluster: [
        ['a', 5],
        ['b', 5],
      ],
      gateways: [
        ['a', 2],
        ['b', 2],
      ],
    },
    { a: 1 },
    'lb_zone_routing_all_directly',
  ],
  [
    'half of what is needed: half stays, the rest goes where there is more than needed',
    {
      cluster: [
        ['a', 4],
        ['b', 8],
        ['c', 4],
      ],
      gateways: [
        ['a', 5],
        ['b', 4],
        ['c', 1],
      ],
    },
    // 2500 of 5000; left over 1000 in b and 1500 in c.
    { a: 0.5, b: 0.5 * 0.4, c: 0.5 * 0.6 },
    'lb_zone_routing_sampled',
  ],
  [
    'no host in the own zone: by what is left over',
    {
      cluster: [
        ['b', 6],
        ['c', 2],
      ],
      gateways: [
        ['a', 2],
        ['b', 2],
      ],
    },
    { b: 0.5, c: 0.5 },
    'lb_zone_routing_cross_zone',
  ],
  [
    'too small a cluster: by hosts',
    {
      cluster: [
        ['a', 2],
        ['b', 3],
      ],
      gateways: [
        ['a', 1],
        ['b', 1],
      ],
    },
    { a: 0.4, b: 0.6 },
    'lb_zone_cluster_too_small',
  ],
  [
    'no gateway in the own zone: by hosts',
    {
      cluster: [
        ['a', 4],
        ['b', 4],
      ],
      gateways: [
        ['b', 1],
        ['c', 1],
      ],
    },
    { a: 0.5, b: 0.5 },
    'lb_local_cluster_not_ok',
  ],
]

t.test('requests stay in the own zone as far as its share permits, by Envoy’s formulas', async (t) => {
  for (const [name, { cluster, gateways }, expected, counter] of ZONE_CASES) {
    const metrics = new MetricsStore()
    const local = zones(gateways)
    const balancer = createBalancer({ kind: 'random', localities: ZONE_AWARE }, zones(cluster), {
      random: seeded(6).next,
      stats: { metrics, prefix: 'cluster.x.' },
      local: { hosts: () => local, locality: zone('a') },
    })
    near(
      t,
      shares(() => balancer.pick({}), 40_000),
      expected,
      name,
    )
    t.ok(metrics.counter(`cluster.x.${counter}`).v > 0, counter)
  }
})

t.test('routing by zone follows the local cluster, its replacement and the runtime', async (t) => {
  let local: HostSet | undefined
  const values = new Map<string, unknown>()
  const hosts = zones([
    ['a', 5],
    ['b', 5],
  ])
  const balancer = createBalancer({ kind: 'random' }, hosts, {
    random: seeded(8).next,
    runtime: { get: (key) => values.get(key) },
    local: { hosts: () => local, locality: zone('a') },
  })
  const got = (): Map<string, number> => shares(() => balancer.pick({}), 20_000)
  near(t, got(), { a: 0.5, b: 0.5 }, 'no local cluster')
  local = zones([
    ['a', 2],
    ['b', 2],
  ])
  balancer.pick({})
  near(t, got(), { a: 1 }, 'one has come')
  local.update([
    { priority: 0, locality: zone('a'), endpoints: endpoints(1, 3) },
    { priority: 0, locality: zone('b'), endpoints: endpoints(2, 1) },
  ])
  near(t, got(), { a: 2 / 3, b: 1 / 3 }, 'it has changed: 5000 of 7500')
  values.set('upstream.zone_routing.enabled', 0)
  near(t, got(), { a: 0.5, b: 0.5 }, 'switched off')
  values.set('upstream.zone_routing.enabled', 100)
  values.set('upstream.zone_routing.min_cluster_size', 11)
  local = zones([
    ['a', 2],
    ['b', 2],
  ])
  balancer.pick({})
  near(t, got(), { a: 0.5, b: 0.5 }, 'too small by the runtime')
  values.delete('upstream.zone_routing.min_cluster_size')
  local = zones([
    ['a', 4, 3],
    ['b', 4, 3],
  ])
  balancer.pick({})
  near(t, got(), { a: 0.5, b: 0.5 }, 'gateways in panic')
  balancer[Symbol.dispose]()
})

t.test('a balancer that has retired lets go of the local cluster, and picks as before', (t) => {
  const subset: BalancerConfig = {
    kind: 'subset',
    fallback: 'any',
    defaultLabels: {},
    selectors: [{ keys: ['version'] }],
    within: { kind: 'random', localities: ZONE_AWARE },
  }
  for (const config of [{ kind: 'random', localities: ZONE_AWARE }, subset] as const) {
    const local = zones([
      ['a', 1],
      ['b', 1],
    ])
    let followers = 0
    const follow = local.onChange.bind(local)
    local.onChange = (listener) => {
      const stop = follow(listener)
      followers++
      return () => {
        followers--
        stop()
      }
    }
    const metrics = new MetricsStore()
    const hosts = zones([
      ['a', 6],
      ['b', 6],
    ])
    const balancer = createBalancer(config, hosts, {
      random: seeded(6).next,
      stats: { metrics, prefix: '' },
      local: { hosts: () => local, locality: zone('a') },
    })
    for (let i = 0; i < 10; i++) t.equal(balancer.pick({})?.locality?.zone, 'a')
    t.equal(followers, 1)
    balancer.retire?.()
    t.equal(followers, 0)
    for (let i = 0; i < 10; i++) t.equal(balancer.pick({})?.locality?.zone, 'a')
    hosts.flag(hosts.all[0], HEALTH.failedActiveHc, true)
    const worked = metrics.counter('lb_recalculate_zone_structures').v
    for (let i = 0; i < 10; i++) t.ok(balancer.pick({}))
    t.ok(metrics.counter('lb_recalculate_zone_structures').v <= worked + 1, 'not with each pick')
    t.equal(followers, 0)
  }
  t.end()
})

t.test('the own zone can be forced, and panic can be made to fail', async (t) => {
  const local = zones([['a', 1]])
  const forced = createBalancer(
    { kind: 'random', localities: { ...ZONE_AWARE, forceLocalMinHosts: 2 } },
    zones([
      ['a', 2],
      ['b', 8],
    ]),
    { random: seeded(6).next, local: { hosts: () => local, locality: zone('a') } },
  )
  near(
    t,
    shares(() => forced.pick({}), 5_000),
    { a: 1 },
    'two hosts are enough',
  )
  const panicPicks = { v: 0 }
  const sick = createBalancer(
    { kind: 'random', localities: { ...ZONE_AWARE, failOnPanic: true } },
    zones([['a', 4, 3]]),
    {
      random: seeded(6).next,
      panicPicks: () => panicPicks,
    },
  )
  t.equal(sick.pick({}), undefined)
  t.equal(panicPicks.v, 1)
})

t.test('the health of a priority can go by weight, and its factor by the assignment', async (t) => {
  const hosts = new HostSet()
  const update = (): void => {
    hosts.update([
      {
        priority: 0,
        endpoints: [...endpoints(1, 1, 1, { weight: 9 }), ...endpoints(2, 3)],
      },
      { priority: 1, endpoints: endpoints(3, 2) },
    ])
  }
  const loads = (): number[] => hosts.choices.map(({ load }) => load)
  update()
  t.same(loads(), [100], '3 of 4, times 1.4')
  hosts.follow({ overprovisioningFactor: 100 })
  update()
  t.same(loads(), [75, 25])
  hosts.follow({ weightedPriorityHealth: true })
  update()
  // 3 of 12 by weight, times 1.4.
  t.same(loads(), [35, 65])
  hosts.follow({ dropOverload: 0.5 })
  update()
  t.same(loads(), [100])
  t.equal(hosts.dropOverload, 0.5)
})

t.test('the panic threshold is read with each change', async (t) => {
  let threshold = 50
  const hosts = new HostSet({ panicThreshold: () => threshold })
  hosts.update([{ priority: 0, endpoints: endpoints(1, 10, 6) }])
  t.same(
    hosts.choices.map(({ panic, hosts }) => [panic, hosts.length]),
    [[true, 10]],
  )
  threshold = 0
  hosts.update([{ priority: 0, endpoints: endpoints(1, 10, 7) }])
  t.same(
    hosts.choices.map(({ panic, hosts }) => [panic, hosts.length]),
    [[false, 3]],
  )
})

t.test('priorities that retries have used are left to others, as long as there are some', async (t) => {
  for (const config of [{ kind: 'random' }, KINDS[5]] as const) {
    const hosts = new HostSet()
    hosts.update([
      { priority: 0, endpoints: endpoints(1, 3) },
      { priority: 1, endpoints: endpoints(2, 3) },
      { priority: 2, endpoints: endpoints(3, 3) },
    ])
    const balancer = createBalancer(config, hosts, { random: seeded(3).next })
    const levels = (spentPriorities: readonly number[]): (number | undefined)[] => [
      ...new Set(Array.from({ length: 50 }, () => balancer.pick({ spentPriorities })?.priority)),
    ]
    t.same(levels([]), [0])
    t.same(levels([0]), [1])
    t.same(levels([0, 1]), [2])
    t.same(levels([1]), [0])
    t.same(levels([0, 1, 2]), [0], 'all are used up: as at first')
    hosts.update([{ priority: 0, endpoints: endpoints(1, 3) }])
    t.same(levels([0]), [0])
  }
})

t.test('a choice within one priority of an aggregate looks as often as the retry policy permits', (t) => {
  const balancer = createBalancer({ kind: 'round-robin' }, zones([['a', 8]]), { random: () => 0 })
  for (const selectionAttempts of [0, 1, 5]) {
    let seen = 0
    const rejects = (): boolean => ++seen > 0
    t.ok(balancer.pick(new Narrowed({ rejects, selectionAttempts }, [1])), 'what is rejected goes through in the end')
    t.equal(seen, 1 + selectionAttempts)
  }
  t.end()
})

t.test('new hosts get a growing part of their weight', async (t) => {
  for (const kind of ['round-robin', 'least-request'] as const) {
    let now = 1_000_000
    const hosts = new HostSet({ now: () => now })
    hosts.update([{ priority: 0, locality: zone('old'), endpoints: endpoints(1, 4) }])
    now += 600_000
    const slowStart = { windowMs: 60_000, aggression: 1, minWeightPercent: 10 }
    const config: BalancerConfig =
      kind === 'round-robin' ? { kind, slowStart } : { kind, choiceCount: 2, activeRequestBias: 1, slowStart }
    const balancer = createBalancer(config, hosts, { random: seeded(3).next, now: () => now })
    const got = (): Map<string, number> => shares(() => balancer.pick({}), 20_000)
    near(t, got(), { old: 1 }, 'nobody is new')
    hosts.update([
      { priority: 0, locality: zone('old'), endpoints: endpoints(1, 4) },
      { priority: 0, locality: zone('new'), endpoints: endpoints(2, 1) },
    ])
    near(t, got(), { old: 4 / 4.1, new: 0.1 / 4.1 }, `${kind}: at least so much`)
    now += 30_000
    near(t, got(), { old: 4 / 4.5, new: 0.5 / 4.5 }, `${kind}: half way`)
    now += 30_000
    near(t, got(), { old: 4 / 5, new: 1 / 5 }, `${kind}: warm`)
    hosts.update([
      { priority: 0, locality: zone('old'), endpoints: endpoints(1, 4) },
      { priority: 0, locality: zone('new'), endpoints: endpoints(2, 1, 1) },
    ])
    now += 600_000
    hosts.update([
      { priority: 0, locality: zone('old'), endpoints: endpoints(1, 4) },
      { priority: 0, locality: zone('new'), endpoints: endpoints(2, 1) },
    ])
    near(t, got(), { old: 4 / 4.1, new: 0.1 / 4.1 }, `${kind}: again, after it was unhealthy`)
  }
})

t.test('the aggression of a slow start bends the curve, by the runtime too', async (t) => {
  let now = 0
  const values = new Map<string, unknown>()
  const hosts = new HostSet({ now: () => now })
  hosts.update([{ priority: 0, locality: zone('old'), endpoints: endpoints(1, 1) }])
  now = 1_000_000
  const slowStart = { windowMs: 100_000, aggression: 2, aggressionKey: 'bend', minWeightPercent: 0 }
  const balancer = createBalancer({ kind: 'round-robin', slowStart }, hosts, {
    random: seeded(3).next,
    now: () => now,
    runtime: { get: (key) => values.get(key) },
  })
  hosts.update([
    { priority: 0, locality: zone('old'), endpoints: endpoints(1, 1) },
    { priority: 0, locality: zone('new'), endpoints: endpoints(2, 1) },
  ])
  now += 25_000
  const got = (): Map<string, number> => shares(() => balancer.pick({}), 20_000)
  near(t, got(), { old: 1 / 1.5, new: 0.5 / 1.5 }, '0.25^(1/2)')
  values.set('bend', 1)
  near(t, got(), { old: 1 / 1.25, new: 0.25 / 1.25 }, 'linear')
  values.set('bend', -1)
  near(t, got(), { old: 1 / 1.5, new: 0.5 / 1.5 }, 'nonsense is none')
})

t.test('a full scan takes the least busy of all, equals by chance', async (t) => {
  const hosts = new HostSet()
  hosts.update([{ priority: 0, endpoints: endpoints(1, 50).map((one, i) => ({ ...one, weight: 1 + (i % 3) })) }])
  const config: BalancerConfig = { kind: 'least-request', choiceCount: 2, activeRequestBias: 1, fullScan: true }
  const balancer = createBalancer(config, hosts, { random: seeded(3).next })
  for (const host of hosts.all) host.rqActive = 3
  hosts.all[31].rqActive = 1
  t.equal(balancer.pick({}), hosts.all[31])
  hosts.all[31].rqActive = 3
  const counts = new Map<Host, number>()
  for (let i = 0; i < 50_000; i++) {
    const host = balancer.pick({})!
    counts.set(host, (counts.get(host) ?? 0) + 1)
  }
  t.equal(counts.size, 50)
  for (const count of counts.values()) t.ok(count > 800 && count < 1_200, `${count} of 1,000`)
})
