import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { Headers } from '../../lib/core/headers.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { UpstreamCluster } from '../../lib/upstream/cluster.ts'
import type { ClusterConfig, EndpointConfig } from '../../lib/upstream/config.ts'
import { AssignmentTable } from '../../lib/upstream/discovery/assignments.ts'
import { DnsResolvers } from '../../lib/upstream/discovery/dns/resolver.ts'
import type { HealthCheckConfig, HttpProbeConfig } from '../../lib/upstream/health/config.ts'
import { makeChecker } from '../../lib/upstream/health/make.ts'
import { ENVOY_OUTLIER } from '../../lib/upstream/outlier/config.ts'
import type { Transports } from '../../lib/upstream/transports.ts'
import { settle, TestClock } from '../support/clock.ts'
import { CLUSTER } from '../support/cluster-config.ts'
import { CHECK } from '../support/health-check.ts'

function http(probe: Partial<HttpProbeConfig>, more: Partial<HealthCheckConfig> = {}): HealthCheckConfig {
  return { ...CHECK, ...more, probe: { ...(CHECK.probe as HttpProbeConfig), ...probe } }
}

interface Rig {
  readonly clock: TestClock
  readonly cluster: UpstreamCluster
  readonly metrics: MetricsStore
  readonly assignments: AssignmentTable
  readonly lines: Record<string, unknown>[]
  readonly warm: Promise<void>
  /** Flags of each host, in order. */
  flags(): string[]
  /** Lets so much time pass, and sockets do their work. */
  pass(ms: number): Promise<void>
  until(done: () => boolean): Promise<void>
  stat(name: string): number
  traffic(): void
}

function rig(t: Test, endpoints: readonly EndpointConfig[], cluster: Partial<ClusterConfig>): Rig {
  const clock = new TestClock()
  const wheel = new TimerWheel(clock)
  const metrics = new MetricsStore()
  const dns = new DnsResolvers({ clock })
  const assignments = new AssignmentTable()
  const lines: Record<string, unknown>[] = []
  const sinks = {
    open: () => ({ write: (line: string) => lines.push(JSON.parse(line)), [Symbol.dispose]: () => {} }),
  }
  let connectionId = 0
  const config: ClusterConfig = { ...CLUSTER, ...cluster }
  assignments.set({ name: 'web', localities: [{ priority: 0, endpoints }] })
  const upstream = new UpstreamCluster(config, {
    metrics,
    wheel,
    dns,
    log: { debug() {}, info() {}, warn() {}, error() {} },
    random: () => 0.5,
    nextConnectionId: () => ++connectionId,
    assignments,
    sinks: sinks as never,
  })
  const warm = upstream.warm()
  t.teardown(async () => {
    upstream.destroy()
    await upstream.drained()
    await settle(10)
    assert.equal(wheel.armed, 0, 'no deadline is left')
    for (const gauge of [
      'health_check.healthy',
      'health_check.degraded',
      'membership_excluded',
      'upstream_cx_active',
    ]) {
      assert.equal(metrics.gauge(`cluster.web.${gauge}`).v, 0, `${gauge} is back at 0`)
    }
    wheel.close()
    dns[Symbol.dispose]()
  })
  const stat = (name: string): number => {
    const full = `cluster.web.${name}`
    return metrics.has(full) ? metrics.counter(full).v : metrics.gauge(full).v
  }
  const until = async (done: () => boolean): Promise<void> => {
    for (let i = 0; i < 2_000 && !done(); i++) await settle(1)
    assert.ok(done(), `it came to pass: ${upstream.hosts.all.map((host) => host.healthFlags())}`)
  }
  return {
    clock,
    cluster: upstream,
    metrics,
    assignments,
    lines,
    warm,
    flags: () => upstream.hosts.all.map((host) => host.healthFlags()),
    pass: async (ms) => {
      const asked = stat('health_check.attempt')
      await clock.advanceAsync(ms)
      await settle(5)
      if (stat('health_check.attempt') > asked) {
        await until(() => stat('health_check.success') + stat('health_check.failure') >= stat('health_check.attempt'))
      }
    },
    until,
    stat,
    traffic: () => {
      metrics.counter('cluster.web.upstream_cx_total').v = 1
    },
  }
}

