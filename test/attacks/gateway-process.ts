import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import http, { type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import type { Test } from 'tap'

const MAIN = join(import.meta.dirname, '../../lib/cli/main.ts')
const MIB = 1 << 20
const START_DEADLINE_MS = 30_000
/** Between two looks at the memory while something is watched. */
const SAMPLE_MS = 10

/**
 * The reference binary as its user starts it, with one worker unless `--workers` is among the flags, so that the worker's
 * memory is that of the gateway alone.
 */
export class GatewayProcess {
  /** Of the first worker. */
  readonly workerPid: number
  readonly #child: ChildProcess
  readonly #admin: string
  readonly #said: { text: string }

  private constructor(child: ChildProcess, admin: string, said: { text: string }) {
    this.#child = child
    this.#admin = admin
    this.#said = said
    this.workerPid = workerOf(child.pid ?? 0)
  }

  /** Ends with the test. `bootstrap` needs no admin; `flags` are more of the command `run`, `more` of the environment. */
  static async start(
    t: Test,
    bootstrap: object,
    flags: readonly string[] = [],
    more: NodeJS.ProcessEnv = {},
  ): Promise<GatewayProcess> {
    const file = join(t.testdir(), 'gateway.json')
    const admin = { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } }
    writeFileSync(file, JSON.stringify({ admin, ...bootstrap }))
    const args = ['--disable-sigusr1', MAIN, 'run', '--config', file, '--workers', '1', ...flags]
    const child = spawn(process.execPath, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...more },
    })
    const said = { text: '' }
    child.stderr?.on('data', (text) => {
      said.text += text
    })
    t.teardown(async () => {
      if (child.exitCode !== null) return
      child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), 2_000)
      await once(child, 'exit')
      clearTimeout(late)
    })
    return new GatewayProcess(child, await addressOfAdmin(child, said), said)
  }

  async port(listener: string): Promise<number> {
    const body = await this.ask('/listeners')
    const port = new RegExp(`^${listener}::127\\.0\\.0\\.1:(\\d+)$`, 'm').exec(body)?.[1]
    if (port === undefined) throw new Error(`no listener ${listener} in ${body}`)
    return Number(port)
  }

  /** SIGTERM; answers the exit status, once it has ended. */
  async terminate(): Promise<number | null> {
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    return (await ended)[0] as number | null
  }

  /** To its main process. */
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** Every counter and gauge. */
  async stats(): Promise<Stats> {
    const values = new Map<string, number>()
    for (const line of (await this.ask('/stats')).split('\n')) {
      const at = line.lastIndexOf(': ')
      const value = Number(line.slice(at + 2))
      if (at > 0 && !Number.isNaN(value)) values.set(line.slice(0, at), value)
    }
    return new Stats(values)
  }

  /** Polls until `done` holds of the statistics. */
  async until(done: (stats: Stats) => boolean, what: string, deadlineMs = 10_000): Promise<Stats> {
    const endMs = performance.now() + deadlineMs
    for (;;) {
      const stats = await this.stats()
      if (done(stats)) return stats
      if (performance.now() > endMs) throw new Error(`no ${what} within ${deadlineMs} ms`)
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }

  get supervisorPid(): number {
    return this.#child.pid ?? 0
  }

  /** Process ids of what is running, by name: `control`, `worker 0`. */
  processes(): ReadonlyMap<string, number> {
    return processesOf(this.#child.pid ?? 0)
  }

  /** Resident memory of the worker, MiB. Throws where it has died. */
  get rssMib(): number {
    return this.rssOf(this.workerPid)
  }

  /** Resident memory of one of its processes, MiB. Throws where it has died. */
  rssOf(pid: number): number {
    const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
    if (line === null) throw new Error(`process ${pid} has no memory any more`)
    return (Number(line[1]) * 1024) / MIB
  }

  /** How far the worker's memory rose above what it was, MiB, while `work` ran. */
  async growthDuring<T>(work: () => Promise<T>): Promise<{ readonly growthMib: number; readonly result: T }> {
    const before = this.rssMib
    let most = before
    const timer = setInterval(() => {
      most = Math.max(most, this.rssMib)
    }, SAMPLE_MS)
    try {
      const result = await work()
      return { growthMib: Math.max(most, this.rssMib) - before, result }
    } finally {
      clearInterval(timer)
    }
  }

  /** The first worker still runs, and nobody has reported an error. */
  get untouched(): boolean {
    return (
      this.#child.exitCode === null && workerOf(this.#child.pid ?? 0) === this.workerPid && this.errors.length === 0
    )
  }

  /** Lines of the log at level error. */
  get errors(): string[] {
    return this.#said.text.split('\n').filter((line) => /"level":"?(?:error|fatal|50|60)/.test(line))
  }

  /** Everything that its main process and its children have logged. */
  get said(): string {
    return this.#said.text
  }

  /** The body of an answer of the admin server. */
  async ask(path: string, method = 'GET'): Promise<string> {
    const request = http.request(`${this.#admin}${path}`, { agent: false, method }).end()
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    let body = ''
    for await (const chunk of response) body += chunk
    return body
  }
}

/** A snapshot of the statistics. A misspelled name throws. */
export class Stats {
  readonly #values: ReadonlyMap<string, number>

  constructor(values: ReadonlyMap<string, number>) {
    this.#values = values
  }

  get(name: string): number {
    const value = this.#values.get(name)
    if (value === undefined) throw new Error(`no statistic ${name}`)
    return value
  }

  /** Where nothing has been counted yet. */
  orZero(name: string): number {
    return this.#values.get(name) ?? 0
  }

  /** Names that match and are not 0, with their values. */
  nonzero(pattern: RegExp): Record<string, number> {
    return Object.fromEntries([...this.#values].filter(([name, value]) => pattern.test(name) && value !== 0))
  }
}

async function addressOfAdmin(child: ChildProcess, said: { readonly text: string }): Promise<string> {
  const endMs = performance.now() + START_DEADLINE_MS
  for (;;) {
    const line = said.text.split('\n').find((l) => l.includes('"msg":"ready"') && l.endsWith('}'))
    if (line !== undefined) return `http://${(JSON.parse(line) as { admin: string }).admin}`
    if (child.exitCode !== null || performance.now() > endMs) throw new Error(`the gateway did not start: ${said.text}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** The first worker among the children of the supervisor. */
function workerOf(supervisor: number): number {
  const pid = processesOf(supervisor).get('worker 0')
  if (pid === undefined) throw new Error('no worker is running')
  return pid
}

function processesOf(supervisor: number): ReadonlyMap<string, number> {
  const children = readFileSync(`/proc/${supervisor}/task/${supervisor}/children`, 'utf8').trim().split(' ').map(Number)
  const found = new Map<string, number>()
  for (const pid of children) {
    const name = /^headgate: ([^\0]*)/.exec(commandLine(pid))?.[1].trim()
    if (name !== undefined) found.set(name, pid)
  }
  return found
}

/** '' where it has ended meanwhile. */
function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}
