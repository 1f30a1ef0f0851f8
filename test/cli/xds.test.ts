import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import t from 'tap'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { ControlPlane, XDS } from '../support/control-plane.ts'
import {
  adsBootstrap,
  assignmentResource,
  clusterResource,
  listenerResource,
  routesResource,
} from '../support/xds-gateway.ts'

const MAIN = fileURLToPath(new URL('../../lib/cli/main.ts', import.meta.url))
const registry = createProtoRegistry()
t.setTimeout(40_000)

interface Answer {
  readonly status: number
  readonly body: string
}

async function get(url: string, method = 'GET'): Promise<Answer> {
  const [res] = (await once(http.request(url, { agent: false, method }).end(), 'response')) as [IncomingMessage]
  let body = ''
  for await (const chunk of res) body += chunk
  return { status: res.statusCode ?? 0, body }
}

/** Asks until the answer is as wanted; the test's own time limit ends it otherwise. */
async function until<V>(ask: () => Promise<V> | V, wanted: (value: V) => boolean): Promise<V> {
  for (;;) {
    const value = await ask()
    if (wanted(value)) return value
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

class Headgate {
  readonly child: ChildProcess
  readonly ended: Promise<number | null>
  readonly dir: string
  err = ''
  out = ''

  constructor(t: Test, bootstrap: unknown, ...flags: string[]) {
    this.dir = mkdtempSync(`${tmpdir()}/hg-`)
    writeFileSync(`${this.dir}/bootstrap.json`, JSON.stringify(bootstrap))
    const files = ['--config-path', `${this.dir}/bootstrap.json`, '--admin-address-path', `${this.dir}/admin`]
    this.child = spawn(process.execPath, ['--disable-sigusr1', MAIN, ...files, ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.child.stderr?.on('data', (text) => {
      this.err += text
    })
    this.child.stdout?.on('data', (text) => {
      this.out += text
    })
    this.ended = once(this.child, 'close').then(([status]) => status as number | null)
    t.teardown(async () => {
      this.child.kill('SIGKILL')
      await this.ended
      rmSync(this.dir, { recursive: true, force: true })
    })
  }

  /** The address of the admin server, as it was written for launchers. */
  get admin(): string {
    try {
      return readFileSync(`${this.dir}/admin`, 'utf8')
    } catch {
      return ''
    }
  }

  async state(): Promise<string> {
    if (this.admin === '') return 'STARTING'
    const answer = await get(`http://${this.admin}/ready`).catch(() => undefined)
    return answer?.body.trim() ?? 'DOWN'
  }

  async ready(): Promise<void> {
    await until(
      () => this.state(),
      (state) => state === 'LIVE',
    )
  }

  /** The process ids of the children, by what they are called. */
  children(): ReadonlyMap<string, number> {
    const found = new Map<string, number>()
    const { pid } = this.child
    const pids = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number)
    for (const each of pids) found.set(readFileSync(`/proc/${each}/cmdline`, 'utf8').split('\0')[0].trim(), each)
    return found
  }
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function origin(t: Test, name: string): Promise<number> {
  const server = http.createServer((_, res) => res.end(name)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return (server.address() as AddressInfo).port
}

async function controlPlane(t: Test): Promise<ControlPlane> {
  const plane = await ControlPlane.start({ registry })
  t.teardown(() => plane.close())
  return plane
}

t.test('a control plane drives the whole gateway, over restarts of every process', async (t) => {
  const [plane, first, second, port] = await Promise.all([
    controlPlane(t),
    origin(t, 'first'),
    origin(t, 'second'),
    freePort(),
  ])
  plane.set(XDS.cluster, [clusterResource('web')])
  plane.set(XDS.endpoints, [assignmentResource('web', first)])
  plane.set(XDS.listener, [listenerResource('ingress', port)])
  plane.set(XDS.routes, [routesResource('web', '1')])
  const flags = ['--concurrency', '2', '--service-node', 'flag-node', '--service-cluster', 'flag-cluster']
  const g = new Headgate(t, adsBootstrap(plane.port), ...flags, '--restart-epoch', '0', '--log-level', 'warning')
  await g.ready()
  const url = `http://127.0.0.1:${port}`
  t.strictSame(await get(url), { status: 200, body: 'first' })
  const { node } = plane.requests[0]
  t.match(node, { id: 'flag-node', cluster: 'flag-cluster', user_agent_name: 'headgate' })
  t.match(g.err, /"flags":\["--restart-epoch"\]/)

  plane.set(XDS.endpoints, [assignmentResource('web', second)])
  await until(
    () => get(url),
    ({ body }) => body === 'second',
  )
  plane.set(XDS.routes, [routesResource('web', '2')])
  await until(
    () => get(`${url}/version`),
    ({ body }) => body === '2',
  )

  const before = g.children()
  process.kill(before.get('headgate: worker 0') as number, 'SIGKILL')
  await until(
    () => g.children().get('headgate: worker 0'),
    (pid) => pid !== undefined && pid !== before.get('headgate: worker 0'),
  )
  await g.ready()
  for (let i = 0; i < 20; i++) {
    t.strictSame(await get(`${url}/version`), { status: 200, body: '2' })
    t.strictSame(await get(url), { status: 200, body: 'second' })
  }

  // Of what it sends to the next control process, a listener is gone and the routes are others.
  plane.hold(XDS.listener)
  process.kill(before.get('headgate: control') as number, 'SIGKILL')
  plane.set(XDS.routes, [routesResource('web', '3')])
  await until(
    () => g.children().get('headgate: control'),
    (pid) => pid !== undefined && pid !== before.get('headgate: control'),
  )
  await g.ready()
  t.strictSame(await get(url), { status: 200, body: 'second' }, 'what workers have goes on')
  plane.release(XDS.listener)
  await until(
    () => get(`${url}/version`),
    ({ body }) => body === '3',
  )
  plane.set(XDS.listener, [])
  await until(
    () =>
      get(url)
        .then(() => 'served')
        .catch(() => 'refused'),
    (answer) => answer === 'refused',
  )
})

t.test('a listener that no worker can open does not keep the others from being served', async (t) => {
  const [plane, port] = await Promise.all([controlPlane(t), freePort()])
  const taken = net.createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  plane.set(XDS.cluster, [])
  plane.set(XDS.listener, [
    listenerResource('good', port),
    listenerResource('bad', (taken.address() as AddressInfo).port),
  ])
  plane.set(XDS.routes, [routesResource('none', 'ok')])
  const g = new Headgate(t, adsBootstrap(plane.port, 'GRPC'), '--concurrency', '2')
  await g.ready()
  t.strictSame(await get(`http://127.0.0.1:${port}/version`), { status: 200, body: 'ok' })
  const { body } = await get(`http://${g.admin}/stats?filter=resources_revoked`)
  t.match(body, /server\.resources_revoked: 1/)
  t.match(g.err, /EADDRINUSE/)
})
