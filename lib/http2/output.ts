import type { Headers } from '../core/headers.ts'
import type { TurnQueue, TurnWork } from '../core/turn.ts'
import { isConnectionField } from '../http1/tokens.ts'
import type { Http2Transport } from './contract.ts'
import {
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  FRAME_HEADER_BYTES,
  HEADERS,
  kindOf,
  MAX_FRAME_BYTES,
  putFrameHeader,
  putUint32,
} from './frames.ts'
import { type HpackEncoder, MAX_BEGIN_BYTES, MAX_STATUS_BYTES, maxEncodedBytes } from './hpack/encoder.ts'

/** DATA of at least this size is lent to the transport as it is, smaller is copied behind the other frames. */
const LEND_BYTES = 8192
const SMALLEST_SLAB = 1024
const LARGEST_SLAB = 32768

/** Where DATA that waits comes from. */
export interface DataSource {
  /** The turn ends: writes what windows and transport permit now. */
  emit(): void
  /** Nothing is open that could soon want to write. */
  readonly idle: boolean
}

/**
 * The outgoing frames of one connection. All that is written in one turn goes into one buffer, the slab, and leaves in one
 * write when the turn ends; large DATA is written between pieces of the slab, corked. Bytes that the transport has got are
 * never written again: the next frames go behind them, or into a new slab, sized by what the last turns needed.
 */
export class Output implements TurnWork {
  readonly #transport: Http2Transport
  readonly #turn: TurnQueue
  readonly #encoder: HpackEncoder
  source: DataSource | undefined = undefined
  #slab: Buffer | undefined = undefined
  /** Start of what the transport has not got, and where the next frame goes. */
  #from = 0
  #at = 0
  #slabBytes = SMALLEST_SLAB
  /** Of this turn: bytes that went through the slab. */
  #turnBytes = 0
  #scheduled = false
  #corked = false
  #closed = false
  /** The transport takes no more DATA. */
  blocked = false
  /** Frames that wait: in the slab, and in a transport that is blocked; and those of them that answer the peer's. */
  frames = 0
  controls = 0
  /** Bytes that a blocked transport has been given all the same: heads and answers, as DATA waits in its streams. */
  blockedBytes = 0
  /** Times that bytes were handed over: tells whether a frame can have left. */
  handovers = 0

  constructor(transport: Http2Transport, turn: TurnQueue, encoder: HpackEncoder) {
    this.#transport = transport
    this.#turn = turn
    this.#encoder = encoder
  }

