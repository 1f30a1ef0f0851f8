import assert from 'node:assert/strict'
import t, { type Test } from 'tap'
import { FAILURES } from '../../lib/core/failure.ts'
import { Headers } from '../../lib/core/headers.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { HEALTH } from '../../lib/upstream/health-flags.ts'
import type { Host } from '../../lib/upstream/host.ts'
import { HostSet } from '../../lib/upstream/host-set.ts'
import { EDGE_OUTLIER, ENVOY_OUTLIER, type OutlierConfig } from '../../lib/upstream/outlier/config.ts'
import { OutlierDetector } from '../../lib/upstream/outlier/detector.ts'
import { OutlierEventLog } from '../../lib/upstream/outlier/event-log.ts'
import { TestClock } from '../support/clock.ts'

interface Rig {
  readonly clock: TestClock
  readonly hosts: HostSet
  readonly detector: OutlierDetector
  readonly runtime: Map<string, unknown>
  readonly lines: Record<string, unknown>[]
  /** Hosts as they were ejected. */
  readonly ejected: string[]
  random: number
  host(i: number): Host
  /** So many responses of one status. */
  answers(i: number, status: number, count?: number): void
  out(): number[]
  stat(name: string): number
}

function rig(t: Test, config: Partial<OutlierConfig> = {}, count = 10): Rig {
  const clock = new TestClock()
  const wheel = new TimerWheel(clock)
  const metrics = new MetricsStore()
  const hosts = new HostSet()
  const runtime = new Map<string, unknown>()
  const lines: Record<string, unknown>[] = []
  const ejected: string[] = []
  const sink = { write: (line: string) => lines.push(JSON.parse(line)), [Symbol.dispose]: () => {} }
  const detector = new OutlierDetector(
    { ...ENVOY_OUTLIER, maxEjectionPercent: 50, ...config },
    {
      statName: 'web',
      hosts,
      wheel,
      metrics,
      runtime: { get: (key) => runtime.get(key) },
      random: () => it.random,
      log: new OutlierEventLog('web', clock, sink as never),
      ejected: (host) => ejected.push(host.addressText),
    },
  )
  const endpoints = Array.from({ length: count }, (_, i) => ({
    address: { kind: 'ip', host: `10.0.0.${i}`, port: 80 } as const,
    weight: 1,
    health: 'healthy' as const,
  }))
  detector.update(hosts.update([{ priority: 0, endpoints }]).added, [])
  t.teardown(() => {
    detector[Symbol.dispose]()
    assert.equal(wheel.armed, 0)
    assert.equal(metrics.gauge('cluster.web.outlier_detection.ejections_active').v, 0)
    assert.ok(hosts.all.every((host) => host.monitor === undefined))
  })
  const it: Rig = {
    clock,
    hosts,
    detector,
    runtime,
    lines,
    ejected,
    random: 0,
    host: (i) => hosts.all[i],
    answers: (i, status, times = 1) => {
      for (let n = 0; n < times; n++) hosts.all[i].monitor?.onResponse(status, undefined, 1)
    },
    out: () => hosts.all.flatMap((host, i) => (host.health === 'unhealthy' ? [i] : [])),
    stat: (name) => {
      const full = `cluster.web.outlier_detection.ejections_${name}`
      return metrics.has(full) ? metrics.counter(full).v : metrics.gauge(full).v
    },
  }
  return it
}

t.test('five responses of 5xx in a row eject a host, and a good one in between begins anew', async (t) => {
  const it = rig(t)
  it.answers(0, 500, 4)
  it.answers(0, 404)
  it.answers(0, 500, 4)
  t.same(it.out(), [])
  it.answers(0, 500)
  t.same(it.out(), [0])
  t.equal(it.host(0).healthFlags(), '/failed_outlier_check')
  t.equal(it.hosts.healthyCount, 9)
  t.same(it.ejected, ['10.0.0.0:80'])
  t.equal(it.stat('active'), 1)
  t.equal(it.stat('enforced_total'), 1)
  t.equal(it.stat('detected_consecutive_5xx'), 1)
  t.equal(it.stat('enforced_consecutive_5xx'), 1)
  t.equal(it.stat('detected_consecutive_gateway_failure'), 0)
  t.match(it.lines, [
    {
      type: 'CONSECUTIVE_5XX',
      cluster_name: 'web',
      upstream_url: '10.0.0.0:80',
      action: 'EJECT',
      num_ejections: 1,
      enforced: true,
      eject_consecutive_event: {},
    },
  ])
})

