import type { ChildProcess } from 'node:child_process'
import type { Cancel, Clock } from '../core/clock.ts'
import type { Log } from '../core/metrics.ts'

/** The next one is not begun while the last one, in somebody's place, needs the processor. */
const REFILL_MS = 5000

export interface SpareOptions {
  readonly clock: Clock
  readonly log: Log
  /** A process that has been begun as any worker is; undefined where none can be had now. */
  fork(): ChildProcess | undefined
}

/**
 * A worker process in reserve: its modules are loaded, it has been told nothing and does nothing. Whoever needs a worker takes
 * it, and another one is begun a little later.
 */
export class SpareWorker {
  readonly #options: SpareOptions
  #child: ChildProcess | undefined
  #cancel: Cancel = () => {}
  #stopped = false

  constructor(options: SpareOptions) {
    this.#options = options
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  start(): void {
    this.#cancel()
    if (this.#stopped || this.#child !== undefined) return
    const child = this.#options.fork()
    if (child?.pid === undefined) {
      // It tells of the reason by an event, if there is a process at all.
      child?.on('error', (error) => this.#options.log.warn(`spare worker: ${error.message}`))
      this.#later()
      return
    }
    this.#child = child
    child.on('error', this.#failed)
    child.on('exit', this.#ended)
  }

  /** The process is the caller's from now on. Undefined where there is none at the moment. */
  take(): ChildProcess | undefined {
    const child = this.#child
    if (child === undefined || !child.connected) return undefined
    this.#child = undefined
    child.off('error', this.#failed)
    child.off('exit', this.#ended)
    this.#later()
    return child
  }

  /** It ends, and there will be no other. */
  stop(): void {
    this.#stopped = true
    this.#cancel()
    this.#child?.kill('SIGKILL')
  }

  #later(): void {
    this.#cancel()
    this.#cancel = this.#options.clock.schedule(REFILL_MS, () => this.start())
  }

  readonly #failed = (error: Error): void => {
    this.#options.log.warn(`spare worker: ${error.message}`)
  }

  readonly #ended = (code: number | null, signal: string | null): void => {
    this.#child = undefined
    if (this.#stopped) return
    this.#options.log.warn('the spare worker has ended; there will be another', { code, signal })
    this.#later()
  }
}
