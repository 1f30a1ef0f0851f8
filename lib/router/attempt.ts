import type { TerminalExchange, TerminalStream } from '../chain/filter.ts'
import type { Cluster, UpstreamInfo } from '../core/attempt.ts'
import { FAILURES, type Failure } from '../core/failure.ts'
import type { Headers } from '../core/headers.ts'
import type { TimerWheel } from '../core/timer-wheel.ts'
import { statusOf, takeControlHeaders } from './control-headers.ts'
import { type DeadlineOwner, Deadlines, requestTimeoutMs } from './deadlines.ts'
import { redirectOf } from './internal-redirect.ts'
import { RequestPick } from './pick.ts'
import { prepareRequest, rewriteAuthority, tellAttempt } from './prepare.ts'
import { mayRepeat } from './repeat.ts'
import { Replay } from './replay.ts'
import type { ClusterTurns } from './retry/cluster-turns.ts'
import { expectedMs, ONE_TRY, planTries, type TryPlan } from './retry/plan.ts'
import { Retries } from './retry/retries.ts'
import type { CompiledRoute, ForwardAction } from './route.ts'
import type { RouterParts } from './router.ts'
import { type Shadow, startShadows } from './shadow.ts'
import { Try, type TryOwner } from './try.ts'

/** What one forwarding begins with. */
export interface ForwardingStart {
  readonly exchange: TerminalExchange
  readonly route: CompiledRoute<unknown>
  readonly action: ForwardAction
  readonly cluster: Cluster
  readonly router: RouterParts
}

/**
 * One exchange on its way through a cluster: prepares the request, opens a try, and more of them where nothing of it can
 * have been processed or its retries say so, keeps the deadlines, and hands the response back.
 */
export class Forwarding extends RequestPick implements TerminalStream, TryOwner, DeadlineOwner {
  readonly #start: ForwardingStart
  readonly #exchange: TerminalExchange
  readonly #route: CompiledRoute<unknown>
  readonly #action: ForwardAction
  #cluster: Cluster
  readonly #router: RouterParts
  readonly wheel: TimerWheel
  /** The latest one; undefined: none has been begun. */
  #try: Try | undefined = undefined
  #plan: TryPlan = ONE_TRY
  /** Undefined: nothing asks for any. */
  #retries: Retries | undefined = undefined
  /** Timeouts are answered with 204. */
  #emptyTimeouts = false
  #deadlines: Deadlines | undefined = undefined
  #shadows: readonly Shadow[] | undefined = undefined
  /** Of a request with a body, until its response begins. */
  #replay: Replay | undefined = undefined
  #startedMs = 0
  /** The authority as it was before it was rewritten; undefined: it has not been. */
  #authority: string | undefined = undefined
  #bodyless = false
  #responding = false
  /** Directions of a granted tunnel that have not ended; 0: there is no tunnel. */
  #halves = 0
  #done = false
  #status = 0

  constructor(start: ForwardingStart) {
    super(start)
    this.#start = start
    this.#exchange = start.exchange
    this.#route = start.route
    this.#action = start.action
    this.#cluster = start.cluster
    this.#router = start.router
    this.wheel = start.router.scope.wheel
  }