t.test(
  'an ejection lasts as long as there were ejections in a row, at most the maximum, and gets shorter',
  async (t) => {
    const it = rig(t, { intervalMs: 1_000, baseEjectionTimeMs: 2_000, maxEjectionTimeMs: 5_000 })
    const seconds = (): number => {
      let n = 0
      while (it.out().length > 0) {
        it.clock.advance(1_000)
        n++
      }
      return n
    }
    it.clock.advance(500)
    for (const expected of [2, 4, 5, 5]) {
      it.answers(0, 500, 5)
      t.same(it.out(), [0])
      const lasted = seconds()
      t.ok(lasted === expected || lasted === expected + 1, `${lasted} s`)
    }
    t.match(it.lines.at(-1), { action: 'UNEJECT', num_ejections: 4, secs_since_last_action: '5' })
    it.clock.advance(20_000)
    it.answers(0, 500, 5)
    t.ok(seconds() <= 3, 'trust comes back while it is in use')
    t.equal(it.stat('active'), 0)
  },
)

t.test('a host that says how long to wait gets no requests for that time', async (t) => {
  const it = rig(t, { intervalMs: 500, retryAfter: { statuses: [429], maxMs: 20_000 } })
  const says = (i: number, status: number, ...raw: string[]): void =>
    it.host(i).monitor?.onUnavailable?.(status, new Headers(raw))
  says(0, 503, 'retry-after', '3')
  says(0, 429)
  says(0, 429, 'retry-after', 'soon')
  says(0, 429, 'retry-after', '-1')
  says(0, 429, 'retry-after', '0')
  says(0, 429, 'retry-after', 'Mon, 01 Jan 2001 00:00:00 GMT')
  t.same(it.out(), [])
  says(0, 429, 'retry-after', '3')
  says(1, 429, 'retry-after-ms', '2000', 'retry-after', '9')
  says(2, 429, 'retry-after', new Date(it.clock.wall() + 5_000).toUTCString())
  says(3, 429, 'x-ratelimit-reset', '10')
  says(4, 429, 'x-ratelimit-reset', String(Math.trunc(it.clock.wall() / 1000) + 999_999))
  t.same(it.out(), [0, 1, 2, 3, 4])
  t.equal(it.stat('active'), 5)
  says(5, 429, 'retry-after', '1')
  t.equal(it.stat('overflow'), 1, 'half of the hosts at most')
  const times = [0, 0, 0, 0, 0]
  for (let ms = 0; ms < 25_000; ms += 100) {
    it.clock.advance(100)
    for (const i of it.out()) times[i] = ms
  }
  t.same(
    times.map((ms) => Math.round(ms / 1_000)),
    [3, 2, 5, 10, 20],
    'and never longer than is permitted',
  )
  t.match(it.lines[0], { type: 'RETRY_AFTER', action: 'EJECT', eject_retry_after_event: { retry_after_ms: 3_000 } })
  says(0, 429, 'retry-after', '3')
  it.clock.advance(4_000)
  t.same(it.out(), [], 'its second time is no longer for being the second')
  t.equal(rig(t).host(0).monitor?.onUnavailable, undefined, 'without the option nobody looks')
})

t.test('jitter makes an ejection longer by what chance says', async (t) => {
  const it = rig(t, { intervalMs: 100, baseEjectionTimeMs: 1_000, maxEjectionTimeJitterMs: 999 })
  it.random = 0.5
  it.answers(0, 500, 5)
  it.clock.advance(1_450)
  t.same(it.out(), [0])
  it.clock.advance(200)
  t.same(it.out(), [])
})

t.test('no more than the permitted percentage is ejected, or one where that is asked for', async (t) => {
  const it = rig(t, { maxEjectionPercent: 30 })
  for (const i of [0, 1, 2, 3]) it.answers(i, 500, 5)
  t.same(it.out(), [0, 1, 2])
  t.equal(it.stat('overflow'), 1)
  const none = rig(t, { maxEjectionPercent: 10 }, 4)
  none.answers(0, 500, 5)
  t.same(none.out(), [])
  const one = rig(t, { maxEjectionPercent: 10, alwaysEjectOneHost: true }, 4)
  one.answers(0, 500, 5)
  one.answers(1, 500, 5)
  t.same(one.out(), [0])
})

t.test('gateway failures are counted by themselves, and eject only as far as they are enforced', async (t) => {
  const it = rig(t, { consecutive5xx: 100, consecutiveGatewayFailure: 3 })
  it.answers(0, 503, 2)
  it.answers(0, 500)
  it.answers(0, 504, 3)
  t.same(it.out(), [])
  t.equal(it.stat('detected_consecutive_gateway_failure'), 1)
  t.equal(it.stat('enforced_consecutive_gateway_failure'), 0)
  t.match(it.lines, [{ type: 'CONSECUTIVE_GATEWAY_FAILURE', enforced: false, num_ejections: 0 }])
  it.runtime.set('outlier_detection.enforcing_consecutive_gateway_failure', 100)
  it.clock.advance(10_000)
  it.answers(0, 502, 3)
  t.same(it.out(), [0], 'the runtime says otherwise from the next interval on')
})

