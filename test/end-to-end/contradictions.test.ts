import t, { type Test } from 'tap'
import { TestClock } from '../support/clock.ts'
import type { OriginScript } from '../support/origin.ts'
import type { Fields } from './bootstrap.ts'
import { get, post, setup } from './setup.ts'

/** Policies of retries and timeouts that contradict themselves: refused by name, or one answer within their own limits. */

const failing: OriginScript = async (request, reply) => {
  await request.body
  await reply.send({ status: 503 })
}

interface Outcome {
  readonly refused: string | undefined
  readonly status: number
  readonly tries: number
}

async function outcome(t: Test, policy: Fields, more: { route?: Fields; cluster?: Fields } = {}): Promise<Outcome> {
  const route = { cluster: 'origin', timeout: '2s', retry_policy: policy, ...more.route }
  try {
    const s = await setup(t, {
      origin: failing,
      cluster: more.cluster ?? {},
      routes: [{ match: { prefix: '/' }, route }],
    })
    const wire = await s.connect()
    const response = await wire.exchange(get('/'))
    const again = await wire.exchange(post('body'))
    t.equal(again.status, response.status, 'a body makes no difference')
    const lines = await s.finish()
    return { refused: undefined, status: response.status, tries: lines[0].attempts }
  } catch (error) {
    return { refused: String(error), status: 0, tries: 0 }
  }
}

const QUICK: Fields = { retry_back_off: { base_interval: '0.001s', max_interval: '0.001s' } }

const REFUSED: Readonly<Record<string, { readonly policy: Fields; readonly place: RegExp }>> = {
  'a longest wait below the first': {
    policy: { retry_on: '5xx', retry_back_off: { base_interval: '1s', max_interval: '0.5s' } },
    place: /retry_back_off\.max_interval/,
  },
  'a wait of less than nothing': {
    policy: { retry_on: '5xx', retry_back_off: { base_interval: '-1s' } },
    place: /retry_back_off\.base_interval/,
  },
  'a timeout of less than nothing': { policy: { retry_on: '5xx', per_try_timeout: '-1s' }, place: /per_try_timeout/ },
  'a timeout beyond what a duration holds': {
    policy: { retry_on: '5xx', per_try_timeout: '999999999999s' },
    place: /per_try_timeout/,
  },
  'a predicate that nobody knows': {
    policy: {
      retry_on: '5xx',
      retry_host_predicate: [
        { name: 'p', typed_config: { '@type': 'type.googleapis.com/google.protobuf.Duration', value: '1s' } },
      ],
    },
    place: /retry_host_predicate/,
  },
}

for (const [name, { policy, place }] of Object.entries(REFUSED)) {
  t.test(`${name} is refused with its place`, async (t) => {
    const { refused } = await outcome(t, policy)
    t.match(refused, place)
  })
}

const ANSWERED: Readonly<
  Record<
    string,
    { readonly policy: Fields; readonly route?: Fields; readonly cluster?: Fields; readonly tries: number }
  >
> = {
  'retries of nothing': { policy: { num_retries: 5, ...QUICK }, tries: 1 },
  'codes without the condition that looks at them': {
    policy: { retry_on: 'reset', retriable_status_codes: [503], num_retries: 3, ...QUICK },
    tries: 1,
  },
  'conditions that exclude each other': {
    policy: { retry_on: 'connect-failure,refused-stream', num_retries: 3, ...QUICK },
    tries: 1,
  },
  'a condition and no retries': { policy: { retry_on: '5xx', num_retries: 0, ...QUICK }, tries: 1 },
  'a budget of nothing': {
    policy: { retry_on: '5xx', num_retries: 5, ...QUICK },
    cluster: {
      circuit_breakers: {
        thresholds: [{ retry_budget: { budget_percent: { value: 0 }, min_retry_concurrency: 0 } }],
      },
    },
    tries: 1,
  },
  'other hosts, where there is one': {
    policy: {
      retry_on: '5xx',
      num_retries: 2,
      host_selection_retry_max_attempts: 1_000_000,
      retry_host_predicate: [
        {
          name: 'previous',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
          },
        },
      ],
      ...QUICK,
    },
    tries: 3,
  },
  'a try that may take longer than the whole': {
    policy: { retry_on: '5xx', num_retries: 2, per_try_timeout: '3600s', ...QUICK },
    tries: 3,
  },
  'hedging without a timeout of tries': {
    policy: { retry_on: '5xx', num_retries: 1, ...QUICK },
    route: { hedge_policy: { hedge_on_per_try_timeout: true } },
    tries: 2,
  },
}

for (const [name, { policy, route, cluster, tries }] of Object.entries(ANSWERED)) {
  t.test(`${name}: one answer`, async (t) => {
    t.strictSame(await outcome(t, policy, { route, cluster }), { refused: undefined, status: 503, tries })
  })
}

t.test('four billion retries end with the timeout of the whole', async (t) => {
  const clock = new TestClock()
  const s = await setup(t, {
    origin: failing,
    gateway: { clock, random: () => 0.5 },
    routes: [
      {
        match: { prefix: '/' },
        route: {
          cluster: 'origin',
          timeout: '1s',
          retry_policy: {
            retry_on: '5xx',
            num_retries: 4_294_967_295,
            retry_back_off: { base_interval: '0.1s', max_interval: '0.1s' },
          },
        },
      },
    ],
  })
  const wire = await s.connect()
  const answer = wire.exchange(get('/'))
  for (let step = 0; step < 40; step++) {
    const before = s.origin.requests.length
    clock.advance(50)
    if (step < 18) await s.gateway.until(() => s.origin.requests.length >= before, 'turn')
    await new Promise((resolve) => setImmediate(resolve))
  }
  const response = await answer
  t.equal(response.status, 504)
  t.ok(s.origin.requests.length > 3 && s.origin.requests.length < 30, `${s.origin.requests.length} tries`)
  t.match((await s.finish())[0], { status: 504, details: 'response_timeout' })
})
