/** Bytes of dead read buffers that may gather before they are collected. */
const LIMIT_BYTES = 16 << 20
/** At 1 GB/s about as much as the limit passes in this time. */
const CHECK_MS = 20

/** V8's `gc` function, which is there under `--expose-gc`. */
export type Collect = (options: { type: 'minor' }) => void

/**
 * Keeps the buffers of large bodies from piling up. Each read of a socket allocates 64 KiB outside the JavaScript heap;
 * V8 counts them only loosely and lets some 64 MiB of dead ones gather before it looks. Here a minor collection (under a
 * millisecond, since such buffers die young) runs whenever 16 MiB have come since the last one.
 *
 * Does nothing where the process was not started with `--expose-gc`.
 */
export class BufferGarbage implements Disposable {
  readonly #collect: Collect
  readonly #bytes: () => number
  readonly #timer: NodeJS.Timeout | undefined
  #floor: number

  constructor(collect: Collect | undefined, bytes: () => number = () => process.memoryUsage().arrayBuffers) {
    this.#collect = collect ?? (() => {})
    this.#bytes = bytes
    this.#floor = bytes()
    this.#timer = collect === undefined ? undefined : setInterval(() => this.check(), CHECK_MS)
    this.#timer?.unref()
  }

  /** Called by the timer; collects where enough has come. */
  check(): void {
    const bytes = this.#bytes()
    if (bytes < this.#floor) this.#floor = bytes
    if (bytes - this.#floor < LIMIT_BYTES) return
    this.#collect({ type: 'minor' })
    // What is left is alive: only what comes on top of it counts.
    this.#floor = this.#bytes()
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}
