import t from 'tap'
import { findSameMatches } from '../../lib/config/chain-match.ts'
import type { FilterChainConfig, FilterChainMatchConfig } from '../../lib/config/listener.ts'
import { type ConnectionInfo, ConnectionState } from '../../lib/core/connection.ts'
import { compileCidrs } from '../../lib/match/cidr.ts'
import type { CidrConfig, MatcherTreeConfig } from '../../lib/match/config.ts'
import { compileChainChoice, compileNamedChoice } from '../../listeners/chain-match.ts'
import { connection } from '../support/listener-filter.ts'
import { seeded } from '../support/random.ts'

const ANY: FilterChainMatchConfig = {
  destinations: [],
  serverNames: [],
  applicationProtocols: [],
  directSources: [],
  sourceType: 'any',
  sources: [],
  sourcePorts: [],
}

function chain(match: Partial<FilterChainMatchConfig> | undefined, name = ''): FilterChainConfig {
  return { name, networkFilters: [], ...(match && { match: { ...ANY, ...match } }) }
}

function cidr(text: string): CidrConfig {
  const [address, length] = text.split('/')
  return { address, prefixLength: Number(length) }
}

/** Index of the chain that a connection with these facts gets. */
function choose(
  matches: readonly (Partial<FilterChainMatchConfig> | undefined)[],
  facts: Partial<ConnectionInfo>,
): number {
  return compileChainChoice(matches.map((match) => chain(match)))(connection(facts))
}

t.test('each step prefers the most specific value', (t) => {
  t.equal(choose([], {}), -1, 'no chains')
  t.equal(choose([undefined], {}), 0, 'one that takes all')
  t.equal(choose([{ serverNames: ['a.example'] }], {}), -1)

  const ports = [{ destinationPort: 443 }, { destinationPort: 80 }, undefined]
  t.equal(choose(ports, { localPort: 80 }), 1)
  t.equal(choose(ports, { localPort: 8080 }), 2)

  const destinations = ['0.0.0.0/0', '10.0.0.0/8', '10.1.0.0/16', '10.1.2.3/32', '2001:db8::/32', '::/0'].map(
    (range) => ({
      destinations: [cidr(range)],
    }),
  )
  const at = (localAddress: string): number => choose([...destinations, undefined], { localAddress })
  t.same(
    ['192.0.2.1', '10.9.9.9', '10.1.9.9', '10.1.2.3', '2001:db8::1', '2001:db9::1', '::ffff:10.1.2.3', '/a/socket'].map(
      at,
    ),
    [0, 1, 2, 3, 4, 5, 3, 6],
  )

  const names = [
    { serverNames: ['*.example.com'] },
    { serverNames: ['a.example.com', 'other.test'] },
    { serverNames: ['*.b.example.com'] },
    { serverNames: ['*.com'] },
    undefined,
  ]
  const named = (serverName: string | undefined): number => choose(names, { serverName })
  t.same(
    [
      'a.example.com',
      'other.test',
      'x.example.com',
      'x.y.example.com',
      'b.example.com',
      'x.b.example.com',
      'x.y.b.example.com',
      'example.com',
      'com',
      'example.org',
      '.com',
      '',
      undefined,
    ].map(named),
    [1, 1, 0, 0, 0, 2, 2, 3, 4, 4, 4, 4, 4],
  )

  const transports = [{ transportProtocol: 'tls' }, { transportProtocol: 'raw_buffer' }, undefined] as const
  t.equal(choose(transports, { transportProtocol: 'tls' }), 0)
  t.equal(choose(transports, { transportProtocol: 'raw_buffer' }), 1)
  t.equal(choose(transports, { transportProtocol: '' }), 1, 'nobody has looked: raw_buffer, as in Envoy')

  const protocols = [{ applicationProtocols: ['h2'] }, { applicationProtocols: ['http/1.1', 'http/1.0'] }, undefined]
  t.equal(choose(protocols, { applicationProtocols: ['http/1.1', 'h2'] }), 1, 'the order of the client counts')
  t.equal(choose(protocols, { applicationProtocols: ['spdy', 'h2'] }), 0)
  t.equal(choose(protocols, { applicationProtocols: ['spdy'] }), 2)
  t.equal(choose([protocols[0], undefined], { applicationProtocols: ['http/1.1'] }), 1)
  t.equal(choose([protocols[0], undefined], { applicationProtocols: ['x', 'h2'] }), 0)

  const types = [{ sourceType: 'same-ip-or-loopback' }, { sourceType: 'external' }, undefined] as const
  t.equal(choose(types, { remoteAddress: '127.0.0.9' }), 0)
  t.equal(choose(types, { remoteAddress: '::1' }), 0)
  t.equal(choose(types, { remoteAddress: '192.0.2.1', localAddress: '192.0.2.1' }), 0)
  t.equal(choose(types, { remoteAddress: '192.0.2.9' }), 1)
  t.equal(choose([types[1], undefined], { remoteAddress: '::1' }), 1)
  t.equal(choose(types, { kind: 'pipe', remoteAddress: '' }), 0, 'a client of a Unix socket is local')

  const sources = [{ sources: [cidr('10.0.0.0/8')] }, { directSources: [cidr('10.0.0.0/8')] }, undefined]
  t.equal(choose(sources, { remoteAddress: '10.0.0.1' }), 0)
  t.equal(choose(sources, { directRemoteAddress: '10.0.0.1' }), 1, 'the direct one comes first')
  t.equal(choose(sources, { directRemoteAddress: '10.0.0.1', remoteAddress: '10.0.0.1' }), 1)

  const sourcePorts = [{ sourcePorts: [1, 2] }, undefined]
  t.equal(choose(sourcePorts, { remotePort: 2 }), 0)
  t.equal(choose(sourcePorts, { remotePort: 3 }), 1)
  t.end()
})

