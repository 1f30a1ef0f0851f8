import { once } from 'node:events'
import { join } from 'node:path'
import { Child } from '../child.ts'
import type { Machine } from '../machine.ts'

/**
 * `ping-pong`: each stream sends a gRPC message of 16 bytes, and the next one when it has its echo, until it is stopped.
 * `events`: each stream sends a GET and expects `events` events (event-clock.ts), then its end.
 */
export interface StreamsTask {
  readonly kind: 'ping-pong' | 'events'
  readonly port: number
  readonly path: string
  readonly connections: number
  /** On each connection. */
  readonly streams: number
  readonly events?: number
}

export type StreamsQuestion = StreamsTask | 'count' | 'stop'

export interface StreamsCounts {
  /** Echoes or events that have come, each of them as it has to be. */
  readonly messages: number
  /** Streams that have had their first one. */
  readonly started: number
  /** Streams that the other side has ended in order. */
  readonly ended: number
  readonly failures: number
  readonly firstFailure: string
}

/** The running client; whoever started it calls `close`. */
export class Streams {
  readonly #child: Child
  readonly #total: number

  constructor(child: Child, total: number) {
    this.#child = child
    this.#total = total
  }

  /** What has come so far. Throws as soon as anything has failed. */
  count(): Promise<StreamsCounts> {
    return this.#ask('count')
  }

  /** Ends the requests of all streams that send. */
  async stop(): Promise<void> {
    await this.#ask('stop')
  }

  /** Resolves when so many of the streams as there are have `started` or `ended`. Throws after `deadlineMs`. */
  async all(what: 'started' | 'ended', deadlineMs: number): Promise<StreamsCounts> {
    const deadline = performance.now() + deadlineMs
    for (;;) {
      const counts = await this.count()
      if (counts[what] === this.#total) return counts
      if (performance.now() > deadline)
        throw new Error(`${counts[what]} of ${this.#total} streams had ${what} after ${deadlineMs / 1000} s`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  close(): Promise<void> {
    return this.#child.stop()
  }

  async #ask(question: StreamsQuestion): Promise<StreamsCounts> {
    const answer = once(this.#child.process, 'message')
    this.#child.process.send(question)
    const reply = await Promise.race([answer, this.#child.exited])
    if (reply === undefined) throw new Error(`the streams' client ${this.#child.failure}`)
    const counts = reply[0] as StreamsCounts
    if (counts.failures > 0) throw new Error(`${counts.failures} failures of streams: ${counts.firstFailure}`)
    return counts
  }
}

/** Opens the streams from a fresh process on the load cores. */
export function startStreams(task: StreamsTask, machine: Machine, folder: string): Streams {
  const script = join(import.meta.dirname, 'streams-process.ts')
  const stderrFile = join(folder, 'streams.err')
  const spec = { command: [process.execPath, script], cores: machine.loadCores, stderrFile, ipc: true }
  const child = new Child(spec, machine)
  child.process.send(task)
  return new Streams(child, task.connections * task.streams)
}
