import fc from 'fast-check'
import t from 'tap'
import { localRateLimitFilter } from '../../filters/local-ratelimit/index.ts'
import { localRateLimit } from '../../filters/local-ratelimit/native.ts'
import type { HttpFilter, Route, Scope } from '../../lib/chain/filter.ts'
import { readRateLimits } from '../../lib/config/native/resolve/rate-limits.ts'
import type { ConfigSources } from '../../lib/core/config-sources.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import type { Leases, SlotLease, TokenLease } from '../../lib/core/lease.ts'
import type { LocalLeases } from '../../lib/core/local-leases.ts'
import type { TokenBucketConfig } from '../../lib/core/token-bucket.ts'
import { parseRateLimits } from '../../lib/ratelimit/parse.ts'
import { compileRateLimits, type RateLimitRules } from '../../lib/ratelimit/rules.ts'
import {
  build,
  CONNECTION,
  type Driven,
  type DriveOptions,
  drive,
  lines,
  parseJson,
  ROUTE,
  type TestScope,
  testScope,
} from '../support/chain-driver.ts'
import { settle } from '../support/clock.ts'
import { workerLeases } from './worker-leases.ts'

const ALL = { default_value: { numerator: 100 } }
const bucket = (max: number, interval = '60s', fill = max): JsonObject => ({
  max_tokens: max,
  tokens_per_fill: fill,
  fill_interval: interval,
})
const ON = { stat_prefix: 'p', filter_enabled: ALL, filter_enforced: ALL }
const byHeader = (name: string, extra: JsonObject = {}): JsonObject => ({
  actions: [{ request_headers: { header_name: name, descriptor_key: name } }],
  ...extra,
})
const descriptor = (entries: [string, string][], token_bucket: JsonObject, extra: JsonObject = {}): JsonObject => ({
  entries: entries.map(([key, value]) => ({ key, value })),
  token_bucket,
  ...extra,
})

type Filter = HttpFilter<unknown> | undefined

function send(filter: Filter, options: Partial<DriveOptions> = {}): Driven {
  const driven = drive({ filters: [filter], ...options })
  if (driven.upstream.begun > 0) driven.upstream.respond(200)
  if (driven.errors.length > 0) throw new Error(driven.errors.join())
  return driven
}

const status = (filter: Filter, request: string[] = []): number => send(filter, { request }).downstream.status
const counts = (scope: TestScope): number[] =>
  ['enabled', 'ok', 'rate_limited', 'enforced'].map(
    (name) => scope.counters.get(`p.http_local_rate_limit.${name}`)?.v ?? 0,
  )

t.test('requests take a token each; those that find none are answered with 429, and more come with time', async (t) => {
  const scope = testScope()
  const filter = build(localRateLimitFilter, { ...ON, token_bucket: bucket(2, '10s') }, { scope })
  t.same([status(filter), status(filter)], [200, 200])
  const refused = send(filter)
  t.equal(refused.downstream.status, 429)
  t.equal(refused.downstream.body, 'local_rate_limited')
  t.equal(refused.exchange.info.details, 'local_rate_limited')
  t.match(lines(refused.downstream.headers), ['content-length: 18', 'content-type: text/plain'])
  t.equal(refused.upstream.begun, 0)
  t.same(counts(scope), [3, 2, 1, 1])
  scope.clock.advance(4_999)
  t.equal(status(filter), 429)
  scope.clock.advance(1)
  t.equal(status(filter), 200, 'tokens trickle in')
  t.equal(status(filter), 429)
})

t.test('by default nothing is looked at, and what is only enabled lets everything pass', async (t) => {
  const scope = testScope({ runtime: { on: 100 } })
  const off = build(localRateLimitFilter, { stat_prefix: 'p', token_bucket: bucket(1) }, { scope })
  t.same([status(off), status(off)], [200, 200])
  t.same(counts(scope), [0, 0, 0, 0])
  const added = { header: { key: 'x-limited', value: '%REQ(x-a)%' } }
  const shadow = build(
    localRateLimitFilter,
    {
      stat_prefix: 'p',
      token_bucket: bucket(1),
      filter_enabled: { default_value: {}, runtime_key: 'on' },
      request_headers_to_add_when_not_enforced: [added],
    },
    { scope },
  )
  t.notOk(send(shadow, { request: ['x-a', '1'] }).upstream.headers.has('x-limited'))
  t.equal(send(shadow, { request: ['x-a', '1'] }).upstream.headers.get('x-limited'), '1')
  t.same(counts(scope), [2, 1, 1, 0])
})

