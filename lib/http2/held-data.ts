const FIRST_BLOCK_BYTES = 1024
const LAST_BLOCK_BYTES = 16384

/**
 * Body bytes that wait while their stream is paused. They are copied, so that nothing pins the packets they came in, and
 * gathered into blocks, so that a thousand frames of one byte cost a kilobyte. What bounds it is the stream's window.
 */
export class HeldData {
  readonly #blocks: Buffer[] = []
  /** Bytes used of the last block. */
  #used = 0
  bytes = 0

  add(bytes: Buffer, from: number, to: number): void {
    this.bytes += to - from
    while (from < to) {
      let last = this.#blocks.length === 0 ? undefined : this.#blocks[this.#blocks.length - 1]
      if (last === undefined || this.#used === last.length) {
        const next = last === undefined ? FIRST_BLOCK_BYTES : last.length * 2
        last = Buffer.allocUnsafeSlow(Math.min(LAST_BLOCK_BYTES, Math.max(next, to - from)))
        this.#blocks.push(last)
        this.#used = 0
      }
      const copied = bytes.copy(last, this.#used, from, to)
      this.#used += copied
      from += copied
    }
  }

  /** The oldest block, which is the caller's from now on. Only where `bytes` > 0. */
  take(): Buffer {
    const block = this.#blocks.shift()!
    const chunk = this.#blocks.length === 0 ? block.subarray(0, this.#used) : block
    this.bytes -= chunk.length
    return chunk
  }
}
