import { createHash } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { type Hash64, hashModulo, XxHash64 } from '../../lib/core/hash64.ts'
import { createBalancer } from '../../lib/upstream/balance/balancer.ts'
import { BoundedLoad } from '../../lib/upstream/balance/bounded-load.ts'
import { hostShares } from '../../lib/upstream/balance/host-shares.ts'
import { buildMaglev, MaglevTable } from '../../lib/upstream/balance/maglev.ts'
import { Mersenne } from '../../lib/upstream/balance/mersenne.ts'
import { murmur2 } from '../../lib/upstream/balance/murmur2.ts'
import { buildRing, type Ring, type RingOptions } from '../../lib/upstream/balance/ring.ts'
import type { BalancerConfig, EndpointConfig, MaglevConfig, RingHashConfig } from '../../lib/upstream/config.ts'
import { HostSet } from '../../lib/upstream/host-set.ts'
import { seeded } from '../support/random.ts'

const RING: RingOptions = { minSize: 1024, maxSize: 8_388_608, hash: 'xx', byHostname: false }
const RING_HASH: RingHashConfig = { kind: 'ring-hash', ...RING }
const MAGLEV: MaglevConfig = { kind: 'maglev', tableSize: 65_537, byHostname: false }

function hex({ high, low }: Hash64): string {
  return high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0')
}

function big({ high, low }: Hash64): bigint {
  return (BigInt(high) << 32n) | BigInt(low)
}

function hash64(value: bigint): Hash64 {
  return { high: Number(value >> 32n), low: Number(value & 0xffff_ffffn) }
}

function endpoint(text: string, weight = 1, rest: Partial<EndpointConfig> = {}): EndpointConfig {
  const [host, port] = text.split(':')
  return { address: { kind: 'ip', host, port: Number(port) }, weight, health: 'healthy', ...rest }
}

function hostSet(endpoints: readonly EndpointConfig[]): HostSet {
  const hosts = new HostSet()
  hosts.update([{ priority: 0, endpoints }])
  return hosts
}

function finish<T>(work: Generator<undefined, T>): T {
  for (;;) {
    const { done, value } = work.next()
    if (done) return value
  }
}

function ringOf(hosts: HostSet, options: Partial<RingOptions> = {}): Ring {
  return finish(buildRing(hostShares([{ hosts: hosts.all, weight: 1 }]), { ...RING, ...options }))
}

function maglevOf(hosts: HostSet, tableSize = 65_537, byHostname = false): MaglevTable {
  return finish(buildMaglev(hostShares([{ hosts: hosts.all, weight: 1 }]), { tableSize, byHostname }))
}

function digest(lines: readonly string[]): string {
  return createHash('sha256').update(lines.join('\n')).digest('hex')
}

/** Port 90 to 95 of one address: the hosts of the tables that Envoy publishes in its tests. */
const SIX = [90, 91, 92, 93, 94, 95].map((port) => endpoint(`127.0.0.1:${port}`))
/** Forty hosts with weights 1 to 5. */
const FORTY = Array.from({ length: 40 }, (_, i) => endpoint(`10.1.2.${i + 1}:8080`, 1 + ((i + 1) % 5)))

t.test('xxHash64 gives the published values', async (t) => {
  const xx = new XxHash64()
  for (const [text, expected] of [
    ['', 'ef46db3751d8e999'],
    ['a', 'd24ec4f1a98c6e5b'],
    ['as', '1c330fb2d66be179'],
    ['asd', '631c37ce72a97393'],
    ['abc', '44bc2cf5ad770999'],
    ['asdf', '415872f599cea71e'],
    ['Call me Ishmael. Some years ago--never mind how long precisely-', '02a2e85470d6fd96'],
  ]) {
    t.equal(hex(xx.digest(Buffer.from(text))), expected, JSON.stringify(text))
  }
  // By a derivation in whole numbers, seed 7, of bytes 0, 1, 2, ...
  for (const [length, expected] of [
    [0, '95f0626f6f0a4409'],
    [1, 'd90df86c76f52e13'],
    [31, '0bdbbcaead6c6e56'],
    [32, 'a5972d57c4aea230'],
    [33, '0c43e57754c778d9'],
    [100, '80653e7e9b887cdd'],
  ] as const) {
    const bytes = Uint8Array.from({ length }, (_, i) => i)
    t.equal(hex(xx.digest(bytes, length, hash64(7n))), expected, `${length} bytes`)
  }
})