t.test('enabled and enforced are shares that do not depend on each other', async (t) => {
  let draw = 0.4
  const scope = { ...testScope(), random: () => draw }
  const half = { default_value: { numerator: 50 } }
  const config = { ...ON, filter_enabled: half, filter_enforced: half, token_bucket: bucket(0) }
  const filter = build(localRateLimitFilter, config, { scope })
  const at = (random: number): number => send(filter, { random }).downstream.status
  t.same([at(0.6), at(0.4)], [200, 429])
  draw = 0.6
  t.equal(at(0.4), 200)
})

t.test('status, headers, gRPC status and Retry-After of the answer are as configured', async (t) => {
  const config = {
    ...ON,
    token_bucket: bucket(1, '90s'),
    enable_retry_after_header: true,
    rate_limited_as_resource_exhausted: true,
    response_headers_to_add: [
      { header: { key: 'x-why', value: 'limit of %REQ(:path)%' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
    ],
  }
  const filter = build(localRateLimitFilter, config)
  t.equal(status(filter), 200)
  const refused = send(filter).downstream.headers
  t.equal(refused.get('x-why'), 'limit of /')
  t.equal(refused.get('retry-after'), '90')
  const grpc = send(filter, { request: ['content-type', 'application/grpc'] }).downstream
  t.equal(grpc.status, 200)
  t.equal(grpc.headers.get('grpc-status'), '8')
  const busy = build(localRateLimitFilter, {
    ...config,
    token_bucket: bucket(0),
    status: { code: 'ServiceUnavailable' },
  })
  const answer = send(busy).downstream
  t.equal(answer.status, 503)
  t.notOk(answer.headers.has('retry-after'), 'it belongs to 429')
  const ok = build(localRateLimitFilter, { ...ON, token_bucket: bucket(0), status: { code: 'OK' } })
  t.equal(status(ok), 429, 'what is no error is 429')
  const own = { header: { key: 'retry-after', value: '7' } }
  const kept = build(localRateLimitFilter, { ...config, token_bucket: bucket(0), response_headers_to_add: [own] })
  t.same(send(kept).downstream.headers.getAll('retry-after'), ['7'])
})

t.test('descriptors have buckets of their own, exact ones and one for each value', async (t) => {
  const config = {
    ...ON,
    token_bucket: bucket(100),
    rate_limits: [byHeader('x-user'), byHeader('x-tier')],
    descriptors: [
      descriptor([['x-tier', 'gold']], bucket(3)),
      descriptor([['x-user', 'ann']], bucket(2)),
      descriptor([['x-user', '']], bucket(1)),
    ],
  }
  const filter = build(localRateLimitFilter, config)
  const user = (name: string): number => status(filter, ['x-user', name])
  t.same([user('ann'), user('ann'), user('ann')], [200, 200, 429])
  t.same([user('bob'), user('bob'), user('eve')], [200, 429, 200])
  t.same([user(''), user('')], [200, 429], 'an empty value is a value')
  t.equal(status(filter, []), 200)
  const gold = (name: string): number => status(filter, ['x-user', name, 'x-tier', 'gold'])
  t.same([gold('a'), gold('b'), gold('c'), gold('d')], [200, 200, 200, 429])
})

t.test('the slowest bucket is asked first, and one that refuses leaves the others alone', async (t) => {
  const config = (always: boolean): JsonObject => ({
    ...ON,
    token_bucket: bucket(3, '1s'),
    always_consume_default_token_bucket: always,
    rate_limits: [byHeader('x-a'), byHeader('x-b')],
    descriptors: [descriptor([['x-a', '1']], bucket(2, '1s')), descriptor([['x-b', '1']], bucket(1, '60s'))],
  })
  const filter = build(localRateLimitFilter, config(true))
  const both = ['x-a', '1', 'x-b', '1']
  t.same([status(filter, both), status(filter, both), status(filter, both)], [200, 429, 429])
  t.same([status(filter, ['x-a', '1']), status(filter, ['x-a', '1'])], [200, 429])
  t.same([status(filter), status(filter)], [200, 429], 'the bucket for all was used by those that passed')
  const apart = build(localRateLimitFilter, config(false))
  t.same([status(apart, both), status(apart), status(apart), status(apart), status(apart)], [200, 200, 200, 200, 429])
})

t.test('a request may cost more than one token, and a bucket without tokens lets nothing through', async (t) => {
  const config = {
    ...ON,
    rate_limits: [byHeader('x-user', { hits_addend: { format: '%REQ(x-cost)%' } })],
    descriptors: [descriptor([['x-user', 'ann']], bucket(10)), descriptor([['x-user', 'nobody']], bucket(0))],
  }
  const filter = build(localRateLimitFilter, config)
  const cost = (value: string, name = 'ann'): number => status(filter, ['x-user', name, 'x-cost', value])
  t.same([cost('6'), cost('5'), cost('4'), cost('1'), cost('0'), cost('11')], [200, 429, 200, 429, 200, 429])
  t.same([cost('1', 'nobody'), cost('1', 'bob'), cost('1', 'bob')], [429, 200, 200], 'without a bucket for all')
  t.equal(status(build(localRateLimitFilter, { ...ON, token_bucket: bucket(0) })), 429)
})

t.test('what requests give back is there for others, up to what the bucket holds', async (t) => {
  const back = { hits_addend: { number: 3, is_negative_hits: true } }
  const config = {
    ...ON,
    rate_limits: [
      byHeader('x-take', { hits_addend: { number: 4 } }),
      {
        ...byHeader('x-take'),
        ...back,
        actions: [{ request_headers: { header_name: 'x-back', descriptor_key: 'x-take' } }],
      },
    ],
    descriptors: [descriptor([['x-take', 'a']], bucket(10, '1000s', 1))],
    enable_x_ratelimit_headers: 'DRAFT_VERSION_03',
  }
  for (const workers of [0, 1, 3]) {
    const base = testScope()
    const all = workers === 0 ? [base.leases] : await workerLeases(workers, base.clock)
    const filters = all.map((leases) => build(localRateLimitFilter, config, { scope: { ...base, leases } }))
    let next = 0
    const ask = async (name: string): Promise<number> => {
      const { upstream, downstream } = drive({ filters: [filters[next++ % filters.length]], request: [name, 'a'] })
      await settle(8)
      if (upstream.begun > 0) upstream.respond(200)
      return downstream.status
    }
    t.same([await ask('x-take'), await ask('x-take'), await ask('x-take')], [200, 200, 429], `${workers} workers`)
    t.same([await ask('x-back'), await ask('x-take')], [200, 200])
    t.equal(await ask('x-take'), 429)
    for (let i = 0; i < 9; i++) t.equal(await ask('x-back'), 200)
    t.same([await ask('x-take'), await ask('x-take'), await ask('x-take')], [200, 200, 429], 'no more than it holds')
  }
})

t.test('what an exchange has used counts when it has ended, as far as there is something left', async (t) => {
  const rule = byHeader('x-user', { hits_addend: { number: 1 } })
  const done = byHeader('x-user', { hits_addend: { format: '%REQ(x-cost)%' }, apply_on_stream_done: true })
  const scope = testScope()
  const config = {
    ...ON,
    rate_limits: [rule, done],
    descriptors: [descriptor([['x-user', '']], bucket(10, '1000s', 1))],
  }
  const filter = build(localRateLimitFilter, config, { scope })
  const cost = (value: string): string[] => ['x-user', 'ann', 'x-cost', value]
  t.equal(status(filter, cost('6')), 200)
  t.equal(status(filter, cost('1')), 200, 'three are left')
  t.equal(status(filter, cost('50')), 200, 'the rest, and no debt')
  t.equal(status(filter, cost('0')), 429)
  scope.clock.advance(1_000_000)
  t.equal(status(filter, cost('0')), 200)
  const only = { ...ON, rate_limits: [done], descriptors: config.descriptors, token_bucket: bucket(2, '1000s', 1) }
  const free = build(localRateLimitFilter, only)
  t.same([status(free, cost('9')), status(free, cost('9')), status(free, cost('9'))], [200, 200, 429])
})

t.test('shadow descriptors count but do not refuse', async (t) => {
  const scope = testScope()
  const config = {
    ...ON,
    rate_limits: [byHeader('x-user')],
    descriptors: [descriptor([['x-user', '']], bucket(1), { shadow_mode: true })],
  }
  const filter = build(localRateLimitFilter, config, { scope })
  t.same([status(filter, ['x-user', 'a']), status(filter, ['x-user', 'a'])], [200, 200])
  t.same(counts(scope), [2, 1, 1, 0])
})

t.test('a shadow descriptor that is used up takes no other limit away', async (t) => {
  const scope = testScope()
  const added = { header: { key: 'x-limited', value: '1' } }
  const config = {
    ...ON,
    token_bucket: bucket(6, '1s'),
    request_headers_to_add_when_not_enforced: [added],
    rate_limits: [byHeader('x-a'), byHeader('x-b')],
    descriptors: [
      descriptor([['x-a', '1']], bucket(1, '600s'), { shadow_mode: true }),
      descriptor([['x-b', '1']], bucket(3, '60s')),
    ],
  }
  const filter = build(localRateLimitFilter, config, { scope })
  const both = ['x-a', '1', 'x-b', '1']
  t.same(
    [1, 2, 3, 4].map(() => status(filter, both)),
    [200, 200, 200, 429],
  )
  t.same(counts(scope), [4, 1, 3, 1])
  t.equal(scope.counters.get('p.http_local_rate_limit.shadow_mode')?.v, 2)
  const trial = send(filter, { request: ['x-a', '1'] })
  t.equal(trial.upstream.begun, 1)
  t.notOk(trial.upstream.headers.has('x-limited'), 'that is for limits that are not enforced')
  t.same(
    [1, 2, 3].map(() => status(filter, ['x-a', '1'])),
    [200, 200, 429],
    'the bucket for all is the last word',
  )
})

t.test('a shadow descriptor takes no other limit away where the gateway has to be asked', async (t) => {
  const scope = testScope()
  const [leases] = await workerLeases(2, scope.clock)
  const config = {
    ...ON,
    token_bucket: bucket(2),
    rate_limits: [byHeader('x-a')],
    descriptors: [descriptor([['x-a', '1']], bucket(1, '600s'), { shadow_mode: true })],
  }
  const filter = build(localRateLimitFilter, config, { scope: { ...scope, leases } })
  const statuses: number[] = []
  for (let i = 0; i < 4; i++) {
    const driven = drive({ filters: [filter], request: ['x-a', '1'] })
    await settle(10)
    if (driven.upstream.begun > 0) driven.upstream.respond(200)
    statuses.push(driven.downstream.status)
  }
  t.same(statuses, [200, 200, 429, 429])
})

t.test('buckets for values of clients are bounded: the least used go, and long values are told apart', async (t) => {
  const scope = testScope()
  const leases = scope.leases as LocalLeases
  const config = {
    ...ON,
    max_dynamic_descriptors: 2,
    rate_limits: [byHeader('x-user')],
    descriptors: [descriptor([['x-user', '']], bucket(1))],
  }
  const filter = build(localRateLimitFilter, config, { scope })
  const user = (name: string): number => status(filter, ['x-user', name])
  t.same([user('a'), user('b'), user('a'), user('c')], [200, 200, 429, 200])
  t.equal(leases.size, 2)
  t.equal(user('b'), 200, 'it was forgotten')
  const long = 'x'.repeat(500)
  t.same([user(`${long}1`), user(`${long}2`), user(`${long}1`)], [200, 200, 429])
  for (let i = 0; i < 1_000; i++) user(`user-${i}`)
  t.equal(leases.size, 2)
  for (const one of scope.owned) (one as Disposable)[Symbol.dispose]()
  t.equal(leases.size, 0)
})

t.test('X-RateLimit headers tell of the bucket that decides, on what passes and on what does not', async (t) => {
  const scope = testScope()
  const config = {
    ...ON,
    token_bucket: bucket(10, '10s'),
    enable_x_ratelimit_headers: 'DRAFT_VERSION_03',
    rate_limits: [byHeader('x-user'), byHeader('x-quiet', { x_ratelimit_option: 'OFF' })],
    descriptors: [descriptor([['x-user', 'ann']], bucket(2, '60s')), descriptor([['x-quiet', '1']], bucket(5, '60s'))],
  }
  const filter = build(localRateLimitFilter, config, { scope })
  const told = (...request: string[]): (string | undefined)[] => {
    const { headers } = send(filter, { request }).downstream
    return ['limit', 'remaining', 'reset'].map((name) => headers.get(`x-ratelimit-${name}`))
  }
  t.same(told(), ['10', '9', '0'])
  t.same(told('x-user', 'ann'), ['2', '1', '0'])
  t.same(told('x-user', 'ann'), ['2', '0', '30'])
  t.same(told('x-user', 'ann'), ['2', '0', '30'], 'of the bucket that refused')
  t.same(told('x-quiet', '1'), [undefined, undefined, undefined])
  const off = build(localRateLimitFilter, {
    ...config,
    enable_x_ratelimit_headers: 'OFF',
    rate_limits: [byHeader('x-user', { x_ratelimit_option: 'DRAFT_VERSION_03' })],
  })
  t.equal(send(off, { request: ['x-user', 'ann'] }).downstream.headers.get('x-ratelimit-limit'), '2')
  t.notOk(send(off).downstream.headers.has('x-ratelimit-limit'))
})

t.test("rate limits of routes and virtual hosts apply by stage and by the filter's option", async (t) => {
  const rules = (name: string, extra: JsonObject = {}): RateLimitRules =>
    compileRateLimits(
      parseJson({ list: [byHeader(name, extra)] }, (fields) => parseRateLimits(fields, 'list', 'route')).value,
    )
  const route = (extra: JsonObject = {}): Route => ({
    ...ROUTE,
    rateLimits: { route: rules('x-own', extra), virtualHost: rules('x-host'), includeVirtualHost: false },
  })
  const config = {
    ...ON,
    descriptors: [descriptor([['x-own', '']], bucket(1)), descriptor([['x-host', '']], bucket(1))],
  }
  const statuses = (filter: Filter, on: Route, name: string): number[] =>
    [1, 2].map(() => send(filter, { route: on, request: [name, '1'] }).downstream.status)
  const filter = build(localRateLimitFilter, config)
  t.same(statuses(filter, route(), 'x-own'), [200, 429])
  t.same(statuses(filter, route(), 'x-host'), [200, 200])
  const both = build(localRateLimitFilter, { ...config, vh_rate_limits: 'INCLUDE' })
  t.same(statuses(both, route(), 'x-host'), [200, 429])
  const staged = build(localRateLimitFilter, { ...config, stage: 2 })
  t.same(statuses(staged, route(), 'x-own'), [200, 200])
  t.same(statuses(staged, route({ stage: 2 }), 'x-own'), [200, 429])
  t.same(statuses(build(localRateLimitFilter, config), route({ disable_key: 'k' }), 'x-own'), [200, 200])
  const own = build(localRateLimitFilter, { ...config, rate_limits: [byHeader('x-host')] })
  t.same(statuses(own, route(), 'x-own'), [200, 200], 'those of the filter take their place')
})

t.test('each route that says something has buckets of its own', async (t) => {
  const scope = testScope()
  const { errors } = parseJson(ON, (fields) => localRateLimitFilter.parseRoute?.(fields))
  t.match(errors, [/token_bucket: is required at routes/])
  const level = { ...ON, token_bucket: bucket(1) }
  const at = (path: string): Filter => {
    const parsed = parseJson({ [path]: level }, (fields) => localRateLimitFilter.parseRoute?.(fields.message(path)!))
    return localRateLimitFilter.compile(parsed.value!, scope) as HttpFilter<unknown>
  }
  const [one, other, again] = [at('one'), at('other'), at('one')]
  t.same([status(one), status(other), status(again)], [200, 200, 429])
  t.equal((scope.leases as LocalLeases).size, 2)
  const inTable = (within: string): number => {
    const sources = { within } as ConfigSources
    const { value } = parseJson(level, (fields) => localRateLimitFilter.parseRoute?.(fields, sources))
    return status(localRateLimitFilter.compile(value!, scope) as HttpFilter<unknown>)
  }
  t.same([inTable('a/v'), inTable('b/v'), inTable('a/v')], [200, 200, 429], 'paths are those within a resource')
})

t.test('buckets of connections are theirs alone', async (t) => {
  const scope = testScope()
  const config = { ...ON, token_bucket: bucket(1), local_rate_limit_per_downstream_connection: true }
  const filter = build(localRateLimitFilter, config, { scope })
  t.same([status(filter), status(filter)], [200, 429])
  t.equal((scope.leases as LocalLeases).size, 0)
})

t.test('the bound of values costs a connection nothing before they come', async (t) => {
  const config = {
    ...ON,
    max_dynamic_descriptors: 1_000_000,
    local_rate_limit_per_downstream_connection: true,
    rate_limits: [byHeader('x-user')],
    descriptors: [descriptor([['x-user', '']], bucket(1))],
  }
  const filter = build(localRateLimitFilter, config)
  const held = (): number => process.memoryUsage().heapUsed + process.memoryUsage().external
  const before = held()
  const all: Driven[] = []
  for (let i = 0; i < 20; i++) all.push(send(filter, { request: ['x-user', 'a'], connection: { ...CONNECTION } }))
  t.equal(new Set(all.map(({ exchange }) => exchange.connection)).size, 20)
  t.ok(held() - before < 40e6, `${held() - before} bytes of ${all.length} connections`)
})

t.test('gateways of one cluster share a limit evenly', async (t) => {
  const sources = { localCluster: 'gates' } as ConfigSources
  const config = { ...ON, token_bucket: bucket(12), local_cluster_rate_limit: {} }
  const parsed = parseJson(config, (fields) => localRateLimitFilter.parse(fields, sources))
  t.same(parsed.errors, [])
  const scope = testScope({ health: { gates: { healthy: 4, degraded: 0, total: 4 } } })
  const filter = localRateLimitFilter.compile(parsed.value, scope) as HttpFilter<unknown>
  t.same(
    [1, 2, 3, 4].map(() => status(filter)),
    [200, 200, 200, 429],
  )
  const alone = localRateLimitFilter.compile(parsed.value, testScope()) as HttpFilter<unknown>
  t.same(
    [1, 2].map(() => status(alone)),
    [200, 200],
    'a cluster that is not there is this one alone',
  )
  t.match(parseJson(config, (fields) => localRateLimitFilter.parse(fields)).errors, [/no local_cluster_name/])
  t.match(
    parseJson({ ...config, local_rate_limit_per_downstream_connection: true }, (fields) =>
      localRateLimitFilter.parse(fields, sources),
    ).errors,
    [/excludes local_rate_limit_per_downstream_connection/],
  )
})

/** Leases that have to ask, and are answered by hand. */
class AskedLeases implements Leases {
  readonly questions: ((taken: boolean) => void)[] = []
  disposed = 0

  slots(): SlotLease {
    throw new Error('no slots here')
  }

  tokens(_key: string, config: TokenBucketConfig): TokenLease {
    return {
      take: () => new Promise((resolve) => void this.questions.push(resolve)),
      tryTake: () => false,
      give: () => {},
      remaining: config.maxTokens,
      waitMs: 0,
      [Symbol.dispose]: () => void this.disposed++,
    }
  }
}

t.test('requests wait while the gateway is asked; a client that goes meanwhile is nobody', async (t) => {
  const leases = new AskedLeases()
  const scope: Scope = { ...testScope(), leases }
  const config = {
    ...ON,
    token_bucket: bucket(5),
    max_dynamic_descriptors: 1,
    rate_limits: [byHeader('x-user')],
    descriptors: [descriptor([['x-user', '']], bucket(1))],
  }
  const filter = build(localRateLimitFilter, config, { scope })
  const passed = drive({ filters: [filter], request: ['x-user', 'a'] })
  const gone = drive({ filters: [filter], request: ['x-user', 'b'] })
  t.equal(leases.disposed, 0, 'a bucket that somebody waits for stays')
  gone.clientGone()
  leases.questions[0](true)
  leases.questions[1](false)
  await settle()
  t.equal(leases.disposed, 1)
  t.equal(passed.upstream.begun, 0)
  t.equal(leases.questions.length, 3, 'then the bucket for all is asked')
  leases.questions[2](true)
  await settle()
  t.equal(passed.upstream.begun, 1)
  t.equal(gone.downstream.status, 0)
  const refused = drive({ filters: [filter] })
  leases.questions[3](false)
  await settle()
  t.equal(refused.downstream.status, 429)
  t.same([...passed.errors, ...gone.errors, ...refused.errors], [])
})

t.test('a limit is one limit with any number of workers, for all requests and for each value', async (t) => {
  for (const workers of [1, 2, 5]) {
    const base = testScope()
    const config = {
      ...ON,
      token_bucket: bucket(10, '10s'),
      rate_limits: [byHeader('x-user')],
      descriptors: [descriptor([['x-user', '']], bucket(4, '60s'))],
    }
    const all = await workerLeases(workers, base.clock)
    const filters = all.map((leases) => build(localRateLimitFilter, config, { scope: { ...base, leases } }))
    const passed = async (requests: number, request: string[]): Promise<number> => {
      const sent: Driven[] = []
      for (let i = 0; i < requests; i++) {
        sent.push(drive({ filters: [filters[i % workers]], request }))
        // Some at once, some one after the other.
        if (i % 3 === 0) await settle(5)
      }
      await settle(5)
      return sent.filter(({ upstream }) => upstream.begun > 0).length
    }
    t.equal(await passed(12, ['x-user', 'ann']), 4)
    t.equal(await passed(30, []), 6)
    await base.clock.advanceAsync(10_000)
    t.equal(await passed(30, ['x-user', 'bob']), 4)
    t.equal(await passed(30, []), 6, `${workers} workers`)
  }
})

t.test('what is left is told right by a worker that had to ask for it', async (t) => {
  const base = testScope()
  const [leases] = await workerLeases(1, base.clock)
  const config = { ...ON, token_bucket: bucket(3, '30s'), enable_x_ratelimit_headers: 'DRAFT_VERSION_03' }
  const filter = build(localRateLimitFilter, config, { scope: { ...base, leases } })
  const told: string[] = []
  for (let i = 0; i < 4; i++) {
    const { downstream, upstream } = drive({ filters: [filter] })
    await settle(5)
    if (upstream.begun > 0) upstream.respond(200)
    const { status: code, headers } = downstream
    told.push(`${code} ${headers.get('x-ratelimit-remaining')} ${headers.get('x-ratelimit-reset')}`)
  }
  t.same(told, ['200 2 0', '200 1 0', '200 0 10', '429 0 10'])
})

t.test('in any run of requests no bucket gives more than it holds and gets', async () => {
  const step = fc.record({
    user: fc.constantFrom('a', 'b', ''),
    waitMs: fc.nat(400),
    cost: fc.integer({ min: 1, max: 4 }),
  })
  const run = fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const scope = testScope()
    const config = {
      ...ON,
      token_bucket: bucket(20, '1s', 10),
      rate_limits: [byHeader('x-user', { hits_addend: { format: '%REQ(x-cost)%' } })],
      descriptors: [descriptor([['x-user', '']], bucket(6, '1s', 3))],
    }
    const filter = build(localRateLimitFilter, config, { scope })
    const spent = new Map<string, number>()
    let all = 0
    let elapsedMs = 0
    for (const { user, waitMs, cost } of steps) {
      scope.clock.advance(waitMs)
      elapsedMs += waitMs
      const request = ['x-user', user, 'x-cost', String(cost)]
      if (status(filter, request) === 200) {
        spent.set(user, (spent.get(user) ?? 0) + cost)
        all++
      }
      if ((spent.get(user) ?? 0) > 6 + (elapsedMs * 3) / 1_000) return false
      if (all > 20 + (elapsedMs * 10) / 1_000) return false
    }
    return true
  })
  fc.assert(run, { numRuns: 60 })
})

