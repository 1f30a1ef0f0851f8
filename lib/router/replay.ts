import type { UpstreamStream } from '../core/attempt.ts'
import type { Headers } from '../core/headers.ts'

/** A request body up to this size is kept until its response begins. */
const REPLAY_BYTES = 64 * 1024

/**
 * What has been sent of a request, so that an attempt which the upstream never looked at can be repeated whole. Chunks
 * are shared with the attempt, not copied.
 */
export class Replay {
  #chunks: Buffer[] = []
  #bytes = 0
  #ended = false
  #trailers: Headers | undefined = undefined
  /** The body has outgrown what is kept: it cannot be repeated. */
  spoilt = false

  write(chunk: Buffer, end: boolean): void {
    this.#ended = end
    if (this.spoilt) return
    this.#bytes += chunk.length
    if (this.#bytes > REPLAY_BYTES) {
      this.spoilt = true
      this.#chunks = []
    } else if (chunk.length > 0) this.#chunks.push(chunk)
  }

  trailers(trailers: Headers): void {
    this.#trailers = trailers
  }

  /** Sends all of it again. */
  sendTo(stream: UpstreamStream): void {
    const last = this.#chunks.length - 1
    for (let i = 0; i <= last; i++) stream.write(this.#chunks[i], this.#ended && i === last)
    if (last < 0 && this.#ended) stream.write(NO_BYTES, true)
    if (this.#trailers !== undefined) stream.trailers(this.#trailers)
  }
}

const NO_BYTES: Buffer = Buffer.alloc(0)
