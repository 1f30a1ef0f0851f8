import t, { type Test } from 'tap'
import type { JsonObject } from '../../lib/core/errors.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { type Balancer, createBalancer } from '../../lib/upstream/balance/balancer.ts'
import type { EndpointConfig, SubsetConfig, SubsetSelectorConfig } from '../../lib/upstream/config.ts'
import { HEALTH } from '../../lib/upstream/health-flags.ts'
import { HostSet } from '../../lib/upstream/host-set.ts'
import { seeded } from '../support/random.ts'

const ROUND_ROBIN = { kind: 'round-robin' } as const

/** Names of hosts and the labels of each. */
type Labelled = Readonly<Record<string, JsonObject>>

const FLEET: Labelled = {
  a: { version: '1', stage: 'prod' },
  b: { version: '1', stage: 'prod' },
  c: { version: '1', stage: 'test' },
  d: { version: '2', stage: 'prod' },
  e: { version: '2', stage: 'test' },
  f: { stage: 'prod', extra: true },
}

function endpoint(name: string, labels: JsonObject, rest: Partial<EndpointConfig> = {}): EndpointConfig {
  const address = { kind: 'ip', host: `10.0.0.${name.charCodeAt(0)}`, port: 80 } as const
  return { address, hostname: name, weight: 1, health: 'healthy', metadata: { 'envoy.lb': labels }, ...rest }
}

function endpointsOf(labelled: Labelled, rest: Partial<EndpointConfig> = {}): EndpointConfig[] {
  return Object.entries(labelled).map(([name, labels]) => endpoint(name, labels, rest))
}

interface Rig {
  readonly hosts: HostSet
  readonly balancer: Balancer
  /** The hosts that twelve picks give, each once, in order; '' where there are none. */
  got(labels?: JsonObject): string
  stat(name: string): number | undefined
}

function rig(config: Partial<SubsetConfig>, labelled: Labelled = FLEET): Rig {
  const hosts = new HostSet()
  hosts.update([{ priority: 0, endpoints: endpointsOf(labelled) }])
  const metrics = new MetricsStore()
  const full: SubsetConfig = {
    kind: 'subset',
    fallback: 'none',
    defaultLabels: {},
    selectors: [{ keys: ['version'] }],
    within: ROUND_ROBIN,
    ...config,
  }
  const balancer = createBalancer(full, hosts, {
    random: seeded(3).next,
    stats: { metrics, prefix: 'cluster.c.' },
    later: (run) => run(),
  })
  return {
    hosts,
    balancer,
    got(labels) {
      const names = new Set<string>()
      for (let i = 0; i < 12; i++) names.add(balancer.pick({ labels })?.hostname ?? '')
      return [...names].sort().join('')
    },
    stat: (name) => statOf(metrics, `cluster.c.${name}`),
  }
}

t.test('requests go to the hosts that have exactly the labels they ask for', async (t) => {
  const { got } = rig({ selectors: [{ keys: ['version'] }, { keys: ['stage', 'version'] }, { keys: ['extra'] }] })
  t.equal(got({ version: '1' }), 'abc')
  t.equal(got({ version: '2' }), 'de')
  t.equal(got({ version: '1', stage: 'prod' }), 'ab')
  t.equal(got({ stage: 'test', version: '2' }), 'e', 'whatever the order of the keys')
  t.equal(got({ extra: true }), 'f')
  t.equal(got({ extra: 'true' }), '', 'a word is no boolean')
  t.equal(got({ stage: 'prod' }), '', 'there is no selector of this key alone')
  t.equal(got({ version: '1', extra: true }), '')
  t.equal(got({ version: '3' }), '')
  t.equal(got(), '', 'asking for nothing is the fallback, too')
  t.equal(got({}), '')
})