function at(port: number, more: Partial<EndpointConfig> = {}): EndpointConfig {
  return { address: { kind: 'ip', host: '127.0.0.1', port }, weight: 1, health: 'healthy', ...more }
}

/** An HTTP/1 server that answers as it is told; counts connections. */
interface Peer {
  readonly port: number
  readonly seen: IncomingMessage[]
  connections: number
  answer: RequestListener
  close(): Promise<void>
}

async function peer(t: Test, answer: RequestListener = (_, response) => response.end()): Promise<Peer> {
  const sockets = new Set<Socket>()
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    it.seen.push(request)
    it.answer(request, response)
  })
  server.on('connection', (socket) => {
    it.connections++
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  const port = await listen(server)
  const it: Peer = {
    port,
    seen: [],
    connections: 0,
    answer,
    close: async () => {
      for (const socket of sockets) socket.destroy()
      if (server.listening) await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
  t.teardown(() => it.close())
  return it
}

async function listen(server: { listen(port: number, host: string): unknown; address(): unknown }): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server as Server, 'listening')
  return (server.address() as AddressInfo).port
}

const status =
  (code: number, headers: Record<string, string> = {}, body = ''): RequestListener =>
  (_, response) => {
    response.writeHead(code, headers)
    response.end(body)
  }

t.test('a host is unhealthy until its first good answer, which the cluster waits for', async (t) => {
  const good = await peer(t)
  const it = rig(t, [at(good.port), at(1)], { healthCheck: CHECK })
  t.same(it.flags(), ['/failed_active_hc', '/failed_active_hc'])
  t.equal(it.cluster.health().healthy, 0, 'from the very first moment')
  await it.warm
  await it.until(() => it.stat('health_check.failure') === 1)
  t.same(it.flags(), ['healthy', '/failed_active_hc'])
  await settle(2)
  t.same(it.cluster.health(), { healthy: 1, degraded: 0, total: 2 })
  t.equal(it.stat('membership_healthy'), 1)
  t.equal(it.stat('health_check.healthy'), 1)
  t.equal(it.stat('health_check.network_failure'), 1)
  t.equal(it.stat('upstream_cx_total'), 0, 'checks are no traffic')
  t.equal(it.stat('upstream_rq_total'), 0)
  const [request] = good.seen
  t.match(request, { method: 'GET', url: '/healthz' })
  t.equal(request.headers.host, 'web')
  t.equal(request.headers['user-agent'], 'Envoy/HC')
})

t.test('a wrong answer makes a host unhealthy at once, and two good ones healthy again', async (t) => {
  const host = await peer(t)
  const it = rig(t, [at(host.port)], { healthCheck: CHECK })
  await it.warm
  it.traffic()
  await it.pass(60_020)
  t.equal(host.seen.length, 2, 'without traffic once a minute')
  host.answer = status(503)
  await it.pass(5_020)
  t.same(it.flags(), ['/failed_active_hc'])
  host.answer = status(200)
  await it.pass(5_020)
  t.same(it.flags(), ['/failed_active_hc'])
  await it.pass(5_020)
  t.same(it.flags(), ['healthy'])
  t.equal(host.connections, 1, 'one connection for all')
})

t.test('a host that does not answer, or cannot be reached, is unhealthy after so many times', async (t) => {
  const host = await peer(t)
  const it = rig(t, [at(host.port)], { healthCheck: CHECK })
  await it.warm
  it.traffic()
  host.answer = () => {}
  await it.clock.advanceAsync(60_020)
  await it.until(() => host.seen.length === 2)
  t.same(it.flags(), ['healthy'])
  await it.clock.advanceAsync(1_020)
  t.equal(it.stat('health_check.network_failure'), 1)
  t.same(it.flags(), ['healthy'])
  await it.clock.advanceAsync(5_020)
  await it.until(() => host.seen.length === 3)
  await it.clock.advanceAsync(1_020)
  t.same(it.flags(), ['/failed_active_hc/active_hc_timeout'])
  await host.close()
  await it.pass(5_020)
  t.same(it.flags(), ['/failed_active_hc'], 'refused, and no timeout')
})

t.test('edge intervals hold while thresholds are being reached', async (t) => {
  const host = await peer(t)
  const healthCheck = http(
    {},
    { unhealthyThreshold: 3, unhealthyEdgeIntervalMs: 1_000, unhealthyIntervalMs: 9_000, healthyEdgeIntervalMs: 500 },
  )
  const it = rig(t, [at(host.port)], { healthCheck })
  await it.warm
  it.traffic()
  await it.pass(60_020)
  await host.close()
  await it.pass(5_020)
  t.equal(it.stat('health_check.failure'), 1)
  await it.pass(1_020)
  t.equal(it.stat('health_check.failure'), 2)
  t.same(it.flags(), ['healthy'])
  await it.pass(1_020)
  t.same(it.flags(), ['/failed_active_hc'])
  await it.pass(8_000)
  t.equal(it.stat('health_check.failure'), 3)
  await it.pass(1_020)
  t.equal(it.stat('health_check.failure'), 4)
})

t.test('expected and retriable statuses are told apart', async (t) => {
  const host = await peer(t, status(204))
  const healthCheck = http({
    expectedStatuses: [{ start: 200, end: 300 }],
    retriableStatuses: [{ start: 429, end: 430 }],
  })
  const it = rig(t, [at(host.port)], { healthCheck })
  await it.warm
  it.traffic()
  t.same(it.flags(), ['healthy'])
  host.answer = status(429)
  await it.pass(60_020)
  t.same(it.flags(), ['healthy'])
  await it.pass(5_020)
  t.same(it.flags(), ['/failed_active_hc'])
  t.equal(it.stat('health_check.network_failure'), 0)
})

t.test('a host that calls itself degraded is, until it says so no longer', async (t) => {
  const host = await peer(t, status(200, { 'x-envoy-degraded': '1' }))
  const it = rig(t, [at(host.port)], { healthCheck: { ...CHECK, eventLogPaths: ['/dev/null'] } })
  await it.warm
  it.traffic()
  await settle(2)
  t.same(it.flags(), ['/degraded_active_hc'])
  t.same(it.cluster.health(), { healthy: 0, degraded: 1, total: 1 })
  t.equal(it.stat('health_check.degraded'), 1)
  host.answer = status(200)
  await it.pass(60_020)
  t.same(it.flags(), ['healthy'])
  t.match(it.lines, [
    { health_checker_type: 'HTTP', cluster_name: 'web', add_healthy_event: { first_check: true } },
    { degraded_healthy_host: {} },
    { no_longer_degraded_host: {} },
  ])
})

t.test('a host that wants to be left out is excluded, by its check or by its traffic', async (t) => {
  const host = await peer(t)
  const it = rig(t, [at(host.port)], { healthCheck: CHECK })
  await it.warm
  it.traffic()
  host.answer = status(503, { 'x-envoy-immediate-health-check-fail': '1' })
  await it.pass(60_020)
  t.same(it.flags(), ['/failed_active_hc/excluded_via_immediate_hc_fail'])
  t.equal(it.stat('membership_excluded'), 1)
  host.answer = status(200)
  await it.pass(5_020)
  await it.pass(5_020)
  t.same(it.flags(), ['healthy'])
  t.equal(it.stat('membership_excluded'), 0)
  it.cluster.hosts.all[0].monitor?.onCheckFailRequested?.()
  await settle(2)
  t.same(it.flags(), ['/failed_active_hc/excluded_via_immediate_hc_fail'])
  t.equal(it.stat('health_check.passive_failure'), 1)
})

t.test('a host that wants to be left out and never fails often enough is used again after a good answer', async (t) => {
  const host = await peer(t)
  const it = rig(t, [at(host.port)], { healthCheck: http({ retriableStatuses: [{ start: 429, end: 430 }] }) })
  await it.warm
  it.traffic()
  host.answer = status(429, { 'x-envoy-immediate-health-check-fail': '1' })
  await it.pass(60_020)
  t.same(it.flags(), ['/excluded_via_immediate_hc_fail'])
  host.answer = status(200)
  await it.pass(5_020)
  t.same(it.flags(), ['healthy'])
  t.equal(it.stat('membership_excluded'), 0)
})

t.test('the request is as configured, its body too, and the response must say what is expected', async (t) => {
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  const bodies: string[] = []
  const host = await peer(t, (request, response) => {
    let body = ''
    request
      .on('data', (chunk) => (body += chunk))
      .on('end', () => {
        bodies.push(body)
        response.end('-- alive -- and -- well --')
      })
  })
  const healthCheck = http({
    method: 'POST',
    host: 'checks.test',
    headers: ['x-probe', '1'],
    removedHeaders: ['user-agent'],
    send: base64('ping'),
    receive: [base64('alive'), base64('well')],
  })
  const check = { port: 0, hostname: 'own.test', disabled: false }
  const it = rig(
    t,
    [
      at(host.port),
      at(host.port, {
        address: { kind: 'ip', host: '127.0.0.2', port: 9 },
        check: { ...check, address: { kind: 'ip', host: '127.0.0.1', port: 0 }, port: host.port },
      }),
    ],
    { healthCheck },
  )
  await it.warm
  it.traffic()
  t.same(it.flags(), ['healthy', 'healthy'])
  t.same(
    host.seen.map(({ method, headers }) => [method, headers.host, headers['x-probe'], headers['user-agent']]).sort(),
    [
      ['POST', 'checks.test', '1', undefined],
      ['POST', 'own.test', '1', undefined],
    ],
  )
  t.same(bodies, ['ping', 'ping'])
  host.answer = status(200, {}, 'well, alive')
  await it.pass(60_020)
  t.same(it.flags(), ['/failed_active_hc', '/failed_active_hc'], 'in the wrong order')
})

t.test('the cluster that answers must be the one that was meant', async (t) => {
  const host = await peer(t, status(200, { 'x-envoy-upstream-healthchecked-cluster': 'orders-v2' }))
  const serviceName = { kind: 'prefix', value: 'orders', ignoreCase: false } as const
  const it = rig(t, [at(host.port)], { healthCheck: http({ serviceName }) })
  await it.warm
  t.same(it.flags(), ['healthy'])
  t.equal(it.stat('health_check.verify_cluster'), 1)
  const wrong = rig(t, [at(host.port)], { healthCheck: http({ serviceName: { ...serviceName, value: 'users' } }) })
  await wrong.warm
  t.same(wrong.flags(), ['/failed_active_hc'])
})

t.test(
  'connections are not used twice where that is not wanted, and one that was closed meanwhile is no failure',
  async (t) => {
    const host = await peer(t)
    const it = rig(t, [at(host.port)], { healthCheck: { ...CHECK, reuseConnection: false } })
    await it.warm
    await it.pass(60_020)
    t.equal(host.connections, 2)
    const closing = await peer(t)
    const kept = rig(t, [at(closing.port)], { healthCheck: CHECK })
    await kept.warm
    // Its end arrives together with the next request.
    closing.answer = (request, response) => {
      if (closing.connections === 1) request.socket.destroy()
      else response.end()
    }
    await kept.pass(60_020)
    t.same(kept.flags(), ['healthy'])
    t.equal(kept.stat('health_check.failure'), 0)
  },
)

t.test('an endpoint that is not to be checked is healthy, and may be switched on and off', async (t) => {
  const check = { port: 0, hostname: '', disabled: true }
  const it = rig(t, [at(1, { check })], { healthCheck: CHECK })
  await it.warm
  t.same(it.flags(), ['healthy'])
  it.assignments.set({ name: 'web', localities: [{ priority: 0, endpoints: [at(1)] }] })
  t.same(it.flags(), ['/failed_active_hc'])
  await it.until(() => it.stat('health_check.failure') === 1)
  it.assignments.set({ name: 'web', localities: [{ priority: 0, endpoints: [at(1, { check })] }] })
  t.same(it.flags(), ['healthy'])
  await it.clock.advanceAsync(120_000)
  t.equal(it.stat('health_check.attempt'), 1)
})

t.test('a host that is gone stays until it fails, unless it is to go at once', async (t) => {
  const host = await peer(t)
  const it = rig(t, [at(host.port), at(1)], { healthCheck: CHECK })
  await it.warm
  await it.until(() => it.stat('health_check.failure') === 1)
  it.assignments.set({ name: 'web', localities: [] })
  t.same(it.flags(), ['/pending_dynamic_removal'], 'the one that had failed went at once')
  await settle(2)
  t.equal(it.stat('membership_total'), 1)
  await host.close()
  await it.pass(60_020)
  t.same(it.flags(), ['/pending_dynamic_removal'])
  await it.pass(60_020)
  t.same(it.flags(), [])
  t.equal(it.stat('membership_total'), 0)
  t.equal(it.stat('membership_change'), 4)

  const again = await peer(t)
  const back = rig(t, [at(again.port)], { healthCheck: CHECK })
  await back.warm
  const [known] = back.cluster.hosts.all
  back.assignments.set({ name: 'web', localities: [] })
  back.assignments.set({ name: 'web', localities: [{ priority: 0, endpoints: [at(again.port)] }] })
  t.same(back.flags(), ['healthy'])
  t.equal(back.cluster.hosts.all[0], known)

  const once = rig(t, [at(again.port)], { healthCheck: CHECK, ignoreHealthOnRemoval: true })
  await once.warm
  once.assignments.set({ name: 'web', localities: [] })
  t.same(once.flags(), [])
})

t.test('hosts that have not been checked may count as if they were not there', async (t) => {
  const slow = await peer(t, () => {})
  const good = await peer(t)
  const it = rig(t, [at(good.port), at(slow.port)], { healthCheck: CHECK, ignoreUnchecked: true })
  t.same(it.flags(), ['/failed_active_hc/pending_active_hc', '/failed_active_hc/pending_active_hc'])
  t.equal(it.stat('membership_excluded'), 2)
  await it.until(() => it.stat('health_check.success') === 1)
  await settle(2)
  t.same(
    it.cluster.hosts.choices.map(({ panic, hosts }) => [panic, hosts.length]),
    [[false, 1]],
  )
  await it.until(() => slow.seen.length === 1)
  await it.clock.advanceAsync(1_020)
  t.same(it.flags(), ['healthy', '/failed_active_hc/active_hc_timeout'])
  await it.warm
})

t.test('pooled connections to a host that has become unhealthy are closed when they are idle', async (t) => {
  const host = await peer(t)
  const it = rig(t, [at(host.port)], { healthCheck: CHECK })
  await it.warm
  const { cluster } = it
  const [target] = cluster.hosts.all
  let done = false
  const events = {
    onConnected() {},
    onInformational() {},
    onHeaders: (_: number, __: Headers, end: boolean) => {
      done ||= end
    },
    onData: (_: Buffer, end: boolean) => {
      done ||= end
      return true
    },
    onTrailers() {},
    onUpgraded() {},
    onDrain() {},
    onReset() {},
  }
  cluster.open(
    target,
    {
      head: { method: 'GET', scheme: 'http', authority: 'a', path: '/', protocol: undefined },
      headers: new Headers([]),
      end: true,
      priority: 'default',
      upgrade: false,
      downstream: undefined,
      downstreamProtocol: 'HTTP/1.1',
      forwardContinue: false,
    },
    events,
  )
  await it.until(() => done)
  t.equal(it.stat('upstream_cx_active'), 1)
  host.answer = status(500)
  await it.pass(60_020)
  await it.until(() => it.stat('upstream_cx_active') === 0)
  t.same(it.flags(), ['/failed_active_hc'])
})

t.test('raw connections to a host that has become unhealthy end where that is wanted', async (t) => {
  for (const closeOnHealthFailure of [false, true]) {
    const host = await peer(t)
    const it = rig(t, [at(host.port)], { healthCheck: CHECK, closeOnHealthFailure })
    await it.warm
    let closed = 0
    const stream = it.cluster.connect(
      it.cluster.hosts.all[0],
      { priority: 'default', downstream: undefined },
      { onConnected() {}, onData: () => true, onEnd() {}, onDrain() {}, onClosed: () => closed++ },
    )
    await it.until(() => host.connections === 2)
    host.answer = status(500)
    await it.pass(60_020)
    await settle(5)
    t.equal(closed, closeOnHealthFailure ? 1 : 0)
    stream?.reset()
  }
})

t.test('a good answer lets an ejected host back', async (t) => {
  const host = await peer(t)
  const it = rig(t, [at(host.port)], { healthCheck: CHECK, outlier: { ...ENVOY_OUTLIER, alwaysEjectOneHost: true } })
  await it.warm
  const [target] = it.cluster.hosts.all
  for (let i = 0; i < 5; i++) target.monitor?.onResponse(500, undefined, 1)
  t.same(it.flags(), ['/failed_outlier_check'])
  await it.clock.advanceAsync(59_000)
  t.same(it.flags(), ['healthy'], 'by a sweep, half a minute later')
  for (let i = 0; i < 5; i++) target.monitor?.onResponse(500, undefined, 1)
  t.same(it.flags(), ['/failed_outlier_check'])
  await it.pass(1_020)
  t.same(it.flags(), ['healthy'])
})

t.test('checks of TCP connect, or send and look at what comes back', async (t) => {
  const sockets: Socket[] = []
  let reply = 'PO'
  const server = createTcpServer({ noDelay: true }, (socket) => {
    sockets.push(socket)
    socket
      .on('error', () => {})
      .on('data', (chunk) => {
        if (String(chunk) === 'PING') {
          socket.write('..')
          setImmediate(() => socket.write(reply))
        }
      })
  })
  const port = await listen(server)
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const connectOnly = rig(t, [at(port), at(1)], { healthCheck: { ...CHECK, probe: { kind: 'tcp', receive: [] } } })
  await connectOnly.warm
  t.same(connectOnly.flags(), ['healthy', '/failed_active_hc'])
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  const probe = { kind: 'tcp', send: base64('PING'), receive: [base64('P'), base64('ONG')] } as const
  reply = 'PONG'
  const it = rig(t, [at(port)], { healthCheck: { ...CHECK, probe } })
  await it.warm
  it.traffic()
  t.same(it.flags(), ['healthy'])
  const connections = sockets.length
  await it.pass(60_020)
  t.equal(sockets.length, connections, 'the same connection')
  t.equal(it.stat('health_check.success'), 2)
  reply = 'PUNG'
  for (let i = 0; i < 2; i++) {
    await it.clock.advanceAsync(5_020)
    await settle(10)
    await it.clock.advanceAsync(1_020)
  }
  t.same(it.flags(), ['/failed_active_hc/active_hc_timeout'])
})

t.test('checks of TCP begin their connections with a PROXY header where that is wanted', async (t) => {
  const seen: { text: string; from: string; to: string }[] = []
  const server = createTcpServer((socket) => {
    const it = { text: '', from: `127.0.0.1 127.0.0.1 ${socket.remotePort}`, to: String(socket.localPort) }
    seen.push(it)
    socket
      .on('error', () => {})
      .on('data', (chunk) => {
        it.text += chunk.toString('latin1')
        if (it.text.endsWith('PING')) socket.write('PONG')
      })
  })
  const port = await listen(server)
  t.teardown(() => server.close())
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  const probe = { kind: 'tcp', send: base64('PING'), receive: [base64('PONG')] } as const
  const one = rig(t, [at(port)], { healthCheck: { ...CHECK, probe: { ...probe, proxyProtocol: 1 } } })
  await one.warm
  t.same(one.flags(), ['healthy'])
  t.equal(seen[0].text, `PROXY TCP4 ${seen[0].from} ${port}\r\nPING`)
  await one.pass(60_020)
  t.equal(seen.length, 1)
  t.equal(seen[0].text.split('PROXY').length, 2, 'once for each connection')
  const two = rig(t, [at(port)], { healthCheck: { ...CHECK, probe: { ...probe, proxyProtocol: 2 } } })
  await two.warm
  t.equal(seen[1].text, '\r\n\r\n\0\r\nQUIT\n\x20\0\0\0PING', 'LOCAL')
})

t.test('checks of Redis ping, or look that a key is not there', async (t) => {
  const asked: string[] = []
  let answer = '+PONG\r\n'
  let split = false
  let connections = 0
  const server = createTcpServer((socket) => {
    connections++
    socket
      .on('error', () => {})
      .on('data', (chunk) => {
        asked.push(String(chunk))
        if (!split) socket.write(answer)
        else {
          socket.setNoDelay(true)
          socket.write(answer.slice(0, 3))
          setImmediate(() => socket.write(answer.slice(3)))
        }
      })
  })
  const port = await listen(server)
  t.teardown(() => server.close())
  const ping = rig(t, [at(port)], {
    healthCheck: { ...CHECK, unhealthyThreshold: 1, probe: { kind: 'redis', key: '' } },
  })
  await ping.warm
  ping.traffic()
  t.same(ping.flags(), ['healthy'])
  t.same(asked, ['*1\r\n$4\r\nPING\r\n'])
  split = true
  await ping.pass(60_020)
  t.same(ping.flags(), ['healthy'])
  t.equal(connections, 1, 'the same connection')
  answer = '-LOADING wait\r\n'
  await ping.pass(5_020)
  t.same(ping.flags(), ['/failed_active_hc'])
  split = false
  answer = '$4\r\nPONG\r\n'
  await ping.pass(5_020)
  t.equal(ping.stat('health_check.network_failure'), 1, 'no answer to this: the connection is not used again')
  answer = '+PONG\r\n'
  for (let i = 0; i < 2; i++) await ping.pass(5_020)
  t.same(ping.flags(), ['healthy'])
  t.equal(connections, 2)

  const exists = async (reply: string): Promise<string[]> => {
    answer = reply
    const it = rig(t, [at(port)], { healthCheck: { ...CHECK, probe: { kind: 'redis', key: 'dün' } } })
    await it.warm
    return it.flags()
  }
  t.same(await exists(':0\r\n'), ['healthy'])
  t.equal(asked.at(-1), '*2\r\n$6\r\nEXISTS\r\n$4\r\ndün\r\n')
  t.same(await exists(':1\r\n'), ['/failed_active_hc'], 'taken out by hand')
  t.same(await exists('-MOVED 866 127.0.0.1:6381\r\n'), ['healthy'], 'well, and not the one for that key')
})

t.test('checks of gRPC ask the health service', async (t) => {
  let answer: { status?: number; grpc?: string } = { status: 1 }
  const asked: string[] = []
  const server = createHttp2Server()
  const sessions: { destroy(): void }[] = []
  server.on('session', (session) => void sessions.push(session))
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    const chunks: Buffer[] = []
    stream.on('error', () => {})
    stream
      .on('data', (chunk: Buffer) => chunks.push(chunk))
      .on('end', () => {
        asked.push(
          `${headers[':path']} ${headers[':authority']} ${Buffer.concat(chunks).subarray(5).toString('latin1')}`,
        )
        const { status, grpc = '0' } = answer
        stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': grpc }))
        stream.end(status === undefined ? undefined : Buffer.from([0, 0, 0, 0, 2, 8, status]))
      })
  })
  const port = await listen(server)
  t.teardown(() => {
    for (const session of sessions) session.destroy()
    server.close()
  })
  const probe = { kind: 'grpc', service: 'shop.Cart', authority: '', metadata: [] } as const
  const it = rig(t, [at(port)], { healthCheck: { ...CHECK, unhealthyThreshold: 1, healthyThreshold: 1, probe } })
  await it.warm
  it.traffic()
  t.same(it.flags(), ['healthy'])
  t.same(asked, ['/grpc.health.v1.Health/Check web \n\x09shop.Cart'])
  answer = { status: 2 }
  await it.pass(60_020)
  t.same(it.flags(), ['/failed_active_hc'])
  t.equal(it.stat('health_check.network_failure'), 0)
  answer = { status: 1 }
  await it.pass(5_020)
  t.same(it.flags(), ['healthy'])
  answer = { grpc: '12' }
  await it.pass(5_020)
  t.same(it.flags(), ['/failed_active_hc'], 'no such service')
})

