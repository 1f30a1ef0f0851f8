import t from 'tap'
import type { EndpointConfig } from '../../lib/upstream/config.ts'
import type { ResolvedLocality } from '../../lib/upstream/host.ts'
import { HostSet } from '../../lib/upstream/host-set.ts'

type Health = EndpointConfig['health']

function endpoint(host: string, rest: Partial<EndpointConfig> = {}): EndpointConfig {
  return { address: { kind: 'ip', host, port: 80 }, weight: 1, health: 'healthy', ...rest }
}

/** One level: `counts` hosts of each health, named by priority so that levels differ. */
function level(priority: number, counts: Partial<Record<Health, number>>): ResolvedLocality {
  const endpoints: EndpointConfig[] = []
  for (const [health, count] of Object.entries(counts) as [Health, number][]) {
    for (let i = 0; i < count; i++) endpoints.push(endpoint(`10.${priority}.0.${endpoints.length + 1}`, { health }))
  }
  return { priority, endpoints }
}

/** `priority:source=load`, the source being the number of hosts in it, `!` for panic. */
function shares(hosts: HostSet): string[] {
  return hosts.choices.map((c) => `${c.priority}:${c.hosts.length}${c.panic ? '!' : ''}=${c.load}`)
}

t.test('a host keeps its identity while updates bring its address and priority', async (t) => {
  const hosts = new HostSet()
  const first = hosts.update([{ priority: 0, endpoints: [endpoint('10.0.0.1'), endpoint('10.0.0.2')] }])
  t.same(
    first.added.map((h) => h.addressText),
    ['10.0.0.1:80', '10.0.0.2:80'],
  )
  t.equal(first.removed.length, 0)
  const [kept, gone] = hosts.all
  kept.rqTotal = 7
  kept.pool = { open: () => undefined, preconnect: () => false, close: () => undefined, destroy: () => undefined }
  const pool = kept.pool
  const locality = { region: 'r', zone: 'z', subZone: '' }
  const changed = endpoint('10.0.0.1', {
    weight: 5,
    health: 'degraded',
    hostname: 'a.test',
    metadata: { lb: { x: 1 } },
  })
  const second = hosts.update([{ priority: 0, locality, endpoints: [changed, endpoint('10.0.0.3')] }])
  t.equal(hosts.all[0], kept)
  t.equal(kept.pool, pool)
  t.equal(kept.rqTotal, 7)
  t.match(kept, { weight: 5, health: 'degraded', hostname: 'a.test', locality, metadata: { lb: { x: 1 } } })
  t.same(second.removed, [gone])
  t.same(
    second.added.map((h) => h.addressText),
    ['10.0.0.3:80'],
  )
  const moved = hosts.update([{ priority: 1, endpoints: [endpoint('10.0.0.1')] }])
  t.equal(moved.added.length, 1, 'the same address at another priority is another host')
  t.not(hosts.all[0], kept)
  t.same(
    hosts.priorities.map((p) => p.length),
    [0, 1],
  )
})

t.test('an update that changes nothing, or only the order, keeps arrays and tells nobody', async (t) => {
  const hosts = new HostSet()
  let told = 0
  const stop = hosts.onChange(() => told++)
  const a = endpoint('10.0.0.1', { metadata: { lb: { v: [1, 2] } } })
  const b = endpoint('10.0.0.2')
  hosts.update([{ priority: 0, endpoints: [a, b] }])
  t.equal(told, 1)
  const { all, choices } = hosts
  const again = hosts.update([{ priority: 0, endpoints: [b, structuredClone(a)] }])
  t.same(again, { added: [], removed: [], changed: false })
  t.equal(hosts.all, all)
  t.equal(hosts.choices, choices)
  t.equal(told, 1)
  t.equal(hosts.update([{ priority: 0, endpoints: [b, { ...a, metadata: { lb: { v: [1, 3] } } }] }]).changed, true)
  t.equal(told, 2)
  t.not(hosts.all, all, 'an array handed out is never changed')
  stop()
  t.equal(hosts.update([]).removed.length, 2)
  t.equal(told, 2)
  t.same(hosts.choices, [])
})

t.test('of endpoints with equal keys the first counts, and pipes and logical names are keys too', async (t) => {
  const hosts = new HostSet()
  hosts.update([
    { priority: 0, endpoints: [endpoint('10.0.0.1', { weight: 3 }), endpoint('10.0.0.1', { weight: 9 })] },
    { priority: 0, endpoints: [endpoint('10.0.0.1', { weight: 8 })] },
    { priority: 0, endpoints: [endpoint('', { address: { kind: 'pipe', path: '/run/a.sock' } })] },
    { priority: 0, endpoints: [{ ...endpoint('::1'), key: 'web.test:80' }] },
  ])
  t.same(
    hosts.all.map((h) => [h.addressText, h.weight]),
    [
      ['10.0.0.1:80', 3],
      ['/run/a.sock', 1],
      ['[::1]:80', 1],
    ],
  )
  const logical = hosts.all[2]
  const { added } = hosts.update([{ priority: 0, endpoints: [{ ...endpoint('10.0.0.9'), key: 'web.test:80' }] }])
  t.equal(added.length, 0)
  t.equal(hosts.all[0], logical)
  t.equal(logical.addressText, '10.0.0.9:80', 'new connections go to the new address')
})

