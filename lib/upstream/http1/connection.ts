import type { Socket } from 'node:net'
import type { UpstreamInfo } from '../../core/attempt.ts'
import { FAILURES, type Failure } from '../../core/failure.ts'
import { Headers } from '../../core/headers.ts'
import { systemDrained } from '../../core/system-drained.ts'
import { type BodyHandler, BodyReader } from '../../http1/body-reader.ts'
import { MessageWriter } from '../../http1/body-writer.ts'
import { CHUNKED, type Framing, LENGTH, NO_BODY, UNTIL_CLOSE } from '../../http1/framing.ts'
import { HeadBuffer } from '../../http1/head-buffer.ts'
import { CLOSE, type Head, HeadParser, KEEP_ALIVE } from '../../http1/head-parser.ts'
import { ClientConnection } from '../client-connection.ts'
import { describeFailure, resetTransport, type Transport } from '../connect.ts'
import { closeBehind } from '../farewell.ts'
import type { ReadTarget } from '../socket-reader.ts'
import type { Http1Pool } from './pool.ts'
import { requestHead } from './request-head.ts'
import type { Http1ClientStream } from './stream.ts'

/** Interim responses accepted before the final one (edge-safety §1.4). */
const MAX_INTERIM = 10

/**
 * The client side of one HTTP/1 connection: one exchange at a time, then idle in its pool. It goes back to the pool only
 * when the request is fully written, the response complete and nothing else has arrived; anything unexpected closes it.
 */
export class Http1ClientConnection extends ClientConnection implements BodyHandler, ReadTarget, UpstreamInfo {
  readonly protocol = 'HTTP/1.1'
  // From `established` on; nothing that needs them happens before.
  #transport!: Transport
  #socket!: Socket
  #writer!: MessageWriter
  readonly #pool: Http1Pool
  readonly #heads: HeadBuffer
  readonly #parser: HeadParser
  readonly #body = new BodyReader()
  #stream: Http1ClientStream | undefined = undefined
  #served = 0
  #interim = 0
  #headSeen = false
  #keep = true
  #blocked = false
  /** The bytes at hand may be kept as they are. */
  #lent = true
  /** Whose body the chunk at hand brings, where it is lent: one alone, as what follows a response ends the connection. */
  #receiver: Http1ClientStream | undefined = undefined
  /** A granted upgrade or CONNECT: bytes pass as they are, each direction ends by itself. */
  #tunnel = false
  #readEnded = false
  #writeEnded = false
  #closed = false
  #connected = false
  openedMs = 0
  idleSinceMs = 0

  constructor(pool: Http1Pool, connectionId: number) {
    super(pool.host, pool.wheel, connectionId)
    this.#pool = pool
    const { config } = pool
    // No request line to bound on this side: a status line may use the whole head.
    const limits = {
      lineBytes: config.maxResponseHeaderBytes,
      headerBytes: config.maxResponseHeaderBytes,
      headers: config.maxResponseHeaders,
    }
    this.#heads = new HeadBuffer(limits)
    this.#parser = new HeadParser(limits, { keepCase: config.http1.headerCase === 'preserve', response: true })
    this.openedMs = pool.wheel.clock.now()
  }

