import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import t, { type Test } from 'tap'
import { Headers } from '../../lib/core/headers.ts'
import type { HealthLink, HealthReport } from '../../lib/core/host-health.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { RemoteHealth } from '../../lib/runtime/remote-health.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { type ClusterDeps, UpstreamCluster } from '../../lib/upstream/cluster.ts'
import type { ClusterConfig, EndpointConfig } from '../../lib/upstream/config.ts'
import { AssignmentTable } from '../../lib/upstream/discovery/assignments.ts'
import { DnsResolvers } from '../../lib/upstream/discovery/dns/resolver.ts'
import type { HealthCheckConfig } from '../../lib/upstream/health/config.ts'
import { HealthLine } from '../../lib/upstream/health/line.ts'
import { HostHealthService, type WorkerVoice } from '../../lib/upstream/health/service.ts'
import type { Host, ResolvedEndpoint } from '../../lib/upstream/host.ts'
import { HostSet } from '../../lib/upstream/host-set.ts'
import { EDGE_OUTLIER, ENVOY_OUTLIER, type OutlierConfig } from '../../lib/upstream/outlier/config.ts'
import { settle, TestClock } from '../support/clock.ts'
import { CLUSTER } from '../support/cluster-config.ts'
import { CHECK } from '../support/health-check.ts'

const LOGGED: HealthCheckConfig = { ...CHECK, eventLogPaths: ['events'] }

/** A control process, as far as hosts are concerned. */
class Control {
  readonly metrics = new MetricsStore()
  readonly wheel: TimerWheel
  readonly service: HostHealthService
  readonly dns: DnsResolvers
  readonly lines: Record<string, unknown>[] = []

  constructor(clock: TestClock, voice: WorkerVoice) {
    this.wheel = new TimerWheel(clock)
    this.dns = new DnsResolvers({ clock })
    this.service = new HostHealthService({ ...depsOf(this), sinks: sinksOf(this.lines) }, voice)
  }

  stat(name: string): number {
    const full = `cluster.web.${name}`
    return this.metrics.has(full) ? this.metrics.counter(full).v : this.metrics.gauge(full).v
  }

  async end(): Promise<void> {
    this.service[Symbol.dispose]()
    await settle(10)
    assert.equal(this.wheel.armed, 0, 'control leaves no deadline')
    this.wheel.close()
    this.dns[Symbol.dispose]()
  }
}

class Worker {
  readonly metrics = new MetricsStore()
  readonly wheel: TimerWheel
  readonly dns: DnsResolvers
  readonly assignments = new AssignmentTable()
  readonly health: RemoteHealth
  readonly cluster: UpstreamCluster
  readonly warm: Promise<void>

  constructor(clock: TestClock, config: ClusterConfig, endpoints: readonly EndpointConfig[], send: SendReports) {
    this.wheel = new TimerWheel(clock)
    this.dns = new DnsResolvers({ clock })
    this.health = new RemoteHealth(async (reports) => send(reports))
    this.assign(endpoints)
    const deps = { ...depsOf(this), assignments: this.assignments, health: this.health }
    this.cluster = new UpstreamCluster(config, { ...deps, sinks: sinksOf([]) })
    this.warm = this.cluster.warm()
  }

  assign(endpoints: readonly EndpointConfig[]): void {
    this.assignments.set({ name: 'web', localities: [{ priority: 0, endpoints }] })
  }

  get flags(): string[] {
    return this.cluster.hosts.all.map((host) => host.healthFlags())
  }

  host(i: number): Host {
    return this.cluster.hosts.all[i]
  }

  answers(i: number, status: number, times: number): void {
    for (let n = 0; n < times; n++) this.host(i).monitor?.onResponse(status, undefined, 1)
  }

  async end(): Promise<void> {
    this.cluster.destroy()
    await this.cluster.drained()
    await settle(5)
    assert.equal(this.wheel.armed, 0, 'no deadline is left')
    assert.ok(
      this.cluster.hosts.all.every((host) => host.monitor === undefined),
      'nobody watches',
    )
    this.wheel.close()
    this.dns[Symbol.dispose]()
  }
}

type SendReports = (reports: readonly HealthReport[]) => void

function depsOf(of: { metrics: MetricsStore; wheel: TimerWheel; dns: DnsResolvers }): ClusterDeps {
  return {
    metrics: of.metrics,
    wheel: of.wheel,
    dns: of.dns,
    log: { debug() {}, info() {}, warn() {}, error() {} },
    random: () => 0.5,
    nextConnectionId: () => 1,
  }
}