t.test('checks speak HTTP/2 where they are told to, whatever the cluster speaks', async (t) => {
  const server = createHttp2Server()
  const paths: string[] = []
  const sessions: { destroy(): void }[] = []
  server.on('session', (session) => void sessions.push(session))
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    paths.push(String(headers[':path']))
    stream.respond({ ':status': 200 }, { endStream: true })
  })
  const port = await listen(server)
  t.teardown(() => {
    for (const session of sessions) session.destroy()
    server.close()
  })
  const it = rig(t, [at(port)], { healthCheck: http({ protocol: 'http2' }) })
  await it.warm
  await it.pass(60_020)
  t.same(it.flags(), ['healthy'])
  t.same(paths, ['/healthz', '/healthz'])
  t.equal(sessions.length, 1)
})

t.test('what is logged of checks, and intervals with jitter', async (t) => {
  const host = await peer(t)
  const it = rig(t, [at(host.port)], {
    healthCheck: {
      ...CHECK,
      eventLogPaths: ['/dev/null'],
      alwaysLogFailures: true,
      alwaysLogSuccess: true,
      initialJitterMs: 1_000,
      intervalJitterMs: 400,
      intervalJitterPercent: 10,
    },
  })
  t.equal(it.stat('health_check.attempt'), 0)
  await it.pass(520)
  t.equal(it.stat('health_check.attempt'), 1)
  await it.warm
  host.answer = status(500)
  it.traffic()
  await it.pass(60_000)
  t.equal(it.stat('health_check.attempt'), 1)
  await it.pass(3_220)
  t.equal(it.stat('health_check.attempt'), 2, '60 s + 0.5 × 0.4 s + 0.5 × 6 s')
  await it.pass(5_470)
  t.match(it.lines, [
    {
      add_healthy_event: { first_check: true },
      host: { socket_address: { address: '127.0.0.1', port_value: host.port } },
    },
    { successful_health_check_event: {} },
    { eject_unhealthy_event: { failure_type: 'ACTIVE' } },
    { health_check_failure_event: { failure_type: 'ACTIVE', first_check: false } },
    { health_check_failure_event: { failure_type: 'ACTIVE', first_check: false } },
  ])
})

