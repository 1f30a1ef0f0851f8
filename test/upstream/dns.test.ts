import t from 'tap'
import { parseHostsFile } from '../../lib/upstream/discovery/dns/hosts-file.ts'
import { DEFAULT_RESOLV_CONF, parseResolvConf, searchOrder } from '../../lib/upstream/discovery/dns/resolv-conf.ts'
import type { DnsFamily, DnsFound, DnsResult } from '../../lib/upstream/discovery/dns/resolver.ts'
import { DnsResolvers, MAX_ADDRESSES } from '../../lib/upstream/discovery/dns/resolver.ts'
import type { DnsReply, DnsServers, MakeTransport } from '../../lib/upstream/discovery/dns/transport.ts'
import { nodeTransport, SharedQueries } from '../../lib/upstream/discovery/dns/transport.ts'
import { settle, TestClock } from '../support/clock.ts'
import { startDnsServer } from '../support/dns-server.ts'
import { watchLeaks } from '../support/leaks.ts'
import { seeded } from '../support/random.ts'

const NO_SUCH_NAME: DnsReply = { code: 'ENOTFOUND', records: [] }
const NO_RECORD: DnsReply = { code: 'ENODATA', records: [] }

function answer(...addresses: string[]): DnsReply {
  return { code: '', records: addresses.map((address) => ({ address, ttlS: 30 })) }
}

interface Fake {
  /** By `4 name` and `6 name`; what is not there does not exist. */
  readonly replies: Map<string, DnsReply | Promise<DnsReply>>
  readonly asked: string[]
  readonly servers: DnsServers[]
  readonly files: Map<string, string>
  readonly reads: string[]
  readonly clock: TestClock
  readonly resolvers: DnsResolvers
}

/** Resolvers over name servers and files that stand in maps. */
function fake(files: Record<string, string> = {}): Fake {
  const made: Omit<Fake, 'resolvers'> = {
    replies: new Map(),
    asked: [],
    servers: [],
    files: new Map(Object.entries(files)),
    reads: [],
    clock: new TestClock(),
  }
  const makeTransport: MakeTransport = (servers) => {
    made.servers.push(servers)
    return {
      query: async (name, family) => {
        made.asked.push(`${family} ${name}`)
        return made.replies.get(`${family} ${name}`) ?? NO_SUCH_NAME
      },
      close: () => undefined,
    }
  }
  const readText = async (path: string): Promise<string> => {
    made.reads.push(path)
    const text = made.files.get(path)
    if (text === undefined) throw new Error('ENOENT')
    return text
  }
  return { ...made, resolvers: new DnsResolvers({ clock: made.clock, readText, makeTransport }) }
}

const K8S = 'nameserver 10.96.0.10\nsearch prod.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5'

t.test('resolv.conf is read as the C library reads it', async (t) => {
  t.same(parseResolvConf(''), DEFAULT_RESOLV_CONF)
  t.same(parseResolvConf(`# comment\n; another\n${K8S} timeout:1 attempts:4 rotate\n`), {
    servers: ['10.96.0.10'],
    search: ['prod.svc.cluster.local', 'svc.cluster.local', 'cluster.local'],
    ndots: 5,
    timeoutMs: 1_000,
    attempts: 4,
  })
  const odd = parseResolvConf(
    'nameserver nonsense\r\nnameserver ::1\r\nnameserver\nnameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\n' +
      'search A.Test. .\ndomain last.test ignored\noptions ndots:99 timeout:0 attempts:x ndots:\noptions\nfamily inet4',
  )
  t.same(odd, {
    servers: ['::1', '1.1.1.1', '2.2.2.2'],
    search: ['last.test'],
    ndots: 0,
    timeoutMs: 1_000,
    attempts: 3,
  })
  t.equal(parseResolvConf('options ndots:99').ndots, 15)
  t.same(parseResolvConf('search .').search, [], 'the root appends nothing')
})

t.test('search domains come before or after the name itself, by ndots', async (t) => {
  const conf = { ...DEFAULT_RESOLV_CONF, search: ['a.test', 'b.test'] }
  t.same(searchOrder('web', conf), ['web.a.test', 'web.b.test', 'web'])
  t.same(searchOrder('web.x', conf), ['web.x', 'web.x.a.test', 'web.x.b.test'])
  t.same(searchOrder('web.x', { ...conf, ndots: 2 }), ['web.x.a.test', 'web.x.b.test', 'web.x'])
  t.same(searchOrder('web.', { ...conf, ndots: 5 }), ['web'], 'a trailing dot: as it is, and nothing else')
  t.same(searchOrder('web', { ...conf, ndots: 0 }), ['web', 'web.a.test', 'web.b.test'])
  t.same(searchOrder('web', DEFAULT_RESOLV_CONF), ['web'])
})

