import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, createServer } from 'node:net'
import t, { type Test } from 'tap'
import { settle, TestClock } from '../support/clock.ts'
import { Origin, type OriginRequest, type OriginScript } from '../support/origin.ts'
import type { OriginReply, ReplySpec } from '../support/origin-reply.ts'
import { cluster, endpoint, type Fields } from './bootstrap.ts'
import { get, post, type Setup, type SetupSpec, setup } from './setup.ts'
import { TO_HTTP2 } from './tunnel-lane.ts'

/** Retry policies over real sockets: each condition, their limits, and what never happens twice. */

const INTERNAL = { cidr_ranges: [{ address_prefix: '127.0.0.1', prefix_len: 32 }] }

/** The route to `origin` with a retry policy. */
function retrying(policy: Fields, route: Fields = {}): SetupSpec['routes'] {
  return [{ match: { prefix: '/' }, route: { cluster: 'origin', ...route, retry_policy: policy } }]
}

type Step = ReplySpec | 'reset' | 'stall'

/** Answers requests in turn; those beyond the list get 200 `done`. */
function inTurn(...steps: readonly Step[]): OriginScript {
  let at = 0
  return async (request, reply) => {
    await request.body
    await play(steps[at++] ?? { body: 'done' }, reply)
  }
}

async function play(step: Step, reply: OriginReply): Promise<void> {
  if (step === 'reset') reply.reset()
  else if (step === 'stall') await reply.stall()
  else await reply.send(step)
}

const stat = ({ gateway }: Setup, name: string): number => gateway.stat(`cluster.origin.${name}`)

/** A port of 127.0.0.1 where nobody listens. */
async function closedPort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

// --- conditions -------------------------------------------------------------------------------------------------------

interface ConditionCase {
  readonly policy: Fields
  readonly retried: readonly Step[]
  readonly left: readonly Step[]
}

const grpcHead = (status: number): ReplySpec => ({
  fields: [
    ['content-type', 'application/grpc'],
    ['grpc-status', String(status)],
  ],
})
const rateLimited = (status: number): ReplySpec => ({ status, fields: [['x-envoy-ratelimited', 'true']] })
const status = (...list: readonly number[]): ReplySpec[] => list.map((code) => ({ status: code }))

const CONDITIONS: Readonly<Record<string, ConditionCase>> = {
  '5xx': {
    policy: {},
    retried: [...status(500, 503, 599), 'reset'],
    left: [...status(200, 404, 409), rateLimited(503)],
  },
  'gateway-error': { policy: {}, retried: [...status(502, 503, 504), 'reset'], left: status(500, 501, 505, 429) },
  reset: { policy: {}, retried: ['reset'], left: status(500, 503) },
  'reset-before-request': { policy: {}, retried: [], left: ['reset', ...status(503)] },
  'connect-failure': { policy: {}, retried: [], left: ['reset', ...status(503)] },
  'refused-stream': { policy: {}, retried: [], left: ['reset', ...status(503)] },
  'retriable-4xx': { policy: {}, retried: status(409), left: [...status(400, 404, 429, 500), 'reset'] },
  'retriable-status-codes': {
    policy: { retriable_status_codes: [429, 418] },
    retried: status(429, 418),
    left: [...status(500, 409), 'reset'],
  },
  'retriable-headers': {
    policy: { retriable_headers: [{ name: 'X-Again', string_match: { exact: 'yes' } }] },
    retried: [{ fields: [['x-again', 'yes']] }],
    left: [{ fields: [['x-again', 'no']] }, ...status(503)],
  },
  'envoy-ratelimited': { policy: {}, retried: [rateLimited(429), rateLimited(503)], left: status(429, 503) },
  'http3-post-connect-failure': { policy: {}, retried: [], left: ['reset', ...status(503)] },
  cancelled: { policy: {}, retried: [grpcHead(1)], left: [grpcHead(0), grpcHead(14), ...status(503)] },
  'deadline-exceeded': { policy: {}, retried: [grpcHead(4)], left: [grpcHead(1)] },
  'resource-exhausted': { policy: {}, retried: [grpcHead(8)], left: [grpcHead(4)] },
  internal: { policy: {}, retried: [grpcHead(13)], left: [grpcHead(8)] },
  unavailable: { policy: {}, retried: [grpcHead(14)], left: [grpcHead(13)] },
}

for (const [name, { policy, retried, left }] of Object.entries(CONDITIONS)) {
  t.test(`retry_on ${name}: what it names is tried again, all else is passed on`, async (t) => {
    const s = await setup(t, { routes: retrying({ retry_on: name, ...policy }) })
    const told = async (step: Step): Promise<[number, string]> => {
      s.origin.script = inTurn(step)
      const before = s.origin.requests.length
      const wire = await s.connect()
      const response = await wire.exchange(post('once'))
      await wire.close()
      return [s.origin.requests.length - before, response.text()]
    }
    for (const step of retried) t.same(await told(step), [2, 'done'], JSON.stringify(step))
    for (const step of left) t.equal((await told(step))[0], 1, JSON.stringify(step))
    t.equal(stat(s, 'upstream_rq_retry'), retried.length)
    t.equal(stat(s, 'upstream_rq_retry_success'), retried.length)
    t.equal(stat(s, 'upstream_rq_retry_backoff_exponential'), retried.length)
    t.equal(stat(s, 'upstream_rq_retry_limit_exceeded'), 0)
  })
}

