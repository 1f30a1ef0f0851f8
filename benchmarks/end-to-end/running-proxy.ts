import { mkdtempSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { type CpuUse, cpuBetween, readTree, rssOf } from '../load/accounting.ts'
import { Child } from '../load/child.ts'
import { fetchOnce } from '../load/client.ts'
import type { Machine } from '../load/machine.ts'
import type { Variant } from './variant.ts'

/** Where a proxy is started. */
export interface Bench {
  readonly machine: Machine
  /** Temporary folder of the run; removed by whoever made it. */
  readonly folder: string
  readonly originPort: number
}

/** Choices for one start. */
export interface StartOptions {
  readonly log?: boolean
  readonly routes?: number
  readonly env?: Readonly<Record<string, string>>
  /** Path of the first request; it must be answered with 200. */
  readonly probePath?: string
}

/** A proxy that has answered its first request. Whoever started it ends it with `stop`. */
export class RunningProxy {
  readonly port: number
  /** Milliseconds from starting the program to the end of its first answer. */
  readonly startMs: number
  readonly #child: Child

  constructor(child: Child, port: number, startMs: number) {
    this.#child = child
    this.port = port
    this.startMs = startMs
  }

  get rssBytes(): number {
    return rssOf(this.#child.pid)
  }

  /** CPU of the proxy and all its processes while `work` runs. Throws when one of them ends meanwhile. */
  async cpuDuring<T>(work: () => Promise<T>): Promise<{ readonly cpu: CpuUse; readonly result: T }> {
    const before = readTree(this.#child.pid)
    const result = await work()
    const after = readTree(this.#child.pid)
    if (this.#child.failure !== undefined) throw new Error(this.#child.failure)
    return { cpu: cpuBetween(before, after), result }
  }

  /** Asks it to end; after `graceMs` it is killed. */
  stop(graceMs?: number): Promise<void> {
    return this.#child.stop(graceMs)
  }
}

const START_DEADLINE_MS = 30_000

/** Starts a variant pinned to the proxy's core and waits for its first good answer. Throws with the program's own words. */
export async function startProxy(variant: Variant, bench: Bench, options: StartOptions = {}): Promise<RunningProxy> {
  const folder = mkdtempSync(join(bench.folder, 'proxy-'))
  const listenPort = await freePort()
  const logFile = options.log === true ? join(folder, 'access.log') : undefined
  const task = { listenPort, originPort: bench.originPort, logFile, folder, routes: options.routes }
  const start = variant.prepare(task, bench.machine)
  const env = { ...(start.env ?? process.env), ...options.env }
  const begin = performance.now()
  const stderrFile = join(folder, 'proxy.err')
  const child = new Child({ ...start, env, cores: bench.machine.proxyCores, stderrFile }, bench.machine)
  try {
    await firstAnswer(child, listenPort, options.probePath ?? '/')
    const startMs = performance.now() - begin
    child.noteDescendants()
    if (variant.floor !== true && options.probePath === undefined) await checkForwarding(listenPort)
    return new RunningProxy(child, listenPort, startMs)
  } catch (error) {
    await child.stop()
    throw error
  }
}

async function firstAnswer(child: Child, port: number, path: string): Promise<void> {
  const deadline = performance.now() + START_DEADLINE_MS
  for (;;) {
    if (child.failure !== undefined) throw new Error(child.failure)
    const answer = await fetchOnce(port, path).catch(() => undefined)
    if (answer?.status === 200) return
    if (performance.now() > deadline)
      throw new Error(`no answer 200 within 30 s (last status: ${answer?.status ?? 'none'})`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

/** All peers do the same work: the origin must see the client's address and a request id. */
async function checkForwarding(port: number): Promise<void> {
  const { body } = await fetchOnce(port, '/_/headers')
  if (!/^x-forwarded-for: *127\.0\.0\.1\r$/im.test(body)) throw new Error('the origin got no X-Forwarded-For')
  if (!/^x-request-id: *[0-9a-f-]{32,36}\r$/im.test(body)) throw new Error('the origin got no X-Request-Id')
}

/** A port of 127.0.0.1 that was free a moment ago: programs cannot all tell which port 0 became. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no TCP address')
  return address.port
}
