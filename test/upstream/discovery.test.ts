import t from 'tap'
import { formatAddress } from '../../lib/core/address.ts'
import { type ConnectionInfo, ConnectionState } from '../../lib/core/connection.ts'
import { ENVOY_HTTP2 } from '../../lib/http2/config.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import type { ClusterConfig, DnsConfig, EndpointConfig, ForwardProxyConfig } from '../../lib/upstream/config.ts'
import { createDiscovery } from '../../lib/upstream/discovery/create-discovery.ts'
import type { Discovery } from '../../lib/upstream/discovery/discovery.ts'
import { DnsResolvers } from '../../lib/upstream/discovery/dns/resolver.ts'
import type { DnsReply, MakeTransport, ServicesReply } from '../../lib/upstream/discovery/dns/transport.ts'
import { nodeTransport } from '../../lib/upstream/discovery/dns/transport.ts'
import { wantedHost } from '../../lib/upstream/discovery/wanted-host.ts'
import type { ResolvedLocality } from '../../lib/upstream/host.ts'
import { HostSet } from '../../lib/upstream/host-set.ts'
import { MembershipStats } from '../../lib/upstream/stats.ts'
import { settle, TestClock } from '../support/clock.ts'
import { startDnsServer } from '../support/dns-server.ts'
import { watchLeaks } from '../support/leaks.ts'

const DNS: DnsConfig = {
  refreshMs: 5_000,
  failureRefreshMs: 1_000,
  failureRefreshMaxMs: 8_000,
  jitterMs: 0,
  respectTtl: false,
  family: 'v4-only',
  resolvers: [],
}

const THRESHOLDS = { maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024, maxRetries: 3 }

function cluster(
  type: ClusterConfig['type'],
  endpoints: readonly EndpointConfig[],
  dns: Partial<DnsConfig> = {},
): ClusterConfig {
  return {
    name: 'web',
    statName: 'web',
    type,
    localities: [{ priority: 0, endpoints }],
    dns: { ...DNS, ...dns },
    balancer: { kind: 'round-robin' },
    connectTimeoutMs: 5_000,
    bufferLimitBytes: 1 << 20,
    thresholds: { default: THRESHOLDS, high: THRESHOLDS },
    idleTimeoutMs: 3_600_000,
    maxResponseHeaderBytes: 61_440,
    maxResponseHeaders: 100,
    protocol: 'http1',
    http1: { headerCase: 'lower', enableTrailers: false },
    http2: ENVOY_HTTP2,
    preconnectRatio: 1,
  }
}

function endpoint(host: string, rest: Partial<EndpointConfig> = {}): EndpointConfig {
  return { address: { kind: 'ip', host, port: 80 }, weight: 1, health: 'healthy', ...rest }
}

function answer(addresses: readonly string[], ttlS = 30): DnsReply {
  return { code: '', records: addresses.map((address) => ({ address, ttlS })) }
}

interface Run {
  readonly discovery: Discovery
  readonly clock: TestClock
  readonly stats: MembershipStats
  /** Replies to the next questions, the last for ever; per `4 name`. */
  readonly replies: Map<string, (DnsReply | Promise<DnsReply>)[]>
  readonly asked: string[]
  /** As `replies`, for SRV records. */
  readonly services: Map<string, (ServicesReply | Promise<ServicesReply>)[]>
  readonly warnings: string[]
  readonly updates: (readonly ResolvedLocality[])[]
  /** `web.test -> 10.0.0.1:80`, of the last update. */
  last(): string[]
  begin(): Promise<void>
}

