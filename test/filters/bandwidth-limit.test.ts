import fc from 'fast-check'
import t from 'tap'
import { bandwidthLimitFilter } from '../../filters/bandwidth-limit/index.ts'
import { bandwidthLimit } from '../../filters/bandwidth-limit/native.ts'
import { type Flow, Throttle } from '../../filters/bandwidth-limit/throttle.ts'
import type { HttpFilter } from '../../lib/chain/filter.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { Headers } from '../../lib/core/headers.ts'
import type { Leases, TokenLease } from '../../lib/core/lease.ts'
import { LocalLeases } from '../../lib/core/local-leases.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { build, type Driven, drive, parseJson, type TestScope, testScope } from '../support/chain-driver.ts'
import { settle, TestClock } from '../support/clock.ts'
import { seeded } from '../support/random.ts'
import { patternBytes } from './pattern.ts'
import { workerLeases } from './worker-leases.ts'

const BOTH = { stat_prefix: 'p', enable_mode: 'REQUEST_AND_RESPONSE', limit_kbps: 1 }

interface Rig {
  readonly scope: TestScope
  readonly driven: Driven
  advance(ms: number): Promise<void>
  stat(name: string): number
}

function rig(config: JsonObject, scope = testScope(), filter = build(bandwidthLimitFilter, config, { scope })): Rig {
  const driven = drive({ filters: [filter], end: false, bufferLimit: 1_000_000 })
  return {
    scope,
    driven,
    advance: (ms) => scope.clock.advanceAsync(ms),
    stat: (name) => scope.counters.get(`p.http_bandwidth_limit.${name}`)?.v ?? -1,
  }
}

const sizeOf = (chunks: readonly Buffer[]): number => chunks.reduce((sum, { length }) => sum + length, 0)

t.test(
  "a body goes on at the rate of the limit, after a second's worth at once, and not a byte is changed",
  async (t) => {
    const { driven, advance, stat, scope } = rig(BOTH)
    const body = patternBytes(4_096)
    driven.exchange.requestData(body, true)
    t.equal(sizeOf(driven.upstream.chunks), 1_024)
    const seen: number[] = []
    for (let i = 0; i < 6; i++) {
      await advance(500)
      seen.push(sizeOf(driven.upstream.chunks))
    }
    t.equal(seen.at(-1), 4_096)
    for (const [i, size] of seen.entries()) {
      const allowed = 1_024 + (i + 1) * 512
      t.ok(size <= allowed && size >= allowed - 1_024 * 0.08, `${size} of ${allowed}`)
    }
    t.ok(driven.upstream.ended)
    t.ok(Buffer.concat(driven.upstream.chunks).equals(body))
    for (const chunk of driven.upstream.chunks) t.equal(chunk.buffer, body.buffer, 'views, no copies')
    t.equal(stat('request_enabled'), 1)
    t.equal(stat('request_incoming_total_size'), 4_096)
    t.equal(stat('request_allowed_total_size'), 4_096)
    t.ok(stat('request_enforced') > 10)
    t.equal(stat('request_pending'), 1)
    driven.upstream.respond(200, [], 'x')
    await advance(100)
    t.same([stat('request_pending'), stat('response_pending'), stat('response_enabled')], [0, 0, 1])
    const took = scope.recorded.filter(([name]) => name === 'p.http_bandwidth_limit.request_transfer_duration')
    t.equal(took.length, 1)
    t.ok(took[0][1] >= 2_900 && took[0][1] <= 3_000)
    t.equal(scope.wheel.armed, 0)
  },
)

t.test('both directions share one limit; what fits goes on at once', async (t) => {
  const { driven, advance } = rig(BOTH)
  driven.exchange.requestData(patternBytes(1_000), true)
  t.equal(sizeOf(driven.upstream.chunks), 1_000)
  t.ok(driven.upstream.ended)
  driven.upstream.respond(200, [], 'y'.repeat(100))
  await advance(0)
  t.equal(sizeOf(driven.downstream.chunks), 24)
  await advance(200)
  t.equal(driven.downstream.body, 'y'.repeat(100))
  t.ok(driven.downstream.ended)
})

