import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import http from 'node:http'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import t from 'tap'
import type { GatewayConfig } from '../../lib/config/model.ts'
import { systemClock } from '../../lib/core/clock.ts'
import type { Log } from '../../lib/core/metrics.ts'
import type { EngineStatus, MetricsSnapshot } from '../../lib/runtime/engine.ts'
import { Supervisor } from '../../lib/runtime/supervisor.ts'
import { configuration, loopback } from './fixtures/configuration.ts'

interface Reply {
  readonly pid: number
  readonly worker: number
  readonly serving: boolean
  readonly level: string
  readonly reopened: number
  readonly routes: number
}

interface Running {
  readonly supervisor: Supervisor
  readonly dir: string
  readonly ready: Promise<string>
  port: number
  panel(name: string, argument?: unknown): Promise<unknown>
  stats(): Promise<ReadonlyMap<string, number>>
  get(path?: string): Promise<Reply>
}

const log: Log = { debug() {}, info() {}, warn() {}, error() {} }

async function start(
  t: Test,
  options: { workers?: number; config?: GatewayConfig | string; drainTimeMs?: number; watched?: boolean } = {},
): Promise<Running> {
  const dir = mkdtempSync(`${tmpdir()}/hg-`)
  const config = options.config ?? configuration({ ingress: loopback() })
  writeFileSync(`${dir}/config`, typeof config === 'string' ? config : JSON.stringify(config))
  const ready = Promise.withResolvers<string>()
  const supervisor = new Supervisor({
    controlEntry: fileURLToPath(new URL('./fixtures/fake-control.ts', import.meta.url)),
    workerEntry: fileURLToPath(new URL('./fixtures/fake-worker.ts', import.meta.url)),
    workers: options.workers ?? 1,
    drainTimeMs: options.drainTimeMs ?? 10_000,
    settings: {
      config: `${dir}/config`,
      port: `${dir}/port`,
      report: `${dir}/report`,
      watched: options.watched ?? false,
    },
    clock: systemClock,
    log,
    ready: ready.resolve,
  })
  t.teardown(async () => {
    supervisor.stop(0)
    await supervisor.ended
    rmSync(dir, { recursive: true, force: true })
  })
  const panel = async (name: string, argument?: unknown): Promise<unknown> => {
    const path = argument === undefined ? name : `${name}/${encodeURIComponent(JSON.stringify(argument))}`
    const text = await body(
      http.get(`http://127.0.0.1:${readFileSync(`${dir}/port`, 'utf8')}/${path}`, { agent: false }),
    )
    return JSON.parse(text)
  }
  const stats = async (): Promise<ReadonlyMap<string, number>> => {
    const { counters, gauges } = (await panel('stats')) as MetricsSnapshot
    return new Map([...counters, ...gauges])
  }
  const running: Running = {
    supervisor,
    dir,
    ready: ready.promise,
    port: 0,
    panel,
    stats,
    get: async (path = '/') => JSON.parse(await body(request(running.port, path))) as Reply,
  }
  return running
}

/** Waits until it serves, and learns the port. */
async function serving(running: Running): Promise<Running> {
  await running.ready
  const { listeners } = (await running.panel('status')) as EngineStatus
  const [address] = listeners[0].addresses
  running.port = address.kind === 'ip' ? address.port : 0
  return running
}

function request(port: number, path: string): http.ClientRequest {
  return http.get({ port, host: '127.0.0.1', path, agent: false })
}

async function body(req: http.ClientRequest): Promise<string> {
  const [res] = (await once(req, 'response')) as [IncomingMessage]
  let text = ''
  for await (const chunk of res) text += chunk
  return text
}

/** Asks until the answer is as wanted; the test's own time limit ends it otherwise. */
async function until<V>(ask: () => Promise<V> | V, wanted: (value: V) => boolean): Promise<V> {
  for (;;) {
    const value = await ask()
    if (wanted(value)) return value
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

const refusedConnection = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(false)
    })
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'))
  })