/** The specification in whole numbers of any size. */
function xxByBigInt(bytes: Uint8Array, seed: bigint): bigint {
  const mask = (1n << 64n) - 1n
  const [p1, p2, p3, p4, p5] = [
    11400714785074694791n,
    14029467366897019727n,
    1609587929392839161n,
    9650029242287828579n,
    2870177450012600261n,
  ]
  const rotate = (x: bigint, by: bigint): bigint => ((x << by) | (x >> (64n - by))) & mask
  const round = (a: bigint, input: bigint): bigint => (rotate((a + input * p2) & mask, 31n) * p1) & mask
  const read = (at: number, size: number): bigint => {
    let value = 0n
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i])
    return value
  }
  let at = 0
  let hash = (seed + p5) & mask
  if (bytes.length >= 32) {
    const lanes = [seed + p1 + p2, seed + p2, seed, seed - p1].map((lane) => lane & mask)
    for (; at + 32 <= bytes.length; at += 32) {
      lanes.forEach((lane, i) => {
        lanes[i] = round(lane, read(at + 8 * i, 8))
      })
    }
    const [a, b, c, d] = lanes
    hash = (rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n)) & mask
    for (const lane of lanes) hash = ((hash ^ round(0n, lane)) * p1 + p4) & mask
  }
  hash = (hash + BigInt(bytes.length)) & mask
  for (; at + 8 <= bytes.length; at += 8) hash = (rotate(hash ^ round(0n, read(at, 8)), 27n) * p1 + p4) & mask
  if (at + 4 <= bytes.length) {
    hash = (rotate(hash ^ ((read(at, 4) * p1) & mask), 23n) * p2 + p3) & mask
    at += 4
  }
  for (; at < bytes.length; at++) hash = (rotate(hash ^ ((read(at, 1) * p5) & mask), 11n) * p1) & mask
  hash ^= hash >> 33n
  hash = (hash * p2) & mask
  hash ^= hash >> 29n
  hash = (hash * p3) & mask
  return hash ^ (hash >> 32n)
}

t.test('xxHash64 is that of the specification for any input and seed', async () => {
  const xx = new XxHash64()
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 150 }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (bytes, seed) => {
      return big(xx.digest(bytes, bytes.length, hash64(seed))) === xxByBigInt(bytes, seed)
    }),
    { seed: 4, numRuns: 500 },
  )
})

t.test('hashes are divided exactly', async () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.integer({ min: 1, max: 5_000_011 }), (value, by) => {
      return BigInt(hashModulo(hash64(value), by)) === value % BigInt(by)
    }),
    { seed: 5 },
  )
})

t.test('murmur2 is that of libstdc++', async (t) => {
  for (const [text, expected] of [
    ['', '553e93901e462a6e'],
    ['a', '454ddee488c1ed6b'],
    ['127.0.0.1:90_0', '4e7fa1fbfddf33c0'],
    ['abcdefgh', '783db3e38db898bb'],
    ['abcdefghi', 'b4ec9257851c8aaf'],
  ]) {
    const bytes = Buffer.from(text)
    t.equal(hex(murmur2(bytes, bytes.length)), expected, JSON.stringify(text))
  }
})

t.test('a ring is the one that Envoy publishes for these hosts', async (t) => {
  const hosts = hostSet(SIX)
  const got = [...ringOf(hosts, { minSize: 12 }).entries()].map(([high, low, host]) => [
    big({ high, low }),
    hosts.all[host].addressText.slice(-2),
  ])
  t.same(got, [
    [833437586790550860n, '94'],
    [928266305478181108n, '92'],
    [1033482794131418490n, '90'],
    [3551244743356806947n, '95'],
    [3851675632748031481n, '93'],
    [5583722120771150861n, '91'],
    [6311230543546372928n, '91'],
    [7700377290971790572n, '93'],
    [13144177310400110813n, '95'],
    [13444792449719432967n, '92'],
    [15516499411664133160n, '94'],
    [16117243373044804889n, '90'],
  ])
})

