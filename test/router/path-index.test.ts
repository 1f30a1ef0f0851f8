import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { Metadata } from '../../lib/chain/filter.ts'
import { type ConnectionInfo, plainConnection } from '../../lib/core/connection.ts'
import { Headers } from '../../lib/core/headers.ts'
import { noRuntime } from '../../lib/core/metrics.ts'
import type { HeaderMatchConfig } from '../../lib/match/config.ts'
import { compileHeader } from '../../lib/match/header.ts'
import { barePath, compilePath } from '../../lib/match/path.ts'
import type { PathMatchConfig, RouteMatchConfig } from '../../lib/router/config.ts'
import { compileCriteria } from '../../lib/router/criteria.ts'
import { type PathIndex, PathIndexBuilder } from '../../lib/router/path-index.ts'
import { PathTable } from '../../lib/router/path-table.ts'
import type { RouteRequest } from '../../lib/router/request.ts'

const CONNECTION: ConnectionInfo = {
  ...plainConnection({
    id: 1,
    remoteAddress: '192.0.2.1',
    remotePort: 2,
    localAddress: '192.0.2.2',
    localPort: 80,
    kind: 'ip',
    listenerName: '',
  }),
  directRemotePort: 1,
}
const METADATA: Metadata = { get: () => undefined, merge: () => undefined }

function request(path: string, raw: string[] = [], method = 'GET', protocol?: string): RouteRequest {
  return {
    head: { method, scheme: 'http', authority: 'a', path, protocol },
    request: new Headers(raw),
    connection: CONNECTION,
    metadata: METADATA,
    filterState: { get: () => undefined },
    info: { internal: false, clientAddress: '' },
    random: 0.5,
  }
}

function indexOf(matches: readonly RouteMatchConfig[]): PathIndex<number> {
  const builder = new PathIndexBuilder<number>()
  for (const [target, match] of matches.entries()) {
    builder.add({ path: match.path, criteria: compileCriteria(match, noRuntime), target })
  }
  return made(builder.steps())
}

function made<T>(steps: Generator<undefined, T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}

/** The rule itself: one route after the other, the first whose criteria all hold. */
function linear(matches: readonly RouteMatchConfig[]): (r: RouteRequest) => number | undefined {
  const tests = matches.map((match) => {
    const path = compilePath(match.path)
    const headers = (match.headers ?? []).map((h) => compileHeader(h))
    return (r: RouteRequest): boolean => {
      const { method, protocol } = r.head
      const connect = method === 'CONNECT' && (protocol === undefined || protocol === 'connect-udp')
      const pathMatches = match.path.kind === 'connect' ? connect : r.head.path !== '' && path(barePath(r.head.path))
      return pathMatches && headers.every((h) => h(r.request, r.head))
    }
  })
  return (r) => {
    const found = tests.findIndex((test) => test(r))
    return found < 0 ? undefined : found
  }
}

const segment = fc.constantFrom('a', 'b', 'ab', 'A', 'aB', 'k', 'list', 'list-17', 'list-18', '')
const somePath = fc.array(segment, { maxLength: 4 }).map((s) => `/${s.join('/')}`)
const regexSegment = fc.constantFrom(
  'a',
  'b',
  '[a-z]+',
  '[^/]+',
  '.*',
  '(a|b)',
  'list-17',
  'list-[0-9]+',
  'list',
  '(ab)?',
)
const regexPath = fc
  .tuple(fc.constantFrom('', '(?i)', '.*'), fc.array(regexSegment, { maxLength: 4 }))
  .map(([start, s]) => `${start}/${s.join('/')}`)
