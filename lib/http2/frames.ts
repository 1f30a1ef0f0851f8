/** Frame types and flags of RFC 9113 §6, as they lie on the wire. */

export const DATA = 0x0
export const HEADERS = 0x1
export const PRIORITY = 0x2
export const RST_STREAM = 0x3
export const SETTINGS = 0x4
export const PUSH_PROMISE = 0x5
export const PING = 0x6
export const GOAWAY = 0x7
export const WINDOW_UPDATE = 0x8
export const CONTINUATION = 0x9
/** RFC 9218 §7.1. */
export const PRIORITY_UPDATE = 0x10

/** On DATA and HEADERS. */
export const END_STREAM = 0x1
/** On SETTINGS and PING. */
export const ACK = 0x1
export const END_HEADERS = 0x4
export const PADDED = 0x8
/** On HEADERS. */
export const PRIORITY_FLAG = 0x20

export const FRAME_HEADER_BYTES = 9
/** SETTINGS_MAX_FRAME_SIZE of both sides until somebody says otherwise, and all we ever send. */
export const MAX_FRAME_BYTES = 16384
export const MAX_STREAM_ID = 0x7fffffff
/** Of any window (RFC 9113 §6.9.1). */
export const MAX_WINDOW = 0x7fffffff
/** Windows before any SETTINGS or WINDOW_UPDATE (RFC 9113 §6.9.2). */
export const DEFAULT_WINDOW = 65535

export const PREFACE: Buffer = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

/** Writes type, flags and stream behind the three bytes of length; answers the offset of the payload. */
export function putFrameHeader(out: Buffer, at: number, length: number, kind: number, id: number): number {
  out[at] = length >>> 16
  out[at + 1] = length >>> 8
  out[at + 2] = length
  out[at + 3] = kind >>> 8
  out[at + 4] = kind
  return putUint32(out, at + 5, id)
}

/** Type and flags as `putFrameHeader` takes them. */
export function kindOf(type: number, flags: number): number {
  return (type << 8) | flags
}

/** Answers the offset behind it. */
export function putUint32(out: Buffer, at: number, value: number): number {
  out[at] = value >>> 24
  out[at + 1] = value >>> 16
  out[at + 2] = value >>> 8
  out[at + 3] = value
  return at + 4
}

/** 31 bits: stream ids and window increments, whose first bit is reserved. */
export function readUint31(bytes: Buffer, at: number): number {
  return ((bytes[at] & 0x7f) << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]
}

export function readUint32(bytes: Buffer, at: number): number {
  return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0
}
