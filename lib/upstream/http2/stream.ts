import type { Attempt, UpstreamEvents, UpstreamStream } from '../../core/attempt.ts'
import { FAILURES, type Failure } from '../../core/failure.ts'
import type { Headers } from '../../core/headers.ts'
import { parseContentLength } from '../../http1/framing.ts'
import { Http2Code, type StreamFace, type StreamHandler, type StreamReset } from '../../http2/contract.ts'
import type { Http2ClientConnection } from './connection.ts'
import type { Http2Pool } from './pool.ts'
import { grant } from './upgrade.ts'

/** Interim responses accepted before the final one (edge-safety §1.4). */
const MAX_INTERIM = 10

/**
 * One attempt over HTTP/2: waits for room on a connection, keeps what is written meanwhile, then is itself the handler of
 * its stream. Ends exactly once.
 */
export class Http2ClientStream implements UpstreamStream, StreamHandler {
  readonly attempt: Attempt
  readonly #events: UpstreamEvents
  readonly #pool: Http2Pool
  #connection: Http2ClientConnection | undefined = undefined
  #face: StreamFace | undefined = undefined
  #queue: Buffer[] | undefined = undefined
  #queuedEnd = false
  #queuedTrailers: Headers | undefined = undefined
  #done = false
  #sentEnd: boolean
  #receivedEnd = false
  #paused = false
  /** Something of a response has come. */
  #answered = false
  #tunnel = false
  #interim = 0
  /** Bytes that `content-length` still promises; -1: it promises none. */
  #owed = -1
  /** Waiting for a connection. */
  pending = false
  /** It counts as a request. */
  counted = false

  constructor(attempt: Attempt, events: UpstreamEvents, pool: Http2Pool) {
    this.attempt = attempt
    this.#events = events
    this.#pool = pool
    this.#sentEnd = attempt.end && !attempt.upgrade
  }

  /** Whether the peer permits extended CONNECT is in its SETTINGS alone (RFC 8441 §3). */
  get needsSettings(): boolean {
    return this.attempt.upgrade && this.attempt.head.protocol !== undefined
  }

  get done(): boolean {
    return this.#done
  }

