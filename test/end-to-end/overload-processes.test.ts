import { once } from 'node:events'
import { renameSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { GatewayProcess } from '../attacks/gateway-process.ts'
import { Origin } from '../support/origin.ts'
import { WireClient } from '../support/wire.ts'
import { bootstrap, cluster, type Fields } from './bootstrap.ts'
import { get } from './setup.ts'

/** The overload manager of the reference binary: control measures, workers act. */

const MONITORS = 'type.googleapis.com/envoy.extensions.resource_monitors'
const INTERVAL_S = 0.05

async function until(done: () => Promise<boolean> | boolean, what: string, limitMs = 15_000): Promise<void> {
  const end = performance.now() + limitMs
  while (!(await done())) {
    if (performance.now() > end) throw new Error(`no ${what} within ${limitMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

interface Lab {
  readonly gateway: GatewayProcess
  readonly client: WireClient
  readonly port: number
  press(pressure: number): void
  stat(name: string): Promise<number>
}

/** Two workers, which must agree. */
async function lab(t: Test, actions: readonly Fields[], more: Fields = {}): Promise<Lab> {
  const path = join(t.testdir(), 'pressure')
  const press = (pressure: number): void => {
    writeFileSync(`${path}.next`, String(pressure))
    renameSync(`${path}.next`, path)
  }
  press(0)
  const origin = await Origin.start()
  const client = new WireClient()
  const monitor = {
    name: 'file',
    typed_config: { '@type': `${MONITORS}.injected_resource.v3.InjectedResourceConfig`, filename: path },
  }
  const overload = { refresh_interval: `${INTERVAL_S}s`, resource_monitors: [monitor], actions, ...more }
  const config = bootstrap({
    overload,
    clusters: [cluster('origin', origin.port)],
    listeners: [{ name: 'main' }, { name: 'health', fields: { bypass_overload_manager: true } }],
  })
  const gateway = await GatewayProcess.start(t, config, ['--workers', '2'])
  t.teardown(async () => {
    await client.closeAll()
    await origin.close()
  })
  const stat = async (name: string): Promise<number> => (await gateway.stats()).orZero(name)
  return { gateway, client, port: await gateway.port('main'), press, stat }
}

const triggers = [{ name: 'file', threshold: { value: 0.9 } }]
const named = (name: string): Fields => ({ name: `envoy.overload_actions.${name}`, triggers })

t.test('connections wait in the queue of the socket while the gateway takes none', async (t) => {
  const { client, port, press, stat, gateway } = await lab(t, [named('stop_accepting_connections')])
  const wire = await client.connect(port)
  t.equal((await wire.exchange(get())).status, 200)
  press(0.95)
  const active = 'overload.envoy.overload_actions.stop_accepting_connections.active'
  await until(async () => (await stat(active)) === 1, 'stop')
  t.equal(await stat('overload.file.pressure'), 95, 'of all workers, not the sum')
  // Both workers have closed their copies by now; the socket is the supervisor's.
  const waiting = connect(port, '127.0.0.1')
  await once(waiting, 'connect')
  waiting.write(get())
  t.equal((await wire.exchange(get())).status, 200, 'what is there goes on')
  const health = await client.connect(await gateway.port('health'))
  t.equal((await health.exchange(get())).status, 200, 'and health checks get in')
  t.match(await gateway.ask('/ready'), /LIVE/, 'and so do operators')
  t.equal(waiting.bytesRead, 0)
  press(0.5)
  const [chunk] = (await once(waiting, 'data')) as [Buffer]
  t.match(chunk.toString(), /^HTTP\/1\.1 200 /, 'nobody was refused')
  waiting.destroy()
  t.equal(await stat(active), 0)
  t.equal(await gateway.port('main'), port)
})

t.test('the admin server and a listener that bypasses it answer under every action at once', async (t) => {
  const names = ['stop_accepting_requests', 'disable_http_keepalive', 'reject_incoming_connections', 'shrink_heap']
  const { client, port, press, stat, gateway } = await lab(t, [...names, 'stop_accepting_connections'].map(named))
  press(1)
  await until(
    async () => (await stat('overload.envoy.overload_actions.stop_accepting_connections.active')) === 1,
    'stop',
  )
  for (const path of ['/ready', '/stats', '/clusters', '/server_info', '/config_dump']) {
    t.ok((await gateway.ask(path)).length > 0, path)
  }
  const health = await client.connect(await gateway.port('health'))
  for (let i = 0; i < 3; i++) t.equal((await health.exchange(get())).status, 200)
  press(0)
  await until(async () => (await client.connect(port).then((wire) => wire.exchange(get()))).status === 200, 'service')
})

t.test('workers that control no longer speaks to measure for themselves', async (t) => {
  const { client, port, press, gateway } = await lab(t, [named('stop_accepting_requests')])
  const status = async (): Promise<number> => (await (await client.connect(port)).exchange(get())).status
  t.equal(await status(), 200)
  const control = gateway.processes().get('control')
  if (control === undefined) throw new Error('there is no control process')
  // It does not even end: nobody starts another one before its silence has been noticed.
  process.kill(control, 'SIGSTOP')
  t.teardown(() => process.kill(control, 'SIGCONT'))
  press(1)
  await until(async () => (await status()) === 503, 'refusal')
  press(0)
  await until(async () => (await status()) === 200, 'service')
  process.kill(control, 'SIGCONT')
  press(1)
  await until(async () => (await status()) === 503, 'refusal')
})

t.test('watchdogs count processes that hang, and one that hangs for too long is replaced', async (t) => {
  const worker_watchdog = { miss_timeout: '0.2s', megamiss_timeout: '0.4s', kill_timeout: '2s' }
  const main_thread_watchdog = { miss_timeout: '0.2s', megamiss_timeout: '30s' }
  const config = {
    ...bootstrap({ clusters: [cluster('origin', 1)] }),
    watchdogs: { main_thread_watchdog, worker_watchdog },
  }
  const gateway = await GatewayProcess.start(t, config, ['--workers', '2'])
  const of = (name: string): number => gateway.processes().get(name) ?? 0
  const hangs = async (pid: number, forMs: number): Promise<void> => {
    process.kill(pid, 'SIGSTOP')
    await new Promise((resolve) => setTimeout(resolve, forMs))
    process.kill(pid, 'SIGCONT')
  }
  t.equal((await gateway.stats()).get('server.worker_1.watchdog_mega_miss'), 0)
  await hangs(of('worker 1'), 1_000)
  await hangs(of('control'), 600)
  await gateway.until((stats) => (stats.get('server.worker_1.watchdog_mega_miss') ?? 0) > 0, 'a miss of the worker')
  await gateway.until((stats) => (stats.get('main_thread.watchdog_miss') ?? 0) > 0, 'a miss of control')
  const stats = await gateway.stats()
  t.ok((stats.get('workers.watchdog_miss') ?? 0) >= 1)
  t.equal(stats.get('main_thread.watchdog_mega_miss'), 0)
  const before = of('worker 0')
  process.kill(before, 'SIGSTOP')
  await gateway.until((now) => now.get('server.workers_silent') === 1 && of('worker 0') !== before, 'another worker 0')
})