for (const condition of ['connect-failure', 'reset-before-request', 'gateway-error', '5xx', 'reset']) {
  t.test(`retry_on ${condition}: a host that refuses connections is left for another`, async (t) => {
    const good = await Origin.start()
    t.teardown(() => good.close())
    const s = await setup(t, {
      clusters: [cluster('two', [await closedPort(), good.port], { lb_policy: 'ROUND_ROBIN' })],
      routes: [
        { match: { prefix: '/' }, route: { cluster: 'two', retry_policy: { retry_on: condition, num_retries: 3 } } },
      ],
    })
    const wire = await s.connect()
    for (let i = 0; i < 4; i++) t.equal((await wire.exchange(post(`body ${i}`))).text(), `body ${i}`)
    t.equal(good.requests.length, 4)
    t.ok(s.gateway.stat('cluster.two.upstream_rq_retry') > 0)
  })
}

t.test('without a policy nothing that was answered is tried again', async (t) => {
  const s = await setup(t, { origin: inTurn({ status: 503 }) })
  const wire = await s.connect()
  t.equal((await wire.exchange(get())).status, 503)
  t.equal(s.origin.requests.length, 1)
  t.equal(stat(s, 'upstream_rq_retry'), 0)
})

// --- how often --------------------------------------------------------------------------------------------------------

t.test('num_retries: so many more tries, then the last answer with URX', async (t) => {
  const s = await setup(t, {
    origin: inTurn(...status(503, 502, 500, 503)),
    routes: retrying({ retry_on: '5xx', num_retries: 2 }),
  })
  const wire = await s.connect()
  t.equal((await wire.exchange(get())).status, 500)
  t.equal(s.origin.requests.length, 3)
  t.equal(stat(s, 'upstream_rq_retry'), 2)
  t.equal(stat(s, 'upstream_rq_retry_limit_exceeded'), 1)
  t.equal(stat(s, 'upstream_rq_retry_success'), 0)
  t.equal(stat(s, 'retry.upstream_rq_503'), 1)
  t.equal(stat(s, 'retry.upstream_rq_502'), 1)
  t.equal(stat(s, 'upstream_rq_500'), 1, 'only the answer itself counts as one')
  t.match(await s.finish(), [{ status: 500, flags: 'URX', attempts: 3, details: 'via_upstream' }])
})

t.test('a reset after the last retry is told with URX too', async (t) => {
  const s = await setup(t, { origin: inTurn('reset', 'reset'), routes: retrying({ retry_on: 'reset' }) })
  const wire = await s.connect()
  t.equal((await wire.exchange(post('x'))).status, 503)
  const [line] = await s.finish()
  t.equal(line.attempts, 2)
  t.same(line.flags?.split(',').sort(), ['UC', 'URX'])
})

t.test('num_retries 0 permits none', async (t) => {
  const s = await setup(t, { origin: inTurn({ status: 503 }), routes: retrying({ retry_on: '5xx', num_retries: 0 }) })
  const wire = await s.connect()
  t.equal((await wire.exchange(get())).status, 503)
  t.equal(s.origin.requests.length, 1)
})

t.test('the attempt count is told upstream and downstream', async (t) => {
  const s = await setup(t, {
    origin: inTurn({ status: 503 }),
    routeConfig: {
      virtual_hosts: [
        {
          name: 'all',
          domains: ['*'],
          include_request_attempt_count: true,
          include_attempt_count_in_response: true,
          retry_policy: { retry_on: '5xx' },
          routes: [{ match: { prefix: '/' }, route: { cluster: 'origin' } }],
        },
      ],
    },
  })
  const wire = await s.connect()
  const response = await wire.exchange(get())
  t.equal(response.get('x-envoy-attempt-count'), '2')
  t.same(
    s.origin.requests.map((request) => request.get('x-envoy-attempt-count')),
    ['1', '2'],
  )
})

t.test('the policy of a route stands instead of its virtual host’s, and the cluster’s instead of both', async (t) => {
  const ours = (policy: Fields): Fields => ({
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: { http_protocol_options: {} },
        retry_policy: policy,
      },
    },
  })
  const plain = await Origin.start(async (_, reply) => void (await reply.send({ status: 503 })))
  const own = await Origin.start(async (_, reply) => void (await reply.send({ status: 503 })))
  t.teardown(() => Promise.all([plain.close(), own.close()]))
  const s = await setup(t, {
    clusters: [cluster('plain', plain.port), cluster('own', own.port, ours({ retry_on: '5xx', num_retries: 3 }))],
    routeConfig: {
      virtual_hosts: [
        {
          name: 'all',
          domains: ['*'],
          retry_policy: { retry_on: '5xx', num_retries: 2 },
          routes: [
            { match: { path: '/host' }, route: { cluster: 'plain' } },
            { match: { path: '/route' }, route: { cluster: 'plain', retry_policy: { retry_on: '5xx' } } },
            { match: { path: '/cluster' }, route: { cluster: 'own', retry_policy: { retry_on: '5xx' } } },
          ],
        },
      ],
    },
  })
  const wire = await s.connect()
  for (const path of ['/host', '/route', '/cluster']) t.equal((await wire.exchange(get(path))).status, 503)
  const tries = (origin: Origin, path: string): number => origin.requests.filter((r) => r.target === path).length
  t.same([tries(plain, '/host'), tries(plain, '/route'), tries(own, '/cluster')], [3, 2, 4])
})

