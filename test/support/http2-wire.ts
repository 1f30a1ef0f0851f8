/**
 * Frames of RFC 9113 as tests write and read them: any frame, valid or not. Shares no line with the sources. Header
 * blocks are written as literals without indexing and without Huffman (RFC 7541 §6.2.2), which needs no state.
 */

export const PREFACE: Buffer = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

/** Frame types (RFC 9113 §6, RFC 9218 §7.1). */
export const T = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
  PRIORITY_UPDATE: 16,
} as const

export const FLAG = { END_STREAM: 1, ACK: 1, END_HEADERS: 4, PADDED: 8, PRIORITY: 32 } as const

/** SETTINGS parameters. */
export const SETTING = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
  ENABLE_CONNECT_PROTOCOL: 8,
  NO_RFC7540_PRIORITIES: 9,
} as const

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly streamId: number
  readonly payload: Buffer
}

const NO_PAYLOAD: Buffer = Buffer.alloc(0)

/** Any frame; `streamId` may carry the reserved bit (pass a number above 2^31). */
export function frame(type: number, flags: number, streamId: number, payload: Buffer | string = NO_PAYLOAD): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'latin1') : payload
  const out = Buffer.alloc(9 + body.length)
  out.writeUIntBE(body.length, 0, 3)
  out[3] = type
  out[4] = flags
  out.writeUInt32BE(streamId >>> 0, 5)
  body.copy(out, 9)
  return out
}

export function settings(...pairs: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = Buffer.alloc(pairs.length * 6)
  for (const [i, [id, value]] of pairs.entries()) {
    payload.writeUInt16BE(id, i * 6)
    payload.writeUInt32BE(value >>> 0, i * 6 + 2)
  }
  return frame(T.SETTINGS, 0, 0, payload)
}

export function settingsAck(): Buffer {
  return frame(T.SETTINGS, FLAG.ACK, 0)
}

/** Eight bytes of opaque data, from a text. */
export function ping(data = 'pingping', ack = false): Buffer {
  return frame(T.PING, ack ? FLAG.ACK : 0, 0, data)
}

function uint32(...values: readonly number[]): Buffer {
  const out = Buffer.alloc(values.length * 4)
  for (const [i, value] of values.entries()) out.writeUInt32BE(value >>> 0, i * 4)
  return out
}

export function windowUpdate(streamId: number, increment: number): Buffer {
  return frame(T.WINDOW_UPDATE, 0, streamId, uint32(increment))
}

export function rstStream(streamId: number, code = 8): Buffer {
  return frame(T.RST_STREAM, 0, streamId, uint32(code))
}

export function goaway(lastStreamId: number, code = 0, debug = ''): Buffer {
  return frame(T.GOAWAY, 0, 0, Buffer.concat([uint32(lastStreamId, code), Buffer.from(debug, 'latin1')]))
}

export function priority(streamId: number, dependsOn = 0, weight = 15): Buffer {
  return frame(T.PRIORITY, 0, streamId, Buffer.concat([uint32(dependsOn), Buffer.from([weight])]))
}

export function data(streamId: number, payload: Buffer | string, end = false): Buffer {
  return frame(T.DATA, end ? FLAG.END_STREAM : 0, streamId, payload)
}

/** A length as HPACK writes integers (RFC 7541 §5.1). */
export function hpackInteger(value: number, prefixBits: number, first = 0): Buffer {
  const most = 2 ** prefixBits - 1
  if (value < most) return Buffer.from([first | value])
  const out = [first | most]
  for (value -= most; value >= 128; value = Math.floor(value / 128)) out.push((value % 128) | 128)
  out.push(value)
  return Buffer.from(out)
}

export type Fields = readonly (readonly [name: string, value: string])[]

/** A header block of literals (latin1); nothing is checked. */
export function headerBlock(fields: Fields): Buffer {
  const out: Buffer[] = []
  for (const [name, value] of fields) {
    out.push(Buffer.from([0]), hpackInteger(name.length, 7), Buffer.from(name, 'latin1'))
    out.push(hpackInteger(value.length, 7), Buffer.from(value, 'latin1'))
  }
  return Buffer.concat(out)
}

/** One HEADERS frame with END_HEADERS; fields or a ready block. */
export function headers(streamId: number, fields: Fields | Buffer, end = false): Buffer {
  const block = Buffer.isBuffer(fields) ? fields : headerBlock(fields)
  return frame(T.HEADERS, FLAG.END_HEADERS | (end ? FLAG.END_STREAM : 0), streamId, block)
}