t.test('a step that was decided is not taken back', (t) => {
  const byPort = [{ destinationPort: 443, serverNames: ['a.example'] }, undefined]
  t.equal(choose(byPort, { localPort: 443, serverName: 'b.example' }), -1, 'although the second takes every connection')
  t.equal(choose(byPort, { localPort: 80, serverName: 'b.example' }), 1)
  const byName = [
    { serverNames: ['a.example'], transportProtocol: 'raw_buffer' },
    { serverNames: ['*.example'] },
  ] as const
  t.equal(choose(byName, { serverName: 'a.example', transportProtocol: 'tls' }), -1)
  const byRange = [{ destinations: [cidr('10.1.0.0/16')], sourcePorts: [1] }, { destinations: [cidr('10.0.0.0/8')] }]
  t.equal(choose(byRange, { localAddress: '10.1.0.1', remotePort: 2 }), -1)
  t.equal(choose(byRange, { localAddress: '10.2.0.1', remotePort: 2 }), 1)
  t.end()
})

t.test('chains between which nothing decides are found, by pairs', (t) => {
  const same = (...matches: (Partial<FilterChainMatchConfig> | undefined)[]): unknown =>
    findSameMatches(matches.map((match) => chain(match))).map(({ first, second }) => [first, second])
  t.same(same(undefined, undefined), [[0, 1]])
  t.same(same({}, undefined, { serverNames: ['a'] }), [[0, 1]], 'an empty match is none')
  t.same(same({ serverNames: ['a', 'b'] }, { serverNames: ['b', 'c'] }, { serverNames: ['c', 'd'] }), [
    [0, 1],
    [1, 2],
  ])
  t.same(same({ serverNames: ['a'] }, { serverNames: ['*.a'] }, { serverNames: ['a'], destinationPort: 1 }), [])
  t.same(
    same({ sources: [cidr('10.0.0.0/8')] }, { sources: [cidr('10.1.2.3/8')] }),
    [[0, 1]],
    'one range, two spellings',
  )
  t.same(same({ sources: [cidr('::ffff:10.0.0.0/104')] }, { sources: [cidr('10.0.0.0/8')] }), [[0, 1]])
  t.same(same({ serverNames: ['a', 'a'] }), [], 'a name that is listed twice is one name')
  t.throws(() => compileChainChoice([chain(undefined), chain({})]), /filter chains 0 and 1 match the same connections/)
  t.end()
})

t.test('ten thousand chains are told apart, wildcards among them', (t) => {
  const chains = Array.from({ length: 10_000 }, (_, i) =>
    chain({
      serverNames: [i % 2 === 0 ? `s${i}.example` : `*.s${i}.example`],
      transportProtocol: 'tls',
      applicationProtocols: ['h2', 'http/1.1'],
    }),
  )
  t.same(findSameMatches(chains), [])
  const chosen = compileChainChoice(chains)
  const facts = { transportProtocol: 'tls', applicationProtocols: ['http/1.1'] } as const
  const wrong = chains.findIndex((_, i) => {
    const serverName = i % 2 === 0 ? `s${i}.example` : `deep.down.s${i}.example`
    return chosen(connection({ ...facts, serverName })) !== i
  })
  t.equal(wrong, -1)
  t.equal(chosen(connection({ ...facts, serverName: 's1.example' })), -1, 'a wildcard does not stand for nothing')
  t.end()
})

// ——— The oracle: Envoy's rule said plainly, chain by chain

type Specificity = (match: FilterChainMatchConfig, facts: ConnectionInfo) => number

