import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import type { Machine } from '../load/machine.ts'
import { type Bar, figure, type Table } from '../report.ts'
import { HEADGATE, headgate } from './headgate.ts'
import type { RunningProxy } from './running-proxy.ts'
import { startProxy } from './running-proxy.ts'
import { measureLoaded, measureRounds, SMALL_GET, type Suite, type SuiteContext, type Unit } from './suite.ts'
import type { Variant } from './variant.ts'

const METHOD = `The same load on one worker and on two. Here the proxy may use every core, which it shares with load generator and
origin: two workers on one core would take turns, and whichever runs would get all. Memory of a worker that has had no
request, after three seconds of rest: its own pages, and its proportional share of those that all processes of Node have in common
(\`/proc/PID/smaps_rollup\`); its resident set counts the latter in full. Connections: the larger part of 200 that one of two
workers has got, when they come one after the other with a request each, when they come all at once, and of 64 under load.`

const TWO = 'headgate, 2 workers'
const CONNECTIONS = 200
const SETTLE_MS = 1000
/** What the start has left behind is collected when a worker has been idle for a while. */
const REST_MS = 3000

const COLUMNS = [
  { key: 'cpuUs', title: 'CPU µs per request', digits: 2, spread: true, ratio: true },
  { key: 'privateMib', title: 'own MiB per worker', digits: 1, spread: true },
  { key: 'pssMib', title: 'proportional MiB', digits: 1 },
  { key: 'rssMib', title: 'resident MiB', digits: 1 },
  { key: 'inTurn', title: 'in turn, %', digits: 0, spread: true },
  { key: 'atOnce', title: 'at once, %', digits: 0, spread: true },
  { key: 'loaded', title: 'under load, %', digits: 0, spread: true },
]

/** What a second worker costs, and whether it gets its part. */
export const workers: Suite = async (context) => {
  const variants = [headgate(HEADGATE), headgate(TWO, { workers: 2 })]
  const rows = await measureRounds(
    variants.map((variant) => unitOf(variant, context)),
    context,
  )
  const table: Table = { title: 'One worker and two', base: HEADGATE, columns: COLUMNS, rows }
  return { suite: 'workers', method: METHOD, tables: [table], bars: barsOf(table), skipped: context.skipped }
}

function barsOf(table: Table): Bar[] {
  const of = (variant: string, key: string): number => figure(table, variant, key) ?? Number.NaN
  const one = of(HEADGATE, 'cpuUs')
  const bars = [
    { what: 'CPU per request, two workers ÷ one', value: of(TWO, 'cpuUs') / one, limit: 1.1, unit: '×' },
    { what: 'memory of an idle worker', value: of(TWO, 'pssMib'), limit: 90, unit: 'MiB' },
    ...['inTurn', 'atOnce', 'loaded'].map((key) => {
      return { what: `connections at one of two workers, ${key}`, value: of(TWO, key), limit: 70, unit: '%' }
    }),
  ]
  return bars.filter(({ value }) => !Number.isNaN(value))
}

function unitOf(variant: Variant, context: SuiteContext): Unit {
  return {
    name: variant.name,
    measure: async () => {
      const proxy = await startProxy(variant, { ...context.bench, machine: allCores(context.bench.machine) })
      try {
        await settle(REST_MS)
        const pids = workersOf(proxy)
        const memory = memoryOf(pids)
        const values: Record<string, number> = { ...memory }
        if (pids.length > 1) {
          values.inTurn = await inTurn(proxy, pids)
          values.atOnce = await atOnce(proxy, pids)
        }
        const loaded = shareUnderLoad(pids)
        const use = await measureLoaded(proxy, SMALL_GET, context)
        values.cpuUs = (use.userUs + use.systemUs) / use.load.requests
        if (pids.length > 1) values.loaded = await loaded
        return values
      } finally {
        await proxy.stop()
      }
    },
  }
}

function allCores(machine: Machine): Machine {
  const cores = [machine.proxyCores, machine.loadCores].filter((part) => part !== undefined && part !== '')
  return { ...machine, proxyCores: cores.length === 0 ? undefined : cores.join(',') }
}

function workersOf(proxy: RunningProxy): number[] {
  return proxy.pids.filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('headgate: worker'))
}

/** The mean of the workers. */
function memoryOf(pids: readonly number[]): Record<'privateMib' | 'pssMib' | 'rssMib', number> {
  const sum = { privateMib: 0, pssMib: 0, rssMib: 0 }
  for (const pid of pids) {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
    const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1])
    sum.privateMib += (kib('Private_Clean') + kib('Private_Dirty')) / 1024 / pids.length
    sum.pssMib += kib('Pss') / 1024 / pids.length
    sum.rssMib += kib('Rss') / 1024 / pids.length
  }
  return sum
}

/** Per cent of the connections that the worker with the most has got. */
async function inTurn(proxy: RunningProxy, pids: readonly number[]): Promise<number> {
  const before = pids.map(socketsOf)
  const open: Socket[] = []
  for (let i = 0; i < CONNECTIONS; i++) {
    const socket = opened(proxy.port)
    open.push(socket)
    socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    await new Promise((resolve) => socket.once('data', resolve))
  }
  return largest(pids, before, open)
}

async function atOnce(proxy: RunningProxy, pids: readonly number[]): Promise<number> {
  const before = pids.map(socketsOf)
  const open = Array.from({ length: CONNECTIONS }, () => opened(proxy.port))
  await settle()
  return largest(pids, before, open)
}

/** Measured a second after the load has begun. */
async function shareUnderLoad(pids: readonly number[]): Promise<number> {
  const before = pids.map(socketsOf)
  await settle()
  return largest(pids, before, [])
}

function opened(port: number): Socket {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.on('data', () => {})
  return socket
}

async function largest(pids: readonly number[], before: readonly number[], open: readonly Socket[]): Promise<number> {
  const got = pids.map((pid, i) => Math.max(0, socketsOf(pid) - before[i]))
  for (const socket of open) socket.destroy()
  if (open.length > 0) await settle()
  return (100 * Math.max(...got)) / got.reduce((sum, each) => sum + each, 0)
}

function socketsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => isSocket(`/proc/${pid}/fd/${fd}`)).length
}

function isSocket(path: string): boolean {
  try {
    return readlinkSync(path).startsWith('socket:')
  } catch {
    return false
  }
}

function settle(ms = SETTLE_MS): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
