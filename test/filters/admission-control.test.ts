import t from 'tap'
import { History } from '../../filters/admission-control/history.ts'
import { admissionControlFilter } from '../../filters/admission-control/index.ts'
import { admissionControl } from '../../filters/admission-control/native.ts'
import type { HttpFilter } from '../../lib/chain/filter.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { Headers } from '../../lib/core/headers.ts'
import { HEALTH_CHECK_KEY } from '../../lib/telemetry/access-log-filter.ts'
import { build, type Driven, drive, parseJson, type TestScope, testScope } from '../support/chain-driver.ts'

const CRITERIA = { success_criteria: {} }

interface Rig {
  readonly scope: TestScope
  /** What the next request would draw. */
  draw: number
  filter: HttpFilter<unknown> | undefined
  send(status?: number): number
  counts(): number[]
}

function rig(config: JsonObject = CRITERIA, runtime: JsonObject = {}): Rig {
  const base = testScope({ runtime })
  const made: Rig = {
    scope: { ...base, random: () => made.draw },
    draw: 0.999_999,
    filter: undefined,
    send(status = 200): number {
      const driven = drive({ filters: [made.filter] })
      if (driven.upstream.begun > 0) driven.upstream.respond(status)
      return driven.downstream.status
    },
    counts: () =>
      ['rq_rejected', 'rq_success', 'rq_failure'].map(
        (name) => base.counters.get(`http.ingress.admission_control.${name}`)?.v ?? -1,
      ),
  }
  made.filter = build(admissionControlFilter, config, { scope: made.scope })
  return made
}

/** The probability of a rejection, by trying where the border is. */
function probability(one: Rig): number {
  let [low, high] = [0, 1]
  for (let i = 0; i < 20; i++) {
    const middle = (low + high) / 2
    one.draw = middle
    const driven = drive({ filters: [one.filter] })
    // Nothing is answered, so that nothing is counted.
    if (driven.upstream.begun === 0) low = middle
    else high = middle
  }
  one.draw = 0.999_999
  return low
}

const near = (actual: number, expected: number): boolean => Math.abs(actual - expected) < 0.001

t.test('the more requests fail, the likelier the next one is rejected, by the formula', async (t) => {
  const one = rig()
  for (let i = 0; i < 100; i++) one.send(200)
  t.equal(probability(one), 0)
  for (let i = 0; i < 100; i++) one.send(503)
  t.ok(near(probability(one), (200 - 100 / 0.95) / 201))
  t.same(one.counts(), [one.counts()[0], 100, 100])
  one.draw = 0
  const before = one.counts()[0]
  t.equal(one.send(), 503)
  t.same(one.counts(), [before + 1, 100, 100], 'what is rejected is no failure')
})

t.test('a rejection says so, and gRPC is told in its own words', async (t) => {
  const one = rig()
  for (let i = 0; i < 9; i++) one.send(500)
  one.draw = 0
  const rejected = (request: string[] = []): Driven => drive({ filters: [one.filter], request })
  const plain = rejected()
  t.equal(plain.exchange.info.details, 'denied_by_admission_control')
  t.equal(plain.downstream.body, '')
  t.equal(rejected(['content-type', 'application/grpc']).downstream.headers.get('grpc-status'), '14')
})

t.test(
  'aggression, threshold, the largest probability and the smallest rate are settings, and the runtime has the last word',
  async (t) => {
    const percent = (value: number, runtime_key = ''): JsonObject => ({ default_value: { value }, runtime_key })
    const fail = (one: Rig, good: number, bad: number): number => {
      for (let i = 0; i < good; i++) one.send(200)
      for (let i = 0; i < bad; i++) one.send(500)
      return probability(one)
    }
    const half = { ...CRITERIA, sr_threshold: percent(50), aggression: { default_value: 2 } }
    t.equal(fail(rig(half), 50, 50), 0)
    t.ok(near(fail(rig(half), 25, 75), Math.sqrt((100 - 25 / 0.5) / 101)))
    t.ok(near(fail(rig(), 0, 1_000), 0.8), 'never more than 80 %')
    t.ok(near(fail(rig({ ...CRITERIA, max_rejection_probability: percent(30) }), 0, 1_000), 0.3))
    t.equal(fail(rig({ ...CRITERIA, rps_threshold: { default_value: 4 } }), 0, 100), 0, '3 a second')
    t.ok(fail(rig({ ...CRITERIA, rps_threshold: { default_value: 3 } }), 0, 100) > 0.7)
    const keys = {
      ...CRITERIA,
      aggression: { default_value: 1, runtime_key: 'a' },
      sr_threshold: percent(95, 's'),
      rps_threshold: { default_value: 1_000, runtime_key: 'r' },
      max_rejection_probability: percent(80, 'm'),
    }
    const live = { a: 2, s: 50, r: 0, m: 99.5 }
    t.ok(near(fail(rig(keys, live), 25, 75), Math.sqrt((100 - 25 / 0.5) / 101)))
    t.equal(fail(rig(keys, { r: 0, s: 101, a: 'x' }), 95, 5), 0, 'what is no percentage leaves the configured value')
    t.ok(
      near(fail(rig({ ...keys, aggression: { default_value: 0.1 } }, { r: 0 }), 50, 50), (100 - 50 / 0.95) / 101),
      'at least 1',
    )
  },
)