  /** The request goes out on `connection`. False: there is no room on it after all, and nothing has happened. */
  attach(connection: Http2ClientConnection): boolean {
    if (this.needsSettings && !connection.connectProtocol) {
      this.fail(FAILURES.upstreamProtocol, 'the upstream does not permit extended CONNECT')
      return true
    }
    const face = connection.begin(this)
    if (face === undefined) return false
    this.#connection = connection
    this.#face = face
    if (this.#paused) face.pause()
    if (!this.attempt.end) {
      const declared = this.attempt.headers.get('content-length')
      if (declared !== undefined) this.#owed = parseContentLength(declared)
    }
    this.#events.onConnected(connection)
    if (this.#queue !== undefined && !this.#done) this.#flush(this.#queue)
    return true
  }

  #flush(queue: readonly Buffer[]): void {
    this.#queue = undefined
    const trailers = this.#queuedTrailers
    const end = this.#queuedEnd && trailers === undefined
    let more = true
    for (let i = 0; i < queue.length; i++) more = this.write(queue[i], end && i === queue.length - 1)
    if (trailers !== undefined) this.trailers(trailers)
    else if (more && !end && !this.#done) this.#events.onDrain()
  }

  write(chunk: Buffer, end: boolean): boolean {
    if (this.#done) return true
    const face = this.#face
    if (face === undefined) {
      this.#queue ??= []
      this.#queue.push(chunk)
      this.#queuedEnd = end
      return false
    }
    if (this.#owed >= 0 && !this.#pay(chunk.length, end)) return true
    const more = face.write(chunk, end)
    if (end) this.#endSent()
    return more || end
  }

  get pendingBytes(): number {
    return this.#face?.pendingBytes ?? this.#queue?.reduce((sum, chunk) => sum + chunk.length, 0) ?? 0
  }

  settled(): boolean {
    return this.#queue === undefined && this.#face?.settled() === true
  }

  trailers(trailers: Headers): void {
    if (this.#done) return
    const face = this.#face
    if (face === undefined) {
      this.#queue ??= []
      this.#queuedEnd = true
      this.#queuedTrailers = trailers
      return
    }
    if (this.#owed >= 0 && !this.#pay(0, true)) return
    if (this.#tunnel) face.write(EMPTY, true)
    else face.trailers(trailers)
    this.#endSent()
  }

  /** A body that differs from its content-length would be malformed, and a danger behind the next HTTP/1 hop. */
  #pay(bytes: number, end: boolean): boolean {
    this.#owed -= bytes
    if (this.#owed >= 0 && (!end || this.#owed === 0)) return true
    const face = this.#face
    this.#finish()
    face?.reset(Http2Code.CANCEL)
    this.#events.onReset(FAILURES.filterError, 'body does not match its content-length')
    return false
  }

  #endSent(): void {
    this.#sentEnd = true
    if (this.#tunnel && this.#receivedEnd) this.#finish()
  }

  pause(): void {
    if (this.#done || this.#paused) return
    this.#paused = true
    this.#pool.stats.flowControlPausedReading.v++
    this.#face?.pause()
  }

  resume(): void {
    if (this.#done || !this.#paused) return
    this.#paused = false
    this.#pool.stats.flowControlResumedReading.v++
    this.#face?.resume()
  }

  cancel(): void {
    if (this.#done) return
    const face = this.#face
    this.#finish()
    if (face === undefined) {
      this.#pool.abandon(this)
      return
    }
    this.#pool.stats.rqTxReset.v++
    face.reset(Http2Code.CANCEL)
  }

  // --- from the session -------------------------------------------------------------------------------------------

  onInformational(status: number, headers: Headers): void {
    if (this.#done) return
    this.#answered = true
    // RFC 9113 §8.6: HTTP/2 has no 101.
    if (status === 101 || ++this.#interim > MAX_INTERIM) this.#break('invalid interim response')
    else if (status !== 100 || this.attempt.forwardContinue) this.#events.onInformational(status, headers)
  }

  onHeaders(status: number, headers: Headers, end: boolean): void {
    if (this.#done) return
    this.#answered = true
    if (this.attempt.upgrade && status < 300) this.#upgraded(status, headers, end)
    else {
      if (end) this.#complete()
      this.#events.onHeaders(status, headers, end)
    }
  }

  #upgraded(status: number, headers: Headers, end: boolean): void {
    this.#tunnel = true
    this.#events.onUpgraded(grant(this.attempt, status, headers), headers)
    if (end) this.onData(EMPTY, true)
  }

  onData(chunk: Buffer, end: boolean): void {
    if (this.#done) return
    if (end) {
      this.#receivedEnd = true
      // The other direction of a tunnel lives on.
      if (!this.#tunnel) this.#complete()
      else if (this.#sentEnd) this.#finish()
    }
    if (!this.#events.onData(chunk, end)) this.pause()
  }

  onTrailers(trailers: Headers): void {
    if (this.#done) return
    if (this.#tunnel) {
      this.onData(EMPTY, true)
      return
    }
    this.#complete()
    this.#events.onTrailers(trailers)
  }

  onDrain(): void {
    if (!this.#done) this.#events.onDrain()
  }

  onReset(reset: StreamReset): void {
    if (this.#done) return
    const { stats } = this.#pool
    switch (reset.by) {
      case 'goaway':
      case 'peer':
        // Who has begun to answer has looked at the request, whatever it says afterwards.
        if (!this.#answered && (!reset.processed || this.#goesOnWithHttp1(reset.code))) {
          this.fail(FAILURES.upstreamRefused)
          return
        }
        stats.rqRxReset.v++
        this.fail(
          reset.code === Http2Code.PROTOCOL_ERROR ? FAILURES.upstreamProtocol : FAILURES.upstreamReset,
          codeName(reset.code),
        )
        return
      case 'protocol':
        stats.rqTxReset.v++
        this.fail(FAILURES.upstreamProtocol, reset.detail)
        return
      case 'connection':
        this.#connectionLost(reset)
    }
  }

  /** RFC 9113 §7, HTTP_1_1_REQUIRED: told before the request is looked at, which HTTP/1 may serve. */
  #goesOnWithHttp1(code: number): boolean {
    return code === Http2Code.HTTP_1_1_REQUIRED && this.#pool.otherProtocol('HTTP/1.1')
  }

  #connectionLost(reset: StreamReset): void {
    const connection = this.#connection as Http2ClientConnection
    connection.interrupted = true
    if (connection.brokeRules) {
      this.#pool.stats.rqTxReset.v++
      this.fail(FAILURES.upstreamProtocol, reset.detail)
      return
    }
    this.#pool.stats.rqPendingFailureEject.v++
    const why = this.#answered
      ? FAILURES.upstreamBroken
      : reset.processed
        ? FAILURES.upstreamClosed
        : FAILURES.upstreamUnsent
    this.fail(why, connection.failure)
  }

  /** From the pool, and from this stream where nothing is left to reset. */
  fail(why: Failure, detail?: string): void {
    if (this.#done) return
    this.#finish()
    this.#events.onReset(why, detail)
  }

  #break(detail: string): void {
    const face = this.#face
    this.#pool.stats.rqTxReset.v++
    this.fail(FAILURES.upstreamProtocol, detail)
    face?.reset(Http2Code.PROTOCOL_ERROR)
  }

  /** The response is complete: of a request that is not, the rest stays unsent (RFC 9113 §8.1). */
  #complete(): void {
    const face = this.#face
    this.#finish()
    if (face !== undefined && (!this.#sentEnd || face.pendingBytes > 0)) face.reset(Http2Code.NO_ERROR)
  }

  /** Releases what the attempt holds, before its last event: a retry from within that event finds the room free. */
  #finish(): void {
    this.#done = true
    this.#queue = undefined
    if (this.counted) this.#pool.released(this)
  }
}

/** The code's name in RFC 9113 §7: the detail of a reset, which gRPC's status is made of. */
function codeName(code: number): string {
  for (const [name, value] of Object.entries(Http2Code)) if (value === code) return name
  return `error code ${code}`
}

const EMPTY: Buffer = Buffer.alloc(0)
