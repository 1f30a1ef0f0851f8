import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { formatAddress } from '../../lib/core/address.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import { DnsResolvers } from '../../lib/upstream/discovery/dns/resolver.ts'
import type { DnsReply } from '../../lib/upstream/discovery/dns/transport.ts'
import { ForwardProxyDiscovery } from '../../lib/upstream/discovery/forward-proxy.ts'
import { formatNames, NameStore, parseNames } from '../../lib/upstream/discovery/name-store.ts'
import type { ResolvedEndpoint } from '../../lib/upstream/host.ts'
import { MembershipStats } from '../../lib/upstream/stats.ts'
import { settle, TestClock } from '../support/clock.ts'
import { seeded } from '../support/random.ts'

async function folder(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'names-'))
  t.teardown(() => rm(path, { recursive: true }))
  return path
}

const silent = (): void => undefined

function storeAt(path: string, maxEntries = 10): { store: NameStore; clock: TestClock; warnings: string[] } {
  const clock = new TestClock()
  const warnings: string[] = []
  const log = { debug: silent, info: silent, error: silent, warn: (message: string) => void warnings.push(message) }
  return { store: new NameStore({ path, flushMs: 1_000, maxEntries }, clock, log), clock, warnings }
}

t.test('names are written in the format of Envoy, and read again', async (t) => {
  const names = new Map([
    ['a.test:443', { addresses: ['10.0.0.1', 'fd00::1'], atS: 1_700_000_000 }],
    ['b.test:80', { addresses: ['10.0.0.2'], atS: 7 }],
  ])
  const bytes = formatNames(names)
  const value = '10.0.0.1:443|0|1700000000\n[fd00::1]:443|0|1700000000'
  t.ok(bytes.toString().startsWith(`10\na.test:443${value.length}\n${value}`))
  t.same(parseNames(bytes), names)
  for (let size = 0; size < bytes.length; size++) t.ok(parseNames(bytes.subarray(0, size)).size < 2, `${size} bytes`)
  t.same(parseNames(Buffer.from('3\na:13\nx|y')), new Map(), 'no address')
  t.same([...parseNames(Buffer.from('3\na:10\n3\nb:114\n10.0.0.1:1|0|5')).keys()], ['b:1'], 'one that is nothing')
  const random = seeded(3)
  for (let i = 0; i < 5_000; i++) {
    const copy = Buffer.from(bytes)
    for (let n = random.below(4); n >= 0; n--) copy[random.below(copy.length)] = random.below(256)
    if (parseNames(copy).size > 2) t.fail(copy.toString())
  }
})

t.test('changes are written together, a while after the first, beside those of others, and bounded', async (t) => {
  const path = join(await folder(t), 'names')
  const [one, other] = [storeAt(path, 3), storeAt(path, 3)]
  t.same(await one.store.load(), new Map())
  one.store.set('a.test:1', ['10.0.0.1'])
  one.store.set('b.test:1', ['10.0.0.2'])
  await one.clock.advanceAsync(999)
  await one.store.load()
  t.same(await readdir(join(path, '..')), [])
  one.clock.advance(1)
  await one.store.flush()
  t.same([...(await other.store.load()).keys()], ['a.test:1', 'b.test:1'])
  await other.clock.advanceAsync(10_000)
  other.store.set('c.test:1', ['10.0.0.3'])
  other.store.set('d.test:1', ['10.0.0.4'])
  await other.store.flush()
  t.same([...(await one.store.load()).keys()], ['c.test:1', 'd.test:1', 'a.test:1'], 'the newest stay')
  one.store.remove('c.test:1')
  one.store.close()
  await one.store.flush()
  t.same([...(await one.store.load()).keys()], ['d.test:1', 'a.test:1'])
  one.store.set('e.test:1', ['10.0.0.5'])
  await one.store.flush()
  t.equal((await one.store.load()).size, 2, 'nothing is written after the end')
  t.same(await readdir(join(path, '..')), ['names'])
  t.equal(one.clock.pending, 0)
})

t.test('a file that cannot be read or written is told of once, and loses nothing', async (t) => {
  const path = join(await folder(t), 'not-yet', 'names')
  const { store, warnings } = storeAt(path)
  store.set('a.test:1', ['10.0.0.1'])
  await store.flush()
  store.set('b.test:1', ['10.0.0.2'])
  await store.flush()
  t.equal(warnings.length, 1)
  const long = join(await folder(t), 'names')
  await writeFile(long, Buffer.alloc(16 * 1024 * 1024 + 1))
  const second = storeAt(long)
  t.equal((await second.store.load()).size, 0)
  t.equal(second.warnings.length, 1)
  second.store.set('a.test:1', ['10.0.0.1'])
  await second.store.flush()
  t.equal((await second.store.load()).size, 1, 'and is replaced')
})

