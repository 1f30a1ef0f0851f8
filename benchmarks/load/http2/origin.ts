import { once } from 'node:events'
import { join } from 'node:path'
import { Child } from '../child.ts'
import type { Machine } from '../machine.ts'
import type { OriginCounts } from '../origin-process.ts'

/** What the origin does with every request; see origin-process.ts. */
export type OriginAnswers = 'small' | 'echo' | 'bytes' | 'events'

export type OriginQuestion = 'count' | 'headers'

export interface OriginReply {
  readonly counts?: OriginCounts
  readonly headers?: string
}

/** The running HTTP/2 origin; whoever started it calls `stop`. */
export class Http2Origin {
  readonly port: number
  readonly #child: Child

  constructor(child: Child, port: number) {
    this.#child = child
    this.port = port
  }

  /** How many requests have arrived completely since it started, on how many connections. */
  async counts(): Promise<OriginCounts> {
    return (await this.#ask('count')).counts!
  }

  /** Header lines of the last request that came in the first 4 KiB of a connection. */
  async headers(): Promise<string> {
    return (await this.#ask('headers')).headers!
  }

  stop(): Promise<void> {
    return this.#child.stop()
  }

  async #ask(question: OriginQuestion): Promise<OriginReply> {
    const answer = once(this.#child.process, 'message')
    this.#child.process.send(question)
    const [reply] = await answer
    return reply as OriginReply
  }
}

/** Starts the origin on a port of 127.0.0.1 that the kernel chooses, on the load cores. */
export async function startHttp2Origin(machine: Machine, folder: string, answers: OriginAnswers): Promise<Http2Origin> {
  const script = join(import.meta.dirname, 'origin-process.ts')
  const stderrFile = join(folder, 'http2-origin.err')
  const spec = { command: [process.execPath, script, answers], cores: machine.loadCores, stderrFile, ipc: true }
  const child = new Child(spec, machine)
  const ready = await Promise.race([once(child.process, 'message'), child.exited])
  if (ready === undefined) throw new Error(`the HTTP/2 origin did not start: ${child.failure}`)
  return new Http2Origin(child, (ready[0] as { port: number }).port)
}
