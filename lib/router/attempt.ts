import type { TerminalExchange, TerminalStream } from '../chain/filter.ts'
import type { Cluster, UpstreamEvents, UpstreamHost, UpstreamInfo, UpstreamStream } from '../core/attempt.ts'
import { FAILURES, type Failure } from '../core/failure.ts'
import type { Headers } from '../core/headers.ts'
import { Timed } from '../core/timer-wheel.ts'
import { dropControlHeaders } from './control-headers.ts'
import { Deadlines, requestTimeoutMs } from './deadlines.ts'
import { Replay } from './replay.ts'
import type { CompiledRoute, ForwardAction } from './route.ts'
import type { RouterParts } from './router.ts'
import { Shadow } from './shadow.ts'

/** Attempts of a request that no upstream has looked at. */
const MAX_UNPROCESSED = 4

/** What one forwarding begins with. */
export interface ForwardingStart {
  readonly exchange: TerminalExchange
  readonly route: CompiledRoute<unknown>
  readonly action: ForwardAction
  readonly cluster: Cluster
  readonly router: RouterParts
}

/**
 * One exchange on its way through a cluster: prepares the request, opens an attempt, repeats it where nothing of it can
 * have been processed, keeps the deadlines, and hands the response back.
 */
export class Forwarding extends Timed implements TerminalStream, UpstreamEvents {
  readonly #exchange: TerminalExchange
  readonly #route: CompiledRoute<unknown>
  readonly #action: ForwardAction
  readonly #cluster: Cluster
  readonly #router: RouterParts
  #stream: UpstreamStream | undefined = undefined
  #host: UpstreamHost | undefined = undefined
  #deadlines: Deadlines | undefined = undefined
  #shadows: readonly Shadow[] | undefined = undefined
  /** Of a request with a body, until its response begins. */
  #replay: Replay | undefined = undefined
  #startedMs = 0
  /** The authority as it was before it was rewritten; undefined: it has not been. */
  #authority: string | undefined = undefined
  #bodyless = false
  #reused = false
  #responding = false
  /** Directions of a granted tunnel that have not ended; 0: there is no tunnel. */
  #halves = 0
  #done = false
  #status = 0

  constructor(start: ForwardingStart) {
    super()
    this.#exchange = start.exchange
    this.#route = start.route
    this.#action = start.action
    this.#cluster = start.cluster
    this.#router = start.router
  }

