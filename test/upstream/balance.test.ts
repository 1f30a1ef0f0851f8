import t, { type Test } from 'tap'
import { createBalancer } from '../../lib/upstream/balance/balancer.ts'
import { EdfScheduler } from '../../lib/upstream/balance/edf.ts'
import type { BalancerConfig, EndpointConfig } from '../../lib/upstream/config.ts'
import type { Host } from '../../lib/upstream/host.ts'
import { HostSet } from '../../lib/upstream/host-set.ts'
import { seeded } from '../support/random.ts'

const ROUND_ROBIN: BalancerConfig = { kind: 'round-robin' }
const RANDOM: BalancerConfig = { kind: 'random' }
const LEAST: BalancerConfig = { kind: 'least-request', choiceCount: 2, activeRequestBias: 1 }
const ALL: readonly BalancerConfig[] = [ROUND_ROBIN, RANDOM, LEAST]

/** Hosts named a, b, c, ... with these weights. */
function hostSet(weights: readonly number[], rest: Partial<EndpointConfig> = {}): HostSet {
  const hosts = new HostSet()
  hosts.update([{ priority: 0, endpoints: weights.map((weight, i) => endpoint(i, weight, rest)) }])
  return hosts
}

function endpoint(i: number, weight: number, rest: Partial<EndpointConfig> = {}): EndpointConfig {
  const address = { kind: 'ip', host: `10.0.${i >> 8}.${i & 255}`, port: 80 } as const
  return { address, hostname: String.fromCharCode(97 + i), weight, health: 'healthy', ...rest }
}

/** What `count` picks gave, as names in order. */
function sequence(pick: () => Host | undefined, count: number): string {
  let names = ''
  for (let i = 0; i < count; i++) names += pick()?.hostname ?? '-'
  return names
}

