import { ClosedStreams, type Closing, ENDED, RESET_BY_PEER, RESET_BY_US } from './closed-streams.ts'
import type { Http2Config } from './config.ts'
import { Http2Code, type Http2Stats, type SessionHandler, type SessionOptions, type StreamReset } from './contract.ts'
import type { FrameReader } from './frame-reader.ts'
import { GOAWAY, kindOf, MAX_STREAM_ID, putUint32, RST_STREAM } from './frames.ts'
import { Guards } from './guards.ts'
import { HpackEncoder } from './hpack/encoder.ts'
import { Output } from './output.ts'
import { Receiver } from './receiver.ts'
import { Sender } from './sender.ts'
import { PeerSettings } from './settings.ts'
import { Http2Stream } from './stream.ts'

/** Heads of responses that may wait for a peer that does not read: 10,000 frames of them could be 600 MiB. */
const BLOCKED_BYTES = 4 * 1024 * 1024

/**
 * What the parts of a session share, and what happens to its streams: how they open, end, and fail. @internal
 */
export class SessionCore {
  readonly server: boolean
  readonly config: Http2Config
  readonly stats: Http2Stats
  readonly handler: SessionHandler
  readonly now: () => number
  readonly share: SessionOptions['share']
  readonly guards: Guards
  readonly encoder: HpackEncoder
  readonly peer: PeerSettings
  readonly output: Output
  readonly sender: Sender
  readonly receiver: Receiver
  readonly streams: Map<number, Http2Stream> = new Map()
  readonly closedStreams: ClosedStreams = new ClosedStreams()
  /** Server: the highest id that the peer has used. */
  lastPeerId = 0
  /** Client: the id of the next stream. */
  nextId = 1
  /** Server: streams above are refused; lowered by our last GOAWAY. */
  acceptedId: number = MAX_STREAM_ID
  reader: FrameReader | undefined = undefined
  settingsAcked = false
  goingAway = false
  failed = false

  constructor(options: SessionOptions) {
    this.server = options.role === 'server'
    this.config = options.config
    this.stats = options.stats
    this.handler = options.handler
    this.now = options.now
    this.share = options.share
    this.guards = new Guards(options.config, options.stats, options.now)
    this.encoder = new HpackEncoder({ maxTableBytes: options.config.hpackTableBytes })
    this.peer = new PeerSettings(!this.server, this.encoder)
    this.output = new Output(options.transport, options.turn, this.encoder)
    this.sender = new Sender(this, this.output, this.guards)
    this.receiver = new Receiver(this, this.output)
    this.output.source = this.sender
  }

  open(id: number, method: string): Http2Stream {
    const stream = new Http2Stream(this, id, method)
    this.streams.set(id, stream)
    this.guards.streamOpened()
    this.stats.streamsActive.v++
    return stream
  }

  /** True for ids that nobody has used yet (RFC 9113 §5.1 "idle"); nobody pushes, so those of the other parity too. */
  isIdle(id: number): boolean {
    return (id & 1) === 0 || (this.server ? id > this.lastPeerId : id >= this.nextId)
  }

  /** Our END_STREAM is out. */
  sendEnded(stream: Http2Stream): void {
    if (stream.sendClosed) return
    stream.sendClosed = stream.userEnded = true
    if (stream.received) this.#end(stream)
    else if (stream.unwanted) this.#endEarly(stream)
  }

