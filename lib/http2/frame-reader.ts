import { Http2Code } from './contract.ts'
import {
  ACK,
  CONTINUATION,
  DATA,
  FRAME_HEADER_BYTES,
  HEADERS,
  MAX_FRAME_BYTES,
  PADDED,
  PREFACE,
  PRIORITY_UPDATE,
  readUint31,
  SETTINGS,
} from './frames.ts'

/** What frames go to. Every call may lead to `FrameReader.stop`. */
export interface FrameSink {
  /** A whole frame, DATA and unknown types excepted: payload is `bytes[from, to)`, not to be kept. */
  onFrame(type: number, flags: number, id: number, bytes: Buffer, from: number, to: number): undefined
  /** A DATA frame begins; `length` counts its padding too. `onData` follows until its last piece. */
  onDataStart(flags: number, id: number, length: number): void
  /** A piece of the payload without padding: `bytes[from, to)`; `last` exactly once per frame, maybe with no bytes. */
  onData(bytes: Buffer, from: number, to: number, last: boolean): void
  /** A frame of a type that nobody knows; its payload is skipped. */
  onUnknownFrame(): void
  /** Connection error. */
  fail(code: number, detail: string): void
}

/** Lengths of payload that are taken. */
export interface FrameLimits {
  /** Of any frame, as announced. */
  readonly maxFrameBytes: number
  /** Of frames that are gathered before they are looked at: all but DATA and unknown ones. */
  readonly maxGatheredBytes: number
}

const LEAST: FrameLimits = Object.freeze({ maxFrameBytes: MAX_FRAME_BYTES, maxGatheredBytes: MAX_FRAME_BYTES })
const NOTHING: Buffer = Buffer.alloc(0)

/**
 * Takes the bytes of a connection apart, frame by frame, in place (RFC 9113 §4.1). A frame that a packet does not
 * complete is gathered in one buffer of its size, each byte copied once; DATA is passed on as it comes.
 *
 *     PREFACE (server) ─▶ HEADER ─┬─ DATA ──────▶ PADDING LENGTH? ─▶ pieces ─▶ padding ─▶ HEADER
 *                                 ├─ unknown ───▶ skipped ─▶ HEADER
 *                                 └─ all others ▶ whole payload ─▶ HEADER
 *
 * Knows the rules about the order of frames: preface, SETTINGS first, nothing between HEADERS and its CONTINUATIONs, and
 * the length that no frame may exceed.
 */
export class FrameReader {
  readonly #sink: FrameSink
  readonly #maxFrame: number
  readonly #maxGathered: number
  /** Bytes of the preface still to come. */
  #preface: number
  #first = true
  #stopped = false
  /** A frame header or a whole frame in the making. */
  #held: Buffer = NOTHING
  #heldBytes = 0
  /** Bytes that `#held` is to have: 9, then those of the frame; 0 where nothing is held. */
  #wanted = 0
  /** Payload of the current DATA frame without padding, -1 while its pad length is unknown. */
  #data = 0
  #inData = false
  /** Payload of the DATA frame while its pad length is unknown. */
  #padded = 0
  /** Padding or unknown payload still to be passed over. */
  #skip = 0
  /** Stream whose CONTINUATION must be next; 0 where none is due. Set by whoever reads HEADERS. */
  continuationOf = 0
  /** Set by whoever reads HEADERS: what follows is for another turn. */
  resting = false

  constructor(sink: FrameSink, server: boolean, limits: FrameLimits = LEAST) {
    this.#sink = sink
    this.#maxFrame = limits.maxFrameBytes
    this.#maxGathered = Math.min(limits.maxFrameBytes, limits.maxGatheredBytes)
    this.#preface = server ? PREFACE.length : 0
  }

  /** Nothing more is read, in this packet or a later one. */
  stop(): void {
    this.#stopped = true
    this.#held = NOTHING
  }

  /** The peer's preface and SETTINGS have been read. */
  get started(): boolean {
    return !this.#first
  }

  /** The stream of a header block that has begun and is not complete; 0: there is none, or its frame is not known yet. */
  get unfinishedBlock(): number {
    if (this.continuationOf !== 0) return this.continuationOf
    const held = this.#held
    return this.#heldBytes >= FRAME_HEADER_BYTES && held.length > 0 && held[3] === HEADERS ? readUint31(held, 5) : 0
  }

