import type { Sink } from '../core/body.ts'
import type { ConnectionInfo } from '../core/connection.ts'
import { FAILURES, type Failure, flagBit } from '../core/failure.ts'
import type { RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import type { StreamInfo } from '../core/stream-info.ts'
import { type Due, type HasTimer, Timer } from '../core/timer-wheel.ts'
import type { ChainPlan, Hook } from './compile.ts'
import { type Downstream, type ExchangeOwner, type ExchangeStart, Phase } from './contract.ts'
import type { FilterState, LocalReply, Metadata, Replied, Route, TerminalExchange, TerminalStream } from './filter.ts'
import { createStates } from './filter-states.ts'
import { gather, glance } from './lane.ts'
import { failureReply, renderReply } from './local-reply.ts'
import { type Extras, FilterStateStore, MetadataStore, signalOf } from './metadata.ts'
import { REPLIED } from './reply.ts'
import { RequestPath } from './request-path.ts'
import { NO_HEADERS, ResponsePath } from './response-path.ts'
import { Tunnel } from './tunnel.ts'

/**
 * One request and its response on their way through a chain: what filters see, the phase it is in, and its one ending.
 * The two directions are `RequestPath` and `ResponsePath`; they and this class are the only places that call filters,
 * and `crashed` is where all that filters throw arrives.
 *
 * ```
 * REQUEST ─▶ FORWARDED ─▶ RESPONDING ─▶ HEADERS_SENT ─▶ ENDED
 *    └────────── reply() ─────▲                           ▲
 *    └──────────── reset, client gone ────────────────────┘
 * ```
 */
export class Exchange implements TerminalExchange, Due, HasTimer {
  readonly timer: Timer = new Timer(this)
  readonly owner: ExchangeOwner
  readonly downstream: Downstream
  readonly connection: ConnectionInfo
  readonly head: RequestHead
  readonly request: Headers
  readonly info: StreamInfo
  readonly bufferLimit: number
  phase: Phase = Phase.REQUEST
  response: Headers = NO_HEADERS
  status = 0
  route: Route | undefined = undefined
  plan!: ChainPlan
  responseTrailers: Headers | undefined = undefined
  localReplyBody: string | undefined = undefined
  requestComplete = false
  /** Deadlines kept by the owner, absolute monotonic ms (`idleLimitMs` relative to the last activity); 0: none. */
  idleLimitMs = 0
  lastActivityMs = 0
  maxDurationAtMs = 0
  requestDeadlineAtMs = 0
  /** What `random` answers; below 0: it has not been asked for. */
  drawn = -1
  readonly #drawRandom: () => number
  readonly #requestPath: RequestPath
  readonly #responsePath: ResponsePath
  #states: unknown[] | undefined = undefined
  #upstreamEnded = false
  #extras: Extras | undefined = undefined

  constructor(start: ExchangeStart) {
    this.owner = start.owner
    this.downstream = start.downstream
    this.connection = start.connection
    this.head = start.head
    this.request = start.headers
    this.info = start.info
    this.bufferLimit = start.bufferLimit
    this.#drawRandom = start.random
    this.#requestPath = new RequestPath(this)
    this.#responsePath = new ResponsePath(this)
  }

  // --- what filters see ---------------------------------------------------------------------------------------------

  get random(): number {
    if (this.drawn < 0) this.drawn = this.#drawRandom()
    return this.drawn
  }

  get metadata(): Metadata {
    const extras = this.#more()
    extras.metadata ??= new MetadataStore(this.connection.state)
    return extras.metadata
  }

  get filterState(): FilterState {
    const extras = this.#more()
    extras.filterState ??= new FilterStateStore(this.connection.state)
    return extras.filterState
  }

  get signal(): AbortSignal {
    return signalOf(this.#more(), this.ended)
  }

  get hostOnDemand(): TerminalExchange['hostOnDemand'] {
    return this.owner.hostOnDemand?.(this)
  }

  get restart(): TerminalExchange['restart'] {
    return this.owner.restart?.(this)
  }

  #more(): Extras {
    this.#extras ??= { metadata: undefined, filterState: undefined, abort: undefined }
    return this.#extras
  }

  get ended(): boolean {
    return this.phase === Phase.ENDED
  }

  /** True once response headers have gone downstream. */
  get headersSent(): boolean {
    return this.phase >= Phase.HEADERS_SENT
  }

  refreshRoute(): void {
    if (this.phase !== Phase.REQUEST) return
    const { route, plan } = this.owner.route(this)
    this.#requestPath.reroute(route, plan)
  }

  reply(reply: LocalReply): Replied {
    if (this.ended) return REPLIED
    if (reply.flag !== undefined) this.info.flags |= flagBit(reply.flag)
    this.info.details = reply.details
    if (this.headersSent) {
      // Too late for an answer: the client has headers already. Break the response off.
      this.abort(FAILURES.filterError)
      return REPLIED
    }
    const within = this.#responsePath.running
    this.#requestPath.abandon()
    const rendered = renderReply(this.owner.mapReply(this, reply), this.request, this.info.plainReplies)
    this.localReplyBody = rendered.text
    const end = rendered.body.length === 0 || this.head.method === 'HEAD'
    this.#responsePath.fromUpstream = false
    if (within || this.phase === Phase.RESPONDING) {
      this.#responsePath.replace(rendered, end)
      return REPLIED
    }
    this.#responsePath.begin(rendered.status, rendered.headers, end)
    if (!end && !this.ended) this.#responsePath.data(rendered.body, true)
    return REPLIED
  }

  respond(status: number, headers: Headers, onDrain?: () => void): Sink {
    if (this.phase < Phase.RESPONDING) {
      this.#requestPath.abandon()
      this.info.details ||= 'filter_response'
      this.#responsePath.begin(status, headers.check(), false)
    } else if (!this.ended) throw new Error('respond() is too late: a response has begun')
    return this.#responsePath.sink(onDrain)
  }

  async collectRequest(limit: number): Promise<Buffer | Failure> {
    const body = await gather(this.#requestPath, limit, false)
    if (body !== undefined) return body
    if (this.phase !== Phase.REQUEST) return FAILURES.clientClosed
    this.reply({ status: 413, body: 'Payload Too Large', details: 'request_payload_too_large' })
    return FAILURES.payloadTooLarge
  }

  async collectResponse(limit: number): Promise<Buffer | Failure> {
    const body = await gather(this.#responsePath, limit, false)
    if (body !== undefined) return body
    if (this.phase !== Phase.RESPONDING) return FAILURES.clientClosed
    this.reply({ status: 500, body: 'Internal Server Error', details: 'response_payload_too_large' })
    return FAILURES.responseTooLarge
  }

  peekRequest(limit: number): Promise<Buffer> {
    return glance(this.#requestPath, limit)
  }

  peekResponse(limit: number): Promise<Buffer> {
    return glance(this.#responsePath, limit)
  }

  writeRequest(chunk: Buffer): boolean {
    return this.#requestPath.emit(chunk)
  }

  writeResponse(chunk: Buffer): boolean {
    return this.#responsePath.lane().inject(chunk)
  }

  setRequestTrailers(trailers: Headers): void {
    this.#requestPath.lane().extraTrailers = trailers
  }

  setResponseTrailers(trailers: Headers): void {
    this.#responsePath.lane().extraTrailers = trailers
  }

  // --- what the codec calls -----------------------------------------------------------------------------------------

  /** The head is complete and its route is known: begin. `end`: the request has no body. */
  start(route: Route | undefined, plan: ChainPlan, end: boolean): void {
    this.route = route
    this.plan = plan
    this.requestComplete = end
    if (plan.states.length > 0) createStates(this, plan, (this.#states = new Array(plan.filters.length)))
    if (this.phase === Phase.REQUEST) this.#requestPath.run(0)
  }

  /** The per-request state of a hook's filter. */
  stateOf(hook: Hook): unknown {
    return this.#states === undefined ? undefined : this.#states[hook.index]
  }

  /** A piece of the request's body. */
  requestData(chunk: Buffer, end: boolean): void {
    this.info.bytesReceived += chunk.length
    this.lastActivityMs = this.owner.wheel.nowMs
    if (end) this.requestComplete = true
    if (this.ended) return
    const { tunnel } = this.#responsePath
    if (tunnel === undefined) this.#requestPath.data(chunk, end)
    else this.#requestPath.deliver(chunk, end)
    if (end) tunnel?.clientEnds()
  }

  /** As `UpstreamStream.settled`, of what `requestData` was given. */
  requestSettled(): boolean {
    return this.#requestPath.settled()
  }

  get bufferedBytes(): number {
    return this.#requestPath.bufferedBytes + this.#responsePath.bufferedBytes
  }

  requestTrailers(trailers: Headers): void {
    this.requestComplete = true
    if (!this.ended) this.#requestPath.trailers(trailers)
  }

  /** The client's socket drained. */
  downstreamDrained(): void {
    if (!this.ended) this.#responsePath.drained()
  }

  /** The client went away (or broke the protocol) before its response was complete. */
  downstreamFailed(why: Failure): void {
    if (this.ended) return
    if (why.flag !== '') this.info.flags |= flagBit(why.flag)
    // Whatever was noted of a response so far, this is what became of it.
    this.info.details = why.reason
    this.#end(why)
  }

  /** Both directions of the tunnel are done. */
  tunnelEnded(): void {
    this.#upstreamEnded = true
    this.finish()
  }

  // --- what the terminal calls --------------------------------------------------------------------------------------

  get terminal(): TerminalStream | undefined {
    return this.#requestPath.terminal
  }

  drained(): void {
    if (!this.ended) this.#requestPath.drained()
  }

  upstreamInformational(status: number, headers: Headers): void {
    if (this.phase !== Phase.FORWARDED) return
    for (const hook of this.plan.informational) {
      try {
        hook.filter.onInformational!(this, status, headers, this.stateOf(hook))
      } catch (error) {
        this.crashed(hook, error)
      }
      if (this.phase !== Phase.FORWARDED) return
    }
    this.downstream.writeInformational(status, headers)
  }

  upstreamAnswers(status: number, headers: Headers): void {
    if (this.phase !== Phase.FORWARDED) return
    this.status = status
    this.response = headers
    this.info.details = 'via_upstream'
  }

  upstreamHeaders(status: number, headers: Headers, end: boolean): void {
    if (this.phase !== Phase.FORWARDED) return
    this.lastActivityMs = this.owner.wheel.nowMs
    if (end) this.#upstreamEnded = true
    this.#responsePath.fromUpstream = true
    this.#responsePath.begin(status, headers, end)
  }

  upstreamData(chunk: Buffer, end: boolean): boolean {
    const { tunnel } = this.#responsePath
    if (tunnel !== undefined) return this.ended || tunnel.toClient(chunk, end)
    if (end) this.#upstreamEnded = true
    if (this.ended || !this.#responsePath.fromUpstream) return true
    return this.#responsePath.data(chunk, end)
  }

  responseSettled(): boolean {
    return this.#responsePath.settled()
  }

  upstreamTrailers(trailers: Headers): void {
    this.#upstreamEnded = true
    if (!this.ended && this.#responsePath.fromUpstream) this.#responsePath.trailers(trailers)
  }

  upstreamFailed(why: Failure, detail?: string, status: number = why.status): void {
    if (this.ended) return
    if (why.flag !== '') this.info.flags |= flagBit(why.flag)
    if (detail !== undefined) this.info.upstreamTransportFailure = detail
    this.#requestPath.forget()
    if (this.headersSent) {
      this.info.details = `upstream_reset_after_response_started{${why.reason.replaceAll(' ', '_')}}`
      this.abort(why)
      return
    }
    this.reply(failureReply(why, detail, status))
  }

  upstreamUpgraded(status: number, headers: Headers): void {
    if (this.phase !== Phase.FORWARDED) return
    this.#responsePath.fromUpstream = true
    this.#responsePath.tunnel = new Tunnel(this)
    this.#responsePath.begin(status, headers, false)
  }

  // --- endings ------------------------------------------------------------------------------------------------------

  /** Breaks the response off: the client must see that it is not complete. */
  abort(why: Failure): void {
    if (this.ended) return
    this.#end(why)
    this.downstream.reset(why)
  }

  /** As `abort`, for a deadline: sets the flag and the details too. */
  abortFor(why: Failure): void {
    if (why.flag !== '') this.info.flags |= flagBit(why.flag)
    this.info.details = why.reason
    this.abort(why)
  }

  /** The response is complete. */
  finish(): void {
    if (this.ended) return
    if (this.info.details === '') this.info.details = 'via_upstream'
    this.info.responseComplete = true
    this.#end(undefined)
  }

  /** The one ending, reached from every exit. */
  #end(why: Failure | undefined): void {
    this.#responsePath.close()
    this.phase = Phase.ENDED
    const terminal = this.#requestPath.close()
    // A complete response ends its attempt by itself; anything else is cancelled.
    if (terminal !== undefined && (why !== undefined || !this.#upstreamEnded)) terminal.cancel(why)
    if (why !== undefined) this.#extras?.abort?.abort()
    if (this.plan !== undefined) {
      for (const hook of this.plan.ends) {
        try {
          hook.filter.onEnd!(this, this.stateOf(hook))
        } catch (error) {
          this.owner.onFilterError(this, this.plan.names[hook.index], error)
        }
      }
    }
    this.owner.onEnd(this)
  }

  /**
   * The one rescue point: what a filter threw becomes 500 or a broken-off response. `by`: its hook, or the name of what
   * threw where that was none.
   */
  crashed(by: Hook | string, error: unknown, late = false): void {
    // Whoever gave up because `signal` said so has done no wrong.
    if (this.ended && error instanceof Error && error.name === 'AbortError') return
    this.owner.onFilterError(this, typeof by === 'string' ? by : this.plan.names[by.index], error)
    if (this.ended || late) return
    this.reply({ status: 500, body: 'Internal Server Error', details: 'filter_error' })
  }

  onDue(nowMs: number): void {
    this.owner.onDue(this, nowMs)
  }

  /** Its owner arms it again where nothing is due. */
  reconsider(nowMs: number): void {
    this.owner.onDue(this, nowMs)
  }
}