  protected override established(transport: Transport): void {
    const { socket, reader } = transport
    this.#transport = transport
    this.#socket = socket
    this.#writer = new MessageWriter(socket, this.#pool.wheel.turn)
    if (reader === undefined) socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    else reader.target = this
    socket.on('drain', () => {
      this.#blocked = false
      this.#stream?.drain()
    })
    socket.on('end', () => this.#onEnd())
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.dead = true
      this.failure = describeFailure(error)
    })
    socket.on('close', () => this.gone())
    this.#connected = true
    this.#pool.connected(this, socket)
  }

  /** Asked when an exchange is about to begin: has there been one before? */
  get reused(): boolean {
    return this.#served > 0
  }

  get connected(): boolean {
    return this.#connected
  }

  /** Its socket is gone, though it may not have said so yet: not to be used any more. */
  dead = false

  get busy(): boolean {
    return this.#stream !== undefined
  }

  /** Sends the request head of `stream`, which this connection serves until its response is complete. */
  begin(stream: Http1ClientStream): void {
    const { config } = this.#pool
    const { attempt } = stream
    this.#stream = stream
    this.#served++
    this.#interim = 0
    this.#headSeen = false
    this.#keep = config.maxRequestsPerConnection === undefined || this.#served < config.maxRequestsPerConnection
    if (!this.#keep) this.#pool.stats.cxMaxRequests.v++
    const head = requestHead(attempt, config.http1.headerCase, this.#writer.memo)
    this.#writer.start(head.text, head.framing, head.length)
    if (attempt.end) this.#writer.end(undefined, 'lower')
  }

  write(chunk: Buffer, end: boolean): boolean {
    if (this.#closed) return true
    if (this.#tunnel) return this.#writeTunnel(chunk, end)
    const more = this.#writer.write(chunk, end)
    if (more === undefined) {
      this.#break(FAILURES.filterError, 'body does not match its content-length')
      return true
    }
    if (!more) this.#blocked = true
    return more || end
  }

  trailers(trailers: Headers): void {
    if (this.#closed) return
    const { http1 } = this.#pool.config
    if (!this.#writer.end(http1.enableTrailers ? trailers : undefined, http1.headerCase)) {
      this.#break(FAILURES.filterError, 'body does not match its content-length')
    }
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  #writeTunnel(chunk: Buffer, end: boolean): boolean {
    const more = chunk.length === 0 || this.#socket.write(chunk)
    if (end) {
      this.#writeEnded = true
      this.#socket.end()
      if (this.#readEnded) this.#tunnelDone()
    }
    return more
  }

  /** Both directions have ended. */
  #tunnelDone(): void {
    const stream = this.#stream
    this.#stream = undefined
    closeBehind(this.#socket, this.#pool.wheel)
    stream?.tunnelDone()
  }

  /** The exchange was cancelled: its connection cannot be used for another. A tunnel that breaks off says so by RST. */
  abort(): void {
    this.#stream = undefined
    if (this.#tunnel) resetTransport(this.#transport)
    this.destroy()
  }

  destroy(): void {
    if (this.#closed) return
    this.dead = true
    if (!this.abandonOpening()) this.#socket.destroy()
  }

  // --- ReadTarget ---------------------------------------------------------------------------------------------------

  get expectsBody(): boolean {
    return this.#tunnel || (this.#headSeen && !this.#body.done)
  }

  received(chunk: Buffer, lent: boolean): void {
    this.#lent = lent
    this.#receiver = lent && !this.#tunnel ? this.#stream : undefined
    this.#onData(chunk)
  }

  get spent(): boolean {
    const receiver = this.#receiver
    this.#receiver = undefined
    return !this.#tunnel && receiver?.spent === true
  }

  get drained(): boolean {
    return systemDrained(this.#socket)
  }

  #onData(chunk: Buffer): void {
    if (this.#tunnel) {
      if (this.#stream?.tunnelData(this.#lent ? chunk : Buffer.from(chunk), false, false) === false)
        this.#socket.pause()
      return
    }
    if (this.#stream === undefined) {
      // Nobody asked: a response before its request is how responses get mixed up. Never reuse such a connection.
      this.#pool.stats.cxProtocolError.v++
      this.destroy()
      return
    }
    let at = 0
    while (at < chunk.length) {
      if (this.#headSeen) {
        const next = this.#body.feed(chunk, at, this)
        if (next < 0) {
          this.#break(FAILURES.upstreamProtocol, this.#body.problem)
          return
        }
        at = next
        if (!this.#body.done) return
        this.#responseDone(at < chunk.length)
        return
      }
      const text = this.#heads.take(chunk, at)
      if (text === undefined) return
      const head = typeof text === 'string' ? this.#parser.parse(text) : text
      if (!('raw' in head)) {
        this.#break(FAILURES.upstreamProtocol, head.reason)
        return
      }
      at = this.#heads.next
      if (!this.#onHead(head, chunk, at)) return
    }
    if (this.#headSeen && this.#body.done && this.#stream !== undefined) this.#responseDone(false)
  }

  /** False where this chunk must not be read further. */
  #onHead(head: Head, chunk: Buffer, at: number): boolean {
    const stream = this.#stream as Http1ClientStream
    if (head.status < 200) return this.#onInterim(head, chunk, at)
    if (stream.attempt.upgrade && stream.attempt.head.method === 'CONNECT' && head.status < 300) {
      // RFC 9110 §9.3.6: behind the head of a 2xx lies the tunnel, whatever its fields say of a body.
      this.#handOver(stream, head, chunk.subarray(at))
      return false
    }
    this.#headSeen = true
    const headers = new Headers(head.raw, head.cased)
    const bodyless = stream.attempt.head.method === 'HEAD' || head.status === 204 || head.status === 304
    let framing: Framing = UNTIL_CLOSE
    if (bodyless) framing = NO_BODY
    else if (head.chunked && head.minor === 1) framing = CHUNKED
    else if (head.chunked) this.#keep = false
    else if (head.contentLength >= 0) framing = LENGTH
    if (head.chunked && head.contentLength >= 0) {
      // RFC 9112 §6.3: chunked wins, and such a peer is not to be trusted with another request.
      headers.delete('content-length')
      this.#keep = false
    }
    if (
      framing === UNTIL_CLOSE ||
      (head.flags & CLOSE) !== 0 ||
      (head.minor === 0 && (head.flags & KEEP_ALIVE) === 0)
    ) {
      this.#keep = false
    }
    this.#body.start(framing, head.contentLength)
    if (!this.#body.done) {
      stream.headers(head.status, headers, false)
      return this.#stream === stream
    }
    const surplus = at < chunk.length
    this.#release(surplus)
    stream.headers(head.status, headers, true)
    return false
  }

  #onInterim(head: Head, chunk: Buffer, at: number): boolean {
    const stream = this.#stream as Http1ClientStream
    if (head.chunked || head.contentLength > 0 || ++this.#interim > MAX_INTERIM) {
      this.#break(FAILURES.upstreamProtocol, 'invalid interim response')
      return false
    }
    if (head.status !== 101) {
      if (head.status !== 100 || stream.attempt.forwardContinue) {
        stream.informational(head.status, new Headers(head.raw, head.cased))
      }
      return this.#stream === stream
    }
    if (!stream.attempt.upgrade || head.upgrade !== stream.attempt.head.protocol) {
      this.#break(FAILURES.upstreamProtocol, 'unexpected 101 response')
      return false
    }
    this.#handOver(stream, head, chunk.subarray(at))
    return false
  }

  /** From here on bytes are the tunnel's; the connection ends with it. */
  #handOver(stream: Http1ClientStream, head: Head, early: Buffer): void {
    const headers = new Headers(head.raw, head.cased)
    if (head.status === 101) {
      headers.add('upgrade', head.upgrade)
      headers.add('connection', 'upgrade')
    }
    this.#tunnel = true
    this.#headSeen = true
    this.#keep = false
    this.#pool.wheel.disarm(this)
    stream.upgraded(head.status, headers)
    if (early.length > 0) this.#onData(early)
  }

  onBody(chunk: Buffer, end: boolean): void {
    const stream = this.#stream
    if (stream === undefined) return
    // The connection is free before the last bytes are delivered: the next request may start from within.
    const kept = this.#lent ? chunk : Buffer.from(chunk)
    if (end) this.#pendingEnd = kept
    else if (!stream.data(kept, false)) this.#socket.pause()
  }

  onBodyEnd(trailers: Headers | undefined): void {
    this.#pendingTrailers = trailers
  }

  #pendingEnd: Buffer | undefined = undefined
  #pendingTrailers: Headers | undefined = undefined

  #responseDone(surplus: boolean): void {
    const stream = this.#stream
    const chunk = this.#pendingEnd
    const trailers = this.#pendingTrailers
    this.#pendingEnd = undefined
    this.#pendingTrailers = undefined
    if (stream === undefined) return
    this.#release(surplus)
    if (trailers !== undefined) stream.end(trailers)
    else stream.data(chunk ?? EMPTY, true)
  }

  /** Back to the pool, or closed. */
  #release(surplus: boolean): void {
    this.#stream = undefined
    this.#socket.resume()
    if (surplus) this.#pool.stats.cxProtocolError.v++
    if (this.#keep && !surplus && this.#writer.complete && !this.#blocked && !this.dead) this.#pool.idle(this)
    else this.destroy()
  }

  #onEnd(): void {
    const stream = this.#stream
    if (this.#tunnel) {
      this.#readEnded = true
      if (this.#writeEnded) this.#stream = undefined
      stream?.tunnelData(EMPTY, true, this.#writeEnded)
      if (this.#writeEnded) closeBehind(this.#socket, this.#pool.wheel)
      return
    }
    if (stream !== undefined && this.#headSeen && this.#body.close()) {
      this.#keep = false
      this.#responseDone(false)
    }
    this.destroy()
  }

  protected override gone(): void {
    if (this.#closed) return
    this.#closed = this.dead = true
    this.#pool.wheel.disarm(this)
    const stream = this.#stream
    this.#pool.closed(this, this.failure)
    this.#stream = undefined
    const begun = this.#headSeen || this.#interim > 0 || this.#heads.started
    stream?.fail(begun ? FAILURES.upstreamBroken : FAILURES.upstreamClosed, this.failure)
  }

  #break(why: Failure, detail: string | undefined): void {
    const stream = this.#stream
    this.#stream = undefined
    this.#pool.stats.cxProtocolError.v++
    this.destroy()
    stream?.fail(why, detail)
  }

  override onDue(nowMs: number): void {
    if (this.#closed) return
    if (!this.#connected) {
      this.failure = 'connection timeout'
      this.#pool.connectTimedOut(this)
      this.destroy()
      return
    }
    this.#pool.checkIdle(this, nowMs)
  }
}

const EMPTY: Buffer = Buffer.alloc(0)
