/**
 * What choosing a host costs: CPU nanoseconds per pick among 10, 100, 1,000 and 10,000 hosts, and what building a table of
 * hashes costs. `node benchmarks/micro/balance.ts`
 *
 * Each host has some requests under way, and each pick moves one of them on, as a proxy at work would. Picks include what
 * the balancer looks up; the hash of a request, which is worked out once for it, is not among them.
 */
import { type Hash64, XxHash64 } from '../../lib/core/hash64.ts'
import { createBalancer } from '../../lib/upstream/balance/balancer.ts'
import { hostShares } from '../../lib/upstream/balance/host-shares.ts'
import { buildMaglev } from '../../lib/upstream/balance/maglev.ts'
import { buildRing } from '../../lib/upstream/balance/ring.ts'
import type { BalancerConfig, EndpointConfig } from '../../lib/upstream/config.ts'
import type { Host } from '../../lib/upstream/host.ts'
import { HostSet } from '../../lib/upstream/host-set.ts'
import { inTurns, lineOf } from './measure.ts'

const SIZES = [10, 100, 1_000, 10_000]
const ROUNDS = 9
const PICKS = 200_000
/** Requests under way at a time. */
const ACTIVE = 256
const HASHES = 4096
/** That a request asks for. */
const LABELS = { version: 7 }

const LEAST = { kind: 'least-request', choiceCount: 2, activeRequestBias: 1 } as const
const RING = { kind: 'ring-hash', minSize: 100_000, maxSize: 8_388_608, hash: 'xx', byHostname: false } as const
const SUBSET = {
  kind: 'subset',
  fallback: 'none',
  defaultLabels: {},
  selectors: [{ keys: ['version'] }],
  within: { kind: 'round-robin' },
} as const
const WEIGHTS = {
  kind: 'client-weighted',
  blackoutMs: 0,
  expirationMs: 180_000,
  updateMs: 1_000,
  errorPenalty: 1,
  metrics: [],
} as const
const MAGLEV = { kind: 'maglev', tableSize: 65_537, byHostname: false } as const

const POLICIES: readonly (readonly [name: string, config: BalancerConfig, weighted: boolean])[] = [
  ['round robin', { kind: 'round-robin' }, false],
  ['round robin, weights', { kind: 'round-robin' }, true],
  ['random, weights', { kind: 'random' }, true],
  ['least request', LEAST, false],
  ['least request, weights', LEAST, true],
  ['peak EWMA', { kind: 'peak-ewma', decayMs: 10_000 }, false],
  ['reported weights', WEIGHTS, false],
  ['subset, round robin', SUBSET, false],
  ['ring hash', RING, false],
  ['maglev', MAGLEV, false],
  ['maglev, bounded', { ...MAGLEV, balanceFactor: 150 }, false],
]

function hostsOf(count: number, weighted: boolean): HostSet {
  const hosts = new HostSet()
  const endpoints = Array.from({ length: count }, (_, i): EndpointConfig => {
    const address = { kind: 'ip', host: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, port: 8080 } as const
    // Ten subsets, for the balancer that looks.
    const metadata = { 'envoy.lb': { version: i % 10 } }
    return { address, weight: weighted ? 1 + (i % 7) : 1, health: 'healthy', metadata }
  })
  hosts.update([{ priority: 0, endpoints }])
  return hosts
}

function hashes(): Hash64[] {
  const xx = new XxHash64()
  return Array.from({ length: HASHES }, (_, i) => {
    const { high, low } = xx.digest(Buffer.from(`user-${i}`))
    return { high, low }
  })
}

/** Nanoseconds of CPU per pick. */
function measure(config: BalancerConfig, hosts: HostSet): number {
  let inFlight = 0
  const active = (): number => inFlight
  let now = 0
  const balancer = createBalancer(config, hosts, { random: Math.random, now: () => now, active, later: (run) => run() })
  const keys = hashes()
  let key = 0
  const context = { hash: (): Hash64 => keys[key], labels: LABELS }
  const running: Host[] = []
  const pick = (i: number): void => {
    key = i & (HASHES - 1)
    now += 0.01
    const host = balancer.pick(context) as Host
    host.rqActive++
    const slot = i & (ACTIVE - 1)
    if (running.length === ACTIVE) {
      const done = running[slot]
      done.rqActive--
      done.monitor?.onResponse(200, undefined, 2)
    } else inFlight++
    running[slot] = host
  }
  for (let i = 0; i < PICKS / 4; i++) pick(i)
  const before = process.cpuUsage()
  for (let i = 0; i < PICKS; i++) pick(i)
  const { user, system } = process.cpuUsage(before)
  balancer[Symbol.dispose]()
  for (const host of hosts.all) host.rqActive = 0
  return ((user + system) * 1_000) / PICKS
}

/** Milliseconds of CPU, and the longest slice. */
function build(work: Generator<undefined, unknown>): string {
  const before = process.cpuUsage()
  let longest = 0
  for (let done = false; !done; ) {
    const from = performance.now()
    done = work.next().done === true
    longest = Math.max(longest, performance.now() - from)
  }
  const { user, system } = process.cpuUsage(before)
  return `${((user + system) / 1_000).toFixed(1)} ms, longest slice ${longest.toFixed(1)} ms`
}

for (const [name, config, weighted] of POLICIES) {
  const sets = SIZES.map((size) => hostsOf(size, weighted))
  const rounds = inTurns(SIZES.length, ROUNDS, (size) => measure(config, sets[size]))
  process.stdout.write(`${name}\n`)
  rounds.forEach((round, i) => {
    process.stdout.write(lineOf(`${SIZES[i]} hosts`.padStart(13), round, rounds[0], 0).replace(/ {2}compiled.*/, ''))
  })
}
const thousand = hostShares([{ hosts: hostsOf(1_000, false).all, weight: 1 }])
for (let round = 0; round < 3; round++) {
  process.stdout.write(`ring of 100,000 entries: ${build(buildRing(thousand, RING))}\n`)
  process.stdout.write(`maglev table of 65,537 entries: ${build(buildMaglev(thousand, MAGLEV))}\n`)
}