t.test('values are equal by what they say, and not by how they are written', async (t) => {
  const { got } = rig(
    { selectors: [{ keys: ['v'] }] },
    { a: { v: { x: 1, y: [1, 2] } }, b: { v: 1 }, c: { v: '1' }, d: { v: null } },
  )
  t.equal(got({ v: { y: [1, 2], x: 1 } }), 'a')
  t.equal(got({ v: { y: [2, 1], x: 1 } }), '')
  t.equal(got({ v: 1.0 }), 'b')
  t.equal(got({ v: '1' }), 'c')
  t.equal(got({ v: null }), 'd')
})

function statOf(metrics: MetricsStore, name: string): number | undefined {
  const { counters, gauges } = metrics.snapshot()
  return [...counters, ...gauges].find(([known]) => known === name)?.[1]
}

const NOBODY = { version: '9' }

t.test('each fallback of the policy', async (t) => {
  const cases: readonly (readonly [config: Partial<SubsetConfig>, expected: string])[] = [
    [{ fallback: 'none' }, ''],
    [{ fallback: 'any' }, 'abcdef'],
    [{ fallback: 'default', defaultLabels: { stage: 'test' } }, 'ce'],
    [{ fallback: 'default', defaultLabels: {} }, 'abcdef'],
    [{ fallback: 'default', defaultLabels: { stage: 'none' } }, ''],
    [{ fallback: 'default', defaultLabels: { stage: 'none' }, panicAny: true }, 'abcdef'],
    [{ fallback: 'none', panicAny: true }, ''],
  ]
  for (const [config, expected] of cases) {
    const { got } = rig(config)
    t.equal(got(NOBODY), expected, JSON.stringify(config))
    t.equal(got(), expected, `without labels, ${JSON.stringify(config)}`)
    t.equal(got({ version: '2' }), 'de')
  }
})

t.test('each fallback of a selector goes before that of the policy', async (t) => {
  const version = (rest: Partial<SubsetSelectorConfig>): SubsetSelectorConfig => ({ keys: ['version'], ...rest })
  const cases: readonly (readonly [selector: SubsetSelectorConfig, policy: Partial<SubsetConfig>, expected: string])[] =
    [
      [version({}), { fallback: 'any' }, 'abcdef'],
      [version({ fallback: 'none' }), { fallback: 'any' }, ''],
      [version({ fallback: 'any' }), { fallback: 'none' }, 'abcdef'],
      [version({ fallback: 'default' }), { fallback: 'any', defaultLabels: { stage: 'test' } }, 'ce'],
    ]
  for (const [selector, policy, expected] of cases) {
    t.equal(rig({ ...policy, selectors: [selector] }).got(NOBODY), expected, JSON.stringify({ selector, policy }))
  }
})

t.test('a selector falls back to fewer of its keys, and on from there', async (t) => {
  const selectors: SubsetSelectorConfig[] = [
    { keys: ['version', 'stage', 'extra'], fallback: 'keys', fallbackKeys: ['stage', 'version'] },
    { keys: ['stage', 'version'], fallback: 'keys', fallbackKeys: ['stage'] },
    { keys: ['stage'], fallback: 'default' },
  ]
  const { got } = rig({ selectors, defaultLabels: { extra: true } })
  t.equal(got({ version: '1', stage: 'prod', extra: 'no' }), 'ab')
  t.equal(got({ version: '9', stage: 'prod', extra: 'no' }), 'abdf')
  t.equal(got({ version: '9', stage: 'nowhere', extra: 'no' }), 'f')
  t.equal(got({ version: '9', stage: 'test' }), 'ce')
})

t.test('alternatives of a request are tried in order', async (t) => {
  const selectors = [{ keys: ['version'] }, { keys: ['stage', 'version'] }]
  const { got } = rig({ selectors, fallbackList: true })
  t.equal(got({ fallback_list: [{ version: '9' }, { version: '2' }, { version: '1' }] }), 'de')
  t.equal(got({ stage: 'prod', fallback_list: [{ version: '9' }, { version: '1' }] }), 'ab', 'over what is asked for')
  t.equal(got({ version: '1', fallback_list: [{ version: '2' }] }), 'de')
  t.equal(got({ version: '1', fallback_list: [] }), 'abc')
  t.equal(got({ version: '1', fallback_list: 'no list' }), 'abc')
  t.equal(got({ fallback_list: [{ version: '8' }, { version: '9' }] }), '')
  t.equal(rig({ selectors }).got({ fallback_list: [{ version: '1' }] }), '', 'a label like any other, otherwise')
})