t.test('two workers share a listener; what they count is added up and outlives a killed one', async (t) => {
  const g = await serving(await start(t, { workers: 2 }))
  const first = g.supervisor.pids
  const seen = new Set<number>()
  let asked = 0
  await until(
    async () => {
      asked++
      seen.add((await g.get()).pid)
      return seen.size
    },
    (size) => size === 2,
  )
  t.strictSame([...seen].sort(), [...first.workers].sort(), 'both serve')
  t.equal((await g.stats()).get('fake.requests'), asked)
  t.equal((await g.stats()).get('fake.workers'), 2)
  t.equal((await g.stats()).get('server.concurrency'), 2)
  t.equal(await g.panel('state'), 'LIVE')
  process.kill(first.workers[0], 'SIGKILL')
  await until(
    () => g.stats(),
    (stats) => stats.get('fake.workers') === 1,
  )
  t.equal((await g.stats()).get('fake.requests'), asked, 'the dead one is still counted')
  await until(
    () => g.stats(),
    (stats) => stats.get('fake.workers') === 2,
  )
  t.not(g.supervisor.pids.workers[0], first.workers[0])
  t.equal((await g.stats()).get('fake.requests'), asked)
  await g.get()
  t.equal((await g.stats()).get('fake.requests'), asked + 1)
  t.equal(g.supervisor.sockets, 1)
  const memory = (await g.panel('memory')) as { rss: number }
  t.ok(memory.rss > 3 * 10_000_000, 'of three processes')
})

t.test('while the only worker is dead and restarting, connections queue and none is refused', async (t) => {
  const g = await serving(await start(t))
  const { pid } = await g.get()
  process.kill(pid, 'SIGKILL')
  await until(
    () => g.supervisor.pids.workers[0],
    (now) => now !== pid,
  )
  const replies = await Promise.all(Array.from({ length: 20 }, () => g.get()))
  for (const reply of replies) t.not(reply.pid, pid)
  // A worker that ends by itself, mid-request, again and again.
  for (let i = 0; i < 2; i++) {
    await t.rejects(g.get('/exit'), { code: 'ECONNRESET' })
    t.ok((await g.get()).pid > 0)
  }
})

t.test('SIGTERM to a worker lets its requests end, and another takes its place', async (t) => {
  const g = await serving(await start(t))
  const [pid] = g.supervisor.pids.workers
  const slow = g.get('/slow')
  await until(
    () => g.stats(),
    (stats) => stats.get('fake.active') === 1,
  )
  // Opened before the worker drains, so it is that worker which answers on it.
  const kept = net.connect(g.port, '127.0.0.1').on('error', () => {})
  kept.write('GET /slow HTTP/1.1\r\nhost: a\r\n\r\n')
  await until(
    () => g.stats(),
    (stats) => stats.get('fake.active') === 2,
  )
  process.kill(pid, 'SIGTERM')
  await until(
    () => g.supervisor.pids.workers[0],
    (now) => now !== pid,
  )
  // Once nobody but the new one is answering, the old one accepts no more.
  await until(
    async () => (await g.get()).pid,
    (now) => now !== pid,
  )
  kept.resume()
  kept.write('GET /release HTTP/1.1\r\nhost: a\r\n\r\n')
  t.equal((await slow).pid, pid)
  t.not((await g.get()).pid, pid)
})

t.test('Unix sockets are shared by the workers and outlive them; their files go with the gateway', async (t) => {
  const dir = mkdtempSync(`${tmpdir()}/hg-`)
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const path = `${dir}/ingress`
  const config = configuration({ ingress: { kind: 'pipe', path, mode: 0o600 } })
  const g = await start(t, { workers: 2, config })
  await g.ready
  const get = async (): Promise<Reply> =>
    JSON.parse(await body(http.get({ socketPath: path, path: '/', agent: false }))) as Reply
  const { pid } = await get()
  t.equal(statSync(path).mode & 0o777, 0o600)
  for (const worker of g.supervisor.pids.workers) process.kill(worker, 'SIGKILL')
  t.not((await get()).pid, pid)
  g.supervisor.stop()
  t.equal(await g.supervisor.ended, 0)
  t.notOk(existsSync(path))
})

