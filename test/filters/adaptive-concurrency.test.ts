import fc from 'fast-check'
import t from 'tap'
import type { GradientConfig } from '../../filters/adaptive-concurrency/config.ts'
import { GradientController } from '../../filters/adaptive-concurrency/gradient.ts'
import { adaptiveConcurrencyFilter } from '../../filters/adaptive-concurrency/index.ts'
import { Latencies } from '../../filters/adaptive-concurrency/latencies.ts'
import { adaptiveConcurrency } from '../../filters/adaptive-concurrency/native.ts'
import type { HttpFilter } from '../../lib/chain/filter.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { HEALTH_CHECK_KEY } from '../../lib/telemetry/access-log-filter.ts'
import { build, type Driven, drive, parseJson, testScope } from '../support/chain-driver.ts'

const CONFIG: GradientConfig = Object.freeze({
  samplePercentile: 50,
  maxLimit: 100,
  updateIntervalMs: 100,
  minRttIntervalMs: 10_000,
  requestCount: 10,
  jitterPercent: 20,
  minConcurrency: 3,
  bufferPercent: 25,
})

interface Rig {
  readonly controller: GradientController
  nowMs: number
  /** So many requests at once, which take so long; how many were admitted. */
  round(requests: number, tookMs: number): number
  gauge(name: string): number
}

function rig(config: Partial<GradientConfig> = {}, runtime: JsonObject = {}): Rig {
  const scope = testScope({ runtime })
  const parts = { config: { ...CONFIG, ...config }, runtime: scope.runtime, metrics: scope.metrics }
  const controller = new GradientController({ ...parts, statPrefix: 'g.', random: () => 0.5 }, 1_000)
  const made: Rig = {
    controller,
    nowMs: 1_000,
    round(requests, tookMs) {
      const since = made.nowMs
      let admitted = 0
      for (let i = 0; i < requests; i++) if (controller.admit(since)) admitted++
      made.nowMs += tookMs
      for (let i = 0; i < admitted; i++) controller.completed(since, made.nowMs)
      return admitted
    },
    gauge: (name) => scope.counters.get(`g.${name}`)?.v ?? -1,
  }
  return made
}

/** Measures a shortest latency of 10 ms. */
function measured(config: Partial<GradientConfig> = {}): Rig {
  const one = rig(config)
  while (one.gauge('min_rtt_calculation_active') === 1) one.round(3, 10)
  return one
}

t.test('at first very few may be under way, until the shortest latency has been measured', async (t) => {
  const one = rig()
  t.equal(one.gauge('min_rtt_calculation_active'), 1)
  t.equal(one.gauge('concurrency_limit'), 3)
  t.equal(one.round(5, 10), 3)
  t.equal(one.gauge('rq_blocked'), 2)
  one.round(3, 10)
  one.round(3, 10)
  t.equal(one.gauge('min_rtt_calculation_active'), 1)
  one.round(1, 10)
  t.equal(one.gauge('min_rtt_calculation_active'), 0)
  t.equal(one.gauge('min_rtt_msecs'), 10)
  t.equal(one.controller.underWay, 0)
})

t.test('the limit follows the gradient of each window, with room for bursts and within its bounds', async (t) => {
  const one = measured()
  const limits: number[] = []
  for (let i = 0; i < 12; i++) {
    one.round(3, 10)
    one.nowMs += 100
    one.round(1, 10)
    limits.push(one.controller.limit)
  }
  let expected = 3
  for (const limit of limits) {
    const raised = expected * 1.25
    expected = Math.min(100, Math.floor(raised + Math.sqrt(raised)))
    // What stands for a step of the histogram may be up to 10 % more.
    t.ok(Math.abs(limit - expected) <= Math.max(1, expected * 0.1), `${limit}, expected ${expected}`)
    expected = limit
  }
  t.equal(limits.at(-1), 100)
  t.ok(one.gauge('gradient') >= 1_190 && one.gauge('gradient') <= 1_250)
  t.equal(one.gauge('burst_queue_size'), 11)
  t.ok(one.gauge('sample_rtt_msecs') === 10)
  one.round(50, 40)
  one.nowMs += 100
  one.round(1, 40)
  t.equal(one.gauge('gradient'), 500, 'never below a half')
  t.equal(one.controller.limit, 57)
})

t.test('from time to time, and a little later at random, the shortest latency is measured again', async (t) => {
  const one = measured()
  for (let i = 0; i < 10; i++) {
    one.round(3, 10)
    one.nowMs += 100
  }
  const limit = one.controller.limit
  t.ok(limit > 10)
  const straggler = one.nowMs
  t.ok(one.controller.admit(straggler))
  one.nowMs = 1_040 + 10_000 + 998
  one.round(1, 1)
  t.equal(one.gauge('min_rtt_calculation_active'), 0)
  one.nowMs += 10
  one.round(1, 1)
  t.equal(one.gauge('min_rtt_calculation_active'), 1)
  t.equal(one.controller.limit, 3)
  one.controller.completed(straggler, one.nowMs)
  for (let i = 0; i < 4; i++) one.round(3, 20)
  t.equal(one.gauge('min_rtt_calculation_active'), 0)
  t.ok(one.controller.limit > 10, 'and the limit goes on from where it was')
  t.equal(one.gauge('min_rtt_msecs'), 20, 'by what began after it')
})