t.test('/etc/hosts is read with comments, aliases and several lines for one name', async (t) => {
  const hosts = parseHostsFile(
    '127.0.0.1 localhost\n::1\tlocalhost ip6-localhost # loopback\n#10.0.0.1 off\n  10.0.0.2 Web.Test. web\n10.0.0.3 web\n' +
      '10.0.0.3 web\n::ffff:10.0.0.4 mapped\nnot-an-address web\n10.0.0.9\n\n',
  )
  t.same(Object.fromEntries(hosts), {
    localhost: ['127.0.0.1', '::1'],
    'ip6-localhost': ['::1'],
    'web.test': ['10.0.0.2'],
    web: ['10.0.0.2', '10.0.0.3'],
    mapped: ['10.0.0.4'],
  })
})

t.test('addresses, localhost and names of the hosts file are never asked for', async (t) => {
  const f = fake({ '/etc/hosts': '10.0.0.7 db.internal\nfd00::7 db.internal\n10.0.0.8 v4.internal' })
  f.replies.set('6 v4.internal', answer('fd00::8'))
  const resolver = f.resolvers.for([])
  const cases: readonly [string, DnsFamily, string[]][] = [
    ['10.1.2.3', 'v6-only', ['10.1.2.3']],
    ['fd00::1', 'v4-only', ['fd00::1']],
    ['localhost', 'auto', ['::1']],
    ['LOCALHOST.', 'v4-preferred', ['127.0.0.1']],
    ['x.localhost', 'all', ['::1', '127.0.0.1']],
    ['db.internal', 'v4-only', ['10.0.0.7']],
    ['DB.internal.', 'auto', ['fd00::7']],
    ['db.internal', 'all', ['fd00::7', '10.0.0.7']],
    ['v4.internal', 'auto', ['10.0.0.8']],
  ]
  for (const [name, family, addresses] of cases) {
    const result = await resolver.resolve(name, family)
    t.same(result, { ok: true, addresses, ttlMs: undefined }, `${name} ${family}`)
  }
  t.same(f.asked, [])
  t.match(await resolver.resolve('v4.internal', 'v6-only'), { addresses: ['fd00::8'] }, 'a family the file lacks')
  t.same(f.asked, ['6 v4.internal'])
})

t.test('the hosts file overrides what localhost means', async (t) => {
  const f = fake({ '/etc/hosts': '127.0.0.5 localhost' })
  t.match(await f.resolvers.for([]).resolve('localhost', 'v4-only'), { addresses: ['127.0.0.5'] })
  t.match(await f.resolvers.for([]).resolve('localhost', 'v6-only'), { addresses: ['::1'] })
})

t.test('each address family policy asks for what it needs', async (t) => {
  const both = [answer('10.0.0.1'), answer('fd00::1')]
  const trouble: DnsReply = { code: 'ESERVFAIL', records: [] }
  const cases: readonly [DnsFamily, a: DnsReply, aaaa: DnsReply, string[] | string, asked: string][] = [
    ['v4-only', both[0], both[1], ['10.0.0.1'], '4'],
    ['v6-only', both[0], both[1], ['fd00::1'], '6'],
    ['auto', both[0], both[1], ['fd00::1'], '6'],
    ['auto', both[0], NO_RECORD, ['10.0.0.1'], '64'],
    ['auto', both[0], trouble, ['10.0.0.1'], '64'],
    ['auto', NO_RECORD, trouble, 'ESERVFAIL', '64'],
    ['auto', trouble, NO_RECORD, 'ESERVFAIL', '64'],
    ['v4-preferred', both[0], both[1], ['10.0.0.1'], '4'],
    ['v4-preferred', NO_RECORD, both[1], ['fd00::1'], '46'],
    ['v4-preferred', answer(), both[1], ['fd00::1'], '46'],
    ['all', both[0], both[1], ['fd00::1', '10.0.0.1'], '64'],
    ['all', both[0], trouble, ['10.0.0.1'], '64'],
    ['all', NO_RECORD, NO_SUCH_NAME, 'ENODATA', '64'],
    ['v4-only', NO_RECORD, both[1], 'ENODATA', '4'],
  ]
  for (const [family, a, aaaa, expected, asked] of cases) {
    const f = fake()
    f.replies.set('4 web.test', a).set('6 web.test', aaaa)
    const result = await f.resolvers.for([]).resolve('web.test', family)
    t.same(result.ok ? result.addresses : result.reason, expected, `${family} ${a.code} ${aaaa.code}`)
    t.equal(f.asked.map((q) => q[0]).join(''), asked)
  }
})

