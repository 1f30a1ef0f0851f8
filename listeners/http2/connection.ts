import type { Socket } from 'node:net'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import { FAILURES } from '../../lib/core/failure.ts'
import type { RequestHead } from '../../lib/core/head.ts'
import type { Headers } from '../../lib/core/headers.ts'
import type { OverloadLevers } from '../../lib/core/overload.ts'
import { writeDirectly } from '../../lib/core/socket-writes.ts'
import { systemDrained } from '../../lib/core/system-drained.ts'
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

/** Requests of one packet that begin at once; the others begin in the next turns, so that other connections get theirs. */
const REQUESTS_PER_TURN = 64
/**
 * Bytes of frames that are read at once, the payload of DATA aside: the kernel would hand over 2 MiB before it looks at any
 * other connection, and that many small frames or header blocks take tens of milliseconds.
 */
const WORK_BYTES_PER_TURN = 256 * 1024

/** A request whose turn has not come. */
interface Waiting {
  readonly stream: Http2ServerStream
  readonly face: StreamFace
  readonly head: RequestHead
  readonly headers: Headers
  readonly end: boolean
}

/**
 * The server side of one HTTP/2 connection: socket, session, deadlines, drain. Each request is an `Http2ServerStream`.
 *
 * ```
 * OPEN ── drain, age, requests, idle ─▶ GOAWAY(2^31-1) ── drain_timeout, or idle and its PING answered ─▶ GOAWAY(last)
 *   └─ session failed ─▶ GOAWAY(code) ─▶ LINGER ─▶ closed      LINGER ◀──── last stream has ended ──────────────┘
 * ```
 */
export class Http2ServerConnection
  implements ServerConnection, SessionHandler, Http2Transport, DeadlineSubject, Borrower
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
  /** Requests that have begun in this turn. */
  #begun = 0
  #waiting: Waiting[] | undefined = undefined
  /** `workBytes` of the session when reading last paused. */
  #workBytes = 0
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
    if (this.#waiting === undefined) this.#begun = 0
    this.#session.receive(this.lent ? chunk : Buffer.from(chunk))
    this.#deadlines.received(this.manager.wheel.now(), this.#session.receivingHead)
    const { workBytes } = this.#session
    if (workBytes - this.#workBytes < WORK_BYTES_PER_TURN) return
    this.#workBytes = workBytes
    this.#socket.pause()
    setImmediate(readOn, this)
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
    return this.receivers?.settle() === true
  }

  /** @internal The other connections have had their turn. */
  readOn(): void {
    if (this.#waiting === undefined && !this.#destroyed) this.#socket.resume()
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
    if (this.#waiting !== undefined || this.#begun >= REQUESTS_PER_TURN)
      this.#postpone({ stream, face, head, headers, end })
    else {
      this.#begun++
      stream.begin(manager, head, headers, end)
    }
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

  #postpone(request: Waiting): void {
    request.face.pause()
    if (this.#waiting !== undefined) {
      this.#waiting.push(request)
      return
    }
    this.#waiting = [request]
    this.#socket.pause()
    setImmediate(beginWaiting, this)
  }

  /** @internal The requests that waited for this turn. */
  beginWaiting(): void {
    const waiting = this.#waiting
    if (waiting === undefined || this.#destroyed) return
    const now = waiting.splice(0, REQUESTS_PER_TURN)
    for (const { stream, head, headers, end } of now) {
      if (stream.cancelled) continue
      stream.begin(this.manager, head, headers, end)
      stream.release()
    }
    if (waiting.length > 0) setImmediate(beginWaiting, this)
    else {
      this.#waiting = undefined
      this.#socket.resume()
    }
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
    this.#waiting = undefined
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

function readOn(connection: Http2ServerConnection): void {
  connection.readOn()
}

function beginWaiting(connection: Http2ServerConnection): void {
  connection.beginWaiting()
}
