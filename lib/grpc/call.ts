import type { Cluster, UpstreamEvents, UpstreamHost, UpstreamStream } from '../core/attempt.ts'
import { FAILURES, type Failure } from '../core/failure.ts'
import type { Headers } from '../core/headers.ts'
import { Timed } from '../core/timer-wheel.ts'
import type { TurnWork } from '../core/turn.ts'
import type { CallParts, CallStart, GrpcCall, GrpcHandlers } from './call-contract.ts'
import { type Cause, count } from './call-stats.ts'
import type { GrpcEncoding } from './compression.ts'
import { Incoming, type IncomingOwner } from './incoming.ts'
import { MessageWriter, type WriterOwner } from './message-writer.ts'
import type { GrpcMethod } from './method.ts'
import { type GrpcCallOptions, isGrpcResponse, requestHeaders } from './request.ts'
import { failureStatus, foreignStatus, GrpcCode, type GrpcStatus, localStatus, peerStatus } from './status.ts'

const FIRST_WAIT_MS = 100
const LONGEST_WAIT_MS = 5_000

/**
 * One call over one attempt of a cluster, or two where the first was never processed.
 *
 *     start ─► open ──► onConnected ─► onHeaders ─► messages ─► onTrailers ─► onEnd
 *               ▲ │ pick failed, never processed        (trailers-only: onHeaders ─► onEnd)
 *               └─┘ wait for ready, or once for a single message
 *     deadline, abort, cancel, reset, a broken body: onEnd from anywhere
 */
export class Call<I, O> extends Timed implements GrpcCall<I>, UpstreamEvents, IncomingOwner, WriterOwner, TurnWork {
  readonly #parts: CallParts
  readonly #method: GrpcMethod<I, O>
  readonly #handlers: GrpcHandlers<O>
  readonly #options: GrpcCallOptions
  readonly #single: Uint8Array | undefined
  readonly #encoding: GrpcEncoding
  readonly #incoming: Incoming
  #writer: MessageWriter
  #cluster: Cluster | undefined = undefined
  #host: UpstreamHost | undefined = undefined
  #stream: UpstreamStream | undefined = undefined
  #startedMs = 0
  /** Absolute; 0: none. */
  #deadlineMs = 0
  /** The cluster's limit of a stream's life, absolute; 0: none. */
  #limitMs = 0
  /** When the next attempt opens while the call waits for a host; 0: it does not wait. */
  #reopenMs = 0
  #waitMs = FIRST_WAIT_MS
  #repeated = false
  #connected = false
  #httpStatus = 0
  /** The peer has ended its direction. */
  #answered = false
  #peerStatus: GrpcStatus | undefined = undefined
  /** The stream has been told to deliver nothing. */
  #stalled = false
  #halfClosed = false
  #starting = true
  #done = false
  /** Not delivered yet, because `stream` has not returned. */
  #ending: GrpcStatus | undefined = undefined

  constructor(start: CallStart<I, O>) {
    super()
    this.#parts = start.parts
    this.#method = start.method
    this.#handlers = start.handlers
    this.#options = start.options
    this.#single = start.single
    this.#encoding = start.options.encoding ?? 'identity'
    this.#incoming = new Incoming(this, start.options.maxReceiveBytes)
    this.#writer = this.#newWriter()
  }

  start(): void {
    const { timeoutMs, signal } = this.#options
    this.#startedMs = this.#parts.wheel.now()
    if (signal?.aborted === true) this.#end(ABORTED, 'cancelled')
    else if (timeoutMs !== undefined && timeoutMs <= 0) this.#end(EXPIRED, 'deadline')
    else {
      if (timeoutMs !== undefined && timeoutMs < Number.POSITIVE_INFINITY)
        this.#deadlineMs = this.#startedMs + timeoutMs
      signal?.addEventListener('abort', this, { once: true })
      this.#open()
    }
    this.#starting = false
  }