function sinksOf(lines: Record<string, unknown>[]): never {
  const sink = { write: (line: string) => lines.push(JSON.parse(line)), [Symbol.dispose]: () => {} }
  return { open: () => sink } as never
}

/** A gateway of several workers, in one process; what they say to each other goes through JSON. */
class Lab {
  readonly clock = new TestClock()
  readonly workers = new Map<number, Worker>()
  readonly #config: ClusterConfig
  endpoints: readonly EndpointConfig[]
  control: Control | undefined = undefined
  reports = 0
  /** Hosts in one message of control's. */
  largest = 0

  constructor(t: Test, endpoints: readonly EndpointConfig[], config: Partial<ClusterConfig>) {
    this.endpoints = endpoints
    this.#config = { ...CLUSTER, ...config }
    t.teardown(async () => {
      for (const worker of this.workers.values()) await worker.end()
      await settle(5)
      await this.kill()
    })
  }

  start(): Control {
    const control: Control = new Control(this.clock, {
      send: (to, verdicts) => {
        this.largest = Math.max(this.largest, verdicts.hosts.length)
        if (this.control === control) this.workers.get(to)?.health.received(copy(verdicts))
      },
      news: (to, news) => {
        if (this.control === control) this.workers.get(to)?.health.news(copy(news))
      },
      workers: () => this.workers.keys(),
    })
    this.control = control
    for (const [number, worker] of this.workers) this.#greet(number, worker)
    return control
  }

  #greet(number: number, worker: Worker): void {
    worker.health.asked()
    this.control?.service.welcome(number)
  }

  /** The control process ends without a word. */
  async kill(): Promise<void> {
    const { control } = this
    this.control = undefined
    for (const worker of this.workers.values()) worker.health.controlGone()
    await control?.end()
  }

  worker(number: number, config: ClusterConfig = this.#config): Worker {
    const worker = new Worker(this.clock, config, this.endpoints, (reports) => {
      this.reports += reports.length
      this.control?.service.report(number, copy(reports))
    })
    this.workers.set(number, worker)
    if (this.control !== undefined) this.#greet(number, worker)
    return worker
  }

  async end(number: number): Promise<void> {
    this.control?.service.retire(number)
    const worker = this.workers.get(number) as Worker
    this.workers.delete(number)
    await worker.end()
  }

  async pass(ms: number): Promise<void> {
    await this.clock.advanceAsync(ms)
    await settle(10)
  }

  async until(done: () => boolean): Promise<void> {
    for (let i = 0; i < 2_000 && !done(); i++) await settle(1)
    assert.ok(done(), `it came to pass: ${[...this.workers.values()].map((worker) => worker.flags.slice(0, 9))}`)
  }
}

function copy<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T
}

function at(port: number, more: Partial<EndpointConfig> = {}): EndpointConfig {
  return { address: { kind: 'ip', host: '127.0.0.1', port }, weight: 1, health: 'healthy', ...more }
}

function many(count: number): EndpointConfig[] {
  return Array.from({ length: count }, (_, i) => ({
    ...at(80),
    address: { kind: 'ip', host: `10.0.0.${i}`, port: 80 },
  }))
}

interface Peer {
  readonly port: number
  asked: number
  answer: RequestListener
}

