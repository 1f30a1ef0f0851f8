import t from 'tap'
import type { TerminalExchange } from '../../lib/chain/filter.ts'
import type { Cluster, UpstreamEvents, UpstreamHost } from '../../lib/core/attempt.ts'
import { FAILURES, type Failure } from '../../lib/core/failure.ts'
import { Headers } from '../../lib/core/headers.ts'
import { StreamInfo } from '../../lib/core/stream-info.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { exponentialMs, resetMs } from '../../lib/router/retry/back-off.ts'
import { ONE_TRY } from '../../lib/router/retry/plan.ts'
import { Try, type TryOwner } from '../../lib/router/try.ts'
import { TestClock } from '../support/clock.ts'

/** One try with a host whose monitor writes down what it is told. */
function watched(t: { teardown(f: () => void): void }): {
  readonly clock: TestClock
  readonly by: Try
  readonly events: UpstreamEvents
  readonly told: string[]
} {
  const clock = new TestClock()
  const wheel = new TimerWheel(clock)
  t.teardown(() => wheel.close())
  const told: string[] = []
  const host: UpstreamHost = {
    addressText: '192.0.2.1:80',
    hostname: '',
    rqSuccess: 0,
    rqError: 0,
    rqTimeout: 0,
    monitor: {
      onResponse: (status, grpcStatus, elapsedMs) => told.push(`${status} ${grpcStatus} after ${elapsedMs}`),
      onFailure: (why: Failure, elapsedMs) => told.push(`${why.reason} after ${elapsedMs}`),
    },
  }
  const owner: TryOwner = {
    wheel,
    tryConnected() {},
    tryInformational() {},
    tryHeaders() {},
    tryData: () => true,
    tryDataSettled: () => false,
    tryTrailers() {},
    tryUpgraded() {},
    tryDrain() {},
    tryReset() {},
    trySlow() {},
  }
  const exchange = {
    head: { method: 'GET', scheme: 'http', authority: 'a', path: '/', protocol: undefined },
    request: new Headers(),
    info: new StreamInfo(0, 0),
    connection: undefined,
  } as unknown as TerminalExchange
  const by = new Try({ owner, exchange, priority: 'default', bodyless: true, host, limits: ONE_TRY.limits })
  let events: UpstreamEvents = by
  const cluster = {
    open(_host: UpstreamHost, _attempt: unknown, given: UpstreamEvents) {
      events = given
      return { write: () => true, trailers() {}, pause() {}, resume() {}, cancel() {} }
    },
  } as unknown as Cluster
  by.open(cluster)
  // A turn of its own.
  const advance = clock.advance.bind(clock)
  clock.advance = (ms) => {
    advance(ms)
    wheel.turnEnds()
  }
  return { clock, by, events, told }
}

const grpc = (...fields: string[]): Headers => new Headers(['content-type', 'application/grpc', ...fields])

t.test('a monitor hears of a response with its head, and of nothing else of it', (t) => {
  const { clock, events, told } = watched(t)
  clock.advance(30)
  events.onHeaders(503, new Headers(), false)
  t.same(told, ['503 undefined after 30'])
  events.onData(Buffer.alloc(1), false)
  events.onTrailers(new Headers(['grpc-status', '1']))
  t.equal(told.length, 1)
  t.end()
})

t.test('the status of a gRPC call is told with the head where it stands there', (t) => {
  const { events, told } = watched(t)
  events.onHeaders(200, grpc('grpc-status', '14'), true)
  t.same(told, ['200 14 after 0'])
  t.end()
})

t.test('the status of a gRPC call is told with the trailers, with the time to the head', (t) => {
  const { clock, events, told } = watched(t)
  clock.advance(10)
  events.onHeaders(200, grpc(), false)
  t.same(told, [])
  clock.advance(1_000)
  events.onTrailers(new Headers(['grpc-status', '13']))
  t.same(told, ['200 13 after 10'])
  t.end()
})

t.test('a gRPC response without trailers, or with a status that is no number, is told all the same', (t) => {
  const without = watched(t)
  without.events.onHeaders(200, grpc(), false)
  without.events.onData(Buffer.alloc(0), true)
  t.same(without.told, ['200 undefined after 0'])
  const strange = watched(t)
  strange.events.onHeaders(200, grpc('grpc-status', 'fine'), true)
  t.same(strange.told, ['200 2 after 0'])
  t.end()
})

t.test('a monitor hears why there is no response, in the middle of one too, but not of limits of our own', (t) => {
  const refused = watched(t)
  refused.clock.advance(5)
  refused.events.onReset(FAILURES.connectFailed)
  t.same(refused.told, ['remote connection failure after 5'])
  const broken = watched(t)
  broken.events.onHeaders(200, new Headers(), false)
  broken.events.onReset(FAILURES.upstreamBroken)
  t.same(broken.told, ['200 undefined after 0', 'connection termination after 0'])
  for (const why of [FAILURES.overflow, FAILURES.noCredential, FAILURES.filterError]) {
    const ours = watched(t)
    ours.events.onReset(why)
    t.same(ours.told, [])
  }
  t.end()
})

t.test('a try that was too slow is told once, and what is cancelled says no more', (t) => {
  const { clock, by, events, told } = watched(t)
  clock.advance(2_000)
  by.tooSlow(FAILURES.tryTimeout)
  events.onHeaders(200, new Headers(), true)
  t.same(told, ['upstream_per_try_timeout after 2000'])
  const gone = watched(t)
  gone.by.cancel()
  gone.events.onHeaders(500, new Headers(), true)
  gone.events.onReset(FAILURES.upstreamReset)
  t.same(gone.told, [])
  t.end()
})

t.test('the back-off never exceeds (2^N - 1) times its base nor its maximum, for any number of retries', (t) => {
  const backOff = { baseMs: 25, maxMs: 250 }
  for (const [n, below] of [
    [1, 25],
    [2, 75],
    [3, 175],
    [4, 250],
    [1_000, 250],
  ]) {
    t.equal(exponentialMs(backOff, n, 0), 0)
    t.ok(exponentialMs(backOff, n, 0.999_999) < below && exponentialMs(backOff, n, 0.999_999) > below - 1)
  }
  t.end()
})

t.test('reset headers: the first that can be read and is not too far away counts, with jitter', (t) => {
  const reset = {
    headers: [
      { name: 'retry-after', format: 'seconds' as const },
      { name: 'x-reset', format: 'unix-timestamp' as const },
    ],
    maxMs: 60_000,
  }
  const wall = 1_700_000_000_500
  const told = (random: number, ...fields: string[]): number | undefined =>
    resetMs(reset, new Headers(fields), wall, random)
  t.equal(told(0, 'retry-after', '7'), 7_000)
  t.equal(told(1, 'retry-after', '7'), 10_500)
  t.equal(told(0, 'x-reset', '1700000010', 'retry-after', 'Wed, 21 Oct 2026 07:28:00 GMT'), 9_500)
  t.equal(told(0, 'x-reset', '1699999999'), undefined)
  t.equal(told(0, 'retry-after', '61'), undefined)
  t.equal(told(0, 'retry-after', '-1'), undefined)
  t.equal(told(0), undefined)
  t.end()
})
