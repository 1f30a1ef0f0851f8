import t from 'tap'
import type { HttpStream } from '../../lib/chain/filter.ts'
import { plainConnection } from '../../lib/core/connection.ts'
import { XxHash64 } from '../../lib/core/hash64.ts'
import { Headers } from '../../lib/core/headers.ts'
import type { HashPolicyConfig } from '../../lib/router/config.ts'
import { HashPolicies, RequestHash } from '../../lib/router/hash-policy.ts'

interface Asked {
  readonly headers?: readonly string[]
  readonly path?: string
  readonly state?: Readonly<Record<string, unknown>>
  readonly kind?: 'ip' | 'pipe'
}

function exchange({ headers = [], path = '/', state = {}, kind = 'ip' }: Asked): HttpStream {
  const connection = plainConnection({
    id: 1,
    kind,
    directRemoteAddress: '192.0.2.7',
    directRemotePort: 4711,
    remoteAddress: '192.0.2.7',
    remotePort: 4711,
    directLocalAddress: '198.51.100.1',
    directLocalPort: 443,
    localAddress: '198.51.100.1',
    localPort: 443,
    listenerName: 'l',
    filterChainName: '',
  } as never)
  return {
    connection,
    head: { method: 'GET', scheme: 'http', authority: 'example.com', path, protocol: undefined },
    request: new Headers([...headers]),
    filterState: { get: (key: string) => state[key], set() {} },
  } as unknown as HttpStream
}

const MASK = (1n << 64n) - 1n

function xx(text: string, seed = 0n): bigint {
  const from = { high: Number(seed >> 32n), low: Number(seed & 0xffff_ffffn) }
  const { high, low } = new XxHash64().digest(Buffer.from(text, 'latin1'), text.length, from)
  return (BigInt(high) << 32n) | BigInt(low)
}

function hash(policies: readonly HashPolicyConfig[], asked: Asked): bigint | undefined {
  const found = new HashPolicies(policies).hash(exchange(asked), [])
  return found && (BigInt(found.high) << 32n) | BigInt(found.low)
}

function rotated(value: bigint): bigint {
  return ((value << 1n) | (value >> 63n)) & MASK
}

const USER: HashPolicyConfig = { kind: 'header', name: 'x-user' }

t.test('each policy hashes what it names, and nothing where that is missing', async (t) => {
  const cases: readonly (readonly [HashPolicyConfig, Asked, string])[] = [
    [USER, { headers: ['x-user', 'anna'] }, 'anna'],
    [USER, { headers: ['x-user', ''] }, ''],
    [
      { kind: 'header', name: 'x-user', rewrite: { regex: '^([a-z]+)-.*$', substitution: '\\1' } },
      { headers: ['x-user', 'anna-17'] },
      'anna',
    ],
    [{ kind: 'header', name: ':path' }, { path: '/a?b=1' }, '/a?b=1'],
    [{ kind: 'header', name: 'host' }, {}, 'example.com'],
    [{ kind: 'header', name: ':authority' }, {}, 'example.com'],
    [{ kind: 'cookie', name: 'sid' }, { headers: ['cookie', 'a=1; sid="xyz"'] }, 'xyz'],
    [{ kind: 'source-ip' }, {}, '192.0.2.7'],
    [{ kind: 'query-parameter', name: 'q' }, { path: '/?a=1&q=z%20&q=y' }, 'z%20'],
    [{ kind: 'filter-state', key: 'k' }, { state: { k: 'text' } }, 'text'],
  ]
  for (const [policy, asked, text] of cases) t.equal(hash([policy], asked), xx(text), JSON.stringify(policy))
  for (const [policy, asked] of [
    [USER, {}],
    [{ kind: 'cookie', name: 'sid' }, { headers: ['cookie', 'sid='] }],
    [{ kind: 'source-ip' }, { kind: 'pipe' }],
    [{ kind: 'query-parameter', name: 'q' }, { path: '/?a=q' }],
    [{ kind: 'filter-state', key: 'k' }, { state: { k: { no: 'text' } } }],
  ] as const) {
    t.equal(hash([policy], asked), undefined, JSON.stringify(policy))
  }
  t.equal(hash([], {}), undefined)
})

t.test('values of a header are hashed in turn, whatever their order', async (t) => {
  const expected = xx('b', xx('a'))
  t.equal(hash([USER], { headers: ['x-user', 'a', 'x-user', 'b'] }), expected)
  t.equal(hash([USER], { headers: ['x-user', 'b', 'x-user', 'a'] }), expected)
})

t.test('hashes are combined by rotation, so that equal ones do not cancel each other out', async (t) => {
  const asked = { headers: ['x-user', 'anna', 'x-b', 'two'] }
  const other: HashPolicyConfig = { kind: 'header', name: 'x-b' }
  t.equal(hash([USER, other], asked), rotated(xx('anna')) ^ xx('two'))
  t.equal(hash([USER, USER], asked), rotated(xx('anna')) ^ xx('anna'))
  const missing: HashPolicyConfig = { kind: 'header', name: 'x-none' }
  t.equal(hash([missing, USER, missing], asked), xx('anna'), 'what is missing leaves it as it is')
})

t.test('behind a terminal policy that there is a hash at, no policy counts', async (t) => {
  const asked = { headers: ['x-user', 'anna', 'x-b', 'two'] }
  const other: HashPolicyConfig = { kind: 'header', name: 'x-b' }
  t.equal(hash([{ ...USER, terminal: true }, other], asked), xx('anna'))
  t.equal(hash([{ kind: 'header', name: 'x-none', terminal: true }, other], asked), xx('two'))
  t.equal(hash([USER, { kind: 'header', name: 'x-none', terminal: true }, other], asked), xx('anna'), 'one of before')
})

t.test('a missing cookie with a lifetime is made, the same for all of a connection', async (t) => {
  const made = xx('192.0.2.7:4711198.51.100.1:443').toString(16).padStart(16, '0')
  for (const [config, expected] of [
    [{ ttlS: 60, path: '/app' }, `sid="${made}"; Max-Age=60; Path=/app; HttpOnly`],
    [{ ttlS: 0 }, `sid="${made}"; HttpOnly`],
    [
      {
        ttlS: 5,
        attributes: [
          { name: 'SameSite', value: 'Strict' },
          { name: 'Secure', value: '' },
        ],
      },
      `sid="${made}"; Max-Age=5; SameSite=Strict; Secure; HttpOnly`,
    ],
  ] as const) {
    const policies = new HashPolicies([{ kind: 'cookie', name: 'sid', ...config }])
    const request = new RequestHash(policies, exchange({}))
    t.equal((BigInt(request.value!.high) << 32n) | BigInt(request.value!.low), xx(made))
    const response = new Headers(['set-cookie', 'own=1'])
    request.addCookies(response)
    t.same(response.getAll('set-cookie'), ['own=1', expected])
    const back = new RequestHash(policies, exchange({ headers: ['cookie', `sid="${made}"`] }))
    t.same(back.value, request.value, 'the client comes back with it')
    const again = new Headers([])
    back.addCookies(again)
    t.same(again.raw, [])
  }
})