t.test('retriable_request_headers: only requests that fit are tried again', async (t) => {
  const s = await setup(t, {
    origin: async (_, reply) => void (await reply.send({ status: 503 })),
    routes: retrying({
      retry_on: '5xx',
      retriable_request_headers: [{ name: ':method', string_match: { exact: 'GET' } }],
    }),
  })
  const wire = await s.connect()
  await wire.exchange(get())
  t.equal(s.origin.requests.length, 2)
  await wire.exchange(post('x'))
  t.equal(s.origin.requests.length, 3)
})

// --- what requests may ask for ----------------------------------------------------------------------------------------

const INTERNAL_HCM = { use_remote_address: true, internal_address_config: INTERNAL }

t.test('internal callers ask for retries by headers, which go no further', async (t) => {
  const s = await setup(t, { hcm: INTERNAL_HCM })
  const tries = async (first: readonly Step[], ...lines: readonly string[]): Promise<number> => {
    s.origin.script = inTurn(...first)
    const before = s.origin.requests.length
    const wire = await s.connect()
    await wire.exchange(get('/', ...lines))
    await wire.close()
    return s.origin.requests.length - before
  }
  t.equal(await tries(status(503), 'x-envoy-retry-on: 5xx'), 2)
  t.equal(await tries(status(503, 503, 503), 'x-envoy-retry-on: nonsense, 5xx', 'x-envoy-max-retries: 2'), 3)
  t.equal(await tries(status(503), 'x-envoy-retry-on: retriable-4xx'), 1)
  t.equal(await tries(status(503), 'x-envoy-max-retries: 2'), 1)
  t.equal(await tries([grpcHead(14)], 'x-envoy-retry-grpc-on: unavailable'), 2)
  t.equal(await tries([grpcHead(14)], 'x-envoy-retry-on: unavailable'), 1)
  const byStatus = 'x-envoy-retry-on: retriable-status-codes'
  t.equal(await tries(status(418), byStatus, 'x-envoy-retriable-status-codes: 417, 418'), 2)
  t.equal(await tries(status(419), byStatus, 'x-envoy-retriable-status-codes: 417, 418'), 1)
  const byHeader = 'x-envoy-retry-on: retriable-headers'
  const again: ReplySpec = { fields: [['x-again', '']] }
  t.equal(await tries([again], byHeader, 'x-envoy-retriable-header-names: X-Other, X-Again'), 2)
  for (const request of s.origin.requests) {
    t.same(
      request.fields.filter(([name]) => /retr/i.test(name)),
      [],
    )
  }
})

t.test('what strangers ask for is not heard', async (t) => {
  const s = await setup(t, {
    hcm: { use_remote_address: true, internal_address_config: { cidr_ranges: [] } },
    origin: async (_, reply) => void (await reply.send({ status: 503 })),
  })
  const wire = await s.connect()
  const asked = ['x-envoy-retry-on: 5xx', 'x-envoy-max-retries: 5', 'x-envoy-upstream-rq-per-try-timeout-ms: 1']
  await wire.exchange(get('/', ...asked))
  t.equal(s.origin.requests.length, 1)
  t.same(
    s.origin.requests[0].fields.filter(([name]) => /retr|per-try/i.test(name)),
    [],
  )
})

// --- waiting ----------------------------------------------------------------------------------------------------------

t.test('the back-off grows as (2^N - 1) times its base, by chance below that, up to the maximum', async (t) => {
  const clock = new TestClock()
  const s = await setup(t, {
    gateway: { clock, random: () => 0.999 },
    origin: inTurn(...status(503, 503, 503, 503)),
    routes: retrying(
      { retry_on: '5xx', num_retries: 4, retry_back_off: { base_interval: '1s', max_interval: '6s' } },
      { timeout: '0s' },
    ),
  })
  const wire = await s.connect()
  await wire.write(get())
  for (const [n, waitMs] of [1_000, 3_000, 6_000, 6_000].entries()) {
    await s.origin.seen(n + 1)
    await s.gateway.until(() => stat(s, 'upstream_rq_retry') === n + 1, 'the decision')
    clock.advance(waitMs - 100)
    await settle(10)
    t.equal(s.origin.requests.length, n + 1, `${waitMs} ms have not passed`)
    clock.advance(150)
  }
  t.equal((await wire.readResponse()).text(), 'done')
})

