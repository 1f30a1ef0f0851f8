import { create, type DescMessage, toBinary } from '@bufbuild/protobuf'
import t, { type Test } from 'tap'
import { Headers } from '../../lib/core/headers.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { type Balancer, createBalancer } from '../../lib/upstream/balance/balancer.ts'
import type { ReportSource } from '../../lib/upstream/balance/policy.ts'
import type { ClientWeightedConfig, EndpointConfig, SubsetConfig } from '../../lib/upstream/config.ts'
import type { Host } from '../../lib/upstream/host.ts'
import { HostSet, type HostSetOptions } from '../../lib/upstream/host-set.ts'
import { readBinary } from '../../lib/upstream/orca/binary.ts'
import { reportIn } from '../../lib/upstream/orca/fields.ts'
import { emptyReport, type LoadReport } from '../../lib/upstream/orca/report.ts'
import { compileMetric, weightOf } from '../../lib/upstream/orca/weight.ts'
import { seeded } from '../support/random.ts'

const CONFIG: ClientWeightedConfig = {
  kind: 'client-weighted',
  blackoutMs: 10_000,
  expirationMs: 180_000,
  updateMs: 1_000,
  errorPenalty: 1,
  metrics: [],
}

function report(fields: Partial<LoadReport>): LoadReport {
  return { ...emptyReport(), ...fields }
}

t.test('reports are read in all of their forms', async (t) => {
  const named = new Map([['foo', 0.25]])
  const full = report({ cpuUtilization: 0.5, rps: 12.5, eps: 1, applicationUtilization: 0.75, named })
  const cases: readonly (readonly [value: string, expected: LoadReport])[] = [
    ['TEXT cpu_utilization:0.5,rps_fractional:12.5,eps:1,application_utilization:0.75,named_metrics.foo:0.25', full],
    [
      'TEXT cpu_utilization=0.5, rps_fractional = 12.5 ,eps=1, application_utilization=75e-2,named_metrics.foo=.25',
      full,
    ],
    [
      'JSON {"cpu_utilization":0.5,"rps_fractional":"12.5","eps":1,"application_utilization":0.75,"named_metrics":{"foo":0.25}}',
      full,
    ],
    [
      'JSON {"cpuUtilization":0.5,"rpsFractional":12.5,"eps":1,"applicationUtilization":0.75,"namedMetrics":{"foo":0.25},"rps":"7"}',
      full,
    ],
    ['JSON {"memUtilization":0.1,"utilization":null}', report({ memUtilization: 0.1 })],
    ['TEXT utilization.a.b:0.5', report({ utilization: new Map([['a.b', 0.5]]) })],
    ['JSON {}', report({})],
  ]
  for (const [value, expected] of cases)
    t.same(reportIn(new Headers(['endpoint-load-metrics', value])), expected, value)
  t.equal(reportIn(new Headers(['x', 'y'])), undefined)
  const wrong = [
    '',
    'cpu_utilization:1',
    'XML <a/>',
    'TEXT ',
    'TEXT cpu_utilization',
    'TEXT cpu_utilization:',
    'TEXT cpu_utilization:NaN',
    'TEXT cpu_utilization:Infinity',
    'TEXT cpu_utilization:0x1',
    'TEXT cpu_utilization:1,cpu_utilization:1',
    'TEXT unknown:1',
    'TEXT named_metrics.:1',
    'TEXT constructor:1',
    'TEXT toString.a:1',
    'JSON',
    'JSON [1]',
    'JSON {"cpu_utilization":"much"}',
    'JSON {"named_metrics":[1]}',
    'JSON {"named_metrics":{"a":true}}',
    'JSON {"other":1}',
    'JSON {',
    'BIN *',
    `TEXT ${'named_metrics.a:1,'.repeat(9000)}`,
    `JSON {"named_metrics":{${Array.from({ length: 1025 }, (_, i) => `"${i}":1`).join()}}}`,
  ]
  for (const value of wrong)
    t.equal(reportIn(new Headers(['endpoint-load-metrics', value])), 'malformed', value.slice(0, 60))
})

