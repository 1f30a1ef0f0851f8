import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { type CpuUse, cpuBetween, processTree, readTree, rssOf } from '../load/accounting.ts'
import type { Certificate } from '../load/certificate.ts'
import { Child } from '../load/child.ts'
import { type Answer, fetchOnce } from '../load/client.ts'
import { freePort } from '../load/free-port.ts'
import { fetchHttp2, type Http2Answer, type Http2Request } from '../load/http2/client.ts'
import type { Machine } from '../load/machine.ts'
import { PLAIN_HTTP1, type ProxyTask, type Traffic, type Variant } from './variant.ts'

/** Where a proxy is started. */
export interface Bench {
  readonly machine: Machine
  /** Temporary folder of the run; removed by whoever made it. */
  readonly folder: string
  readonly originPort: number
  /** What variants with TLS serve. */
  readonly certificate: Certificate
  /** Header lines of the request that the origin got last; set where the origin cannot send them back itself. */
  readonly seenHeaders?: () => Promise<string>
}

/** A first request that is more than a GET, over HTTP/2. */
export interface Probe {
  readonly request: Http2Request
  /** Throws when the answer, whose status is 200, is not as it should be. */
  check(answer: Http2Answer): void
}

/** Choices for one start. */
export interface StartOptions {
  readonly log?: boolean
  readonly routes?: number
  readonly chains?: number
  readonly env?: Readonly<Record<string, string>>
  /** Path of the first request; it must be answered with 200. */
  readonly probePath?: string
  /** Takes the place of a GET for `probePath`. */
  readonly probe?: Probe
  /** Default: HTTP/1 on both sides. */
  readonly traffic?: Traffic
  readonly longLived?: boolean
}

/** A proxy that has answered its first request. Whoever started it ends it with `stop`. */
export class RunningProxy {
  readonly port: number
  /** Milliseconds from starting the program to the end of its first answer. */
  readonly startMs: number
  readonly traffic: Traffic
  readonly #child: Child

  constructor(child: Child, task: { readonly listenPort: number; readonly traffic: Traffic }, startMs: number) {
    this.#child = child
    this.port = task.listenPort
    this.traffic = task.traffic
    this.startMs = startMs
  }

  /** Of all its processes. */
  get pids(): readonly number[] {
    return processTree(this.#child.pid)
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
  const { traffic = PLAIN_HTTP1, routes, chains, longLived } = options
  const { layer4 } = traffic
  const certificate = traffic.tls === true || layer4 === 'hbone' ? bench.certificate : undefined
  const secondPort = layer4 === undefined || layer4 === 'tcp' ? undefined : await freePort()
  const ports = { listenPort, secondPort, originPort: bench.originPort }
  const task: ProxyTask = { ...ports, logFile, folder, routes, chains, traffic, certificate, longLived }
  const start = variant.prepare(task, bench.machine)
  const env = { ...(start.env ?? process.env), ...options.env }
  const begin = performance.now()
  const stderrFile = join(folder, 'proxy.err')
  const child = new Child({ ...start, env, cores: bench.machine.proxyCores, stderrFile }, bench.machine)
  try {
    await firstAnswer(child, (path) => ask(listenPort, path, options))
    const startMs = performance.now() - begin
    child.noteDescendants()
    if (variant.floor !== true && layer4 === undefined && !answersItself(options)) {
      checkForwarding(await seenHeaders(listenPort, bench, options), variant)
    }
    return new RunningProxy(child, task, startMs)
  } catch (error) {
    await child.stop()
    throw error
  }
}

/** The request that tells whether the proxy serves: a GET for `path`, or the probe. */
async function ask(port: number, path: string | undefined, options: StartOptions): Promise<Answer> {
  const { probe, traffic = PLAIN_HTTP1, probePath = '/' } = options
  if (traffic.client === 'http1') return fetchOnce(port, path ?? probePath, traffic.tls)
  if (probe === undefined || path !== undefined)
    return fetchHttp2(port, { method: 'GET', path: path ?? probePath, tls: traffic.tls })
  const answer = await fetchHttp2(port, { ...probe.request, tls: traffic.tls })
  if (answer.status === 200) probe.check(answer)
  return answer
}

async function firstAnswer(child: Child, request: (path?: string) => Promise<Answer>): Promise<void> {
  const deadline = performance.now() + START_DEADLINE_MS
  for (;;) {
    if (child.failure !== undefined) throw new Error(child.failure)
    let last = 'none'
    try {
      const { status } = await request()
      if (status === 200) return
      last = `status ${status}`
    } catch (error) {
      last = error instanceof Error ? error.message : String(error)
    }
    if (performance.now() > deadline) throw new Error(`no answer 200 within 30 s (last: ${last})`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

/** Whether the first answer is the proxy's own, or the origin's to a path that tells nothing. */
function answersItself({ probePath, chains }: StartOptions): boolean {
  return probePath !== undefined || chains !== undefined
}

/** The header lines that reach the origin. */
async function seenHeaders(port: number, bench: Bench, options: StartOptions): Promise<string> {
  if (bench.seenHeaders === undefined) return (await ask(port, '/_/headers', options)).body
  await ask(port, undefined, options)
  return bench.seenHeaders()
}

/**
 * All peers do the same work: the origin must see the client's address and a request id. For a client on the loopback
 * interface Envoy puts the machine's own address, so any will do.
 */
function checkForwarding(lines: string, variant: Variant): void {
  if (!/^x-forwarded-for: *\d+\.\d+\.\d+\.\d+\r$/im.test(lines)) throw new Error('the origin got no X-Forwarded-For')
  if (variant.noRequestId === true) return
  if (!/^x-request-id: *[0-9a-f-]{32,36}\r$/im.test(lines)) throw new Error('the origin got no X-Request-Id')
}