t.test('trailers tell how long bodies took, and how much of that they waited here', async (t) => {
  const config = { ...BOTH, enable_response_trailers: true, response_trailer_prefix: 'X-Own' }
  const one = rig(config)
  one.driven.exchange.requestData(patternBytes(2_048), true)
  await one.advance(1_100)
  one.driven.upstream.respond(200, [], 'z'.repeat(1_024))
  await one.advance(1_000)
  const { trailers } = one.driven.downstream
  t.equal(one.driven.downstream.body.length, 1_024)
  const told = (name: string): number => Number(trailers?.get(`x-own-bandwidth-${name}-delay-ms`))
  t.ok(told('request') >= 1_000 && told('request') <= 1_100)
  t.equal(told('request-filter'), told('request'))
  t.ok(told('response') >= 850 && told('response') <= 1_000)
  t.equal(told('response-filter'), told('response'))
  const quick = rig(config)
  quick.driven.exchange.requestData(patternBytes(1), true)
  quick.driven.upstream.respond(200, [], 'z')
  await settle()
  t.equal(quick.driven.downstream.trailers, undefined, 'there is nothing to tell')
  t.ok(quick.driven.downstream.ended)
  const trailed = rig(config)
  trailed.driven.exchange.requestData(patternBytes(2_048), false)
  await trailed.advance(1_100)
  trailed.driven.exchange.requestTrailers(new Headers(['a', '1']))
  t.equal(trailed.driven.upstream.trailersReceived?.get('a'), '1')
  const upstream = trailed.driven.upstream.exchange
  upstream?.upstreamHeaders(200, new Headers(), false)
  upstream?.upstreamData(Buffer.from('body'), false)
  upstream?.upstreamTrailers(new Headers(['grpc-status', '0']))
  await trailed.advance(100)
  t.equal(trailed.driven.downstream.trailers?.get('grpc-status'), '0')
  t.ok(Number(trailed.driven.downstream.trailers?.get('x-own-bandwidth-request-delay-ms')) >= 1_000)
})

t.test('one direction, none, a runtime switch, and a level of its own', async (t) => {
  const only = rig({ ...BOTH, enable_mode: 'RESPONSE' })
  only.driven.exchange.requestData(patternBytes(9_000), true)
  t.ok(only.driven.upstream.ended)
  only.driven.upstream.respond(200, [], 'a'.repeat(2_000))
  t.equal(sizeOf(only.driven.downstream.chunks), 1_024)
  const idle: JsonObject[] = [
    { stat_prefix: 'p', limit_kbps: 1 },
    { stat_prefix: 'p', enable_mode: 'REQUEST' },
    { ...BOTH, runtime_enabled: { default_value: false } },
  ]
  for (const config of idle) {
    const off = rig(config)
    off.driven.exchange.requestData(patternBytes(9_000), true)
    t.ok(off.driven.upstream.ended)
  }
  const scope = testScope({ runtime: { on: true } })
  const switched = rig({ ...BOTH, runtime_enabled: { default_value: false, runtime_key: 'on' } }, scope)
  switched.driven.exchange.requestData(patternBytes(9_000), true)
  t.notOk(switched.driven.upstream.ended)
  const levels = [{ ...BOTH, limit_kbps: 100 }]
  const route = rig({}, testScope(), build(bandwidthLimitFilter, BOTH, { levels }))
  route.driven.exchange.requestData(patternBytes(9_000), true)
  t.ok(route.driven.upstream.ended)
})

t.test('an exchange that ends while it waits leaves nothing behind, and its share goes to the others', async (t) => {
  const scope = testScope()
  const filter = build(bandwidthLimitFilter, BOTH, { scope })
  const gone = rig({}, scope, filter)
  const stays = rig({}, scope, filter)
  gone.driven.exchange.requestData(patternBytes(5_000), true)
  stays.driven.exchange.requestData(patternBytes(1_000), true)
  await gone.advance(200)
  gone.driven.clientGone()
  t.equal(gone.stat('request_pending'), 1)
  await stays.advance(1_000)
  t.ok(stays.driven.upstream.ended)
  t.equal(stays.scope.wheel.armed, 0)
  t.same([...gone.driven.errors, ...stays.driven.errors], [])
  stays.driven.clientGone()
  t.equal(gone.stat('request_pending'), 0)
  for (const one of scope.owned) (one as Disposable)[Symbol.dispose]()
  t.equal((scope.leases as LocalLeases).size, 0)
})

