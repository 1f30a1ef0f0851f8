import type { Duplex } from 'node:stream'
import type { Headers } from '../core/headers.ts'
import { CHUNKED, type Framing, LENGTH, NO_BODY } from './framing.ts'
import { fieldLines, type HeaderCase } from './head-writer.ts'

/** Bodies up to this size are joined with their head in one string: one write, one system call. */
const JOIN_BYTES = 8192

/**
 * Writes one message after another to a socket: the head is held back until the first body bytes (or `flush`), so that
 * a small message is one write. Keeps the promise that Content-Length made: what would break it is refused.
 */
export class MessageWriter {
  readonly #socket: Duplex
  #head = ''
  #framing: Framing = NO_BODY
  #remaining = 0
  /** False from the start of a message until its end. */
  complete = true

  constructor(socket: Duplex) {
    this.#socket = socket
  }

  /** True where a head waits for `flush` or for the first body bytes. */
  get held(): boolean {
    return this.#head !== ''
  }

  /** Begins a message. `head` ends with the empty line. */
  start(head: string, framing: Framing, length: number): void {
    this.#head = head
    this.#framing = framing
    this.#remaining = length
    this.complete = false
  }

  /** Sends a head that waits for body bytes which are not here yet. */
  flush(): boolean {
    if (this.#head === '') return true
    const head = this.#head
    this.#head = ''
    return this.#socket.write(head, 'latin1')
  }

  /**
   * A body chunk; `end` on the last one. Undefined where it breaks the announced length (too many bytes, or an end too
   * early): the message cannot be completed any more and the connection must be broken off.
   */
  write(chunk: Buffer, end: boolean): boolean | undefined {
    const size = chunk.length
    if (this.#framing === NO_BODY) return !end || this.end(undefined, 'lower')
    if (this.#framing === LENGTH) {
      if (size > this.#remaining || (end && size < this.#remaining)) return undefined
      this.#remaining -= size
    }
    if (size === 0) return !end || this.end(undefined, 'lower')
    const head = this.#head
    const chunked = this.#framing === CHUNKED
    this.#head = ''
    this.complete = end
    if (size > JOIN_BYTES) return this.#writeLarge(head, chunk, chunked, end)
    if (chunked) {
      const tail = end ? '\r\n0\r\n\r\n' : '\r\n'
      return this.#socket.write(head + size.toString(16) + '\r\n' + chunk.latin1Slice(0, size) + tail, 'latin1')
    }
    if (head !== '') return this.#socket.write(head + chunk.latin1Slice(0, size), 'latin1')
    return this.#socket.write(chunk)
  }

  #writeLarge(head: string, chunk: Buffer, chunked: boolean, end: boolean): boolean {
    const socket = this.#socket
    if (head === '' && !chunked) return socket.write(chunk)
    socket.cork()
    socket.write(chunked ? head + chunk.length.toString(16) + '\r\n' : head, 'latin1')
    let more = socket.write(chunk)
    if (chunked) more = socket.write(end ? '\r\n0\r\n\r\n' : '\r\n', 'latin1')
    socket.uncork()
    return more
  }

  /** Ends the message; false where fewer bytes came than announced: the connection must be broken off. */
  end(trailers: Headers | undefined, spelling: HeaderCase): boolean {
    if (this.#framing === LENGTH && this.#remaining > 0) return false
    this.complete = true
    const head = this.#head
    this.#head = ''
    if (this.#framing !== CHUNKED) {
      if (head !== '') this.#socket.write(head, 'latin1')
      return true
    }
    const lines = trailers === undefined ? '' : fieldLines(trailers, spelling, true)
    this.#socket.write(head + '0\r\n' + lines + '\r\n', 'latin1')
    return true
  }
}