async function peer(t: Test): Promise<Peer> {
  const sockets = new Set<Socket>()
  const server: Server = createServer((request, response) => {
    it.asked++
    it.answer(request, response)
  })
  server.on('connection', (socket) => sockets.add(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const it: Peer = { port: (server.address() as AddressInfo).port, asked: 0, answer: (_, response) => response.end() }
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  return it
}

const failing: RequestListener = (_, response) => {
  response.statusCode = 503
  response.end()
}

t.test('a host is asked once for all workers, who hear of it together', async (t) => {
  const [good, bad] = [await peer(t), await peer(t)]
  bad.answer = failing
  const lab = new Lab(t, [at(good.port), at(bad.port)], { healthCheck: LOGGED })
  const control = lab.start()
  const [a, b] = [lab.worker(1), lab.worker(2)]
  t.same(a.flags, ['/failed_active_hc', '/failed_active_hc'], 'from the very first moment')
  await Promise.all([a.warm, b.warm])
  t.same(a.flags, ['healthy', '/failed_active_hc'])
  t.same(b.flags, a.flags)
  t.same(a.cluster.health(), { healthy: 1, degraded: 0, total: 2 })
  t.equal(good.asked, 1)
  t.equal(control.stat('health_check.attempt'), 2)
  t.equal(control.stat('health_check.healthy'), 1)
  t.equal(a.metrics.has('cluster.web.health_check.attempt'), false, 'nothing is counted twice')
  t.equal(control.metrics.has('cluster.web.membership_change'), false)
  await lab.pass(60_020)
  await lab.until(() => good.asked === 2)
  a.metrics.counter('cluster.web.upstream_cx_total').v = 1
  await lab.pass(61_000)
  await lab.until(() => good.asked === 3)
  good.answer = failing
  await lab.pass(5_020)
  await lab.until(() => b.flags[0] === '/failed_active_hc')
  t.equal(good.asked, 4, 'one of them has traffic now')
  t.same(a.flags, b.flags)
  t.match(control.lines.at(-1), { eject_unhealthy_event: { failure_type: 'ACTIVE' }, cluster_name: 'web' })
})

t.test('a worker that comes later hears at once what is known, and one that goes leaves it behind', async (t) => {
  const host = await peer(t)
  const lab = new Lab(t, [at(host.port)], { healthCheck: LOGGED })
  const control = lab.start()
  await lab.worker(1).warm
  await lab.worker(2).warm
  t.equal(host.asked, 1)
  await lab.end(1)
  await lab.end(2)
  await lab.pass(10_000)
  t.equal(control.stat('health_check.healthy'), 1)
  const next = lab.worker(3)
  await next.warm
  t.same(next.flags, ['healthy'])
  t.equal(host.asked, 1, 'the one in their place need not wait')
  await lab.end(3)
  await lab.pass(16_000)
  t.equal(control.stat('health_check.healthy'), 0, 'nobody has it any more')
  t.equal(control.wheel.armed, 0)
})

t.test('while control is away what was known last holds, and the next one goes on from there', async (t) => {
  const [good, bad] = [await peer(t), await peer(t)]
  bad.answer = failing
  const lab = new Lab(t, [at(good.port), at(bad.port)], { healthCheck: LOGGED })
  lab.start()
  const [a, b] = [lab.worker(1), lab.worker(2)]
  await Promise.all([a.warm, b.warm])
  await lab.kill()
  const seen: string[][] = []
  for (const worker of [a, b]) worker.cluster.hosts.onChange(() => seen.push(worker.flags))
  await lab.pass(600_000)
  t.same(a.flags, ['healthy', '/failed_active_hc'])
  t.equal(good.asked, 1)
  const control = lab.start()
  await lab.pass(20)
  t.equal(good.asked, 1, 'not all at once')
  t.equal(control.stat('health_check.healthy'), 1)
  t.same(seen, [], 'nothing moved')
  bad.answer = (_, response) => response.end()
  await lab.pass(61_000)
  await lab.until(() => good.asked >= 2 && bad.asked >= 2)
  await lab.pass(60_020)
  await lab.until(() => b.flags[1] === 'healthy')
  t.same(a.flags, ['healthy', 'healthy'])
  t.ok(
    seen.every(([first]) => first === 'healthy'),
    'the good one stayed so',
  )
})

t.test('a host that comes while control is away waits for its check', async (t) => {
  const [old, fresh] = [await peer(t), await peer(t)]
  const lab = new Lab(t, [at(old.port)], { healthCheck: LOGGED })
  lab.start()
  const worker = lab.worker(1)
  await worker.warm
  await lab.kill()
  worker.assign([at(old.port), at(fresh.port)])
  await lab.pass(30_000)
  t.same(worker.flags, ['healthy', '/failed_active_hc'])
  lab.start()
  await lab.until(() => worker.flags[1] === 'healthy')
  t.equal(fresh.asked, 1)
})

t.test('a host that is gone from discovery stays until it fails, and others may go at once', async (t) => {
  const [a, b] = [await peer(t), await peer(t)]
  const lab = new Lab(t, [at(a.port), at(b.port)], { healthCheck: LOGGED })
  const control = lab.start()
  const [one, two] = [lab.worker(1), lab.worker(2)]
  await Promise.all([one.warm, two.warm])
  one.assign([at(a.port)])
  t.same(one.flags, ['healthy', '/pending_dynamic_removal'])
  two.assign([at(a.port)])
  b.answer = failing
  await lab.pass(60_020)
  await lab.until(() => one.flags.length === 1 && two.flags.length === 1)
  await settle(5)
  t.equal(control.stat('health_check.healthy'), 1)
  t.equal(one.metrics.gauge('cluster.web.membership_total').v, 1)
})

t.test('x-envoy-immediate-health-check-fail is heard of everywhere, and checks switched off end', async (t) => {
  const host = await peer(t)
  const lab = new Lab(t, [at(host.port)], { healthCheck: LOGGED })
  const control = lab.start()
  const [a, b] = [lab.worker(1), lab.worker(2)]
  await Promise.all([a.warm, b.warm])
  a.host(0).monitor?.onCheckFailRequested?.()
  t.same(a.flags, ['/failed_active_hc/excluded_via_immediate_hc_fail'], 'where it was heard at once')
  await lab.until(() => b.flags[0] !== 'healthy')
  t.same(b.flags, a.flags)
  t.equal(control.stat('health_check.passive_failure'), 1)
  for (const worker of [a, b]) {
    worker.assign([at(host.port, { check: { port: 0, hostname: '', disabled: true } })])
  }
  await lab.until(() => a.flags[0] === 'healthy' && b.flags[0] === 'healthy')
  const asked = host.asked
  await lab.pass(120_000)
  t.equal(host.asked, asked)
})

const OUTLIER: OutlierConfig = { ...ENVOY_OUTLIER, maxEjectionPercent: 20 }

t.test('failures in a row eject at once where they were seen, and everywhere else by control', async (t) => {
  const lab = new Lab(t, many(10), { outlier: { ...OUTLIER, eventLogPath: 'outliers' } })
  const control = lab.start()
  const [a, b] = [lab.worker(1), lab.worker(2)]
  await Promise.all([a.warm, b.warm])
  await settle(5)
  t.equal(lab.reports, 0, 'a cluster that nothing happens to is not told of')
  a.answers(3, 500, 5)
  t.equal(a.flags[3], '/failed_outlier_check')
  await lab.pass(20)
  t.equal(control.stat('outlier_detection.ejections_active'), 1)
  t.equal(control.stat('outlier_detection.ejections_enforced_consecutive_5xx'), 1)
  t.equal(a.metrics.has('cluster.web.outlier_detection.ejections_total'), false)
  await lab.pass(20)
  t.equal(b.flags[3], '/failed_outlier_check', 'although it has never used that host')
  const later = lab.worker(3)
  await lab.pass(20)
  t.equal(later.flags[3], '/failed_outlier_check', 'one that comes later hears of it')
  await lab.pass(45_000)
  t.equal(a.flags[3], 'healthy', 'control ends it')
  t.equal(b.flags[3], 'healthy')
  t.same(
    control.lines.map(({ action, upstream_url }) => [action, upstream_url]),
    [
      ['EJECT', '10.0.0.3:80'],
      ['UNEJECT', '10.0.0.3:80'],
    ],
  )
})

t.test(
  'failures in a row are counted over all workers: a host that fails always is ejected by as many requests',
  async (t) => {
    const lab = new Lab(t, many(10), { outlier: { ...OUTLIER, consecutive5xx: 12 } })
    const control = lab.start()
    const workers = [1, 2, 3, 4].map((number) => lab.worker(number))
    await Promise.all(workers.map(({ warm }) => warm))
    for (const worker of workers) worker.answers(3, 200, 50)
    await lab.pass(95)
    let requests = 0
    while (workers.every(({ flags }) => flags[3] === 'healthy') && requests < 100) {
      workers[requests++ % 4].answers(3, 503, 1)
      await lab.pass(5)
    }
    // Failures are told at once, then every 20 ms.
    t.ok(requests >= 12 && requests <= 18, `after ${requests} requests`)
    await lab.pass(20)
    t.same(new Set(workers.map(({ flags }) => flags[3])), new Set(['/failed_outlier_check']))
    t.equal(control.stat('outlier_detection.ejections_enforced_consecutive_5xx'), 1)
    t.equal(control.stat('outlier_detection.ejections_detected_consecutive_5xx'), 1)
    // A row of its own: seen, and not acted on.
    t.ok(control.stat('outlier_detection.ejections_detected_consecutive_gateway_failure') >= 1)
    t.equal(control.stat('outlier_detection.ejections_enforced_consecutive_gateway_failure'), 0)
  },
)

t.test('a good response in any worker ends the row of all, also one that has not been told of yet', async (t) => {
  const lab = new Lab(t, many(10), { outlier: OUTLIER })
  const control = lab.start()
  const [a, b, c] = [lab.worker(1), lab.worker(2), lab.worker(3)]
  await Promise.all([a.warm, b.warm, c.warm])
  for (const worker of [a, b, c]) worker.answers(1, 200, 1)
  await lab.pass(120)
  for (let round = 0; round < 20; round++) {
    a.answers(1, 500, 2)
    await lab.pass(5)
    c.answers(1, 200, 1)
    await lab.pass(5)
    b.answers(1, 500, 2)
    await lab.pass(30)
    a.answers(1, 500, 1)
    await lab.pass(30)
    for (const worker of [a, b]) worker.answers(1, 200, 1)
    await lab.pass(120)
  }
  t.equal(a.flags[1], 'healthy')
  t.equal(control.stat('outlier_detection.ejections_detected_consecutive_5xx'), 0)
  c.answers(1, 200, 1)
  await lab.pass(5)
  b.answers(1, 500, 3)
  a.answers(1, 500, 2)
  await lab.pass(30)
  t.equal(a.flags[1], '/failed_outlier_check', 'five after the last good one')
})

t.test('a worker that does not say what it knows holds nothing up', async (t) => {
  const lab = new Lab(t, many(10), { outlier: OUTLIER })
  lab.start()
  const [a, b, c] = [lab.worker(1), lab.worker(2), lab.worker(3)]
  await Promise.all([a.warm, b.warm, c.warm])
  for (const worker of [a, b, c]) worker.answers(1, 200, 1)
  await lab.pass(120)
  c.health.controlGone()
  b.answers(1, 500, 3)
  a.answers(1, 500, 2)
  await lab.pass(30)
  t.equal(b.flags[1], 'healthy')
  await lab.pass(60)
  t.equal(b.flags[1], '/failed_outlier_check')
})

t.test('what cannot be ejected is counted as often as one process would, and nobody is asked about it', async (t) => {
  const lab = new Lab(t, many(3), { outlier: { ...OUTLIER, maxEjectionPercent: 10 } })
  const control = lab.start()
  const workers = [1, 2].map((number) => lab.worker(number))
  await Promise.all(workers.map(({ warm }) => warm))
  for (let i = 0; i < 100; i++) {
    workers[i % 2].answers(0, 500, 1)
    await lab.pass(20)
  }
  await lab.pass(200)
  t.same(workers[0].flags[0], 'healthy')
  const detected = control.stat('outlier_detection.ejections_detected_consecutive_5xx')
  t.ok(detected >= 18 && detected <= 21, `${detected} times five of a hundred`)
  t.equal(control.stat('outlier_detection.ejections_overflow'), detected)
})

t.test('failures cost a message now and then, however many there are, and successes none', async (t) => {
  const lab = new Lab(t, many(10), { outlier: { ...OUTLIER, maxEjectionPercent: 0 } })
  lab.start()
  const worker = lab.worker(1)
  await worker.warm
  worker.answers(0, 200, 1)
  await lab.pass(200)
  const before = lab.reports
  for (let i = 0; i < 200; i++) {
    worker.answers(0, 500, 1)
    worker.answers(0, 500, 1)
    worker.answers(0, 200, 1)
    await lab.pass(5)
  }
  const told = lab.reports - before
  t.ok(told >= 10 && told <= 60, `${told} reports of 400 failures in a second`)
  await lab.pass(200)
  const quiet = lab.reports
  for (let i = 0; i < 200; i++) {
    worker.answers(0, 200, 3)
    await lab.pass(5)
  }
  t.ok(lab.reports - quiet <= 12, `${lab.reports - quiet} reports of 600 successes`)
})

t.test('the percentage of ejected hosts is that of the whole gateway', async (t) => {
  const lab = new Lab(t, many(10), { outlier: OUTLIER })
  const control = lab.start()
  const [a, b] = [lab.worker(1), lab.worker(2)]
  await Promise.all([a.warm, b.warm])
  for (const worker of [a, b]) for (let i = 0; i < 10; i++) worker.answers(i, 200, 1)
  await lab.pass(200)
  a.answers(0, 500, 5)
  a.answers(1, 500, 5)
  b.answers(8, 500, 5)
  b.answers(9, 500, 5)
  t.same(
    [a, b].map(({ flags }) => flags.filter((flag) => flag !== 'healthy').length),
    [2, 2],
  )
  await lab.pass(20)
  t.same(a.flags, b.flags)
  t.equal(a.flags.filter((flag) => flag !== 'healthy').length, 2, 'a fifth of ten')
  t.equal(control.stat('outlier_detection.ejections_active'), 2)
  t.equal(control.stat('outlier_detection.ejections_overflow'), 2)
})

t.test('rates are those of all workers together', async (t) => {
  const config = { ...OUTLIER, consecutive5xx: 1_000, successRateRequestVolume: 100, maxEjectionPercent: 50 }
  const lab = new Lab(t, many(6), { outlier: config })
  const control = lab.start()
  const workers = [lab.worker(1), lab.worker(2)]
  await Promise.all(workers.map(({ warm }) => warm))
  for (const worker of workers) {
    for (let i = 0; i < 6; i++) {
      worker.answers(i, 200, i === 5 ? 10 : 60)
      worker.answers(i, 500, i === 5 ? 50 : 0)
    }
  }
  await lab.pass(10_300)
  for (const { flags } of workers) {
    t.same(flags, ['healthy', 'healthy', 'healthy', 'healthy', 'healthy', '/failed_outlier_check'])
  }
  t.equal(control.stat('outlier_detection.ejections_enforced_success_rate'), 1)
  const [status] = control.service.complete([workers[0].cluster.status()])
  t.ok(Math.abs((status.outlier?.external.average ?? 0) - (5 * 100 + 100 / 6) / 6) < 1e-9)
  t.same(status.hosts[0].rates, { external: 100, local: -1 })
  t.match(status.hosts[5].rates?.external, 100 / 6)
})

t.test('without control ejections begin and end in each worker, and the next control knows of them', async (t) => {
  const lab = new Lab(t, many(10), { outlier: OUTLIER })
  lab.start()
  const [a, b] = [lab.worker(1), lab.worker(2)]
  await Promise.all([a.warm, b.warm])
  a.answers(0, 500, 5)
  await lab.pass(100)
  await lab.kill()
  await lab.pass(60_000)
  t.equal(a.flags[0], 'healthy', 'late, but not never')
  // The worker that is introduced first knows of no ejection of that host.
  b.answers(0, 500, 5)
  a.answers(0, 200, 1)
  a.answers(4, 200, 1)
  await lab.pass(200)
  t.equal(a.flags[0], 'healthy')
  a.answers(0, 500, 5)
  b.answers(4, 500, 5)
  t.equal(a.flags[0], '/failed_outlier_check')
  t.equal(b.flags[4], '/failed_outlier_check')
  const control = lab.start()
  await lab.pass(20)
  t.equal(control.stat('outlier_detection.ejections_active'), 2)
  b.answers(0, 200, 1)
  await lab.pass(200)
  t.equal(b.flags[0], '/failed_outlier_check')
  await lab.pass(45_000)
  t.equal(b.flags[4], 'healthy')
  t.equal(a.flags[0], '/failed_outlier_check', 'its second in a row')
  await lab.pass(30_000)
  t.equal(a.flags[0], 'healthy')
  t.equal(control.stat('outlier_detection.ejections_active'), 0)
})

t.test('a host that asks one worker to wait is left alone by all', async (t) => {
  const lab = new Lab(t, many(4), { outlier: { ...EDGE_OUTLIER, retryAfter: { statuses: [503], maxMs: 60_000 } } })
  const control = lab.start()
  const [a, b] = [lab.worker(1), lab.worker(2)]
  await Promise.all([a.warm, b.warm])
  b.answers(2, 200, 1)
  await lab.pass(200)
  a.host(2).monitor?.onUnavailable?.(429, new Headers(['retry-after', '20']))
  t.equal(a.flags[2], 'healthy', 'of 503 alone')
  a.host(2).monitor?.onUnavailable?.(503, new Headers(['retry-after', '20']))
  t.equal(a.flags[2], '/failed_outlier_check')
  await lab.pass(100)
  t.equal(b.flags[2], '/failed_outlier_check')
  await lab.pass(19_500)
  t.equal(b.flags[2], '/failed_outlier_check')
  await lab.pass(1_500)
  t.same([a.flags[2], b.flags[2]], ['healthy', 'healthy'])
  t.equal(control.stat('outlier_detection.ejections_enforced_total'), 1)
})

t.test('a host that calls itself degraded to one worker is degraded in all, also while control is away', async (t) => {
  const lab = new Lab(t, many(4), {
    outlier: { ...EDGE_OUTLIER, baseEjectionTimeMs: 5_000, detectDegradedHosts: true },
  })
  const control = lab.start()
  const [a, b] = [lab.worker(1), lab.worker(2)]
  await Promise.all([a.warm, b.warm])
  a.host(2).monitor?.onDegraded?.()
  t.equal(a.flags[2], '/degraded_outlier_detection', 'at once')
  await lab.until(() => b.flags[2] === '/degraded_outlier_detection')
  t.equal(control.stat('outlier_detection.ejections_detected_degradation'), 1)
  t.same(a.cluster.health(), { healthy: 3, degraded: 1, total: 4 })
  const later = lab.worker(3)
  await lab.until(() => later.flags[2] === '/degraded_outlier_detection')
  await lab.pass(1_000)
  await lab.kill()
  await lab.pass(1_000)
  const next = lab.start()
  await lab.pass(20)
  await lab.pass(20)
  t.equal(next.stat('outlier_detection.ejections_detected_degradation'), 0, 'known, and not found again')
  await lab.pass(2_000)
  t.equal(b.flags[2], '/degraded_outlier_detection')
  await lab.pass(2_000)
  t.same([a.flags[2], b.flags[2], later.flags[2]], ['healthy', 'healthy', 'healthy'])
  await lab.kill()
  b.host(1).monitor?.onDegraded?.()
  await lab.pass(5_000)
  t.equal(b.flags[1], '/degraded_outlier_detection')
  await lab.pass(3_000)
  t.equal(b.flags[1], 'healthy', 'nobody else would end it')
})

t.test('hosts that are internal listeners are checked by each worker', async (t) => {
  const host = await peer(t)
  const inside: EndpointConfig = { ...at(1), address: { kind: 'internal', listener: 'inside' } }
  const lab = new Lab(t, [at(host.port), inside], { healthCheck: LOGGED })
  const control = lab.start()
  const [a, b] = [lab.worker(1), lab.worker(2)]
  await Promise.all([a.warm, b.warm])
  t.same(a.flags, ['healthy', '/failed_active_hc'])
  t.same(b.flags, a.flags)
  t.equal(control.stat('health_check.attempt'), 1)
  t.equal(a.metrics.counter('cluster.web.health_check.network_failure').v, 1, 'there is no such listener')
  a.assign([at(host.port)])
  t.equal(a.flags.length, 1, 'it has failed')
})

t.test('other certificates are taken over, and another configuration is a cluster of its own', async (t) => {
  const host = await peer(t)
  const lab = new Lab(t, [at(host.port)], { healthCheck: LOGGED })
  const control = lab.start()
  const [a, b] = [lab.worker(1), lab.worker(2)]
  await Promise.all([a.warm, b.warm])
  const renewed = { ...a.cluster.config, metadata: { renewed: {} } }
  a.cluster.renew(renewed)
  b.cluster.renew(renewed)
  await lab.pass(20)
  await lab.worker(3, renewed).warm
  t.equal(host.asked, 1, 'the third finds what the two had')
  const other = lab.worker(4, { ...renewed, healthCheck: { ...LOGGED, healthyThreshold: 1 } })
  await other.warm
  t.equal(host.asked, 2, 'the fourth wants other checks')
  t.equal(control.stat('health_check.healthy'), 2)
  await lab.end(4)
  await lab.pass(16_000)
  t.equal(control.stat('health_check.healthy'), 1)
})

t.test('hosts report their load once for all workers, also to the next control process', async (t) => {
  const peers = [await loadReporter(t), await loadReporter(t)]
  const balancer = {
    kind: 'client-weighted',
    blackoutMs: 2_000,
    expirationMs: 180_000,
    updateMs: 1_000,
    errorPenalty: 1,
    metrics: [],
    outOfBand: { periodMs: 10_000 },
  } as const
  const lab = new Lab(
    t,
    peers.map(({ port }) => at(port)),
    { balancer, outlier: OUTLIER },
  )
  const control = lab.start()
  const [a, b] = [lab.worker(1), lab.worker(2)]
  await Promise.all([a.warm, b.warm])
  const shares = (worker: Worker): number => {
    let first = 0
    for (let i = 0; i < 400; i++) if (worker.cluster.pick({}) === worker.host(0)) first++
    return first
  }
  t.equal(shares(a), 200)
  t.equal(shares(b), 200)
  await lab.pass(10_020)
  await lab.until(() => peers.every(({ streams }) => streams.length > 0))
  t.same(
    peers.map(({ streams }) => streams.length),
    [1, 1],
    'one stream each',
  )
  t.equal(control.stat('lb_orca_oob.active_sessions'), 2)
  t.equal(a.metrics.has('cluster.web.lb_orca_oob.active_sessions'), false)
  const report = async (of: Control, count: number): Promise<void> => {
    peers[0].streams.at(-1)?.write(loadReport(0.5, 300))
    peers[1].streams.at(-1)?.write(loadReport(0.5, 100))
    await lab.until(() => of.stat('lb_orca_oob.reports_received') === count)
    await settle(10)
  }
  await report(control, 2)
  await lab.pass(1_020)
  t.equal(shares(a), 200, 'not for the first two seconds')
  await lab.pass(1_020)
  for (const worker of [a, b]) t.ok(Math.abs(shares(worker) - 300) <= 2, 'three times as many')
  const later = lab.worker(3)
  await later.warm
  shares(later)
  await lab.pass(20)
  await lab.pass(1_020)
  t.ok(Math.abs(shares(later) - 300) <= 2, 'one that comes later knows it at once, and for how long')
  t.same(
    peers.map(({ streams }) => streams.length),
    [1, 1],
  )
  await lab.kill()
  await lab.pass(60_000)
  t.ok(Math.abs(shares(a) - 300) <= 2, 'what was reported last holds as long as it would')
  const next = lab.start()
  await lab.pass(10_020)
  await lab.until(() => peers.every(({ streams }) => streams.length === 2))
  peers.reverse()
  await report(next, 2)
  await lab.pass(1_020)
  for (const worker of [a, b, later]) t.ok(Math.abs(shares(worker) - 100) <= 2)
  for (const worker of [a, b, later]) worker.assign([lab.endpoints[0]])
  await settle(10)
  shares(a)
  await lab.pass(20)
  t.equal(next.stat('lb_orca_oob.active_sessions'), 1, 'nobody has the other one any more')
  for (const number of [1, 2, 3]) await lab.end(number)
  await lab.pass(16_000)
  t.equal(next.stat('lb_orca_oob.active_sessions'), 0)
})

interface LoadReporter {
  readonly port: number
  readonly streams: ServerHttp2Stream[]
}

/** A host that answers each question for its load with a stream. */
async function loadReporter(t: Test): Promise<LoadReporter> {
  const streams: ServerHttp2Stream[] = []
  const server = createHttp2Server()
  server.on('stream', (stream: ServerHttp2Stream) => {
    stream.on('error', () => {})
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    streams.push(stream)
  })
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => sockets.add(socket))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  return { port: (server.address() as AddressInfo).port, streams }
}

/** `{ cpu_utilization, rps_fractional }` as one gRPC message. */
function loadReport(cpu: number, rps: number): Buffer {
  const message = Buffer.alloc(5 + 18)
  message.writeUInt32BE(18, 1)
  message[5] = 0x09
  message.writeDoubleLE(cpu, 6)
  message[14] = 0x31
  message.writeDoubleLE(rps, 15)
  return message
}

t.test('many hosts come in pieces', async (t) => {
  const host = await peer(t)
  const check = {
    address: { kind: 'ip', host: '127.0.0.1', port: host.port } as const,
    port: 0,
    hostname: '',
    disabled: false,
  }
  const endpoints = Array.from({ length: 300 }, (_, i) => ({
    ...at(80, { check }),
    address: { kind: 'ip', host: `10.0.${i >> 8}.${i & 255}`, port: 80 } as const,
  }))
  const lab = new Lab(t, endpoints, { healthCheck: { ...LOGGED, eventLogPaths: [] } })
  const control = lab.start()
  const worker = lab.worker(1)
  await lab.until(() => control.stat('health_check.healthy') === 300)
  await worker.warm
  t.equal(worker.cluster.health().healthy, 300)
  t.equal(lab.reports, 3, 'the cluster, and twice up to 256 hosts')
  t.ok(lab.largest <= 256, `${lab.largest} hosts in one message back`)
  worker.assign(endpoints.slice(0, 10))
  host.answer = failing
  await lab.pass(60_020)
  await lab.until(() => worker.flags.length === 10)
  await settle(5)
  t.equal(control.service.size, 1)
})

t.test('a passing check lets an ejected host back in every worker', async (t) => {
  const host = await peer(t)
  const lab = new Lab(t, [at(host.port)], {
    healthCheck: LOGGED,
    outlier: { ...EDGE_OUTLIER, maxEjectionPercent: 100, baseEjectionTimeMs: 300_000 },
  })
  lab.start()
  const [a, b] = [lab.worker(1), lab.worker(2)]
  await Promise.all([a.warm, b.warm])
  b.answers(0, 500, 5)
  await lab.until(() => a.flags[0] === '/failed_outlier_check')
  await lab.pass(60_020)
  await lab.until(() => a.flags[0] === 'healthy' && b.flags[0] === 'healthy')
  t.equal(host.asked, 2)
})

t.test('a host that is added within a turn counts at once in the size that its cluster is told to have', async (t) => {
  const wheel = new TimerWheel(new TestClock())
  const hosts = new HostSet({ turn: wheel.turn })
  const sizes: number[] = []
  const tell = (report: HealthReport): void => void (report.kind === 'hosts' && sizes.push(report.size))
  const channel = { cluster: 1, tell, [Symbol.dispose]: () => {} }
  const link = { follow: () => channel } as unknown as HealthLink
  const line = new HealthLine(CLUSTER, { hosts, link })
  for (const port of [1, 2]) line.mention(hosts.add(at(port) as ResolvedEndpoint))
  t.same(sizes, [1, 2])
})