t.test('the binary form is that of the message, whatever else is in it and wherever it is cut', async (t) => {
  const desc: DescMessage = createProtoRegistry().expect('xds.data.orca.v3.OrcaLoadReport')
  const random = seeded(5)
  for (let round = 0; round < 200; round++) {
    const some = (value: number): number => (random.next() < 0.5 ? value : 0)
    const map = (): Record<string, number> =>
      Object.fromEntries(Array.from({ length: random.below(4) }, (_, i) => [`m${'é'.repeat(i)}`, random.next()]))
    const fields = {
      cpuUtilization: some(random.next()),
      memUtilization: some(random.next()),
      rps: BigInt(some(random.below(1e9))),
      requestCost: map(),
      utilization: map(),
      rpsFractional: some(random.next() * 1e6),
      eps: some(random.next()),
      namedMetrics: map(),
      applicationUtilization: some(random.next()),
    }
    const bytes = Buffer.from(toBinary(desc, create(desc, fields)))
    const maps = (of: Record<string, number>): Map<string, number> | undefined =>
      Object.keys(of).length === 0 ? undefined : new Map(Object.entries(of))
    const { cpuUtilization, memUtilization, applicationUtilization, eps } = fields
    const expected: LoadReport = {
      ...{ cpuUtilization, memUtilization, applicationUtilization, eps },
      rps: fields.rpsFractional,
      named: maps(fields.namedMetrics),
      utilization: maps(fields.utilization),
      requestCost: maps(fields.requestCost),
    }
    t.same(readBinary(bytes), expected)
    const text = bytes.toString('base64')
    if (text !== '') {
      t.same(reportIn(new Headers(['endpoint-load-metrics-bin', text])), expected)
      t.same(reportIn(new Headers(['endpoint-load-metrics', `BIN ${text}`])), expected)
    }
    // What is cut or broken may be a report of something else, never an exception.
    for (let end = 0; end < bytes.length; end += 3) readBinary(bytes.subarray(0, end))
    for (let i = 0; i < 20 && bytes.length > 0; i++) {
      const broken = Buffer.from(bytes)
      broken[random.below(broken.length)] = random.below(256)
      readBinary(broken)
    }
  }
  t.equal(readBinary(Buffer.from([0x09, 0, 0])), undefined)
  t.equal(readBinary(Buffer.from([0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f])), undefined, 'an infinite number')
  t.equal(readBinary(Buffer.from([0x42, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])), undefined)
  for (let i = 0; i < 5_000; i++) readBinary(random.bytes(random.below(40)))
})

t.test('a weight is requests per second by utilization, errors counted in', async (t) => {
  const weight = (fields: Partial<LoadReport>, metrics: readonly string[] = [], penalty = 1): number =>
    weightOf(report(fields), metrics.map(compileMetric), penalty)
  t.equal(weight({ rps: 100, cpuUtilization: 0.5 }), 200)
  t.equal(weight({ rps: 100, cpuUtilization: 0.5, applicationUtilization: 0.25 }), 400)
  t.equal(weight({ rps: 100, cpuUtilization: 0.5, eps: 50 }), 100)
  t.equal(weight({ rps: 100, cpuUtilization: 0.5, eps: 50 }, [], 3), 50)
  t.equal(weight({ rps: 100, eps: 10 }), 1000)
  t.equal(weight({ rps: 0, cpuUtilization: 0.5 }), 0)
  t.equal(weight({ rps: 100 }), 0)
  t.equal(weight({ rps: -5, cpuUtilization: 1 }), 0)
  t.equal(weight({ rps: 1e300, cpuUtilization: 1e-300 }), 0xffff_ffff)
  t.equal(weight({ rps: 1e-300, cpuUtilization: 1e20 }), 0, 'turns by such weights would never end')
  const named = new Map([
    ['a', 0.8],
    ['b', 0.2],
  ])
  t.equal(weight({ rps: 100, cpuUtilization: 1, named }, ['named_metrics.b']), 500)
  t.equal(weight({ rps: 100, cpuUtilization: 1, named }, ['named_metrics.*']), 125)
  t.equal(
    weight({ rps: 100, cpuUtilization: 1, named }, ['named_metrics.b', 'named_metrics.a', 'mem_utilization']),
    125,
  )
  t.equal(weight({ rps: 100, cpuUtilization: 1, named }, ['named_metrics.c', 'nonsense', 'constructor.x']), 100)
  t.equal(weight({ rps: 100, memUtilization: 0.1 }, ['mem_utilization']), 1000)
})

interface Rig {
  readonly hosts: HostSet
  readonly balancer: Balancer
  readonly clock: { now: number }
  tells(name: string, rps: number, cpu?: number): void
  shares(count: number, context?: Parameters<Balancer['pick']>[0]): Map<string, number>
}