  /** Nothing is written any more. */
  close(): void {
    this.#closed = true
    this.#slab = undefined
    if (!this.#corked) return
    this.#corked = false
    this.#transport.uncork()
  }

  /** The system has all that was handed over. */
  get drained(): boolean {
    return this.#transport.drained === true
  }

  transportDrained(): void {
    this.blocked = false
    this.frames = this.controls = this.blockedBytes = 0
    this.schedule()
  }

  schedule(): void {
    if (this.#scheduled || this.#closed) return
    this.#scheduled = true
    this.#turn.defer(this)
  }

  turnEnds(): void {
    this.#scheduled = false
    if (this.#closed) return
    this.source?.emit()
    this.flush()
    const wanted = Math.min(LARGEST_SLAB, Math.max(SMALLEST_SLAB, this.#turnBytes * 4))
    if (wanted > this.#slabBytes) this.#slabBytes = Math.min(wanted, this.#slabBytes * 4)
    else if (wanted * 4 < this.#slabBytes) this.#slabBytes >>= 1
    this.#turnBytes = 0
    // A connection that waits for its next request keeps no buffer.
    if (this.source?.idle !== false) this.#slab = undefined
  }

  /** Hands over what there is. */
  flush(): void {
    this.#handOver()
    if (!this.#corked) return
    this.#corked = false
    this.#transport.uncork()
  }

  #handOver(): void {
    const slab = this.#slab
    if (slab === undefined || this.#at === this.#from || this.#closed) return
    const bytes = slab.subarray(this.#from, this.#at)
    this.#from = this.#at
    this.#turnBytes += bytes.length
    this.#write(bytes)
  }

  #write(bytes: Buffer): void {
    this.handovers++
    if (this.#transport.write(bytes) || this.#taken()) {
      if (!this.blocked) this.frames = this.controls = 0
      return
    }
    this.blocked = true
    this.blockedBytes += bytes.length
  }

  /** What the system takes at once is no reason to wait, however much it is. */
  #taken(): boolean {
    if (this.#corked) {
      this.#corked = false
      this.#transport.uncork()
    }
    return this.drained
  }

  /** Room for `bytes` at `#at`. */
  #reserve(bytes: number): Buffer {
    if (!this.#scheduled) this.schedule()
    const slab = this.#slab
    if (slab !== undefined && this.#at + bytes <= slab.length) return slab
    this.#cork()
    this.#handOver()
    if (this.#turnBytes >= this.#slabBytes && this.#slabBytes < LARGEST_SLAB) this.#slabBytes *= 2
    const next = Buffer.allocUnsafe(Math.max(this.#slabBytes, bytes))
    this.#slab = next
    this.#from = this.#at = 0
    return next
  }

  #cork(): void {
    if (this.#corked || this.#closed || this.#at === this.#from) return
    this.#corked = true
    this.#transport.cork()
  }

  raw(bytes: Buffer): void {
    const slab = this.#reserve(bytes.length)
    this.#at += bytes.copy(slab, this.#at)
    this.frames++
  }

  /** A frame whose payload is one number of 32 bits: RST_STREAM, WINDOW_UPDATE. */
  number(kind: number, id: number, value: number): void {
    const slab = this.#reserve(FRAME_HEADER_BYTES + 4)
    this.#at = putUint32(slab, putFrameHeader(slab, this.#at, 4, kind, id), value)
    this.frames++
  }

  /** Any small frame. */
  control(kind: number, id: number, bytes: Buffer, from: number, to: number): void {
    const slab = this.#reserve(FRAME_HEADER_BYTES + to - from)
    const at = putFrameHeader(slab, this.#at, to - from, kind, id)
    this.#at = at + bytes.copy(slab, at, from, to)
    this.frames++
  }

  /** The header block of a response; fields that HTTP/2 forbids are left out. Answers its bytes. */
  response(id: number, status: number, headers: Headers | undefined, end: boolean): number {
    const slab = this.#reserve(blockBound(headers === undefined ? undefined : headers.raw) + MAX_STATUS_BYTES)
    const at = this.#encoder.status(slab, this.#encoder.begin(slab, this.#at + FRAME_HEADER_BYTES), status)
    return this.#finish(id, headers === undefined ? at : this.#fields(slab, at, headers), end)
  }

  /** `pseudo`: as pairs, before all others. */
  request(id: number, pseudo: string[], headers: Headers, end: boolean): number {
    const slab = this.#reserve(blockBound(pseudo) + blockBound(headers.raw))
    let at = this.#encoder.begin(slab, this.#at + FRAME_HEADER_BYTES)
    const { neverIndexed } = headers
    for (let i = 0; i < pseudo.length; i += 2) {
      at =
        neverIndexed === undefined || !neverIndexed.includes(pseudo[i])
          ? this.#encoder.field(slab, at, pseudo[i], pseudo[i + 1])
          : this.#encoder.fieldNeverIndexed(slab, at, pseudo[i], pseudo[i + 1])
    }
    return this.#finish(id, this.#fields(slab, at, headers), end)
  }

  trailers(id: number, headers: Headers): number {
    const slab = this.#reserve(blockBound(headers.raw))
    const at = this.#encoder.begin(slab, this.#at + FRAME_HEADER_BYTES)
    return this.#finish(id, this.#fields(slab, at, headers), true)
  }

  #fields(slab: Buffer, at: number, { raw, neverIndexed }: Headers): number {
    const encoder = this.#encoder
    for (let i = 0; i < raw.length; i += 2) {
      const name = raw[i]
      if (isConnectionField(name) || !isWritable(name, raw[i + 1])) continue
      at =
        neverIndexed === undefined || !neverIndexed.includes(name)
          ? encoder.field(slab, at, name, raw[i + 1])
          : encoder.fieldNeverIndexed(slab, at, name, raw[i + 1])
    }
    return at
  }

  /** The block ends at `end`; puts its frame headers in. */
  #finish(id: number, end: number, endStream: boolean): number {
    const slab = this.#slab!
    const start = this.#at
    const bytes = end - start - FRAME_HEADER_BYTES
    const flags = endStream ? END_STREAM : 0
    this.frames++
    if (bytes <= MAX_FRAME_BYTES) {
      putFrameHeader(slab, start, bytes, kindOf(HEADERS, flags | END_HEADERS), id)
      this.#at = end
      return bytes
    }
    const more = Math.ceil(bytes / MAX_FRAME_BYTES) - 1
    // From the last piece to the first, each moves back by the frame headers in front of it.
    for (let i = more; i > 0; i--) {
      const from = start + FRAME_HEADER_BYTES + i * MAX_FRAME_BYTES
      const length = Math.min(MAX_FRAME_BYTES, end - from)
      const to = from + i * FRAME_HEADER_BYTES
      slab.copyWithin(to, from, from + length)
      putFrameHeader(slab, to - FRAME_HEADER_BYTES, length, kindOf(CONTINUATION, i === more ? END_HEADERS : 0), id)
    }
    putFrameHeader(slab, start, MAX_FRAME_BYTES, kindOf(HEADERS, flags), id)
    this.frames += more
    this.#at = end + more * FRAME_HEADER_BYTES
    return bytes
  }

  /** One DATA frame of `bytes[from, to)`, at most 16 KiB. Lends what is large. */
  data(id: number, bytes: Buffer, from: number, to: number, end: boolean): void {
    const size = to - from
    const kind = kindOf(DATA, end ? END_STREAM : 0)
    this.frames++
    if (size < LEND_BYTES) {
      const slab = this.#reserve(FRAME_HEADER_BYTES + size)
      const at = putFrameHeader(slab, this.#at, size, kind, id)
      this.#at = at + bytes.copy(slab, at, from, to)
      return
    }
    const slab = this.#reserve(FRAME_HEADER_BYTES)
    this.#at = putFrameHeader(slab, this.#at, size, kind, id)
    this.#cork()
    this.#handOver()
    if (!this.#closed) this.#write(size === bytes.length ? bytes : bytes.subarray(from, to))
  }

  /** Starts a DATA frame of `size` bytes that `append` fills at once; for small chunks that share a frame. */
  beginData(id: number, size: number, end: boolean): void {
    const slab = this.#reserve(FRAME_HEADER_BYTES + size)
    this.#at = putFrameHeader(slab, this.#at, size, kindOf(DATA, end ? END_STREAM : 0), id)
    this.frames++
  }

  append(bytes: Buffer, from: number, to: number): void {
    this.#at += bytes.copy(this.#slab!, this.#at, from, to)
  }
}

/** Bytes that suffice for a block of these fields with all its frame headers. */
function blockBound(raw: readonly string[] | undefined): number {
  let bytes = MAX_BEGIN_BYTES + 2 * FRAME_HEADER_BYTES
  if (raw === undefined) return bytes
  for (let i = 0; i < raw.length; i += 2) bytes += maxEncodedBytes(raw[i], raw[i + 1])
  return bytes <= MAX_FRAME_BYTES ? bytes : bytes + FRAME_HEADER_BYTES * Math.ceil(bytes / MAX_FRAME_BYTES)
}

/** TE says nothing but `trailers` in HTTP/2; a pseudo-header is nobody's to set but ours. */
function isWritable(name: string, value: string): boolean {
  const first = name.charCodeAt(0)
  if (first === 58) return false
  return first !== 116 || name !== 'te' || value === 'trailers'
}