class Sink implements Flow {
  got = 0
  waiting: number

  constructor(waiting: number) {
    this.waiting = waiting
  }

  grant(bytes: number): void {
    this.got += bytes
    this.waiting -= bytes
  }
}

t.test('those that wait get even shares, whatever they want', async (t) => {
  const clock = new TestClock()
  const wheel = new TimerWheel(clock)
  const leases = new LocalLeases(clock)
  const throttle = new Throttle({ leases, key: 'k', wheel, random: () => 0.5, bytesPerSecond: 10_000, intervalMs: 50 })
  t.ok(throttle.pass(10_000))
  const flows = [new Sink(1_000_000), new Sink(500), new Sink(4_000), new Sink(1_000_000)]
  for (const flow of flows) throttle.enter(flow)
  t.notOk(throttle.pass(1), 'nobody overtakes them')
  clock.advance(1_000)
  t.equal(flows[1].got, 500)
  const [a, , c, d] = flows.map(({ got }) => got)
  t.ok(Math.abs(a - d) <= 102 && Math.abs(a - c) <= 102, `but for the part that is next: ${a} ${c} ${d}`)
  t.ok(a + c + d + 500 <= 10_000 && a + c + d + 500 >= 9_400)
  for (const flow of flows) throttle.leave(flow)
  clock.advance(100)
  t.equal(wheel.armed, 0)
  t.ok(throttle.pass(400))
})

t.test('however many wait, what goes through is not cut into crumbs', async (t) => {
  for (const [bytesPerSecond, most] of [
    [1_048_576, 1_024],
    [10_000, 100],
  ]) {
    const clock = new TestClock()
    const wheel = new TimerWheel(clock)
    const leases = new LocalLeases(clock)
    const throttle = new Throttle({ leases, key: 'k', wheel, random: () => 0.5, bytesPerSecond, intervalMs: 50 })
    t.ok(throttle.pass(bytesPerSecond))
    const sizes: number[] = []
    const flows = Array.from({ length: 2_000 }, () => {
      const flow = {
        waiting: 3_000,
        grant(bytes: number) {
          sizes.push(bytes)
          flow.waiting -= bytes
        },
      }
      return flow
    })
    for (const flow of flows) throttle.enter(flow)
    for (let i = 0; i < 50; i++) clock.advance(20)
    const sum = sizes.reduce((a, b) => a + b, 0)
    t.ok(sum >= bytesPerSecond * 0.9 && sum <= bytesPerSecond, `${sum} of ${bytesPerSecond}`)
    t.ok(sizes.length <= most, `${sizes.length} parts`)
    t.ok(new Set(flows.map(({ waiting }) => waiting)).size <= 3, 'none is far ahead')
  }
})

t.test('while the gateway is asked the others wait, and an answer for one that has gone is spent', async (t) => {
  const clock = new TestClock()
  const questions: { bytes: number; answer: (taken: boolean) => void }[] = []
  const lease: TokenLease = {
    take: (bytes = 1) => new Promise((answer) => void questions.push({ bytes, answer })),
    tryTake: () => false,
    give: () => {},
    remaining: 100,
    waitMs: 0,
    [Symbol.dispose]() {},
  }
  const leases = { tokens: () => lease } as unknown as Leases
  const wheel = new TimerWheel(clock)
  const throttle = new Throttle({ leases, key: 'k', wheel, random: () => 0.5, bytesPerSecond: 100, intervalMs: 50 })
  const [one, two] = [new Sink(60), new Sink(60)]
  throttle.enter(one)
  throttle.enter(two)
  t.same(
    questions.map(({ bytes }) => bytes),
    [60],
  )
  questions[0].answer(true)
  await settle()
  t.equal(one.got, 60)
  throttle.leave(two)
  questions[1].answer(true)
  await settle()
  t.equal(two.got, 0)
  throttle.enter(two)
  questions[2].answer(false)
  await settle()
  t.equal(questions.length, 3)
  t.equal(wheel.armed, 1)
  clock.advance(100)
  questions[3].answer(true)
  await settle()
  t.equal(two.got, 60)
})