t.test('the search goes on after absence, and stops at trouble', async (t) => {
  const f = fake({ '/etc/resolv.conf': K8S })
  f.replies.set('4 web.svc.cluster.local', answer('10.0.0.1')).set('4 web.prod.svc.cluster.local', NO_RECORD)
  const resolver = f.resolvers.for([])
  t.match(await resolver.resolve('web', 'v4-only'), { addresses: ['10.0.0.1'], ttlMs: 30_000 })
  t.same(f.asked.splice(0), ['4 web.prod.svc.cluster.local', '4 web.svc.cluster.local'])
  t.same(f.servers, [{ servers: ['10.96.0.10'], timeoutMs: 2_000, attempts: 3 }])
  f.replies.set('4 web.prod.svc.cluster.local', { code: 'ESERVFAIL', records: [] })
  t.same(await resolver.resolve('web', 'v4-only'), { ok: false, reason: 'ESERVFAIL' })
  t.same(f.asked.splice(0), ['4 web.prod.svc.cluster.local'], 'an outage sends nobody to another host')
  t.same(await resolver.resolve('gone', 'v4-only'), { ok: false, reason: 'ENOTFOUND' })
  t.equal(f.asked.splice(0).length, 4)
  f.replies.set('4 gone', answer('10.0.0.2'))
  t.match(await resolver.resolve('gone.', 'v4-only'), { addresses: ['10.0.0.2'] })
  t.same(f.asked, ['4 gone'])
})

t.test('the machine files are read again after a while, and name servers followed', async (t) => {
  const f = fake({ '/etc/resolv.conf': 'nameserver 10.0.0.53' })
  const resolver = f.resolvers.for([])
  await Promise.all([resolver.resolve('a.test', 'v4-only'), resolver.resolve('b.test', 'v4-only')])
  t.equal(f.reads.length, 2, 'one reading of both files')
  f.files.set('/etc/resolv.conf', 'nameserver 10.0.0.54').set('/etc/hosts', '10.9.9.9 a.test')
  f.clock.advance(4_999)
  await resolver.resolve('c.test', 'v4-only')
  t.equal(f.reads.length, 2)
  f.clock.advance(1)
  t.match(await resolver.resolve('a.test', 'v4-only'), { addresses: ['10.9.9.9'] })
  await resolver.resolve('c.test', 'v4-only')
  t.same(
    f.servers.map((s) => s.servers),
    [['10.0.0.53'], ['10.0.0.54']],
  )
  t.equal(f.resolvers.for([]), resolver, 'one resolver per list of servers')
  t.not(f.resolvers.for(['10.0.0.1:53']), resolver)
})

t.test('TTLs, duplicates and very long answers', async (t) => {
  const f = fake()
  const resolver = f.resolvers.for([])
  const record = (address: string, ttlS: number) => ({ address, ttlS })
  f.replies.set('4 web.test', {
    code: '',
    records: [record('10.0.0.2', 60), record('10.0.0.1', 7), record('10.0.0.2', 9)],
  })
  t.same(await resolver.resolve('web.test', 'v4-only'), {
    ok: true,
    addresses: ['10.0.0.2', '10.0.0.1'],
    ttlMs: 7_000,
  })
  f.replies.set('6 web.test', { code: '', records: [record('::ffff:10.0.0.3', 2 ** 31)] })
  t.match(await resolver.resolve('web.test', 'all'), { addresses: ['10.0.0.3', '10.0.0.2', '10.0.0.1'], ttlMs: 0 })
  const many = Array.from({ length: 1_200 }, (_, i) => `10.0.${i >> 8}.${i & 255}`)
  f.replies.set('4 big.test', answer(...many))
  const first = (await resolver.resolve('big.test', 'v4-only')) as DnsFound
  t.equal(first.addresses.length, MAX_ADDRESSES)
  f.replies.set('4 big.test', answer(...many.slice(600), ...many.slice(0, 600)))
  t.same(await resolver.resolve('big.test', 'v4-only'), first, 'rotation does not change which ones are taken')
})