function run(config: ClusterConfig, options: { random?: () => number; makeTransport?: MakeTransport } = {}): Run {
  const clock = new TestClock()
  const stats = new MembershipStats(new MetricsStore(), 'web')
  const replies: Run['replies'] = new Map()
  const asked: string[] = []
  const services: Run['services'] = new Map()
  const warnings: string[] = []
  const updates: (readonly ResolvedLocality[])[] = []
  const makeTransport: MakeTransport = () => ({
    query: async (name, family) => {
      asked.push(name)
      const queue = replies.get(`${family} ${name}`) ?? [{ code: 'ENOTFOUND', records: [] }]
      return queue.length > 1 ? queue.shift()! : queue[0]
    },
    services: async (name) => {
      asked.push(`srv ${name}`)
      const queue = services.get(name) ?? [{ code: 'ENOTFOUND', records: [] }]
      return queue.length > 1 ? queue.shift()! : queue[0]
    },
    close: () => undefined,
  })
  const dns = new DnsResolvers({
    clock,
    readText: async () => '',
    makeTransport: options.makeTransport ?? makeTransport,
  })
  const silent = (): void => undefined
  const log = {
    debug: silent,
    info: silent,
    error: silent,
    warn: (_: string, fields?: Record<string, unknown>) => void warnings.push(JSON.stringify(fields)),
  }
  const discovery = createDiscovery(config, { clock, random: options.random ?? (() => 0), log, stats, dns })
  t.teardown(() => {
    discovery.close()
    dns[Symbol.dispose]()
  })
  const last = (): string[] =>
    (updates.at(-1) ?? []).flatMap((l) => l.endpoints.map((e) => `${e.hostname ?? '-'} -> ${formatAddress(e.address)}`))
  return {
    discovery,
    clock,
    stats,
    replies,
    asked,
    services,
    warnings,
    updates,
    last,
    begin: () =>
      discovery.start(
        (localities) => updates.push(localities),
        (endpoint) => {
          const known = updates.at(-1)?.[0].endpoints ?? []
          updates.push([{ priority: 0, endpoints: [...known, endpoint] }])
        },
      ),
  }
}

const NOBODY = (): void => {
  t.fail('no endpoint comes alone')
}

t.test('static: the endpoints of the configuration, at once', async (t) => {
  const config = cluster('static', [endpoint('10.0.0.1'), endpoint('10.0.0.2')])
  const r = run(config)
  await r.begin()
  t.same(r.updates, [config.localities])
  t.equal(r.clock.pending, 0)
  t.same(r.asked, [])
})

t.test('strict DNS: every address is a host, and what vanishes is removed', async (t) => {
  const r = run(cluster('strict-dns', [endpoint('web.test', { weight: 3 })]))
  r.replies.set('4 web.test', [
    answer(['10.0.0.1', '10.0.0.2']),
    answer(['10.0.0.2', '10.0.0.1']),
    answer(['10.0.0.2', '10.0.0.3']),
  ])
  const hosts = new HostSet()
  await r.discovery.start((localities) => {
    r.updates.push(localities)
    hosts.update(localities)
  }, NOBODY)
  t.same(r.last(), ['web.test -> 10.0.0.1:80', 'web.test -> 10.0.0.2:80'])
  t.same(
    hosts.all.map((h) => h.weight),
    [3, 3],
  )
  const kept = hosts.all[1]
  await r.clock.advanceAsync(5_000)
  t.equal(r.updates.length, 1, 'another order is no change')
  t.equal(r.stats.updateNoRebuild.v, 1)
  await r.clock.advanceAsync(5_000)
  t.same(
    hosts.all.map((h) => h.addressText),
    ['10.0.0.2:80', '10.0.0.3:80'],
  )
  t.equal(hosts.all[0], kept)
  t.equal(r.stats.updateAttempt.v, 3)
  t.equal(r.stats.updateSuccess.v, 3)
  t.equal(r.stats.updateFailure.v, 0)
})

t.test('strict DNS: several names in several localities, with addresses and pipes between them', async (t) => {
  const config = {
    ...cluster('strict-dns', []),
    localities: [
      {
        locality: { region: 'eu', zone: 'a', subZone: '' },
        priority: 0,
        endpoints: [endpoint('a.test'), endpoint('10.9.9.9', { hostname: 'named.test' })],
      },
      {
        priority: 1,
        weight: 7,
        endpoints: [
          endpoint('b.test', { hostname: 'b-name.test', metadata: { x: 1 } }),
          endpoint('', { address: { kind: 'pipe', path: '/run/b.sock' } }),
        ],
      },
    ],
  }
  const r = run(config)
  let slow: (reply: DnsReply) => void = () => undefined
  r.replies.set('4 a.test', [answer(['10.0.0.1'])])
  r.replies.set('4 b.test', [new Promise((resolve) => (slow = resolve))])
  let warm = false
  void r.begin().then(() => {
    warm = true
  })
  t.same(r.last(), ['named.test -> 10.9.9.9:80', '- -> /run/b.sock'], 'what needs no name server is there at once')
  await settle()
  t.same(r.last(), ['a.test -> 10.0.0.1:80', 'named.test -> 10.9.9.9:80', '- -> /run/b.sock'])
  t.equal(warm, false, 'warm is when every name has answered or failed')
  slow(answer(['10.0.0.2']))
  await settle()
  t.equal(warm, true)
  t.match(r.updates.at(-1), [
    { locality: { region: 'eu' }, priority: 0 },
    { priority: 1, weight: 7, endpoints: [{ hostname: 'b-name.test', metadata: { x: 1 } }, {}] },
  ])
  t.equal(r.clock.pending, 2, 'a timer per name')
})

