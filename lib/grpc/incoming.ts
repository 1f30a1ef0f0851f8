import { decompress, parseEncoding } from './compression.ts'
import { MessageReader } from './message-reader.ts'
import { GrpcCode, type GrpcStatus, localStatus } from './status.ts'

export interface IncomingOwner {
  /** One message, decompressed, in the order in which they came. */
  incomingMessage(bytes: Buffer): void
  /** After `finish`: every message has been handed on. `cut`: the body ended within one. */
  incomingComplete(cut: boolean): void
  /** The body is no gRPC, or more than it may be. Nothing follows. */
  incomingBroken(status: GrpcStatus): void
  /** After a `push` that answered false: more may come. */
  incomingWanted(): void
}

/**
 * The messages of a response body. Holds what is left of a chunk while its user has paused or a message is being
 * decompressed, and answers false meanwhile, so that it never holds more than what had been on its way.
 */
export class Incoming {
  readonly #owner: IncomingOwner
  readonly #limitBytes: number | undefined
  readonly #reader: MessageReader
  #encoding: string | undefined = undefined
  #paused = false
  #decompressing = false
  #pumping = false
  #finished = false
  #closed = false

  constructor(owner: IncomingOwner, limitBytes: number | undefined) {
    this.#owner = owner
    this.#limitBytes = limitBytes
    this.#reader = new MessageReader(limitBytes)
  }

  /** The response's `grpc-encoding`. */
  begin(encoding: string | undefined): void {
    this.#encoding = encoding
  }

  get #held(): boolean {
    return this.#paused || this.#decompressing
  }

  /** False: nothing more until `incomingWanted`; what comes in spite of it is kept. */
  push(chunk: Buffer): boolean {
    this.#reader.push(chunk)
    this.#pump()
    return this.#closed || !this.#held
  }

  /** The body is complete. */
  finish(): void {
    this.#finished = true
    this.#pump()
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#pump()
    this.#wantMore()
  }

  /** Nothing is handed on any more. */
  close(): void {
    this.#closed = true
    this.#reader.release()
  }

  #wantMore(): void {
    if (!this.#held && !this.#closed) this.#owner.incomingWanted()
  }

  #pump(): void {
    // Not re-entrant: a user that resumes within its callback goes on in the loop below.
    if (this.#pumping) return
    this.#pumping = true
    const reader = this.#reader
    while (!this.#held && !this.#closed) {
      const found = reader.next()
      if (found === 'message') {
        if (reader.compressed) this.#decompress(reader.payload)
        else this.#owner.incomingMessage(reader.payload)
      } else if (found === 'more') {
        if (!this.#finished) break
        this.#closed = true
        this.#owner.incomingComplete(reader.inMessage)
      } else if (found === 'too-large') this.#fail(GrpcCode.RESOURCE_EXHAUSTED, TOO_LARGE)
      else this.#fail(GrpcCode.INTERNAL, 'the body is not made of gRPC messages')
    }
    this.#pumping = false
  }

  #decompress(payload: Buffer): void {
    const encoding = parseEncoding(this.#encoding)
    if (encoding === undefined) {
      this.#fail(GrpcCode.INTERNAL, `messages are compressed with "${this.#encoding}", which is not supported`)
      return
    }
    if (encoding === 'identity') {
      this.#fail(GrpcCode.INTERNAL, 'a message is marked as compressed, but grpc-encoding names no compression')
      return
    }
    this.#decompressing = true
    decompress(payload, encoding, this.#limitBytes, (problem, bytes) => {
      if (this.#closed) return
      this.#decompressing = false
      if (bytes !== undefined) this.#owner.incomingMessage(bytes)
      else if (problem === 'too-large') this.#fail(GrpcCode.RESOURCE_EXHAUSTED, TOO_LARGE)
      else this.#fail(GrpcCode.INTERNAL, `a message could not be decompressed as ${encoding}`)
      this.#pump()
      this.#wantMore()
    })
  }

  #fail(code: number, message: string): void {
    this.#closed = true
    this.#owner.incomingBroken(localStatus(code, message))
  }
}

const TOO_LARGE = 'a message is larger than the limit'
