import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import net from 'node:net'
import { tmpdir } from 'node:os'
import tls from 'node:tls'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import t from 'tap'
import { toSettings } from '../../lib/cli/settings.ts'
import { systemClock } from '../../lib/core/clock.ts'
import { Supervisor } from '../../lib/runtime/supervisor.ts'
import { Authority } from '../support/certificates.ts'

const MAIN = fileURLToPath(new URL('../../lib/cli/main.ts', import.meta.url))

interface Gateway {
  readonly child: ChildProcess
  /** Everything written so far. */
  readonly written: { out: string; err: string }
  /** Exit status; null where a signal ended it. */
  readonly ended: Promise<number | null>
}

function headgate(t: Test, ...args: string[]): Gateway {
  const child = spawn(process.execPath, ['--disable-sigusr1', MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const written = { out: '', err: '' }
  child.stdout?.on('data', (text) => {
    written.out += text
  })
  child.stderr?.on('data', (text) => {
    written.err += text
  })
  const ended = once(child, 'close').then(([status]) => status as number | null)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { child, written, ended }
}

/** The admin's address, from the log line that says the gateway is ready. */
async function adminOf(g: Gateway): Promise<string> {
  for (;;) {
    const line = g.written.err.split('\n').find((l) => l.includes('"msg":"ready"'))
    if (line !== undefined) return `http://${(JSON.parse(line) as { admin: string }).admin}`
    await Promise.race([
      once(g.child.stderr as NodeJS.ReadableStream, 'data'),
      g.ended.then((status) => Promise.reject(new Error(`ended with ${status}: ${g.written.err}`))),
    ])
  }
}

async function portOf(admin: string, listener: string): Promise<number> {
  const { body } = await get(`${admin}/listeners`)
  return Number(new RegExp(`^${listener}::127\\.0\\.0\\.1:(\\d+)$`, 'm').exec(body)?.[1])
}

interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

async function get(url: string, options: http.RequestOptions = {}): Promise<Answer> {
  const [res] = (await once(http.request(url, { agent: false, ...options }).end(), 'response')) as [IncomingMessage]
  let body = ''
  for await (const chunk of res) body += chunk
  return { status: res.statusCode ?? 0, headers: res.headers, body }
}

function bootstrap(ports: { upstream?: number; listener?: number; admin?: number } = {}): string {
  return `admin:
  address: { socket_address: { address: 127.0.0.1, port_value: ${ports.admin ?? 0} } }
static_resources:
  listeners:
    - name: ingress
      address: { socket_address: { address: 127.0.0.1, port_value: ${ports.listener ?? 0} } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: ingress
                access_log:
                  - name: stdout
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes:
                        - { match: { path: /direct }, direct_response: { status: 200, body: { inline_string: hello } } }
                        - { match: { prefix: / }, route: { cluster: origin } }
                http_filters:
                  - name: router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
    - name: origin
      type: STATIC
      connect_timeout: 1s
      load_assignment:
        cluster_name: origin
        endpoints:
          - lb_endpoints:
              - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: ${ports.upstream ?? 1} } } }
`
}

function configFile(t: Test, text: string): string {
  const dir = mkdtempSync(`${tmpdir()}/hg-`)
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  writeFileSync(`${dir}/config.yaml`, text)
  return `${dir}/config.yaml`
}

async function taken(t: Test): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

t.test('run --config: two workers carry traffic, admin knows of both, SIGTERM lets requests end', async (t) => {
  const held: http.ServerResponse[] = []
  const origin = http.createServer((_req, res) => held.push(res)).listen(0, '127.0.0.1')
  await once(origin, 'listening')
  t.teardown(() => {
    origin.close()
    origin.closeAllConnections()
  })
  const { port: upstream } = origin.address() as AddressInfo
  const g = headgate(t, 'run', '--config', configFile(t, bootstrap({ upstream })), '--workers', '2')
  const admin = await adminOf(g)
  const port = await portOf(admin, 'ingress')
  for (let i = 0; i < 10; i++) t.match(await get(`http://127.0.0.1:${port}/direct`), { status: 200, body: 'hello' })
  t.match(await get(`${admin}/stats?filter=ingress.downstream_rq_2xx|concurrency`), {
    body: 'http.ingress.downstream_rq_2xx: 10\nserver.concurrency: 2\n',
  })
  t.match((await get(`${admin}/clusters`)).body, `origin::127.0.0.1:${upstream}::health_flags::healthy`)
  const { configs } = JSON.parse((await get(`${admin}/config_dump`)).body)
  const routes = configs.find((dump: object) => 'static_route_configs' in dump)
  t.match(routes.static_route_configs[0].route_config.virtual_hosts, [{ name: 'all' }])
  t.match(JSON.parse((await get(`${admin}/server_info`)).body), {
    state: 'LIVE',
    command_line_options: { concurrency: 2 },
  })
  t.match(
    (await get(`${admin}/stats/prometheus`)).body,
    /^envoy_cluster_membership_total\{envoy_cluster_name="origin"\} 1$/m,
  )

  const arrived = once(origin, 'request')
  const slow = get(`http://127.0.0.1:${port}/slow`)
  await arrived
  g.child.kill('SIGTERM')
  let draining = await get(`${admin}/ready`)
  while (draining.status === 200) draining = await get(`${admin}/ready`)
  t.equal(draining.body, 'DRAINING\n')
  held[0].end('done')
  t.match(await slow, { status: 200, body: 'done', headers: { connection: 'close' } })
  t.equal(await g.ended, 0)
  t.match(g.written.out, /"GET \/direct HTTP\/1\.1" 200/)
  t.match(g.written.out, /"GET \/slow HTTP\/1\.1" 200/, 'the last access log is written')
})

async function starting(pids: () => readonly number[], before: readonly number[]): Promise<void> {
  for (const end = Date.now() + 20_000; pids().some((pid) => pid === 0 || before.includes(pid)); ) {
    if (Date.now() > end) throw new Error('the workers did not come back')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

t.test('TLS tickets of one worker are good at the others, and at those that replace them', async (t) => {
  const authority = await Authority.create()
  const { chain, key } = await authority.issue({ dns: ['a.example'] })
  const inline = (text: string): object => ({ inline_string: text })
  const transportSocket = {
    name: 'tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
      common_tls_context: {
        tls_certificates: [{ certificate_chain: inline(chain), private_key: inline(key) }],
      },
    },
  }
  const text = bootstrap().replace(
    '        - filters:\n',
    `        - transport_socket: ${JSON.stringify(transportSocket)}\n          filters:\n`,
  )
  const ready = Promise.withResolvers<string>()
  const entry = (name: string): string => fileURLToPath(new URL(`../../lib/cli/${name}.ts`, import.meta.url))
  const supervisor = new Supervisor({
    controlEntry: entry('control-process'),
    workerEntry: entry('worker-process'),
    workers: 2,
    drainTimeMs: 0,
    settings: toSettings({
      configPath: configFile(t, text),
      demoPort: 0,
      logLevel: 'fatal',
      adminAddress: '',
      drainTimeS: 0,
    }),
    clock: systemClock,
    log: { debug() {}, info() {}, warn() {}, error() {} },
    ready: ready.resolve,
  })
  t.teardown(async () => {
    supervisor.stop(0)
    await supervisor.ended
  })
  const port = await portOf(`http://${await ready.promise}`, 'ingress')
  const ask = async (session?: Buffer): Promise<{ reused: boolean; session: Buffer }> => {
    const socket = tls.connect({ port, host: '127.0.0.1', servername: 'a.example', rejectUnauthorized: false, session })
    let latest: Buffer = Buffer.alloc(0)
    socket.on('session', (later: Buffer) => {
      latest = later
    })
    await once(socket, 'secureConnect')
    const reused = socket.isSessionReused()
    socket.end('GET /direct HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n')
    let body = ''
    for await (const chunk of socket) body += chunk
    t.match(body, /hello$/)
    return { reused, session: latest }
  }
  // Whoever is stopped accepts nothing: each worker is asked alone.
  const [first, second] = supervisor.pids.workers
  process.kill(first, 'SIGSTOP')
  const { reused, session } = await ask()
  process.kill(first, 'SIGCONT')
  process.kill(second, 'SIGSTOP')
  t.equal(reused, false)
  t.equal((await ask(session)).reused, true, 'at the other worker')
  process.kill(second, 'SIGKILL')
  process.kill(first, 'SIGKILL')
  await starting(() => supervisor.pids.workers, [first, second])
  t.equal((await ask(session)).reused, true, 'at those that came later')
})

t.test('run: /quitquitquit and a second signal end at once', async (t) => {
  const config = configFile(t, bootstrap())
  const quit = headgate(t, 'run', '--config', config)
  const admin = await adminOf(quit)
  t.equal((await get(`${admin}/quitquitquit`)).status, 405)
  t.equal((await get(`${admin}/quitquitquit`, { method: 'POST' })).status, 200)
  t.equal(await quit.ended, 0)

  const twice = headgate(t, 'run', '--config', config)
  const port = await portOf(await adminOf(twice), 'ingress')
  const idle = net.connect(port, '127.0.0.1').on('error', () => {})
  await once(idle, 'connect')
  twice.child.kill('SIGINT')
  // Two signals of a kind that come together are one.
  while (!twice.written.err.includes('"msg":"draining')) await once(twice.child.stderr as NodeJS.ReadableStream, 'data')
  twice.child.kill('SIGINT')
  t.equal(await twice.ended, 0)
  t.match(twice.written.err, '"msg":"ending at once"')
})

t.test('run: a wrong configuration ends with status 1, every mistake with its place, and nothing else', async (t) => {
  const path = configFile(t, `${bootstrap()}    - name: ""\n      frobnicate: 1\n`)
  const g = headgate(t, 'run', '--config', path)
  t.equal(await g.ended, 1)
  t.equal(g.written.out, '')
  const lines = g.written.err.trimEnd().split('\n')
  t.equal(lines.length, 2)
  for (const line of lines) t.match(line, new RegExp(`^${path}:\\d+:\\d+: static_resources\\.clusters\\[1\\]\\.`))
  const missing = headgate(t, 'run', '--config', `${path}.nowhere`)
  t.equal(await missing.ended, 1)
  t.match(missing.written.err, /^[^\n]*cannot be read: ENOENT[^\n]*\n$/)
})

t.test('run: an address in use ends with status 1 and is named, that of a listener or of admin', async (t) => {
  const port = await taken(t)
  const listener = headgate(t, 'run', '--config', configFile(t, bootstrap({ listener: port })))
  t.equal(await listener.ended, 1)
  t.match(listener.written.err, new RegExp(`listener "ingress".*cannot listen on 127\\.0\\.0\\.1:${port}: .*in use`))
  const admin = headgate(t, 'run', '--config', configFile(t, bootstrap()), '--admin-address', `127.0.0.1:${port}`)
  t.equal(await admin.ended, 1)
  t.match(admin.written.err, new RegExp(`admin\\.address: cannot listen on 127\\.0\\.0\\.1:${port}: .*in use`))
})

t.test('run: nobody reading standard output does not end the gateway', async (t) => {
  const g = headgate(t, 'run', '--config', configFile(t, bootstrap()))
  const port = await portOf(await adminOf(g), 'ingress')
  g.child.stdout?.destroy()
  for (let i = 0; i < 5; i++) t.match(await get(`http://127.0.0.1:${port}/direct`), { status: 200 })
  g.child.kill('SIGTERM')
  t.equal(await g.ended, 0)
})

async function isFree(port: number): Promise<boolean> {
  const probe = net.createServer().listen(port, '127.0.0.1')
  const free = await Promise.race([once(probe, 'listening').then(() => true), once(probe, 'error').then(() => false)])
  probe.close()
  return free
}

const busy = (await isFree(10_000)) && (await isFree(15_000)) ? false : 'port 10000 or 15000 is in use on this machine'

t.test('run without --config: the demo, and the curl lines to try', { skip: busy }, async (t) => {
  const g = headgate(t, 'run')
  await adminOf(g)
  const echo = await get('http://127.0.0.1:10000/hello?a=b')
  t.match(JSON.parse(echo.body), { answeredBy: 'demo upstream', method: 'GET', path: '/hello?a=b' })
  const urls = [...g.written.out.matchAll(/^ {2}curl .*?'?(http:[^\s']+)'?$/gm)].map((m) => m[1])
  t.equal(urls.length, 6)
  for (const url of urls) t.equal((await get(url)).status, 200, url)
  g.child.kill('SIGTERM')
  t.equal(await g.ended, 0)
})