function tally(pick: () => Host | undefined, count: number): Map<string, number> {
  const counts = new Map<string, number>()
  for (let i = 0; i < count; i++) {
    const name = pick()?.hostname ?? '-'
    counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  return counts
}

/** A seeded draw is the same on every run: 4 % is far outside what these counts can be off by. */
function isNear(t: Test, counts: Map<string, number>, expected: Record<string, number>): void {
  const total = [...counts.values()].reduce((a, b) => a + b, 0)
  const weight = Object.values(expected).reduce((a, b) => a + b, 0)
  for (const [name, share] of Object.entries(expected)) {
    const off = Math.abs((counts.get(name) ?? 0) / total - share / weight)
    t.ok(off < 0.04, `${name}: ${counts.get(name) ?? 0} of ${total}, wanted ${share} of ${weight}`)
  }
}

t.test('round robin with equal weights rotates from a random start', async (t) => {
  for (const [draw, expected] of [
    [0, 'abcdabcda'],
    [0.5, 'cdabcdabc'],
    [0.999, 'dabcdabcd'],
  ] as const) {
    const balancer = createBalancer(ROUND_ROBIN, hostSet([3, 3, 3, 3]), { random: () => draw })
    t.equal(
      sequence(() => balancer.pick({}), 9),
      expected,
    )
  }
})

// By hand: deadlines k/weight, ties by order of (re)entry; powers of two, so that sums of 1/weight are exact.
const EDF: readonly [weights: number[], sequence: string][] = [
  [[1, 1, 1], 'abcabcabc'],
  [[2, 1], 'abaabaaba'],
  [[1, 2], 'babbabbab'],
  [[4, 1], 'aaabaaaabaaaab'],
  [[1, 2, 4], 'cbccabccbccabc'],
  [[8, 1, 1], 'aaaaaaabcaaaaaaaabc'],
  [[7], 'aaaa'],
]

t.test('the weighted scheduler serves the earliest deadline first, ties in order of entry', async (t) => {
  for (const [weights, expected] of EDF) {
    const edf = new EdfScheduler(hostSet(weights).all, (host) => host.weight, 0)
    const got = sequence(() => edf.next(), expected.length)
    t.equal(got.length, expected.length)
    t.equal(got, byOracle(weights, expected.length), `oracle ${weights}`)
    t.equal(got, expected, `weights ${weights}`)
  }
  const skipped = new EdfScheduler(hostSet([1, 2, 4]).all, (host) => host.weight, 2)
  t.equal(
    sequence(() => skipped.next(), 4),
    'cbccab'.slice(2),
  )
})

/** The same rule as a sorted list in whole numbers (time in units of 1 / product of the weights). */
function byOracle(weights: readonly number[], count: number): string {
  const unit = weights.reduce((a, b) => a * b, 1)
  let entry = 0
  const list = weights.map((weight, i) => ({
    name: String.fromCharCode(97 + i),
    weight,
    due: unit / weight,
    entry: entry++,
  }))
  let out = ''
  for (let i = 0; i < count; i++) {
    list.sort((a, b) => a.due - b.due || a.entry - b.entry)
    out += list[0].name
    list[0].due += unit / list[0].weight
    list[0].entry = entry++
  }
  return out
}

t.test('weighted shares stay exact over any number of turns', async (t) => {
  const random = seeded(11)
  const weights = Array.from({ length: 17 }, () => 1 + random.below(40))
  const turn = weights.reduce((a, b) => a + b, 0)
  const edf = new EdfScheduler(hostSet(weights).all, (host) => host.weight, 0)
  // 1,500 turns pass the point where virtual time is moved back.
  for (let i = 0; i < 1_499 * turn; i++) edf.next()
  const counts = tally(() => edf.next(), turn)
  weights.forEach((weight, i) => {
    const got = counts.get(String.fromCharCode(97 + i)) ?? 0
    t.ok(Math.abs(got - weight) <= 1, `${got} picks for weight ${weight}`)
  })
})

t.test('round robin honours weights, and starts at another place by chance', async (t) => {
  const first = createBalancer(ROUND_ROBIN, hostSet([1, 2, 4]), { random: () => 0 })
  t.equal(
    sequence(() => first.pick({}), 6),
    'cbccab',
  )
  const later = createBalancer(ROUND_ROBIN, hostSet([1, 2, 4]), { random: () => 0.4 })
  t.equal(
    sequence(() => later.pick({}), 5),
    'bccab',
  )
})

t.test('random picks uniformly, or by weight where weights differ', async (t) => {
  const uniform = createBalancer(RANDOM, hostSet([4, 4, 4]), { random: seeded(1).next })
  isNear(
    t,
    tally(() => uniform.pick({}), 6_000),
    { a: 1, b: 1, c: 1 },
  )
  for (const weights of [
    [1, 2, 3, 4],
    [1, 100],
    [50, 1, 1, 1, 47],
    [1, 1, 2],
  ]) {
    const weighted = createBalancer(RANDOM, hostSet(weights), { random: seeded(2).next })
    const expected = Object.fromEntries(weights.map((weight, i) => [String.fromCharCode(97 + i), weight]))
    isNear(
      t,
      tally(() => weighted.pick({}), 10_000),
      expected,
    )
  }
  const extremes = createBalancer(RANDOM, hostSet([1, 9]), { random: () => 1 - 2 ** -53 })
  t.ok(extremes.pick({}), 'the largest draw stays inside the table')
})

t.test('least request takes the less busy of two draws', async (t) => {
  const hosts = hostSet([1, 1, 1, 1])
  const draws = [0, 0.5, 0.9, 0.3, 0.3, 0.3, 0.3, 0.9]
  hosts.all.forEach((host, i) => {
    host.rqActive = [5, 1, 3, 1][i]
  })
  const balancer = createBalancer(LEAST, hosts, { random: () => draws.shift() ?? 0 })
  // a or c: c. d or b: the first of equals. b or b: b. b or d: b.
  t.equal(
    sequence(() => balancer.pick({}), 4),
    'cdbb',
  )
})

t.test('least request keeps a slow host from filling up', async (t) => {
  const hosts = hostSet(new Array(10).fill(1))
  const balancer = createBalancer(LEAST, hosts, { random: seeded(3).next })
  const slow = hosts.all[0]
  const running: Host[] = []
  for (let i = 0; i < 5_000; i++) {
    const host = balancer.pick({})!
    host.rqActive++
    if (host !== slow) running.push(host)
    if (running.length > 20) running.shift()!.rqActive--
  }
  t.ok(slow.rqActive < 100, `${slow.rqActive} of 5,000 stuck on the slow host, 500 under round robin`)
})

t.test('least request with weights follows weight / (active + 1)^bias', async (t) => {
  const idle = createBalancer(LEAST, hostSet([1, 4]), { random: () => 0 })
  t.equal(
    sequence(() => idle.pick({}), 8),
    byOracle([1, 4], 8),
  )
  const busy = hostSet([1, 4])
  busy.all[1].rqActive = 7
  const biased = createBalancer(LEAST, busy, { random: () => 0 })
  const counts = tally(() => biased.pick({}), 300)
  t.same([...counts].sort(), [
    ['a', 200],
    ['b', 100],
  ])
  const squared = createBalancer({ ...LEAST, activeRequestBias: 2 } as BalancerConfig, busy, { random: () => 0 })
  isNear(
    t,
    tally(() => squared.pick({}), 1_300),
    { a: 16, b: 1 },
  )
  let bias: unknown = 0
  const runtime = { get: (key: string) => (key === 'lb.bias' ? bias : undefined) }
  const keyed = { ...LEAST, activeRequestBiasKey: 'lb.bias' } as BalancerConfig
  const live = createBalancer(keyed, busy, { random: () => 0, runtime })
  isNear(
    t,
    tally(() => live.pick({}), 1_000),
    { a: 1, b: 4 },
  )
  for (const nonsense of [-1, 'much', undefined, 1]) {
    bias = nonsense
    isNear(
      t,
      tally(() => live.pick({}), 1_000),
      { a: 2, b: 1 },
    )
  }
  const blind = createBalancer({ ...LEAST, activeRequestBias: 0 } as BalancerConfig, busy, { random: () => 0 })
  t.equal(
    sequence(() => blind.pick({}), 8),
    byOracle([1, 4], 8),
  )
})

t.test('hosts of earlier attempts are avoided as long as there is another', async (t) => {
  for (const config of ALL) {
    for (const weights of [
      [1, 1, 1, 1, 1],
      [9, 1, 1, 1, 9],
    ]) {
      const hosts = hostSet(weights)
      const balancer = createBalancer(config, hosts, { random: seeded(5).next })
      const [a, b, c, d, e] = hosts.all
      const counts = tally(() => balancer.pick({ excluded: [a, e] }), 400)
      t.same([...counts.keys()].sort(), ['b', 'c', 'd'], `${config.kind} ${weights}`)
      const only = tally(() => balancer.pick({ excluded: [a, b, d, e] }), 50)
      t.same([...only], [['c', 50]])
      t.ok(balancer.pick({ excluded: [a, b, c, d, e] }), 'all excluded: some host all the same')
    }
  }
})

t.test('a balancer follows its host set until it is disposed', async (t) => {
  for (const config of ALL) {
    const hosts = new HostSet()
    const balancer = createBalancer(config, hosts, { random: seeded(7).next })
    t.equal(balancer.pick({}), undefined, 'no host')
    hosts.update([{ priority: 0, endpoints: [endpoint(0, 1), endpoint(1, 1)] }])
    t.same([...tally(() => balancer.pick({}), 100).keys()].sort(), ['a', 'b'])
    hosts.update([{ priority: 0, endpoints: [endpoint(0, 1, { health: 'unhealthy' }), endpoint(1, 1)] }])
    t.same([...tally(() => balancer.pick({}), 100).keys()], ['b'])
    hosts.update([])
    t.equal(balancer.pick({}), undefined)
    balancer[Symbol.dispose]()
    hosts.update([{ priority: 0, endpoints: [endpoint(0, 1)] }])
    t.equal(balancer.pick({}), undefined, 'disposed')
  }
})

t.test('levels get their shares, and picks in panic are counted', async (t) => {
  const hosts = new HostSet()
  const sick = Array.from({ length: 5 }, (_, i) => endpoint(i, 1, { health: i === 0 ? 'healthy' : 'unhealthy' }))
  hosts.update([
    { priority: 0, endpoints: [...sick.slice(0, 1), ...sick.slice(3)] },
    { priority: 1, endpoints: [endpoint(6, 1), endpoint(7, 1)] },
  ])
  const panicPicks = { v: 0 }
  const balancer = createBalancer(ROUND_ROBIN, hosts, { random: seeded(9).next, panicPicks: () => panicPicks })
  // One of three healthy: 46 %; the rest goes to the second level.
  isNear(
    t,
    tally(() => balancer.pick({}), 8_000),
    { a: 46, g: 27, h: 27 },
  )
  t.equal(panicPicks.v, 0)
  hosts.update([{ priority: 0, endpoints: sick }])
  t.same([...tally(() => balancer.pick({}), 50).keys()].sort(), ['a', 'b', 'c', 'd', 'e'])
  t.equal(panicPicks.v, 50)
})