t.test('rings of many hosts are equal bit by bit to an independent derivation', async (t) => {
  const lines = (hosts: HostSet, options: Partial<RingOptions>): string[] =>
    [...ringOf(hosts, options).entries()].map(
      ([high, low, host]) => `${big({ high, low })} ${hosts.all[host].addressText}`,
    )
  const thousand = Array.from({ length: 1_000 }, (_, i) => endpoint(`10.0.${i >> 8}.${i & 255}:80`))
  for (const [name, endpoints, options, size, sha] of [
    ['weights', FORTY, {}, 1080, '25845beb1cba621bd1ad9fe49dff895b2745d2773340a3f6629ce57d3bf526bf'],
    [
      'the upper bound',
      FORTY,
      { minSize: 100_000, maxSize: 777 },
      777,
      '1eb1b5ff5b7b3d9151fcaf3122e0282290ffdc39195fd1968a17c9b7c1eebdd7',
    ],
    ['murmur', FORTY, { hash: 'murmur2' }, 1080, 'bffe1bda7827fb42c1efc83872db14dd8909ce554c26e0d5688bdc8d3b832146'],
    [
      'a large ring',
      thousand,
      { minSize: 100_000 },
      100_000,
      'f0f19eff6c7a9499567adba16520ccae0061ef62cb5a67c1936b356a4fb1b42b',
    ],
  ] as const) {
    const got = lines(hostSet(endpoints), options)
    t.equal(got.length, size, name)
    t.equal(digest(got), sha, name)
  }
})

t.test('a hash belongs to the next point of the ring, and further attempts go on from there', async (t) => {
  const hosts = hostSet(SIX)
  const ring = ringOf(hosts, { minSize: 12 })
  const find = (value: bigint, attempt = 0): string =>
    hosts.all[ring.find(hash64(value), attempt)].addressText.slice(-2)
  t.equal(find(0n), '94')
  t.equal(find(833437586790550860n), '94', 'a point is its own')
  t.equal(find(833437586790550861n), '92')
  t.equal(find(16117243373044804889n), '90')
  t.equal(find(16117243373044804890n), '94', 'beyond the last the circle begins again')
  t.equal(find(2n ** 64n - 1n), '94')
  t.same(
    [0, 1, 2, 3, 11, 12, 13].map((attempt) => find(0n, attempt)),
    ['94', '92', '90', '95', '90', '94', '92'],
  )
})

t.test('a maglev table is the one that Envoy publishes for these hosts', async (t) => {
  const hosts = hostSet(SIX)
  const owners = maglevOf(hosts, 7).owners.map((host) => hosts.all[host].addressText.slice(-2))
  t.same(owners, ['92', '94', '90', '91', '95', '90', '93'])
  const reversed = hostSet([...SIX].reverse())
  const same = maglevOf(reversed, 7).owners.map((host) => reversed.all[host].addressText.slice(-2))
  t.same(same, owners, 'whatever the order of the endpoints')
})

t.test('maglev tables of many hosts are equal bit by bit to an independent derivation', async (t) => {
  const equal = FORTY.map((one) => ({ ...one, weight: 1 }))
  for (const [name, endpoints, size, sha] of [
    ['equal weights', equal, 65_537, '17ee596fd46803feb5e3eddfe277b5980477fe883463d6c8fe81a4d2e0a7b998'],
    ['weights', FORTY, 65_537, '57a70db79d56cd986c02a4696c17337ec0c8f9a6136be501b341152beeee914b'],
    ['a small table', FORTY, 251, 'ef85232ce76c7a6b9baa06bbe1fd42aaebf41bfd6e3c289b53f654f66618294f'],
  ] as const) {
    const hosts = hostSet(endpoints)
    const table = maglevOf(hosts, size)
    t.equal(digest(table.owners.map((host) => hosts.all[host].addressText)), sha, name)
  }
  const table = maglevOf(hostSet(equal))
  t.ok(table.most - table.fewest <= 1, `${table.fewest} to ${table.most} entries each`)
})

