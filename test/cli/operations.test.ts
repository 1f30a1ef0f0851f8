import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import http, { type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort } from '../../benchmarks/load/free-port.ts'

/** The reference binary as it is run: its file changes, it has neighbours, it lives in a container. */

t.setTimeout(60_000)

const MAIN = join(import.meta.dirname, '../../lib/cli/main.ts')
const TYPE = 'type.googleapis.com/envoy.extensions.filters'

interface Gateway {
  readonly child: ChildProcess
  readonly admin: string
  readonly ended: Promise<number | null>
  said(): string
}

function configOf(body: string, ports: { listener?: number; admin?: number } = {}): string {
  return `admin:
  address: { socket_address: { address: 127.0.0.1, port_value: ${ports.admin ?? 0} } }
static_resources:
  listeners:
    - name: ingress
      address: { socket_address: { address: 127.0.0.1, port_value: ${ports.listener ?? 0} } }
      filter_chains:
        - filters:
            - name: hcm
              typed_config:
                "@type": ${TYPE}.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: ingress
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes:
                        - { match: { prefix: / }, direct_response: { status: 200, body: { inline_string: ${body} } } }
                http_filters:
                  - name: health
                    typed_config:
                      "@type": ${TYPE}.http.health_check.v3.HealthCheck
                      pass_through_mode: false
                      headers: [{ name: ":path", string_match: { exact: /healthz } }]
                  - name: router
                    typed_config: { "@type": ${TYPE}.http.router.v3.Router }
`
}

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'headgate-ops-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** Starts a command that is, or becomes, the gateway; undefined admin where it ends instead. */
async function start(t: Test, command: readonly string[], options: { uid?: number } = {}): Promise<Gateway> {
  const child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'ignore', 'pipe'], ...options })
  let said = ''
  child.stderr?.on('data', (text) => {
    said += text
  })
  const ended = once(child, 'close').then(([status]) => status as number | null)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const found = (): string | undefined => /"admin":"([^"]+)".*"msg":"ready"/.exec(said)?.[1]
  while (found() === undefined && child.exitCode === null) await sleep(10)
  return { child, admin: `http://${found() ?? ''}`, ended, said: () => said }
}

const run = (...args: string[]): string[] => [process.execPath, '--disable-sigusr1', MAIN, 'run', ...args]

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

async function ask(url: string, method = 'GET'): Promise<{ status: number; body: string }> {
  const [res] = (await once(http.request(url, { agent: false, method }).end(), 'response')) as [IncomingMessage]
  let body = ''
  for await (const chunk of res) body += chunk
  return { status: res.statusCode ?? 0, body }
}

async function ingressOf({ admin }: Gateway): Promise<string> {
  const port = /^ingress::127\.0\.0\.1:(\d+)$/m.exec((await ask(`${admin}/listeners`)).body)?.[1]
  return `http://127.0.0.1:${port}`
}

async function statOf({ admin }: Gateway, name: string): Promise<number> {
  const { body } = await ask(`${admin}/stats?filter=^${name.replaceAll('.', '\\.')}$`)
  return Number(/: (\d+)/.exec(body)?.[1])
}

/** The test's own time limit ends it otherwise. */
async function until(what: () => Promise<boolean>): Promise<void> {
  while (!(await what())) await sleep(20)
}

t.test(
  'the configuration file is taken over when it changes, whichever way, and refused whole when it is wrong',
  async (t) => {
    const dir = folder(t)
    const version = (name: string, text: string): void => {
      mkdirSync(join(dir, name))
      writeFileSync(join(dir, name, 'config.yaml'), text)
      symlinkSync(name, join(dir, '..next'))
      renameSync(join(dir, '..next'), join(dir, '..data'))
    }
    // As Kubernetes mounts a ConfigMap.
    version('..1', configOf('one'))
    const file = join(dir, 'config.yaml')
    symlinkSync(join('..data', 'config.yaml'), file)
    const gateway = await start(t, run('--config', file, '--workers', '2'))
    const ingress = await ingressOf(gateway)
    const shows = async (body: string): Promise<void> => {
      // Both workers, on connections of their own.
      await until(async () => {
        const answers = await Promise.all(Array.from({ length: 8 }, () => ask(ingress)))
        return answers.every((answer) => answer.body === body)
      })
    }
    let asking = true
    const load = (async () => {
      let count = 0
      for (; asking; count++) if ((await ask(ingress)).status !== 200) throw new Error('not served')
      return count
    })()
    await shows('one')
    version('..2', configOf('two'))
    await shows('two')
    rmSync(file)
    writeFileSync(file, configOf('three'))
    await shows('three')
    // In place, and broken off in the middle.
    writeFileSync(file, configOf('four').slice(0, -110))
    await until(async () => (await statOf(gateway, 'server.file_reload_failing')) === 1)
    t.equal((await ask(ingress)).body, 'three', 'the last good one serves')
    t.match(gateway.said(), new RegExp(`${file}:\\d+:\\d+: .*cannot be used; everything stays`))
    writeFileSync(file, '')
    await until(async () => (await statOf(gateway, 'server.file_reload_rejected')) === 2)
    writeFileSync(file, configOf('five').replace('domains', 'domain'))
    await until(async () => (await statOf(gateway, 'server.file_reload_rejected')) === 3)
    t.equal((await ask(ingress)).body, 'three')
    t.equal((await ask(`${gateway.admin}/ready`)).status, 200)
    writeFileSync(file, configOf('six'))
    await shows('six')
    t.equal(await statOf(gateway, 'server.file_reload_failing'), 0)
    // A signal asks for a look that would come anyway: nothing is wrong with that.
    gateway.child.kill('SIGHUP')
    await shows('six')
    asking = false
    t.ok((await load) > 10, 'and nobody has noticed')
    gateway.child.kill('SIGTERM')
    t.equal(await gateway.ended, 0)
  },
)