t.test('a question under way is shared, and only so many are asked at once', async (t) => {
  const open: (() => void)[] = []
  const asked: string[] = []
  const queries = new SharedQueries(
    {
      query: (name, family) => {
        asked.push(`${family} ${name}`)
        return new Promise((resolve) => open.push(() => resolve(answer('10.0.0.1'))))
      },
      close: () => undefined,
    },
    2,
  )
  const same = queries.query('a', 4)
  t.equal(queries.query('a', 4), same)
  const all = [same, queries.query('a', 6), queries.query('b', 4), queries.query('c', 4)]
  t.same(asked, ['4 a', '6 a'])
  open.shift()!()
  await settle()
  t.same(asked, ['4 a', '6 a', '4 b'])
  t.not(queries.query('a', 4), same, 'asked anew once it was answered')
  queries.close()
  for (const finish of open) finish()
  const replies = await Promise.all(all)
  t.same(
    replies.map((r) => r.code),
    ['', '', '', 'ECANCELLED'],
    'what still waits at the end is not asked',
  )
  t.equal(asked.length, 3)
})

t.test('a name that nobody answers for fails at the deadline', async (t) => {
  const f = fake()
  f.replies.set('4 slow.test', new Promise<DnsReply>(() => undefined))
  let result: DnsResult | undefined
  void f.resolvers
    .for([])
    .resolve('slow.test', 'v4-only')
    .then((r) => {
      result = r
    })
  await f.clock.advanceAsync(14_999)
  t.equal(result, undefined)
  await f.clock.advanceAsync(1)
  t.same(result, { ok: false, reason: 'ETIMEOUT' })
  f.replies.set('4 fast.test', answer('10.0.0.1'))
  await f.resolvers.for([]).resolve('fast.test', 'v4-only')
  t.equal(f.clock.pending, 0, 'no timer is left behind')
})

t.test('a real name server is asked over UDP, and over TCP for long answers', async (t) => {
  const leaks = watchLeaks()
  const server = await startDnsServer()
  const many = Array.from({ length: 300 }, (_, i) => `10.0.${i >> 8}.${i & 255}`)
  const many6 = Array.from({ length: 300 }, (_, i) => `fd00::${(i + 1).toString(16)}`)
  server.set('A', 'web.test', { addresses: ['10.0.0.2', '10.0.0.1'], ttlS: 17 })
  server.set('AAAA', 'web.test', { addresses: ['fd00:1::2'], ttlS: 5 })
  server.set('A', 'big.test', { addresses: many, ttlS: 0 })
  server.set('AAAA', 'big.test', { addresses: many6 })
  for (const word of ['NODATA', 'NXDOMAIN', 'SERVFAIL', 'REFUSED', 'garbage', 'silence'] as const) {
    server.set('A', `${word.toLowerCase()}.test`, word)
  }
  const makeTransport: MakeTransport = (servers) => nodeTransport({ ...servers, timeoutMs: 250, attempts: 1 })
  const readText = async (): Promise<string> => ''
  const resolvers = new DnsResolvers({ clock: new TestClock(), readText, makeTransport })
  const resolver = resolvers.for([server.address])
  t.same(await resolver.resolve('web.test', 'v4-only'), {
    ok: true,
    addresses: ['10.0.0.2', '10.0.0.1'],
    ttlMs: 17_000,
  })
  t.match(await resolver.resolve('Web.Test', 'all'), { addresses: ['fd00:1::2', '10.0.0.2', '10.0.0.1'], ttlMs: 5_000 })
  server.questions.length = 0
  for (const family of ['v4-only', 'v6-only'] as const) {
    const big = (await resolver.resolve('big.test', family)) as DnsFound
    t.equal(big.addresses.length, 300, family)
  }
  t.same(server.questions, ['A big.test.', 'A/tcp big.test.', 'AAAA big.test.', 'AAAA/tcp big.test.'])
  const failures: readonly [string, string][] = [
    ['nodata.test', 'ENODATA'],
    ['nxdomain.test', 'ENOTFOUND'],
    ['never-set.test', 'ENOTFOUND'],
    ['servfail.test', 'ESERVFAIL'],
    ['refused.test', 'EREFUSED'],
    ['garbage.test', 'EBADRESP'],
    ['silence.test', 'ETIMEOUT'],
    ['bad..name', 'EBADNAME'],
    [`${'x'.repeat(64)}.test`, 'EBADNAME'],
  ]
  for (const [name, reason] of failures) {
    t.same(await resolver.resolve(name, 'v4-only'), { ok: false, reason }, name)
  }
  // An answer to another question, or with another number, is none: nobody can slip one in.
  for (const lie of ['id', 'question'] as const) {
    server.set('A', `${lie}.test`, { lie, addresses: ['10.6.6.6'] })
    t.same(await resolver.resolve(`${lie}.test`, 'v4-only'), { ok: false, reason: 'ETIMEOUT' }, lie)
  }
  for (const lie of ['rdata', 'count'] as const) {
    server.set('A', `${lie}.test`, { lie, addresses: ['10.6.6.6'] })
    t.match(await resolver.resolve(`${lie}.test`, 'v4-only'), { ok: false }, lie)
  }
  server.questions.length = 0
  await Promise.all(Array.from({ length: 50 }, () => resolver.resolve('web.test', 'v4-only')))
  t.same(server.questions, ['A web.test.'], 'fifty askers, one question')
  await resolver.resolve('web.test', 'v4-only')
  t.equal(server.questions.length, 2, 'and no cache that would hide changes')
  const late = resolver.resolve('silence.test', 'v4-only')
  await settle()
  resolvers[Symbol.dispose]()
  t.same(await late, { ok: false, reason: 'ECANCELLED' })
  await server.close()
  t.match(
    await new DnsResolvers({ clock: new TestClock(), readText, makeTransport })
      .for([server.address])
      .resolve('web.test', 'v4-only'),
    {
      ok: false,
      reason: 'ECONNREFUSED',
    },
  )
  await leaks.assertNone()
})

