import type { Socket } from 'node:net'
import type { HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import { type ConnectionInfo, secured, type TlsInfo } from '../../lib/core/connection.ts'
import type { Log } from '../../lib/core/metrics.ts'
import { Timed } from '../../lib/core/timer-wheel.ts'
import type { HttpStats } from '../http/stats.ts'
import { Http1ServerConnection } from '../http1/connection.ts'
import { headDeadlineMs } from '../http1/deadlines.ts'
import type { ConnectionHost, Opening, ServerConnection } from '../http1/host.ts'
import { resetSocket } from '../http1/reset.ts'
import { Http2ServerConnection } from '../http2/connection.ts'
import type { Borrower, Loan } from './accepted-reads.ts'
import { matchPreface, PREFACE } from './preface.ts'

/** What an opening connection needs from its listener. */
export interface OpeningHost extends ConnectionHost {
  /** The connection has found its protocol; `connection` stands for it from now on. */
  opened(opening: OpeningConnection, connection: Http1ServerConnection | Http2ServerConnection): void
  /** A handshake took longer than the listener permits. */
  handshakeExpired(): void
  readonly log: Log
  /** Of the listener, per connection. */
  readonly bufferLimitBytes: number
}

/** The first byte of a ClientHello, with which no HTTP begins. */
const TLS_HANDSHAKE = 0x16
/** A fatal alert (RFC 8446 §6). */
const HANDSHAKE_FAILURE = '\x15\x03\x01\x00\x02\x02\x28'

/** From its first byte on a connection is given so long before it counts as idle under overload. */
const FRESH_MS = 1_000

const HANDSHAKE = 0
const SNIFF = 1
const OVER = 2

/**
 * An accepted connection until it is known what it speaks: its TLS handshake, then its first bytes. What was read goes to
 * the connection that takes over, and nothing of this stays on the socket.
 *
 * ```
 * HANDSHAKE ── secured ─▶ SNIFF ── preface ─▶ HTTP/2
 *                           └── any other byte ─▶ HTTP/1
 * ```
 */
export class OpeningConnection extends Timed implements Borrower, ServerConnection, Opening {
  info: ConnectionInfo
  readonly stats: HttpStats
  readonly openedMs: number
  headSinceMs = 0
  securing = false
  #handshakeMs = 0
  #socket: Socket
  readonly #host: OpeningHost
  #phase = HANDSHAKE
  /** Our listeners are on the socket. */
  #sniffing = false
  /** What else comes is not looked at. */
  #refused = false
  /** Bytes of the preface that have come. */
  #seen = 0
  /** Where its bytes come from, if not as 'data'. */
  #loan: Loan | undefined = undefined
  lent = true
  readonly expectsBody = false

  constructor(socket: Socket, info: ConnectionInfo, host: OpeningHost) {
    super()
    this.#socket = socket
    this.info = info
    this.#host = host
    this.stats = host.manager.stats
    this.openedMs = host.manager.wheel.clock.now()
  }

  /** The TLS handshake is under way; `limitMs`: what the listener gives it, 0: as long as TLS itself permits. */
  handshake(limitMs: number): void {
    this.securing = true
    this.#handshakeMs = limitMs
    if (limitMs > 0) this.#host.manager.wheel.armAt(this, this.#handshakeDue)
  }

  get #handshakeDue(): number {
    const limitMs = this.#handshakeMs
    return this.openedMs + (this.info.state.overload?.transportConnect.of(limitMs) ?? limitMs)
  }

  override reconsider(): void {
    if (this.#phase === HANDSHAKE) this.#host.manager.wheel.armAt(this, this.#handshakeDue)
    else if (this.#seen === 0) this.#armIdle()
  }

  /** The socket that HTTP goes through: after the handshake, or at once on plaintext. */
  ready(socket: Socket, tls: TlsInfo | undefined): void {
    if (this.#phase === OVER) {
      socket.destroy()
      return
    }
    this.#host.manager.wheel.disarm(this)
    this.#socket = socket
    this.securing = false
    if (tls !== undefined) this.info = secured(this.info, tls)
    this.#phase = SNIFF
    this.#loan = this.#host.reads?.adopt(socket, this, this.#host.bufferLimitBytes)
    const known = knownProtocol(this.#host.manager.config.codec, tls)
    if (known === undefined) this.#listen()
    else this.#hand(known, undefined)
    // Listener filters have paused it, and a listener for 'data' does not undo that.
    socket.resume()
  }

  #listen(): void {
    const socket = this.#socket
    this.#sniffing = true
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('error', ignore)
    socket.on('close', this.#onClose)
    this.#armIdle()
  }

  readonly #onData = (chunk: Buffer): void => this.receive(chunk)

  receive(chunk: Buffer): void {
    if (this.#refused) return
    const before = this.#seen
    if (before === 0 && chunk[0] === TLS_HANDSHAKE) {
      this.#refuseTls()
      return
    }
    const seen = matchPreface(chunk, before)
    if (seen < 0) this.#hand('http1', chunk)
    else if (seen === PREFACE.length) this.#hand('http2', chunk)
    else if (seen > before) {
      this.#seen = seen
      if (before === 0) this.#headBegins()
    }
  }

  /** A client that takes this for a port of HTTPS is told in its own language. */
  #refuseTls(): void {
    const { remoteAddress: client, listenerName: listener } = this.info
    this.#refused = true
    this.stats.protocolErrors.v++
    this.#host.log.debug('a client speaks TLS to a port of plain HTTP', { client, listener })
    this.#socket.end(HANDSHAKE_FAILURE)
    this.#close()
  }

  /** The client's FIN before there was anything to answer. */
  readonly #onEnd = (): void => this.#close()

  readonly #onClose = (): void => this.failed()

  #headBegins(): void {
    const { config, wheel } = this.#host.manager
    this.headSinceMs = wheel.clock.now()
    wheel.armAt(this, this.headSinceMs + headDeadlineMs(config))
  }

  #hand(protocol: 'http1' | 'http2', chunk: Buffer | undefined): void {
    const socket = this.#socket
    if (this.info.state.overload?.createCodec.sheds() === true) {
      this.#refused = true
      this.stats.overloadCloses.v++
      socket.on('error', ignore)
      socket.on('close', this.#onClose)
      socket.destroy()
      return
    }
    const sniffed = this.#sniffing
    this.#sniffing = false
    this.#phase = OVER
    this.#host.manager.wheel.disarm(this)
    const connection =
      protocol === 'http2'
        ? new Http2ServerConnection(socket, this, this.#host)
        : new Http1ServerConnection(socket, this, this.#host)
    if (sniffed) {
      socket.off('data', this.#onData)
      socket.off('end', this.#onEnd)
      socket.off('error', ignore)
      socket.off('close', this.#onClose)
    }
    this.#host.opened(this, connection)
    // It is known what has been seen of the preface: it need not be kept.
    if (this.#seen > 0) connection.receive(PREFACE.subarray(0, this.#seen))
    this.#pass(connection, chunk)
  }

  #pass(connection: Http1ServerConnection | Http2ServerConnection, chunk: Buffer | undefined): void {
    const loan = this.#loan
    if (loan === undefined) {
      if (chunk !== undefined) connection.receive(chunk)
      return
    }
    loan.pass(connection)
    if (chunk !== undefined) connection.receive(chunk)
    connection.lent = true
  }

  /** The handshake failed, or the socket is gone. */
  failed(_why?: string): void {
    if (this.#phase === OVER) return
    this.#phase = OVER
    this.#host.manager.wheel.disarm(this)
    this.#host.connectionClosed(this)
  }

  get idle(): boolean {
    return this.#seen === 0
  }

  destroy(): void {
    if (this.#phase === SNIFF) this.#socket.destroy()
    else resetSocket(this.#socket)
  }

  closeIdle(sinceMs?: number): void {
    if (this.#phase !== HANDSHAKE) {
      // A client that has only just come is about to send.
      if (this.idle && (sinceMs === undefined || this.openedMs + FRESH_MS <= sinceMs)) this.#close()
    } else if (sinceMs === undefined) resetSocket(this.#socket)
  }

  /** Nothing waits to be sent but the end itself. */
  #close(): void {
    this.#socket.destroySoon()
  }

  override onDue(nowMs: number): void {
    if (this.#phase === HANDSHAKE) {
      this.#host.handshakeExpired()
      resetSocket(this.#socket)
      return
    }
    // HTTP/1 answers heads that stall; it knows since when this one does.
    if (this.#seen > 0) this.#hand('http1', undefined)
    else this.#checkIdle(nowMs)
  }

  /** As configured, or what overload leaves of it. */
  #limits(): { readonly idle: number; readonly age: number } {
    const { idleTimeoutMs: idle, maxConnectionDurationMs: age } = this.#host.manager.config
    const { overload } = this.info.state
    if (overload === undefined) return { idle, age }
    return { idle: overload.connectionIdle.of(idle), age: overload.connectionMax.of(age) }
  }

  #checkIdle(nowMs: number): void {
    const { stats } = this.#host.manager
    const { idle, age } = this.#limits()
    const elapsed = nowMs - this.openedMs
    if (age > 0 && elapsed >= age) stats.maxDuration.v++
    else if (idle > 0 && elapsed >= idle) stats.idleTimeouts.v++
    else {
      this.#armIdle()
      return
    }
    this.#close()
  }

  #armIdle(): void {
    const { wheel } = this.#host.manager
    const { idle, age } = this.#limits()
    const limit = idle > 0 && age > 0 ? Math.min(idle, age) : idle || age
    if (limit > 0) wheel.armAt(this, Math.max(this.openedMs + limit, wheel.nowMs + 1))
  }
}

/** Undefined: its first bytes will tell. */
function knownProtocol(
  codec: HttpConnectionManagerConfig['codec'],
  tls: TlsInfo | undefined,
): 'http1' | 'http2' | undefined {
  if (codec !== 'auto') return codec
  // What was negotiated holds (RFC 9113 §3.2, as in Envoy).
  return tls?.alpn === undefined ? undefined : tls.alpn === 'h2' ? 'http2' : 'http1'
}

function ignore(): void {}
