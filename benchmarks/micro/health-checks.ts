/**
 * What active checks cost the whole gateway: CPU of the process that makes them, with 5,000 endpoints asked every ten
 * seconds over HTTP/1, and 2 workers that hear of the answers. `node benchmarks/micro/health-checks.ts [seconds]`
 *
 * The endpoints are one server in a process of its own; connections stay open, as they do by default. The second line
 * is of endpoints of which a tenth fail at a time, others each time, so that workers are told of each.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../lib/core/clock.ts'
import type { HealthReport } from '../../lib/core/host-health.ts'
import { TimerWheel } from '../../lib/core/timer-wheel.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import { DnsResolvers } from '../../lib/upstream/discovery/dns/resolver.ts'
import { HostHealthService } from '../../lib/upstream/health/service.ts'
import { CLUSTER } from '../../test/support/cluster-config.ts'
import { CHECK } from '../../test/support/health-check.ts'

const ENDPOINTS = 5_000
const INTERVAL_MS = 10_000
const WORKERS = 2

const CHECKED: ClusterConfig = {
  ...CLUSTER,
  healthCheck: {
    ...CHECK,
    timeoutMs: 5_000,
    intervalMs: INTERVAL_MS,
    initialJitterMs: INTERVAL_MS,
    unhealthyThreshold: 3,
    healthyThreshold: 1,
    noTrafficIntervalMs: INTERVAL_MS,
    noTrafficHealthyIntervalMs: INTERVAL_MS,
    unhealthyIntervalMs: INTERVAL_MS,
    unhealthyEdgeIntervalMs: INTERVAL_MS,
    healthyEdgeIntervalMs: INTERVAL_MS,
  },
}

/** The origin: of a hundred answers about so many are 503, and never those of the same endpoints. */
async function serve(failing: number): Promise<void> {
  let asked = 0
  const server = createServer((_, response) => {
    response.statusCode = asked++ % 97 < failing ? 503 : 200
    response.end()
  })
  server.keepAliveTimeout = 0
  server.listen(0, '127.0.0.1', 65_535)
  await once(server, 'listening')
  process.send?.((server.address() as AddressInfo).port)
  process.on('disconnect', () => process.exit(0))
}

function reports(port: number, worker: number): HealthReport[] {
  const cluster = worker
  const set = Array.from({ length: ENDPOINTS }, (_, i) => {
    const key = `10.0.${i >> 8}.${i & 255}:80`
    const address = { kind: 'ip', host: `10.0.${i >> 8}.${i & 255}`, port: 80 } as const
    const check = { address: { kind: 'ip', host: '127.0.0.1', port } as const, port: 0, hostname: '', disabled: false }
    return { host: `${key}@0`, priority: 0, endpoint: { key, address, weight: 1, health: 'healthy', check } }
  })
  return [
    { kind: 'open', cluster, config: CHECKED as never, traffic: true },
    { kind: 'hosts', cluster, size: ENDPOINTS, set, remove: [] },
  ]
}

async function measure(failing: number, seconds: number): Promise<void> {
  const origin = fork(fileURLToPath(import.meta.url), [`--serve=${failing}`])
  const [port] = (await once(origin, 'message')) as [number]
  const metrics = new MetricsStore()
  const wheel = new TimerWheel(systemClock)
  const dns = new DnsResolvers({ clock: systemClock })
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  let ids = 0
  let told = 0
  const service = new HostHealthService(
    { metrics, wheel, dns, log, random: Math.random, nextConnectionId: () => ++ids },
    {
      send: (_, verdicts) => {
        // As much as a message between processes costs this side.
        told += JSON.stringify(verdicts).length > 0 ? verdicts.hosts.length : 0
      },
      news: () => {},
      workers: () => [],
    },
  )
  for (let worker = 1; worker <= WORKERS; worker++) service.report(worker, reports(port, worker))
  const attempts = metrics.counter('cluster.web.health_check.attempt')
  // All connections are made in the first round.
  await new Promise((resolve) => setTimeout(resolve, 1.2 * INTERVAL_MS))
  const [before, cpu, started] = [attempts.v, process.cpuUsage(), performance.now()]
  told = 0
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000))
  const { user, system } = process.cpuUsage(cpu)
  const elapsedUs = (performance.now() - started) * 1_000
  const share = ((100 * (user + system)) / elapsedUs).toFixed(2)
  const each = ((user + system) / (attempts.v - before)).toFixed(0)
  const rate = ((1e6 * (attempts.v - before)) / elapsedUs).toFixed(0)
  process.stdout.write(
    `${failing} % failing: ${share} % of a core, ${each} us a check, ${rate} checks/s, ${told} verdicts told\n`,
  )
  service[Symbol.dispose]()
  wheel.close()
  dns[Symbol.dispose]()
  origin.disconnect()
  await once(origin, 'exit')
}

const served = process.argv.find((argument) => argument.startsWith('--serve='))
if (served !== undefined) await serve(Number(served.slice(8)))
else for (const failing of [0, 10]) await measure(failing, Number(process.argv[2] ?? 30))