t.test('names are completed, and asked for, as a configuration wants it', async (t) => {
  const f = fake({
    '/etc/resolv.conf': 'nameserver 10.0.0.53\nsearch a.test b.test\noptions ndots:2 timeout:2 attempts:3',
  })
  f.replies.set('4 web.a.test', answer('10.0.0.1'))
  t.match(await f.resolvers.for([]).resolve('web', 'v4-only'), { ok: true })
  t.match(await f.resolvers.for([], { whole: true }).resolve('web', 'v4-only'), { ok: false })
  t.same(f.asked, ['4 web.a.test', '4 web'])
  await f.resolvers.for(['192.0.2.1:53'], { fallback: true }).resolve('web', 'v4-only')
  t.match(f.servers.at(-1), { servers: ['10.0.0.53'] }, 'the machine has a name server')
  await f.resolvers.for(['192.0.2.1:53'], { timeoutMs: 500, tries: 1 }).resolve('web', 'v4-only')
  t.same(f.servers.at(-1), { servers: ['192.0.2.1:53'], timeoutMs: 500, attempts: 1 })
  const alone = fake({ '/etc/resolv.conf': '' })
  await alone.resolvers.for(['192.0.2.1:53'], { fallback: true }).resolve('web', 'v4-only')
  t.match(alone.servers.at(-1), { servers: ['192.0.2.1:53'] }, 'and this one has none')
  t.equal(f.resolvers.for(['192.0.2.1:53']), f.resolvers.for(['192.0.2.1:53'], {}), 'shared where they ask alike')
})

t.test('a lookup takes as long as it may', async (t) => {
  const f = fake()
  f.replies.set('4 slow.test', new Promise(() => undefined))
  const slow = f.resolvers.for([]).resolve('slow.test', 'v4-only', 2_000)
  await settle()
  t.equal(f.clock.nextInMs, 2_000)
  f.clock.advance(2_000)
  t.same(await slow, { ok: false, reason: 'ETIMEOUT' })
})

t.test('a name server that is no address is refused where it is configured', async (t) => {
  const resolvers = new DnsResolvers({ clock: new TestClock() })
  t.throws(() => resolvers.for(['dns.test:53']))
  t.throws(() => resolvers.for(['10.0.0.1:99999']))
  t.doesNotThrow(() => resolvers.for(['10.0.0.1', '[::1]:5353']))
})

t.test('parsers of machine files survive any text', async (t) => {
  const random = seeded(21)
  const words = [
    'nameserver',
    'search',
    'domain',
    'options',
    'ndots:',
    '1.1.1.1',
    '::1',
    '.',
    '#',
    ';',
    '\t',
    '\n',
    ' ',
    '\0',
    'é',
    ':',
    '9',
  ]
  for (let i = 0; i < 2_000; i++) {
    let text = ''
    for (let n = random.below(40); n > 0; n--) text += random.pick(words)
    const conf = parseResolvConf(text)
    t.ok(conf.servers.length <= 3 && conf.ndots >= 0 && conf.ndots <= 15 && conf.timeoutMs >= 1_000) || t.fail(text)
    for (const name of searchOrder('a.b', conf)) if (name.endsWith('.')) t.fail(`${JSON.stringify(text)}: ${name}`)
    parseHostsFile(text)
  }
})