  #newWriter(): MessageWriter {
    const writer = new MessageWriter(this.#encoding, this)
    if (this.#single !== undefined) writer.write(this.#single, (this.#halfClosed = true))
    return writer
  }

  // --- attempts -----------------------------------------------------------------------------------------------------

  #open(): void {
    const cluster = this.#parts.cluster()
    if (cluster === undefined) {
      this.#unavailable(FAILURES.noCluster)
      return
    }
    const host = cluster.pick(this.#host === undefined ? NO_CONTEXT : { excluded: [this.#host] })
    if ('code' in host) {
      this.#unavailable(host)
      return
    }
    this.#cluster = cluster
    this.#host = host
    this.#connected = false
    if (this.#limitMs === 0 && cluster.maxStreamDurationMs !== undefined && cluster.maxStreamDurationMs > 0) {
      this.#limitMs = this.#startedMs + cluster.maxStreamDurationMs
    }
    this.#armNext()
    const stream = cluster.open(host, this.#attempt(), this)
    // Undefined: `onReset` has been called, and may have opened the next attempt within.
    if (stream === undefined) return
    if (this.#done) {
      stream.cancel()
      return
    }
    this.#stream = stream
    if (this.#connected || this.#options.waitForReady !== true) this.#writer.attach(stream)
  }

  #attempt(): Parameters<Cluster['open']>[1] {
    const { defaults, wheel } = this.#parts
    const { authority = defaults.authority, metadata } = this.#options
    const left = this.#deadlineMs === 0 ? undefined : this.#deadlineMs - wheel.now()
    return {
      head: { method: 'POST', scheme: defaults.scheme, authority, path: this.#method.path, protocol: undefined },
      headers: requestHeaders(defaults, this.#encoding, metadata, left),
      end: false,
      priority: defaults.priority,
      upgrade: false,
      downstream: undefined,
      downstreamProtocol: 'HTTP/2',
      forwardContinue: false,
    }
  }

  #unavailable(why: Failure): void {
    if (this.#options.waitForReady === true) this.#wait()
    else this.#end(failureStatus(why, undefined), 'network')
  }

  #wait(): void {
    this.#reopenMs = this.#parts.wheel.clock.now() + this.#waitMs
    this.#waitMs = Math.min(LONGEST_WAIT_MS, 2 * this.#waitMs)
    this.#armNext()
  }

  /** The failure leaves nothing behind at the peer, and nothing that we would have to say again is lost. */
  #repeat(why: Failure): boolean {
    if (why.retry !== 'always' || this.#httpStatus !== 0) return false
    if (this.#options.waitForReady === true && !this.#connected) {
      this.#wait()
      return true
    }
    if (this.#single === undefined || this.#repeated) return false
    this.#repeated = true
    if (this.#cluster !== undefined) this.#cluster.counters.retry.v++
    this.#writer.close()
    this.#writer = this.#newWriter()
    this.#open()
    return true
  }

  // --- from the user ------------------------------------------------------------------------------------------------

  write(message: I, end = false): boolean {
    if (this.#done) return true
    if (this.#halfClosed) throw new Error(`${this.#method.path}: a message was written after the last one`)
    const payload = this.#method.encode(message)
    this.#halfClosed = end
    return this.#writer.write(payload, end)
  }

  end(): void {
    if (this.#done || this.#halfClosed) return
    this.#halfClosed = true
    this.#writer.write(undefined, true)
  }

  pause(): void {
    if (this.#done) return
    this.#incoming.pause()
    if (this.#stalled || this.#stream === undefined) return
    this.#stalled = true
    this.#stream.pause()
  }

  resume(): void {
    if (!this.#done) this.#incoming.resume()
  }

  cancel(): void {
    this.#ending = undefined
    if (!this.#done) this.#finish(ABORTED, 'cancelled')
  }

  /** The caller's AbortSignal. @internal */
  handleEvent(): void {
    this.#end(ABORTED, 'cancelled')
  }

  // --- from the upstream --------------------------------------------------------------------------------------------

  onConnected(): void {
    this.#connected = true
    // Not while the attempt is being opened: its stream is not known yet.
    if (this.#stream !== undefined && this.#options.waitForReady === true) this.#writer.attach(this.#stream)
    // Told when the turn ends: never before `stream` has returned.
    if (this.#handlers.onConnected !== undefined) this.#parts.wheel.turn.defer(this)
  }

  onInformational(): void {}

  onUpgraded(): void {
    this.#end(localStatus(GrpcCode.INTERNAL, 'the peer granted an upgrade that nobody asked for'), 'peer')
  }

  onHeaders(status: number, headers: Headers, end: boolean): void {
    if (this.#done) return
    this.#httpStatus = status
    this.#answered = end
    if (end) {
      this.#end(peerStatus(status, headers), 'peer')
      return
    }
    const type = headers.get('content-type')
    if (!isGrpcResponse(status, type)) {
      // Whoever gives a status is believed, whatever else it says.
      this.#end(headers.has('grpc-status') ? peerStatus(status, headers) : foreignStatus(status, type), 'peer')
      return
    }
    // A trailers-only response whose end comes in a frame of its own.
    if (headers.has('grpc-status')) this.#peerStatus = peerStatus(status, headers)
    this.#incoming.begin(headers.get('grpc-encoding'))
    this.#tell('onHeaders', headers)
  }

  onData(chunk: Buffer, end: boolean): boolean {
    if (this.#done) return true
    this.#answered = end
    const more = this.#incoming.push(chunk)
    if (end && !this.#done) this.#incoming.finish()
    if (more || this.#done) return true
    this.#stalled = true
    return false
  }

  onTrailers(trailers: Headers): void {
    if (this.#done) return
    this.#answered = true
    this.#peerStatus = peerStatus(this.#httpStatus, trailers)
    this.#incoming.finish()
  }

  onDrain(): void {
    if (!this.#done) this.#writer.drained()
  }

  onReset(why: Failure, detail?: string): void {
    this.#stream = undefined
    if (this.#done || this.#repeat(why)) return
    const status = failureStatus(why, detail)
    // The peer may have noticed the deadline first (PROTOCOL-HTTP2.md, "Client Cancellation").
    const late = this.#deadlineMs > 0 && this.#parts.wheel.clock.now() >= this.#deadlineMs
    if (late && status.code === GrpcCode.CANCELLED) this.#end(EXPIRED, 'deadline')
    else this.#end(status, 'network')
  }

  // --- from the two directions --------------------------------------------------------------------------------------

  incomingMessage(bytes: Buffer): void {
    let message: O
    try {
      message = this.#method.decode(bytes)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      this.#end(localStatus(GrpcCode.INTERNAL, `a message could not be decoded: ${why}`), 'peer')
      return
    }
    try {
      this.#handlers.onMessage(message)
    } catch (error) {
      this.#threw(error)
    }
  }

  incomingComplete(cut: boolean): void {
    const status = this.#peerStatus
    if (status === undefined) this.#end(NO_TRAILERS, 'peer')
    else if (cut && status.code === GrpcCode.OK) this.#end(CUT, 'peer')
    else this.#end(status, 'peer')
  }

  incomingBroken(status: GrpcStatus): void {
    this.#end(status, 'peer')
  }

  incomingWanted(): void {
    if (!this.#stalled) return
    this.#stalled = false
    this.#stream?.resume()
  }

  writerDrained(): void {
    this.#tell('onDrain')
  }

  writerFailed(): void {
    this.#end(localStatus(GrpcCode.INTERNAL, 'a message could not be compressed'), 'cancelled')
  }

  // --- deadlines and the end ----------------------------------------------------------------------------------------

  #armNext(): void {
    let due = this.#deadlineMs
    if (this.#limitMs > 0 && (due === 0 || this.#limitMs < due)) due = this.#limitMs
    if (this.#reopenMs > 0 && (due === 0 || this.#reopenMs < due)) due = this.#reopenMs
    if (due > 0) this.#parts.wheel.armAt(this, due)
  }

  override onDue(nowMs: number): void {
    if (this.#deadlineMs > 0 && nowMs >= this.#deadlineMs) this.#end(EXPIRED, 'deadline')
    else if (this.#limitMs > 0 && nowMs >= this.#limitMs) {
      this.#end(failureStatus(FAILURES.upstreamMaxDuration, undefined), 'network')
    } else if (this.#reopenMs > 0 && nowMs >= this.#reopenMs) {
      this.#reopenMs = 0
      this.#open()
    } else this.#armNext()
  }

  #threw(error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    this.#parts.log.error('a gRPC handler threw', { method: this.#method.path, error: text })
    this.#end(localStatus(GrpcCode.INTERNAL, 'a handler of the call threw'), 'cancelled')
  }

  #end(status: GrpcStatus, cause: Cause): void {
    if (this.#done) return
    this.#finish(status, cause)
    if (this.#starting) {
      this.#ending = status
      this.#parts.wheel.turn.defer(this)
    } else this.#tellEnd(status)
  }

  turnEnds(): void {
    if (!this.#done) this.#tell('onConnected')
    const status = this.#ending
    this.#ending = undefined
    if (status !== undefined) this.#tellEnd(status)
  }

  #tell(event: 'onConnected' | 'onHeaders' | 'onDrain', headers?: Headers): void {
    try {
      this.#handlers[event]?.(headers as Headers)
    } catch (error) {
      this.#threw(error)
    }
  }

  #tellEnd(status: GrpcStatus): void {
    try {
      this.#handlers.onEnd(status)
    } catch (error) {
      this.#threw(error)
    }
  }

  #finish(status: GrpcStatus, cause: Cause): void {
    this.#done = true
    this.#parts.wheel.disarm(this)
    this.#options.signal?.removeEventListener('abort', this)
    this.#incoming.close()
    this.#writer.close()
    if (this.#cluster !== undefined && this.#host !== undefined) {
      const elapsedMs = this.#parts.wheel.now() - this.#startedMs
      count(this.#cluster, this.#host, {
        status,
        cause,
        httpStatus: this.#httpStatus,
        repeated: this.#repeated,
        elapsedMs,
      })
    }
    const stream = this.#stream
    this.#stream = undefined
    // Also where the peer is done before us: the rest of the request must not keep the stream open.
    if (stream !== undefined && !(this.#answered && this.#halfClosed)) stream.cancel()
  }
}

const NO_CONTEXT = Object.freeze({})
const EXPIRED = Object.freeze(localStatus(GrpcCode.DEADLINE_EXCEEDED, 'the deadline of the call has passed'))
const ABORTED = Object.freeze(localStatus(GrpcCode.CANCELLED, 'the call was cancelled'))
const NO_TRAILERS = Object.freeze(localStatus(GrpcCode.INTERNAL, 'the peer ended the call without trailers'))
const CUT = Object.freeze(localStatus(GrpcCode.INTERNAL, 'the peer ended the call within a message'))