t.test('in any run of flows no more goes through than the rate allows, and all of it in the end', async (t) => {
  const step = fc.record({ bytes: fc.integer({ min: 1, max: 3_000 }), waitMs: fc.nat(300) })
  const run = fc.property(fc.array(step, { minLength: 1, maxLength: 30 }), (steps) => {
    const clock = new TestClock()
    const wheel = new TimerWheel(clock)
    const throttle = new Throttle({
      leases: new LocalLeases(clock),
      random: () => 0.5,
      key: 'k',
      wheel,
      bytesPerSecond: 2_000,
      intervalMs: 20,
    })
    const flows: Sink[] = []
    let passed = 0
    let elapsedMs = 0
    const within = (): boolean => passed + flows.reduce((sum, { got }) => sum + got, 0) <= 2_000 + elapsedMs * 2
    for (const { bytes, waitMs } of steps) {
      clock.advance(waitMs)
      elapsedMs += waitMs
      if (throttle.pass(bytes)) passed += bytes
      else {
        const flow = new Sink(bytes)
        flows.push(flow)
        throttle.enter(flow)
      }
      if (!within()) return false
    }
    clock.advance(60_000)
    return flows.every(({ waiting }) => waiting === 0) && wheel.armed === 0
  })
  t.doesNotThrow(() => fc.assert(run, { numRuns: 100 }))
})

t.test('workers share the rate, and use all of it', async (t) => {
  const clock = new TestClock()
  const wheel = new TimerWheel(clock)
  const all = await workerLeases(3, clock)
  const options = { key: 'k', wheel, random: seeded(7).next, bytesPerSecond: 100_000, intervalMs: 50 }
  const flows = all.map(() => new Sink(1_000_000))
  for (const [i, leases] of all.entries()) new Throttle({ ...options, leases }).enter(flows[i])
  for (let i = 0; i < 200; i++) await clock.advanceAsync(25)
  const got = flows.reduce((sum, flow) => sum + flow.got, 0)
  t.ok(got <= 600_000, `${got} in 5 s`)
  t.ok(got >= 500_000, `${got} in 5 s`)
  for (const flow of flows) t.ok(flow.got > 50_000, `${flow.got}`)
})

t.test('mistakes are found', async (t) => {
  const errors = (config: JsonObject): string[] => parseJson(config, (f) => bandwidthLimitFilter.parse(f)).errors
  t.match(errors({}), [/stat_prefix: must not be empty/])
  t.match(errors({ ...BOTH, limit_kbps: 0 }), [/limit_kbps: must be a whole number/])
  t.match(errors({ ...BOTH, fill_interval: '0.01s' }), [/from 20 ms to 1 s, not 10 ms/])
  t.match(errors({ ...BOTH, enable_mode: 'SIDEWAYS' }), [/unknown mode "SIDEWAYS"/])
  t.match(errors({ ...BOTH, response_trailer_prefix: 'a b' }), [/cannot be part of a header name/])
  const route = parseJson({ stat_prefix: 'p' }, (f) => bandwidthLimitFilter.parseRoute?.(f)).errors
  t.match(route, [/limit_kbps: is required at routes/])
})

t.test('the native form says the same in fewer words', async (t) => {
  const { factory, config } = bandwidthLimit({ kibPerSecond: 1, direction: 'request', statPrefix: 'p', trailers: true })
  t.equal(factory, bandwidthLimitFilter)
  const { driven } = rig(config)
  driven.exchange.requestData(patternBytes(2_000), true)
  t.equal(sizeOf(driven.upstream.chunks), 1_024)
  const filter = build(bandwidthLimitFilter, config) as HttpFilter<unknown>
  t.equal(filter.onResponseData, undefined)
})