t.test('logical DNS: one host that keeps its identity and has all the addresses of its name', async (t) => {
  const r = run(cluster('logical-dns', [endpoint('web.test')]))
  r.replies.set('4 web.test', [
    answer(['10.0.0.1', '10.0.0.2']),
    answer(['10.0.0.1', '10.0.0.9']),
    answer(['10.0.0.2', '10.0.0.1']),
  ])
  const hosts = new HostSet()
  await r.discovery.start((localities) => {
    r.updates.push(localities)
    hosts.update(localities)
  }, NOBODY)
  t.equal(hosts.all.length, 1)
  const [host] = hosts.all
  const others = (): string[] => host.additionalAddresses.map(formatAddress)
  t.match(host, { addressText: '10.0.0.1:80', hostname: 'web.test' })
  t.same(others(), ['10.0.0.2:80'])
  await r.clock.advanceAsync(5_000)
  t.equal(r.updates.length, 2)
  t.same(others(), ['10.0.0.9:80'])
  await r.clock.advanceAsync(5_000)
  t.equal(hosts.all[0], host)
  t.equal(host.addressText, '10.0.0.2:80')
  t.same(others(), ['10.0.0.1:80'])
})

t.test('refresh follows the configured time, or the TTL where it is respected', async (t) => {
  const cases: readonly [string, Partial<DnsConfig>, ttlS: number, draw: number, ms: number][] = [
    ['configured', {}, 30, 0.5, 5_000],
    ['jitter', { jitterMs: 1_000 }, 30, 0.5, 5_500],
    ['TTL', { respectTtl: true }, 30, 0.5, 30_000],
    ['TTL with jitter', { respectTtl: true, jitterMs: 100 }, 1, 0.99, 1_099],
    ['TTL 0', { respectTtl: true }, 0, 0, 5_000],
    ['TTL beyond what timers can wait', { respectTtl: true }, 2 ** 31 - 1, 0, 86_400_000],
    ['TTL that is no TTL', { respectTtl: true }, 2 ** 32 - 1, 0, 5_000],
  ]
  for (const [name, dns, ttlS, draw, ms] of cases) {
    const r = run(cluster('strict-dns', [endpoint('web.test')], dns), { random: () => draw })
    r.replies.set('4 web.test', [answer(['10.0.0.1'], ttlS)])
    await r.begin()
    t.equal(r.clock.nextInMs, ms, name)
  }
})

t.test('failures keep the last good addresses and back off', async (t) => {
  const r = run(cluster('strict-dns', [endpoint('web.test')]), { random: () => 0.999_999 })
  const bad: DnsReply[] = ['ESERVFAIL', 'ENOTFOUND', 'ENODATA', 'ETIMEOUT', 'EREFUSED'].map((code) => ({
    code,
    records: [],
  }))
  r.replies.set('4 web.test', [answer(['10.0.0.1']), ...bad, answer(['10.0.0.2']), bad[0]])
  await r.begin()
  const waits: number[] = []
  for (let i = 0; i < bad.length; i++) {
    await r.clock.advanceAsync(r.clock.nextInMs!)
    waits.push(r.clock.nextInMs!)
    t.same(r.last(), ['web.test -> 10.0.0.1:80'])
  }
  t.same(waits, [1_000, 1_999, 3_999, 7_999, 7_999], 'at most the configured maximum')
  t.equal(r.updates.length, 1)
  t.equal(r.stats.updateFailure.v, 5)
  t.equal(r.stats.updateEmpty.v, 2)
  t.same(r.warnings, ['{"cluster":"web","name":"web.test","reason":"ESERVFAIL","kept":1}'], 'one warning per outage')
  await r.clock.advanceAsync(r.clock.nextInMs!)
  t.same(r.last(), ['web.test -> 10.0.0.2:80'])
  t.equal(r.clock.nextInMs, 5_000)
  await r.clock.advanceAsync(5_000)
  t.equal(r.clock.nextInMs, 1_000, 'back-off starts anew')
  t.equal(r.warnings.length, 2)
})

