import assert from 'node:assert/strict'
import { BlockList, isIPv4 } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import { type ConnectionInfo, ConnectionState, plainConnection } from '../../lib/core/connection.ts'
import type { Json } from '../../lib/core/errors.ts'
import type { RequestHead } from '../../lib/core/head.ts'
import { Headers } from '../../lib/core/headers.ts'
import { noRuntime, type Runtime } from '../../lib/core/metrics.ts'
import { compileCidrs } from '../../lib/match/cidr.ts'
import type {
  FilterStateMatchConfig,
  HeaderMatchConfig,
  MatcherTreeConfig,
  MatchInputConfig,
  StringMatchConfig,
  ValueMatchConfig,
} from '../../lib/match/config.ts'
import { compileCookie } from '../../lib/match/cookie.ts'
import { compileFilterState } from '../../lib/match/filter-state.ts'
import { compileFraction } from '../../lib/match/fraction.ts'
import { compileHeader } from '../../lib/match/header.ts'
import { barePath, compilePath } from '../../lib/match/path.ts'
import { compileQueryParameter, queryParameter } from '../../lib/match/query.ts'
import { compileString } from '../../lib/match/string.ts'
import { compileMatcherTree, type MatchData } from '../../lib/match/tree.ts'
import { compileMetadata, compileValue } from '../../lib/match/value.ts'
import { connection, peer, tlsInfo } from '../support/peers.ts'

const HEAD: RequestHead = { method: 'GET', scheme: 'https', authority: 'a.example', path: '/p?q', protocol: undefined }

function string(kind: StringMatchConfig['kind'], value: string, ignoreCase = false): StringMatchConfig {
  return kind === 'regex' ? { kind, value } : { kind, value, ignoreCase }
}

t.test('a string matcher compares, with ASCII letters folded where case is ignored', async (t) => {
  const cases: [StringMatchConfig, string, boolean][] = [
    [string('exact', 'Foo'), 'Foo', true],
    [string('exact', 'Foo'), 'foo', false],
    [string('exact', 'Foo', true), 'fOO', true],
    [string('exact', ''), '', true],
    [string('prefix', 'Fo'), 'Foo', true],
    [string('prefix', 'Fo', true), 'fOx', true],
    [string('suffix', 'oo'), 'Foo', true],
    [string('suffix', 'OO', true), 'Foo', true],
    [string('suffix', 'Foo!'), 'Foo', false],
    [string('contains', 'o'), 'Foo', true],
    [string('contains', 'O', true), 'foo', true],
    [string('contains', 'x'), 'Foo', false],
    [string('exact', 'É', true), 'é', false],
    [string('exact', 'É', true), 'É', true],
    [string('regex', 'F.+'), 'Foo', true],
    [string('regex', 'o'), 'Foo', false],
  ]
  for (const [config, value, expected] of cases) t.equal(compileString(config)(value), expected, JSON.stringify(config))
})