t.test('labels beyond those of selectors matter unless they are allowed', async (t) => {
  const selectors = [{ keys: ['version', 'stage'] }, { keys: ['version'] }]
  const labels = { version: '1', user: 'x' }
  t.equal(rig({ selectors }).got(labels), '')
  const { got } = rig({ selectors, redundantKeys: true })
  t.equal(got(labels), 'abc')
  t.equal(got({ ...labels, stage: 'prod' }), 'ab', 'the selector of most keys that are all there')
  t.equal(got({ user: 'x' }), '')
  const other = rig({ selectors: [...selectors].reverse(), redundantKeys: true })
  t.equal(other.got({ ...labels, stage: 'prod' }), 'ab', 'wherever it stands')
  const equals = rig({ selectors: [{ keys: ['stage'] }, { keys: ['version'] }], redundantKeys: true })
  t.equal(equals.got({ version: '1', stage: 'test' }), 'ce', 'of equals the first')
})

t.test('a host with a list has all values of it, where lists are meant so', async (t) => {
  const labelled = { a: { v: ['1', '2'], s: ['x', 'y'] }, b: { v: '2', s: 'x' }, c: { v: [], s: 'x' } }
  const selectors = [{ keys: ['v'] }, { keys: ['s', 'v'] }]
  const any = rig({ selectors, listAsAny: true, fallback: 'default', defaultLabels: { s: 'y' } }, labelled)
  t.equal(any.got({ v: '1' }), 'a')
  t.equal(any.got({ v: '2' }), 'ab')
  t.equal(any.got({ v: '2', s: 'x' }), 'ab')
  t.equal(any.got({ v: '2', s: 'y' }), 'a')
  t.equal(any.got({ v: '9' }), 'a', 'the default, by one of the values')
  const whole = rig({ selectors }, labelled)
  t.equal(whole.got({ v: '2' }), 'b')
  t.equal(whole.got({ v: ['1', '2'] }), 'a')
  t.equal(whole.got({ v: [] }), 'c')
})

t.test('a subset of a single host is its first, whatever its priority and health', async (t) => {
  const { hosts, got, stat } = rig({ selectors: [{ keys: ['id'], singleHost: true }] }, { a: { id: 1 }, b: { id: 1 } })
  t.equal(got({ id: 1 }), 'a')
  t.equal(stat('lb_subsets_single_host_per_subset_duplicate'), 1)
  hosts.update([
    { priority: 0, endpoints: [endpoint('a', { id: 2 }, { health: 'unhealthy' })] },
    { priority: 3, endpoints: [endpoint('c', { id: 1 })] },
  ])
  t.equal(got({ id: 1 }), 'c')
  t.equal(got({ id: 2 }), 'a')
  t.equal(stat('lb_subsets_single_host_per_subset_duplicate'), 0)
})

t.test('subsets follow hosts that come, go, fall sick and change their labels', async (t) => {
  const { hosts, got, stat } = rig({ selectors: [{ keys: ['version'] }, { keys: ['stage'] }] })
  t.equal(got({ version: '2' }), 'de')
  t.equal(stat('lb_subsets_active'), 4)
  const update = (labelled: Labelled): void => {
    hosts.update([{ priority: 0, endpoints: endpointsOf(labelled) }])
  }
  update({ ...FLEET, g: { version: '2' } })
  t.equal(got({ version: '2' }), 'deg')
  const { d: _, ...rest } = FLEET
  update({ ...rest, e: { version: '3', stage: 'test' } })
  t.equal(got({ version: '2' }), '')
  t.equal(got({ version: '3' }), 'e')
  t.same([stat('lb_subsets_active'), stat('lb_subsets_created'), stat('lb_subsets_removed')], [4, 5, 1])
  update(FLEET)
  t.equal(got({ version: '1' }), 'abc')
  const a = hosts.all.find(({ hostname }) => hostname === 'a')
  if (a !== undefined) hosts.flag(a, HEALTH.failedActiveHc, true)
  t.equal(got({ version: '1' }), 'bc')
  t.equal(got({ stage: 'prod' }), 'bdf')
  update({})
  t.same([got({ version: '1' }), stat('lb_subsets_active')], ['', 0])
})