t.test('rate_limited_retry_back_off: the answer says how long, if it is not too long', async (t) => {
  const clock = new TestClock()
  const wallS = Math.trunc(clock.wall() / 1000)
  const s = await setup(t, {
    gateway: { clock },
    routes: retrying(
      {
        retry_on: 'retriable-status-codes',
        retriable_status_codes: [429],
        rate_limited_retry_back_off: {
          reset_headers: [
            { name: 'Retry-After', format: 'SECONDS' },
            { name: 'X-RateLimit-Reset', format: 'UNIX_TIMESTAMP' },
          ],
          max_interval: '20s',
        },
      },
      { timeout: '0s' },
    ),
  })
  const wire = await s.connect()
  let seen = 0
  let moved = 0
  const waits = async (name: string, value: string, waitMs: number): Promise<void> => {
    s.origin.script = inTurn({ status: 429, fields: [[name, value]] })
    const retries = stat(s, 'upstream_rq_retry')
    await wire.write(get())
    await s.gateway.until(() => stat(s, 'upstream_rq_retry') === retries + 1, 'the decision')
    seen++
    if (waitMs > 0) {
      clock.advance(waitMs - 100)
      await settle(10)
      t.equal(s.origin.requests.length, seen, `${name}: ${value}`)
    }
    clock.advance(150)
    moved += waitMs > 0 ? waitMs + 50 : 150
    t.equal((await wire.readResponse()).text(), 'done')
    seen++
  }
  await waits('retry-after', '5', 5_000)
  await waits('x-ratelimit-reset', String(wallS + Math.trunc(moved / 1000) + 10), 10_000 - (moved % 1000))
  t.equal(stat(s, 'upstream_rq_retry_backoff_ratelimited'), 2)
  await waits('retry-after', '21', 0)
  await waits('retry-after', 'soon', 0)
  t.equal(stat(s, 'upstream_rq_retry_backoff_ratelimited'), 2)
  t.equal(stat(s, 'upstream_rq_retry_backoff_exponential'), 2)
})

t.test('a client that leaves while a retry waits takes the retry along', async (t) => {
  const clock = new TestClock()
  const s = await setup(t, {
    gateway: { clock, random: () => 0.5 },
    origin: inTurn({ status: 503 }),
    routes: retrying({ retry_on: '5xx', retry_back_off: { base_interval: '10s' } }),
  })
  const wire = await s.connect()
  await wire.write(get())
  await s.gateway.until(() => stat(s, 'upstream_rq_retry') === 1, 'the decision')
  await wire.close()
  await s.gateway.until(() => s.gateway.stat('http.test.downstream_cx_active') === 0, 'end of the connection')
  clock.advance(20_000)
  await settle(10)
  t.equal(s.origin.requests.length, 1)
  t.equal(stat(s, 'circuit_breakers.default.rq_retry_open'), 0)
})

// --- time -------------------------------------------------------------------------------------------------------------

t.test('per_try_timeout: a slow try is cancelled and made again, the last one answers 504', async (t) => {
  const clock = new TestClock()
  const s = await setup(t, {
    gateway: { clock },
    origin: inTurn('stall', { body: 'second' }, 'stall', 'stall'),
    routeConfig: {
      virtual_hosts: [
        {
          name: 'all',
          domains: ['*'],
          include_is_timeout_retry_header: true,
          routes: retrying({ retry_on: '5xx', per_try_timeout: '2s' }),
        },
      ],
    },
  })
  const wire = await s.connect()
  await wire.write(post('x'))
  await s.origin.seen(1)
  t.equal(s.origin.requests[0].get('x-envoy-expected-rq-timeout-ms'), '2000')
  clock.advance(1_900)
  await settle(10)
  t.equal(stat(s, 'upstream_rq_per_try_timeout'), 0)
  clock.advance(150)
  await s.gateway.until(() => stat(s, 'upstream_rq_retry') === 1, 'the decision')
  clock.advance(30)
  t.equal((await wire.readResponse()).text(), 'second')
  t.equal(await s.origin.requests[0].ended, 'fin')
  t.same(
    s.origin.requests.map((request) => request.get('x-envoy-is-timeout-retry')),
    [undefined, 'true'],
  )
  await wire.write(post('y'))
  for (let i = 0; i < 2; i++) {
    await s.origin.seen(3 + i)
    clock.advance(2_050)
    await s.gateway.until(() => stat(s, 'upstream_rq_per_try_timeout') === 2 + i, 'the timeout')
    clock.advance(30)
  }
  const response = await wire.readResponse()
  t.equal(response.status, 504)
  t.equal(response.text(), 'upstream request timeout')
  const lines = await s.finish()
  t.equal(lines[1].details, 'upstream_per_try_timeout')
  t.same(lines[1].flags?.split(',').sort(), ['URX', 'UT'])
})

t.test('the whole timeout ends a wait, and is not tried again', async (t) => {
  const clock = new TestClock()
  const s = await setup(t, {
    gateway: { clock, random: () => 0.9 },
    origin: inTurn({ status: 503 }, 'stall'),
    routes: retrying({ retry_on: '5xx', num_retries: 5, retry_back_off: { base_interval: '60s' } }, { timeout: '3s' }),
  })
  const wire = await s.connect()
  await wire.write(get())
  await s.gateway.until(() => stat(s, 'upstream_rq_retry') === 1, 'the decision')
  clock.advance(3_100)
  t.equal((await wire.readResponse()).status, 504)
  t.equal(stat(s, 'upstream_rq_timeout'), 1)
  clock.advance(100_000)
  await settle(10)
  t.equal(s.origin.requests.length, 1)
  t.match(await s.finish(), [{ status: 504, flags: 'UT', details: 'response_timeout' }])
})

t.test('a per-try timeout that is no less than the whole one is none', async (t) => {
  const clock = new TestClock()
  const s = await setup(t, {
    gateway: { clock },
    origin: inTurn('stall'),
    routes: retrying({ retry_on: '5xx', per_try_timeout: '3s' }, { timeout: '3s' }),
  })
  const wire = await s.connect()
  await wire.write(get())
  await s.origin.seen(1)
  clock.advance(3_100)
  t.equal((await wire.readResponse()).status, 504)
  t.equal(stat(s, 'upstream_rq_per_try_timeout'), 0)
  t.equal(s.origin.requests.length, 1)
})

