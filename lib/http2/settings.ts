import type { Http2Config } from './config.ts'
import { Http2Code } from './contract.ts'
import { DEFAULT_WINDOW, MAX_FRAME_BYTES, MAX_WINDOW, readUint32 } from './frames.ts'
import type { HpackEncoder } from './hpack/encoder.ts'

const HEADER_TABLE_SIZE = 0x1
const ENABLE_PUSH = 0x2
const MAX_CONCURRENT_STREAMS = 0x3
const INITIAL_WINDOW_SIZE = 0x4
const MAX_FRAME_SIZE = 0x5
const MAX_HEADER_LIST_SIZE = 0x6
/** RFC 8441 §3. */
const ENABLE_CONNECT_PROTOCOL = 0x8
/** RFC 9218 §2.1. */
const NO_RFC7540_PRIORITIES = 0x9

const DEFAULT_TABLE_BYTES = 4096
const LARGEST_FRAME = 0xffffff

/** Bytes of one setting (RFC 9113 §6.5.1). */
export const SETTING_BYTES = 6

/** Our SETTINGS as pairs: what differs from the defaults, then what the configuration adds. */
export function ownSettings(server: boolean, config: Http2Config, maxHeaderListBytes: number): number[] {
  const out: number[] = []
  if (config.hpackTableBytes !== DEFAULT_TABLE_BYTES) out.push(HEADER_TABLE_SIZE, config.hpackTableBytes)
  if (server) out.push(MAX_CONCURRENT_STREAMS, config.maxConcurrentStreams)
  else out.push(ENABLE_PUSH, 0)
  if (config.initialStreamWindowBytes !== DEFAULT_WINDOW) {
    out.push(INITIAL_WINDOW_SIZE, config.initialStreamWindowBytes)
  }
  const { maxFrameBytes = MAX_FRAME_BYTES } = config
  if (maxFrameBytes !== MAX_FRAME_BYTES) out.push(MAX_FRAME_SIZE, maxFrameBytes)
  out.push(MAX_HEADER_LIST_SIZE, maxHeaderListBytes)
  if (server && config.allowConnect) out.push(ENABLE_CONNECT_PROTOCOL, 1)
  out.push(NO_RFC7540_PRIORITIES, 1)
  for (const { id, value } of config.customSettings) out.push(id, value)
  return out
}

/** What the peer's SETTINGS allow us (RFC 9113 §6.5.2); defaults until the first ones. */
export class PeerSettings {
  readonly #fromServer: boolean
  readonly #encoder: HpackEncoder
  maxConcurrentStreams = 0xffffffff
  initialWindow: number = DEFAULT_WINDOW
  maxHeaderListBytes = 0xffffffff
  connectProtocol = false
  detail = ''

  constructor(fromServer: boolean, encoder: HpackEncoder) {
    this.#fromServer = fromServer
    this.#encoder = encoder
  }

  /** Reads a frame's settings in their order. Answers 0 or the code of the connection error, and `detail`. */
  read(bytes: Buffer, from: number, to: number): number {
    for (let at = from; at < to; at += SETTING_BYTES) {
      const code = this.#set((bytes[at] << 8) | bytes[at + 1], readUint32(bytes, at + 2))
      if (code !== 0) return code
    }
    return 0
  }

  #set(id: number, value: number): number {
    switch (id) {
      case HEADER_TABLE_SIZE:
        // Each on its own: the encoder must evict down to the smallest on the way (RFC 7541 §4.2).
        this.#encoder.setMaxTableBytes(value)
        return 0
      case ENABLE_PUSH:
        return value > 1 || (value === 1 && this.#fromServer) ? this.#refuse('http2.invalid_enable_push') : 0
      case MAX_CONCURRENT_STREAMS:
        this.maxConcurrentStreams = value
        return 0
      case INITIAL_WINDOW_SIZE:
        if (value > MAX_WINDOW) {
          this.detail = 'http2.invalid_initial_window_size'
          return Http2Code.FLOW_CONTROL_ERROR
        }
        this.initialWindow = value
        return 0
      case MAX_FRAME_SIZE:
        // We never send larger frames than the least that it may be.
        return value < MAX_FRAME_BYTES || value > LARGEST_FRAME ? this.#refuse('http2.invalid_max_frame_size') : 0
      case MAX_HEADER_LIST_SIZE:
        this.maxHeaderListBytes = value
        return 0
      case ENABLE_CONNECT_PROTOCOL:
        if (value > 1 || (value === 0 && this.connectProtocol)) return this.#refuse('http2.invalid_connect_protocol')
        this.connectProtocol = value === 1
        return 0
      case NO_RFC7540_PRIORITIES:
        return value > 1 ? this.#refuse('http2.invalid_no_rfc7540_priorities') : 0
      default:
        return 0
    }
  }

  #refuse(detail: string): number {
    this.detail = detail
    return Http2Code.PROTOCOL_ERROR
  }
}
