/** PINGs that find dead connections (Envoy's `connection_keepalive`). */
export interface Http2KeepaliveConfig {
  /** Between PINGs, ms; 0: none are sent at intervals. */
  readonly intervalMs: number
  /** Without an answer for so long the connection is closed. */
  readonly timeoutMs: number
  /** Random share of the interval added to it, 0 to 100. */
  readonly jitterPercent: number
  /**
   * Client: a connection idle for longer is PINGed before its next stream; 0: never. A server opens no streams, so there
   * it has no effect, as in Envoy.
   */
  readonly idleIntervalMs: number
}

/** How one side speaks HTTP/2 (Envoy's Http2ProtocolOptions, resolved: every default is filled in by the dialect). */
export interface Http2Config {
  /** SETTINGS_HEADER_TABLE_SIZE that we announce, and the most we use of what the peer announces. */
  readonly hpackTableBytes: number
  /** Streams the peer may open (server); streams we open at most whatever the peer allows (client). */
  readonly maxConcurrentStreams: number
  readonly initialStreamWindowBytes: number
  readonly initialConnectionWindowBytes: number
  /**
   * SETTINGS_MAX_FRAME_SIZE that we announce, 16,384 to 16,777,215; undefined: the least, which is not announced. What we
   * send stays in frames of the least.
   */
  readonly maxFrameBytes?: number
  /** SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441). */
  readonly allowConnect: boolean
  /** A malformed message resets its stream alone instead of ending the connection. */
  readonly streamErrorOnInvalidMessage: boolean
  /** Frames of any kind that may wait to be written. */
  readonly maxOutboundFrames: number
  /** PING and SETTINGS acknowledgements and RST_STREAMs that may wait to be written. */
  readonly maxOutboundControlFrames: number
  /** HEADERS, CONTINUATION and DATA frames without payload and without END_STREAM, in a row. */
  readonly maxConsecutiveEmptyFrames: number
  readonly maxPriorityFramesPerStream: number
  readonly maxWindowUpdatesPerDataFrame: number
  readonly keepalive?: Http2KeepaliveConfig
  /** Sent as they are, after our own settings. */
  readonly customSettings: readonly { readonly id: number; readonly value: number }[]
}

/** Flood limits, Envoy's defaults (edge-safety §1.1). */
const FLOOD_LIMITS = {
  maxOutboundFrames: 10_000,
  maxOutboundControlFrames: 1_000,
  maxConsecutiveEmptyFrames: 1,
  maxPriorityFramesPerStream: 100,
  maxWindowUpdatesPerDataFrame: 10,
} as const

/** Envoy's defaults (envoy-xds §3.3). */
export const ENVOY_HTTP2: Http2Config = Object.freeze({
  hpackTableBytes: 4096,
  maxConcurrentStreams: 1024,
  initialStreamWindowBytes: 16 * 1024 * 1024,
  initialConnectionWindowBytes: 24 * 1024 * 1024,
  allowConnect: false,
  streamErrorOnInvalidMessage: false,
  ...FLOOD_LIMITS,
  customSettings: [],
})

/** Safe at the edge of a network (edge-safety §1.4). */
export const EDGE_HTTP2: Http2Config = Object.freeze({
  ...ENVOY_HTTP2,
  maxConcurrentStreams: 100,
  initialStreamWindowBytes: 64 * 1024,
  initialConnectionWindowBytes: 1024 * 1024,
})