t.test(
  'per_try_idle_timeout: a try in which nothing moves is made again, a response that stalls is broken off',
  async (t) => {
    const clock = new TestClock()
    const s = await setup(t, {
      gateway: { clock },
      origin: inTurn('stall'),
      routes: retrying({ retry_on: '5xx', per_try_idle_timeout: '1s' }, { timeout: '0s' }),
    })
    const wire = await s.connect()
    await wire.write(get())
    await s.origin.seen(1)
    clock.advance(1_050)
    await s.gateway.until(() => stat(s, 'upstream_rq_per_try_idle_timeout') === 1, 'the timeout')
    clock.advance(30)
    t.equal((await wire.readResponse()).text(), 'done')
    s.origin.script = async (_, reply) => {
      await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf')
      await reply.stall()
    }
    await wire.write(get())
    await wire.readUntil('half')
    clock.advance(1_050)
    t.equal((await wire.readToEnd()).ending, 'reset')
    t.equal(s.origin.requests.length, 3)
  },
)

t.test('internal callers set timeouts of tries by a header', async (t) => {
  const clock = new TestClock()
  const s = await setup(t, { hcm: INTERNAL_HCM, gateway: { clock }, origin: inTurn('stall') })
  const wire = await s.connect()
  await wire.write(get('/', 'x-envoy-retry-on: gateway-error', 'x-envoy-upstream-rq-per-try-timeout-ms: 500'))
  await s.origin.seen(1)
  clock.advance(550)
  await s.gateway.until(() => stat(s, 'upstream_rq_per_try_timeout') === 1, 'the timeout')
  clock.advance(30)
  t.equal((await wire.readResponse()).text(), 'done')
})

// --- hedging ----------------------------------------------------------------------------------------------------------

const HEDGED: Fields = { hedge_policy: { hedge_on_per_try_timeout: true } }

for (const winner of [0, 1]) {
  t.test(`hedging: try ${winner + 1} answers first and well, the other is cancelled`, async (t) => {
    const clock = new TestClock()
    const answers: ((spec: ReplySpec) => Promise<boolean>)[] = []
    const s = await setup(t, {
      gateway: { clock },
      origin: async (request, reply) => {
        await request.body
        await new Promise<void>((resolve) =>
          answers.push(async (spec) => {
            const sent = await reply.send(spec)
            resolve()
            return sent
          }),
        )
      },
      routes: retrying({ retry_on: '5xx', per_try_timeout: '1s', num_retries: 1 }, HEDGED),
    })
    const wire = await s.connect()
    await wire.write(post('hedged'))
    await s.origin.seen(1)
    await settle(10)
    clock.advance(1_050)
    await s.gateway.until(() => stat(s, 'upstream_rq_retry') === 1, 'the decision')
    clock.advance(30)
    await s.origin.seen(2)
    await settle(10)
    await answers[winner]({ body: `from ${winner}` })
    t.equal((await wire.readResponse()).text(), `from ${winner}`)
    t.not(await s.origin.requests[1 - winner].ended, 'open')
    const bodies = await Promise.all(s.origin.requests.map(({ body }) => body))
    t.same(
      bodies.map(({ bytes }) => bytes.toString()),
      ['hedged', 'hedged'],
    )
    await answers[1 - winner]({ status: 503 })
    t.match(await s.finish(), [{ status: 200, attempts: 2 }])
  })
}

t.test('hedging: a bad answer of one is passed over while the other is at work', async (t) => {
  const clock = new TestClock()
  const answers: OriginReply[] = []
  const s = await setup(t, {
    gateway: { clock },
    origin: (_, reply) => {
      answers.push(reply)
      return new Promise<void>((resolve) => reply.socket.once('close', () => resolve()))
    },
    routes: retrying({ retry_on: '5xx', per_try_timeout: '1s', num_retries: 1 }, HEDGED),
  })
  const wire = await s.connect()
  await wire.write(get())
  await s.origin.seen(1)
  await settle(10)
  clock.advance(1_050)
  await s.gateway.until(() => stat(s, 'upstream_rq_retry') === 1, 'the decision')
  clock.advance(30)
  await s.origin.seen(2)
  await answers[1].send({ status: 503 })
  await settle(20)
  t.equal(wire.stream.received, 0)
  await answers[0].send({ body: 'late but well' })
  t.equal((await wire.readResponse()).text(), 'late but well')
  for (const answer of answers) answer.socket.destroy()
})

// --- room -------------------------------------------------------------------------------------------------------------