t.test('five windows at the smallest limit are a sign of a wrong measurement', async (t) => {
  const one = measured()
  let windows = 0
  while (one.gauge('min_rtt_calculation_active') === 0 && windows < 20) {
    one.round(3, 500)
    windows++
  }
  // The first ones bring the limit down.
  t.ok(windows >= 5 && windows <= 10, `${windows}`)
})

t.test('workers share the limits, and measure the shortest latency at the same time', async (t) => {
  const make = (
    wallMs: number,
    workers: number,
    seed = 'in/0',
  ): { measure(): number; readonly one: GradientController } => {
    const scope = testScope()
    const parts = { config: CONFIG, runtime: scope.runtime, metrics: scope.metrics, statPrefix: 'g.' }
    let nowMs = 0
    const shared = { workers, wallMs: () => wallMs + nowMs, seed }
    const one = new GradientController({ ...parts, random: () => 0.5, shared }, nowMs)
    const active = (): number => scope.counters.get('g.min_rtt_calculation_active')?.v ?? -1
    const round = (tookMs: number): void => {
      const since = nowMs
      const admitted = one.admit(since)
      nowMs += tookMs
      if (admitted) one.completed(since, nowMs)
    }
    return {
      one,
      // When it measures next, by the wall.
      measure() {
        while (active() === 1) round(10)
        while (active() === 0) round(1)
        return wallMs + nowMs
      },
    }
  }
  const [a, b] = [make(1_000_000, 2), make(1_000_777, 2)]
  t.equal(a.one.limit, 2, 'of three, half')
  for (let i = 0; i < 5; i++) {
    const [first, second] = [a.measure(), b.measure()]
    t.ok(Math.abs(first - second) <= 2, `${first} ${second}`)
    const late = first % CONFIG.minRttIntervalMs
    t.ok(late <= 2_010, 'by less than the jitter after the turn')
  }
  t.ok(
    Math.abs(make(1_000_000, 2, 'out/0').measure() - make(1_000_000, 2).measure()) > 2,
    'another filter at another time',
  )
  const many = make(0, 8).one
  t.equal(many.limit, 1, 'never none')
})

t.test('a given shortest latency is not measured', async (t) => {
  const one = rig({ fixedMinRttMs: 10, minRttIntervalMs: 0, minLimit: 1 })
  t.equal(one.gauge('min_rtt_calculation_active'), 0)
  t.equal(one.gauge('min_rtt_msecs'), 10)
  for (let i = 0; i < 40; i++) one.round(3, 150)
  t.equal(one.controller.limit, 2, 'its smallest limit is another one')
  t.equal(one.gauge('min_rtt_calculation_active'), 0)
})

t.test(
  'requests that are broken off are not measured; empty windows change nothing; gauges go with the controller',
  async (t) => {
    const one = measured()
    one.nowMs += 100
    one.round(1, 0)
    one.nowMs += 100
    one.round(0, 0)
    t.ok(one.controller.admit(one.nowMs))
    const limit = one.controller.limit
    t.equal(one.controller.underWay, 1)
    one.controller.cancelled()
    one.nowMs += 5_000
    t.ok(one.controller.admit(one.nowMs))
    one.controller.cancelled()
    t.equal(one.controller.limit, limit)
    t.equal(one.controller.underWay, 0)
    one.controller.close()
    for (const name of ['concurrency_limit', 'min_rtt_msecs', 'gradient']) t.equal(one.gauge(name), 0)
  },
)

t.test('the runtime has the last word on every setting', async (t) => {
  const key = 'adaptive_concurrency.gradient_controller.'
  const one = rig(
    {},
    { [`${key}min_concurrency`]: 5, [`${key}min_rtt_aggregate_request_count`]: 5, [`${key}max_concurrency_limit`]: 8 },
  )
  t.equal(one.round(9, 10), 5)
  t.equal(one.gauge('min_rtt_calculation_active'), 0)
  for (let i = 0; i < 10; i++) {
    one.round(5, 10)
    one.nowMs += 100
  }
  t.equal(one.controller.limit, 8)
})

t.test('percentiles are right to two digits, whatever was recorded', async (t) => {
  const run = fc.property(
    fc.array(fc.oneof(fc.nat(99), fc.nat(100_000), fc.nat(900_000_000)), { minLength: 1, maxLength: 200 }),
    fc.integer({ min: 1, max: 100 }),
    (values, percent) => {
      const latencies = new Latencies()
      for (const value of values) latencies.record(value)
      const sorted = values.toSorted((a, b) => a - b)
      const exact = sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]
      const found = latencies.at(percent)
      return found >= exact * 0.9 - 1 && found <= exact * 1.1 + 1
    },
  )
  t.doesNotThrow(() => fc.assert(run, { numRuns: 300 }))
  const latencies = new Latencies()
  t.equal(latencies.at(50), 0)
  latencies.record(1e12)
  t.ok(latencies.at(100) >= 9e8)
  latencies.clear()
  t.equal(latencies.count, 0)
})

