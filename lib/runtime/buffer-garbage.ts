import { getHeapStatistics } from 'node:v8'

/** Bytes of dead read buffers that may gather before they are collected. */
const LIMIT_BYTES = 8 << 20
/** How often the count is looked at, and how often while bodies flow: at 1 GB/s 5 MB pass in that time. */
const CHECK_MS = 20
const BUSY_CHECK_MS = 5

/** Buffers are nearly all of it; `process.memoryUsage` costs ten times as much. */
function externalBytes(): number {
  return getHeapStatistics().external_memory
}

/** V8's `gc` function, which is there under `--expose-gc`. */
export type Collect = (options: { type: 'minor' }) => void

/**
 * Keeps the buffers of large bodies from piling up. Each read of a socket allocates 64 KiB outside the JavaScript heap;
 * V8 counts them only loosely and lets some 64 MiB of dead ones gather before it looks, and what it does then is a major
 * collection, which costs a third of the transfer. Here a minor collection (under a millisecond, since such buffers die
 * young) runs whenever 8 MiB have come since the last one. With 16 MiB, or looked at every 20 ms only, V8 often comes first.
 *
 * Does nothing where the process was not started with `--expose-gc`.
 */
export class BufferGarbage implements Disposable {
  readonly #collect: Collect
  readonly #bytes: () => number
  #timer: NodeJS.Timeout | undefined = undefined
  #floor: number

  constructor(collect: Collect | undefined, bytes: () => number = externalBytes) {
    this.#collect = collect ?? (() => {})
    this.#bytes = bytes
    this.#floor = bytes()
    if (collect !== undefined) this.#checkIn(CHECK_MS)
  }

  #checkIn(ms: number): void {
    this.#timer = setTimeout(() => this.#checkIn(this.check() ? BUSY_CHECK_MS : CHECK_MS), ms).unref()
  }

  /** Called by the timer; collects where enough has come. True where bodies flow. */
  check(): boolean {
    const bytes = this.#bytes()
    if (bytes < this.#floor) this.#floor = bytes
    const grown = bytes - this.#floor
    if (grown < LIMIT_BYTES) return grown > LIMIT_BYTES / 8
    this.#collect({ type: 'minor' })
    // What is left is alive: only what comes on top of it counts.
    this.#floor = this.#bytes()
    return true
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
  }
}
