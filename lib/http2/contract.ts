import type { RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import type { Counter, Gauge } from '../core/metrics.ts'
import type { TurnQueue } from '../core/turn.ts'
import type { TurnShare } from '../core/turn-share.ts'
import type { Http2Config } from './config.ts'

/** Where a session's bytes go: a socket, a TLS stream, a tunnel. Errors and the end arrive through the session's owner. */
export interface Http2Transport {
  /** False: the session writes no DATA until `transportDrained`. `bytes` is not touched again by the session. */
  write(bytes: Buffer): boolean
  cork(): void
  uncork(): void
  /** Nothing that was written waits: the system has it. Missing or false where that is not known. */
  readonly drained?: boolean
}

/** Error codes of RFC 9113 §7. */
export const Http2Code = {
  NO_ERROR: 0x0,
  PROTOCOL_ERROR: 0x1,
  INTERNAL_ERROR: 0x2,
  FLOW_CONTROL_ERROR: 0x3,
  SETTINGS_TIMEOUT: 0x4,
  STREAM_CLOSED: 0x5,
  FRAME_SIZE_ERROR: 0x6,
  REFUSED_STREAM: 0x7,
  CANCEL: 0x8,
  COMPRESSION_ERROR: 0x9,
  CONNECT_ERROR: 0xa,
  ENHANCE_YOUR_CALM: 0xb,
  INADEQUATE_SECURITY: 0xc,
  HTTP_1_1_REQUIRED: 0xd,
} as const

/** Cells of one stat prefix (`http2.*` of Envoy's codec statistics); shared by the sessions of a listener or a cluster. */
export interface Http2Stats {
  readonly headerOverflow: Counter
  readonly headersCbNoStream: Counter
  readonly inboundEmptyFramesFlood: Counter
  readonly inboundPriorityFramesFlood: Counter
  readonly inboundWindowUpdateFramesFlood: Counter
  /** Control frames, SETTINGS, PING and unknown frames beyond their ratio. */
  readonly inboundControlFramesFlood: Counter
  readonly prematureResets: Counter
  readonly outboundFlood: Counter
  readonly outboundControlFlood: Counter
  readonly rxMessagingError: Counter
  readonly rxReset: Counter
  readonly txReset: Counter
  readonly trailers: Counter
  readonly goawaySent: Counter
  readonly streamRefusedErrors: Counter
  readonly keepaliveTimeout: Counter
  readonly txFlushTimeout: Counter
  readonly protocolErrors: Counter
  readonly streamsActive: Gauge
  readonly pendingSendBytes: Gauge
}

/** Why a stream ended before both its directions were complete. */
export interface StreamReset {
  /** Of RFC 9113 §7. */
  readonly code: number
  /**
   * `peer`: RST_STREAM came. `protocol`: the peer broke a rule and we have sent RST_STREAM. `goaway`: the peer will never
   * look at it. `connection`: the transport or the session failed.
   */
  readonly by: 'peer' | 'protocol' | 'goaway' | 'connection'
  /** The peer may have acted on the request: false makes a retry safe (REFUSED_STREAM, above GOAWAY's last stream). */
  readonly processed: boolean
  readonly detail: string
}

/**
 * What a stream tells its user. No call follows `onReset`. After the end of what the peer sends only `onDrain` follows, and
 * `onReset` where that still matters: to a server whose answer is not out, and in tunnels. A client whose response is
 * whole hears of no reset (RFC 9113 §8.1).
 */
export interface StreamHandler {
  /** Client: an interim response. */
  onInformational(status: number, headers: Headers): void
  /** Client: the final response's head. */
  onHeaders(status: number, headers: Headers, end: boolean): void
  /**
   * A piece of the body; not called while paused. The chunk may be a view of a larger packet. Its bytes are credited to
   * the peer's windows when it is called.
   */
  onData(chunk: Buffer, end: boolean): void
  onTrailers(trailers: Headers): void
  /** After a `write` that answered false: there is room again. */
  onDrain(): void
  onReset(reset: StreamReset): void
}

/** One stream as its user sees it. All methods are harmless after its end; none throws. */
export interface StreamFace {
  readonly id: number
  /** Set by `onRequest` (server) before it returns, or passed to `request` (client). */
  handler: StreamHandler
  /** Bytes of the header blocks received so far, compressed. */
  readonly receivedHeaderBytes: number
  /** Server: an interim response (1xx). */
  informational(status: number, headers: Headers): void
  /** Server: the final head; answers the bytes of its header block. Fields that HTTP/2 forbids are left out. */
  respond(status: number, headers: Headers, end: boolean): number
  /** False: wait for `onDrain`; what was written is taken in any case. `chunk` is never changed afterwards by anybody. */
  write(chunk: Buffer, end: boolean): boolean
  trailers(trailers: Headers): void
  /** Sends RST_STREAM; the handler hears nothing more. */
  reset(code: number): void
  /**
   * Server: the rest of the request is not wanted. It is dropped (its windows credited), and where it is not complete
   * when the whole response has been sent, RST_STREAM with NO_ERROR follows that (RFC 9113 §8.1). The handler still gets
   * `onDrain` and `onReset`, no body and no trailers.
   */
  discard(): void
  /** Bytes of the body that were written and have not gone to the transport: they wait for windows or their turn. */
  readonly pendingBytes: number
  /**
   * Sends what windows permit now instead of at the end of the turn. True: all that was written has gone to the system, and
   * its memory may be used again.
   */
  settled(): boolean
  /** No `onData` until `resume`; the window stays closed for what is held back meanwhile. */
  pause(): void
  resume(): void
}

/** Why a session takes something for no request. */
export interface RequestRefusal {
  /** 431: the header list is over its limit, and the owner answers. 0: it is malformed, and `onReset` follows at once. */
  readonly status: number
  /** As far as it is known. */
  readonly head: RequestHead | undefined
  /** END_STREAM came with it. */
  readonly end: boolean
  readonly detail: string
}

/** What a session tells its owner. */
export interface SessionHandler {
  /** Server: a request whose head obeys RFC 9113 §8. The owner sets `stream.handler` before it returns. */
  onRequest(stream: StreamFace, head: RequestHead, headers: Headers, end: boolean): void
  /**
   * Server: what came in place of a request, so that it can be answered, logged and counted like one. The owner sets
   * `stream.handler` before it returns. The guards against floods have let it pass.
   */
  onRefused(stream: StreamFace, refusal: RequestRefusal): void
  /** SETTINGS of the peer arrived: what it allows may have changed. */
  onSettings(): void
  /** The peer goes away: no new streams; those it will not look at have been reset. */
  onGoaway(code: number, lastStreamId: number): void
  onPong(): void
  /** A stream has left the session, however it ended: `openStreams` has gone down. */
  onStreamClosed(): void
  /** The session is over: its GOAWAY is in the transport's hands, all streams have been reset. The owner closes. */
  onFailed(code: number, detail: string): void
}

export interface SessionOptions {
  readonly role: 'server' | 'client'
  readonly config: Http2Config
  /** Of header lists that the peer sends: uncompressed bytes as RFC 9113 §10.5.1 counts, and fields. */
  readonly maxHeaderListBytes: number
  readonly maxHeaders: number
  readonly transport: Http2Transport
  readonly turn: TurnQueue
  /** Server: asked after each header block. Undefined: everything is read at once. */
  readonly share?: Pick<TurnShare, 'spent'>
  /** Monotonic ms. */
  readonly now: () => number
  readonly stats: Http2Stats
  readonly handler: SessionHandler
}

/** One HTTP/2 connection: bytes in, events and bytes out. Made by `new Http2Session(options)`. */
export interface SessionFace {
  /** Sends the preface (client) and SETTINGS. */
  start(): void
  /**
   * Bytes of the peer, split anywhere. Never throws; after a failure they are ignored. Never keeps a view for later. Answers
   * how many it has read: at least one frame, and fewer than there are where `share` says that the turn is over. The owner
   * brings the rest again in another turn, before anything that comes behind it.
   */
  receive(chunk: Buffer): number
  /**
   * Of bytes that are to be received next, how many cost more than being passed on: all but the payload of DATA. Counts no
   * further than `enough`.
   */
  workIn(bytes: Buffer, enough: number): number
  transportDrained(): void
  /** The transport is gone: every open stream is reset with `connection`. */
  transportClosed(detail: string): void
  /** Client: undefined where the peer's limit, GOAWAY or exhausted ids leave no room. */
  request(head: RequestHead, headers: Headers, end: boolean, handler: StreamHandler): StreamFace | undefined
  /** `onPong` follows. One at a time; false where one is under way. */
  ping(): boolean
  /** First step of a drain: GOAWAY with the highest id, streams go on to be accepted. Idempotent. */
  announceShutdown(): void
  /** Second step: GOAWAY with the last stream accepted; newer streams are refused. Idempotent. */
  shutdown(code?: number): void
  /**
   * Server: for the owner to call at long intervals. Streams whose response has been written to its end, but waits for the
   * peer's windows without a byte of progress since the last call, are reset; answers how many (Envoy's flush timeout).
   */
  resetStalled(): number
  /** Fails the session for a reason of the owner's (a deadline). */
  fail(code: number, detail: string): void
  /** Writes now what waits for the end of the turn. */
  flush(): void
  readonly openStreams: number
  /** Streams that `request` would still accept now; 0 after GOAWAY. */
  readonly available: number
  /** The peer's SETTINGS_MAX_CONCURRENT_STREAMS bounded by ours. */
  readonly maxStreams: number
  /** The peer has sent its preface and first SETTINGS. */
  readonly ready: boolean
  /** Ours have been acknowledged. */
  readonly settingsAcked: boolean
  /** The peer permits extended CONNECT (RFC 8441). */
  readonly connectProtocol: boolean
  readonly goingAway: boolean
  readonly failed: boolean
  /**
   * The stream whose header block has begun and is not complete, be it within a frame or before its CONTINUATION; 0: none.
   * For deadlines.
   */
  readonly receivingHead: number
  /** Bytes that wait in the session: for windows, or for the transport. */
  readonly pendingBytes: number
}