  /**
   * Of bytes that have not been read, how many cost more than being passed on: all but the payload of DATA. Counts no further
   * than `enough`.
   */
  workIn(bytes: Buffer, enough: number): number {
    const { length } = bytes
    if (this.#wanted > 0) return length
    let at = (this.#inData ? Math.max(0, this.#data) : 0) + this.#skip
    let work = 0
    while (at + FRAME_HEADER_BYTES <= length && work < enough) {
      const payload = (bytes[at] << 16) | (bytes[at + 1] << 8) | bytes[at + 2]
      work += FRAME_HEADER_BYTES + (bytes[at + 3] === DATA ? 0 : payload)
      at += FRAME_HEADER_BYTES + payload
    }
    if (work >= enough) return work
    return Math.min(work + Math.max(0, length - at), length)
  }

  /** Never keeps a view of `chunk`. Answers how much has been read of it: less than there is where it rests. */
  read(chunk: Buffer): number {
    const end = chunk.length
    this.resting = false
    let at = this.#preface > 0 ? this.#readPreface(chunk) : 0
    while (at < end && !this.#stopped && !this.resting) {
      if (this.#inData) at = this.#readData(chunk, at)
      else if (this.#skip > 0) at = this.#passOver(at, end)
      else if (this.#wanted > 0) at = this.#gather(chunk, at)
      else if (end - at < FRAME_HEADER_BYTES) at = this.#hold(chunk, at, FRAME_HEADER_BYTES)
      else at = this.#readFrame(chunk, at)
    }
    return this.#stopped ? end : at
  }

  #readPreface(chunk: Buffer): number {
    const done = PREFACE.length - this.#preface
    const take = Math.min(this.#preface, chunk.length)
    if (PREFACE.compare(chunk, 0, take, done, done + take) !== 0) {
      this.#fail(Http2Code.PROTOCOL_ERROR, 'http2.bad_preface')
      return chunk.length
    }
    this.#preface -= take
    return take
  }

  #passOver(at: number, end: number): number {
    const take = Math.min(this.#skip, end - at)
    this.#skip -= take
    return at + take
  }

  /** At least a frame header lies at `at`. Answers where to go on. */
  #readFrame(chunk: Buffer, at: number): number {
    const length = (chunk[at] << 16) | (chunk[at + 1] << 8) | chunk[at + 2]
    const type = chunk[at + 3]
    const flags = chunk[at + 4]
    const id = readUint31(chunk, at + 5)
    const body = at + FRAME_HEADER_BYTES
    if (!this.#inOrder(type, flags, id, length)) return body
    if (type === DATA) {
      this.#startData(flags, id, length)
      return body
    }
    if (type > CONTINUATION && type !== PRIORITY_UPDATE) {
      this.#skip = length
      this.#sink.onUnknownFrame()
      return body
    }
    const to = body + length
    if (to > chunk.length) return this.#hold(chunk, at, FRAME_HEADER_BYTES + length)
    this.#sink.onFrame(type, flags, id, chunk, body, to)
    return to
  }

  #inOrder(type: number, flags: number, id: number, length: number): boolean {
    if (this.#first) {
      if (type !== SETTINGS || (flags & ACK) !== 0) return this.#fail(Http2Code.PROTOCOL_ERROR, 'http2.no_settings')
      this.#first = false
    }
    if (length > this.#maxGathered && this.#tooLong(type, length)) {
      return this.#fail(Http2Code.FRAME_SIZE_ERROR, 'http2.frame_too_large')
    }
    const wanted = this.continuationOf
    if (wanted !== 0 ? type !== CONTINUATION || id !== wanted : type === CONTINUATION) {
      return this.#fail(Http2Code.PROTOCOL_ERROR, 'http2.unexpected_continuation')
    }
    return true
  }

  /** DATA and what nobody knows passes by; a buffer of what a header alone announces would be a gift to attackers. */
  #tooLong(type: number, length: number): boolean {
    return length > this.#maxFrame || (type <= CONTINUATION && type !== DATA) || type === PRIORITY_UPDATE
  }

  /** Answers false, to be returned. */
  #fail(code: number, detail: string): boolean {
    this.stop()
    this.#sink.fail(code, detail)
    return false
  }

  /** Copies what there is of `wanted` bytes from `at` on. */
  #hold(chunk: Buffer, at: number, wanted: number): number {
    this.#held = Buffer.allocUnsafeSlow(wanted)
    this.#wanted = wanted
    this.#heldBytes = chunk.copy(this.#held, 0, at)
    return chunk.length
  }

  #gather(chunk: Buffer, at: number): number {
    const take = Math.min(this.#wanted - this.#heldBytes, chunk.length - at)
    chunk.copy(this.#held, this.#heldBytes, at, at + take)
    this.#heldBytes += take
    if (this.#heldBytes < this.#wanted) return at + take
    const held = this.#held
    this.#held = NOTHING
    this.#wanted = 0
    if (held.length > FRAME_HEADER_BYTES) {
      this.#sink.onFrame(held[3], held[4], readUint31(held, 5), held, FRAME_HEADER_BYTES, held.length)
    } else {
      // The header is complete: either nothing follows, or `#hold` has made room for all of the frame.
      this.#readFrame(held, 0)
    }
    return at + take
  }

  #startData(flags: number, id: number, length: number): void {
    const padded = (flags & PADDED) !== 0
    if (padded && length === 0) {
      this.#fail(Http2Code.FRAME_SIZE_ERROR, 'http2.no_pad_length')
      return
    }
    this.#inData = true
    this.#data = padded ? -1 : length
    this.#padded = length
    this.#sink.onDataStart(flags, id, length)
    if (length === 0 && !this.#stopped) this.#piece(NOTHING, 0, 0)
  }

  #readData(chunk: Buffer, at: number): number {
    if (this.#data < 0) {
      const padding = chunk[at++]
      this.#data = this.#padded - 1 - padding
      if (this.#data < 0) {
        this.#fail(Http2Code.PROTOCOL_ERROR, 'http2.padding_too_long')
        return at
      }
      this.#skip = padding
      if (this.#data === 0) this.#piece(chunk, at, at)
      return at
    }
    const to = at + Math.min(this.#data, chunk.length - at)
    this.#piece(chunk, at, to)
    return to
  }

  #piece(chunk: Buffer, from: number, to: number): void {
    this.#data -= to - from
    const last = this.#data === 0
    if (last) this.#inData = false
    this.#sink.onData(chunk, from, to, last)
  }
}