function endpoint(name: string, rest: Partial<EndpointConfig> = {}): EndpointConfig {
  const address = { kind: 'ip', host: `10.0.0.${name.charCodeAt(0)}`, port: 80 } as const
  return { address, hostname: name, weight: 1, health: 'healthy', ...rest }
}

function rig(
  names: string,
  config: ClientWeightedConfig | SubsetConfig = CONFIG,
  more: {
    readonly set?: HostSetOptions
    readonly reports?: ReportSource
    readonly rest?: Partial<EndpointConfig>
  } = {},
): Rig {
  const clock = { now: 1_000 }
  const now = (): number => clock.now
  const hosts = new HostSet({ now, ...more.set })
  hosts.update([{ priority: 0, endpoints: [...names].map((name) => endpoint(name, more.rest)) }])
  const balancer = createBalancer(config, hosts, { random: seeded(21).next, now, reports: more.reports })
  return {
    hosts,
    balancer,
    clock,
    tells(name, rps, cpu = 1) {
      const value = `TEXT rps_fractional:${rps},cpu_utilization:${cpu}`
      const host = hosts.all.find(({ hostname }) => hostname === name)
      host?.monitor?.onLoadFields?.(new Headers(['endpoint-load-metrics', value]))
    },
    shares(count, context = {}) {
      const counts = new Map<string, number>()
      for (let i = 0; i < count; i++) {
        const name = balancer.pick(context)?.hostname ?? '-'
        counts.set(name, (counts.get(name) ?? 0) + 1 / count)
      }
      return counts
    },
  }
}

function near(t: Test, got: Map<string, number>, expected: Record<string, number>, what: string): void {
  t.same([...got.keys()].sort(), Object.keys(expected).sort(), what)
  const sum = Object.values(expected).reduce((a, b) => a + b, 0)
  for (const [name, weight] of Object.entries(expected)) {
    const off = Math.abs((got.get(name) ?? 0) - weight / sum)
    t.ok(off < 0.01, `${what}: ${name} has ${got.get(name)}, wanted ${weight / sum}`)
  }
}

t.test('reports count after the blackout, from the next update on, until they expire', async (t) => {
  const { shares, tells, clock } = rig('abc')
  near(t, shares(3_000), { a: 1, b: 1, c: 1 }, 'nobody has reported')
  tells('a', 400)
  tells('b', 100)
  clock.now += 9_000
  near(t, shares(3_000), { a: 1, b: 1, c: 1 }, 'in the blackout')
  clock.now += 1_000
  near(t, shares(6_000), { a: 400, b: 100, c: 250 }, 'who has not reported gets the median')
  tells('a', 100)
  tells('c', 300)
  near(t, shares(6_000), { a: 400, b: 100, c: 250 }, 'until the next update')
  clock.now += 1_000
  near(t, shares(6_000), { a: 100, b: 100, c: 100 }, 'the median of equal weights; c is in its blackout')
  clock.now += 10_000
  near(t, shares(6_000), { a: 100, b: 100, c: 300 }, 'after it')
  clock.now += 160_000
  tells('b', 50)
  tells('c', 300)
  clock.now += 15_000
  near(t, shares(6_000), { a: 175, b: 50, c: 300 }, 'what is old counts no more')
  clock.now += 500_000
  near(t, shares(3_000), { a: 1, b: 1, c: 1 }, 'of all')
  tells('a', 10)
  clock.now += 1_000
  near(t, shares(3_000), { a: 1, b: 1, c: 1 }, 'and begins with a blackout again')
})

t.test('weights that differ much, and change, are exact within one percent', async (t) => {
  const { shares, tells, clock } = rig('abcdefgh', { ...CONFIG, blackoutMs: 0 })
  const random = seeded(8)
  shares(8)
  for (let round = 0; round < 20; round++) {
    const expected: Record<string, number> = {}
    for (const name of 'abcdefgh') {
      expected[name] = 1 + random.below(round % 2 ? 10_000 : 5)
      tells(name, expected[name])
    }
    clock.now += 1_000
    near(t, shares(8_000), expected, `round ${round}`)
  }
})

