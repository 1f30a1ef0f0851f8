import type { Socket } from 'node:net'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import { FAILURES } from '../../lib/core/failure.ts'
import type { RequestHead } from '../../lib/core/head.ts'
import type { Headers } from '../../lib/core/headers.ts'
import type { OverloadLevers } from '../../lib/core/overload.ts'
import { writeDirectly } from '../../lib/core/socket-writes.ts'
import { systemDrained } from '../../lib/core/system-drained.ts'
import type { Patient } from '../../lib/core/turn-share.ts'
import {
  Http2Code,
  type Http2Transport,
  type RequestRefusal,
  type SessionHandler,
  type StreamFace,
} from '../../lib/http2/contract.ts'
import { Http2Session } from '../../lib/http2/session.ts'
import type { HeavyStream } from '../../lib/runtime/overload/heavy-streams.ts'
import type { Borrower, Receivers } from '../detect/accepted-reads.ts'
import type { ConnectionManager } from '../http/connection-manager.ts'
import { drainsNow, heavyStream, keepaliveIsOff } from '../http/overload.ts'
import type { HttpStats } from '../http/stats.ts'
import type { ConnectionHost, Opening, ServerConnection } from '../http1/host.ts'
import { Linger } from '../http1/linger.ts'
import { resetSocket } from '../http1/reset.ts'
import { type DeadlineSubject, Http2Deadlines, type Http2Expiry } from './deadlines.ts'
import { Http2ServerStream } from './stream.ts'

/** Work, as `workIn` counts, that no turn is too short for: a packet of a body, which would only pin its memory in a line. */
const LIGHT = 64
const NOTHING: Buffer = Buffer.alloc(0)

/**
 * The server side of one HTTP/2 connection: socket, session, deadlines, drain. Each request is an `Http2ServerStream`.
 *
 * ```
 * OPEN ── drain, age, requests, idle ─▶ GOAWAY(2^31-1) ── drain_timeout, or idle and its PING answered ─▶ GOAWAY(last)
 *   └─ session failed ─▶ GOAWAY(code) ─▶ LINGER ─▶ closed      LINGER ◀──── last stream has ended ──────────────┘
 * ```
 */
