const EMPTY = Buffer.alloc(0)

/**
 * What has been received before it is decided what becomes of it. Its memory doubles as it grows, so that a client that
 * sends byte by byte costs linear time; a single chunk is kept as it came.
 */
export class PeekBuffer {
  #memory: Buffer = EMPTY
  /** Where what is left begins and ends in it. */
  #start = 0
  #end = 0
  /** The memory is our own: it may be written to. */
  #owned = false

  get length(): number {
    return this.#end - this.#start
  }

  add(chunk: Buffer): void {
    if (this.length === 0) {
      this.#memory = chunk
      this.#start = 0
      this.#end = chunk.length
      this.#owned = false
      return
    }
    const wanted = this.length + chunk.length
    if (!this.#owned || this.#end + chunk.length > this.#memory.length) this.#grow(wanted)
    chunk.copy(this.#memory, this.#end)
    this.#end += chunk.length
  }

  #grow(wanted: number): void {
    const memory = Buffer.allocUnsafe(Math.max(512, wanted * 2))
    this.#memory.copy(memory, 0, this.#start, this.#end)
    this.#end -= this.#start
    this.#start = 0
    this.#memory = memory
    this.#owned = true
  }

  /** The first bytes, at most `limit`. Valid until the next `add`. */
  view(limit: number): Buffer {
    return this.#memory.subarray(this.#start, Math.min(this.#end, this.#start + limit))
  }

  /** Drops bytes at the front; at most all. */
  strip(bytes: number): void {
    this.#start = Math.min(this.#end, this.#start + bytes)
  }

  /** All that is left, for somebody else to keep. */
  take(): Buffer {
    const rest = this.#memory.subarray(this.#start, this.#end)
    this.#memory = EMPTY
    this.#start = 0
    this.#end = 0
    return rest
  }
}
