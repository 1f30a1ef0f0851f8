import type { ChildProcess } from 'node:child_process'
import { fork } from 'node:child_process'
import type { Cancel, Clock } from '../core/clock.ts'
import type { Log } from '../core/metrics.ts'
import { Heartbeat } from './heartbeat.ts'
import type { Watchdog } from './watchdog.ts'

const FIRST_DELAY_MS = 100
const LAST_DELAY_MS = 5000
/** A child that lived that long has not failed at the start: the next one starts at once, and delays begin anew after it. */
const STABLE_MS = 10_000
/** A child that had settled is replaced at once so often within `LOOP_MS`, however short its life was. */
const FREE_ENDS = 3
/** So many ends within so long are told as what they are; it is started again all the same. */
const LOOP_ENDS = 5
const LOOP_MS = 60_000

/** No inspector by signal. */
const CHILD_FLAGS: readonly string[] = ['--disable-sigusr1']

export interface SlotOptions {
  /** For logs: `control`, `worker 0`. */
  readonly name: string
  /** Module that the child runs. */
  readonly entry: string
  /** Of the runtime, beside those of all children. */
  readonly flags: readonly string[]
  readonly clock: Clock
  readonly log: Log
  /** A process that has been begun for this entry already, if there is one. */
  take?(): ChildProcess | undefined
  /** How long it may say nothing once it has begun to speak, before it is killed: its event loop no longer turns. */
  readonly silenceMs: number
  /** Says otherwise when it is killed, and counts how often it is late, under that name. */
  readonly watchdog?: { readonly of: Watchdog; readonly name: string }
  started(): void
  /** All but the answers to pings. */
  message(message: unknown): void
  /** It was killed for its silence; `ended` follows. */
  silent?(): void
  /** After each end, before the next start is scheduled; false: no next start. */
  ended(code: number | null, signal: string | null): boolean
}

/**
 * Keeps one child process running, and kills one whose event loop has stopped turning.
 *
 * ```
 * start() ─▶ running ──exit──▶ waiting 100 ms, doubled each time up to 5 s ──▶ running
 *               │ retire()     (nothing after a life of 10 s,  │ retire()
 *               │               or thrice a minute where it    │
 *               │               had settled)                   │
 *               ▼                                              ▼
 *             ending ──exit──▶ ended ◀─────────────────────────┘
 * ```
 */
export class ChildSlot {
  readonly #options: SlotOptions
  #child: ChildProcess | undefined
  #delayMs = FIRST_DELAY_MS
  #startedMs = 0
  #cancelStart: Cancel | undefined
  #retired = false
  #heart: Heartbeat | undefined
  /** This child has come to do its work. */
  #settled = false
  /** When it ended of late. */
  #lately: number[] = []
  /** How often the child has ended. */
  ends = 0
  readonly ended: Promise<void>
  readonly #resolveEnded: () => void

  constructor(options: SlotOptions) {
    this.#options = options
    const { promise, resolve } = Promise.withResolvers<void>()
    this.ended = promise
    this.#resolveEnded = resolve
  }

  get running(): boolean {
    return this.#child !== undefined
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  start(): void {
    this.#cancelStart = undefined
    if (this.#retired) return
    this.#startedMs = this.#options.clock.now()
    this.#settled = false
    const child = this.#options.take?.() ?? this.#fork()
    if (child === undefined) {
      this.#over(null, null)
      return
    }
    this.#child = child
    const heart = this.#beat(child)
    child.on('message', (message) => {
      if (this.#child !== child) return
      heart.heard()
      if ((message as { kind?: unknown }).kind !== 'pong') this.#options.message(message)
    })
    child.on('error', (error) => {
      this.#options.log.error(`${this.#options.name}: ${error.message}`)
      // It could not be started at all; no other event follows.
      if (child.pid === undefined) this.#closed(child, null, null)
    })
    // `close` comes after the last message of the child, but never where this side has closed the channel.
    child.once('close', (code, signal) => this.#closed(child, code, signal))
    child.once('exit', (code, signal) => {
      if (!child.connected) this.#closed(child, code, signal)
    })
    this.#options.started()
  }

  #fork(): ChildProcess | undefined {
    const { name, entry, flags, log } = this.#options
    return forkChild(name, { entry, flags, log })
  }

  #beat(child: ChildProcess): Heartbeat {
    const { name, clock, log, silenceMs, watchdog } = this.#options
    this.#heart = new Heartbeat({
      clock,
      limitMs: silenceMs,
      watched: watchdog?.of.watch(watchdog.name),
      ping: () => this.send({ kind: 'ping' }),
      lost: () => {
        log.error(`${name} does not answer and is killed`, { pid: child.pid })
        this.#options.silent?.()
        child.kill('SIGKILL')
      },
    })
    return this.#heart
  }

  /** Dropped where the child is gone: whoever waits for its answer learns of its end otherwise. */
  send(message: object, handle?: unknown): void {
    if (this.#child?.connected === true) this.#child.send(message, handle as never, { keepOpen: true }, () => {})
  }

  /** The child does its work: should it end now, that is no failed start. */
  settled(): void {
    this.#settled = true
  }

  /** No more starts. `ended` resolves when the process, if one runs, is gone. */
  retire(): void {
    this.#retired = true
    this.#cancelStart?.()
    if (this.#child === undefined) this.#resolveEnded()
  }

  /** Closes the channel, which control takes as its order to end. */
  disconnect(): void {
    if (this.#child?.connected === true) this.#child.disconnect()
  }

  kill(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  #closed(child: ChildProcess, code: number | null, signal: string | null): void {
    if (this.#child !== child) return
    this.#child = undefined
    this.#heart?.stop()
    this.#over(code, signal)
  }

  /** It has ended, or there was none. */
  #over(code: number | null, signal: string | null): void {
    this.ends++
    const again = this.#options.ended(code, signal) && !this.#retired
    if (!again) {
      this.#retired = true
      this.#resolveEnded()
      return
    }
    const delayMs = this.#nextDelay()
    this.#options.log.warn(`${this.#options.name} has ended and is started again`, { code, signal, delayMs })
    this.#cancelStart = this.#options.clock.schedule(delayMs, () => this.start())
  }

  #nextDelay(): number {
    const { name, clock, log } = this.#options
    const nowMs = clock.now()
    this.#lately = [...this.#lately.filter((endMs) => nowMs - endMs < LOOP_MS), nowMs]
    if (this.#lately.length >= LOOP_ENDS) {
      log.error(`${name} ends again and again; it is started again all the same`, { ends: this.#lately.length })
    }
    if (nowMs - this.#startedMs > STABLE_MS) {
      this.#delayMs = FIRST_DELAY_MS
      return 0
    }
    if (this.#settled && this.#lately.length <= FREE_ENDS) return 0
    const delayMs = this.#delayMs
    this.#delayMs = Math.min(delayMs * 2, LAST_DELAY_MS)
    return delayMs
  }
}

/** A process of ours. Undefined: there cannot be another one now; some reasons come as an event and some (no memory) are thrown. */
export function forkChild(
  name: string,
  { entry, flags, log }: Pick<SlotOptions, 'entry' | 'flags' | 'log'>,
): ChildProcess | undefined {
  try {
    return fork(entry, [], { execPath: process.execPath, execArgv: [...CHILD_FLAGS, ...flags] })
  } catch (error) {
    log.error(`${name}: ${(error as Error).message}`)
    return undefined
  }
}