t.test('a header matcher follows Envoy on missing, repeated, inverted and pseudo headers', async (t) => {
  const headers = new Headers(['a', '1', 'b', 'x', 'b', 'y', 'empty', '', 'n', '-42', 'm', '4x'])
  const exact = (name: string, value: string, more: Partial<HeaderMatchConfig> = {}): HeaderMatchConfig => ({
    name,
    match: { kind: 'string', string: string('exact', value) },
    ...more,
  })
  const present = (name: string, value: boolean, invert = false): HeaderMatchConfig => ({
    name,
    match: { kind: 'present', present: value },
    invert,
  })
  const range = (name: string, start: number, end: number): HeaderMatchConfig => ({
    name,
    match: { kind: 'range', start, end },
  })
  const cases: [HeaderMatchConfig, boolean][] = [
    [exact('a', '1'), true],
    [exact('a', '2'), false],
    [exact('A', '1'), true],
    [exact('a', '2', { invert: true }), true],
    [exact('b', 'x,y'), false],
    [exact('b', 'x'), true],
    [exact('b', 'y'), true],
    [exact('b', 'y', { invert: true }), false],
    [exact('b', 'z', { invert: true }), true],
    [exact('b', '', { treatMissingAsEmpty: true }), false],
    [{ name: 'b', match: { kind: 'string', string: string('prefix', 'X', true) } }, true],
    [exact('none', '1'), false],
    [exact('none', '1', { invert: true }), false],
    [exact('none', '1', { invert: true, treatMissingAsEmpty: true }), true],
    [exact('none', '', { treatMissingAsEmpty: true }), true],
    [exact('none', '', { treatMissingAsEmpty: true, invert: true }), false],
    [exact('none', ''), false],
    [exact('empty', ''), true],
    [present('a', true), true],
    [present('a', false), false],
    [present('none', false), true],
    [present('none', true), false],
    [present('none', true, true), true],
    [{ ...present('none', true), treatMissingAsEmpty: true }, true],
    [{ ...present('none', false), treatMissingAsEmpty: true }, false],
    [present('empty', true), true],
    [range('n', -43, -41), true],
    [range('n', -42, -41), true],
    [range('n', -50, -42), false],
    [range('m', 0, 100), false],
    [range('empty', 0, 1), false],
    [range('none', 0, 1), false],
    [{ ...range('n', 0, 1), invert: true }, true],
    [exact(':method', 'GET'), true],
    [exact(':path', '/p?q'), true],
    [exact(':authority', 'a.example'), true],
    [exact('host', 'a.example'), true],
    [exact(':scheme', 'https'), true],
    [present(':protocol', false), true],
  ]
  for (const [config, expected] of cases)
    t.equal(compileHeader(config)(headers, HEAD), expected, JSON.stringify(config))
  t.throws(
    () => compileHeader({ name: 'a', match: { kind: 'string', string: string('regex', '(?=a)') } }),
    /invalid regex/,
  )
})

t.test('a query parameter is the first of its name, as it stands', async (t) => {
  const cases: [string, string, string | undefined][] = [
    ['/p?a=1&a=2', 'a', '1'],
    ['/p?ab=1&a=2', 'a', '2'],
    ['/p?a', 'a', ''],
    ['/p?a=', 'a', ''],
    ['/p?b&a&c', 'a', ''],
    ['/p?a=%20x=y', 'a', '%20x=y'],
    ['/p?b=1#?a=2', 'a', undefined],
    ['/p#?a=2', 'a', undefined],
    ['/p', 'a', undefined],
    ['/p?', 'a', undefined],
    ['/p?&&a=1', 'a', '1'],
    ['/p?xa=1', 'a', undefined],
    ['/p?A=1', 'a', undefined],
    ['/p?a=1?b=2&b=3', 'b', '3'],
  ]
  for (const [path, name, expected] of cases) t.equal(queryParameter(path, name), expected, path)
  const exact = compileQueryParameter({ name: 'a', match: { kind: 'string', string: string('exact', '1') } })
  t.same([exact('/p?a=1'), exact('/p?a=2'), exact('/p')], [true, false, false])
  const present = compileQueryParameter({ name: 'a', match: { kind: 'present' } })
  t.same([present('/p?a'), present('/p?b')], [true, false])
  const absent = compileQueryParameter({ name: 'a', match: { kind: 'present', present: false } })
  t.same([absent('/p?a'), absent('/p?b')], [false, true])
})

t.test('a cookie is found over all fields and unquoted; an absent one matches only inverted', async (t) => {
  const headers = new Headers(['cookie', 'x=1; ab="q"; a=2', 'cookie', 'late=3;;  spaced = no'])
  const matches = (name: string, value: string, invert = false): boolean =>
    compileCookie({ name, string: string('exact', value), invert })(headers)
  t.ok(matches('x', '1'))
  t.ok(matches('ab', 'q'))
  t.ok(matches('a', '2'))
  t.ok(matches('late', '3'))
  t.notOk(matches('b', 'q'))
  t.notOk(matches('X', '1'))
  t.notOk(matches('spaced', 'no'))
  t.ok(matches('none', '1', true))
  t.notOk(matches('x', '1', true))
})