t.test('back-off never goes below its base', async (t) => {
  const r = run(cluster('strict-dns', [endpoint('gone.test')]))
  await r.begin()
  t.same(r.updates, [], 'a first failure warms the cluster without hosts')
  for (let i = 0; i < 4; i++) {
    t.equal(r.clock.nextInMs, 1_000)
    await r.clock.advanceAsync(1_000)
  }
  t.equal(r.stats.updateFailure.v, 5)
})

t.test('after close nothing is asked or told, and start does not hang', async (t) => {
  const r = run(cluster('strict-dns', [endpoint('web.test'), endpoint('other.test')]))
  let late: (reply: DnsReply) => void = () => undefined
  r.replies.set('4 web.test', [new Promise((resolve) => (late = resolve))])
  r.replies.set('4 other.test', [answer(['10.0.0.3'])])
  const warm = r.begin()
  await settle()
  t.equal(r.updates.length, 1)
  r.discovery.close()
  await warm
  late(answer(['10.0.0.1']))
  await settle()
  r.discovery.close()
  r.discovery[Symbol.dispose]()
  t.equal(r.updates.length, 1)
  t.equal(r.clock.pending, 0)
})

t.test('no endpoints, and DNS without settings of its own', async (t) => {
  const empty = run(cluster('strict-dns', []))
  await empty.begin()
  t.same(empty.updates, [])
  const bare = run({ ...cluster('strict-dns', [endpoint('web.test')]), dns: undefined })
  bare.replies.set('4 web.test', [answer(['10.0.0.1'])])
  await bare.begin()
  t.same(bare.last(), ['web.test -> 10.0.0.1:80'])
  t.equal(bare.clock.nextInMs, 5_000)
  const localhost = run(cluster('strict-dns', [endpoint('localhost')]))
  await localhost.begin()
  t.same(localhost.last(), ['localhost -> 127.0.0.1:80'])
  t.same(localhost.asked, [])
})

t.test('a flapping real name server never empties a cluster', async (t) => {
  const leaks = watchLeaks()
  const server = await startDnsServer()
  const many = Array.from({ length: 300 }, (_, i) => `10.0.${i >> 8}.${i & 255}`)
  server.set(
    'A',
    'flap.test',
    { addresses: ['10.0.0.1', '10.0.0.2'], ttlS: 0 },
    'SERVFAIL',
    { addresses: ['10.0.0.2'], ttlS: 0 },
    'NXDOMAIN',
    'NODATA',
    { addresses: many, ttlS: 0 },
    'REFUSED',
    { addresses: ['10.0.0.2'], ttlS: 0 },
  )
  const config = cluster('strict-dns', [endpoint('flap.test')], { respectTtl: true, resolvers: [server.address] })
  const r = run(config, { makeTransport: nodeTransport })
  const hosts = new HostSet()
  const counts: number[] = []
  await r.discovery.start((localities) => {
    const { added, removed } = hosts.update(localities)
    counts.push(added.length, -removed.length)
  }, NOBODY)
  const survivor = hosts.all[1]
  for (let i = 1; i < 8; i++) {
    const seen = r.stats.updateSuccess.v + r.stats.updateFailure.v
    r.clock.advance(r.clock.nextInMs!)
    while (r.stats.updateSuccess.v + r.stats.updateFailure.v === seen) await settle(1)
    t.ok(hosts.all.includes(survivor), `answer ${i}`)
  }
  t.equal(hosts.all.length, 1)
  t.same(counts, [2, 0, 0, -1, 299, 0, 0, -299])
  t.equal(r.stats.updateSuccess.v, 4)
  t.equal(r.stats.updateFailure.v, 4)
  r.discovery.close()
  await server.close()
  await leaks.assertNone()
})

const SERVICE = '_http._tcp.web.test'