/** How specific a chain's value is for a connection at one step: 0 takes all, -1 does not fit. */
const RULE: readonly Specificity[] = [
  ({ destinationPort: port }, { localPort }) => (port === undefined ? 0 : port === localPort ? 1 : -1),
  ({ destinations }, { localAddress }) => longest(destinations, localAddress),
  ({ serverNames }, { serverName = '' }) => specificName(serverNames, serverName),
  ({ transportProtocol: wanted }, { transportProtocol }) =>
    wanted === undefined ? 0 : wanted === (transportProtocol || 'raw_buffer') ? 1 : -1,
  ({ applicationProtocols: wanted }, { applicationProtocols: offered }) => {
    if (wanted.length === 0) return 0
    const at = offered.findIndex((name) => wanted.includes(name))
    return at < 0 ? -1 : 1000 - at
  },
  ({ directSources }, { directRemoteAddress }) => longest(directSources, directRemoteAddress),
  ({ sourceType }, { remoteAddress, localAddress }) => {
    if (sourceType === 'any') return 0
    const local = remoteAddress === localAddress || remoteAddress.startsWith('127.') || remoteAddress === '::1'
    return local === (sourceType === 'same-ip-or-loopback') ? 1 : -1
  },
  ({ sources }, { remoteAddress }) => longest(sources, remoteAddress),
  ({ sourcePorts }, { remotePort }) => (sourcePorts.length === 0 ? 0 : sourcePorts.includes(remotePort) ? 1 : -1),
]

function longest(ranges: readonly CidrConfig[], address: string): number {
  if (ranges.length === 0) return 0
  const fitting = ranges.filter((range) => compileCidrs([range])(address))
  return fitting.length === 0 ? -1 : 1 + Math.max(...fitting.map(({ prefixLength }) => prefixLength))
}

function specificName(names: readonly string[], asked: string): number {
  if (names.length === 0) return 0
  const fits = (name: string): boolean =>
    name.startsWith('*.') ? asked.endsWith(name.slice(1)) && asked.length >= name.length : name === asked
  const fitting = names.filter(fits).map((name) => (name === asked ? 1_000_000 : name.length))
  return fitting.length === 0 ? -1 : Math.max(...fitting)
}

function oracle(matches: readonly (FilterChainMatchConfig | undefined)[], facts: ConnectionInfo): number {
  let left = [...matches.keys()]
  for (const specificity of RULE) {
    const scored = left
      .map((i) => ({ i, score: specificity(matches[i] ?? ANY, facts) }))
      .filter(({ score }) => score >= 0)
    const best = Math.max(...scored.map(({ score }) => score))
    left = scored.filter(({ score }) => score === best).map(({ i }) => i)
    if (left.length === 0) return -1
  }
  return left[0]
}

t.test("the compiled choice is the one that Envoy's rule makes, for any chains and connections", (t) => {
  const { next: random, pick } = seeded(0x51d)
  const some = <T>(list: readonly T[], chance = 0.4): T[] =>
    random() < chance ? list.filter(() => random() < 0.4) : []
  const ranges = [
    '0.0.0.0/0',
    '10.0.0.0/8',
    '10.1.0.0/16',
    '10.1.1.0/24',
    '10.1.1.1/32',
    '::/0',
    '2001:db8::/32',
    '127.0.0.0/8',
  ].map(cidr)
  const names = ['a.x.test', 'b.x.test', '*.x.test', '*.test', 'x.test', '*.a.x.test']
  const addresses = ['10.1.1.1', '10.1.1.9', '10.1.9.9', '10.9.9.9', '127.0.0.1', '::1', '2001:db8::5', '192.0.2.1']
  const randomMatch = (): FilterChainMatchConfig => {
    const port = random() < 0.4 ? pick([80, 443]) : undefined
    const transport = random() < 0.3 ? pick(['tls', 'raw_buffer'] as const) : undefined
    return {
      ...(port !== undefined && { destinationPort: port }),
      destinations: some(ranges, 0.3),
      serverNames: some(names),
      ...(transport && { transportProtocol: transport }),
      applicationProtocols: some(['h2', 'http/1.1', 'x'], 0.3),
      directSources: some(ranges, 0.2),
      sourceType: pick(['any', 'any', 'any', 'same-ip-or-loopback', 'external']),
      sources: some(ranges, 0.2),
      sourcePorts: some([1, 2], 0.2),
    }
  }
  const seen = { matched: 0, unmatched: 0 }
  for (let round = 0; round < 300; round++) {
    let matches = Array.from({ length: 1 + Math.floor(random() * 12) }, randomMatch)
    const twice = new Set(findSameMatches(matches.map((match) => chain(match))).map(({ second }) => second))
    matches = matches.filter((_, i) => !twice.has(i))
    const chosen = compileChainChoice(matches.map((match) => chain(match)))
    for (let n = 0; n < 40; n++) {
      const facts = connection({
        localPort: pick([80, 443, 8080]),
        localAddress: pick(addresses),
        serverName: pick([undefined, 'a.x.test', 'b.x.test', 'c.x.test', 'x.test', 'n.a.x.test', 'other']),
        transportProtocol: pick(['', 'tls', 'raw_buffer']),
        applicationProtocols: some(['http/1.1', 'h2', 'y'], 0.7),
        directRemoteAddress: pick(addresses),
        remoteAddress: pick(addresses),
        remotePort: pick([1, 2, 3]),
      })
      const expected = oracle(matches, facts)
      if (expected < 0) seen.unmatched++
      else seen.matched++
      if (chosen(facts) !== expected)
        t.fail(`round ${round}: ${JSON.stringify({ matches, facts, expected, found: chosen(facts) })}`)
    }
  }
  t.ok(seen.matched > 1000 && seen.unmatched > 1000, `both happen: ${JSON.stringify(seen)}`)
  t.end()
})