t.test('a value matcher knows the kinds of JSON values', async (t) => {
  const cases: [ValueMatchConfig, Json | undefined, boolean][] = [
    [{ kind: 'null' }, null, true],
    [{ kind: 'null' }, undefined, false],
    [{ kind: 'double', exact: 1.5 }, 1.5, true],
    [{ kind: 'double', exact: 1.5 }, '1.5', false],
    [{ kind: 'double', start: 1, end: 2 }, 1, true],
    [{ kind: 'double', start: 1, end: 2 }, 2, false],
    [{ kind: 'string', string: string('prefix', 'a') }, 'abc', true],
    [{ kind: 'string', string: string('prefix', 'a') }, 1, false],
    [{ kind: 'bool', value: false }, false, true],
    [{ kind: 'bool', value: false }, undefined, false],
    [{ kind: 'present', present: true }, null, true],
    [{ kind: 'present', present: true }, undefined, false],
    [{ kind: 'present', present: false }, undefined, true],
    [{ kind: 'list', oneOf: { kind: 'double', exact: 2 } }, [1, 2], true],
    [{ kind: 'list', oneOf: { kind: 'double', exact: 3 } }, [1, 2], false],
    [{ kind: 'list', oneOf: { kind: 'double', exact: 2 } }, 2, false],
    [{ kind: 'or', values: [{ kind: 'null' }, { kind: 'bool', value: true }] }, true, true],
    [{ kind: 'or', values: [] }, true, false],
  ]
  for (const [config, value, expected] of cases) t.equal(compileValue(config)(value), expected, JSON.stringify(config))
})

t.test('a metadata matcher walks own keys only', async (t) => {
  const metadata = { get: (ns: string): Json | undefined => (ns === 'n' ? { a: { b: 'x' }, l: ['x'] } : undefined) }
  const value: ValueMatchConfig = { kind: 'string', string: string('exact', 'x') }
  const matches = (namespace: string, path: string[], invert = false): boolean =>
    compileMetadata({ namespace, path, value, invert })(metadata)
  t.ok(matches('n', ['a', 'b']))
  t.notOk(matches('n', ['a', 'b'], true))
  t.notOk(matches('n', ['a', 'c']))
  t.ok(matches('m', ['a'], true))
  t.notOk(matches('n', ['l', '0']))
  t.notOk(
    compileMetadata({ namespace: 'n', path: ['constructor'], value: { kind: 'present', present: true } })(metadata),
  )
})

t.test('a fraction takes its share of draws, and a runtime value overrides it', async (t) => {
  const share = (c: Parameters<typeof compileFraction>[0], runtime: Runtime = noRuntime): number => {
    const test = compileFraction(c, runtime)
    let hits = 0
    for (let i = 0; i < 1000; i++) if (test(i / 1000)) hits++
    return hits
  }
  const runtime = (value: unknown): Runtime => ({ get: (key) => (key === 'k' ? value : undefined) })
  const half = { numerator: 5_000, denominator: 10_000, runtimeKey: 'k' } as const
  t.equal(share({ numerator: 0, denominator: 100 }), 0)
  t.equal(share({ numerator: 100, denominator: 100 }), 1000)
  t.equal(share({ numerator: 1_000, denominator: 1_000_000 }), 1)
  t.equal(share(half), 500)
  t.equal(share(half, runtime(undefined)), 500)
  t.equal(share(half, runtime(25)), 250, 'a plain number is per cent')
  t.equal(share(half, runtime('25')), 250)
  t.equal(share(half, runtime(500)), 1000)
  t.equal(share(half, runtime({ numerator: 1, denominator: 'TEN_THOUSAND' })), 1)
  t.equal(share(half, runtime({ numerator: 1 })), 10)
  t.equal(share(half, runtime({ numerator: 1, denominator: 7 })), 500)
  t.equal(share(half, runtime(-3)), 500)
  t.equal(share(half, runtime(true)), 500)
})

