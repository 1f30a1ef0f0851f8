import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import http, { type IncomingMessage, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { createGateway } from '../../lib/cli/library.ts'

const MAIN = fileURLToPath(new URL('../../lib/cli/main.ts', import.meta.url))
t.setTimeout(40_000)

async function get(url: string): Promise<{ readonly status: number; readonly body: string }> {
  const [res] = (await once(http.get(url, { agent: false }), 'response')) as [IncomingMessage]
  let body = ''
  for await (const chunk of res) body += chunk
  return { status: res.statusCode ?? 0, body }
}

/** Asks until the answer is as wanted; the test's own time limit ends it otherwise. */
async function until<V>(ask: () => Promise<V> | V, wanted: (value: V) => boolean): Promise<V> {
  for (;;) {
    const value = await ask()
    if (wanted(value)) return value
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

interface Origin {
  readonly port: number
  checks: number
  /** Of checks. */
  status: number
  /** Of everything else. */
  answer: RequestListener
}

async function origin(t: Test): Promise<Origin> {
  const server = http.createServer((request, response) => {
    if (request.url !== '/healthz') {
      it.answer(request, response)
      return
    }
    it.checks++
    response.statusCode = it.status
    response.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const port = (server.address() as AddressInfo).port
  const it: Origin = { port, checks: 0, status: 200, answer: (_, response) => response.end(`${port}`) }
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return it
}

interface Running {
  readonly child: ChildProcess
  /** Another one after each start of control. */
  readonly admin: string
  readonly url: string
  readonly dir: string
}

async function headgate(t: Test, cluster: object, origins: readonly Origin[]): Promise<Running> {
  const dir = mkdtempSync(`${tmpdir()}/hg-`)
  const files = ['--config-path', `${dir}/bootstrap.json`, '--admin-address-path', `${dir}/admin`]
  writeFileSync(`${dir}/bootstrap.json`, JSON.stringify(bootstrap(cluster, origins, `${dir}/events`)))
  const args = ['--disable-sigusr1', MAIN, ...files, '--concurrency', '2']
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let err = ''
  child.stderr?.on('data', (text) => {
    err += text
  })
  const ended = once(child, 'close')
  t.teardown(async () => {
    child.kill('SIGTERM')
    await ended
    rmSync(dir, { recursive: true, force: true })
  })
  await until(
    () => err,
    (text) => text.includes('"msg":"ready"') || child.exitCode !== null,
  )
  if (child.exitCode !== null) throw new Error(err)
  const admin = `http://${readFileSync(`${dir}/admin`, 'utf8')}`
  const { body } = await get(`${admin}/listeners`)
  const url = `http://127.0.0.1:${/^ingress::127\.0\.0\.1:(\d+)$/m.exec(body)?.[1]}`
  return {
    child,
    get admin() {
      return `http://${readFileSync(`${dir}/admin`, 'utf8')}`
    },
    url,
    dir,
  }
}

function bootstrap(cluster: object, origins: readonly Origin[], events: string): unknown {
  const type = 'type.googleapis.com/envoy.extensions.filters'
  const manager = {
    '@type': `${type}.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: 'ingress',
    route_config: {
      virtual_hosts: [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: 'web' } }] }],
    },
    http_filters: [{ name: 'router', typed_config: { '@type': `${type}.http.router.v3.Router` } }],
  }
  const address = (port: number): object => ({ socket_address: { address: '127.0.0.1', port_value: port } })
  const web = {
    name: 'web',
    type: 'STATIC',
    connect_timeout: '1s',
    load_assignment: {
      cluster_name: 'web',
      endpoints: [{ lb_endpoints: origins.map(({ port }) => ({ endpoint: { address: address(port) } })) }],
    },
    ...cluster,
  }
  return {
    admin: { address: address(0) },
    cluster_manager: { outlier_detection: { event_log_path: events } },
    static_resources: {
      listeners: [
        {
          name: 'ingress',
          address: address(0),
          filter_chains: [{ filters: [{ name: 'http', typed_config: manager }] }],
        },
      ],
      clusters: [web],
    },
  }
}

async function flags(admin: string): Promise<string[]> {
  const { body } = await get(`${admin}/clusters`)
  return [...body.matchAll(/^web::.*::health_flags::(.*)$/gm)].map(([, words]) => words)
}

async function stat(admin: string, name: string): Promise<number> {
  const { body } = await get(`${admin}/stats?filter=^cluster.web.${name}$`)
  return Number(/: (\d+)$/m.exec(body)?.[1])
}

/** Children of a process, by their command lines. */
function control(parent: number): number | undefined {
  const text = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8')
  for (const pid of text.trim().split(' ')) {
    try {
      if (readFileSync(`/proc/${pid}/comm`, 'utf8').includes('control')) return Number(pid)
      if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('control')) return Number(pid)
    } catch {
      // It has just ended.
    }
  }
  return undefined
}

t.test('checks are made once for two workers, and what is known outlives control', async (t) => {
  const [a, b] = [await origin(t), await origin(t)]
  b.status = 500
  const check = {
    timeout: '1s',
    interval: '0.2s',
    no_traffic_interval: '0.2s',
    healthy_threshold: 1,
    unhealthy_threshold: 1,
    http_health_check: { path: '/healthz' },
  }
  const gateway = await headgate(t, { health_checks: [check] }, [a, b])
  const { admin, url, child } = gateway
  t.same(await flags(admin), ['healthy', '/failed_active_hc'], 'it was waited for')
  t.equal(await stat(admin, 'membership_healthy'), 1)
  t.equal(await stat(admin, 'health_check.healthy'), 1)
  for (let i = 0; i < 8; i++) t.equal((await get(url)).body, `${a.port}`)
  const before = a.checks
  const attempts = await stat(admin, 'health_check.attempt')
  await until(
    () => a.checks,
    (checks) => checks >= before + 5,
  )
  const more = (await stat(admin, 'health_check.attempt')) - attempts
  t.ok(more <= 2 * (a.checks - before) + 2, `one question for both workers: ${more} for ${a.checks - before}`)
  const pid = control(child.pid as number) as number
  process.kill(pid, 'SIGKILL')
  for (let i = 0; i < 50; i++) t.equal((await get(url)).body, `${a.port}`, 'nothing changes')
  const asked = await until(
    () => a.checks,
    (checks) => checks > before + 5,
  )
  const next = await until(
    () => control(child.pid as number),
    (found) => found !== undefined && found !== pid,
  )
  t.ok(next)
  b.status = 200
  await until(
    () => a.checks,
    (checks) => checks > asked + 3,
  )
  const bodies = new Set<string>()
  await until(
    async () => bodies.add((await get(url)).body),
    (seen) => seen.size === 2,
  )
  t.same(
    await until(
      () => flags(gateway.admin).catch(() => []),
      (words) => words.length === 2,
    ),
    ['healthy', 'healthy'],
  )
})

t.test('a control process that cannot open an event log says so, and judges the hosts all the same', async (t) => {
  const [a, b] = [await origin(t), await origin(t)]
  b.status = 500
  const times = { timeout: '1s', interval: '0.2s', no_traffic_interval: '0.2s' }
  const check = { ...times, healthy_threshold: 1, unhealthy_threshold: 1, http_health_check: { path: '/healthz' } }
  const gateway = await headgate(t, { health_checks: [check], outlier_detection: {} }, [a, b])
  const { child, dir, url } = gateway
  let said = ''
  child.stderr?.on('data', (text) => {
    said += text
  })
  t.same(await flags(gateway.admin), ['healthy', '/failed_active_hc'])
  rmSync(`${dir}/events`)
  mkdirSync(`${dir}/events`)
  process.kill(control(child.pid as number) as number, 'SIGKILL')
  await until(
    () => said,
    (text) => text.includes(`cannot open the log ${dir}/events`),
  )
  b.status = 200
  const bodies = new Set<string>()
  await until(
    async () => bodies.add((await get(url)).body),
    (seen) => seen.size === 2,
  )
  t.same(await flags(gateway.admin), ['healthy', 'healthy'])
})

t.test('an endpoint that answers 429 and says how long to wait is left alone, in one process too', async (t) => {
  const [a, b] = [await origin(t), await origin(t)]
  let refused = 0
  b.answer = (_, response) => {
    refused++
    response.writeHead(429, { 'retry-after': '60' })
    response.end()
  }
  await using gateway = createGateway({
    listeners: [
      {
        name: 'main',
        address: '127.0.0.1:0',
        http: { routes: [{ match: {}, action: { kind: 'route', cluster: 'web' } }] },
      },
    ],
    clusters: [
      {
        name: 'web',
        endpoints: [`127.0.0.1:${a.port}`, `127.0.0.1:${b.port}`],
        balancer: 'round-robin',
        outlier: { retryAfter: true, maxEjectionTimeMs: 120_000 },
      },
    ],
  })
  await gateway.start()
  const [address] = gateway.addresses.main
  const url = `http://127.0.0.1:${address.kind === 'ip' ? address.port : 0}`
  for (let i = 0; i < 20; i++) await get(url)
  t.equal(refused, 1)
  const gauges = new Map(gateway.stats().gauges)
  t.equal(gauges.get('cluster.web.outlier_detection.ejections_active'), 1)
})

t.test('what is ejected in one worker is ejected in all', async (t) => {
  const [a, b] = [await origin(t), await origin(t)]
  b.answer = (_, response) => {
    response.statusCode = 500
    response.end()
  }
  const outlier = { consecutive_5xx: 5, base_ejection_time: '60s', max_ejection_percent: 50 }
  const { admin, url, dir } = await headgate(t, { outlier_detection: outlier }, [a, b])
  await until(
    async () => {
      await get(url)
      return flags(admin)
    },
    (words) => words[1] === '/failed_outlier_check',
  )
  // A new connection each time: whichever worker takes it. The news may take the other one a moment.
  let good = 0
  await until(
    async () => {
      good = (await get(url)).status === 200 ? good + 1 : 0
      return good
    },
    (inARow) => inARow === 40,
  )
  t.equal(await stat(admin, 'outlier_detection.ejections_active'), 1)
  t.equal(await stat(admin, 'outlier_detection.ejections_enforced_total'), 1)
  const { body } = await get(`${admin}/clusters`)
  t.match(body, /^web::outlier::success_rate_average::-1$/m)
  t.match(body, /^web::outlier::success_rate_ejection_threshold::-1$/m)
  const events = await until(
    () => readFileSync(`${dir}/events`, 'utf8'),
    (text) => text !== '',
  )
  t.match(JSON.parse(events.split('\n')[0]), { action: 'EJECT', upstream_url: `127.0.0.1:${b.port}` })
})