t.test('control may die: workers go on, and the next control takes over what they run', async (t) => {
  const g = await serving(await start(t, { workers: 2, config: configuration({ ingress: loopback() }, 5000) }))
  const { control, workers } = g.supervisor.pids
  t.equal((await g.get()).routes, 5000)
  await g.panel('setHealthy', false)
  await g.panel('setLogLevel', 'debug')
  const counted = (await g.stats()).get('fake.requests')
  // What stands in the file by now must not matter.
  writeFileSync(`${g.dir}/config`, 'refused')
  process.kill(control, 'SIGKILL')
  t.ok((await g.get()).pid > 0, 'served without control')
  await until(
    () => g.supervisor.pids.control,
    (pid) => pid !== 0 && pid !== control,
  )
  t.ok((await g.get()).pid > 0, 'served while control starts')
  const state = await until(
    () => g.panel('state').catch(() => 'DOWN'),
    (now) => now !== 'DOWN' && now !== 'PRE_INITIALIZING' && now !== 'INITIALIZING',
  )
  t.equal(state, 'DRAINING', 'as unhealthy as before')
  await g.panel('setHealthy', true)
  await until(
    () => g.panel('state'),
    (now) => now === 'LIVE',
  )
  t.strictSame(g.supervisor.pids.workers, workers, 'the same workers')
  t.equal((await g.stats()).get('fake.requests'), (counted ?? 0) + 2)
  t.equal((await g.panel('workers')) as number, 2)
  process.kill(workers[0], 'SIGKILL')
  await until(
    () => g.stats(),
    (stats) => stats.get('fake.workers') === 1,
  )
  await until(
    () => g.stats(),
    (stats) => stats.get('fake.workers') === 2,
  )
  const replies = await Promise.all(Array.from({ length: 10 }, () => g.get()))
  t.ok(
    replies.every((r) => r.routes === 5000),
    'a new worker gets that configuration from it',
  )
})

t.test('files that change are read anew by all workers; what is refused changes nothing', async (t) => {
  const g = await serving(await start(t, { workers: 2, watched: true }))
  const use = (text: string): void => {
    writeFileSync(`${g.dir}/next`, text)
    renameSync(`${g.dir}/next`, `${g.dir}/config`)
  }
  const counter = async (name: string): Promise<number> => (await g.stats()).get(`server.file_reload_${name}`) ?? -1
  use(JSON.stringify(configuration({ ingress: loopback() }, 3)))
  await until(
    async () => new Set([(await g.get()).routes, (await g.get()).routes, (await g.get()).routes]),
    (routes) => routes.size === 1 && routes.has(3),
  )
  t.equal(await counter('success'), 1)
  use('refused')
  await until(
    () => counter('rejected'),
    (rejected) => rejected === 1,
  )
  t.equal((await g.get()).routes, 3)
  // An address that no worker can have.
  use(JSON.stringify(configuration({ ingress: { kind: 'ip', host: '192.0.2.1', port: 1 } }, 5)))
  await until(
    () => counter('rejected'),
    (rejected) => rejected === 2,
  )
  t.equal((await g.get()).routes, 3)
  const config = (await g.panel('configuration')) as { config: GatewayConfig }
  t.same(config.config.listeners[0].addresses, [loopback()], 'what is shown is what runs')
})

t.test('log level, health and reopened logs reach every worker, also those that start later', async (t) => {
  const g = await serving(await start(t))
  const reply = await g.get()
  t.match(reply, { level: 'info', serving: true, reopened: 0 })
  await g.panel('setLogLevel', 'warn')
  await g.panel('setHealthy', false)
  await g.panel('reopenLogs')
  t.match(
    await until(
      () => g.get(),
      (r) => r.reopened === 1,
    ),
    { level: 'warn', serving: false },
  )
  t.equal(await g.panel('state'), 'DRAINING')
  g.supervisor.reopenLogs()
  await until(
    () => g.get(),
    (r) => r.reopened === 2,
  )
  process.kill(reply.pid, 'SIGKILL')
  const next = await until(
    () => g.get(),
    (r) => r.pid !== reply.pid,
  )
  t.match(next, { level: 'warn', serving: false })
})

t.test('stop: no new connections, what is in flight is answered, then everything has ended', async (t) => {
  const g = await serving(await start(t))
  const { control, workers } = g.supervisor.pids
  const slow = request(g.port, '/slow')
  const kept = net.connect(g.port, '127.0.0.1')
  kept.write('GET /slow HTTP/1.1\r\nhost: a\r\n\r\n')
  await until(
    () => g.stats(),
    (stats) => stats.get('fake.active') === 2,
  )
  g.supervisor.stop()
  await until(
    () => refusedConnection(g.port),
    (refused) => refused,
  )
  t.equal(await g.panel('state'), 'DRAINING')
  t.ok(isAlive(workers[0]))
  // The same connection can still let the slow ones go.
  kept.write('GET /release HTTP/1.1\r\nhost: a\r\n\r\n')
  slow.on('error', t.fail)
  const [res] = (await once(slow, 'response')) as [IncomingMessage]
  t.equal(res.headers.connection, 'close')
  res.resume()
  kept.resume()
  t.equal(await g.supervisor.ended, 0)
  t.notOk(isAlive(workers[0]))
  t.notOk(isAlive(control))
  t.equal(g.supervisor.sockets, 0)
})