const pathMatch: fc.Arbitrary<PathMatchConfig> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('prefix' as const, 'exact' as const, 'path-separated-prefix' as const),
      value: somePath,
      caseSensitive: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'prefix', value: '', caseSensitive: true } as const) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('regex' as const), value: regexPath }) },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom('/a/*', '/{x}/b', '/a/{x=**}', '/**')
      .map((value) => ({ kind: 'template', value }) as const),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'connect' } as const) },
)
const header: fc.Arbitrary<HeaderMatchConfig> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.constantFrom('x', 'y', ':method'), fc.constantFrom('1', '2', '1,2', 'GET', ''))
      .map(([name, value]) => ({ name, match: { kind: 'string', string: { kind: 'exact', value } } }) as const),
  },
  fc
    .tuple(fc.constantFrom('x', 'y'), fc.boolean(), fc.boolean())
    .map(([name, present, invert]) => ({ name, match: { kind: 'present', present }, invert }) as const),
  fc.constant({ name: 'x', match: { kind: 'string', string: { kind: 'prefix', value: '1' } } } as const),
)
const route: fc.Arbitrary<RouteMatchConfig> = fc.record({
  path: pathMatch,
  headers: fc.array(header, { maxLength: 2 }),
})
const field = fc.tuple(fc.constantFrom('x', 'y', 'z'), fc.constantFrom('1', '2', ''))
const anyRequest = fc
  .record({
    path: fc.oneof({ weight: 9, arbitrary: somePath }, fc.constantFrom('', '/a\nb', '/É', '*', '/\u212a')),
    query: fc.constantFrom('', '', '?a', '#f', '?a#f', '#f?a'),
    fields: fc.array(field, { maxLength: 3 }),
    method: fc.constantFrom('GET', 'GET', 'POST', 'CONNECT'),
    protocol: fc.constantFrom(undefined, undefined, 'websocket', 'connect-udp'),
  })
  .map((r) => request(r.path + (r.path === '' ? '' : r.query), r.fields.flat(), r.method, r.protocol))

/** Throws where the index and the rule differ; answers how many requests found a route. */
function agree(matches: readonly RouteMatchConfig[], requests: readonly RouteRequest[]): number {
  let hits = 0
  const index = indexOf(matches)
  const oracle = linear(matches)
  for (const r of requests) {
    const expected = oracle(r)
    const asked = `${r.head.method} ${JSON.stringify(r.head.path)} [${r.request.raw.join()}]`
    assert.equal(index.find(r), expected, asked)
    if (expected !== undefined) hits++
  }
  return hits
}

t.test('the index finds what trying the routes in order finds', async (t) => {
  let hits = 0
  const compare = (matches: RouteMatchConfig[], requests: RouteRequest[]): void => {
    hits += agree(matches, requests)
  }
  const few = fc.array(anyRequest, { minLength: 1, maxLength: 20 })
  fc.assert(fc.property(fc.array(route, { maxLength: 12 }), few, compare), { numRuns: 1_500, seed: 11 })
  t.ok(hits > 2_000, `small tables: ${hits} hits`)
  hits = 0
  const many = fc.array(anyRequest, { minLength: 20, maxLength: 40 })
  // Many routes in one place are indexed further.
  const large = fc.array(route, { minLength: 60, maxLength: 200 })
  fc.assert(fc.property(large, many, compare), { numRuns: 60, seed: 12 })
  t.ok(hits > 500, `large tables: ${hits} hits`)
})

t.test('routes of one path are told apart by header values, regexes by the literals they need', async (t) => {
  const exact = (name: string, value: string): HeaderMatchConfig => ({
    name,
    match: { kind: 'string', string: { kind: 'exact', value } },
  })
  const matches: RouteMatchConfig[] = []
  for (let i = 0; i < 300; i++) {
    const path = { kind: 'prefix', value: '/shop', caseSensitive: true } as const
    matches.push({ path, headers: [exact('tenant', `t${i % 100}`), exact('version', `v${i % 3}`)] })
    matches.push({ path: { kind: 'regex', value: `/[a-z]+/v[0-9]+/thing-${i}(/.*)?` } })
    matches.push({ path: { kind: 'regex', value: `(?i)/api/[^/]+/Part-${i}/x?` }, headers: [exact('tenant', 't1')] })
  }
  const requests: RouteRequest[] = []
  for (let i = 0; i < 310; i += 7) {
    requests.push(request(`/shop/${i}`, ['version', `v${i % 3}`, 'tenant', `t${i % 100}`]))
    requests.push(request('/shop', ['tenant', `t${i}`, 'tenant', 't1']))
    requests.push(request(`/abc/v2/thing-${i}/thing-${i + 1}?x`))
    requests.push(request(`/API/list/PART-${i}/`, ['tenant', 't1']))
    requests.push(request(`/api/list/part-${i}/`, ['tenant', 't2']))
  }
  t.ok(agree(matches, requests) > 100)
  t.equal(indexOf(matches).find(request('/abc/v2/thing-299')), 299 * 3 + 1)
})