t.test('health, panic and priorities are those of the subset', async (t) => {
  const { hosts, got } = rig({ selectors: [{ keys: ['v'] }] })
  const level = (priority: number, labelled: Labelled, sick: string): Parameters<HostSet['update']>[0][number] => ({
    priority,
    endpoints: Object.entries(labelled).map(([name, labels]) =>
      endpoint(name, labels, { health: sick.includes(name) ? 'unhealthy' : 'healthy' }),
    ),
  })
  // All of the cluster is well enough; all of v 1 at the first priority is sick.
  hosts.update([
    level(0, { a: { v: 1 }, b: { v: 1 }, c: { v: 2 }, d: { v: 2 }, e: { v: 2 } }, 'ab'),
    level(1, { f: { v: 1 }, g: { v: 3 } }, 'g'),
  ])
  t.equal(got({ v: 1 }), 'f', 'the load goes to the next priority')
  t.equal(got({ v: 2 }), 'cde')
  t.equal(got({ v: 3 }), 'g', 'no host of the subset is well: any of it')
})

t.test('weights of localities count within subsets only where they are to, scaled if asked for', async (t) => {
  const weighted = { kind: 'round-robin', localities: { kind: 'weighted' } } as const
  const cases: readonly (readonly [config: Partial<SubsetConfig>, share: number])[] = [
    [{}, 1 / 3],
    [{ localityWeights: true }, 3 / 4],
    // 30 of 30 hosts per locality: 1 of 2 in the first, 2 of 8 in the other.
    [{ localityWeights: true, scaleLocalityWeights: true }, 15 / (15 + 2.5)],
  ]
  for (const [config, share] of cases) {
    const { hosts, balancer } = rig({ ...config, selectors: [{ keys: ['v'] }], within: weighted })
    const locality = (zone: string): { region: string; zone: string; subZone: string } => ({
      region: '',
      zone,
      subZone: '',
    })
    hosts.update([
      {
        priority: 0,
        locality: locality('x'),
        weight: 30,
        endpoints: endpointsOf({ a: { v: 1 }, b: { v: 2 } }),
      },
      {
        priority: 0,
        locality: locality('y'),
        weight: 10,
        endpoints: endpointsOf({
          c: { v: 1 },
          d: { v: 1 },
          ...Object.fromEntries([...'efghij'].map((name) => [name, { v: 2 }])),
        }),
      },
    ])
    let inX = 0
    const count = 7_000
    for (let i = 0; i < count; i++) if (balancer.pick({ labels: V1 })?.hostname === 'a') inX++
    // Weights are whole numbers: 2.5 is 3.
    near(t, inX / count, config.scaleLocalityWeights ? 15 / 18 : share, JSON.stringify(config))
  }
})

const V1 = { v: 1 }

function near(t: Test, got: number, wanted: number, what: string): void {
  t.ok(Math.abs(got - wanted) < 0.01, `${what}: ${got}, wanted ${wanted}`)
}