t.test('a set of ranges says what node:net says, and sees through v4-mapped spellings', async (t) => {
  const octet = fc.integer({ min: 0, max: 255 })
  const v4 = fc.tuple(fc.constantFrom(10, 192), fc.constantFrom(0, 1, 255), octet, octet).map((o) => o.join('.'))
  const group = fc.constantFrom('0', '1', 'ffff', 'db8', '2001')
  const v6 = fc.array(group, { minLength: 8, maxLength: 8 }).map((g) => g.join(':'))
  const range = fc.oneof(fc.tuple(v4, fc.integer({ min: 0, max: 32 })), fc.tuple(v6, fc.integer({ min: 0, max: 128 })))
  fc.assert(
    fc.property(fc.array(range, { maxLength: 5 }), fc.array(fc.oneof(v4, v6), { minLength: 1 }), (ranges, ips) => {
      // One list per family: BlockList takes IPv4 for part of ::/n, Envoy and we do not.
      const lists = { ipv4: new BlockList(), ipv6: new BlockList() }
      const family = (ip: string): 'ipv4' | 'ipv6' => (isIPv4(ip) ? 'ipv4' : 'ipv6')
      for (const [address, length] of ranges) lists[family(address)].addSubnet(address, length, family(address))
      const test = compileCidrs(ranges.map(([address, prefixLength]) => ({ address, prefixLength })))
      for (const ip of ips) {
        assert.equal(test(ip), lists[family(ip)].check(ip, family(ip)), `${ip} in ${JSON.stringify(ranges)}`)
      }
    }),
    { numRuns: 500, seed: 3 },
  )
  const ten = compileCidrs([{ address: '10.0.0.0', prefixLength: 8 }])
  for (const ip of ['10.1.2.3', '::ffff:10.1.2.3', '::FFFF:a01:203', '0:0:0:0:0:ffff:10.1.2.3', '0::ffff:0a01:0203']) {
    t.ok(ten(ip), ip)
  }
  for (const ip of ['11.0.0.1', '::10.1.2.3', '/run/socket', '', '10.1.2', '10.1.2.3.4', '10.1.2.256'])
    t.notOk(ten(ip), ip)
  t.ok(compileCidrs([{ address: '::ffff:10.0.0.0', prefixLength: 104 }])('10.9.9.9'))
  t.ok(compileCidrs([{ address: 'fe80::', prefixLength: 10 }])('fe80::1%eth0'))
  t.throws(() => compileCidrs([{ address: 'ten', prefixLength: 8 }]), /"ten\/8"/)
  t.throws(() => compileCidrs([{ address: '10.0.0.0', prefixLength: 33 }]), /"10.0.0.0\/33"/)
})

t.test('a path matcher sees neither query nor fragment', async (t) => {
  t.same(['/a?b#c', '/a#b?c', '/a', '?', ''].map(barePath), ['/a', '/a', '/a', '', ''])
  const separated = compilePath({ kind: 'path-separated-prefix', value: '/a', caseSensitive: true })
  t.same(['/a', '/a/', '/a/b', '/ab', '/'].map(separated), [true, true, true, false, false])
  const folded = compilePath({ kind: 'exact', value: '/A', caseSensitive: false })
  t.same(['/a', '/A', '/ab'].map(folded), [true, true, false])
  t.equal(compilePath({ kind: 'connect' })('/'), false)
  t.equal(compilePath({ kind: 'template', value: '/{a}' })('/x'), true)
  t.equal(compilePath({ kind: 'regex', value: '/x' })('/xy'), false)
})

const CONNECTION: ConnectionInfo = {
  ...plainConnection({
    id: 1,
    remoteAddress: '192.0.2.1',
    remotePort: 2,
    localAddress: '192.0.2.2',
    localPort: 8443,
    kind: 'ip',
    listenerName: 'l',
  }),
  directRemoteAddress: '192.0.2.9',
  directRemotePort: 1,
  filterChainName: 'c',
}

function data(raw: string[], path = '/p?v=2'): MatchData {
  return {
    head: { ...HEAD, path },
    request: new Headers(raw),
    response: new Headers(['x-r', 'yes']),
    status: 204,
    connection: CONNECTION,
    metadata: { get: () => ({ who: 'me' }) },
    info: { clientAddress: '203.0.113.7' },
  }
}

