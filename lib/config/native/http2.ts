import type { Http2Config, Http2KeepaliveConfig } from '../../http2/config.ts'

/** PINGs that find dead connections. Times in ms. */
export interface NativeHttp2Keepalive {
  /** Between PINGs; 0: none at intervals. Default: 0. */
  readonly intervalMs?: number
  /** Without an answer for so long the connection is closed. Default: 10,000. */
  readonly timeoutMs?: Http2KeepaliveConfig['timeoutMs']
  /** Random share of the interval added to it, 0 to 100. Default: 15. */
  readonly jitterPercent?: number
  /** A connection idle for longer is PINGed before its next stream; 0: never. Default: 0. */
  readonly idleIntervalMs?: number
}

/** How HTTP/2 is spoken. Sizes in bytes. */
export interface NativeHttp2 {
  /** HPACK dynamic table that we offer, and the most we use of what the peer offers. Default: 4,096. */
  readonly hpackTableBytes?: number
  /** Streams at a time on one connection. Default: 100. */
  readonly maxConcurrentStreams?: number
  /** What the peer may send ahead on one stream. Default: 64 KiB. */
  readonly initialStreamWindowBytes?: number
  /** What the peer may send ahead on one connection. Default: 1 MiB. */
  readonly initialConnectionWindowBytes?: number
  /** Extended CONNECT (RFC 8441), for WebSockets over HTTP/2. Default: false. */
  readonly allowConnect?: boolean
  /** A malformed message resets its stream instead of ending the connection. Default: false. */
  readonly streamErrorOnInvalidMessage?: boolean
  /** Frames that may wait to be written. Default: 10,000. */
  readonly maxOutboundFrames?: number
  /** Of these, answers to PING and SETTINGS, and RST_STREAM. Default: 1,000. */
  readonly maxOutboundControlFrames?: number
  /** Empty frames that do not end a stream, in a row. Default: 1. */
  readonly maxConsecutiveEmptyFrames?: number
  /** Default: 100. */
  readonly maxPriorityFramesPerStream?: number
  /** Default: 10. */
  readonly maxWindowUpdatesPerDataFrame?: number
  /** Default: none. */
  readonly keepalive?: NativeHttp2Keepalive
  /** Settings of extensions, sent as they are; those of HTTP/2 itself have fields of their own. Default: none. */
  readonly customSettings?: Http2Config['customSettings']
}
