import { once } from 'node:events'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { processTree, readTree } from '../load/accounting.ts'
import { Asker } from '../load/asker.ts'
import { Child } from '../load/child.ts'
import { freePort } from '../load/free-port.ts'
import { PacedClient, quantile } from '../load/paced-client.ts'
import { XdsPlane } from '../load/xds-plane.ts'
import { bootstrap, type XdsSize } from '../load/xds-resources.ts'
import { type Bar, figure, type Table } from '../report.ts'
import { HEADGATE, headgate } from './headgate.ts'
import { REPOSITORY } from './node-peer.ts'
import { measureRounds, type Suite, type SuiteContext } from './suite.ts'

const SIZE: XdsSize = { clusters: 10_000, endpointsPerCluster: 6, virtualHosts: 1_000 }
const CHANGES = 400
const PAUSE_MS = 10
const RATE = 5_000
const CHURN = 1_000
const MIB = 1024 ** 2

const METHOD = `headgate with one worker, all its processes on one core, and a management server (delta ADS) on the other: ${SIZE.clusters} EDS
clusters with ${SIZE.endpointsPerCluster} endpoints each and as many routes in ${SIZE.virtualHosts} virtual hosts. Load: from starting the program to the
first answer by the last route. A change: from the wish to move all endpoints of one cluster until a client on a kept connection,
asking each millisecond, is answered by the new one; ${CHANGES} of them, ${PAUSE_MS} ms apart. The management server yields to the clients on its core. Churn: ${CHURN} changed assignments a second, and ${RATE}
requests a second of which each is due at its time. Loop: most CPU time between two turns of a worker's loop.`

const COLUMNS = [
  { key: 'loadS', title: 'first load, s', digits: 2, spread: true },
  { key: 'controlMiB', title: 'control, MiB', digits: 0 },
  { key: 'workerMiB', title: 'worker, MiB', digits: 0 },
  { key: 'loopMs', title: 'worker loop, ms', digits: 1, spread: true },
  { key: 'changeP50', title: 'change p50, ms', digits: 2 },
  { key: 'changeP99', title: 'change p99, ms', digits: 2, spread: true },
  { key: 'quietP99', title: 'requests p99 quiet, ms', digits: 2 },
  { key: 'churnP99', title: 'in churn, ms', digits: 2 },
  { key: 'churnFailures', title: 'failed in churn', digits: 0 },
  { key: 'applied', title: 'changes taken', digits: 0 },
  { key: 'swapFailures', title: 'failed in RDS swaps', digits: 0 },
]

const LIMITS: readonly (readonly [key: string, limit: number, unit: string])[] = [
  ['loadS', 6, 's'],
  ['controlMiB', 400, 'MiB'],
  ['workerMiB', 250, 'MiB'],
  ['loopMs', 20, 'ms'],
  ['changeP99', 10, 'ms'],
  ['churnFailures', 0, 'requests'],
  ['swapFailures', 0, 'requests'],
]

/** A large configuration over xDS: how fast it comes, what it takes, how fast a change is in force, and what traffic notices. */
export const xds: Suite = async (context) => {
  const missing = headgate(HEADGATE).missing()
  if (missing !== undefined) {
    return { suite: 'xds', method: METHOD, tables: [], bars: [], skipped: [{ name: HEADGATE, reason: missing }] }
  }
  const rows = await measureRounds([{ name: HEADGATE, measure: () => measure(context) }], context)
  const table: Table = { title: 'A large configuration over xDS', columns: COLUMNS, rows }
  return { suite: 'xds', method: METHOD, tables: [table], bars: barsOf(table), skipped: [] }
}

function barsOf(table: Table): Bar[] {
  const bars: Bar[] = LIMITS.flatMap(([key, limit, unit]) => {
    const value = figure(table, HEADGATE, key)
    const what = COLUMNS.find((column) => column.key === key)?.title ?? key
    return value === undefined ? [] : [{ what, value, limit, unit }]
  })
  const [quiet, churn] = [figure(table, HEADGATE, 'quietP99'), figure(table, HEADGATE, 'churnP99')]
  if (quiet !== undefined && churn !== undefined) {
    bars.push({ what: 'requests p99 in churn against quiet', value: churn / quiet, limit: 2, unit: '×' })
  }
  return bars
}

interface Parts {
  readonly plane: XdsPlane
  readonly listenPort: number
  readonly originPort: number
  readonly otherPort: number
}