const GRADIENT = {
  concurrency_limit_params: { concurrency_update_interval: '0.1s' },
  min_rtt_calc_params: { interval: '60s', min_concurrency: 2, request_count: 2 },
}

t.test('the filter answers what is too much, and lets go of everything that ends', async (t) => {
  const scope = testScope()
  const filter = build(adaptiveConcurrencyFilter, { gradient_controller_config: GRADIENT }, { scope })
  const stat = (name: string): number =>
    scope.counters.get(`http.ingress.adaptive_concurrency.gradient_controller.${name}`)?.v ?? -1
  const send = (): Driven => drive({ filters: [filter] })
  const [one, two, three] = [send(), send(), send()]
  t.equal(three.downstream.status, 503)
  t.equal(three.downstream.body, 'reached concurrency limit')
  t.equal(three.exchange.info.details, 'reached_concurrency_limit')
  t.equal(stat('rq_blocked'), 1)
  one.clientGone()
  const four = send()
  t.equal(four.upstream.begun, 1)
  scope.clock.advance(30)
  two.upstream.respond(200, [], 'body')
  t.equal(stat('min_rtt_calculation_active'), 1)
  four.upstream.respond(200)
  t.equal(stat('min_rtt_calculation_active'), 0)
  t.equal(stat('min_rtt_msecs'), 30)
  const check: HttpFilter<unknown> = { onRequestHeaders: (stream) => stream.filterState.set(HEALTH_CHECK_KEY, true) }
  const held = [send(), send()]
  t.equal(drive({ filters: [check, filter] }).upstream.begun, 1, 'health checks pass')
  t.equal(send().upstream.begun, 0)
  for (const driven of held) driven.clientGone()
  const off = build(
    adaptiveConcurrencyFilter,
    {
      gradient_controller_config: GRADIENT,
      enabled: { default_value: true, runtime_key: 'on' },
      concurrency_limit_exceeded_status: { code: 'TooManyRequests' },
    },
    { scope: testScope({ runtime: { on: false } }) },
  )
  for (let i = 0; i < 5; i++) t.equal(drive({ filters: [off] }).upstream.begun, 1)
  for (const resource of scope.owned) (resource as Disposable)[Symbol.dispose]()
  t.equal(stat('concurrency_limit'), 0)
})

t.test('mistakes are found', async (t) => {
  const errors = (config: JsonObject): string[] => parseJson(config, (f) => adaptiveConcurrencyFilter.parse(f)).errors
  const gradient = (more: JsonObject): string[] => errors({ gradient_controller_config: { ...GRADIENT, ...more } })
  t.match(errors({}), [/gradient_controller_config: is required/])
  t.match(errors({ gradient_controller_config: {} }), [/concurrency_limit_params/, /min_rtt_calc_params/])
  t.match(gradient({ concurrency_limit_params: {} }), [/longer than 0 s/])
  t.match(gradient({ min_rtt_calc_params: {} }), [/one of interval and fixed_value/])
  t.match(gradient({ min_rtt_calc_params: { interval: '0s' } }), [/at least 1 ms/])
  t.match(gradient({ min_rtt_calc_params: { fixed_value: '0s' } }), [/fixed_value: must be longer/])
  t.match(gradient({ min_rtt_calc_params: { interval: '1s', request_count: 0 } }), [
    /request_count: must be a whole number/,
  ])
  t.match(gradient({ sample_aggregate_percentile: { value: 101 } }), [/from 0 to 100/])
  t.same(gradient({ min_rtt_calc_params: { fixed_value: '0.01s' } }), [])
  const parse = (config: JsonObject): number =>
    parseJson(config, (f) => adaptiveConcurrencyFilter.parse(f)).value.status
  const config = { gradient_controller_config: GRADIENT }
  t.equal(parse({ ...config, concurrency_limit_exceeded_status: { code: 'OK' } }), 503)
  t.equal(parse({ ...config, concurrency_limit_exceeded_status: { code: 'TooManyRequests' } }), 429)
})

t.test('the native form says the same in fewer words', async (t) => {
  const { factory, config } = adaptiveConcurrency({ minRttMs: 10, minConcurrency: 1, status: 429 })
  t.equal(factory, adaptiveConcurrencyFilter)
  const filter = build(adaptiveConcurrencyFilter, config)
  drive({ filters: [filter] })
  t.equal(drive({ filters: [filter] }).downstream.status, 429)
  t.same(parseJson(adaptiveConcurrency().config, (f) => adaptiveConcurrencyFilter.parse(f)).errors, [])
})
