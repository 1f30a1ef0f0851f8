import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { GatewayProcess } from '../attacks/gateway-process.ts'
import { bootstrap, type Fields } from './bootstrap.ts'

const WORKERS = 4

/** An origin whose requests and checks are counted apart. */
class Judged {
  port = 0
  requests = 0
  checks = 0
  status = 200
  well = true

  static async start(t: Test): Promise<Judged> {
    const it = new Judged()
    const server = http.createServer((req, res) => {
      const isCheck = req.url === '/healthz'
      if (isCheck) it.checks++
      else it.requests++
      res.statusCode = isCheck ? (it.well ? 200 : 503) : it.status
      res.end()
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    it.port = (server.address() as AddressInfo).port
    t.teardown(() => {
      server.closeAllConnections()
      server.close()
    })
    return it
  }
}

/** On a connection of its own, so that any worker may get it. */
function ask(port: number, path: string): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>()
  const req = http.request({ host: '127.0.0.1', port, path, agent: false, headers: { connection: 'close' } })
  req.on('response', (res) => {
    res.resume()
    res.on('close', () => resolve(res.statusCode ?? 0))
  })
  req.on('error', () => resolve(0))
  req.end()
  return promise
}

function clusterOf(name: string, origins: readonly Judged[], more: Fields): Fields {
  const lb_endpoints = origins.map(({ port }) => ({
    endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
  }))
  return {
    name,
    type: 'STATIC',
    connect_timeout: '2s',
    common_lb_config: { healthy_panic_threshold: { value: 0 } },
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints }] },
    ...more,
  }
}

const CHECK: Fields = {
  timeout: '1s',
  interval: '2s',
  no_traffic_interval: '2s',
  unhealthy_threshold: 1,
  healthy_threshold: 1,
  http_health_check: { path: '/healthz' },
}

async function freePort(): Promise<number> {
  const probe = http.createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** What admin says of the hosts of a cluster, by port; undefined where nobody answers. */
async function flags(gateway: GatewayProcess, cluster: string): Promise<Map<number, string> | undefined> {
  const text = await gateway.ask('/clusters').catch(() => '')
  const found = [...text.matchAll(new RegExp(`^${cluster}::127\\.0\\.0\\.1:(\\d+)::health_flags::(\\S+)$`, 'gm'))]
  return found.length === 0 ? undefined : new Map(found.map(([, port, words]) => [Number(port), words]))
}

t.test(
  'four workers eject a host by as many failures as one would, and nothing moves when control is killed',
  async (t) => {
    const [bad, good, third] = [await Judged.start(t), await Judged.start(t), await Judged.start(t)]
    const [sick, well] = [await Judged.start(t), await Judged.start(t)]
    bad.status = 500
    sick.well = false
    const outlier_detection = {
      consecutive_5xx: 40,
      consecutive_gateway_failure: 1000,
      max_ejection_percent: 50,
      base_ejection_time: '300s',
      interval: '1s',
      success_rate_minimum_hosts: 100,
    }
    const routes = [
      { match: { prefix: '/checked' }, route: { cluster: 'checked' } },
      { match: { prefix: '/' }, route: { cluster: 'rated' } },
    ]
    const clusters = [
      clusterOf('rated', [bad, good, third], { outlier_detection }),
      clusterOf('checked', [sick, well], { health_checks: [CHECK] }),
    ]
    const admin = { address: { socket_address: { address: '127.0.0.1', port_value: await freePort() } } }
    const config = { ...bootstrap({ name: 'in', routes, clusters }), admin }
    const gateway = await GatewayProcess.start(t, config, ['--workers', String(WORKERS)])
    const port = await gateway.port('in')
    const isOut = async (): Promise<boolean> =>
      (await flags(gateway, 'rated'))?.get(bad.port) === '/failed_outlier_check'
    for (let i = 0; i < 600 && bad.requests < 200; i++) {
      await ask(port, '/')
      if (bad.requests >= 40 && i % 3 === 0 && (await isOut())) break
    }
    t.ok(bad.requests >= 40 && bad.requests <= 60, `out after ${bad.requests} failures in a row`)
    const ejected = bad.requests
    const answers = new Set<number>()
    for (let i = 0; i < 40; i++) answers.add(await ask(port, '/checked'))
    t.equal(sick.requests, 0)

    const before = gateway.processes().get('control') as number
    const checks = [sick.checks, well.checks]
    const begin = performance.now()
    process.kill(before, 'SIGKILL')
    let statuses: Map<number, string> | undefined
    while (statuses === undefined || gateway.processes().get('control') === before) {
      // All the time: whoever is out stays out, whoever is well is asked.
      answers.add(await ask(port, '/checked')).add(await ask(port, '/'))
      statuses = await flags(gateway, 'checked')
    }
    t.strictSame([...answers], [200])
    t.strictSame(Object.fromEntries(statuses), { [sick.port]: '/failed_active_hc', [well.port]: 'healthy' })
    t.ok(await isOut(), 'the next control process knows what the one before it has ejected')
    const passed = (performance.now() - begin) / 2_000
    t.ok(sick.checks - checks[0] <= passed + 2, `${sick.checks - checks[0]} checks in ${passed} intervals`)
    t.ok(well.checks - checks[1] <= passed + 2)

    sick.well = true
    well.well = false
    const deadline = performance.now() + 10_000
    while ((await flags(gateway, 'checked'))?.get(sick.port) !== 'healthy' && performance.now() < deadline)
      await sleep(50)
    t.equal((await flags(gateway, 'checked'))?.get(sick.port), 'healthy', 'checks go on')
    t.equal(bad.requests, ejected, 'and the host that was ejected has had no request since')
  },
)