t.test('maglev takes entries by the hash, and for further attempts by its complement', async (t) => {
  const hosts = hostSet(SIX)
  const table = maglevOf(hosts, 7)
  const mask = (1n << 64n) - 1n
  for (const value of [0n, 5n, 12_345_678_901_234_567n, mask]) {
    for (const attempt of [0, 1, 2, 3]) {
      const mixed = attempt === 0 ? value : value ^ (mask - BigInt(attempt) + 1n)
      t.equal(table.find(hash64(value), attempt), table.owners[Number(mixed % 7n)], `${value}, attempt ${attempt}`)
    }
  }
})

t.test('endpoints are hashed by hash_key, by name where asked for, else by address', async (t) => {
  const keyed = hostSet([
    endpoint('10.0.0.1:80', 1, { metadata: { 'envoy.lb': { hash_key: '127.0.0.1:90' } } }),
    endpoint('10.0.0.2:80', 1, { hostname: '127.0.0.1:91' }),
    endpoint('127.0.0.1:92', 1, { metadata: { 'envoy.lb': { hash_key: 7 } } }),
    ...SIX.slice(3),
  ])
  const places = (hosts: HostSet, byHostname: boolean): number[] => [...maglevOf(hosts, 7, byHostname).owners]
  t.same(places(keyed, true), [2, 4, 0, 1, 5, 0, 3])
  t.not(places(keyed, false).join(), '2,4,0,1,5,0,3')
  const ring = [...ringOf(keyed, { byHostname: true, minSize: 12 }).entries()].map(([, , host]) => host)
  t.same(ring, [4, 2, 0, 5, 3, 1, 1, 3, 5, 2, 4, 0])
})

t.test('the Mersenne twister is that of the standard', async (t) => {
  const random = new Mersenne(5489)
  let last = 0
  for (let i = 0; i < 10_000; i++) last = random.next()
  // ISO C++ [rand.predef]: the 10,000th value of a default-constructed mt19937.
  t.equal(last, 4_123_659_995)
  t.equal(new Mersenne(1).next(), 1_791_095_845)
})

t.test('with bounded loads a full host passes requests on, the same for the same hash', async (t) => {
  const hosts = hostSet(SIX)
  const of = hostShares([{ hosts: hosts.all, weight: 1 }])
  const active = { v: 0 }
  const bound = new BoundedLoad(of, { factor: 150, active: () => active.v })
  const hash = hash64(987_654_321_987_654_321n)
  t.equal(bound.choose(3, hash), 3, 'idle')
  // 12 active: ceil((13 × 150 + 99) / 100 / 6) = 4 slots each.
  active.v = 12
  hosts.all[3].rqActive = 4
  t.equal(bound.choose(3, hash), 3, 'as many as there are slots')
  hosts.all[3].rqActive = 5
  const other = bound.choose(3, hash)
  t.not(other, 3)
  t.equal(bound.choose(3, hash), other)
  const spread = new Set(Array.from({ length: 60 }, (_, i) => bound.choose(3, hash64(BigInt(i)))))
  t.same([...spread].sort(), [0, 1, 2, 4, 5], 'others by chance of the hash')
  const fresh = new BoundedLoad(of, { factor: 150, active: () => active.v })
  for (let i = 0; i < 500; i++) {
    const load = seeded(i)
    for (const host of hosts.all) host.rqActive = load.below(9)
    const key = hash64(BigInt(i) * 7_919n)
    t.equal(
      bound.choose(3, key),
      new BoundedLoad(of, { factor: 150, active: () => active.v }).choose(3, key),
      'nothing is left behind',
    )
    t.equal(bound.choose(3, key), fresh.choose(3, key))
  }
  hosts.all.forEach((host, i) => {
    host.rqActive = 10 + i
  })
  active.v = 12
  t.equal(bound.choose(3, hash), 0, 'all are full: the least full')
})