t.test('a matcher tree chooses by name, over all that is known of a connection', (t) => {
  const chains = ['web', 'mesh', 'other', 'secret'].map((name) => chain(undefined, name))
  const byPort: MatcherTreeConfig<string> = {
    tree: {
      input: { kind: 'destination-port' },
      kind: 'exact',
      map: [
        ['443', { action: 'web' }],
        ['9000', { action: 'nowhere' }],
      ],
    },
    onNoMatch: {
      matcher: {
        list: [
          {
            predicate: {
              kind: 'single',
              input: { kind: 'server-name' },
              string: { kind: 'suffix', value: '.mesh' },
            },
            onMatch: { action: 'mesh' },
          },
          {
            predicate: {
              kind: 'and',
              predicates: [
                { kind: 'single', input: { kind: 'filter-state', key: 'who' }, string: { kind: 'exact', value: 'me' } },
                {
                  kind: 'single',
                  input: { kind: 'metadata', namespace: 'ns', path: ['k'] },
                  string: { kind: 'exact', value: 'v' },
                },
              ],
            },
            onMatch: { action: 'secret' },
          },
        ],
      },
    },
  }
  const choice = compileNamedChoice(chains, byPort)
  const state = new ConnectionState()
  state.setObject('who', 'me')
  state.mergeMetadata('ns', { k: 'v' })
  t.equal(choice(connection({ localPort: 443 })), 0)
  t.equal(choice(connection({ localPort: 1, serverName: 'a.mesh' })), 1)
  t.equal(choice(connection({ localPort: 1, state })), 3)
  t.equal(choice(connection({ localPort: 1 })), -1)
  t.equal(choice(connection({ localPort: 9000 })), -1, 'a chain that is not there')
  t.end()
})

t.test(
  'a matcher tree finds the longest range, and goes on with shorter ones where a nested matcher finds nothing',
  (t) => {
    const chains = ['all', 'ten', 'host', 'v6'].map((name) => chain(undefined, name))
    const nested: MatcherTreeConfig<string> = {
      tree: { input: { kind: 'destination-port' }, kind: 'exact', map: [['1', { action: 'host' }]] },
    }
    const tree = (exclusive: readonly string[]): MatcherTreeConfig<string> => ({
      tree: {
        input: { kind: 'destination-ip' },
        kind: 'range',
        map: [
          ['0.0.0.0/0', { action: 'all' }],
          ['10.0.0.0/8', { action: 'ten' }],
          ['10.1.1.1/32', { matcher: nested }],
          ['2001:db8::/32', { action: 'v6' }],
        ],
        exclusive,
      },
    })
    const at = (localAddress: string, localPort: number, exclusive: readonly string[] = []): string =>
      chains[compileNamedChoice(chains, tree(exclusive))(connection({ localAddress, localPort }))]?.name ?? 'none'
    t.equal(at('192.0.2.1', 1), 'all')
    t.equal(at('10.9.9.9', 1), 'ten')
    t.equal(at('10.1.1.1', 1), 'host')
    t.equal(at('10.1.1.1', 2), 'ten')
    t.equal(at('10.1.1.1', 2, ['10.1.1.1/32']), 'none')
    t.equal(at('10.1.1.1', 1, ['10.1.1.1/32']), 'host')
    t.equal(at('2001:db8::9', 1), 'v6')
    t.equal(at('::1', 1), 'none')
    t.equal(at('/a/socket', 1), 'none')
    t.end()
  },
)
