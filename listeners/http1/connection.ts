import type { Socket } from 'node:net'
import type { Exchange } from '../../lib/chain/exchange.ts'
import type { LocalReply } from '../../lib/chain/filter.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import { FAILURES, type Failure } from '../../lib/core/failure.ts'
import type { Headers } from '../../lib/core/headers.ts'
import { systemDrained } from '../../lib/core/system-drained.ts'
import { type BodyHandler, BodyReader } from '../../lib/http1/body-reader.ts'
import { CHUNKED, LENGTH, NO_BODY } from '../../lib/http1/framing.ts'
import { HeadBuffer } from '../../lib/http1/head-buffer.ts'
import { CLOSE, type Head, type HeadError, HeadParser, KEEP_ALIVE } from '../../lib/http1/head-parser.ts'
import type { HeavyStream } from '../../lib/runtime/overload/heavy-streams.ts'
import type { Borrower, Receivers } from '../detect/accepted-reads.ts'
import type { Codec } from '../http/connection-manager.ts'
import { ABORT_REPLY, drainsNow, heavyStream, keepaliveIsOff } from '../http/overload.ts'
import type { HttpStats } from '../http/stats.ts'
import { admitHttp1, asksForTunnel, headLimits, openHttp1 } from './admission.ts'
import { ConnectionDeadlines, type Expiry } from './deadlines.ts'
import type { ConnectionHost, Opening, ServerConnection } from './host.ts'
import { Linger } from './linger.ts'
import { resetSocket } from './reset.ts'
import { ResponseWriter } from './response-writer.ts'

/**
 * The server side of one HTTP/1 connection: bytes to exchanges and back, one at a time, in order.
 *
 * ```
 * HEAD ─▶ BODY ─▶ (waiting for the response) ─▶ HEAD ...
 *   └─ malformed, deadline ─▶ answer, LINGER ─▶ closed
 * ```
 * Pipelined requests wait unparsed until the response before them is complete. After an answer that closes, input is
 * discarded for `delayed_close_timeout`, so that the client can read the answer before it meets a reset.
 */
export class Http1ServerConnection implements Codec, BodyHandler, Borrower, ServerConnection {
  readonly info: ConnectionInfo
  readonly stats: HttpStats
  readonly openedMs: number
  readonly #socket: Socket
  readonly #host: ConnectionHost
  readonly #heads: HeadBuffer
  readonly #parser: HeadParser
  readonly #body = new BodyReader()
  readonly #out: ResponseWriter
  readonly #deadlines: ConnectionDeadlines
  #exchange: Exchange | undefined = undefined
  #requestDone = true
  #requests = 0
  #stash: Buffer | undefined = undefined
  #reading = false
  #linger: Linger | undefined = undefined
  #destroyed = false
  #paused = false
  #tunnel = false
  lent = true
  receivers: Receivers | undefined = undefined