function service(dns: Partial<DnsConfig> = {}): ClusterConfig {
  return { ...cluster('srv', [], { respectTtl: true, ...dns }), localities: [], service: SERVICE }
}

/** `priority weight port target` each. */
function records(list: readonly string[], ttlS = 30): ServicesReply {
  return {
    code: '',
    records: list.map((text) => {
      const [priority, weight, port, target] = text.split(' ')
      return { priority: Number(priority), weight: Number(weight), port: Number(port), target: target ?? '', ttlS }
    }),
  }
}

/** `level: target:port=weight -> addresses`, of the last update. */
function levels(r: Run): string[] {
  return (r.updates.at(-1) ?? []).flatMap(({ priority, endpoints }) =>
    endpoints.map(({ key, weight, address, additionalAddresses = [] }) => {
      const all = [address, ...additionalAddresses].map(formatAddress)
      return `${priority}: ${key}=${weight} -> ${all.join(' ')}`
    }),
  )
}

t.test('SRV: endpoints, ports, levels and weights are those of the records', async (t) => {
  const r = run(service())
  r.services.set(SERVICE, [
    records([
      '20 0 80 c.test',
      '10 3 8080 a.test',
      '10 0 8081 b.test',
      '10 3 8080 a.test',
      '5 1 0 a.test',
      '5 1 1 x..y',
      '1 1 1 10.0.0.1',
    ]),
  ])
  r.replies.set('4 a.test', [answer(['10.0.0.1', '10.0.0.2'])])
  r.replies.set('4 b.test', [answer(['10.0.0.3'])])
  r.replies.set('4 c.test', [answer(['10.0.0.4'])])
  await r.begin()
  t.same(levels(r), [
    '0: a.test:8080=3 -> 10.0.0.1:8080 10.0.0.2:8080',
    '0: b.test:8081=1 -> 10.0.0.3:8081',
    '1: c.test:80=1 -> 10.0.0.4:80',
  ])
  t.equal(r.updates.at(-1)?.[0].endpoints[0].hostname, 'a.test')
  t.same(r.asked.sort(), ['a.test', 'b.test', 'c.test', `srv ${SERVICE}`])
  t.equal(r.updates.length, 1, 'told once, when all of it is known')
  t.equal(r.stats.updateAttempt.v, 4)
  t.equal(r.stats.updateSuccess.v, 4)
  r.discovery.close()
  t.equal(r.clock.pending, 0)
})

t.test('SRV: records and targets change in their own time, and what stays is not asked for again', async (t) => {
  const r = run(service())
  r.services.set(SERVICE, [
    records(['1 1 80 a.test', '1 1 80 b.test'], 100),
    records(['1 1 80 b.test', '1 1 80 a.test'], 100),
    records(['1 1 80 b.test', '1 7 81 c.test'], 100),
  ])
  r.replies.set('4 a.test', [answer(['10.0.0.1'], 40)])
  r.replies.set('4 b.test', [answer(['10.0.0.2'], 150), answer(['10.0.0.9'], 1000)])
  const c = Promise.withResolvers<DnsReply>()
  r.replies.set('4 c.test', [c.promise])
  await r.begin()
  await r.clock.advanceAsync(100_001)
  t.equal(r.updates.length, 1, 'in another order they are the same')
  t.equal(r.asked.filter((name) => name === 'a.test').length, 3)
  t.equal(r.asked.filter((name) => name === 'b.test').length, 1)
  t.equal(r.stats.updateNoRebuild.v, 3)
  await r.clock.advanceAsync(50_000)
  t.same(levels(r), ['0: a.test:80=1 -> 10.0.0.1:80', '0: b.test:80=1 -> 10.0.0.9:80'])
  await r.clock.advanceAsync(50_001)
  t.same(levels(r), ['0: a.test:80=1 -> 10.0.0.1:80', '0: b.test:80=1 -> 10.0.0.9:80'], 'until c.test is known')
  c.resolve(answer(['10.0.0.3']))
  await settle()
  t.same(levels(r), ['0: b.test:80=1 -> 10.0.0.9:80', '0: c.test:81=7 -> 10.0.0.3:81'])
  const asked = r.asked.filter((name) => name === 'a.test').length
  await r.clock.advanceAsync(90_000)
  t.equal(r.asked.filter((name) => name === 'a.test').length, asked, 'who is gone is asked for no more')
  r.discovery.close()
  t.equal(r.clock.pending, 0)
})