t.test('max_retries: beyond it the answer goes out as it is, with UO', async (t) => {
  const clock = new TestClock()
  const s = await setup(t, {
    gateway: { clock, random: () => 0.5 },
    origin: async (_, reply) => void (await reply.send({ status: 503 })),
    cluster: { circuit_breakers: { thresholds: [{ max_retries: 1 }] } },
    routes: retrying({ retry_on: '5xx', retry_back_off: { base_interval: '1s' } }),
  })
  const [first, second] = [await s.connect(), await s.connect()]
  await first.write(get('/first'))
  await s.gateway.until(() => stat(s, 'upstream_rq_retry') === 1, 'the decision')
  t.equal(stat(s, 'circuit_breakers.default.rq_retry_open'), 1)
  t.equal((await second.exchange(get('/second'))).status, 503)
  t.equal(stat(s, 'upstream_rq_retry_overflow'), 1)
  clock.advance(1_100)
  t.equal((await first.readResponse()).status, 503)
  t.equal(stat(s, 'circuit_breakers.default.rq_retry_open'), 0)
  t.same(
    (await s.finish()).map((line) => [line.path, line.flags, line.attempts]),
    [
      ['/second', 'UO', 1],
      ['/first', 'URX', 2],
    ],
  )
})

t.test('retry_budget: a share of what is under way, and never less than its minimum', async (t) => {
  const clock = new TestClock()
  const s = await setup(t, {
    gateway: { clock, random: () => 0.5 },
    origin: async (request, reply) => {
      if (request.target === '/busy') await reply.stall()
      else await reply.send({ status: 503 })
    },
    cluster: {
      circuit_breakers: {
        thresholds: [{ max_retries: 1, retry_budget: { budget_percent: { value: 50 }, min_retry_concurrency: 1 } }],
      },
    },
    routes: retrying({ retry_on: '5xx', retry_back_off: { base_interval: '1s' } }, { timeout: '0s' }),
  })
  const ask = async (path: string): Promise<boolean> => (await s.connect()).write(get(path))
  await ask('/1')
  await s.gateway.until(() => stat(s, 'upstream_rq_retry') === 1, 'the first retry')
  await ask('/2')
  await s.gateway.until(() => stat(s, 'upstream_rq_retry_overflow') === 1, 'the overflow')
  for (let i = 0; i < 4; i++) await ask('/busy')
  await s.gateway.until(() => stat(s, 'upstream_rq_active') === 4, 'busy requests')
  await ask('/3')
  await s.gateway.until(() => stat(s, 'upstream_rq_retry') === 2, 'room for one more')
  await ask('/4')
  await s.gateway.until(() => stat(s, 'upstream_rq_retry_overflow') === 2, 'the second overflow')
})

// --- bodies -----------------------------------------------------------------------------------------------------------

t.test('a body is sent again whole, byte by byte the same', async (t) => {
  const sent = Buffer.alloc(300_000, 'retried ')
  const s = await setup(t, {
    origin: inTurn({ status: 503 }, 'reset'),
    routes: retrying({ retry_on: '5xx', num_retries: 2 }),
  })
  const wire = await s.connect()
  await wire.write(`POST / HTTP/1.1\r\nhost: a\r\ncontent-length: ${sent.length}\r\n\r\n`)
  await wire.write(sent)
  t.equal((await wire.readResponse()).text(), 'done')
  for (const { body } of s.origin.requests) t.ok((await body).bytes.equals(sent))
  t.equal(s.origin.requests.length, 3)
})

t.test('a body that outgrows the limit goes on, and is not tried again', async (t) => {
  const s = await setup(t, {
    origin: inTurn({ status: 503 }),
    routes: [
      {
        match: { prefix: '/' },
        request_body_buffer_limit: 1_000,
        route: { cluster: 'origin', retry_policy: { retry_on: '5xx' } },
      },
    ],
  })
  const wire = await s.connect()
  t.equal((await wire.exchange(post('x'.repeat(1_001)))).status, 503)
  t.equal(s.origin.requests.length, 1)
  t.equal((await s.origin.requests[0].body).bytes.length, 1_001)
  t.equal(stat(s, 'retry_or_shadow_abandoned'), 1)
  s.origin.script = inTurn({ status: 503 })
  t.equal((await wire.exchange(post('x'.repeat(1_000)))).text(), 'done')
})

t.test('a body that outgrows the limit while no try is under way ends the request with 507', async (t) => {
  const clock = new TestClock()
  const s = await setup(t, {
    gateway: { clock, random: () => 0.5 },
    origin: { readBodies: false, script: async (_, reply) => void (await reply.send({ status: 503 })) },
    routes: [
      {
        match: { prefix: '/' },
        request_body_buffer_limit: 1_000,
        route: { cluster: 'origin', retry_policy: { retry_on: '5xx', retry_back_off: { base_interval: '10s' } } },
      },
    ],
  })
  const wire = await s.connect()
  await wire.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5000\r\n\r\nbegin')
  await s.gateway.until(() => stat(s, 'upstream_rq_retry') === 1, 'the decision')
  await wire.write(Buffer.alloc(4_995, 'x'))
  const response = await wire.readResponse()
  t.equal(response.status, 507)
  const [line] = await s.finish()
  t.equal(line.details, 'request_payload_exceeded_retry_buffer_limit')
})

// --- where to ---------------------------------------------------------------------------------------------------------

t.test('previous_hosts: a retry goes to a host that has not been tried', async (t) => {
  const bad: OriginScript = async (_, reply) => void (await reply.send({ status: 503 }))
  const hosts = [await Origin.start(bad), await Origin.start(bad), await Origin.start()]
  t.teardown(() => Promise.all(hosts.map((host) => host.close())))
  const s = await setup(t, {
    clusters: [
      cluster(
        'three',
        hosts.map((host) => host.port),
        { lb_policy: 'RANDOM' },
      ),
    ],
    routes: [
      {
        match: { prefix: '/' },
        route: {
          cluster: 'three',
          retry_policy: {
            retry_on: '5xx',
            num_retries: 2,
            retry_host_predicate: [predicate('previous_hosts', 'previous_hosts.v3.PreviousHostsPredicate')],
            host_selection_retry_max_attempts: 20,
          },
        },
      },
    ],
    gateway: { random: fractions() },
  })
  const wire = await s.connect()
  for (let i = 0; i < 20; i++) t.equal((await wire.exchange(get())).status, 200)
  t.equal(hosts[2].requests.length, 20)
})