t.test('no host gets more than the factor of its share of what is active', async (t) => {
  for (const config of [{ ...RING_HASH, minSize: 64 }, MAGLEV] as const) {
    const hosts = hostSet(FORTY)
    const active = { v: 0 }
    const balancer = createBalancer({ ...config, balanceFactor: 120 }, hosts, {
      random: () => 0,
      active: () => active.v,
    })
    const random = seeded(3)
    for (let i = 0; i < 4_000; i++) {
      // One hot key takes half of all requests.
      const key = random.next() < 0.5 ? 42 : random.below(2 ** 32)
      const host = balancer.pick({ hash: () => ({ high: key, low: Math.imul(key, 2_654_435_761) >>> 0 }) })!
      host.rqActive++
      active.v++
    }
    const total = FORTY.reduce((sum, { weight }) => sum + weight, 0)
    for (const host of hosts.all) {
      const slots = Math.ceil((4_001 * 1.2 * host.weight) / total) + 1
      t.ok(host.rqActive <= slots, `${config.kind} ${host.addressText}: ${host.rqActive} of ${slots}`)
    }
  }
})

t.test('the same hash goes to the same host, and hosts that come and go move little else', async (t) => {
  const twenty = Array.from({ length: 20 }, (_, i) => endpoint(`10.1.2.${i + 1}:8080`))
  const keys = Array.from({ length: 5_000 }, (_, i) => hash64(xxByBigInt(Buffer.from(`key-${i}`), 0n)))
  for (const [config, most] of [
    // Beside what the host had: each of the others has 216 points instead of 205 then, 5 % more; permutations of maglev
    // shuffle a few percent (Maglev §5.3).
    [{ ...RING_HASH, minSize: 4_096 }, 0.06],
    [MAGLEV, 0.04],
  ] as const) {
    const hosts = hostSet(twenty)
    const queue: (() => void)[] = []
    const options = { random: () => 0.5, later: (run: () => void): void => void queue.push(run) }
    const balancer = createBalancer(config as BalancerConfig, hosts, options)
    const places = (): string[] => keys.map((hash) => balancer.pick({ hash: () => hash })!.addressText)
    const before = places()
    t.same(places(), before)
    hosts.update([{ priority: 0, endpoints: twenty.filter((_, i) => i !== 7) }])
    while (queue.length > 0) queue.shift()!()
    const after = places()
    const gone = '10.1.2.8:8080'
    const moved = keys.filter((_, i) => before[i] !== gone && before[i] !== after[i]).length
    t.notOk(after.includes(gone))
    t.ok(moved <= most * keys.length, `${config.kind}: ${moved} of ${keys.length} moved without need`)
    hosts.update([{ priority: 0, endpoints: twenty }])
    while (queue.length > 0) queue.shift()!()
    t.same(places(), before, 'back as before')
  }
})

t.test('tables are built in slices: the old one serves meanwhile, and gives no host that is gone', async (t) => {
  const endpoints = Array.from({ length: 300 }, (_, i) => endpoint(`10.3.${i >> 8}.${i & 255}:80`))
  const hosts = hostSet(endpoints)
  const queue: (() => void)[] = []
  const config: RingHashConfig = { ...RING_HASH, minSize: 50_000 }
  const options = { random: seeded(9).next, later: (run: () => void): void => void queue.push(run) }
  const balancer = createBalancer(config, hosts, options)
  t.equal(queue.length, 1, 'not at once')
  const first = balancer.pick({})
  t.ok(first, 'a pick does not wait')
  queue.shift()!()
  t.equal(queue.length, 0, 'the pick has finished it')
  hosts.update([{ priority: 0, endpoints: endpoints.slice(0, 100) }])
  const left = new Set(hosts.all)
  for (let i = 0; i < 300; i++) t.ok(left.has(balancer.pick({})!) || t.fail('a host that is gone'))
  let slices = 0
  for (; queue.length > 0; slices++) queue.shift()!()
  t.ok(slices > 10, `${slices} slices`)
  for (let i = 0; i < 300; i++) if (!left.has(balancer.pick({})!)) t.fail('a host that is gone')
  // Changes that outrun the work come into force all the same.
  for (let i = 0; i < 30; i++) hosts.update([{ priority: 0, endpoints: endpoints.slice(100 + i) }])
  const seen = new Set(Array.from({ length: 300 }, () => balancer.pick({})!.addressText))
  t.ok(seen.size > 100, `${seen.size} hosts in use`)
  balancer[Symbol.dispose]()
  hosts.update([])
  t.equal(balancer.pick({}), undefined)
})