t.test('it forgets what is older than its window', async (t) => {
  const one = rig({ ...CRITERIA, sampling_window: '5s' })
  for (let i = 0; i < 100; i++) one.send(500)
  one.scope.clock.advance(3_000)
  for (let i = 0; i < 100; i++) one.send(200)
  t.ok(near(probability(one), (200 - 100 / 0.95) / 201))
  one.scope.clock.advance(1_999)
  t.ok(probability(one) > 0.4)
  one.scope.clock.advance(1)
  t.equal(probability(one), 0)
  const history = new History(10)
  for (let second = 0; second < 100; second++) for (let i = 0; i < 20; i++) history.record(true, second * 1_000)
  t.equal(history.rps(99_000), 20)
  t.equal(history.rps(99_000 + 5_000), 10)
  t.equal(history.rps(200_000), 0)
})

t.test('what is a success is configured, for HTTP and gRPC', async (t) => {
  const http = rig({
    success_criteria: {
      http_criteria: {
        http_success_status: [
          { start: 200, end: 300 },
          { start: 404, end: 405 },
        ],
      },
    },
  })
  for (const status of [200, 299, 404, 300, 405, 199, 500]) http.send(status)
  t.same(http.counts(), [0, 3, 4])
  const plain = rig()
  for (const status of [200, 404, 499, 500, 599]) plain.send(status)
  t.same(plain.counts(), [0, 3, 2])

  const answer = (one: Rig, head: string[], trailers?: string[]): void => {
    const { upstream } = drive({ filters: [one.filter], request: ['content-type', 'application/grpc'] })
    const headers = new Headers(['content-type', 'application/grpc', ...head])
    upstream.exchange?.upstreamHeaders(200, headers, trailers === undefined)
    if (trailers !== undefined) upstream.exchange?.upstreamTrailers(new Headers(trailers))
  }
  const grpc = rig({ success_criteria: { grpc_criteria: { grpc_success_status: [0, 5] } } })
  answer(grpc, [], ['grpc-status', '0'])
  answer(grpc, ['grpc-status', '5'])
  answer(grpc, ['grpc-status', '13'])
  answer(grpc, [], ['grpc-status', '14'])
  answer(grpc, [], ['other', '1'])
  t.same(grpc.counts(), [0, 2, 3])
  const usual = rig()
  for (let status = 0; status <= 16; status++) answer(usual, [], ['grpc-status', String(status)])
  t.same(usual.counts(), [0, 10, 7])
})

t.test('health checks, broken answers and what is switched off do not count', async (t) => {
  const one = rig()
  const check: HttpFilter<unknown> = { onRequestHeaders: (stream) => stream.filterState.set(HEALTH_CHECK_KEY, true) }
  const checked = drive({ filters: [check, one.filter] })
  checked.upstream.respond(500)
  drive({ filters: [one.filter] }).clientGone()
  t.same(one.counts(), [0, 0, 0])
  const off = rig({ ...CRITERIA, enabled: { default_value: true, runtime_key: 'on' } }, { on: false })
  for (let i = 0; i < 10; i++) off.send(500)
  off.draw = 0
  t.equal(off.send(), 200)
  t.same(off.counts(), [0, 0, 0])
})

t.test('mistakes are found', async (t) => {
  const errors = (config: JsonObject): string[] => parseJson(config, (f) => admissionControlFilter.parse(f)).errors
  t.match(errors({}), [/success_criteria: is required/])
  t.match(errors({ ...CRITERIA, sampling_window: '0.4s' }), [/from 1 s to 3600 s, not 0 s/])
  t.match(errors({ ...CRITERIA, sr_threshold: { default_value: { value: 0.5 } } }), [/at least 1 %/])
  t.match(errors({ ...CRITERIA, max_rejection_probability: { default_value: { value: 101 } } }), [/from 0 to 100/])
  t.match(errors({ ...CRITERIA, aggression: { default_value: -1 } }), [/must not be negative/])
  t.match(errors({ success_criteria: { http_criteria: { http_success_status: [{ start: 500, end: 200 }] } } }), [
    /\[500, 200\) is no range/,
  ])
  t.match(errors({ success_criteria: { grpc_criteria: { grpc_success_status: [17] } } }), [/17 is no gRPC status/])
  t.match(errors({ success_criteria: { http_criteria: {}, grpc_criteria: {} } }), [
    /must not be empty/,
    /must not be empty/,
  ])
})

t.test('the native form says the same in fewer words', async (t) => {
  const { factory, config } = admissionControl({
    httpSuccess: [{ from: 200, to: 399 }],
    grpcSuccess: [0],
    maxRejectionPercent: 20,
    windowS: 10,
  })
  t.equal(factory, admissionControlFilter)
  const one = rig(config)
  for (const status of [200, 399, 400]) one.send(status)
  t.same(one.counts(), [0, 2, 1])
  for (let i = 0; i < 100; i++) one.send(400)
  t.ok(near(probability(one), 0.2))
  t.same(parseJson(admissionControl().config, (f) => admissionControlFilter.parse(f)).errors, [])
})
