import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { cluster, type Fields } from './bootstrap.ts'
import { get, setup } from './setup.ts'

/** An origin whose answers a test decides about; `/up` is asked by checks. */
interface Peer {
  readonly port: number
  status: number
  check: number
  headers: Record<string, string>
  requests: number
}

async function peer(t: Test): Promise<Peer> {
  const server = createServer((request, response) => {
    if (request.url !== '/up') it.requests++
    response.writeHead(request.url === '/up' ? it.check : it.status, it.headers)
    response.end(String(it.port))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const it: Peer = { port: (server.address() as AddressInfo).port, status: 200, check: 200, headers: {}, requests: 0 }
  return it
}

function pair(peers: readonly Peer[], more: Fields): Fields {
  return cluster(
    'pair',
    peers.map(({ port }) => port),
    more,
  )
}

const SINK = 'type.googleapis.com/envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink'

const routes = [{ match: { prefix: '/' }, route: { cluster: 'pair' } }]

t.test('a host that answers with 5xx gets no more requests', async (t) => {
  const [good, bad] = [await peer(t), await peer(t)]
  bad.status = 500
  const outlier_detection = { consecutive_5xx: 3, max_ejection_percent: 50 }
  const { connect, gateway } = await setup(t, {
    clusters: [pair([good, bad], { outlier_detection })],
    routes,
  })
  const wire = await connect()
  let failures = 0
  for (let i = 0; i < 40; i++) if ((await wire.exchange(get())).status === 500) failures++
  t.equal(failures, 3)
  t.equal(bad.requests, 3)
  t.equal(gateway.stat('cluster.pair.outlier_detection.ejections_active'), 1)
  t.equal(gateway.stat('cluster.pair.membership_healthy'), 1)
})

t.test('requests go where checks succeed, and not to a host that asks in its traffic to be left out', async (t) => {
  const [good, bad] = [await peer(t), await peer(t)]
  bad.check = 503
  const times = { timeout: '2s', interval: '60s', unhealthy_threshold: 1, healthy_threshold: 1 }
  const log = join(t.testdir(), 'events.log')
  const event_logger = [{ name: 'file', typed_config: { '@type': SINK, event_log_path: log } }]
  const health_checks = [{ ...times, http_health_check: { path: '/up' }, event_logger }]
  const { connect, gateway } = await setup(t, {
    clusters: [pair([good, bad], { health_checks, common_lb_config: { healthy_panic_threshold: { value: 0 } } })],
    routes,
  })
  const wire = await connect()
  for (let i = 0; i < 10; i++) t.equal((await wire.exchange(get())).text(), String(good.port))
  t.equal(bad.requests, 0)
  t.equal(gateway.stat('cluster.pair.health_check.healthy'), 1)
  good.headers = { 'x-envoy-immediate-health-check-fail': '1' }
  t.equal((await wire.exchange(get())).status, 200)
  t.equal((await wire.exchange(get())).status, 503, 'nobody is left')
  t.equal(good.requests, 11)
  t.equal(gateway.stat('cluster.pair.membership_excluded'), 1)
  await gateway.close()
  const events = readFileSync(log, 'utf8').trimEnd().split('\n')
  t.same(events.map((line) => Object.keys(JSON.parse(line))[3]).sort(), [
    'add_healthy_event',
    'eject_unhealthy_event',
    'health_check_failure_event',
  ])
})