t.test('omit_canary_hosts and omit_host_metadata: a retry leaves hosts with these labels for others', async (t) => {
  const plain = await Origin.start()
  const labelled = await Origin.start(async (_, reply) => void (await reply.send({ status: 503 })))
  t.teardown(() => Promise.all([plain.close(), labelled.close()]))
  const OMIT = 'omit_host_metadata.v3.OmitHostMetadataConfig'
  const old = { filter_metadata: { 'envoy.lb': { stage: 'old' } } }
  const omitOld = predicate('omit_host_metadata', OMIT, { metadata_match: old })
  const cases: readonly (readonly [Fields, Fields])[] = [
    [{ canary: true, stage: 'new' }, predicate('omit_canary_hosts', 'omit_canary_hosts.v3.OmitCanaryHostsPredicate')],
    [{ stage: 'old', x: 1 }, omitOld],
  ]
  const list = cases.map(([labels], i) => ({
    ...cluster(`c${i}`, []),
    lb_policy: 'RANDOM',
    load_assignment: {
      cluster_name: `c${i}`,
      endpoints: [
        {
          lb_endpoints: [
            endpoint('127.0.0.1', plain.port),
            endpoint('127.0.0.1', labelled.port, { metadata: { filter_metadata: { 'envoy.lb': labels } } }),
          ],
        },
      ],
    },
  }))
  const s = await setup(t, {
    clusters: list,
    routes: cases.map(([, by], i) => ({
      match: { path: `/${i}` },
      route: {
        cluster: `c${i}`,
        retry_policy: { retry_on: '5xx', retry_host_predicate: [by], host_selection_retry_max_attempts: 20 },
      },
    })),
    gateway: { random: fractions() },
  })
  const wire = await s.connect()
  for (let i = 0; i < 40; i++) t.equal((await wire.exchange(get(`/${i % 2}`))).status, 200)
})

t.test('previous_priorities: a retry goes to a priority that has not been tried', async (t) => {
  const bad: OriginScript = async (_, reply) => void (await reply.send({ status: 503 }))
  const [first, second] = [await Origin.start(bad), await Origin.start()]
  t.teardown(() => Promise.all([first.close(), second.close()]))
  const s = await setup(t, {
    clusters: [
      {
        ...cluster('levels', []),
        load_assignment: {
          cluster_name: 'levels',
          endpoints: [first, second].map(({ port }, priority) => ({
            priority,
            lb_endpoints: [endpoint('127.0.0.1', port)],
          })),
        },
      },
    ],
    routes: [
      {
        match: { prefix: '/' },
        route: {
          cluster: 'levels',
          retry_policy: {
            retry_on: '5xx',
            retry_priority: {
              name: 'envoy.retry_priorities.previous_priorities',
              typed_config: {
                '@type':
                  'type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig',
                update_frequency: 1,
              },
            },
          },
        },
      },
    ],
  })
  const wire = await s.connect()
  for (let i = 0; i < 5; i++) t.equal((await wire.exchange(get())).status, 200)
  t.same([first.requests.length, second.requests.length], [5, 5])
})

function predicate(name: string, type: string, fields: Fields = {}): Fields {
  return {
    name: `envoy.retry_host_predicates.${name}`,
    typed_config: { '@type': `type.googleapis.com/envoy.extensions.retry.host.${type}`, ...fields },
  }
}

/** Numbers in [0, 1) that come by all places. */
function fractions(): () => number {
  let x = 0
  return () => {
    x = (x + 0.6180339887) % 1
    return x
  }
}

// --- the ledger -------------------------------------------------------------------------------------------------------

t.test('POST is never done twice where the policy speaks of what was not begun', async (t) => {
  const good = await Origin.start(ledgerScript())
  t.teardown(() => good.close())
  const safe = 'connect-failure,refused-stream,reset-before-request'
  const s = await setup(t, {
    clusters: [cluster('mixed', [await closedPort(), good.port], { lb_policy: 'ROUND_ROBIN' })],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'mixed', retry_policy: { retry_on: safe, num_retries: 5 } } }],
  })
  const answered = await burst(s, 120)
  const done = new Map<string, number>()
  for (const request of good.requests) {
    const seq = request.get('x-seq') ?? ''
    done.set(seq, (done.get(seq) ?? 0) + 1)
  }
  for (const [seq, times] of done) t.ok(times <= 1, `request ${seq} was done ${times} times`)
  for (const [seq, code] of answered) if (code === 200) t.equal(done.get(seq), 1, seq)
  t.ok(
    [...answered.values()].some((code) => code === 503),
    'some were broken',
  )
  t.ok(s.gateway.stat('cluster.mixed.upstream_rq_retry') > 0, 'some were tried again')
})

