import type { Attempt, UpstreamEvents, UpstreamStream } from '../core/attempt.ts'
import type { Failure } from '../core/failure.ts'
import type { Headers } from '../core/headers.ts'
import type { RoomWait } from '../core/lease.ts'
import type { HostPool } from './host.ts'

/** Whom it waits for. */
export interface StreamKeeper {
  /** It was cancelled. */
  abandon(stream: AutoStream): void
}

/**
 * Opens an attempt behind a wait: the gateway is asked for room that is not here. What is written meanwhile is kept,
 * under back-pressure.
 */
export function openLater(
  asked: RoomWait,
  attempt: Attempt,
  events: UpstreamEvents,
  pool: Pick<HostPool, 'open'>,
): UpstreamStream {
  const stream = new AutoStream(attempt, events, NOBODY)
  asked.follow(() => stream.handOver(pool))
  return stream
}

const NOBODY: StreamKeeper = Object.freeze({ abandon() {} })

/** One attempt that waits until it can be opened; from then on a mere passage to the stream it became. */
export class AutoStream implements UpstreamStream {
  readonly attempt: Attempt
  readonly #events: UpstreamEvents
  readonly #keeper: StreamKeeper
  #inner: UpstreamStream | undefined = undefined
  #waiting = true
  #queue: Buffer[] = []
  #end = false
  #trailers: Headers | undefined = undefined
  #paused = false

  constructor(attempt: Attempt, events: UpstreamEvents, keeper: StreamKeeper) {
    this.attempt = attempt
    this.#events = events
    this.#keeper = keeper
  }

  /** The attempt begins on the pool of the protocol that it is; unless it was cancelled meanwhile. */
  handOver(pool: Pick<HostPool, 'open'>): void {
    if (!this.#waiting) return
    this.#waiting = false
    const queue = this.#queue
    const trailers = this.#trailers
    this.#queue = []
    const inner = pool.open(this.attempt, this.#events)
    this.#inner = inner
    if (inner === undefined) return
    if (this.#paused) inner.pause()
    let more = true
    for (let i = 0; i < queue.length; i++) {
      more = inner.write(queue[i], this.#end && trailers === undefined && i === queue.length - 1)
    }
    if (trailers !== undefined) inner.trailers(trailers)
    else if (queue.length > 0 && more && !this.#end) this.#events.onDrain()
  }

  fail(why: Failure, detail: string | undefined): void {
    if (!this.#waiting) return
    this.#waiting = false
    this.#queue = []
    this.#events.onReset(why, detail)
  }

  write(chunk: Buffer, end: boolean): boolean {
    if (!this.#waiting) return this.#inner?.write(chunk, end) ?? true
    this.#queue.push(chunk)
    this.#end = end
    return false
  }

  settled(): boolean {
    return !this.#waiting && this.#inner?.settled?.() === true
  }

  get pendingBytes(): number | undefined {
    if (!this.#waiting) return this.#inner?.pendingBytes
    let bytes = 0
    for (const chunk of this.#queue) bytes += chunk.length
    return bytes
  }

  trailers(trailers: Headers): void {
    if (!this.#waiting) this.#inner?.trailers(trailers)
    else {
      this.#end = true
      this.#trailers = trailers
    }
  }

  pause(): void {
    this.#paused = true
    this.#inner?.pause()
  }

  resume(): void {
    this.#paused = false
    this.#inner?.resume()
  }

  cancel(): void {
    if (!this.#waiting) {
      this.#inner?.cancel()
      return
    }
    this.#waiting = false
    this.#queue = []
    this.#keeper.abandon(this)
  }
}