t.test('updates that change neither hosts nor weights build no table', async (t) => {
  const hosts = hostSet(SIX)
  const metrics = { builds: 0 }
  const gauge = {
    get v(): number {
      return 0
    },
    set v(_value: number) {
      metrics.builds++
    },
  }
  const stats = {
    prefix: 'cluster.x.',
    metrics: { has: () => false, counter: () => ({ v: 0 }), gauge: () => gauge, histogram: () => ({ record() {} }) },
  }
  const later = (run: () => void): void => run()
  createBalancer(MAGLEV, hosts, { random: () => 0, later, stats })
  const once = metrics.builds
  t.ok(once > 0)
  hosts.update([{ priority: 0, endpoints: SIX.map((one) => ({ ...one, metadata: { other: { a: 1 } } })) }])
  t.equal(metrics.builds, once)
  hosts.update([{ priority: 0, endpoints: SIX.map((one, i) => ({ ...one, weight: i + 1 })) }])
  t.equal(metrics.builds, 2 * once)
})

t.test('without a hash hosts are taken by chance, and by the hash a level too', async (t) => {
  for (const config of [RING_HASH, MAGLEV] as const) {
    const hosts = new HostSet()
    const sick = SIX.slice(0, 4).map((one, i) => ({ ...one, health: i < 2 ? ('unhealthy' as const) : one.health }))
    hosts.update([
      { priority: 0, endpoints: sick },
      { priority: 1, endpoints: SIX.slice(4) },
    ])
    const balancer = createBalancer(config, hosts, { random: seeded(2).next })
    const seen = new Set(Array.from({ length: 500 }, () => balancer.pick({})!.addressText.slice(-2)))
    t.same([...seen].sort(), ['92', '93', '94', '95'])
    // Level 0 has 70 %: two of four, times 1.4.
    for (const [hash, level] of [
      [0n, 0],
      [69n, 0],
      [70n, 1],
      [99n, 1],
      [100n, 0],
      [12_345_678_901_234_569n, 0],
      [12_345_678_901_234_570n, 1],
    ] as const) {
      t.equal(balancer.pick({ hash: () => hash64(hash) })!.priority, level, `${config.kind} ${hash}`)
    }
  }
})

t.test('hosts of earlier attempts and rejected ones are passed over along the table', async (t) => {
  for (const config of [RING_HASH, MAGLEV] as const) {
    const hosts = hostSet(SIX)
    const balancer = createBalancer(config, hosts, { random: () => 0 })
    const hash = hash64(77n)
    const first = balancer.pick({ hash: () => hash })!
    const second = balancer.pick({ hash: () => hash, excluded: [first] })!
    t.not(second, first)
    t.equal(balancer.pick({ hash: () => hash, excluded: [first] }), second, 'always the same one')
    const rejects = (host: unknown): boolean => host === first
    const other = balancer.pick({ hash: () => hash, rejects, selectionAttempts: 5 })
    t.not(other, first)
    t.equal(balancer.pick({ hash: () => hash, rejects, selectionAttempts: 0 }), first, 'no attempts are left')
  }
})

t.test('an endpoint gets what its weight is worth', async (t) => {
  const total = FORTY.reduce((sum, { weight }) => sum + weight, 0)
  const table = maglevOf(hostSet(FORTY))
  const counts = new Map<number, number>()
  for (const owner of table.owners) counts.set(owner, (counts.get(owner) ?? 0) + 1)
  FORTY.forEach(({ weight }, i) => {
    const off = (counts.get(i) ?? 0) / table.size / (weight / total) - 1
    t.ok(Math.abs(off) < 0.01, `host ${i} is off by ${off}`)
  })
  t.equal(new MaglevTable(Uint32Array.of(0, 1, 0), Uint32Array.of(2, 1)).most, 2)
})
