import type { NextChunk } from '../../lib/chain/filter.ts'
import type { Clock } from '../../lib/core/clock.ts'
import type { Counter, Gauge, Histogram } from '../../lib/core/metrics.ts'
import type { Flow, Throttle } from './throttle.ts'

/** What is counted of one direction. */
export interface DirectionCells {
  readonly enabled: Counter
  readonly enforced: Counter
  readonly pending: Gauge
  readonly incomingSize: Gauge
  readonly incomingTotalSize: Counter
  readonly allowedSize: Gauge
  readonly allowedTotalSize: Counter
  readonly transferDuration: Histogram
}

export interface PacedBodyOptions {
  readonly throttle: Throttle
  readonly cells: DirectionCells
  readonly clock: Clock
}

/** The body of one direction of one exchange at the rate that the throttle allows. Chunks are cut into views, never copied. */
export class PacedBody implements Flow {
  readonly #options: PacedBodyOptions
  /** Sends a part ahead of the chunk that the hook was given. */
  readonly #emit: (part: Buffer) => boolean
  #chunk: Buffer = NO_BYTES
  #offset = 0
  #release: ((rest: Buffer) => void) | undefined = undefined
  #beforeRelease: (() => void) | undefined = undefined
  #waitingSinceMs = 0
  /** -1: no byte has come. */
  #begunMs = -1
  /** From its first chunk to its end; 0 until then. */
  durationMs = 0
  /** How much of that it waited here. */
  delayMs = 0

  constructor(options: PacedBodyOptions, emit: (part: Buffer) => boolean) {
    this.#options = options
    this.#emit = emit
  }

  get waiting(): number {
    return this.#chunk.length - this.#offset
  }

  /** The answer of a data hook. `last` is called when the chunk is about to go on whole. */
  push(chunk: Buffer, last: (() => void) | undefined): NextChunk {
    const { throttle, cells, clock } = this.#options
    if (this.#begunMs < 0) {
      this.#begunMs = clock.now()
      cells.pending.v++
    }
    cells.incomingSize.v = chunk.length
    cells.incomingTotalSize.v += chunk.length
    if (chunk.length === 0 || throttle.pass(chunk.length)) {
      this.#allowed(chunk.length)
      last?.()
      return
    }
    this.#chunk = chunk
    this.#offset = 0
    this.#beforeRelease = last
    this.#waitingSinceMs = clock.now()
    return new Promise<Buffer>((resolve) => {
      this.#release = resolve
      throttle.enter(this)
    })
  }

  grant(bytes: number): void {
    const from = this.#offset
    const to = from + bytes
    this.#offset = to
    this.#allowed(bytes)
    if (to < this.#chunk.length) {
      this.#options.cells.enforced.v++
      this.#emit(this.#chunk.subarray(from, to))
      return
    }
    this.delayMs += this.#options.clock.now() - this.#waitingSinceMs
    const rest = this.#chunk.subarray(from)
    const release = this.#release
    this.#chunk = NO_BYTES
    this.#offset = 0
    this.#release = undefined
    this.#beforeRelease?.()
    this.#beforeRelease = undefined
    release?.(rest)
  }

  /** All of it has gone on. */
  complete(): void {
    if (this.#begunMs < 0 || this.durationMs > 0) return
    const { cells, clock } = this.#options
    this.durationMs = clock.now() - this.#begunMs
    cells.transferDuration.record(this.durationMs)
  }

  /** The exchange is over, complete or not. */
  close(): void {
    this.#options.throttle.leave(this)
    if (this.#begunMs >= 0) this.#options.cells.pending.v--
    this.#begunMs = -1
    this.#chunk = NO_BYTES
    this.#offset = 0
    this.#release = undefined
  }

  #allowed(bytes: number): void {
    const { cells } = this.#options
    cells.allowedSize.v = bytes
    cells.allowedTotalSize.v += bytes
  }
}

const NO_BYTES: Buffer = Buffer.alloc(0)