t.test('any policy chooses within subsets, and by its own rules', async (t) => {
  const labelled = Object.fromEntries([...'abcdefgh'].map((name, i) => [name, { v: i % 2 }]))
  const kinds: readonly SubsetConfig['within'][] = [
    ROUND_ROBIN,
    { kind: 'random' },
    { kind: 'least-request', choiceCount: 2, activeRequestBias: 1 },
    { kind: 'peak-ewma', decayMs: 10_000 },
    { kind: 'ring-hash', minSize: 1024, maxSize: 2048, hash: 'xx', byHostname: false },
    { kind: 'maglev', tableSize: 101, byHostname: false },
  ]
  for (const within of kinds) {
    const { balancer } = rig({ within, selectors: [{ keys: ['v'] }] }, labelled)
    const counts = new Map<string, number>()
    const labels = { v: 1 }
    const random = seeded(9)
    for (let i = 0; i < 8_000; i++) {
      const high = random.below(0xffff_ffff)
      const name = balancer.pick({ labels, hash: () => ({ high, low: random.below(0xffff_ffff) }) })?.hostname ?? '-'
      counts.set(name, (counts.get(name) ?? 0) + 1)
    }
    t.equal([...counts.keys()].sort().join(''), 'bdfh', within.kind)
    const hashes = within.kind === 'ring-hash' || within.kind === 'maglev'
    for (const [name, count] of counts) {
      t.ok(Math.abs(count / 8_000 - 0.25) < (hashes ? 0.1 : 0.02), `${within.kind}: ${name} has ${count}`)
    }
  }
})

t.test('retries go to other hosts of the subset', async (t) => {
  const { balancer, hosts } = rig({})
  const [a, b] = hosts.all
  for (let i = 0; i < 20; i++) {
    t.equal(balancer.pick({ labels: { version: '1' }, excluded: [a, b] })?.hostname, 'c')
  }
})

t.test(
  'picks are counted as Envoy counts them, and a subset that goes gives its place in the gauges back',
  async (t) => {
    const { balancer, stat } = rig({ fallback: 'default', defaultLabels: { stage: 'nowhere' }, panicAny: true })
    const labels = { version: '2' }
    for (let i = 0; i < 3; i++) balancer.pick({ labels })
    balancer.pick({ labels: NOBODY })
    balancer.pick({})
    t.same(
      [stat('lb_subsets_selected'), stat('lb_subsets_fallback') ?? 0, stat('lb_subsets_fallback_panic')],
      [3, 0, 2],
    )
    const other = rig({ fallback: 'any' })
    other.balancer.pick({})
    t.equal(other.stat('lb_subsets_fallback'), 1)
    t.same([stat('lb_subsets_active'), stat('lb_subsets_created')], [2, 2])
    balancer.retire?.()
    t.same([stat('lb_subsets_active'), stat('lb_subsets_removed')], [0, 2])
    t.equal(balancer.pick({ labels })?.metadata !== undefined, true, 'it still chooses')
    balancer[Symbol.dispose]()
    t.equal(stat('lb_subsets_active'), 0)
  },
)

t.test('random updates leave the subsets that a fresh start would make', async (t) => {
  const random = seeded(77)
  const names = [...'abcdefghijklmnop']
  const { hosts, got } = rig({ selectors: [{ keys: ['v'] }, { keys: ['s', 'v'] }] }, {})
  for (let round = 0; round < 60; round++) {
    const labelled: Record<string, JsonObject> = {}
    for (const name of names) if (random.next() < 0.6) labelled[name] = { v: random.below(3), s: random.below(2) }
    hosts.update([{ priority: 0, endpoints: endpointsOf(labelled) }])
    const fresh = rig({ selectors: [{ keys: ['v'] }, { keys: ['s', 'v'] }] }, labelled)
    const asked: readonly JsonObject[] = [{ v: 0 }, { v: 1 }, { v: 2, s: 1 }, { v: 0, s: 0 }, { v: 9 }]
    for (const labels of asked) {
      const wanted = names.filter((name) => {
        const own = labelled[name]
        return own !== undefined && Object.entries(labels).every(([key, value]) => own[key] === value)
      })
      t.equal(got(labels), wanted.join(''), `round ${round} ${JSON.stringify(labels)}`)
      t.equal(fresh.got(labels), wanted.join(''))
    }
  }
})