t.test('mistakes are found', async (t) => {
  const errors = (config: JsonObject): string[] =>
    parseJson(config, (fields) => localRateLimitFilter.parse(fields)).errors
  t.match(errors({}), [/stat_prefix: must not be empty/])
  t.match(errors({ stat_prefix: 'p', token_bucket: { max_tokens: 1 } }), [/fill_interval: is required/])
  t.match(errors({ stat_prefix: 'p', token_bucket: bucket(1, '0.01s') }), [/at least 50 ms/])
  t.match(errors({ stat_prefix: 'p', stage: 11, max_dynamic_descriptors: 0 }), [/stage/, /max_dynamic_descriptors/])
  t.match(errors({ stat_prefix: 'p', vh_rate_limits: 'MAYBE' }), [/unknown option "MAYBE"/])
  const twice = descriptor([['k', 'v']], bucket(1))
  t.match(errors({ stat_prefix: 'p', descriptors: [twice, twice] }), [/another descriptor has the same entries/])
  t.match(errors({ stat_prefix: 'p', descriptors: [{}] }), [/entries: must not be empty/, /token_bucket: is required/])
  t.match(errors({ stat_prefix: 'p', response_headers_to_add: [{ header: { key: 'host', value: 'a' } }] }), [
    /"host" can't/,
  ])
  t.match(errors({ stat_prefix: 'p', surprise: true }), [/surprise/])
})