  /** Opens the first attempt. Undefined where the exchange has been answered within. */
  begin(end: boolean): TerminalStream | undefined {
    const exchange = this.#exchange
    this.#bodyless = end
    if (!end) this.#replay = new Replay()
    const timeoutMs = requestTimeoutMs(exchange, this.#action)
    this.#prepare(timeoutMs)
    const wheel = this.#router.scope.wheel
    this.#startedMs = wheel.now()
    this.#deadlines = new Deadlines(timeoutMs, this.#cluster.maxStreamDurationMs ?? 0, this.#startedMs)
    if (end || exchange.requestComplete) this.#deadlines.requestComplete(this.#startedMs)
    this.#armNext()
    if (this.#action.mirrors.length > 0) this.#mirror(end)
    this.#open()
    return this.#done ? undefined : this
  }

  /** The last changes to a request: the route's edits, then host, then path (Envoy's order). */
  #prepare(timeoutMs: number): void {
    const exchange = this.#exchange
    const route = this.#route
    const { request, head } = exchange
    const { config } = this.#router
    const action = this.#action
    if (exchange.info.internal) dropControlHeaders(request)
    route.requestHeaderEdits?.(request, exchange)
    if (action.rewriteHost !== undefined && !action.autoHostRewrite) this.#rewriteHost('')
    if (action.rewritePath !== undefined) {
      const original = head.path
      head.path = action.rewritePath(exchange)
      // Also where nothing changed, as Envoy does.
      if (!config.suppressEnvoyHeaders) request.put('x-envoy-original-path', original)
    }
    if (!config.suppressEnvoyHeaders && timeoutMs > 0) {
      request.put('x-envoy-expected-rq-timeout-ms', String(timeoutMs))
    }
    if (route.includeAttemptCount) request.put('x-envoy-attempt-count', '1')
    // A filter may have written these; what reaches the wire must be one request line and one Host.
    if (!isVisible(head.path) || !isVisible(head.authority) || !isVisible(head.method)) {
      throw new TypeError('the request line or authority holds a character it may not')
    }
  }

  #rewriteHost(hostname: string): void {
    const { head, request } = this.#exchange
    const host = this.#action.rewriteHost?.(this.#exchange, hostname)
    if (this.#authority !== undefined) {
      // Another host of a repeated attempt: what was added for the first one is true of it as well.
      head.authority = host || this.#authority
      return
    }
    if (host === undefined || host === '' || host === head.authority) return
    this.#authority = head.authority
    if (this.#action.appendXForwardedHost) appendForwardedHost(request, head.authority)
    if (!this.#router.config.suppressEnvoyHeaders) request.put('x-envoy-original-host', head.authority)
    head.authority = host
  }

  /** Answers the stream; undefined where it failed at once, and `onReset` may have opened the next one within. */
  #open(): UpstreamStream | undefined {
    const exchange = this.#exchange
    const cluster = this.#cluster
    const { info } = exchange
    info.attempts++
    this.#stream = undefined
    const host = cluster.pick(NO_CONTEXT)
    if ('code' in host) {
      this.#fail(host)
      return undefined
    }
    this.#host = host
    info.upstreamHost = host.addressText
    info.upstreamHostName = host.hostname
    if (this.#action.autoHostRewrite) this.#rewriteHost(host.hostname)
    if (info.attempts > 1 && this.#route.includeAttemptCount) {
      exchange.request.put('x-envoy-attempt-count', String(info.attempts))
    }
    const stream = cluster.open(
      host,
      {
        head: exchange.head,
        headers: exchange.request,
        end: this.#bodyless,
        priority: this.#action.priority,
        upgrade: exchange.head.protocol !== undefined || exchange.head.method === 'CONNECT',
        downstream: exchange.connection,
        downstreamProtocol: info.protocol,
        forwardContinue: exchange.request.has('expect'),
      },
      this,
    )
    if (stream !== undefined) this.#stream = stream
    return stream
  }

  #mirror(end: boolean): void {
    const shadows: Shadow[] = []
    for (const target of this.#action.mirrors) {
      const shadow = Shadow.start(target, this.#exchange, this.#router, end)
      if (shadow !== undefined) shadows.push(shadow)
    }
    if (shadows.length > 0 && !end) this.#shadows = shadows
  }

  // --- request ------------------------------------------------------------------------------------------------------

  write(chunk: Buffer, end: boolean): boolean {
    const { info } = this.#exchange
    info.upstreamBytesSent += chunk.length
    if (this.#shadows !== undefined) for (const shadow of this.#shadows) shadow.write(chunk, end)
    this.#replay?.write(chunk, end)
    if (end) {
      this.#requestDone()
      if (this.#halves > 0) this.#halfEnded()
    }
    return this.#stream?.write(chunk, end) ?? true
  }

  /** Never of a second attempt: the connection of the first may still be writing what came before. */
  settled(): boolean {
    if (this.#shadows !== undefined || this.#replay?.spoilt === false || this.#exchange.info.attempts > 1) return false
    return this.#stream?.settled?.() === true
  }

  trailers(trailers: Headers): void {
    if (this.#shadows !== undefined) for (const shadow of this.#shadows) shadow.write(EMPTY, true)
    this.#replay?.trailers(trailers)
    this.#requestDone()
    this.#stream?.trailers(trailers)
  }

  #requestDone(): void {
    const now = this.#router.scope.wheel.now()
    this.#exchange.info.upstreamLastSentMs = now
    this.#deadlines?.requestComplete(now)
    this.#armNext()
  }

  pause(): void {
    this.#stream?.pause()
  }

  resume(): void {
    this.#stream?.resume()
  }

  cancel(why: Failure | undefined): void {
    if (this.#done) return
    if (why?.source === 'downstream') this.#cluster.counters.cancelled.v++
    this.#finish()
    this.#stream?.cancel()
  }

  // --- response -----------------------------------------------------------------------------------------------------

  onConnected(info: UpstreamInfo): void {
    this.#reused = info.reused
    const stream = this.#exchange.info
    stream.upstreamProtocol = info.protocol
    stream.connectedTo(info)
    stream.upstreamFirstSentMs = this.#startedMs
  }

  onInformational(status: number, headers: Headers): void {
    if (!this.#done) this.#exchange.upstreamInformational(status, headers)
  }

  onHeaders(status: number, headers: Headers, end: boolean): void {
    if (this.#done) return
    this.#responding = true
    this.#replay = undefined
    this.#status = status
    const exchange = this.#exchange
    const now = this.#router.scope.wheel.now()
    exchange.info.upstreamFirstReceivedMs = now
    const elapsed = Math.trunc(now - this.#startedMs)
    if (!this.#router.config.suppressEnvoyHeaders) headers.put('x-envoy-upstream-service-time', String(elapsed))
    if (this.#route.includeAttemptCountInResponse) headers.put('x-envoy-attempt-count', String(exchange.info.attempts))
    exchange.upstreamAnswers(status, headers)
    this.#route.responseHeaderEdits?.(headers, exchange)
    if (end) this.#complete(now)
    exchange.upstreamHeaders(status, headers, end)
  }

  onData(chunk: Buffer, end: boolean): boolean {
    this.#exchange.info.upstreamBytesReceived += chunk.length
    if (this.#done) return true
    if (end && this.#halves > 0) this.#halfEnded()
    else if (end) this.#complete(this.#router.scope.wheel.now())
    return this.#exchange.upstreamData(chunk, end)
  }

  dataSettled(): boolean {
    return this.#exchange.responseSettled()
  }

  onTrailers(trailers: Headers): void {
    if (this.#done) return
    this.#complete(this.#router.scope.wheel.now())
    this.#exchange.upstreamTrailers(trailers)
  }

  onUpgraded(status: number, headers: Headers): void {
    if (this.#done) return
    const { wheel } = this.#router.scope
    this.#responding = true
    this.#halves = 2
    this.#status = status
    this.#exchange.info.upstreamFirstReceivedMs = wheel.now()
    // The request has been answered; what the tunnel may take is not the route's timeout's business.
    this.#deadlines = undefined
    wheel.disarm(this)
    this.#exchange.upstreamAnswers(status, headers)
    this.#route.responseHeaderEdits?.(headers, this.#exchange)
    this.#exchange.upstreamUpgraded(status, headers)
  }

  onDrain(): void {
    if (!this.#done) this.#exchange.drained()
  }

  onReset(why: Failure, detail?: string): void {
    if (this.#done) return
    if (this.#mayRepeat(why)) {
      this.#cluster.counters.retry.v++
      const stream = this.#open()
      if (stream !== undefined) this.#sendAgain(stream)
      return
    }
    this.#fail(why, detail)
  }

  /**
   * What the upstream never looked at (a refused HTTP/2 stream, one beyond its GOAWAY) is sent again whatever it is, as
   * long as all of it is still at hand. A pooled connection that its peer had closed may have brought the request there:
   * only where a repetition cannot do harm (RFC 9110 §9.2.2), nothing is lost by it (no body), and once.
   */
  #mayRepeat(why: Failure): boolean {
    if (this.#responding) return false
    const { attempts } = this.#exchange.info
    if (why === FAILURES.upstreamRefused || why === FAILURES.upstreamUnsent) {
      return attempts < MAX_UNPROCESSED && this.#replay?.spoilt !== true
    }
    if (why.retry !== 'reused' || !this.#reused || !this.#bodyless) return false
    return attempts < 2 && isIdempotent(this.#exchange.head.method)
  }

  #fail(why: Failure, detail?: string): void {
    if (this.#host !== undefined) this.#host.rqError++
    if (!this.#responding) this.#cluster.completed(why.status, this.#router.scope.wheel.now() - this.#startedMs)
    this.#finish()
    this.#exchange.upstreamFailed(why, detail)
  }

  /** The attempt before may have asked the client to wait, and drains no more. */
  #sendAgain(stream: UpstreamStream): void {
    const more = this.#replay?.sendTo(stream) ?? true
    if (more && this.#stream === stream) this.onDrain()
  }

  /** Until both have ended the attempt is under way: it drains, may be reset and cancelled. */
  #halfEnded(): void {
    if (--this.#halves === 0) this.#complete(this.#router.scope.wheel.now())
  }

  #complete(now: number): void {
    this.#exchange.info.upstreamLastReceivedMs = now
    if (this.#host !== undefined) {
      if (this.#status >= 500) this.#host.rqError++
      else this.#host.rqSuccess++
    }
    this.#cluster.completed(this.#status, now - this.#startedMs)
    this.#finish()
  }

  #finish(): void {
    this.#done = true
    this.#router.scope.wheel.disarm(this)
  }

  // --- deadlines ----------------------------------------------------------------------------------------------------

  #armNext(): void {
    // The request may end after the response has.
    if (this.#done) return
    const due = this.#deadlines?.next() ?? 0
    if (due > 0) this.#router.scope.wheel.armAt(this, due)
  }

  override onDue(nowMs: number): void {
    if (this.#done) return
    const expired = this.#deadlines?.expired(nowMs)
    if (expired === undefined) {
      this.#armNext()
      return
    }
    if (expired === 'request') {
      this.#cluster.counters.timeout.v++
      if (this.#host !== undefined) this.#host.rqTimeout++
    }
    const stream = this.#stream
    this.#fail(expired === 'request' ? FAILURES.upstreamTimeout : FAILURES.upstreamMaxDuration)
    stream?.cancel()
  }
}

/** One field, as Envoy keeps it: `first, second`. */
function appendForwardedHost(request: Headers, authority: string): void {
  const before = request.join('x-forwarded-host')
  request.put('x-forwarded-host', before === undefined ? authority : `${before},${authority}`)
}

function isIdempotent(method: string): boolean {
  return (
    method === 'GET' ||
    method === 'HEAD' ||
    method === 'OPTIONS' ||
    method === 'TRACE' ||
    method === 'PUT' ||
    method === 'DELETE'
  )
}

/** Visible ASCII and nothing else: what a request line and a Host may hold. */
function isVisible(text: string): boolean {
  return /^[\x21-\x7e]*$/.test(text)
}

const NO_CONTEXT = Object.freeze({})
const EMPTY: Buffer = Buffer.alloc(0)