t.test('identical gateways on one machine share nothing; one that finds its port taken says so', async (t) => {
  const file = join(folder(t), 'config.yaml')
  writeFileSync(file, configOf('hello'))
  const flags = ['--config', file, '--base-id', '0', '--drain-time-s', '1']
  const gateways = await Promise.all([start(t, run(...flags)), start(t, run(...flags)), start(t, run(...flags))])
  const ingresses = await Promise.all(gateways.map(ingressOf))
  t.equal(new Set([...ingresses, ...gateways.map(({ admin }) => admin)]).size, 6, 'each has its own ports')
  gateways[0].child.kill('SIGKILL')
  await gateways[0].ended
  t.equal((await ask(`${gateways[1].admin}/healthcheck/fail`, 'POST')).body, 'OK\n')
  t.equal((await ask(`${gateways[1].admin}/ready`)).status, 503)
  t.equal((await ask(`${ingresses[1]}/healthz`)).status, 503)
  for (const i of [2]) {
    t.equal((await ask(`${gateways[i].admin}/ready`)).status, 200)
    t.equal((await ask(`${ingresses[i]}/healthz`)).status, 200)
  }
  t.equal((await ask(`${gateways[1].admin}/healthcheck/ok`, 'POST')).body, 'OK\n')
  t.equal((await ask(`${gateways[1].admin}/ready`)).status, 200)
  await until(async () => (await ask(`${ingresses[1]}/healthz`)).status === 200)

  const listener = await freePort()
  // Those that run watch their own file.
  const fixed = join(folder(t), 'fixed.yaml')
  writeFileSync(fixed, configOf('hello', { listener }))
  const first = await start(t, run('--config', fixed))
  const second = await start(t, run('--config', fixed))
  t.equal(await second.ended, 1)
  t.match(second.said(), new RegExp(`cannot listen on 127\\.0\\.0\\.1:${listener}: .*in use`))
  t.equal((await ask(`http://127.0.0.1:${listener}`)).body, 'hello')
  // A change that asks for what another has is refused, and what runs goes on.
  const own = join(folder(t), 'own.yaml')
  writeFileSync(own, configOf('mine'))
  const third = await start(t, run('--config', own))
  const before = await ingressOf(third)
  writeFileSync(own, configOf('mine', { listener }))
  await until(async () => (await statOf(third, 'server.file_reload_failing')) === 1)
  t.match(third.said(), new RegExp(`cannot listen on 127\\.0\\.0\\.1:${listener}`))
  t.equal((await ask(before)).body, 'mine')
  t.equal((await ask(`http://127.0.0.1:${listener}`)).body, 'hello')
  first.child.kill('SIGTERM')
  t.equal(await first.ended, 0, first.said())
})

/** As in a container: PID 1, nothing can be written. */
const CONTAINER = ['unshare', '-Urmpf', '--mount-proc', '--kill-child']
const READ_ONLY = 'mount -o remount,bind,ro / && exec "$@"'
const contained = spawnSync(CONTAINER[0], [...CONTAINER.slice(1), 'sh', '-c', READ_ONLY, 'sh', 'true']).status === 0

t.test(
  'as PID 1 with a read-only file system: it serves, replaces workers, leaves no zombies, ends by SIGTERM',
  { skip: contained ? false : 'this machine allows no namespaces' },
  async (t) => {
    const file = join(folder(t), 'config.yaml')
    writeFileSync(file, configOf('hello'))
    const inside = run('--config', file, '--workers', '2', '--drain-time-s', '2')
    const gateway = await start(t, [...CONTAINER, 'sh', '-c', READ_ONLY, 'sh', ...inside])
    const outside = gateway.child.pid ?? 0
    const init = childrenOf(outside)[0]
    t.match(readFileSync(`/proc/${init}/status`, 'utf8'), /^NSpid:\s+\d+\s+1$/m, 'it is PID 1')
    const ingress = await ingressOf(gateway)
    t.equal((await ask(ingress)).body, 'hello')
    const workers = (): number[] => childrenOf(init).filter((pid) => nameOf(pid).startsWith('headgate: worker'))
    for (let i = 1; i <= 4; i++) {
      process.kill(workers()[0], 'SIGKILL')
      await until(async () => (await statOf(gateway, 'server.workers_died')) === i)
      await until(async () => workers().length === 2)
    }
    t.equal(childrenOf(init).length, 3)
    const states = childrenOf(init).map(
      (pid) => /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1],
    )
    t.notOk(states.includes('Z'), 'no zombies')
    t.equal((await ask(ingress)).body, 'hello')
    process.kill(init, 'SIGTERM')
    t.equal(await gateway.ended, 0)
  },
)

t.test(
  'without privileges',
  { skip: process.getuid?.() === 0 ? false : 'this is run without privileges anyway' },
  async (t) => {
    const dir = folder(t)
    const file = join(dir, 'config.yaml')
    writeFileSync(file, configOf('hello'))
    chmodSync(dir, 0o755)
    const nobody = 65_534
    const reads = spawnSync(process.execPath, ['-e', `require('fs').readFileSync(${JSON.stringify(MAIN)})`], {
      uid: nobody,
    })
    if (reads.status !== 0) {
      t.comment('nobody may not read this checkout: not run')
      return
    }
    const gateway = await start(t, run('--config', file), { uid: nobody })
    t.equal((await ask(await ingressOf(gateway))).body, 'hello')
    gateway.child.kill('SIGTERM')
    t.equal(await gateway.ended, 0)
  },
)

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`)
    .flatMap((thread) => readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').trim().split(' '))
    .filter((text) => text !== '')
    .map(Number)
}

function nameOf(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
}