t.test('the native form says the same in fewer words', async (t) => {
  const { factory, config } = localRateLimit({
    all: { tokens: 5 },
    limits: [
      { by: [{ header: 'X-User' }], tokens: 1, perMs: 60_000 },
      { by: [{ query: 'tier', value: 'gold' }], tokens: 2, perMs: 60_000 },
      { by: [{ query: 'tier', value: 'none' }], tokens: 0 },
      { by: [{ client: 'address' }, { client: { v4Bits: 8 } }], tokens: 100 },
    ],
    headers: true,
  })
  t.equal(factory, localRateLimitFilter)
  const filter = build(localRateLimitFilter, config)
  t.same([status(filter, ['x-user', 'a']), status(filter, ['x-user', 'a'])], [200, 429])
  const tier = (name: string): Driven => send(filter, { head: { path: `/?tier=${name}` } })
  t.same(
    [tier('gold'), tier('gold'), tier('gold'), tier('none')].map((d) => d.downstream.status),
    [200, 200, 429, 429],
  )
  t.equal(tier('none').downstream.headers.get('x-ratelimit-limit'), '0')
  t.match(tier('gold').downstream.headers.get('retry-after'), /^30$/)
  const shadow = build(localRateLimitFilter, localRateLimit({ all: { tokens: 0 }, shadow: true }).config)
  t.equal(status(shadow), 200)
  const by = [{ header: 'x-user' }] as const
  const limits = [{ by, tokens: 10, perMs: 1_000_000, hits: 2, hitsWhenDone: '%REQ(x-cost)%' }]
  const costly = build(localRateLimitFilter, localRateLimit({ limits }).config)
  const cost = (value: string): number => status(costly, ['x-user', 'a', 'x-cost', value])
  t.same([cost('5'), cost('0'), cost('0')], [200, 200, 429])
})

t.test('the native form goes by what routes say', async (t) => {
  const { config } = localRateLimit({
    limits: [
      { by: [{ key: 'plan', value: 'free' }, { header: 'X-User' }], tokens: 1, perMs: 60_000 },
      { by: [{ key: 'plan', value: 'paid' }], tokens: 2, perMs: 60_000 },
    ],
    byRoutes: true,
  })
  const filter = build(localRateLimitFilter, config)
  const plan = (value: string): Route => ({
    ...ROUTE,
    rateLimits: {
      route: compileRateLimits(
        readRateLimits([
          { by: value === 'free' ? [{ key: 'plan', value }, { header: 'x-user' }] : [{ key: 'plan', value }] },
        ]),
      ),
      virtualHost: compileRateLimits([]),
      includeVirtualHost: false,
    },
  })
  const ask = (value: string, user: string): number =>
    send(filter, { route: plan(value), request: ['x-user', user] }).downstream.status
  t.same([ask('free', 'a'), ask('free', 'a'), ask('free', 'b')], [200, 429, 200])
  t.same([ask('paid', 'a'), ask('paid', 'b'), ask('paid', 'c')], [200, 200, 429])
  t.equal(status(filter, ['x-user', 'a']), 200, 'no route, no limit')
})