/** Breaks every fifth request after it has been read, and every seventh connection before an answer. */
function ledgerScript(): OriginScript {
  let at = 0
  return async (request: OriginRequest, reply: OriginReply) => {
    await request.body
    at++
    if (at % 5 === 0 || at % 7 === 0) reply.reset()
    else await reply.send({ body: 'done' })
  }
}

async function burst(s: Setup, count: number): Promise<Map<string, number>> {
  const answered = new Map<string, number>()
  const lanes = Array.from({ length: 8 }, async (_, lane) => {
    const wire = await s.connect()
    for (let i = lane; i < count; i += 8) {
      const response = await wire.exchange(post(`body ${i}`, `x-seq: ${i}`))
      answered.set(String(i), response.status)
    }
  })
  await Promise.all(lanes)
  return answered
}

// --- HTTP/2 -----------------------------------------------------------------------------------------------------------

const REFUSED_STREAM = 7

/** An HTTP/2 origin; `refuse` streams are refused, the others get what `answer` says, or 200 and the body back. */
class Http2Origin {
  refuse = 0
  answer: ((stream: ServerHttp2Stream) => void) | undefined = undefined
  streams = 0
  readonly #server = createHttp2Server()
  readonly #sessions = new Set<{ destroy(): void }>()

  static async start(): Promise<Http2Origin> {
    const origin = new Http2Origin()
    origin.#server.on('session', (session) => {
      origin.#sessions.add(session)
      session.on('error', () => {})
    })
    origin.#server.on('stream', (stream: ServerHttp2Stream) => origin.#stream(stream))
    await new Promise<void>((resolve) => origin.#server.listen(0, '127.0.0.1', resolve))
    return origin
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  #stream(stream: ServerHttp2Stream): void {
    this.streams++
    stream.on('error', () => {})
    if (this.refuse-- > 0) stream.close(REFUSED_STREAM)
    else if (this.answer !== undefined) this.answer(stream)
    else {
      stream.respond({ ':status': 200 })
      stream.pipe(stream)
    }
  }

  async close(): Promise<void> {
    for (const session of this.#sessions) session.destroy()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }
}

async function overHttp2(t: Test, policy: Fields): Promise<Setup & { readonly peer: Http2Origin }> {
  const peer = await Http2Origin.start()
  t.teardown(() => peer.close())
  const s = await setup(t, {
    clusters: [cluster('h2', peer.port, TO_HTTP2)],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'h2', retry_policy: policy } }],
  })
  return { ...s, peer }
}

t.test('retry_on refused-stream: a policy that names it says how often', async (t) => {
  const s = await overHttp2(t, { retry_on: 'refused-stream', num_retries: 1 })
  const wire = await s.connect()
  s.peer.refuse = 1
  t.equal((await wire.exchange(post('whole'))).text(), 'whole')
  t.equal(s.peer.streams, 2)
  s.peer.refuse = 9
  t.equal((await wire.exchange(post('whole'))).status, 503)
  t.equal(s.peer.streams, 4)
  t.equal(s.gateway.stat('cluster.h2.upstream_rq_retry_limit_exceeded'), 1)
})

t.test('what a policy does not name is still sent again where nobody has looked at it', async (t) => {
  const s = await overHttp2(t, { retry_on: 'retriable-4xx', num_retries: 1 })
  const wire = await s.connect()
  s.peer.refuse = 3
  t.equal((await wire.exchange(post('whole'))).text(), 'whole')
  t.equal(s.peer.streams, 4)
  t.equal(s.gateway.stat('cluster.h2.upstream_rq_retry_limit_exceeded'), 0)
})

t.test('gRPC statuses in trailers are not looked at: the response has begun', async (t) => {
  const s = await overHttp2(t, { retry_on: 'unavailable' })
  s.peer.answer = (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '14' }))
    stream.end()
  }
  const wire = await s.connect()
  t.equal((await wire.exchange(post('x'))).status, 200)
  t.equal(s.peer.streams, 1)
  s.peer.answer = (stream) => {
    s.peer.answer = undefined
    stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '14' }, { endStream: true })
  }
  t.equal((await wire.exchange(post('again'))).text(), 'again')
  t.equal(s.peer.streams, 3)
})

t.test('a large body that came whole is the same in every try, though others are read meanwhile', async (t) => {
  const s = await setup(t, {
    origin: async (request, reply) => {
      const { bytes } = await request.body
      const first = !s.origin.requests.some((r) => r !== request && r.get('x-seq') === request.get('x-seq'))
      if (first) await reply.send({ status: 503 })
      else await reply.send({ body: String(bytes.every((byte) => byte === bytes[0])) + bytes[0] })
    },
    cluster: { circuit_breakers: { thresholds: [{ max_retries: 100 }] } },
    routes: retrying({ retry_on: '5xx' }),
  })
  const size = 500_000
  const lanes = Array.from({ length: 6 }, async (_, lane) => {
    const wire = await s.connect()
    for (let i = 0; i < 3; i++) {
      await wire.write(`POST / HTTP/1.1\r\nhost: a\r\nx-seq: ${lane}-${i}\r\ncontent-length: ${size}\r\n\r\n`)
      await wire.write(Buffer.alloc(size, 65 + lane))
      t.equal((await wire.readResponse()).text(), `true${65 + lane}`)
    }
  })
  await Promise.all(lanes)
  t.equal(s.origin.requests.length, 36)
})
