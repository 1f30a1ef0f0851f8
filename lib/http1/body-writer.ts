import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Headers } from '../core/headers.ts'
import { writeDirectly } from '../core/socket-writes.ts'
import type { TurnQueue, TurnWork } from '../core/turn.ts'
import { CHUNKED, type Framing, LENGTH, NO_BODY } from './framing.ts'
import { fieldLines, type HeaderCase, LineMemo } from './head-writer.ts'

/** Body chunks up to this size are copied into the text that goes out at the end of the turn: one write, one system call. */
const JOIN_BYTES = 8192
/** More text than this does not wait for the end of the turn. */
const HOLD_BYTES = 32768

/**
 * Writes one message after another to a socket. What is small (heads, small bodies) is held until the end of the turn and
 * leaves in one write; what is large leaves at once, with what is held in front of it. Keeps the promise that
 * Content-Length made: what would break it is refused.
 *
 * Whoever closes the socket in an orderly way calls `flush` before.
 */
export class MessageWriter implements TurnWork {
  readonly #socket: Duplex
  readonly #turn: TurnQueue
  /** The same socket, where it may be written to past its stream. */
  readonly #direct: Socket | undefined
  /** Of the heads that `start` is given. */
  readonly memo: LineMemo = new LineMemo()
  #text = ''
  #queued = false
  #framing: Framing = NO_BODY
  #remaining = 0
  /** False from the start of a message until its end. */
  complete = true

  constructor(socket: Duplex, turn: TurnQueue) {
    this.#socket = socket
    this.#turn = turn
    this.#direct = turn.writes.suits(socket) ? socket : undefined
  }

  /** Begins a message. `head` ends with the empty line. */
  start(head: string, framing: Framing, length: number): void {
    this.#framing = framing
    this.#remaining = length
    this.complete = false
    this.raw(head)
  }

  /** Text of its own, in order with all else: interim responses. Latin1. */
  raw(text: string): void {
    this.#text = this.#text === '' ? text : this.#text + text
    if (this.#text.length > HOLD_BYTES) this.flush()
    else if (!this.#queued) {
      this.#queued = true
      this.#turn.defer(this)
    }
  }

  turnEnds(): void {
    this.#queued = false
    this.flush()
  }

  /** Sends what is held. */
  flush(): void {
    const text = this.#text
    if (text === '') return
    this.#text = ''
    // Into a destroyed socket as well: it ignores what it gets, and asking it costs more.
    if (this.#direct === undefined) this.#socket.write(text, 'latin1')
    else writeDirectly(this.#direct, text)
  }

  /**
   * A body chunk; `end` on the last one. False: wait for the socket's drain. Undefined where it breaks the announced
   * length (too many bytes, or an end too early): the message cannot be completed any more and the connection must be
   * broken off.
   */
  write(chunk: Buffer, end: boolean): boolean | undefined {
    const size = chunk.length
    if (this.#framing === NO_BODY) return !end || this.end(undefined, 'lower')
    if (this.#framing === LENGTH) {
      if (size > this.#remaining || (end && size < this.#remaining)) return undefined
      this.#remaining -= size
    }
    if (size === 0) return !end || this.end(undefined, 'lower')
    this.complete = end
    const chunked = this.#framing === CHUNKED
    if (size > JOIN_BYTES) return this.#writeLarge(chunk, chunked, end)
    const body = chunk.latin1Slice(0, size)
    this.raw(chunked ? size.toString(16) + '\r\n' + body + (end ? '\r\n0\r\n\r\n' : '\r\n') : body)
    return !this.#socket.writableNeedDrain
  }

  #writeLarge(chunk: Buffer, chunked: boolean, end: boolean): boolean {
    const socket = this.#socket
    const before = chunked ? this.#text + chunk.length.toString(16) + '\r\n' : this.#text
    this.#text = ''
    if (socket.destroyed) return true
    if (before === '') return socket.write(chunk)
    socket.cork()
    socket.write(before, 'latin1')
    let more = socket.write(chunk)
    if (chunked) more = socket.write(end ? '\r\n0\r\n\r\n' : '\r\n', 'latin1')
    socket.uncork()
    return more
  }

  /** Ends the message; false where fewer bytes came than announced: the connection must be broken off. */
  end(trailers: Headers | undefined, spelling: HeaderCase): boolean {
    if (this.#framing === LENGTH && this.#remaining > 0) return false
    this.complete = true
    if (this.#framing === CHUNKED) {
      this.raw('0\r\n' + (trailers === undefined ? '' : fieldLines(trailers, spelling, true)) + '\r\n')
    }
    return true
  }
}