  /** Opens the first attempt. Undefined where the exchange has been answered within. */
  begin(end: boolean): TerminalStream | undefined {
    const exchange = this.#exchange
    this.#bodyless = end
    const action = this.#action
    const asked = takeControlHeaders(exchange.request)
    const timeoutMs = requestTimeoutMs(exchange, action, this.#router.config.respectExpectedTimeout)
    const policy = this.#router.policies.retryOf(this.#cluster) ?? action.retry
    const plan = planTries({ policy, asked, hedge: action.hedge, timeoutMs }, exchange)
    this.#plan = plan
    this.#authority = prepareRequest(this.#start, expectedMs(plan.limits, timeoutMs))
    if (plan.retries !== undefined && this.#cluster.retries !== undefined) {
      this.#retries = new Retries(plan.retries, this.#start, () => this.#again())
    }
    this.#emptyTimeouts = asked?.emptyTimeouts === true
    const keeps = this.#retries !== undefined || action.internalRedirect !== undefined
    if (!end) this.#replay = new Replay(keeps ? (action.bodyBufferLimitBytes ?? exchange.bufferLimit) : undefined)
    this.#startedMs = this.wheel.now()
    this.#deadlines = new Deadlines(this, timeoutMs, asked?.streamDurationMs ?? this.#cluster.maxStreamDurationMs ?? 0)
    if (end || exchange.requestComplete) this.#deadlines.requestComplete()
    if (action.mirrors.length > 0) this.#shadows = startShadows(action.mirrors, exchange, this.#router, end)
    this.#open()
    return this.#done ? undefined : this
  }

  /** Answers the try; undefined where it failed at once, and `tryReset` may have opened the next one within. */
  #open(): Try | undefined {
    const exchange = this.#exchange
    const { info } = exchange
    info.attempts++
    const host = this.#cluster.pick(this)
    if ('code' in host) {
      // Another that goes on beside it may still be answered.
      if (this.#retries?.atWork !== true) this.#fail(undefined, host)
      return undefined
    }
    info.upstreamHost = host.addressText
    info.upstreamHostName = host.hostname
    if (this.#action.autoHostRewrite) {
      this.#authority = rewriteAuthority(this.#start, this.#authority, host.hostname)
    }
    const { limits } = this.#plan
    if (info.attempts > 1) {
      if (this.#route.includeTimeoutRetry) {
        exchange.request.put('x-envoy-is-timeout-retry', String(this.#retries?.afterTimeout === true))
      }
      tellAttempt(this.#start, info.attempts, expectedMs(limits, this.#deadlines?.remaining() ?? 0))
    }
    const { priority } = this.#action
    const next = new Try({ owner: this, exchange, priority, bodyless: this.#bodyless, host, limits })
    this.#try = next
    this.#retries?.begins(next)
    if (!next.open(this.#cluster)) return undefined
    if (this.#bodyless || exchange.requestComplete) next.requestComplete()
    return next
  }

  // --- request ------------------------------------------------------------------------------------------------------

  write(chunk: Buffer, end: boolean): boolean {
    const { info } = this.#exchange
    info.upstreamBytesSent += chunk.length
    if (this.#shadows !== undefined) for (const shadow of this.#shadows) shadow.write(chunk, end)
    const replay = this.#replay
    if (replay !== undefined) {
      replay.write(chunk, end)
      if (replay.spoilt && this.#retries?.over === false && this.#bodyLost(this.#retries)) return true
    }
    if (end) {
      this.#requestDone()
      if (this.#halves > 0) this.#halfEnded()
    }
    this.#try?.moved()
    // Kept, and sent with the next try.
    if (this.#retries?.waiting === true) return false
    return this.#try?.stream?.write(chunk, end) ?? true
  }

  /** Retries are over. True: none was under way either, so that the request has been answered. */
  #bodyLost(retries: Retries): boolean {
    const waited = retries.waiting
    retries.abandon()
    if (!waited) return false
    this.#finish()
    const details = 'request_payload_exceeded_retry_buffer_limit'
    this.#exchange.reply({ status: 507, body: 'exceeded request buffer limit while retrying upstream', details })
    return true
  }

  /** Never of a second attempt: the connection of the first may still be writing what came before. */
  settled(): boolean {
    if (this.#shadows !== undefined || this.#replay?.spoilt === false || this.#exchange.info.attempts > 1) return false
    return this.#try?.stream?.settled?.() === true
  }

  trailers(trailers: Headers): void {
    if (this.#shadows !== undefined) for (const shadow of this.#shadows) shadow.write(EMPTY, true)
    this.#replay?.trailers(trailers)
    this.#requestDone()
    this.#try?.stream?.trailers(trailers)
  }

  #requestDone(): void {
    this.#exchange.info.upstreamLastSentMs = this.wheel.now()
    this.#deadlines?.requestComplete()
    this.#try?.requestComplete()
  }

  get bufferedBytes(): number {
    return (this.#replay?.bytes ?? 0) + (this.#try?.stream?.pendingBytes ?? 0)
  }

  pause(): void {
    this.#try?.stream?.pause()
  }

  resume(): void {
    this.#try?.stream?.resume()
  }

  cancel(why: Failure | undefined): void {
    if (this.#done) return
    if (why?.source === 'downstream') this.#cluster.counters.cancelled.v++
    this.#finish()
    this.#try?.cancel()
  }

  protected get retrying(): Retries | undefined {
    return this.#retries
  }

  // --- response -----------------------------------------------------------------------------------------------------

  tryConnected(_by: Try, info: UpstreamInfo): void {
    const stream = this.#exchange.info
    stream.upstreamProtocol = info.protocol
    stream.connectedTo(info)
    stream.upstreamFirstSentMs = this.#startedMs
  }

  tryInformational(_by: Try, status: number, headers: Headers): void {
    if (!this.#done) this.#exchange.upstreamInformational(status, headers)
  }

  tryHeaders(by: Try, status: number, headers: Headers, end: boolean): void {
    if (this.#done || this.#retries?.response(by, status, headers, end) === true) return
    const goOn = this.#action.internalRedirect && redirectOf(this.#start, { status, headers, replay: this.#replay })
    this.#choose(by)
    this.#replay = undefined
    this.#status = status
    if (goOn !== undefined) {
      this.#complete(this.wheel.now())
      by.cancel()
      goOn()
      return
    }
    const exchange = this.#exchange
    const now = this.wheel.now()
    exchange.info.upstreamFirstReceivedMs = now
    this.addCookies(headers)
    const elapsed = Math.trunc(now - this.#startedMs)
    if (!this.#router.config.suppressEnvoyHeaders) headers.put('x-envoy-upstream-service-time', String(elapsed))
    if (this.#route.includeAttemptCountInResponse) headers.put('x-envoy-attempt-count', String(exchange.info.attempts))
    exchange.upstreamAnswers(status, headers)
    this.#route.responseHeaderEdits?.(headers, exchange)
    if (end) this.#complete(now)
    exchange.upstreamHeaders(status, headers, end)
  }

  /** This one's response is the answer. */
  #choose(by: Try): void {
    this.#responding = true
    by.chosen()
    if (by === this.#try) return
    this.#try = by
    const { info } = this.#exchange
    this.#cluster = by.cluster ?? this.#cluster
    info.upstreamCluster = this.#cluster.name
    info.upstreamHost = by.host.addressText
    info.upstreamHostName = by.host.hostname
    if (by.connection !== undefined) this.tryConnected(by, by.connection)
  }

  tryData(_by: Try, chunk: Buffer, end: boolean): boolean {
    this.#exchange.info.upstreamBytesReceived += chunk.length
    if (this.#done) return true
    if (end && this.#halves > 0) this.#halfEnded()
    else if (end) this.#complete(this.wheel.now())
    return this.#exchange.upstreamData(chunk, end)
  }

  tryDataSettled(): boolean {
    return this.#exchange.responseSettled()
  }

  tryTrailers(_by: Try, trailers: Headers): void {
    if (this.#done) return
    this.#complete(this.wheel.now())
    this.#exchange.upstreamTrailers(trailers)
  }

  tryUpgraded(by: Try, status: number, headers: Headers): void {
    if (this.#done) return
    this.#retries?.settle(by)
    this.#choose(by)
    by.rest()
    this.#halves = 2
    this.#status = status
    this.#exchange.info.upstreamFirstReceivedMs = this.wheel.now()
    // The request has been answered; what the tunnel may take is not the route's timeout's business.
    this.#deadlines?.close()
    this.#exchange.upstreamAnswers(status, headers)
    this.#route.responseHeaderEdits?.(headers, this.#exchange)
    this.#exchange.upstreamUpgraded(status, headers)
  }

  tryDrain(by: Try): void {
    if (!this.#done && by === this.#try) this.#exchange.drained()
  }

  tryReset(by: Try, why: Failure, detail: string | undefined): void {
    if (this.#done) return
    if (this.#mayRepeat(by, why)) {
      this.#cluster.counters.retry.v++
      this.#retries?.forget(by)
      by.drop()
      this.#again()
    } else if (this.#responding || this.#retries?.reset(by, why) !== true) this.#fail(by, why, detail)
  }

  trySlow(by: Try, idle: boolean): void {
    if (this.#done) return
    const counters = this.#cluster.retries?.counters
    const slow = idle ? counters?.perTryIdleTimeout : counters?.perTryTimeout
    if (slow !== undefined) slow.v++
    by.host.rqTimeout++
    const why = idle ? FAILURES.tryIdle : FAILURES.tryTimeout
    if (!this.#responding) {
      by.tooSlow(why)
      if (this.#retries?.slow(by, !idle && this.#plan.limits.hedge) === true) return
    }
    this.#fail(by, why)
    by.cancel()
  }

  #again(): void {
    if (this.#done) return
    const turns = this.#retries?.turns
    const next = turns === undefined || this.#goOn(turns) ? this.#open() : undefined
    if (next !== undefined) this.#sendAgain(next)
  }

  /** False where that cluster is not there; the request has been answered then, unless another try is at work. */
  #goOn(turns: ClusterTurns): boolean {
    const cluster = turns.enter()
    if (cluster !== undefined) {
      this.#cluster = cluster
      this.goesTo(cluster, turns.route.action as ForwardAction)
    } else if (this.#retries?.atWork !== true) this.#fail(undefined, FAILURES.noHealthyHost)
    return cluster !== undefined
  }

  #mayRepeat(by: Try, why: Failure): boolean {
    if (this.#responding) return false
    // A policy that speaks of refused streams says how often, when and where to.
    if (why === FAILURES.upstreamRefused && this.#retries?.covers(why, by.begun) === true) return false
    const { info, head } = this.#exchange
    const whole = this.#replay?.spoilt !== true
    return mayRepeat(by, why, { method: head.method, attempts: info.attempts, bodyless: this.#bodyless, whole })
  }

  /** `by`: whose end it is; undefined: there was no host to try. */
  #fail(by: Try | undefined, why: Failure, detail?: string): void {
    if (by?.dropped === false) by.host.rqError++
    const status = statusOf(why, this.#emptyTimeouts)
    if (!this.#responding) this.#completed(status, this.wheel.now())
    this.#finish()
    this.#exchange.upstreamFailed(why, detail, status)
  }

  /** The attempt before may have asked the client to wait, and drains no more. */
  #sendAgain(next: Try): void {
    const { stream } = next
    const more = stream === undefined || (this.#replay?.sendTo(stream) ?? true)
    if (more) this.tryDrain(next)
  }

  /** Until both have ended the attempt is under way: it drains, may be reset and cancelled. */
  #halfEnded(): void {
    if (--this.#halves === 0) this.#complete(this.wheel.now())
  }

  #complete(now: number): void {
    this.#exchange.info.upstreamLastReceivedMs = now
    if (this.#try !== undefined) {
      if (this.#status >= 500) this.#try.host.rqError++
      else this.#try.host.rqSuccess++
    }
    this.#completed(this.#status, now)
    this.#finish()
  }

  #completed(status: number, now: number): void {
    this.#cluster.completed(status, now - this.#startedMs, this.#exchange.info.internal)
  }

  #finish(): void {
    this.#done = true
    this.#deadlines?.close()
    if (this.#plan !== ONE_TRY) this.#try?.rest()
    this.#retries?.settle(this.#try)
  }

  deadlinePassed(which: 'request' | 'stream'): void {
    if (this.#done) return
    const slow = this.#try
    if (which === 'request') {
      this.#cluster.counters.timeout.v++
      if (slow !== undefined && !slow.dropped) slow.host.rqTimeout++
      if (!this.#responding) slow?.tooSlow(FAILURES.upstreamTimeout)
    }
    this.#fail(slow, which === 'request' ? FAILURES.upstreamTimeout : FAILURES.upstreamMaxDuration)
    slow?.cancel()
  }
}

const EMPTY: Buffer = Buffer.alloc(0)