/** The same block in a HEADERS frame and CONTINUATIONs of at most `size` bytes each. */
export function splitHeaders(streamId: number, fields: Fields, size: number, end = false): Buffer[] {
  const block = headerBlock(fields)
  const out: Buffer[] = []
  for (let at = 0; at === 0 || at < block.length; at += size) {
    const last = at + size >= block.length ? FLAG.END_HEADERS : 0
    const flags = at === 0 ? last | (end ? FLAG.END_STREAM : 0) : last
    out.push(frame(at === 0 ? T.HEADERS : T.CONTINUATION, flags, streamId, block.subarray(at, at + size)))
  }
  return out
}

/** Pseudo-headers of a GET, then `more`. */
export function get(path = '/', more: Fields = []): Fields {
  return request('GET', path, more)
}

export function request(method: string, path = '/', more: Fields = []): Fields {
  return [[':method', method], [':scheme', 'http'], [':authority', 'a.example'], [':path', path], ...more]
}

/** Payload with `padding` bytes of zeros and its length in front, as PADDED wants it. */
export function padded(payload: Buffer | string, padding: number): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'latin1') : payload
  return Buffer.concat([Buffer.from([padding]), body, Buffer.alloc(padding)])
}

/** Takes bytes apart into frames; keeps what is incomplete. Answers copies. */
export class FrameReader {
  #rest: Buffer = NO_PAYLOAD
  /** Client preface still to be skipped. */
  #preface: number

  constructor(options: { preface: boolean } = { preface: false }) {
    this.#preface = options.preface ? PREFACE.length : 0
  }

  read(chunk: Buffer): Frame[] {
    let bytes = Buffer.concat([this.#rest, chunk])
    if (this.#preface > 0) {
      const known = bytes.subarray(0, this.#preface)
      if (!PREFACE.subarray(0, known.length).equals(known)) throw new Error('no client preface')
      if (bytes.length < this.#preface) {
        this.#rest = bytes
        return []
      }
      bytes = bytes.subarray(this.#preface)
      this.#preface = 0
    }
    const out: Frame[] = []
    while (bytes.length >= 9) {
      const size = bytes.readUIntBE(0, 3)
      if (bytes.length < 9 + size) break
      const streamId = bytes.readUInt32BE(5) & 0x7fffffff
      out.push({ type: bytes[3], flags: bytes[4], streamId, payload: Buffer.from(bytes.subarray(9, 9 + size)) })
      bytes = bytes.subarray(9 + size)
    }
    this.#rest = Buffer.from(bytes)
    return out
  }

  /** Bytes of an incomplete frame. */
  get pending(): number {
    return this.#rest.length
  }
}

/** All frames of `bytes`; throws where the last one is incomplete. */
export function readFrames(bytes: Buffer, options: { preface: boolean } = { preface: false }): Frame[] {
  const reader = new FrameReader(options)
  const frames = reader.read(bytes)
  if (reader.pending > 0) throw new Error(`${reader.pending} bytes of an incomplete frame`)
  return frames
}

const NAMES = Object.entries(T)

/** `HEADERS 1 +END_STREAM 12`: type, stream, END_STREAM or ACK, and length or code; for assertions and messages. */
export function describe(f: Frame): string {
  const name = NAMES.find(([, type]) => type === f.type)?.[0] ?? `0x${f.type.toString(16)}`
  if (f.type === T.RST_STREAM) return `RST_STREAM ${f.streamId} code ${f.payload.readUInt32BE(0)}`
  if (f.type === T.GOAWAY) return `GOAWAY ${f.payload.readUInt32BE(0) & 0x7fffffff} code ${f.payload.readUInt32BE(4)}`
  if (f.type === T.WINDOW_UPDATE) return `WINDOW_UPDATE ${f.streamId} by ${f.payload.readUInt32BE(0)}`
  if (f.type === T.SETTINGS || f.type === T.PING) return `${name}${f.flags & FLAG.ACK ? ' ACK' : ''}`
  const end = (f.type === T.DATA || f.type === T.HEADERS) && f.flags & FLAG.END_STREAM ? ' +END_STREAM' : ''
  return `${name} ${f.streamId}${end} ${f.payload.length}`
}