  constructor(socket: Socket, opening: Opening, host: ConnectionHost) {
    const { config } = host.manager
    this.#socket = socket
    this.info = opening.info
    this.stats = opening.stats
    this.openedMs = opening.openedMs
    this.#host = host
    const limits = headLimits(config)
    this.#heads = new HeadBuffer(limits)
    this.#parser = new HeadParser(limits, { keepCase: config.http1.headerCase === 'preserve', response: false })
    this.#out = new ResponseWriter(socket, host.manager.wheel.turn)
    this.#deadlines = new ConnectionDeadlines(
      opening,
      () => host.manager,
      (expiry) => this.#expired(expiry),
    )
    socket.on('data', (chunk: Buffer) => this.receive(chunk))
    socket.on('end', () => this.#onEnd())
    socket.on('drain', () => this.#onDrain())
    socket.on('error', () => {})
    socket.on('close', () => this.#onClose())
  }

  get idle(): boolean {
    return (
      this.#exchange === undefined && this.#stash === undefined && !this.#heads.started && this.#linger === undefined
    )
  }

  closeAfterResponse(): void {
    this.#out.close = true
  }

  destroy(): void {
    if (this.#out.done) this.#out.flush()
    if (this.#out.done && this.#socket.writableLength === 0) this.#socket.destroy()
    else resetSocket(this.#socket)
  }

  closeIdle(sinceMs = Number.POSITIVE_INFINITY): void {
    if (this.idle && this.#deadlines.idleSinceMs <= sinceMs) this.#closeUnused()
  }

  #closeUnused(): void {
    this.#out.flush()
    if (this.#socket.writableLength === 0) this.#socket.destroy()
    else this.#end()
  }

  /** Of `Borrower`. */
  get spent(): boolean {
    return this.receivers?.settle() === true && !this.#tunnel && this.#stash === undefined
  }

  get expectsBody(): boolean {
    return !this.#requestDone
  }

  #kept(chunk: Buffer): Buffer {
    return this.lent ? chunk : Buffer.from(chunk)
  }

  receive(chunk: Buffer): void {
    if (this.#linger !== undefined) return
    if (this.#tunnel) this.#exchange?.requestData(this.#kept(chunk), false)
    else if (this.info.state.overload?.http1Abort.sheds() !== true || this.#waitsOut()) this.#read(chunk, 0)
    else {
      this.#host.manager.stats.overloadCloses.v++
      if (this.#exchange !== undefined) this.#refuseRest(FAILURES.overload, ABORT_REPLY)
      else this.#host.manager.refuse(this.#openRefused(), ABORT_REPLY.status, ABORT_REPLY.details)
    }
  }

  /** An answer that is on its way to a whole request is let go to its end: what comes waits, and may be a tunnel's. */
  #waitsOut(): boolean {
    if (this.#exchange === undefined || !this.#requestDone) return false
    return (this.#out.close = true)
  }

  streams(see: (stream: HeavyStream) => void): void {
    if (this.#exchange !== undefined) see(heavyStream(this.#exchange, this.#socket.writableLength))
  }

  #read(chunk: Buffer, offset: number): void {
    this.#reading = true
    let at = offset
    while (at < chunk.length && this.#linger === undefined && !this.#destroyed && !this.#tunnel) {
      if (!this.#requestDone) {
        const next = this.#body.feed(chunk, at, this)
        if (next < 0) {
          this.#refuseBody()
          break
        }
        at = next
      } else if (this.#exchange !== undefined || this.#socket.writableNeedDrain) {
        // Not its turn: behind a response that is not complete, or that the client has not taken.
        this.#stash = this.#kept(at === 0 ? chunk : chunk.subarray(at))
        this.#socket.pause()
        break
      } else {
        const text = this.#heads.take(chunk, at)
        if (text === undefined) {
          if (this.#heads.started) this.#deadlines.headStarted()
          break
        }
        if (typeof text !== 'string') {
          this.#refuse(text)
          break
        }
        at = this.#heads.next
        this.#beginRequest(this.#parser.parse(text))
      }
    }
    this.#reading = false
  }

  #beginRequest(head: Head | HeadError): void {
    const manager = this.#host.manager
    this.#requests++
    if (!('raw' in head)) {
      this.#refuse(head)
      return
    }
    this.#out.begin(head.method, head.minor, manager.config.http1.headerCase)
    this.#out.close =
      (head.flags & CLOSE) !== 0 ||
      (head.minor === 0 && (head.flags & KEEP_ALIVE) === 0) ||
      // Bytes of a tunnel that nobody grants may follow: they are no requests (RFC 9110 §9.3.6).
      asksForTunnel(head) ||
      keepaliveIsOff(this.#host, this.info) ||
      manager.reachedLimits(this.#requests, this.openedMs)
    this.#body.start(head.chunked ? CHUNKED : head.contentLength > 0 ? LENGTH : NO_BODY, head.contentLength)
    this.#requestDone = this.#body.done
    this.#deadlines.busy()
    const exchange = openHttp1(this, manager, head, this.#requestDone)
    this.#exchange = exchange
    if (head.minor === 0) manager.stats.http10.v++
    manager.start(exchange, head.flags, this.#requestDone, admitHttp1(exchange, head, manager))
    if (this.#exchange === exchange && !this.#requestDone) this.#deadlines.bodyStarted(head.contentLength > 0)
  }

  onBody(chunk: Buffer, end: boolean): void {
    this.#deadlines.bodyBytes(chunk.length)
    if (end) this.#bodyDone()
    const exchange = this.#exchange
    if (exchange === undefined) return
    this.receivers?.add(exchange)
    exchange.requestData(this.#kept(chunk), end)
  }

  #bodyDone(): void {
    this.#requestDone = true
    this.#deadlines.busy()
  }

  onBodyEnd(trailers: Headers | undefined): void {
    this.#bodyDone()
    if (trailers !== undefined && this.#host.manager.config.http1.enableTrailers)
      this.#exchange?.requestTrailers(trailers)
    else this.#exchange?.requestData(EMPTY, true)
  }

  /** The head is not HTTP as we accept it: answer, and nothing more on this connection. */
  #refuse(problem: HeadError): void {
    this.#host.manager.stats.protocolErrors.v++
    this.#host.manager.refuse(this.#openRefused(), problem.status, problem.reason)
  }

  #openRefused(): Exchange {
    this.#heads.reset()
    this.#deadlines.busy()
    this.#out.close = true
    this.#out.begin('', 1, 'lower')
    this.#requestDone = true
    this.#exchange = this.#host.manager.openRefused(this, 'HTTP/1.1')
    return this.#exchange
  }

  #refuseBody(): void {
    this.#host.manager.stats.protocolErrors.v++
    const details = this.#body.problem ?? 'http1.body_error'
    this.#refuseRest(FAILURES.clientProtocol, { status: 400, body: 'Bad Request', details, flag: 'DPE' })
  }

  /** The rest of a request is not wanted: answered where that is possible, broken off where an answer is on its way. */
  #refuseRest(why: Failure, reply: LocalReply): void {
    this.#out.close = true
    const exchange = this.#exchange
    if (exchange === undefined) this.destroy()
    else if (exchange.headersSent) exchange.abortFor(why)
    else exchange.reply(reply)
  }

  /** The client's FIN. Before its response is complete that is an abort (DESIGN §8). */
  #onEnd(): void {
    if (this.#linger !== undefined) return
    const exchange = this.#exchange
    if (this.#tunnel) exchange?.requestData(EMPTY, true)
    // What is left of the last response still goes out.
    else if (exchange === undefined) this.#end()
    else {
      exchange.downstreamFailed(FAILURES.clientClosed)
      resetSocket(this.#socket)
    }
  }

  #onDrain(): void {
    if (this.#exchange !== undefined) this.#exchange.downstreamDrained()
    else this.readStash()
  }

  #onClose(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#deadlines.close()
    const exchange = this.#exchange
    this.#exchange = undefined
    this.#stash = undefined
    exchange?.downstreamFailed(FAILURES.clientClosed)
    this.#host.connectionClosed(this)
  }

  writeInformational(status: number, headers: Headers): void {
    if (!this.#destroyed) this.#out.informational(status, headers)
  }

  writeHeaders(status: number, headers: Headers, end: boolean): void {
    if (this.#destroyed) return
    const out = this.#out
    const exchange = this.#exchange
    // An answer to a request that is still arriving and goes nowhere: reading on would be for nothing.
    if (!this.#requestDone && (end || exchange?.terminal === undefined)) out.close = true
    if (drainsNow(this.#host)) out.close = true
    const bytes = out.headers(status, headers, end)
    if (exchange !== undefined) exchange.info.responseHeaderBytes = bytes
  }

  write(chunk: Buffer, end: boolean): boolean {
    if (this.#destroyed) return true
    return this.#tunnel ? this.#out.tunnel(chunk, end) : this.#out.write(chunk, end)
  }

  /** What is small has been copied, what is large was written at once. */
  settled(): boolean {
    return systemDrained(this.#socket)
  }

  writeTrailers(trailers: Headers): void {
    if (!this.#destroyed) this.#out.trailers(this.#host.manager.config.http1.enableTrailers ? trailers : undefined)
  }

  reset(_why: Failure): void {
    if (!this.#destroyed) this.#out.break()
  }

  pauseRequest(): void {
    this.#paused = true
    if (!this.#requestDone || this.#tunnel) this.#socket.pause()
  }

  resumeRequest(): void {
    this.#paused = false
    if (this.#stash === undefined) this.#socket.resume()
    this.#deadlines.restartBody()
  }

  writeUpgrade(status: number, headers: Headers): void {
    if (this.#destroyed) return
    this.#tunnel = true
    this.#out.switchProtocols(status, headers)
    const stash = this.#stash
    this.#stash = undefined
    if (stash !== undefined) this.#exchange?.requestData(stash, false)
    if (!this.#paused) this.#socket.resume()
  }

  continueWith(next: Exchange): void {
    this.#exchange = next
  }

  /** The manager has logged and released the exchange: on to the next request, or to the end. */
  exchangeEnded(): void {
    this.#exchange = undefined
    if (this.#destroyed || !this.#out.done) return
    if (this.#out.close || !this.#requestDone) {
      this.#end()
      return
    }
    this.#deadlines.idle()
    if (this.#stash === undefined) {
      if (this.#paused) this.resumeRequest()
    } else if (!this.#reading) {
      // Not from within the upstream's callback: its own work for this chunk comes first. The socket stays paused until
      // then, or later bytes would overtake those that wait.
      setImmediate(continueReading, this)
    }
  }

  /** @internal The request that waited behind the last response. */
  readStash(): void {
    const stash = this.#stash
    if (stash === undefined || this.#destroyed || this.#exchange !== undefined || this.#linger !== undefined) return
    this.#stash = undefined
    // Whatever held up the request before is over with it.
    this.#paused = false
    this.#read(stash, 0)
    if (this.#stash === undefined && !this.#paused && this.#linger === undefined) this.#socket.resume()
  }

  #end(): void {
    this.#linger = new Linger(this.#socket)
    this.#stash = undefined
    this.#out.flush()
    this.#socket.resume()
    this.#linger.begin(!this.#tunnel && this.#host.manager.config.delayedCloseTimeoutMs > 0)
    this.#deadlines.linger()
  }

  #expired(expiry: Expiry): void {
    if (this.#destroyed) return
    if (expiry === 'head') this.#refuse({ status: 408, reason: 'request_header_timeout' })
    else if (expiry === 'body') this.#tooSlow()
    else if (expiry === 'linger') {
      if (this.#linger?.expired()) this.#deadlines.linger()
    } else if (this.#exchange === undefined) this.#closeUnused()
    // It is let go to its end, which is the connection's.
    else this.#out.close = true
  }

  #tooSlow(): void {
    // It is we who keep the client from sending.
    if (this.#paused) this.#deadlines.bodyStarted(true)
    else {
      this.#host.manager.stats.slowBodies.v++
      this.#refuseRest(FAILURES.clientIdle, { status: 408, body: 'Request Timeout', details: 'request_body_too_slow' })
    }
  }
}

function continueReading(connection: Http1ServerConnection): void {
  connection.readStash()
}

const EMPTY: Buffer = Buffer.alloc(0)
