import { Agent, createServer, request, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/**
 * The failover experiment: endpoints of which one fails for part of every period, under requests at a constant rate,
 * each at its time whether others are late or not.
 */

/** How an endpoint fails: connections refused and reset, an error at once, or no answer, ever. */
export type Sickness = 'refusing' | 'errors' | 'hanging'

export const SICKNESSES: readonly Sickness[] = Object.freeze(['refusing', 'errors', 'hanging'])

/** An endpoint that can be made sick. */
export class Endpoint {
  readonly #server: Server
  #port = 0
  #sick: Sickness | undefined = undefined
  #hanging = new Set<ServerResponse>()
  /** When it answered well, in milliseconds of `performance.now`. */
  readonly served: number[] = []
  /** Requests that reached it while it was sick. */
  seenSick = 0

  private constructor() {
    this.#server = createServer((_request, response) => this.#answer(response))
    this.#server.keepAliveTimeout = 60_000
  }

  static async start(): Promise<Endpoint> {
    const endpoint = new Endpoint()
    await endpoint.#listen()
    return endpoint
  }

  get port(): number {
    return this.#port
  }

  async fallSick(how: Sickness): Promise<void> {
    this.#sick = how
    if (how !== 'refusing') return
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.#server.closeAllConnections()
    await closed
  }

  async recover(): Promise<void> {
    const before = this.#sick
    this.#sick = undefined
    if (before === 'refusing') await this.#listen()
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections()
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve))
  }

  #listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(this.#port, '127.0.0.1', () => {
        this.#server.off('error', reject)
        this.#port = (this.#server.address() as AddressInfo).port
        resolve()
      })
    })
  }

  #answer(response: ServerResponse): void {
    if (this.#sick !== undefined) this.seenSick++
    if (this.#sick === 'hanging') {
      this.#hanging.add(response)
      response.on('close', () => this.#hanging.delete(response))
      return
    }
    if (this.#sick === 'errors') response.statusCode = 500
    else this.served.push(performance.now())
    response.setHeader('content-length', '2')
    response.end('ok')
  }
}

export interface FailoverPlan {
  readonly sickness: Sickness
  /** Of the proxy. */
  readonly port: number
  readonly endpoints: readonly Endpoint[]
  readonly perSecond: number
  readonly periods: number
  /** Each period is well first, then sick for as long. */
  readonly periodMs: number
}

export interface FailoverResult {
  readonly requests: number
  readonly failed: number
  /** In percent of all requests. */
  readonly failedPercent: number
  /** Milliseconds from each recovery to the first answer of the one that had failed; -1: none until the next failure. */
  readonly backAfterMs: readonly number[]
  /** Requests that the sick one got, in percent of an equal share of those of the time; -1: they did not reach it. */
  readonly sickSharePercent: number
}

/** Runs it; the first endpoint is the one that fails. */
export async function failover(plan: FailoverPlan): Promise<FailoverResult> {
  const { endpoints, periods, periodMs, perSecond } = plan
  const [sick] = endpoints
  const agent = new Agent({ keepAlive: true, maxSockets: 2_000 })
  const pending: Promise<boolean>[] = []
  const total = Math.round((periods * periodMs * perSecond) / 1000)
  const recoveries: number[] = []
  const begin = performance.now()
  let next = 1
  while (pending.length < total) {
    const elapsed = performance.now() - begin
    const due = Math.min(total, Math.floor((elapsed / 1000) * perSecond))
    while (pending.length < due) pending.push(ask(plan.port, agent))
    // The seconds of health come first, and end with the recovery: `next` counts halves.
    if (elapsed >= (next * periodMs) / 2) {
      if (next++ % 2 === 1) await sick.fallSick(plan.sickness)
      else {
        await sick.recover()
        recoveries.push(performance.now())
      }
    }
    await pause(1)
  }
  // One more half period of quiet traffic, which is not counted: the last recovery is to be seen as well.
  await sick.recover()
  if (recoveries.length < periods) recoveries.push(performance.now())
  const after: Promise<boolean>[] = []
  const last = performance.now()
  while (performance.now() - last < periodMs / 2) {
    after.push(ask(plan.port, agent))
    await pause(1000 / perSecond)
  }
  // What hangs until now has failed, whenever its timeout comes.
  agent.destroy()
  const answers = await Promise.all(pending)
  await Promise.all(after)
  const failed = answers.filter((well) => !well).length
  const share = total / 2 / endpoints.length
  return {
    requests: total,
    failed,
    failedPercent: (failed / total) * 100,
    backAfterMs: recoveries.map((at) => (sick.served.find((time) => time > at) ?? at - 1) - at),
    sickSharePercent: plan.sickness === 'refusing' ? -1 : (sick.seenSick / share) * 100,
  }
}

/** What came of it, on one line. */
export function describe({ requests, failed, failedPercent, backAfterMs, sickSharePercent }: FailoverResult): string {
  const back = backAfterMs.map((ms) => Math.round(ms)).join(' ')
  const share = sickSharePercent < 0 ? '' : `, ${sickSharePercent.toFixed(1)} % of an equal share while sick`
  return `${failed} of ${requests} failed (${failedPercent.toFixed(2)} %), back after ${back} ms${share}`
}

/** True: it was answered well. */
function ask(port: number, agent: Agent): Promise<boolean> {
  return new Promise((resolve) => {
    const out = request({ port, host: '127.0.0.1', agent, path: '/', timeout: 30_000 }, (response) => {
      response.resume()
      response.on('close', () => resolve(response.statusCode === 200 && response.complete))
    })
    out.on('error', () => resolve(false))
    out.on('timeout', () => out.destroy())
    out.end()
  })
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