t.test('failures without a response count as 5xx, or by themselves where origins are told apart', async (t) => {
  const together = rig(t)
  const fail = (it: Rig, why: (typeof FAILURES)[keyof typeof FAILURES], times: number): void => {
    for (let n = 0; n < times; n++) it.host(0).monitor?.onFailure(why, 1)
  }
  fail(together, FAILURES.connectFailed, 2)
  fail(together, FAILURES.upstreamTimeout, 2)
  fail(together, FAILURES.overflow, 9)
  fail(together, FAILURES.clientClosed, 9)
  t.same(together.out(), [])
  fail(together, FAILURES.upstreamReset, 1)
  t.same(together.out(), [0])

  const apart = rig(t, { splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailure: 2 })
  apart.answers(0, 500, 4)
  fail(apart, FAILURES.connectTimeout, 1)
  apart.answers(0, 500, 0)
  t.same(apart.out(), [])
  fail(apart, FAILURES.connectFailed, 1)
  t.same(apart.out(), [0])
  t.equal(apart.stat('enforced_consecutive_local_origin_failure'), 1)
  t.equal(apart.stat('detected_consecutive_5xx'), 0)
})

t.test('a gRPC status counts as the HTTP status it stands for', async (t) => {
  const it = rig(t)
  const grpc = (status: number, times: number): void => {
    for (let n = 0; n < times; n++) it.host(0).monitor?.onResponse(200, status, 1)
  }
  grpc(14, 4)
  grpc(5, 1)
  grpc(13, 4)
  t.same(it.out(), [])
  grpc(14, 1)
  t.same(it.out(), [0])
})

t.test('a host far below the mean of all is ejected when the interval ends', async (t) => {
  const it = rig(t, { consecutive5xx: 1_000 })
  for (let i = 0; i < 10; i++) it.answers(i, 200, 100)
  for (let n = 0; n < 50; n++) it.answers(3, 500)
  t.same(it.out(), [])
  it.clock.advance(10_020)
  t.same(it.out(), [3])
  t.equal(it.stat('enforced_success_rate'), 1)
  t.equal(Math.round(it.detector.successRate(it.host(3), 'external')), 67)
  t.equal(it.detector.successRate(it.host(0), 'external'), 100)
  t.match(it.lines, [
    {
      type: 'SUCCESS_RATE',
      eject_success_rate_event: {
        host_success_rate: 66,
        cluster_average_success_rate: 96,
        cluster_success_rate_ejection_threshold: 77,
      },
    },
  ])
  it.clock.advance(10_000)
  t.equal(it.detector.successRate(it.host(0), 'external'), -1, 'an interval without traffic says nothing')
  const few = rig(t, { consecutive5xx: 1_000 }, 4)
  for (let i = 0; i < 4; i++) few.answers(i, i === 0 ? 500 : 200, 200)
  few.clock.advance(10_020)
  t.same(few.out(), [], 'too few hosts')
})

t.test('a host that fails more often than is permitted is ejected where that is enforced', async (t) => {
  const enforcing = { ...ENVOY_OUTLIER.enforcing, successRate: 0, failurePercentage: 100 }
  const it = rig(t, { consecutive5xx: 1_000, failurePercentageThreshold: 20, enforcing })
  for (let i = 0; i < 10; i++) it.answers(i, 200, i === 7 ? 10 : 80)
  it.answers(1, 500, 20)
  it.answers(2, 500, 19)
  it.answers(7, 500, 10)
  it.clock.advance(10_020)
  t.same(it.out(), [1], 'host 7 has had too few requests')
  t.match(it.lines.at(-1), { type: 'FAILURE_PERCENTAGE', eject_failure_percentage_event: { host_success_rate: 80 } })
})

t.test('an active check that passes ends an ejection, unless that is not wanted', async (t) => {
  const it = rig(t)
  it.answers(0, 500, 5)
  it.hosts.flag(it.host(0), HEALTH.failedActiveHc, true)
  it.detector.checked(it.host(0))
  t.equal(it.host(0).healthFlags(), '/failed_active_hc/failed_outlier_check')
  it.hosts.flag(it.host(0), HEALTH.failedActiveHc, false)
  it.detector.checked(it.host(0))
  t.same(it.out(), [])
  const not = rig(t, { uneject: false })
  not.answers(0, 500, 5)
  not.detector.checked(not.host(0))
  t.same(not.out(), [0])
})