  /** The answer is complete: what is left of the request helps nobody (RFC 9113 §8.1). */
  #endEarly(stream: Http2Stream): void {
    this.sendReset(stream.id, Http2Code.NO_ERROR)
    if (!stream.refused) this.guards.onStreamEnded()
    this.#remove(stream, RESET_BY_US)
  }

  /** `StreamFace.discard`. */
  discard(stream: Http2Stream): void {
    if (!this.server || stream.unwanted || stream.silent) return
    stream.unwanted = true
    this.receiver.discard(stream)
    if (stream.sendClosed && !stream.received && !stream.closed) this.#endEarly(stream)
  }

  /** END_STREAM came, and the handler knows or will know. */
  receiveEnded(stream: Http2Stream): undefined {
    if (stream.sendClosed && !stream.closed) this.#end(stream)
  }

  #end(stream: Http2Stream): void {
    if (!stream.refused) this.guards.onStreamEnded()
    this.#remove(stream, ENDED, true)
  }

  /** `keepHeld`: what has come whole and waits behind a pause is still delivered. */
  #remove(stream: Http2Stream, closing: Closing, keepHeld = false, reset?: StreamReset): void {
    if (stream.closed) return
    stream.closed = stream.sendClosed = stream.userEnded = true
    this.streams.delete(stream.id)
    this.closedStreams.add(stream.id, closing)
    this.sender.discard(stream)
    if (!keepHeld) {
      stream.silent = true
      this.receiver.discard(stream)
    }
    this.stats.streamsActive.v--
    try {
      if (reset !== undefined) stream.handler.onReset(reset)
    } finally {
      this.handler.onStreamClosed()
    }
  }

  /** Ends a stream before its time and tells its handler. */
  abort(stream: Http2Stream, closing: Closing, reset: StreamReset): void {
    if (stream.closed) return
    // A response that has come whole is whole, whatever happens to the rest of the request (RFC 9113 §8.1). In a tunnel
    // NO_ERROR says the same: all has been sent, and nothing more is wanted.
    const orderly = !stream.tunnel || reset.code === Http2Code.NO_ERROR
    const whole = !this.server && stream.received && orderly
    this.#remove(stream, closing, whole, whole || stream.silent ? undefined : reset)
  }

  /** `StreamFace.reset`. */
  resetByUser(stream: Http2Stream, code: number): void {
    if (stream.closed) {
      if (stream.silent) return
      stream.silent = true
      this.receiver.discard(stream)
      return
    }
    stream.silent = true
    this.sendReset(stream.id, code)
    this.#remove(stream, RESET_BY_US)
  }

  /** `SessionFace.resetStalled`. */
  resetStalled(): number {
    if (this.failed) return 0
    let count = 0
    for (const stream of this.streams.values()) {
      this.sender.retryTiny(stream)
      if (!stream.userEnded || stream.queuedBytes === 0) continue
      const stalled = stream.queuedBytes === stream.flushMark
      stream.flushMark = stream.queuedBytes
      if (!stalled) continue
      count++
      this.sendReset(stream.id, Http2Code.CANCEL)
      const reset = {
        code: Http2Code.CANCEL,
        by: 'protocol',
        processed: true,
        detail: 'http2.tx_flush_timeout',
      } as const
      this.abort(stream, RESET_BY_US, reset)
    }
    return count
  }

  /** RST_STREAM came. */
  resetByPeer(stream: Http2Stream, code: number): undefined {
    this.stats.rxReset.v++
    const flood = this.server ? this.guards.onReset(stream.openedMs, stream.answered) : undefined
    const processed = code !== Http2Code.REFUSED_STREAM
    this.abort(stream, RESET_BY_PEER, { code, by: 'peer', processed, detail: 'http2.remote_reset' })
    if (flood !== undefined) this.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
  }

  /** RFC 9113 §5.4.2. The stream may be gone, or never have been. */
  streamError(id: number, code: number, detail: string): undefined {
    if (this.failed) return
    const stream = this.streams.get(id)
    this.sendReset(id, code)
    const flood = this.guards.onProvokedReset()
    if (stream === undefined) this.closedStreams.add(id, RESET_BY_US)
    else this.abort(stream, RESET_BY_US, { code, by: 'protocol', processed: true, detail })
    if (flood !== undefined) this.fail(Http2Code.ENHANCE_YOUR_CALM, flood)
  }

  /** RFC 9113 §8.1.1: of the stream, or as Envoy does by default of the connection. */
  malformed(id: number, detail: string): undefined {
    this.stats.rxMessagingError.v++
    if (this.config.streamErrorOnInvalidMessage) this.streamError(id, Http2Code.PROTOCOL_ERROR, detail)
    else this.fail(Http2Code.PROTOCOL_ERROR, detail)
  }

  sendReset(id: number, code: number): void {
    this.stats.txReset.v++
    this.output.controls++
    this.output.number(kindOf(RST_STREAM, 0), id, code)
  }

  goaway(lastId: number, code: number): void {
    const payload = Buffer.allocUnsafe(8)
    putUint32(payload, putUint32(payload, 0, lastId), code)
    this.stats.goawaySent.v++
    this.output.control(kindOf(GOAWAY, 0), 0, payload, 0, 8)
  }

  /** Connection error (RFC 9113 §5.4.1). */
  fail(code: number, detail: string): undefined {
    if (this.failed) return
    if (code !== Http2Code.ENHANCE_YOUR_CALM) this.stats.protocolErrors.v++
    this.close(code, detail)
  }

  /** GOAWAY, then silence. */
  close(code: number, detail: string): void {
    if (this.failed) return
    this.goaway(Math.min(this.lastPeerId, this.acceptedId), code)
    this.output.flush()
    this.#finish(code, detail)
    this.handler.onFailed(code, detail)
  }

  transportClosed(detail: string): void {
    if (!this.failed) this.#finish(Http2Code.INTERNAL_ERROR, detail)
  }

  #finish(code: number, detail: string): void {
    this.failed = this.goingAway = true
    this.output.close()
    this.reader?.stop()
    for (const stream of this.streams.values()) {
      // What has never been handed over has certainly not been acted on.
      const processed = stream.openedAt !== this.output.handovers
      try {
        this.abort(stream, RESET_BY_US, { code, by: 'connection', processed, detail })
      } catch {
        // A handler's bug: the others must hear of the end all the same.
      }
    }
  }

  /** The outgoing side of the flood guards: a peer that makes us write and does not read. */
  checkOutbound(): void {
    const { output, config, stats } = this
    if (!output.blocked || this.failed) return
    if (output.controls > config.maxOutboundControlFrames) {
      stats.outboundControlFlood.v++
      this.fail(Http2Code.ENHANCE_YOUR_CALM, 'http2.outbound_control_frames_flood')
    } else if (output.frames > config.maxOutboundFrames || output.blockedBytes > BLOCKED_BYTES) {
      stats.outboundFlood.v++
      this.fail(Http2Code.ENHANCE_YOUR_CALM, 'http2.outbound_frames_flood')
    }
  }
}
