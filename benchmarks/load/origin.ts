import { once } from 'node:events'
import { join } from 'node:path'
import { Child } from './child.ts'
import type { Machine } from './machine.ts'
import type { OriginCounts, OriginReady } from './origin-process.ts'

/** The running origin server; whoever started it calls `stop`. */
export class Origin {
  readonly port: number
  readonly #child: Child

  constructor(child: Child, port: number) {
    this.#child = child
    this.port = port
  }

  /** How many requests have been answered since it started, on how many connections. */
  async counts(): Promise<OriginCounts> {
    const answer = once(this.#child.process, 'message')
    this.#child.process.send('count')
    const [counts] = await answer
    return counts as OriginCounts
  }

  stop(): Promise<void> {
    return this.#child.stop()
  }
}

/** Starts the origin on a port of 127.0.0.1 that the kernel chooses, on the load cores. */
export async function startOrigin(machine: Machine, folder: string): Promise<Origin> {
  const script = join(import.meta.dirname, 'origin-process.ts')
  const stderrFile = join(folder, 'origin.err')
  const spec = { command: [process.execPath, script], cores: machine.loadCores, stderrFile, ipc: true }
  const child = new Child(spec, machine)
  const ready = await Promise.race([once(child.process, 'message'), child.exited])
  if (ready === undefined) throw new Error(`the origin did not start: ${child.failure}`)
  return new Origin(child, (ready[0] as OriginReady).port)
}