t.test('a matcher tree goes on where a nested matcher finds nothing', async (t) => {
  const header = (name: string) => ({ kind: 'request-header', name }) as const
  const is = (name: string, value: string) =>
    ({ kind: 'single', input: header(name), string: string('exact', value) }) as const
  const tree: MatcherTreeConfig<string> = {
    list: [
      {
        predicate: is('a', '1'),
        onMatch: { matcher: { list: [{ predicate: is('b', '1'), onMatch: { action: 'ab' } }] } },
      },
      { predicate: is('c', '1'), onMatch: { action: 'kept', keepMatching: true } },
      {
        predicate: { kind: 'and', predicates: [is('a', '1'), { kind: 'not', predicate: is('b', '2') }] },
        onMatch: { action: 'a' },
      },
      { predicate: { kind: 'or', predicates: [is('d', '1'), is('e', '1')] }, onMatch: { action: 'de' } },
    ],
    onNoMatch: { action: 'otherwise' },
  }
  const match = compileMatcherTree(tree)
  t.equal(match(data(['a', '1', 'b', '1'])), 'ab')
  t.equal(match(data(['a', '1'])), 'a')
  t.equal(match(data(['a', '1', 'b', '2'])), 'otherwise')
  t.equal(match(data(['e', '1'])), 'de')
  t.equal(match(data([])), 'otherwise')
  const kept: string[] = []
  t.equal(
    match(data(['c', '1', 'd', '1']), (action) => kept.push(action)),
    'de',
  )
  t.same(kept, ['kept'])
  t.equal(compileMatcherTree({})(data([])), undefined)
})

t.test('a map of a matcher tree finds exact values and the longest prefix that leads somewhere', async (t) => {
  const nested = {
    matcher: { tree: { input: { kind: 'response-status' }, kind: 'exact', map: [['500', { action: 'no' }]] } },
  } as const
  const input = { kind: 'request-header', name: ':path' } as const
  const prefixes = compileMatcherTree<string>({
    tree: {
      input,
      kind: 'prefix',
      map: [
        ['/', { action: 'root' }],
        ['/a', { action: 'a' }],
        ['/a/b', nested],
      ],
    },
  })
  t.equal(prefixes(data([], '/a/b/c')), 'a', 'the nested matcher finds nothing, the next shorter prefix does')
  t.equal(prefixes(data([], '/x')), 'root')
  t.equal(prefixes(data([], 'x')), undefined)
  const of = (input: NonNullable<MatcherTreeConfig<string>['tree']>['input'], value: string): string | undefined =>
    compileMatcherTree<string>({ tree: { input, kind: 'exact', map: [[value, { action: 'hit' }]] } })(
      data(['h', 'a', 'h', 'b']),
    )
  t.equal(of({ kind: 'request-header', name: 'h' }, 'a,b'), 'hit')
  t.equal(of({ kind: 'response-header', name: 'x-r' }, 'yes'), 'hit')
  t.equal(of({ kind: 'response-status' }, '204'), 'hit')
  t.equal(of({ kind: 'query-parameter', name: 'v' }, '2'), 'hit')
  t.equal(of({ kind: 'metadata', namespace: 'n', path: ['who'] }, 'me'), 'hit')
  t.equal(of({ kind: 'source-ip' }, '203.0.113.7'), 'hit')
  t.equal(of({ kind: 'direct-source-ip' }, '192.0.2.9'), 'hit')
  t.equal(of({ kind: 'destination-ip' }, '192.0.2.2'), 'hit')
  t.equal(of({ kind: 'destination-port' }, '8443'), 'hit')
  t.equal(of({ kind: 'server-name' }, ''), undefined)
  t.equal(of({ kind: 'request-header', name: 'none' }, ''), undefined)
})

