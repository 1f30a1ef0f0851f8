/**
 * Finds where the messages of a gRPC body begin and end (PROTOCOL-HTTP2.md, Length-Prefixed-Message), whatever the chunks
 * it comes in. It looks at prefixes only and keeps no byte; flags are the business of whoever reads the messages.
 */
export class GrpcFrames {
  /** Messages that have begun: their flag has been seen. */
  count = 0
  /** Bytes of the prefix at hand that have been seen. */
  #prefix = 0
  /** The message's length while the prefix is read, then what is left of it. */
  #left = 0

  /** True between messages, and before the first. */
  get between(): boolean {
    return this.#prefix === 0
  }

  /** Goes on to the end of the message at hand, or of the chunk: answers the offset behind. `between` tells which. */
  advance(chunk: Buffer, from: number): number {
    let at = from
    while (this.#prefix < PREFIX_BYTES) {
      if (at >= chunk.length) return at
      const byte = chunk[at++]
      if (this.#prefix++ === 0) {
        this.count++
        this.#left = 0
      } else this.#left = this.#left * 256 + byte
    }
    const part = Math.min(this.#left, chunk.length - at)
    this.#left -= part
    if (this.#left === 0) this.#prefix = 0
    return at + part
  }

  /** Takes a whole chunk; answers how many messages have begun in it. */
  scan(chunk: Buffer): number {
    const before = this.count
    for (let at = 0; at < chunk.length; ) at = this.advance(chunk, at)
    return this.count - before
  }
}

/** The prefix of a message of `length` bytes, below 4 GiB. */
export function grpcPrefix(flag: number, length: number): Buffer {
  const prefix = Buffer.allocUnsafe(PREFIX_BYTES)
  prefix[0] = flag
  prefix.writeUInt32BE(length, 1)
  return prefix
}

/** A flag and a length of 32 bits. */
const PREFIX_BYTES = 5
