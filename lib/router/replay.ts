import type { UpstreamStream } from '../core/attempt.ts'
import type { Headers } from '../core/headers.ts'

/** A request body up to this size is kept until its response begins, where nothing else is said. */
const REPLAY_BYTES = 64 * 1024
/** Smaller neighbours are copied together: a body in chunks of one byte must not keep the packets they came in. */
const SMALL_BYTES = 4096

/**
 * What has been sent of a request, so that an attempt which the upstream never looked at can be repeated whole. Chunks
 * that are not small are shared with the attempt, not copied.
 */
export class Replay {
  #chunks: Buffer[] = []
  /** Of ours; the last chunk is its beginning, and behind that there may be room. */
  #store: Buffer | undefined = undefined
  #bytes = 0
  #ended = false
  #trailers: Headers | undefined = undefined
  /** The body has outgrown what is kept: it cannot be repeated. */
  spoilt = false
  readonly #limit: number

  constructor(limitBytes = REPLAY_BYTES) {
    this.#limit = limitBytes
  }

  /** What is kept. */
  get bytes(): number {
    return this.spoilt ? 0 : this.#bytes
  }

  /** All of the request is here: it has ended, and fits. */
  get whole(): boolean {
    return !this.spoilt && (this.#ended || this.#trailers !== undefined)
  }

  write(chunk: Buffer, end: boolean): void {
    this.#ended = end
    if (this.spoilt) return
    this.#bytes += chunk.length
    if (this.#bytes > this.#limit) {
      this.spoilt = true
      this.#chunks = []
      this.#store = undefined
    } else if (chunk.length > 0) this.#keep(chunk)
  }

  #keep(chunk: Buffer): void {
    const chunks = this.#chunks
    const last = chunks.length - 1
    if (last >= 0 && chunk.length < SMALL_BYTES && chunks[last].length < SMALL_BYTES) {
      chunks[last] = this.#joined(chunks[last], chunk)
    } else {
      chunks.push(chunk)
      this.#store = undefined
    }
  }

  /** Only ever adds behind bytes that were handed out, which stay as they are. */
  #joined(before: Buffer, chunk: Buffer): Buffer {
    const size = before.length + chunk.length
    let store = this.#store
    if (store === undefined || store.length < size) {
      store = Buffer.allocUnsafeSlow(size * 2)
      before.copy(store)
      this.#store = store
    }
    chunk.copy(store, before.length)
    return store.subarray(0, size)
  }

  trailers(trailers: Headers): void {
    this.#trailers = trailers
  }

  /** Sends all of it again. False: more has to wait for the stream's `onDrain`. */
  sendTo(stream: Pick<UpstreamStream, 'write' | 'trailers'>): boolean {
    const chunks = this.#chunks
    const last = chunks.length - 1
    let more = true
    for (let i = 0; i <= last; i++) more = stream.write(chunks[i], this.#ended && i === last)
    if (last < 0 && this.#ended) more = stream.write(NO_BYTES, true)
    if (this.#trailers !== undefined) stream.trailers(this.#trailers)
    return more
  }
}

const NO_BYTES: Buffer = Buffer.alloc(0)
