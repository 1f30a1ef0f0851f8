import { DEFAULT_WINDOW, kindOf, WINDOW_UPDATE } from './frames.ts'
import { HeldData } from './held-data.ts'
import type { Output } from './output.ts'
import type { SessionCore } from './session-core.ts'
import type { Http2Stream } from './stream.ts'

const NO_BYTES: Buffer = Buffer.alloc(0)

/**
 * The receiving half of flow control (RFC 9113 §6.9): counts the windows that we gave, credits what handlers have been
 * given, and holds what they do not want yet. Credit is announced in lumps of half a window.
 */
export class Receiver {
  readonly #core: SessionCore
  readonly #output: Output
  readonly #connectionBytes: number
  readonly #streamBytes: number
  /** What the peer may still send on the connection. */
  #window: number = DEFAULT_WINDOW
  #credit = 0
  /** Window of a new stream; not less than the default while the peer may not know ours. */
  streamWindow: number

  constructor(core: SessionCore, output: Output) {
    this.#core = core
    this.#output = output
    this.#connectionBytes = Math.max(DEFAULT_WINDOW, core.config.initialConnectionWindowBytes)
    this.#streamBytes = core.config.initialStreamWindowBytes
    this.streamWindow = Math.max(DEFAULT_WINDOW, this.#streamBytes)
  }

  /** The connection's window is enlarged by WINDOW_UPDATE, as nothing in SETTINGS does it. */
  start(): void {
    const more = this.#connectionBytes - this.#window
    if (more > 0) this.#output.number(kindOf(WINDOW_UPDATE, 0), 0, more)
    this.#window = this.#connectionBytes
  }

  /** The peer knows our SETTINGS_INITIAL_WINDOW_SIZE now; windows may become negative (RFC 9113 §6.9.2). */
  settingsAcked(): void {
    const change = this.#streamBytes - this.streamWindow
    if (change === 0) return
    this.streamWindow = this.#streamBytes
    for (const stream of this.#core.streams.values()) stream.recvWindow += change
  }

  /** A DATA frame of `length` bytes with padding. False: more than the connection's window. */
  take(length: number): boolean {
    this.#window -= length
    return this.#window >= 0
  }

  /** Bytes that nobody will ask for, or that have been consumed: the peer may send as many again. */
  creditConnection(bytes: number): void {
    this.#credit += bytes
    if (this.#credit * 2 < this.#connectionBytes || this.#core.failed) return
    this.#output.number(kindOf(WINDOW_UPDATE, 0), 0, this.#credit)
    this.#window += this.#credit
    this.#credit = 0
  }

  creditStream(stream: Http2Stream, bytes: number): undefined {
    this.creditConnection(bytes)
    if (stream.received || stream.closed) return
    stream.credit += bytes
    if (stream.credit * 2 < this.#streamBytes || this.#core.failed) return
    this.#output.number(kindOf(WINDOW_UPDATE, 0), stream.id, stream.credit)
    stream.recvWindow += stream.credit
    stream.credit = 0
  }

  /** A piece of a body: to the handler, or held where it has paused. `end`: the last of the message. */
  data(stream: Http2Stream, bytes: Buffer, from: number, to: number, end: boolean): undefined {
    const size = to - from
    if (stream.unwanted) return this.creditStream(stream, size)
    if (stream.paused || stream.endHeld || (stream.held !== undefined && stream.held.bytes > 0)) {
      if (size > 0) (stream.held ??= new HeldData()).add(bytes, from, to)
      stream.endHeld = end
      return
    }
    if (size === 0 && !end) return
    if (size > 0) this.creditStream(stream, size)
    stream.delivering = true
    stream.handler.onData(size === 0 ? NO_BYTES : size === bytes.length ? bytes : bytes.subarray(from, to), end)
    stream.delivering = false
  }

  /** Hands over what was held, until the handler pauses again. */
  deliver(stream: Http2Stream): void {
    if (stream.delivering) return
    stream.delivering = true
    // Read anew each time: the handler may discard it.
    for (let held = stream.held; held !== undefined && held.bytes > 0 && !stream.paused; held = stream.held) {
      const chunk = held.take()
      this.creditStream(stream, chunk.length)
      const end = held.bytes === 0 && stream.endHeld && stream.trailersHeld === undefined
      if (end) stream.endHeld = false
      stream.handler.onData(chunk, end)
    }
    if (stream.endHeld && !stream.paused && !stream.silent) this.#deliverEnd(stream)
    stream.delivering = false
  }

  #deliverEnd(stream: Http2Stream): void {
    const trailers = stream.trailersHeld
    stream.endHeld = false
    stream.trailersHeld = undefined
    if (trailers === undefined) stream.handler.onData(NO_BYTES, true)
    else stream.handler.onTrailers(trailers)
  }

  /** What is held will not be asked for. */
  discard(stream: Http2Stream): void {
    const held = stream.held
    stream.held = undefined
    stream.endHeld = false
    stream.trailersHeld = undefined
    if (held !== undefined && held.bytes > 0) this.creditConnection(held.bytes)
  }
}
