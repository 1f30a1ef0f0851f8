import t from 'tap'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { type DeadlineSubject, Http2Deadlines, type Http2Expiry } from '../../listeners/http2/deadlines.ts'
import { TestClock } from '../support/clock.ts'

/** A connection of which only the state is wanted. */
class Subject {
  readonly clock = new TestClock()
  readonly expiries: Http2Expiry[] = []
  readonly openedMs = 0
  readonly info = { state: {} }
  readonly manager = {
    wheel: new TimerWheel(this.clock),
    random: () => 0,
    config: {
      idleTimeoutMs: 30_000,
      streamIdleTimeoutMs: 0,
      maxConnectionDurationMs: 0,
      drainTimeoutMs: 2_000,
      delayedCloseTimeoutMs: 0,
      requestHeadersTimeoutMs: 0,
      http2: { keepalive: { intervalMs: 12_000, timeoutMs: 1_000, jitterPercent: 0 } },
    },
  }
  ready = false
  settingsAcked = false
  idle = true
  unread = false
  deadlines: Http2Deadlines | undefined = undefined

  start(): Http2Deadlines {
    this.deadlines = new Http2Deadlines(this as unknown as DeadlineSubject)
    return this.deadlines
  }

  expired(expiry: Http2Expiry): void {
    this.expiries.push(expiry)
    if (expiry === 'ping') this.deadlines?.pinged(this.clock.now())
    else this.deadlines?.close()
  }
}

t.test('a client is not late with what has come and stands in line unread', (t) => {
  const cases: readonly [what: Http2Expiry, afterMs: number, state: Partial<Subject>][] = [
    ['preface', 5_100, {}],
    ['settings', 10_100, { ready: true }],
    ['keepalive', 13_100, { ready: true, settingsAcked: true }],
  ]
  for (const [what, afterMs, state] of cases) {
    const late = Object.assign(new Subject(), state)
    late.start()
    late.clock.advance(afterMs)
    t.equal(late.expiries.at(-1), what)
    const unread = Object.assign(new Subject(), state, { unread: true })
    const deadlines = unread.start()
    unread.clock.advance(afterMs)
    t.notOk(unread.expiries.includes(what), `${what} is waited for`)
    t.ok(deadlines.armed, 'and looked at again')
    unread.unread = false
    unread.clock.advance(40)
    t.equal(unread.expiries.at(-1), what, 'until it has been read')
    deadlines.close()
  }
  t.end()
})

t.test('nor is a connection idle on which something stands in line', (t) => {
  const subject = Object.assign(new Subject(), { ready: true, settingsAcked: true, unread: true })
  subject.manager.config.http2.keepalive.intervalMs = 0
  const deadlines = subject.start()
  subject.clock.advance(31_000)
  t.same(subject.expiries, [])
  subject.unread = false
  deadlines.received(subject.clock.now(), 0)
  subject.clock.advance(40)
  t.same(subject.expiries, ['idle'])
  deadlines.close()
  t.end()
})