t.test('SRV: failures keep what was good and back off, and "." takes all away', async (t) => {
  const r = run(service({ respectTtl: false, jitterMs: 0 }))
  const failed: ServicesReply = { code: 'ESERVFAIL', records: [] }
  r.services.set(SERVICE, [
    records(['1 1 80 a.test']),
    failed,
    { code: 'ENODATA', records: [] },
    records(['1 1 80 ..']),
    records(['0 0 0 ']),
    records(['1 1 80 a.test']),
  ])
  r.replies.set('4 a.test', [answer(['10.0.0.1']), { code: 'ETIMEOUT', records: [] }])
  await r.begin()
  const there = ['0: a.test:80=1 -> 10.0.0.1:80']
  t.same(levels(r), there)
  const services = (): number => r.asked.filter((name) => name.startsWith('srv')).length
  await r.clock.advanceAsync(5_000)
  t.equal(services(), 2)
  await r.clock.advanceAsync(1_000)
  t.equal(services(), 3, 'sooner than after an answer')
  await r.clock.advanceAsync(1_000)
  t.equal(services(), 4)
  t.same(levels(r), there, 'through failures, absence and what cannot be used')
  t.equal(r.stats.updateEmpty.v, 1)
  t.equal(r.warnings.filter((line) => line.includes(SERVICE)).length, 2, 'once for the service, once for its host')
  await r.clock.advanceAsync(5_000)
  t.same(levels(r), [], 'there is no such service')
  t.equal(r.stats.membershipTotal.v, 0)
  await r.clock.advanceAsync(5_000)
  t.same(levels(r), [], 'its host cannot be looked up')
  r.discovery.close()
  t.equal(r.clock.pending, 0)
})

t.test(
  'SRV: very long answers are cut, always in the same place, and levels are as many as there may be',
  async (t) => {
    const r = run(service({ respectTtl: false }))
    const list = Array.from({ length: 1_500 }, (_, i) => `${i} 1 80 h.test`).map((line, i) =>
      line.replace('80', `${i + 1}`),
    )
    r.services.set(SERVICE, [records(list), records([...list].reverse())])
    r.replies.set('4 h.test', [answer(['10.0.0.1'])])
    await r.begin()
    t.equal(levels(r).length, 1_024)
    t.equal(r.updates.at(-1)?.length, 128)
    t.equal(r.asked.filter((name) => name === 'h.test').length, 1, 'a host is looked up once')
    await r.clock.advanceAsync(5_000)
    t.equal(r.updates.length, 1)
    t.equal(r.warnings.length, 1)
    r.discovery.close()
  },
)

t.test(
  'SRV: what cannot be looked up at first is warm all the same, and addresses are those that are admitted',
  async (t) => {
    const gone = run(service())
    await gone.begin()
    t.same(levels(gone), [])
    gone.discovery.close()
    const r = run(service({ addresses: { kind: 'deny', ranges: [{ address: '127.0.0.0', prefixLength: 8 }] } }))
    r.services.set(SERVICE, [records(['1 1 80 inside.test', '1 1 80 gone.test', '2 1 80 out.test'])])
    r.replies.set('4 inside.test', [answer(['127.0.0.1'])])
    r.replies.set('4 out.test', [answer(['127.0.0.2', '10.0.0.1'])])
    await r.begin()
    t.same(levels(r), ['1: out.test:80=1 -> 10.0.0.1:80'], 'the level of others stays')
    const closed = run(service())
    closed.services.set(SERVICE, [new Promise<ServicesReply>(() => {})])
    const begun = closed.begin()
    await settle()
    closed.discovery.close()
    await begun
    t.same(closed.updates, [])
    r.discovery.close()
  },
)

function forwardProxy(limits: Partial<ForwardProxyConfig> = {}, dns: Partial<DnsConfig> = {}): ClusterConfig {
  const forward = { hostTtlMs: 60_000, maxHosts: 3, maxPending: 2, preresolve: [], ...limits }
  return { ...cluster('dynamic-forward-proxy', [], dns), localities: [], forwardProxy: forward }
}