async function measure(context: SuiteContext): Promise<Record<string, number>> {
  const { machine, folder: parent, originPort } = context.bench
  const folder = mkdtempSync(join(parent, 'xds-'))
  const listenPort = await freePort()
  const other = await answering('other')
  const plane = XdsPlane.start(machine, folder)
  let child: Child | undefined
  try {
    const { port } = await plane.ask({ kind: 'serve', size: SIZE, listenPort, originPort })
    const config = join(folder, 'bootstrap.json')
    writeFileSync(config, bootstrap(port, await freePort()))
    const begin = performance.now()
    child = new Child(
      {
        command: [process.execPath, join(REPOSITORY, 'lib', 'cli', 'main.ts'), 'run', '-c', config, '--workers', '1'],
        cores: machine.proxyCores,
        env: {
          ...process.env,
          HEADGATE_LOOP_WATCH: folder,
          NODE_OPTIONS: `--import=${join(import.meta.dirname, '..', 'load', 'loop-watch.mjs')}`,
        },
        stderrFile: join(folder, 'proxy.err'),
      },
      machine,
    )
    await served(child, listenPort)
    const loadS = (performance.now() - begin) / 1000
    child.noteDescendants()
    await pause(2000)
    const memory = memoryByKind(child.pid)
    const parts: Parts = { plane, listenPort, originPort, otherPort: portOf(other) }
    const changes = await measureChanges(parts)
    const traffic = await measureTraffic(parts, context)
    const loopMs = Number(readFileSync(join(folder, 'loop-worker'), 'utf8'))
    return { loadS, ...memory, loopMs, ...changes, ...traffic }
  } finally {
    await child?.stop()
    await plane.stop()
    other.close()
  }
}

/** Asked until the last route answers. */
async function served(child: Child, port: number): Promise<void> {
  const deadline = performance.now() + 60_000
  for (;;) {
    if (child.failure !== undefined) throw new Error(child.failure)
    const status = await statusOf(port)
    if (status === 200) return
    if (performance.now() > deadline) throw new Error(`no answer within 60 s (last: ${status})`)
    await pause(10)
  }
}

async function statusOf(port: number): Promise<number> {
  try {
    const asker = await Asker.open(port, `/c/${SIZE.clusters - 1}`, `host-${SIZE.virtualHosts - 1}.example`)
    const { status } = await asker.ask()
    asker.close()
    return status
  } catch {
    return 0
  }
}

function memoryByKind(root: number): { readonly controlMiB: number; readonly workerMiB: number } {
  const usage = readTree(root)
  const of = (kind: string): number => {
    const pid = processTree(root).find((candidate) => titleOf(candidate).startsWith(`headgate: ${kind}`))
    return pid === undefined ? Number.NaN : (usage.get(pid)?.rssBytes ?? Number.NaN) / MIB
  }
  return { controlMiB: of('control'), workerMiB: of('worker') }
}

function titleOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

async function measureChanges(parts: Parts): Promise<{ readonly changeP50: number; readonly changeP99: number }> {
  const { plane, listenPort, originPort, otherPort } = parts
  const times = new Float64Array(CHANGES)
  const asker = await Asker.open(listenPort, '/c/0')
  for (let i = 0; i < CHANGES; i++) {
    const toOther = i % 2 === 0
    const begin = performance.now()
    const sent = plane.ask({ kind: 'move', index: 0, port: toOther ? otherPort : originPort })
    while (((await asker.ask()).body === 'other') !== toOther) {
      if (performance.now() - begin > 10_000) throw new Error('a change is not in force after 10 s')
      await pause(1)
    }
    times[i] = performance.now() - begin
    await sent
    await pause(PAUSE_MS)
  }
  asker.close()
  const sorted = times.sort()
  return { changeP50: quantile(sorted, 0.5), changeP99: quantile(sorted, 0.99) }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

async function measureTraffic(parts: Parts, context: SuiteContext): Promise<Record<string, number>> {
  const { plane, listenPort } = parts
  const seconds = Math.max(5, context.options.seconds)
  const paced = (): PacedClient => new PacedClient(listenPort, () => '/c/0')
  await paced().run(RATE, 2)
  const quiet = await paced().run(RATE, seconds)
  await plane.ask({ kind: 'encode', changes: 2 * CHURN })
  const before = await plane.ask({ kind: 'tally' })
  const churning = plane.ask({ kind: 'churn', perSecond: CHURN, seconds })
  const churn = await paced().run(RATE, seconds)
  await churning
  await pause(1000)
  const after = await plane.ask({ kind: 'tally' })
  const swapping = paced().run(RATE / 5, 5)
  for (let generation = 1; generation <= 3; generation++) {
    await plane.ask({ kind: 'routes', generation })
    await pause(1200)
  }
  const swaps = await swapping
  if (quiet.failures > 0) throw new Error(`${quiet.failures} requests failed although nothing happened`)
  if (after.nacks > 0) throw new Error(`${after.nacks} updates were refused`)
  return {
    quietP99: quantile(quiet.latencies, 0.99),
    churnP99: quantile(churn.latencies, 0.99),
    churnFailures: churn.failures,
    applied: after.acks - before.acks,
    swapFailures: swaps.failures,
  }
}

async function answering(body: string): Promise<Server> {
  const answer = `HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`
  const server = createServer((socket) => {
    socket.on('data', () => socket.write(answer))
    socket.on('error', () => socket.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

function portOf(server: Server): number {
  return (server.address() as { port: number }).port
}