t.test('stop: what does not end in time, or at the second call, is cut off', async (t) => {
  for (const drainTimeMs of [1, 60_000]) {
    const g = await serving(await start(t, { drainTimeMs }))
    const slow = request(g.port, '/slow')
    const cut = once(slow, 'response')
    await until(
      () => g.stats(),
      (stats) => stats.get('fake.active') === 1,
    )
    g.supervisor.stop()
    if (drainTimeMs > 1) g.supervisor.stop()
    await t.rejects(cut, { code: 'ECONNRESET' })
    t.equal(await g.supervisor.ended, 0)
  }
})

t.test(
  'listeners that were drained on request stay closed, also for the next worker; the process lives on',
  async (t) => {
    const g = await serving(await start(t))
    const [pid] = g.supervisor.pids.workers
    await g.panel('drainListeners')
    await until(
      () => refusedConnection(g.port),
      (refused) => refused,
    )
    t.equal(await g.panel('state'), 'DRAINING')
    t.equal(g.supervisor.sockets, 0)
    process.kill(pid, 'SIGKILL')
    await until(
      () => g.stats(),
      (stats) => stats.get('fake.workers') === undefined,
    )
    await until(
      () => g.stats(),
      (stats) => stats.get('fake.workers') === 1,
    )
    t.strictSame(((await g.panel('status')) as EngineStatus).listeners, [])
    await g.panel('quit')
    t.equal(await g.supervisor.ended, 0)
  },
)

t.test('an address that cannot be had ends the start with the reason; nothing is left', async (t) => {
  const taken = net.createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const { port } = taken.address() as net.AddressInfo
  const g = await start(t, { config: configuration({ good: loopback(), bad: loopback(port) }), workers: 2 })
  t.equal(await g.supervisor.ended, 1)
  const report = readFileSync(`${g.dir}/report`, 'utf8')
  t.equal(report, `listener "bad": cannot listen on 127.0.0.1:${port}: the address is already in use (EADDRINUSE)`)
  t.strictSame(g.supervisor.pids, { control: 0, workers: [0, 0] })
  t.equal(g.supervisor.sockets, 0)
  taken.close()
})

t.test('a refused configuration ends the start with the reasons', async (t) => {
  const g = await start(t, { config: 'refused' })
  t.equal(await g.supervisor.ended, 1)
  t.equal(readFileSync(`${g.dir}/report`, 'utf8'), 'listeners: are refused')
})

t.test('a worker that cannot start at all ends the gateway instead of being restarted for ever', async (t) => {
  const path = fileURLToPath(new URL('./fixtures/fake-control.ts', import.meta.url))
  const dir = t.testdir({ config: JSON.stringify(configuration({})), 'broken.ts': 'process.exit(7)' })
  const settings = { config: `${dir}/config`, port: `${dir}/port`, report: `${dir}/report` }
  const supervisor = new Supervisor({
    controlEntry: path,
    workerEntry: `${dir}/broken.ts`,
    workers: 1,
    drainTimeMs: 0,
    settings,
    clock: systemClock,
    log,
  })
  t.equal(await supervisor.ended, 1)
})

t.test('children end when the supervisor is killed', async (t) => {
  const dir = mkdtempSync(`${tmpdir()}/hg-`)
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  writeFileSync(`${dir}/config`, JSON.stringify(configuration({ ingress: loopback() })))
  const { spawn } = await import('node:child_process')
  const host = fileURLToPath(new URL('./fixtures/host.ts', import.meta.url))
  const child = spawn(process.execPath, [host, dir], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  const pids = JSON.parse(String(line)) as { control: number; workers: number[] }
  t.ok(isAlive(pids.control) && isAlive(pids.workers[0]))
  child.kill('SIGKILL')
  await until(
    () => isAlive(pids.control) || isAlive(pids.workers[0]),
    (alive) => !alive,
  )
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
