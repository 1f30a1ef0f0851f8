import type { UpstreamStream } from '../core/attempt.ts'
import { compress, type GrpcEncoding } from './compression.ts'

export interface WriterOwner {
  /** After a `write` that answered false: there is room again. */
  writerDrained(): void
  writerFailed(): void
}

interface Queued {
  /** Undefined: only the end. */
  readonly payload: Uint8Array | undefined
  readonly end: boolean
}

const PREFIX_BYTES = 5
/** Larger messages are written behind their prefix instead of being copied. */
const COPY_LIMIT_BYTES = 8 * 1024

/**
 * Frames messages and writes them to the stream of an attempt, in order. What is written before there is a stream, or
 * behind a message that is being compressed, waits.
 */
export class MessageWriter {
  readonly #encoding: GrpcEncoding
  readonly #owner: WriterOwner
  #stream: UpstreamStream | undefined = undefined
  #queue: Queued[] | undefined = undefined
  #taken = 0
  #compressing = false
  /** The stream has answered false and not drained since. */
  #full = false
  /** Our user has been told false. */
  #awaited = false
  #closed = false

  constructor(encoding: GrpcEncoding, owner: WriterOwner) {
    this.#encoding = encoding
    this.#owner = owner
  }

  /** The attempt may be written to: all that waits goes out. */
  attach(stream: UpstreamStream): void {
    this.#stream = stream
    this.#pump()
    this.#tellRoom()
  }

  /** Nothing is written any more. */
  close(): void {
    this.#closed = true
    this.#stream = undefined
    this.#queue = undefined
  }

  /** `payload` undefined ends the request. False: wait for `writerDrained`; what was written is taken in any case. */
  write(payload: Uint8Array | undefined, end: boolean): boolean {
    if (this.#closed) return true
    const stream = this.#stream
    if (stream !== undefined && this.#queue === undefined && this.#encoding === 'identity') {
      if (!send(stream, payload, 0, end)) this.#full = true
    } else {
      this.#queue ??= []
      this.#queue.push({ payload, end })
      this.#pump()
    }
    const room = this.#closed || (this.#queue === undefined && !this.#full)
    if (!room) this.#awaited = true
    return room
  }

  /** The stream has room again. */
  drained(): void {
    this.#full = false
    this.#tellRoom()
  }

  #tellRoom(): void {
    if (!this.#awaited || this.#full || this.#queue !== undefined || this.#closed) return
    this.#awaited = false
    this.#owner.writerDrained()
  }

  #pump(): void {
    // Each write may end the call, and so close this.
    while (this.#queue !== undefined && this.#stream !== undefined && !this.#compressing) {
      const { payload, end } = this.#queue[this.#taken]
      if (payload !== undefined && this.#encoding !== 'identity') {
        this.#compressing = true
        compress(payload, this.#encoding, (_, bytes) => this.#compressed(bytes, end))
        return
      }
      this.#emit(this.#stream, payload, 0, end)
    }
  }

  #compressed(bytes: Buffer | undefined, end: boolean): void {
    this.#compressing = false
    const stream = this.#stream
    if (stream === undefined) return
    if (bytes === undefined) {
      this.#owner.writerFailed()
      return
    }
    this.#emit(stream, bytes, 1, end)
    this.#pump()
    this.#tellRoom()
  }

  #emit(stream: UpstreamStream, payload: Uint8Array | undefined, flag: 0 | 1, end: boolean): void {
    const queue = this.#queue as Queued[]
    if (++this.#taken === queue.length) {
      this.#queue = undefined
      this.#taken = 0
    }
    if (!send(stream, payload, flag, end)) this.#full = true
  }
}

function send(stream: UpstreamStream, payload: Uint8Array | undefined, flag: 0 | 1, end: boolean): boolean {
  if (payload === undefined) return stream.write(EMPTY, end)
  const { length } = payload
  const copied = length <= COPY_LIMIT_BYTES
  const frame = Buffer.allocUnsafe(copied ? PREFIX_BYTES + length : PREFIX_BYTES)
  frame[0] = flag
  frame.writeUInt32BE(length, 1)
  if (copied) {
    frame.set(payload, PREFIX_BYTES)
    return stream.write(frame, end)
  }
  stream.write(frame, false)
  return stream.write(Buffer.from(payload.buffer, payload.byteOffset, length), end)
}

const EMPTY: Buffer = Buffer.alloc(0)