t.test(
  'an ejected host that is removed is not counted any longer, and others may be ejected in its place',
  async (t) => {
    const it = rig(t, { maxEjectionPercent: 25 }, 4)
    it.answers(0, 500, 5)
    it.answers(1, 500, 5)
    t.same(it.out(), [0])
    const kept = it.hosts.all.slice(1).map(({ address }) => ({ address, weight: 1, health: 'healthy' as const }))
    const { added, removed } = it.hosts.update([
      { priority: 0, endpoints: [...kept, { ...kept[0], address: { kind: 'ip', host: '10.0.0.9', port: 80 } }] },
    ])
    it.detector.update(added, removed)
    t.equal(it.stat('active'), 0)
    it.answers(2, 500, 5)
    t.same(it.out(), [2])
  },
)

t.test('native defaults eject after five failures and let a host back after a second', async (t) => {
  const it = rig(t, EDGE_OUTLIER, 4)
  it.host(0).monitor?.onFailure(FAILURES.connectFailed, 1)
  it.answers(0, 500, 4)
  it.answers(1, 500, 5)
  it.answers(2, 500, 5)
  t.same(it.out(), [0, 1], 'half of the hosts at most')
  it.clock.advance(1_600)
  t.same(it.out(), [])
})

t.test(
  'a host that calls itself degraded is, for as long as it would be ejected, and longer the next time',
  async (t) => {
    const it = rig(t, { detectDegradedHosts: true, maxEjectionPercent: 0 }, 4)
    for (const i of [0, 1, 2, 3]) it.host(i).monitor?.onDegraded?.()
    t.equal(it.host(0).healthFlags(), '/degraded_outlier_detection')
    t.same([it.hosts.healthyCount, it.out()], [0, []], 'all of them, since none is ejected')
    it.host(0).monitor?.onDegraded?.()
    t.equal(it.stat('detected_degradation'), 4)
    t.equal(it.stat('active'), 0)
    t.match(it.lines[0], {
      type: 'DEGRADED',
      action: 'EJECT',
      num_ejections: 0,
      enforced: true,
      eject_consecutive_event: {},
    })
    it.detector.checked(it.host(0))
    it.clock.advance(29_900)
    t.equal(it.host(0).health, 'degraded', 'a check that passes does not end it')
    it.clock.advance(200)
    t.equal(it.host(0).health, 'healthy')
    t.match(it.lines.at(-1), { type: 'CONSECUTIVE_5XX', action: 'UNEJECT', num_ejections: 0, enforced: false })
    it.host(0).monitor?.onDegraded?.()
    it.clock.advance(50_000)
    t.equal(it.host(0).health, 'degraded')
    it.clock.advance(25_000)
    t.equal(it.host(0).health, 'healthy', 'twice as long')
    it.clock.advance(60_000)
    it.host(0).monitor?.onDegraded?.()
    it.clock.advance(31_000)
    t.equal(it.host(0).health, 'healthy', 'trusted again')
    it.clock.advance(60_000)
    t.equal(rig(t).host(0).monitor?.onDegraded, undefined, 'nobody looks for it otherwise')
  },
)

t.test('monitors have rows of their own, of the responses and failures that they are about', async (t) => {
  const monitors = [
    { name: 'limits', threshold: 3, enforcing: 100, statuses: [[429, 430] as const], localOrigin: false },
    { name: 'seen', threshold: 2, enforcing: 0, statuses: [[404, 404] as const], localOrigin: false },
    { name: 'reach', threshold: 2, enforcing: 100, statuses: [], localOrigin: true },
  ]
  const it = rig(t, { monitors, consecutive5xx: 0, consecutiveGatewayFailure: 0 })
  it.answers(0, 429, 2)
  it.answers(0, 200)
  it.answers(0, 430, 2)
  t.same(it.out(), [])
  it.answers(0, 429)
  t.same(it.out(), [0])
  t.equal(it.stat('enforced_total'), 1)
  t.match(it.lines.at(-1), { type: 'EXTENSION', action: 'EJECT', enforced: true })
  it.answers(1, 404, 2)
  t.match(it.lines.at(-1), { type: 'EXTENSION', upstream_url: '10.0.0.1:80', enforced: false })
  const reset = (i: number): void => it.host(i).monitor?.onFailure(FAILURES.connectFailed, 1)
  reset(2)
  it.answers(2, 503)
  reset(2)
  t.same(it.out(), [0], 'who answers has been reached')
  reset(2)
  t.same(it.out(), [0, 2])
  t.equal(it.stat('detected_consecutive_5xx'), 0)
})