export class Http2ServerConnection
  implements ServerConnection, SessionHandler, Http2Transport, DeadlineSubject, Borrower, Patient
{
  readonly info: ConnectionInfo
  readonly stats: HttpStats
  readonly openedMs: number
  readonly #socket: Socket
  /** May be written to past its stream. */
  readonly #direct: boolean
  readonly #host: ConnectionHost
  readonly #session: Http2Session
  readonly #deadlines: Http2Deadlines
  /** Of `Borrower`. */
  lent = true
  readonly expectsBody = true
  receivers: Receivers | undefined = undefined
  #requests = 0
  /** What has come and not been looked at: the turns in which it came were over. */
  #rest: Buffer = NOTHING
  /** The client's FIN came behind `#rest`. */
  #ended = false
  #draining = false
  /** A PING that went out behind the first GOAWAY: its answer shows that the client has seen that. */
  #drainPinged = false
  /** The last GOAWAY is out: the last stream to end closes the connection. */
  #closing = false
  #linger: Linger | undefined = undefined
  #destroyed = false

  constructor(socket: Socket, opening: Opening, host: ConnectionHost) {
    const { config, wheel } = host.manager
    this.#socket = socket
    this.#direct = wheel.turn.writes.suits(socket)
    this.info = opening.info
    this.stats = opening.stats
    this.openedMs = opening.openedMs
    this.#host = host
    this.#session = new Http2Session({
      role: 'server',
      config: config.http2,
      maxHeaderListBytes: config.maxRequestHeaderBytes,
      maxHeaders: config.maxRequestHeaders,
      transport: this,
      turn: wheel.turn,
      share: wheel.share,
      now: () => wheel.now(),
      stats: host.http2Stats,
      handler: this,
    })
    this.#deadlines = new Http2Deadlines(this)
    socket.on('data', (chunk: Buffer) => this.receive(chunk))
    socket.on('end', () => this.#onEnd())
    socket.on('drain', () => this.#session.transportDrained())
    socket.on('error', () => {})
    socket.on('close', () => this.#onClose())
    this.#session.start()
  }

  get manager(): ConnectionManager {
    return this.#host.manager
  }

  get ready(): boolean {
    return this.#session.ready
  }

  get settingsAcked(): boolean {
    return this.#session.settingsAcked
  }

  get idle(): boolean {
    return this.#session.openStreams === 0
  }

  /** Bytes of the client: from the socket, or read before the protocol was known. */
  receive(chunk: Buffer): void {
    if (this.#linger !== undefined || this.#destroyed) return
    if (this.info.state.overload !== undefined && this.#sheds(this.info.state.overload)) return
    const own = this.lent ? chunk : Buffer.from(chunk)
    // What was on its way here when reading stopped.
    if (this.unread) this.#rest = Buffer.concat([this.#rest, own])
    else if (this.manager.wheel.share.spent && this.#session.workIn(own, LIGHT) >= LIGHT) this.#wait(own)
    else if (this.#read(own)) this.#wait(this.#rest)
  }

  /** True: there is more than fits into this turn. */
  #read(bytes: Buffer): boolean {
    this.#rest = bytes.subarray(this.#session.receive(bytes))
    this.#deadlines.received(this.manager.wheel.now(), this.#session.receivingHead)
    return this.unread
  }

  #wait(rest: Buffer): void {
    this.#rest = rest
    this.#socket.pause()
    this.manager.wheel.share.wait(this)
  }

  /** Of `DeadlineSubject`. */
  get unread(): boolean {
    return this.#rest.length > 0
  }

  /** Of `Patient`. */
  waiting(enough: number): number {
    return this.#session.workIn(this.#rest, enough)
  }

  /** Of `Patient`. */
  goOn(): boolean {
    const { overload } = this.info.state
    const ends = this.#destroyed || this.#linger !== undefined || (overload !== undefined && this.#sheds(overload))
    if (ends) this.#rest = NOTHING
    else if (this.#read(this.#rest)) return true
    this.receivers?.clear()
    if (this.#ended) this.#onEnd()
    else if (!this.#destroyed) this.#socket.resume()
    return false
  }

  /** GOAWAY before what has come is looked at: requests in it were never begun. True: the connection ends as well. */
  #sheds({ http2GoAway, http2GoAwayAndClose }: OverloadLevers): boolean {
    if (http2GoAwayAndClose.sheds()) this.#session.fail(Http2Code.NO_ERROR, FAILURES.overload.reason)
    else if (!this.#closing && http2GoAway.sheds()) this.#shutdown()
    return this.#linger !== undefined
  }

  streams(see: (stream: HeavyStream) => void): void {
    this.#session.visitStreams((face, bytes) => {
      const exchange = face.handler instanceof Http2ServerStream ? face.handler.exchange : undefined
      if (exchange !== undefined) see(heavyStream(exchange, bytes))
      // Its answer is whole, and waits for the client.
      else see({ bufferedBytes: bytes, shed: () => face.reset(Http2Code.ENHANCE_YOUR_CALM) })
    })
  }

  /** Of `Borrower`. */
  get spent(): boolean {
    const settled = this.receivers?.settle() === true
    return settled && !this.unread
  }

  // --- Http2Transport ---------------------------------------------------------------------------------------------

  write(bytes: Buffer): boolean {
    if (this.#destroyed) return true
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

  // --- SessionHandler ---------------------------------------------------------------------------------------------

  onRequest(face: StreamFace, head: RequestHead, headers: Headers, end: boolean): void {
    const { manager } = this
    const stream = this.#open(face, manager)
    stream.begin(manager, head, headers, end)
  }

  onRefused(face: StreamFace, refusal: RequestRefusal): void {
    const { manager } = this
    this.#open(face, manager).refuse(manager, refusal)
  }

  #open(face: StreamFace, manager: ConnectionManager): Http2ServerStream {
    const stream = new Http2ServerStream(this, face)
    face.handler = stream
    this.#requests++
    // Not before its first request: one that is told to go at once could ask for nothing.
    const ends =
      !this.#draining &&
      (drainsNow(this.#host) ||
        keepaliveIsOff(this.#host, this.info) ||
        manager.reachedLimits(this.#requests, this.openedMs))
    if (ends) this.#leave()
    this.#deadlines.busy()
    return stream
  }

  onSettings(): void {}

  /** It is about streams of ours, of which there are none (no push): the client closes when it has its answers. */
  onGoaway(): void {}

  onPong(): void {
    this.#deadlines.answered(this.manager.wheel.nowMs)
    if (!this.#draining || this.#closing || !this.idle) return
    // Whatever the client had sent before it saw our GOAWAY is here.
    if (this.#drainPinged) this.#shutdown()
    else this.#drainPinged = this.#ping()
  }

  onStreamClosed(): void {
    if (!this.idle) return
    this.#deadlines.idle(this.manager.wheel.nowMs)
    if (this.#closing) this.#end()
    else if (this.#draining) this.#drainPinged = this.#ping() || this.#drainPinged
  }

  onFailed(code: number): void {
    if (code !== Http2Code.NO_ERROR) this.stats.protocolErrors.v++
    this.#end()
  }

  // --- endings ----------------------------------------------------------------------------------------------------

  drain(): void {
    if (!this.#draining && !this.#closing && !this.#destroyed) drainsNow(this.#host)
    this.#leave()
  }

  /** Both steps of a graceful GOAWAY (RFC 9113 §6.8). Idempotent. */
  #leave(): void {
    if (this.#draining || this.#closing || this.#destroyed) return
    this.#draining = true
    this.#session.announceShutdown()
    this.#deadlines.draining(this.manager.wheel.nowMs)
    if (this.idle) this.#drainPinged = this.#ping()
  }

  /** The GOAWAY that counts: streams above its last one are refused. */
  #shutdown(): void {
    this.#closing = true
    this.#session.shutdown()
    if (this.idle) this.#end()
  }

  /** False: another one is under way. */
  #ping(): boolean {
    if (!this.#session.ping()) return false
    this.#deadlines.pinged(this.manager.wheel.nowMs)
    return true
  }

  destroy(): void {
    if (this.#destroyed) return
    const whole = this.idle
    this.#session.shutdown()
    this.#session.flush()
    if (whole && this.#socket.writableLength === 0) this.#socket.destroy()
    else resetSocket(this.#socket)
  }

  closeIdle(sinceMs = Number.POSITIVE_INFINITY): void {
    if (this.idle && this.#linger === undefined && this.#deadlines.idleSinceMs <= sinceMs) this.#shutdown()
  }

  /** FIN behind what is still to be sent; then the client has limited time to close as well. */
  #end(): void {
    if (this.#linger !== undefined || this.#destroyed) return
    this.#linger = new Linger(this.#socket)
    this.#session.flush()
    this.#socket.resume()
    this.#linger.begin(this.manager.config.delayedCloseTimeoutMs > 0)
    this.#deadlines.linger()
  }

  /** The client's FIN: it may not read any more either. What is open has failed (DESIGN §8). */
  #onEnd(): void {
    if (this.#linger !== undefined) return
    if (this.unread) {
      this.#ended = true
      return
    }
    if (this.idle) {
      this.#shutdown()
      return
    }
    this.#session.transportClosed('the client closed')
    resetSocket(this.#socket)
  }

  #onClose(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#rest = NOTHING
    this.#deadlines.close()
    this.#session.transportClosed('the connection was closed')
    this.#host.connectionClosed(this)
  }

  expired(expiry: Http2Expiry): void {
    const { stats } = this
    switch (expiry) {
      case 'linger':
        if (this.#linger?.expired()) this.#deadlines.linger()
        break
      case 'preface':
      case 'settings':
        stats.setupTimeouts.v++
        this.#session.fail(Http2Code.SETTINGS_TIMEOUT, `http2.${expiry}_timeout`)
        break
      case 'head':
        stats.headerTimeouts.v++
        this.#session.fail(Http2Code.ENHANCE_YOUR_CALM, 'http2.request_header_timeout')
        break
      case 'keepalive':
        this.#host.http2Stats.keepaliveTimeout.v++
        this.#session.transportClosed('http2.ping_timeout')
        resetSocket(this.#socket)
        break
      case 'ping':
        this.#ping()
        break
      case 'idle':
        stats.idleTimeouts.v++
        this.drain()
        break
      case 'age':
        stats.maxDuration.v++
        this.drain()
        break
      case 'drain':
        this.#shutdown()
        break
      case 'stalled':
        this.#host.http2Stats.txFlushTimeout.v += this.#session.resetStalled()
    }
  }
}