t.test('a connection alone answers what it knows, and nothing of requests', async (t) => {
  const certificate = peer({ subject: 'CN=a', uriSans: ['spiffe://a', 'spiffe://b'], dnsSans: ['a.example'] })
  const known: ConnectionInfo = connection({
    remotePort: 4711,
    serverName: 'a.example',
    transportProtocol: 'tls',
    applicationProtocols: ['h2', 'http/1.1'],
    tls: tlsInfo({ peer: certificate }),
  })
  const hits = (from: ConnectionInfo, input: MatchInputConfig, value: string): boolean =>
    compileMatcherTree<string>({ tree: { input, kind: 'exact', map: [[value, { action: 'hit' }]] } })({
      connection: from,
      metadata: { get: () => undefined },
      filterState: { get: (key) => ({ text: 'x', number: 7, object: {} })[key] },
    }) === 'hit'
  const plain = connection()
  for (const [kind, value] of [
    ['source-ip', '203.0.113.7'],
    ['source-port', '4711'],
    ['destination-port', '443'],
    ['server-name', 'a.example'],
    ['transport-protocol', 'tls'],
    ['application-protocol', "'h2','http/1.1'"],
    ['uri-san', 'spiffe://a,spiffe://b'],
    ['dns-san', 'a.example'],
    ['subject', 'CN=a'],
  ] as const) {
    t.equal(hits(known, { kind }, value), true, kind)
    t.equal(hits(known, { kind }, ''), false, kind)
    if (!kind.startsWith('source-ip') && kind !== 'destination-port') t.equal(hits(plain, { kind }, value), false, kind)
    if (!kind.endsWith('ip') && !kind.endsWith('port')) t.equal(hits(plain, { kind }, ''), false, `${kind}: no value`)
  }
  t.equal(hits(plain, { kind: 'source-type' }, 'local'), false)
  for (const remoteAddress of ['127.8.9.1', '::1', '192.0.2.1']) {
    t.equal(hits({ ...plain, remoteAddress }, { kind: 'source-type' }, 'local'), true, remoteAddress)
  }
  const tunnel = (remoteAddress: string, localAddress = ''): ConnectionInfo => ({
    ...plain,
    kind: 'internal',
    remoteAddress,
    localAddress,
  })
  const local = (from: ConnectionInfo): boolean => hits(from, { kind: 'source-type' }, 'local')
  t.equal(local(tunnel('203.0.113.7')), false, 'the client of a tunnel is where its address says')
  t.equal(local(tunnel('127.0.0.1')), true)
  t.equal(local(tunnel('')), false, 'nobody knows')
  t.equal(local({ ...plain, kind: 'pipe', remoteAddress: '' }), true)
  for (const kind of ['source-port', 'destination-port'] as const) {
    t.equal(hits({ ...plain, kind: 'pipe', localPort: 0, remotePort: 0 }, { kind }, '0'), false, 'a path has no port')
  }
  t.equal(hits(plain, { kind: 'filter-state', key: 'text' }, 'x'), true)
  t.equal(hits(plain, { kind: 'filter-state', key: 'number' }, '7'), true)
  t.equal(hits(plain, { kind: 'filter-state', key: 'object' }, '{}'), false)
  t.equal(hits(plain, { kind: 'filter-state', key: 'none' }, ''), false)
  const tunnelled = { ...plain, state: new ConnectionState(1, certificate) }
  t.equal(hits(tunnelled, { kind: 'subject' }, 'CN=a'), true, 'the identity of the tunnel around it')
  for (const input of [
    { kind: 'request-header', name: ':path' },
    { kind: 'query-parameter', name: 'a' },
    { kind: 'response-header', name: 'a' },
    { kind: 'response-status' },
  ] as const) {
    t.equal(hits(known, input, ''), false, input.kind)
  }
})

t.test('filter state is matched as text or as an address, and only where it is there', async (t) => {
  const match = (config: FilterStateMatchConfig, value: unknown): boolean =>
    compileFilterState(config)({ get: (key) => (key === 'k' ? value : undefined) })
  const text: FilterStateMatchConfig = { key: 'k', string: string('prefix', 'a') }
  t.equal(match(text, 'ab'), true)
  t.equal(match(text, 'b'), false)
  t.equal(match(text, undefined), false)
  t.equal(match({ ...text, key: 'other' }, 'ab'), false)
  const ranges = [{ address: '10.0.0.0', prefixLength: 8 }]
  t.equal(match({ key: 'k', ranges }, '10.1.1.1'), true)
  t.equal(match({ key: 'k', ranges }, '::ffff:10.1.1.1'), true)
  t.equal(match({ key: 'k', ranges }, 'no address'), false)
  t.equal(match({ key: 'k', ranges, invert: true }, '11.1.1.1'), true)
  t.equal(match({ key: 'k', ranges, invert: true }, undefined), false)
  t.equal(match({ key: 'k', ranges, invert: true }, 'no address'), false, 'what is no address is outside of nothing')
  t.equal(match({ key: 'k', ranges, invert: true }, ''), false)
  t.equal(match({ key: 'k', ranges }, '10.1.1.1:80'), true, 'addresses of connections come with their ports')
  t.equal(match({ key: 'k', ranges, invert: true }, '10.1.1.1:80'), false)
  t.equal(match({ key: 'k', ranges }, '[::ffff:10.1.1.1]:80'), true)
  t.equal(match({ key: 'k', ranges, invert: true }, '[2001:db8::1]:80'), true)
  t.equal(match({ key: 'k', ranges, invert: true }, '2001:db8::1'), true)
})