t.test('a forward proxy looks names up when they are asked for, once for all who ask', async (t) => {
  const r = run(forwardProxy())
  await r.begin()
  t.same(r.last(), [])
  r.replies.set('4 a.test', [answer(['10.0.0.1'])])
  const [first, second] = [r.discovery.demand?.('A.test.', 443), r.discovery.demand?.('a.test', 443)]
  t.ok(first instanceof Promise)
  t.same([await first, await second], ['a.test:443', 'a.test:443'])
  t.same(r.asked, ['a.test'])
  t.equal(r.discovery.demand?.('a.test', 443), 'a.test:443', 'known: no wait')
  t.equal(r.discovery.demand?.('192.0.2.7', 80), '192.0.2.7:80', 'an address is no question')
  t.same(r.last(), ['a.test -> 10.0.0.1:443', '192.0.2.7 -> 192.0.2.7:80'])
  t.match(await r.discovery.demand?.('gone.test', 80), { code: 'dns-failed' })
  t.match(r.discovery.demand?.('gone.test', 80), { code: 'dns-failed' }, 'failures are answered at once')
  t.match(r.discovery.demand?.('fourth.test', 80), { code: 'overflow' }, 'the cache is full')
  t.match(r.discovery.demand?.('', 80), { code: 'dns-failed' })
  r.discovery.close()
  t.equal(r.clock.pending, 0)
})

t.test('a forward proxy refreshes by TTL, keeps what was good, and forgets what nobody asks for', async (t) => {
  const r = run(forwardProxy({}, { respectTtl: true, minRefreshMs: 5_000 }))
  await r.begin()
  r.replies.set('4 a.test', [answer(['10.0.0.1'], 1), answer(['10.0.0.2'], 8), { code: 'SERVFAIL', records: [] }])
  await r.discovery.demand?.('a.test', 80)
  await r.clock.advanceAsync(4_900)
  t.equal(r.asked.length, 1, 'not before the shortest interval')
  await r.clock.advanceAsync(200)
  t.same(r.last(), ['a.test -> 10.0.0.2:80'])
  await r.clock.advanceAsync(8_000)
  t.ok(r.asked.length >= 3)
  t.equal(r.discovery.demand?.('a.test', 80), 'a.test:80', 'the last good address stays')
  await r.clock.advanceAsync(59_000)
  t.equal(r.last().length, 1, 'asked for within its time')
  await r.clock.advanceAsync(61_000)
  t.same(r.last(), [])
  const asked = r.asked.length
  await r.clock.advanceAsync(60_000)
  t.equal(r.asked.length, asked, 'and asked for no more')
  r.discovery.close()
  t.equal(r.clock.pending, 0)
})

t.test('a forward proxy bounds who waits, resolves ahead, and frees those who wait when it closes', async (t) => {
  const r = run(forwardProxy({ maxHosts: 10, preresolve: [{ host: 'ahead.test', port: 80 }] }))
  r.replies.set('4 ahead.test', [answer(['10.0.0.9'])])
  await r.begin()
  t.equal(r.discovery.demand?.('ahead.test', 80), 'ahead.test:80')
  const never = new Promise<DnsReply>(() => {})
  r.replies.set('4 slow1.test', [never])
  r.replies.set('4 slow2.test', [never])
  const waiting = [r.discovery.demand?.('slow1.test', 80), r.discovery.demand?.('slow2.test', 80)]
  t.match(r.discovery.demand?.('slow3.test', 80), { code: 'overflow' })
  r.discovery.close()
  for (const one of waiting) t.match(await one, { code: 'dns-failed' })
  t.match(r.discovery.demand?.('late.test', 80), { code: 'dns-failed' })
})

t.test('a forward proxy bounds the requests that wait, those for the same name included', async (t) => {
  const r = run(forwardProxy({ maxHosts: 10 }))
  await r.begin()
  const slow = Promise.withResolvers<DnsReply>()
  r.replies.set('4 slow.test', [slow.promise])
  const waiting = [r.discovery.demand?.('slow.test', 80), r.discovery.demand?.('slow.test', 80)]
  t.match(r.discovery.demand?.('slow.test', 80), { code: 'overflow' })
  t.match(r.discovery.demand?.('other.test', 80), { code: 'overflow' })
  slow.resolve(answer(['10.0.0.1']))
  for (const one of waiting) t.equal(await one, 'slow.test:80')
  t.match(await r.discovery.demand?.('other.test', 80), { code: 'dns-failed' }, 'there is room again')
  r.discovery.close()
})