t.test(
  'hosts that requests name are forgotten however healthy they are, and are there once when they come again',
  async (t) => {
    const host = await peer(t)
    const it = rig(t, [], {
      type: 'original-dst',
      originalDst: { header: 'x-to', cleanupMs: 1_000 },
      healthCheck: CHECK,
    })
    await it.warm
    const context = { header: () => `127.0.0.1:${host.port}` }
    const first = it.cluster.pick(context)
    t.match(first, { addressText: `127.0.0.1:${host.port}` })
    await it.until(() => it.stat('health_check.success') === 1)
    t.equal(it.stat('membership_total'), 1)
    await it.pass(1_000)
    await it.pass(1_000)
    t.equal(it.cluster.hosts.size, 0)
    t.equal(it.stat('membership_total'), 0)
    await it.pass(120_000)
    t.equal(host.seen.length, 1, 'nobody checks what is forgotten')
    t.not(it.cluster.pick(context), first)
    t.equal(it.stat('membership_total'), 1)
    await it.until(() => it.stat('health_check.success') === 2)
  },
)

t.test('tunnels that checks have for themselves end with them', async (t) => {
  const it = rig(t, [], {})
  await it.warm
  const ended: string[] = []
  const transports = (name: string): Transports =>
    ({ tunnels: [{ destroy: () => void ended.push(name) }] }) as unknown as Transports
  const wheel = new TimerWheel(it.clock)
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  const config = { ...it.cluster.config, healthCheck: { ...CHECK, alpn: ['http/1.1'] } }
  const checker = makeChecker(
    config,
    { wheel, log, random: () => 0.5, nextConnectionId: () => 1 },
    {
      hosts: it.cluster.hosts,
      metrics: it.metrics,
      transports: transports('of the cluster'),
      ownTransports: () => transports('own'),
      hadTraffic: () => false,
      listener: { hostChecked() {} },
    },
  )
  checker?.close()
  t.same(ended, ['own'])
})