t.test('ten thousand routes of every kind are each found by a request of their own', async (t) => {
  const matches: RouteMatchConfig[] = []
  const requests: RouteRequest[] = []
  for (let i = 0; i < 10_000; i++) {
    const value = `/team-${i % 97}/service-${i}-api`
    if (i % 10 === 9) {
      matches.push({ path: { kind: 'regex', value: `/api/v[0-9]+/resource-${i}/[^/]+` } })
      requests.push(request(`/api/v1/resource-${i}/x?q`))
    } else {
      const kind = (['prefix', 'exact', 'path-separated-prefix'] as const)[i % 3]
      matches.push({ path: { kind, value, caseSensitive: i % 20 !== 0 } })
      requests.push(request(i % 20 === 0 ? value.toUpperCase() : value))
    }
  }
  const index = indexOf(matches)
  let wrong = 0
  for (const [i, r] of requests.entries()) if (index.find(r) !== i) wrong++
  t.equal(wrong, 0)
  t.equal(index.find(request('/team-1/service-1-apx')), undefined)
})

t.test('CONNECT without a path meets connect matchers only, with one both kinds, in order', async (t) => {
  const any: RouteMatchConfig = { path: { kind: 'prefix', value: '', caseSensitive: true } }
  const connect: RouteMatchConfig = { path: { kind: 'connect' } }
  t.equal(indexOf([any, connect]).find(request('', [], 'CONNECT')), 1)
  t.equal(indexOf([any]).find(request('', [], 'CONNECT')), undefined)
  t.equal(indexOf([any, connect]).find(request('/x', [], 'CONNECT', 'connect-udp')), 0)
  t.equal(indexOf([connect, any]).find(request('/x', [], 'CONNECT', 'connect-udp')), 0)
  t.equal(indexOf([connect, any]).find(request('/chat', [], 'CONNECT', 'websocket')), 1, 'an upgrade of a path')
  t.equal(indexOf([connect]).find(request('/', [], 'GET')), undefined)
})

t.test('a path that collides with a marker does not hide the prefix it has', async (t) => {
  // Two texts of one length with the same 32-bit FNV-1a hash, found by birthday search.
  const hash = (text: string): number => {
    let h = 0x811c9dc5 | 0
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
    return h
  }
  const seen = new Map<number, string>()
  let pair: [string, string] | undefined
  for (let i = 0; pair === undefined && i < 1_000_000; i++) {
    const text = `/x${i.toString(36).padStart(6, '0')}`
    const other = seen.get(hash(text))
    if (other !== undefined) pair = [other, text]
    seen.set(hash(text), text)
  }
  assert(pair !== undefined)
  const [one, other] = pair
  const table = made(PathTable.steps(['/x', `${one}/long`, one], [`${one}=`]))
  const longest = (path: string): number => table.longestPrefix(path, table.begin(path))
  t.equal(longest(other), 0)
  t.equal(longest(`${other}/long`), 0)
  t.equal(longest(`${one}/long/er`), 1)
  t.equal(longest(`${one}/lon`), 2)
  t.equal(longest('/y'), -1)
  t.ok(table.exact(`${other}=`, table.begin(`${other}=`)) < 0)
  t.equal(table.exact(`${one}=`, table.begin(`${one}=?q`)), 0)
})
