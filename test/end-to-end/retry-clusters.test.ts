import t, { type Test } from 'tap'
import { settle, TestClock } from '../support/clock.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import { cluster, type Fields } from './bootstrap.ts'
import { get, post, type Setup, setup } from './setup.ts'

/** Retries that go to other clusters of the route, and timeouts that callers want to hear nothing of. */

const failing: OriginScript = async (request, reply) => {
  await request.body
  await reply.send({ status: 503, body: 'no' })
}

const stat = ({ gateway }: Setup, name: string, rest: string): number => gateway.stat(`cluster.${name}.${rest}`)

interface Two {
  readonly s: Setup
  readonly first: Origin
  readonly second: Origin
}

interface TwoSpec {
  readonly first?: OriginScript
  readonly second?: OriginScript
  readonly policy?: Fields
  readonly clusters?: readonly Fields[]
}

/** A weighted route to `first`, nearly always, and `second`, with fields and labels for each. */
async function two(t: Test, spec: TwoSpec = {}): Promise<Two> {
  const first = await Origin.start(spec.first ?? failing)
  const second = await Origin.start(spec.second ?? {})
  t.teardown(async () => {
    await first.close()
    await second.close()
  })
  const weighted = (name: string, weight: number): Fields => ({
    name,
    weight,
    request_headers_to_add: [{ header: { key: 'x-for', value: name } }],
  })
  const route = {
    match: { prefix: '/' },
    route: {
      weighted_clusters: {
        clusters: spec.clusters ?? [weighted('first', 100), weighted('second', 1)],
        header_name: 'x-draw',
      },
      retry_policy: { retry_on: '5xx', num_retries: 3, refresh_cluster_on_retry: true, ...spec.policy },
    },
  }
  const s = await setup(t, {
    clusters: [cluster('first', [first.port]), cluster('second', [second.port])],
    routeConfig: { validate_clusters: false, virtual_hosts: [{ name: 'all', domains: ['*'], routes: [route] }] },
  })
  return { s, first, second }
}

const FIRST = 'x-draw: 5'

t.test('refresh_cluster_on_retry: a retry goes to another cluster of the weighted choice', async (t) => {
  const { s, first, second } = await two(t)
  const wire = await s.connect()
  t.equal((await wire.exchange(post('body', FIRST))).text(), 'body')
  t.same([first.requests.length, second.requests.length], [1, 1])
  t.equal(second.requests[0].get('x-for'), 'first', 'the request is the one that was prepared for the first')
  t.same(
    ['upstream_rq_retry', 'upstream_rq_retry_success', 'upstream_rq_retry_backoff_exponential'].map((name) =>
      stat(s, 'second', name),
    ),
    [1, 1, 1],
  )
  t.equal(stat(s, 'first', 'upstream_rq_retry'), 0)
  t.equal(stat(s, 'first', 'retry.upstream_rq_503'), 1, 'what was not passed on counts where it came from')
  t.equal(stat(s, 'second', 'upstream_rq_200'), 1)
  t.throws(() => stat(s, 'first', 'upstream_rq_503'), 'and nowhere else')
  t.match((await s.finish())[0], { status: 200, attempts: 2, host: `127.0.0.1:${second.port}` })
})

t.test('refresh_cluster_on_retry: once all clusters have had their turn they have it again', async (t) => {
  const { s, first, second } = await two(t, { second: failing })
  const wire = await s.connect()
  t.equal((await wire.exchange(get('/', FIRST))).status, 503)
  t.same([first.requests.length, second.requests.length], [2, 2])
  t.same([stat(s, 'first', 'upstream_rq_retry'), stat(s, 'second', 'upstream_rq_retry')], [1, 2])
  t.equal(stat(s, 'second', 'upstream_rq_retry_limit_exceeded'), 1)
  t.match((await s.finish())[0], { status: 503, flags: 'URX', attempts: 4 })
})

t.test('refresh_cluster_on_retry: the next cluster is not there', async (t) => {
  const clusters = [
    { name: 'first', weight: 100 },
    { name: 'nowhere', weight: 1 },
  ]
  const { s, first } = await two(t, { clusters })
  const wire = await s.connect()
  const response = await wire.exchange(get('/', FIRST))
  t.equal(response.status, 503)
  t.equal(response.text(), 'no healthy upstream')
  t.equal(first.requests.length, 1)
  t.equal(stat(s, 'first', 'upstream_rq_retry'), 0)
  t.match((await s.finish())[0], { flags: 'UH', details: 'no_healthy_upstream', attempts: 2 })
})