t.test('who leaves while a name is looked up waits no more, and whoever only looks never did', async (t) => {
  const r = run(forwardProxy({ maxHosts: 10 }))
  await r.begin()
  const slow = Promise.withResolvers<DnsReply>()
  r.replies.set('4 slow.test', [slow.promise])
  r.replies.set('4 other.test', [slow.promise])
  const clients = [new AbortController(), new AbortController(), new AbortController()]
  const ask = (name: string, client: number): unknown => r.discovery.demand?.(name, 80, clients[client])
  const first = ask('slow.test', 0)
  for (let i = 0; i < 5; i++) t.ok(r.discovery.demand?.('slow.test', 80, 'nobody') instanceof Promise)
  t.ok(ask('slow.test', 1) instanceof Promise)
  t.match(ask('slow.test', 2), { code: 'overflow' })
  clients[0].abort()
  clients[1].abort()
  t.ok(ask('slow.test', 2) instanceof Promise, 'their places are free')
  t.ok(ask('other.test', 2) instanceof Promise)
  t.match(ask('other.test', 2), { code: 'overflow' })
  slow.resolve(answer(['10.0.0.1']))
  t.equal(await first, 'slow.test:80', 'what was asked for is known all the same')
  await settle()
  clients[2].abort()
  const never = new Promise<DnsReply>(() => {})
  for (const name of ['x.test', 'y.test']) r.replies.set(`4 ${name}`, [never])
  for (const name of ['x.test', 'y.test']) t.ok(r.discovery.demand?.(name, 80) instanceof Promise)
  t.match(r.discovery.demand?.('x.test', 80), { code: 'overflow' }, 'nobody was counted out twice')
  r.discovery.close()
})

t.test('what a forward proxy knew when it closed serves those who have got it', async (t) => {
  const r = run(forwardProxy())
  await r.begin()
  r.replies.set('4 a.test', [answer(['10.0.0.1'])])
  await r.discovery.demand?.('a.test', 80)
  r.discovery.close()
  t.equal(r.discovery.demand?.('a.test', 80), 'a.test:80')
  t.match(r.discovery.demand?.('b.test', 80), { code: 'dns-failed' })
  t.equal(r.clock.pending, 0)
})

t.test('a forward proxy neither keeps nor asks for what is no name of a host', async (t) => {
  const r = run(forwardProxy({ maxHosts: 2 }))
  await r.begin()
  const label = 'a'.repeat(63)
  const wrong = [
    'a b',
    'a..b',
    '.',
    '..',
    '-a.test',
    'a-.test',
    'a/b',
    'a.test:80',
    'ä.test',
    'a%2e',
    '[::1',
    `${label}a.test`,
  ]
  wrong.push(`${label}.${label}.${label}.${label}.test`, 'a\r\nb', '*.test', '1.2.3.999')
  for (const name of wrong) t.match(r.discovery.demand?.(name, 80), { code: 'dns-failed' }, JSON.stringify(name))
  t.same(r.asked, [])
  r.replies.set(`4 _a.x-1.${label}`, [answer(['10.0.0.1'])])
  t.equal(await r.discovery.demand?.(`_a.x-1.${label}`, 80), `_a.x-1.${label}:80`, 'there is room for those that are')
  t.equal(r.discovery.demand?.('::1', 80), '[::1]:80')
  r.discovery.close()
})

t.test('a server name that is an address names no host of a forward proxy', (t) => {
  const facts = (serverName: string, state = new ConnectionState()): ConnectionInfo =>
    ({ serverName, state }) as unknown as ConnectionInfo
  t.equal(wantedHost({ downstream: facts('127.0.0.1') }, true), undefined)
  t.equal(wantedHost({ downstream: facts('::1') }, true), undefined)
  t.same(wantedHost({ downstream: facts('a.test') }, true), { name: 'a.test', port: 443 })
  const state = new ConnectionState()
  state.setObject('envoy.upstream.dynamic_host', '192.0.2.1')
  t.same(
    wantedHost({ downstream: facts('a.test', state) }, false),
    { name: '192.0.2.1', port: 80 },
    'filters may say so',
  )
  t.end()
})
