import type { Socket } from 'node:net'
import type { UpstreamInfo } from '../../core/attempt.ts'
import { writeDirectly } from '../../core/socket-writes.ts'
import { systemDrained } from '../../core/system-drained.ts'
import {
  Http2Code,
  type Http2Transport,
  type SessionFace,
  type SessionHandler,
  type StreamFace,
} from '../../http2/contract.ts'
import { Http2Session } from '../../http2/session.ts'
import type { ConnectionAccount } from '../accounts.ts'
import { ClientConnection } from '../client-connection.ts'
import { describeFailure, negotiatedProtocol, resetTransport, type Transport } from '../connect.ts'
import { ConnectionDeadlines, NEVER } from './deadlines.ts'
import type { Http2Pool } from './pool.ts'
import { wireHead, wireHeaders } from './request-head.ts'
import type { Http2ClientStream } from './stream.ts'

/** For the last bytes of a connection that closes to leave. */
const LINGER_MS = 1_000
/**
 * Streams opened before the peer has said how many it permits. RFC 9113 §6.5.2 advises peers to permit no fewer than 100;
 * one that permits fewer refuses the rest, which is always safe to repeat.
 */
const OPTIMISTIC_STREAMS = 100
/** Odd numbers of 31 bits: then a connection has no name for another stream (RFC 9113 §5.1.1). */
const STREAM_IDS = 2 ** 30

/**
 * The client side of one HTTP/2 connection: a session over its transport, with the deadlines of both.
 *
 * ```
 * connecting --ready--> open --GOAWAY, last request, max age, pool closes--> draining --last stream ends--> closing --> gone
 *                         +------------------ idle ---------------------------------------------------------^
 * ```
 */
export class Http2ClientConnection extends ClientConnection implements SessionHandler, Http2Transport, UpstreamInfo {
  readonly protocol = 'HTTP/2'
  readonly account: ConnectionAccount
  /** A stream has failed with the connection. */
  interrupted = false
  // From `established` on; nothing that needs them happens before.
  #transport!: Transport
  #socket!: Socket
  /** May be written to past its stream. */
  #direct = false
  readonly #pool: Http2Pool
  readonly #deadlines: ConnectionDeadlines
  #session: SessionFace | undefined = undefined
  #requestsLeft: number
  #served = 0
  #draining = false
  #closing = false
  #closed = false
  /** The peer does not answer. */
  #dead = false
  /** The end is not the peer's breach of the protocol. */
  #excused = false

  constructor(pool: Http2Pool, account: ConnectionAccount, connectionId: number) {
    super(pool.host, pool.wheel, connectionId)
    this.#pool = pool
    this.account = account
    this.#deadlines = new ConnectionDeadlines(pool.config, pool.random, account.openedMs)
    this.#requestsLeft = Math.min(pool.config.maxRequestsPerConnection ?? STREAM_IDS, STREAM_IDS)
  }

  /** The session begins. */
  protected override established(transport: Transport): void {
    const pool = this.#pool
    const { socket } = transport
    this.#transport = transport
    this.#socket = socket
    this.#direct = pool.wheel.turn.writes.suits(socket)
    socket.on('data', (chunk: Buffer) => {
      this.#deadlines.receivedMs = pool.wheel.nowMs
      this.#session?.receive(chunk)
    })
    socket.on('drain', () => this.#session?.transportDrained())
    socket.on('end', () => this.#socket.destroy())
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.failure ??= describeFailure(error)
    })
    socket.on('close', () => this.gone())
    const chosen = negotiatedProtocol(socket)
    if (chosen !== 'h2' && (chosen !== undefined || pool.wantsAlpn)) {
      this.refused = true
      this.failure = `TLS_error:the peer chose ${chosen ?? 'no protocol'}, not h2`
      pool.otherProtocol(undefined)
      socket.destroy()
      return
    }
    const { config, wheel } = pool
    const now = wheel.clock.now()
    this.#deadlines.begin(now)
    const session: SessionFace = new Http2Session({
      role: 'client',
      config: config.http2,
      maxHeaderListBytes: config.maxResponseHeaderBytes,
      maxHeaders: config.maxResponseHeaders,
      transport: this,
      turn: wheel.turn,
      now: () => wheel.now(),
      stats: pool.http2Stats,
      handler: this,
    })
    this.#session = session
    session.start()
    this.#rearm(now)
    pool.connected(this, socket)
  }