t.test(
  'weights of the configuration do not count, hosts that come get the median, and those that go are let go of',
  async (t) => {
    const { hosts, shares, tells, clock } = rig('abc', { ...CONFIG, blackoutMs: 0 }, { rest: { weight: 7 } })
    shares(3)
    for (const [name, rps] of [
      ['a', 10],
      ['b', 20],
      ['c', 60],
    ] as const) {
      tells(name, rps)
    }
    clock.now += 1_000
    near(t, shares(9_000), { a: 10, b: 20, c: 60 }, 'three')
    const [gone] = hosts.all
    hosts.update([{ priority: 0, endpoints: ['b', 'c', 'd', 'e'].map((name) => endpoint(name, { weight: 3 })) }])
    near(t, shares(9_000), { b: 20, c: 60, d: 40, e: 40 }, 'two new ones')
    t.equal(gone.monitor, undefined)
  },
)

t.test('nothing is kept of hosts before the first pick', async (t) => {
  const { hosts, balancer } = rig('abc')
  t.ok(hosts.all.every(({ monitor }) => monitor === undefined))
  balancer.pick({})
  t.ok(hosts.all.every(({ monitor }) => monitor !== undefined))
  balancer[Symbol.dispose]()
  t.ok(hosts.all.every(({ monitor }) => monitor === undefined))
})

t.test('new hosts get a part of the weight that they report', async (t) => {
  const config = { ...CONFIG, blackoutMs: 0, slowStart: { windowMs: 60_000, aggression: 1, minWeightPercent: 10 } }
  const { hosts, shares, tells, clock } = rig('a', config)
  clock.now += 100_000
  hosts.update([{ priority: 0, endpoints: [endpoint('a'), endpoint('b')] }])
  shares(2)
  tells('a', 100)
  tells('b', 100)
  clock.now += 30_000
  near(t, shares(6_000), { a: 2, b: 1 }, 'after half the time')
  clock.now += 30_000
  near(t, shares(6_000), { a: 1, b: 1 }, 'after all of it')
})

t.test('localities go by their weights, hosts within them by what they report', async (t) => {
  const { hosts, shares, tells, clock } = rig('', { ...CONFIG, blackoutMs: 0, localities: { kind: 'weighted' } })
  const zone = (name: string): { region: string; zone: string; subZone: string } => ({
    region: '',
    zone: name,
    subZone: '',
  })
  hosts.update([
    { priority: 0, locality: zone('x'), weight: 1, endpoints: [endpoint('a'), endpoint('b')] },
    { priority: 0, locality: zone('y'), weight: 3, endpoints: [endpoint('c'), endpoint('d')] },
  ])
  shares(8)
  for (const name of 'abcd') tells(name, name === 'a' || name === 'c' ? 300 : 100)
  clock.now += 1_000
  near(t, shares(16_000), { a: 0.1875, b: 0.0625, c: 0.5625, d: 0.1875 }, 'both')
})

t.test('what hosts report is known once for all subsets that they are in', async (t) => {
  const followed: Host[] = []
  const sinks = new Map<string, (report: LoadReport) => boolean>()
  const reports: ReportSource = {
    follow(host, config, onReport) {
      t.equal(config.periodMs, 500)
      followed.push(host)
      sinks.set(host.hostname, onReport)
      return () => sinks.delete(host.hostname)
    },
  }
  const config: SubsetConfig = {
    kind: 'subset',
    fallback: 'any',
    defaultLabels: {},
    selectors: [{ keys: ['v'] }],
    within: { ...CONFIG, blackoutMs: 0, outOfBand: { periodMs: 500 } },
  }
  const { hosts, balancer, shares, tells, clock } = rig('abc', config, {
    reports,
    rest: { metadata: { 'envoy.lb': { v: 1 } } },
  })
  const labels = { v: 1 }
  shares(6)
  shares(6, { labels })
  t.equal(followed.length, 3, 'one stream for a host')
  const told = (name: string, rps: number): boolean | undefined => sinks.get(name)?.(report({ rps, cpuUtilization: 1 }))
  t.same([told('a', 100), told('b', 300), told('c', 0)], [true, true, false])
  tells('a', 5_000)
  clock.now += 1_000
  const expected = { a: 100, b: 300, c: 200 }
  near(t, shares(6_000, { labels }), expected, 'subset; what responses say does not count beside')
  near(t, shares(6_000), expected, 'fallback')
  hosts.update([{ priority: 0, endpoints: [endpoint('a', { metadata: { 'envoy.lb': { v: 1 } } })] }])
  t.same([...sinks.keys()], ['a'])
  balancer.retire?.()
  t.equal(sinks.size, 0)
  t.equal(balancer.pick({ labels })?.hostname, 'a')
})