t.test('configured health is counted and printed in Envoy words', async (t) => {
  const hosts = new HostSet()
  hosts.update([level(0, { healthy: 1, degraded: 1, unhealthy: 1, draining: 1, timeout: 1 })])
  t.same(
    hosts.all.map((h) => [h.health, h.healthFlags()]),
    [
      ['healthy', 'healthy'],
      ['degraded', '/degraded_eds_health'],
      ['unhealthy', '/failed_eds_health'],
      ['unhealthy', '/eds_status_draining'],
      ['unhealthy', '/failed_eds_health'],
    ],
  )
  t.equal(hosts.healthyCount, 1)
  t.equal(hosts.degradedCount, 1)
})

// Expected shares: Envoy's documentation, "Priority levels", "Degraded endpoints" and "Panic threshold".
const SHARES: readonly [string, ResolvedLocality[], number, string[]][] = [
  [
    'all healthy: the first level takes everything',
    [level(0, { healthy: 4 }), level(1, { healthy: 4 })],
    50,
    ['0:4=100'],
  ],
  [
    '72 % healthy × 1.4 is enough',
    [level(0, { healthy: 72, unhealthy: 28 }), level(1, { healthy: 1 })],
    50,
    ['0:72=100'],
  ],
  [
    '71 % × 1.4 = 99 % spills the rest',
    [level(0, { healthy: 71, unhealthy: 29 }), level(1, { healthy: 100 })],
    50,
    ['0:71=99', '1:100=1'],
  ],
  [
    'three levels',
    [
      level(0, { healthy: 25, unhealthy: 75 }),
      level(1, { healthy: 25, unhealthy: 75 }),
      level(2, { healthy: 30, unhealthy: 70 }),
    ],
    0,
    ['0:25=35', '1:25=35', '2:30=30'],
  ],
  [
    'too little everywhere is scaled up, the remainder goes to the first',
    [level(0, { healthy: 20, unhealthy: 80 }), level(1, { healthy: 20, unhealthy: 80 })],
    0,
    ['0:20=50', '1:20=50'],
  ],
  ['degraded hosts take what healthy ones cannot', [level(0, { healthy: 5, degraded: 5 })], 50, ['0:5=70', '0:5=30']],
  ['only degraded hosts', [level(0, { degraded: 2, unhealthy: 1 })], 50, ['0:2=100']],
  ['draining and timed out hosts get nothing', [level(0, { healthy: 5, draining: 2, timeout: 2 })], 50, ['0:5=100']],
  ['a skipped level is passed over', [level(1, { healthy: 2 })], 50, ['1:2=100']],
  ['below the threshold all hosts of the level are used', [level(0, { healthy: 1, unhealthy: 3 })], 50, ['0:4!=100']],
  ['exactly at the threshold is no panic', [level(0, { healthy: 2, unhealthy: 2 })], 50, ['0:2=100']],
  ['panic threshold 0: only healthy hosts', [level(0, { healthy: 1, unhealthy: 9 })], 0, ['0:1=100']],
  ['no healthy host at all', [level(0, { unhealthy: 3 })], 50, ['0:3!=100']],
  ['no healthy host and panic off: nobody', [level(0, { unhealthy: 3 }), level(1, { draining: 1 })], 0, []],
  [
    'no panic while another level makes up for it',
    [level(0, { healthy: 1, unhealthy: 9 }), level(1, { healthy: 5 })],
    50,
    ['0:1=14', '1:5=86'],
  ],
  [
    'one level in panic, the other not',
    [level(0, { healthy: 1, unhealthy: 9 }), level(1, { healthy: 6, unhealthy: 4 })],
    50,
    ['0:10!=15', '1:6=85'],
  ],
  [
    'all levels in panic share by size',
    [level(0, { unhealthy: 1 }), level(1, { unhealthy: 2 })],
    50,
    ['0:1!=34', '1:2!=66'],
  ],
  ['no endpoints at all', [], 50, []],
]

t.test('load goes to levels as Envoy spreads it', async (t) => {
  for (const [name, localities, panicThreshold, expected] of SHARES) {
    const hosts = new HostSet({ panicThreshold })
    hosts.update(localities)
    t.same(shares(hosts), expected, name)
    const total = hosts.choices.reduce((sum, c) => sum + c.load, 0)
    t.equal(total, hosts.choices.length === 0 ? 0 : 100, `${name}: loads add up`)
  }
})

t.test('ten thousand endpoints are taken in and swapped', async (t) => {
  const endpoints = Array.from({ length: 10_000 }, (_, i) => endpoint(`10.0.${i >> 8}.${i & 255}`))
  const hosts = new HostSet()
  t.equal(hosts.update([{ priority: 0, endpoints }]).added.length, 10_000)
  const { added, removed } = hosts.update([{ priority: 0, endpoints: endpoints.slice(1) }])
  t.equal(added.length, 0)
  t.equal(removed.length, 1)
})
