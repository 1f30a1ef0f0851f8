import type { Socket } from 'node:net'

/** Frame types (RFC 9113 section 6). */
export const DATA = 0
export const HEADERS = 1
export const RST_STREAM = 3
export const SETTINGS = 4
export const PING = 6
export const GOAWAY = 7
export const WINDOW_UPDATE = 8

/** Frame flags. */
export const END_STREAM = 1
export const ACK = 1
export const END_HEADERS = 4
export const PADDED = 8

/** Setting identifiers (RFC 9113 section 6.5.2). */
export const HEADER_TABLE_SIZE = 1
export const MAX_CONCURRENT_STREAMS = 3
export const INITIAL_WINDOW_SIZE = 4

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

const HEAD = 9

/**
 * Cuts a byte stream into frames. The peer is trusted: this is part of a measuring instrument, not of a proxy. The fields
 * describe the frame that `onFrame` is called for and are overwritten by the next one.
 */
export class FrameReader {
  type = 0
  flags = 0
  stream = 0
  /** The payload is `buffer` from `start` to `end`. */
  buffer: Buffer = Buffer.alloc(0)
  start = 0
  end = 0
  readonly #onFrame: (frame: FrameReader) => void
  #held: Buffer | undefined
  #have = 0

  constructor(onFrame: (frame: FrameReader) => void) {
    this.#onFrame = onFrame
  }

  push(chunk: Buffer): void {
    let at = this.#held === undefined ? 0 : this.#complete(chunk)
    while (at >= 0 && chunk.length - at >= HEAD) {
      const end = at + HEAD + chunk.readUIntBE(at, 3)
      if (end > chunk.length) break
      this.#emit(chunk, at, end)
      at = end
    }
    if (at < 0 || at === chunk.length) return
    const whole = chunk.length - at >= HEAD ? HEAD + chunk.readUIntBE(at, 3) : HEAD
    this.#held = Buffer.allocUnsafe(whole)
    this.#have = chunk.copy(this.#held, 0, at)
  }

  /** Adds to the frame that began in an earlier chunk; answers where the next one begins, -1 while it is incomplete. */
  #complete(chunk: Buffer): number {
    let held = this.#held!
    let at = chunk.copy(held, this.#have)
    this.#have += at
    if (this.#have < HEAD) return -1
    const whole = HEAD + held.readUIntBE(0, 3)
    if (held.length < whole) {
      held = Buffer.allocUnsafe(whole)
      this.#held!.copy(held)
      this.#held = held
      const more = chunk.copy(held, this.#have, at)
      this.#have += more
      at += more
    }
    if (this.#have < whole) return -1
    this.#held = undefined
    this.#emit(held, 0, whole)
    return at
  }

  #emit(buffer: Buffer, at: number, end: number): void {
    this.type = buffer[at + 3]
    this.flags = buffer[at + 4]
    this.stream = buffer.readUInt32BE(at + 5) & 0x7fffffff
    this.buffer = buffer
    this.start = at + HEAD
    this.end = end
    if ((this.flags & PADDED) !== 0 && (this.type === DATA || this.type === HEADERS)) {
      this.end -= buffer[this.start]
      this.start++
    }
    this.#onFrame(this)
  }
}

const OUTBOX_BYTES = 128 * 1024

/** Collects frames and writes them with one system call. */
export class Outbox {
  readonly #socket: Socket
  readonly #buffer = Buffer.allocUnsafe(OUTBOX_BYTES)
  #length = 0

  constructor(socket: Socket) {
    this.#socket = socket
  }

  /** Adds a frame with the payload `bytes` from `start` to `end`. */
  frame(type: number, flags: number, stream: number, bytes: Buffer = EMPTY, start = 0, end = bytes.length): void {
    const length = end - start
    if (this.#length + HEAD + length > OUTBOX_BYTES) this.flush()
    const at = this.#length
    this.#buffer.writeUIntBE(length, at, 3)
    this.#buffer[at + 3] = type
    this.#buffer[at + 4] = flags
    this.#buffer.writeUInt32BE(stream, at + 5)
    bytes.copy(this.#buffer, at + HEAD, start, end)
    this.#length = at + HEAD + length
  }

  /** Bytes as they are, such as the preface. */
  raw(bytes: Buffer): void {
    this.#length += bytes.copy(this.#buffer, this.#length)
  }

  settings(values: readonly (readonly [id: number, value: number])[]): void {
    const payload = Buffer.alloc(values.length * 6)
    for (const [i, [id, value]] of values.entries()) {
      payload.writeUInt16BE(id, i * 6)
      payload.writeUInt32BE(value, i * 6 + 2)
    }
    this.frame(SETTINGS, 0, 0, payload)
  }

  windowUpdate(stream: number, increment: number): void {
    const payload = Buffer.alloc(4)
    payload.writeUInt32BE(increment)
    this.frame(WINDOW_UPDATE, 0, stream, payload)
  }

  /** False when the socket holds more than it should: wait for `drain`. */
  flush(): boolean {
    if (this.#length === 0) return !this.#socket.writableNeedDrain
    // The socket may keep what it is given until the kernel takes it, so it gets a copy.
    const bytes = Buffer.from(this.#buffer.subarray(0, this.#length))
    this.#length = 0
    return this.#socket.destroyed ? true : this.#socket.write(bytes)
  }
}

const EMPTY = Buffer.alloc(0)

/** Each setting of a SETTINGS payload. */
export function readSettings(frame: FrameReader): [id: number, value: number][] {
  const values: [number, number][] = []
  for (let at = frame.start; at + 6 <= frame.end; at += 6)
    values.push([frame.buffer.readUInt16BE(at), frame.buffer.readUInt32BE(at + 2)])
  return values
}

/** A name and a value as one literal field without Huffman coding (RFC 7541 section 6.2); both under 127 bytes. */
export function literal(name: string, value: string, indexed = false): Buffer {
  const head = Buffer.from([indexed ? 0x40 : 0x00, name.length])
  return Buffer.concat([head, Buffer.from(name, 'latin1'), Buffer.from([value.length]), Buffer.from(value, 'latin1')])
}