interface Run {
  readonly discovery: ForwardProxyDiscovery
  readonly clock: TestClock
  readonly asked: string[]
  readonly metrics: MetricsStore
  hosts(): string[]
}

function forwardProxy(path: string, reply: (name: string) => DnsReply | Promise<DnsReply>, more: object = {}): Run {
  const clock = new TestClock()
  const metrics = new MetricsStore()
  const asked: string[] = []
  const makeTransport = () => ({
    query: async (name: string) => {
      asked.push(name)
      return reply(name)
    },
    close: silent,
  })
  const dns = new DnsResolvers({ clock, readText: async () => '', makeTransport })
  const rate = { refreshMs: 60_000, failureRefreshMs: 60_000, failureRefreshMaxMs: 60_000, jitterMs: 0 }
  const config = {
    type: 'dynamic-forward-proxy',
    dns: { ...rate, respectTtl: false, family: 'v4-only', resolvers: [], ...more },
    forwardProxy: {
      hostTtlMs: 300_000,
      maxHosts: 3,
      maxPending: 10,
      preresolve: [],
      cache: 'c',
      store: { path, flushMs: 1_000, maxEntries: 100 },
    },
  } as unknown as ClusterConfig
  const log = { debug: silent, info: silent, error: silent, warn: silent }
  const stats = new MembershipStats(metrics, 'web')
  const discovery = new ForwardProxyDiscovery(config, { clock, random: () => 0, log, stats, metrics, dns })
  let endpoints: readonly ResolvedEndpoint[] = []
  void discovery.start(
    (localities) => {
      endpoints = localities[0].endpoints
    },
    (endpoint) => {
      endpoints = [...endpoints, endpoint]
    },
  )
  t.teardown(() => {
    discovery.close()
    dns[Symbol.dispose]()
  })
  return {
    discovery,
    clock,
    asked,
    metrics,
    hosts: () => endpoints.map(({ key, address }) => `${key} ${formatAddress(address)}`),
  }
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise(setImmediate)
}

t.test('a forward proxy that starts again serves the names it knew, and looks them up', async (t) => {
  const path = join(await folder(t), 'names')
  const first = forwardProxy(path, (name) => ({
    code: name === 'gone.test' ? 'ENOTFOUND' : '',
    records: name === 'gone.test' ? [] : [{ address: '10.0.0.1', ttlS: 30 }],
  }))
  await settle()
  for (const name of ['a.test', 'b.test', 'gone.test']) await first.discovery.demand(name, 80)
  first.discovery.close()
  let bytes = ''
  await until(() => {
    void readFile(path, 'utf8').then(
      (text) => {
        bytes = text
      },
      () => {},
    )
    return bytes.includes('b.test')
  })
  t.notMatch(bytes, /gone/)

  const answer = Promise.withResolvers<DnsReply>()
  const second = forwardProxy(path, () => answer.promise)
  await until(() => second.hosts().length === 2)
  t.equal(second.discovery.demand('a.test', 80), 'a.test:80', 'at once')
  t.same(second.hosts(), ['a.test:80 10.0.0.1:80', 'b.test:80 10.0.0.1:80'])
  await settle()
  t.same(second.asked, ['a.test', 'b.test'])
  t.equal(second.metrics.counter('dns_cache.c.cache_load').v, 2)
  answer.resolve({ code: '', records: [{ address: '10.0.0.9', ttlS: 30 }] })
  await settle()
  t.same(second.hosts(), ['a.test:80 10.0.0.9:80', 'b.test:80 10.0.0.9:80'])

  const third = forwardProxy(path, () => ({ code: 'ESERVFAIL', records: [] }))
  await until(() => third.hosts().length === 2)
  await third.clock.advanceAsync(60_000)
  t.equal(third.discovery.demand('b.test', 80), 'b.test:80', 'through failures')
})

t.test('what a file says is admitted as answers are, and no more than there may be hosts', async (t) => {
  const path = join(await folder(t), 'names')
  const names = new Map(
    ['in.test:80', '10.0.0.1:80', 'a b:80', 'a.test:0', 'c.test:80', 'd.test:80', 'e.test:80', 'f.test:80'].map(
      (key) => [key, { addresses: key === 'in.test:80' ? ['127.0.0.1'] : ['10.0.0.1'], atS: 1 }],
    ),
  )
  await writeFile(path, formatNames(names))
  const addresses = { kind: 'deny', ranges: [{ address: '127.0.0.0', prefixLength: 8 }] }
  const run = forwardProxy(path, () => new Promise<DnsReply>(() => {}), { addresses })
  await until(() => run.hosts().length > 0)
  t.same(
    run.hosts().map((host) => host.split(' ')[0]),
    ['c.test:80', 'd.test:80', 'e.test:80'],
  )
})