  // --- what the pool asks -------------------------------------------------------------------------------------------

  get connected(): boolean {
    return this.#session !== undefined
  }

  /** Read while an attempt begins: has there been another before it? */
  get reused(): boolean {
    return this.#served > 1
  }

  get openStreams(): number {
    return this.#session?.openStreams ?? 0
  }

  /** Streams it would take now. */
  get room(): number {
    const session = this.#session
    if (session === undefined || this.#draining || session.failed || this.#socket.destroyed) return 0
    const allowed = session.ready
      ? session.available
      : Math.min(session.available, this.#optimistic - session.openStreams)
    return Math.min(allowed, this.#requestsLeft)
  }

  /** Streams it may have open at a time, as far as is known; at least 1, lest a pool multiply connections to a peer that permits none. */
  get capacity(): number {
    const session = this.#session
    const streams = session?.ready ? session.maxStreams : this.#pool.assumedStreams
    return Math.max(1, Math.min(streams, this.#requestsLeft + (session?.openStreams ?? 0)))
  }

  get #optimistic(): number {
    return Math.min(OPTIMISTIC_STREAMS, this.#pool.assumedStreams)
  }

  /** The peer's SETTINGS have arrived. */
  get settled(): boolean {
    return this.#session?.ready ?? false
  }

  get maxStreams(): number {
    return this.#session?.maxStreams ?? 0
  }

  get connectProtocol(): boolean {
    return this.#session?.connectProtocol ?? false
  }

  /** Streams that end with this connection end because the peer broke the protocol. */
  get brokeRules(): boolean {
    return !this.#excused
  }

  /** Opens a stream for an attempt; undefined where there is no room after all. */
  begin(stream: Http2ClientStream): StreamFace | undefined {
    const session = this.#session
    if (session === undefined || this.#socket.destroyed) return undefined
    const { attempt } = stream
    const { wheel } = this.#pool
    if (this.#deadlines.pingBeforeStream(wheel.now())) this.#ping(session, wheel.nowMs)
    const head = wireHead(attempt, this.#pool.secure)
    const face = session.request(head, wireHeaders(attempt), attempt.end && !attempt.upgrade, stream)
    if (face === undefined) return undefined
    this.#served++
    if (--this.#requestsLeft === 0) {
      this.#pool.stats.cxMaxRequests.v++
      this.drain()
    }
    return face
  }

  /** No new streams; closes when the last one has ended, now where there is none. */
  drain(): void {
    if (this.#closing) return
    if (!this.#draining) {
      this.#draining = true
      this.#pool.retired(this)
    }
    if (this.#session !== undefined && this.#session.openStreams === 0) this.#closeInPeace()
  }

  /** Ends at once, with whatever it carries. */
  destroy(): void {
    if (this.#closed) return
    this.#excused = true
    this.#draining = true
    const session = this.#session
    if (session !== undefined && !this.#closing) {
      this.#closing = true
      session.shutdown()
      session.flush()
    }
    if (!this.abandonOpening()) this.#socket.destroy()
  }

  #closeInPeace(): void {
    const session = this.#session
    if (this.#closing || session === undefined) return
    this.#closing = true
    this.#excused = true
    session.shutdown()
    session.flush()
    this.#endSocket()
  }

  /** What is written leaves, then the socket closes; a peer that does not read is not waited for, or not for long. */
  #endSocket(): void {
    this.#pool.retired(this)
    if (this.#dead) {
      resetTransport(this.#transport)
      return
    }
    this.#pool.wheel.arm(this, LINGER_MS)
    this.#socket.destroySoon()
  }

  // --- the session's transport ------------------------------------------------------------------------------------

  write(bytes: Buffer): boolean {
    if (this.#socket.destroyed) return true
    return this.#direct ? writeDirectly(this.#socket, bytes) : this.#socket.write(bytes)
  }

  cork(): void {
    this.#socket.cork()
  }

  uncork(): void {
    this.#socket.uncork()
  }

  get drained(): boolean {
    return systemDrained(this.#socket)
  }

  // --- from the session -------------------------------------------------------------------------------------------

  /** Push is refused by our SETTINGS, and the session fails a peer that pushes: never called on this side. */
  onRequest(stream: StreamFace): void {
    stream.reset(Http2Code.REFUSED_STREAM)
  }

  /** As `onRequest`. */
  onRefused(): void {}

  onSettings(): void {
    if (!this.#closed) this.#pool.settingsChanged(this)
  }

  onGoaway(code: number): void {
    if (code === Http2Code.HTTP_1_1_REQUIRED) this.#pool.otherProtocol('HTTP/1.1')
    // A drain in two steps sends two.
    if (this.#draining) return
    this.#pool.stats.cxCloseNotify.v++
    this.drain()
  }

  onPong(): void {
    this.#deadlines.ponged(this.#pool.wheel.nowMs)
  }

  onStreamClosed(): void {
    if (this.#closed || this.#closing || this.#session?.failed === true) return
    if (this.openStreams === 0) {
      this.#deadlines.idleSinceMs = this.#pool.wheel.nowMs
      if (this.#draining) {
        this.#closeInPeace()
        return
      }
    }
    if (!this.#draining) this.#pool.freed()
  }

  onFailed(_code: number, detail: string): void {
    if (this.#closed) return
    if (!this.#excused) this.#pool.stats.cxProtocolError.v++
    this.failure ??= detail
    this.#draining = true
    this.#closing = true
    this.#endSocket()
  }

  // --- the end ----------------------------------------------------------------------------------------------------

  protected override gone(): void {
    if (this.#closed) return
    this.#closed = true
    const session = this.#session
    // A session that has failed has told its streams already.
    if (session?.failed !== true) this.#excused = true
    this.#pool.wheel.disarm(this)
    this.#pool.closed(this, this.interrupted || this.openStreams > 0)
    session?.transportClosed(this.failure ?? 'connection closed')
  }

  // --- deadlines --------------------------------------------------------------------------------------------------

  override onDue(nowMs: number): void {
    const session = this.#session
    if (this.#closed) return
    if (session === undefined) {
      this.failure = 'connection timeout'
      this.#pool.stats.cxConnectTimeout.v++
      this.abandonOpening()
      return
    }
    if (this.#closing) {
      resetTransport(this.#transport)
      return
    }
    if (!this.#check(session, nowMs)) this.#rearm(nowMs)
  }

  /** True where the connection is at its end. */
  #check(session: SessionFace, nowMs: number): boolean {
    const deadlines = this.#deadlines
    const { stats, http2Stats } = this.#pool
    if (deadlines.settingsOverdue(nowMs, session.settingsAcked)) {
      this.#giveUp(session, Http2Code.SETTINGS_TIMEOUT, 'SETTINGS were not acknowledged')
      return true
    }
    const ping = deadlines.pingDue(nowMs)
    if (ping === 'dead') {
      http2Stats.keepaliveTimeout.v++
      // Nobody reads at the other end: what waits to be written is not worth a wait.
      this.#dead = true
      this.#giveUp(session, Http2Code.NO_ERROR, 'http2 keepalive timeout')
      return true
    }
    if (ping === 'ping') this.#ping(session, nowMs)
    if (!this.#draining && deadlines.tooOld(nowMs)) {
      stats.cxMaxDurationReached.v++
      this.drain()
    }
    if (!this.#closing && session.openStreams === 0 && deadlines.idleTooLong(nowMs)) {
      stats.cxIdleTimeout.v++
      this.drain()
    }
    return this.#closing
  }

  #ping(session: SessionFace, nowMs: number): void {
    if (!session.ping()) return
    this.#deadlines.pinged(nowMs)
    this.#rearm(nowMs)
  }

  /** A deadline of ours has passed: the connection is of no use, which is no breach of the protocol. */
  #giveUp(session: SessionFace, code: number, detail: string): void {
    this.#excused = true
    this.failure = detail
    session.fail(code, detail)
  }

  #rearm(nowMs: number): void {
    const due = this.#deadlines.next(nowMs, this.openStreams > 0, this.#draining)
    if (due !== NEVER) this.#pool.wheel.armAt(this, due)
  }
}