t.test('without refresh_cluster_on_retry retries stay where they are', async (t) => {
  const { s, first, second } = await two(t, { policy: { refresh_cluster_on_retry: false } })
  const wire = await s.connect()
  t.equal((await wire.exchange(get('/', FIRST))).status, 503)
  t.same([first.requests.length, second.requests.length], [4, 0])
  t.equal(stat(s, 'first', 'upstream_rq_retry'), 3)
})

t.test('circuit breakers of the next cluster decide about the retry', async (t) => {
  const first = await Origin.start(failing)
  t.teardown(() => first.close())
  const s = await setup(t, {
    cluster: { circuit_breakers: { thresholds: [{ max_retries: 0 }] } },
    clusters: [cluster('first', [first.port])],
    routes: [
      {
        match: { prefix: '/' },
        route: {
          weighted_clusters: {
            clusters: [
              { name: 'first', weight: 100 },
              { name: 'origin', weight: 1 },
            ],
            header_name: 'x-draw',
          },
          retry_policy: { retry_on: '5xx', refresh_cluster_on_retry: true },
        },
      },
    ],
  })
  const wire = await s.connect()
  t.equal((await wire.exchange(get('/', FIRST))).status, 503)
  t.equal(s.origin.requests.length, 0)
  t.equal(stat(s, 'origin', 'upstream_rq_retry_overflow'), 1)
  t.match((await s.finish())[0], { flags: 'UO' })
})

// --- timeouts that are answered with 204 ------------------------------------------------------------------------------

const ALT = 'x-envoy-upstream-rq-timeout-alt-response: 1'
const INTERNAL = { internal_address_config: { cidr_ranges: [{ address_prefix: '127.0.0.1', prefix_len: 32 }] } }

t.test('x-envoy-upstream-rq-timeout-alt-response: timeouts are answered with 204', async (t) => {
  const clock = new TestClock()
  const s = await setup(t, {
    origin: async (request, reply) => {
      if (request.target === '/begun') await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf')
      await reply.stall()
    },
    hcm: { use_remote_address: true, ...INTERNAL },
    routes: [
      {
        match: { prefix: '/tried' },
        route: { cluster: 'origin', timeout: '9s', retry_policy: { retry_on: '5xx', per_try_timeout: '1s' } },
      },
      { match: { prefix: '/' }, route: { cluster: 'origin', timeout: '3s' } },
    ],
    gateway: { clock },
  })
  const ask = async (request: string) => {
    const wire = await s.connect()
    await wire.write(request)
    return wire
  }
  const whole = await ask(get('/', ALT))
  const tried = await ask(get('/tried', ALT))
  const grpc = await ask(post('x', 'content-type: application/grpc', ALT))
  const begun = await ask(get('/begun', ALT))
  const plain = await ask(get('/'))
  await begun.readUntil('half')
  await s.origin.seen(5)
  for (let i = 0; i < 8; i++) {
    await settle(10)
    clock.advance(500)
    await settle(10)
  }
  const response = await whole.readResponse()
  t.equal(response.status, 204)
  t.equal(response.text(), '')
  t.equal(response.get('content-length'), undefined)
  t.equal((await tried.readResponse()).status, 204)
  const call = await grpc.readResponse()
  t.same([call.status, call.get('grpc-status'), call.get('grpc-message')], [200, '2', undefined])
  t.equal((await begun.readToEnd()).ending, 'reset')
  t.equal((await plain.readResponse()).status, 504)
  t.notOk(s.origin.requests.some((request) => request.get('x-envoy-upstream-rq-timeout-alt-response')))
  t.equal(s.gateway.stat('cluster.origin.upstream_rq_204'), 3)
  t.equal(s.gateway.stat('cluster.origin.upstream_rq_504'), 1)
  const lines = await s.finish()
  t.same(
    lines.filter(({ status }) => status === 204).map(({ flags, details }) => [flags, details]),
    [
      ['UT,URX', 'upstream_per_try_timeout'],
      ['UT', 'response_timeout'],
    ],
  )
})
