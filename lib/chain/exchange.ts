import type { Socket } from 'node:net'
import type { Sink } from '../core/body.ts'
import type { ConnectionInfo } from '../core/connection.ts'
import type { Json } from '../core/errors.ts'
import { FAILURES, type Failure, flagBit } from '../core/failure.ts'
import type { RequestHead } from '../core/head.ts'
import { Headers } from '../core/headers.ts'
import type { StreamInfo } from '../core/stream-info.ts'
import { Timed, type TimerWheel } from '../core/timer-wheel.ts'
import { type ChainPlan, type Hook, spliceChain } from './compile.ts'
import type {
  FilterState,
  HttpFilter,
  LocalReply,
  Metadata,
  Next,
  NextChunk,
  Replied,
  Route,
  TerminalExchange,
  TerminalStream,
} from './filter.ts'
import { Lane, type LaneOwner } from './lane.ts'
import { encodeGrpcMessage, grpcStatusOf, isGrpc, REPLIED } from './reply.ts'

/** The codec's side of one exchange: where the response goes and what the request can be slowed by. */
export interface Downstream {
  writeInformational(status: number, headers: Headers): void
  writeHeaders(status: number, headers: Headers, end: boolean): void
  /** False: stop until `Exchange.downstreamDrained`. */
  write(chunk: Buffer, end: boolean): boolean
  writeTrailers(trailers: Headers): void
  /** Ends the exchange so that the client can tell it from a clean end. */
  reset(why: Failure): void
  pauseRequest(): void
  resumeRequest(): void
  /** From now on raw bytes both ways (101, CONNECT). */
  upgrade(status: number, headers: Headers, upstream: Socket, early: Buffer): void
}

/** What the connection manager does around the chain. */
export interface ExchangeOwner {
  /** Its `nowMs` is the time of an exchange's last activity. */
  readonly wheel: TimerWheel
  /** Finds the route and its plan again (refreshRoute). */
  route(exchange: Exchange): { route: Route | undefined; plan: ChainPlan }
  /** Last touch on response headers, after all hooks: server, via, date, request id, hop-by-hop. */
  finishResponse(exchange: Exchange, fromUpstream: boolean): void
  /** Local reply configuration may change status, body and headers. */
  mapReply(exchange: Exchange, reply: LocalReply): LocalReply
  /** Exactly once, after all `onEnd` hooks. */
  onEnd(exchange: Exchange): void
  /** A hook threw: log it with the filter's name. */
  onFilterError(exchange: Exchange, filter: string, error: unknown): void
  /** The exchange's deadline passed. */
  onDue(exchange: Exchange, nowMs: number): void
}

/** Where an exchange stands; each state is entered once, left to right. */
const REQUEST = 0
const FORWARDED = 1
const RESPONDING = 2
const HEADERS_SENT = 3
const ENDED = 4

interface Tunnel {
  readonly upstream: Socket
  readonly early: Buffer
}

interface Extras {
  metadata: MetadataStore | undefined
  filterState: Map<string, unknown> | undefined
  abort: AbortController | undefined
}

export interface ExchangeStart {
  readonly owner: ExchangeOwner
  readonly downstream: Downstream
  readonly connection: ConnectionInfo
  readonly head: RequestHead
  readonly headers: Headers
  readonly info: StreamInfo
  readonly bufferLimit: number
  readonly random: () => number
}

/**
 * One request and its response on their way through a chain: drives hooks, pauses on promises, keeps both bodies in
 * order and under back-pressure, and ends exactly once.
 *
 * ```
 * REQUEST ─▶ FORWARDED ─▶ RESPONDING ─▶ HEADERS_SENT ─▶ ENDED
 *    └────────── reply() ─────▲                           ▲
 *    └──────────── reset, client gone ────────────────────┘
 * ```
 * This is the only place that catches what filters throw.
 */
export class Exchange extends Timed implements TerminalExchange {
  readonly owner: ExchangeOwner
  readonly downstream: Downstream
  readonly connection: ConnectionInfo
  readonly head: RequestHead
  readonly request: Headers
  response: Headers = NO_HEADERS
  status = 0
  readonly info: StreamInfo
  route: Route | undefined = undefined
  plan!: ChainPlan
  responseTrailers: Headers | undefined = undefined
  localReplyBody: string | undefined = undefined
  /** True once the whole request has arrived. */
  requestComplete = false
  /** Absolute monotonic deadlines kept by the owner; 0: none. */
  idleLimitMs = 0
  lastActivityMs = 0
  maxDurationAtMs = 0
  requestDeadlineAtMs = 0
  readonly #bufferLimit: number
  readonly #drawRandom: () => number
  #random = -1
  #state = REQUEST
  #terminal: TerminalStream | undefined = undefined
  #states: unknown[] | undefined = undefined
  #requestLane: Lane | undefined = undefined
  #responseLane: Lane | undefined = undefined
  #requestOpen = false
  #responseOpen = false
  #upstreamBlocked = false
  /** Index of the request filter whose header hook ran last. */
  #at = -1
  #responseRunning = false
  #responseEnd = false
  #upstreamEnded = false
  #fromUpstream = false
  #extras: Extras | undefined = undefined

  constructor(start: ExchangeStart) {
    super()
    this.owner = start.owner
    this.downstream = start.downstream
    this.connection = start.connection
    this.head = start.head
    this.request = start.headers
    this.info = start.info
    this.#bufferLimit = start.bufferLimit
    this.#drawRandom = start.random
  }

  // --- what filters see -------------------------------------------------------------------------------------------

  get random(): number {
    if (this.#random < 0) this.#random = this.#drawRandom()
    return this.#random
  }

  get metadata(): Metadata {
    const extras = this.#more()
    extras.metadata ??= new MetadataStore()
    return extras.metadata
  }

  get filterState(): FilterState {
    const extras = this.#more()
    extras.filterState ??= new Map()
    return extras.filterState
  }

  get signal(): AbortSignal {
    const extras = this.#more()
    if (extras.abort === undefined) {
      extras.abort = new AbortController()
      if (this.#state === ENDED) extras.abort.abort()
    }
    return extras.abort.signal
  }

  /** True after the exchange has ended, however it did. */
  get ended(): boolean {
    return this.#state === ENDED
  }

  /** True once response headers have gone downstream. */
  get headersSent(): boolean {
    return this.#state >= HEADERS_SENT
  }

  /** True while nothing of a response has come and the request has been handed to the terminal. */
  get waiting(): boolean {
    return this.#state === FORWARDED
  }

  #more(): Extras {
    this.#extras ??= { metadata: undefined, filterState: undefined, abort: undefined }
    return this.#extras
  }

  refreshRoute(): void {
    if (this.#state !== REQUEST) return
    const { route, plan } = this.owner.route(this)
    this.route = route
    const next = spliceChain(this.plan, plan, this.#at)
    if (next === this.plan) return
    this.plan = next
    this.#requestLane?.replaceHooks({ data: next.requestData, trailers: next.requestTrailers })
  }

  reply(reply: LocalReply): Replied {
    if (this.#state === ENDED) return REPLIED
    if (reply.flag !== undefined) this.info.flags |= flagBit(reply.flag)
    if (this.#state === HEADERS_SENT) {
      // Too late for an answer: the client has headers already. Break the response off.
      this.info.details = reply.details
      this.abort(FAILURES.filterError)
      return REPLIED
    }
    this.info.details = reply.details
    const direct = this.#responseRunning
    this.#abandonRequest()
    this.#sendLocal(this.owner.mapReply(this, reply), direct)
    return REPLIED
  }

  respond(status: number, headers: Headers): Sink {
    this.#abandonRequest()
    this.info.details ||= 'filter_response'
    this.#beginResponse(status, headers, false)
    return {
      write: (chunk) => this.#responseChunk(chunk, false),
      end: (trailers) => {
        if (trailers === undefined) this.#responseChunk(NO_BYTES, true)
        else this.#responseTrailersIn(trailers)
      },
      reset: (why) => this.abort(why),
    }
  }

  async collectRequest(limit: number): Promise<Buffer | Failure> {
    const body = await this.#gather('request', limit, false)
    if (body !== undefined) return body
    if (this.#state === REQUEST) {
      this.reply({ status: 413, body: 'Payload Too Large', details: 'request_payload_too_large' })
      return FAILURES.payloadTooLarge
    }
    return FAILURES.clientClosed
  }

  async collectResponse(limit: number): Promise<Buffer | Failure> {
    const body = await this.#gather('response', limit, false)
    if (body !== undefined) return body
    if (this.#state === RESPONDING) {
      this.reply({ status: 500, body: 'Internal Server Error', details: 'response_payload_too_large' })
      return FAILURES.responseTooLarge
    }
    return FAILURES.clientClosed
  }

  async peekRequest(limit: number): Promise<Buffer> {
    return (await this.#gather('request', limit, true)) ?? NO_BYTES
  }

  async peekResponse(limit: number): Promise<Buffer> {
    return (await this.#gather('response', limit, true)) ?? NO_BYTES
  }

  #gather(direction: 'request' | 'response', limit: number, peek: boolean): Promise<Buffer | undefined> {
    const request = direction === 'request'
    if (request ? this.requestComplete && (this.#requestLane?.idle ?? true) : this.#responseEnd) {
      return Promise.resolve(NO_BYTES)
    }
    const lane = request ? this.#lane() : this.#backLane()
    return new Promise((resolve) => lane.collect(limit, peek, resolve))
  }

  writeRequest(chunk: Buffer): boolean {
    return this.#lane().inject(chunk)
  }

  writeResponse(chunk: Buffer): boolean {
    return this.#backLane().inject(chunk)
  }

  setRequestTrailers(trailers: Headers): void {
    this.#lane().extraTrailers = trailers
  }

  setResponseTrailers(trailers: Headers): void {
    this.#backLane().extraTrailers = trailers
  }

  // --- request direction ------------------------------------------------------------------------------------------

  /** The head is complete and its route is known: begin. `end`: the request has no body. */
  start(route: Route | undefined, plan: ChainPlan, end: boolean): void {
    this.route = route
    this.plan = plan
    this.requestComplete = end
    if (plan.states.length > 0) this.#createStates(plan)
    if (this.#state === REQUEST) this.#requestHeaders(0)
  }

  #createStates(plan: ChainPlan): void {
    this.#states = new Array(plan.filters.length)
    for (const hook of plan.states) {
      try {
        this.#states[hook.index] = hook.filter.createState?.(this)
      } catch (error) {
        this.#crashed(hook, error)
        return
      }
    }
  }

  #requestHeaders(from: number): void {
    let plan = this.plan
    let hooks = plan.requestHeaders
    for (let i = from; i < hooks.length; i++) {
      const hook = hooks[i]
      this.#at = hook.index
      this.#requestLane?.hold(hook.at)
      let result: Next
      try {
        result = hook.filter.onRequestHeaders!(this, this.requestComplete, this.#states?.[hook.index])
      } catch (error) {
        this.#crashed(hook, error)
        return
      }
      if (this.#state !== REQUEST || result === REPLIED) return
      if (result !== undefined) {
        // The lane must exist from here on: data that comes meanwhile waits in front of this filter.
        this.#lane().hold(hook.at)
        ;(result as PromiseLike<void | undefined | Replied>).then(
          (settled) => {
            if (this.#state === REQUEST && settled !== REPLIED) this.#requestHeaders(after(this.plan, hook))
          },
          (error: unknown) => this.#crashed(hook, error),
        )
        return
      }
      if (plan !== this.plan) {
        plan = this.plan
        hooks = plan.requestHeaders
        i = after(plan, hook) - 1
      }
    }
    this.#forward()
  }

  #forward(): void {
    this.#state = FORWARDED
    const lane = this.#requestLane
    const end = this.requestComplete && (lane === undefined || lane.idle)
    let stream: TerminalStream | undefined
    try {
      stream = this.plan.terminal.begin(this, end)
    } catch (error) {
      this.#crashed(undefined, error)
      return
    }
    if (this.#state === ENDED || stream === undefined) return
    this.#terminal = stream
    this.#requestOpen = true
    lane?.open()
  }

  /** A piece of the request's body from the codec. */
  requestData(chunk: Buffer, end: boolean): void {
    this.info.bytesReceived += chunk.length
    this.lastActivityMs = this.owner.wheel.nowMs
    if (end) this.requestComplete = true
    if (this.#state === ENDED || this.#abandoned) return
    if (this.#requestOpen && this.#requestLane === undefined && this.plan.requestData.length === 0) {
      this.#sendUp(chunk, end)
      return
    }
    this.#lane().push(chunk, end)
  }

  requestTrailers(trailers: Headers): void {
    this.requestComplete = true
    if (this.#state === ENDED || this.#abandoned) return
    if (this.#requestOpen && this.#requestLane === undefined && this.plan.requestTrailers.length === 0) {
      this.#terminal?.trailers(trailers)
      return
    }
    this.#lane().pushTrailers(trailers)
  }

  #abandoned = false

  #sendUp(chunk: Buffer, end: boolean): boolean {
    const more = this.#terminal?.write(chunk, end) ?? true
    if (!more && !this.#upstreamBlocked) {
      this.#upstreamBlocked = true
      this.downstream.pauseRequest()
    }
    return more
  }

  #lane(): Lane {
    if (this.#requestLane === undefined) {
      const plan = this.plan
      this.#requestLane = new Lane(
        new RequestSide(this, {
          deliver: (chunk, end) => this.#sendUp(chunk, end),
          trailers: (trailers) => this.#terminal?.trailers(trailers),
          full: (full) => this.#requestFull(full),
        }),
        { data: plan.requestData, trailers: plan.requestTrailers },
        this.#bufferLimit,
      )
      if (this.#requestOpen) this.#requestLane.open()
      else if (this.#at >= 0) this.#requestLane.hold(this.#at)
    }
    return this.#requestLane
  }

  #laneFull = false

  #requestFull(full: boolean): void {
    this.#laneFull = full
    if (full) this.downstream.pauseRequest()
    else if (!this.#upstreamBlocked) this.downstream.resumeRequest()
  }

  /** The request sink can take more. */
  drained(): void {
    if (!this.#upstreamBlocked || this.#state === ENDED) return
    this.#upstreamBlocked = false
    this.#requestLane?.unblock()
    if (!this.#upstreamBlocked && !this.#laneFull) this.downstream.resumeRequest()
  }

  /** Request hooks and the upstream are over; whatever still arrives from the client is discarded by the codec. */
  #abandonRequest(): void {
    this.#abandoned = true
    this.#requestLane?.close()
    const terminal = this.#terminal
    this.#terminal = undefined
    terminal?.cancel(undefined)
    if (this.#upstreamBlocked || this.#laneFull) this.downstream.resumeRequest()
    this.#upstreamBlocked = this.#laneFull = false
  }

  // --- response direction -----------------------------------------------------------------------------------------

  upstreamInformational(status: number, headers: Headers): void {
    if (this.#state !== FORWARDED) return
    for (const hook of this.plan.informational) {
      try {
        hook.filter.onInformational!(this, status, headers, this.#states?.[hook.index])
      } catch (error) {
        this.#crashed(hook, error)
        return
      }
    }
    this.downstream.writeInformational(status, headers)
  }

  upstreamHeaders(status: number, headers: Headers, end: boolean): void {
    if (this.#state !== FORWARDED) return
    this.#fromUpstream = true
    this.lastActivityMs = this.owner.wheel.nowMs
    this.#beginResponse(status, headers, end)
  }

  #beginResponse(status: number, headers: Headers, end: boolean, tunnel?: Tunnel): void {
    if (this.#state >= RESPONDING) return
    this.#tunnel = tunnel
    this.#state = RESPONDING
    this.status = status
    this.response = headers
    this.#responseEnd = end
    this.#responseHeaders(0)
  }

  #responseHeaders(from: number): void {
    const hooks = this.plan.responseHeaders
    this.#responseRunning = true
    for (let i = from; i < hooks.length; i++) {
      const hook = hooks[i]
      this.#responseLane?.hold(hook.at)
      let result: Next
      this.#responseAt = hook.at
      try {
        result = hook.filter.onResponseHeaders!(this, this.#responseEnd, this.#states?.[hook.index])
      } catch (error) {
        this.#crashed(hook, error)
        return
      }
      if (this.#state !== RESPONDING || result === REPLIED) return
      if (result !== undefined) {
        this.#backLane().hold(hook.at)
        ;(result as PromiseLike<void | undefined | Replied>).then(
          (settled) => {
            if (this.#state === RESPONDING && settled !== REPLIED) this.#responseHeaders(i + 1)
          },
          (error: unknown) => this.#crashed(hook, error),
        )
        return
      }
    }
    this.#responseRunning = false
    this.#commit()
  }

  #responseAt = -1
  #tunnel: Tunnel | undefined = undefined

  /** All response header hooks have passed: the head goes downstream. */
  #commit(): void {
    this.owner.finishResponse(this, this.#fromUpstream)
    this.#state = HEADERS_SENT
    if (this.#tunnel !== undefined) {
      this.downstream.upgrade(this.status, this.response, this.#tunnel.upstream, this.#tunnel.early)
      return
    }
    const lane = this.#responseLane
    const end = this.#responseEnd && (lane === undefined || lane.idle)
    this.downstream.writeHeaders(this.status, this.response, end)
    if ((this.#state as number) === ENDED) return
    this.#responseOpen = true
    if (end) this.#finish()
    else lane?.open()
  }

  upstreamData(chunk: Buffer, end: boolean): boolean {
    if (end) this.#upstreamEnded = true
    if (this.#state === ENDED || (this.#abandoned && this.#fromUpstream === false)) return true
    return this.#responseChunk(chunk, end)
  }

  #responseChunk(chunk: Buffer, end: boolean): boolean {
    if (this.#state === ENDED) return true
    if (this.#responseOpen && this.#responseLane === undefined && this.plan.responseData.length === 0) {
      return this.#sendDown(chunk, end)
    }
    this.#backLane().push(chunk, end)
    return !this.#backFull
  }

  upstreamTrailers(trailers: Headers): void {
    this.#upstreamEnded = true
    this.#responseTrailersIn(trailers)
  }

  #responseTrailersIn(trailers: Headers): void {
    if (this.#state === ENDED) return
    this.responseTrailers = trailers
    if (this.#responseOpen && this.#responseLane === undefined && this.plan.responseTrailers.length === 0) {
      this.#trailersDown(trailers)
      return
    }
    this.#backLane().pushTrailers(trailers)
  }

  #trailersDown(trailers: Headers): void {
    this.responseTrailers = trailers
    this.downstream.writeTrailers(trailers)
    this.#finish()
  }

  #sendDown(chunk: Buffer, end: boolean): boolean {
    this.info.bytesSent += chunk.length
    this.lastActivityMs = this.owner.wheel.nowMs
    const more = this.downstream.write(chunk, end)
    if (end) {
      this.#finish()
      return true
    }
    if (!more) this.#terminal?.pause()
    return more
  }

  #backFull = false

  #backLane(): Lane {
    if (this.#responseLane === undefined) {
      const plan = this.plan
      this.#responseLane = new Lane(
        new ResponseSide(this, {
          deliver: (chunk, end) => this.#sendDown(chunk, end),
          trailers: (trailers) => this.#trailersDown(trailers),
          full: (full) => {
            this.#backFull = full
            if (full) this.#terminal?.pause()
            else this.#terminal?.resume()
          },
        }),
        { data: plan.responseData, trailers: plan.responseTrailers },
        this.#bufferLimit,
      )
      if (this.#responseOpen) this.#responseLane.open()
      else if (this.#responseAt >= 0) this.#responseLane.hold(this.#responseAt)
    }
    return this.#responseLane
  }

  /** The client's socket drained. */
  downstreamDrained(): void {
    if (this.#state === ENDED) return
    this.#responseLane?.unblock()
    if (!this.#backFull) this.#terminal?.resume()
  }

  upstreamFailed(why: Failure, detail?: string): void {
    if (this.#state === ENDED) return
    if (why.flag !== '') this.info.flags |= flagBit(why.flag)
    if (detail !== undefined) this.info.upstreamTransportFailure = detail
    this.#terminal = undefined
    if (this.#state === HEADERS_SENT) {
      this.info.details = `upstream_reset_after_response_started{${why.reason.replaceAll(' ', '_')}}`
      this.abort(why)
      return
    }
    this.reply(failureReply(why, detail))
  }

  upstreamUpgraded(status: number, headers: Headers, upstream: Socket, early: Buffer): void {
    if (this.#state !== FORWARDED) {
      upstream.destroy()
      return
    }
    this.#fromUpstream = true
    this.#beginResponse(status, headers, false, { upstream, early })
  }

  /** Both sides of an upgraded exchange are done. */
  tunnelEnded(): void {
    this.#upstreamEnded = true
    this.#finish()
  }

  #sendLocal(reply: LocalReply, direct: boolean): void {
    const body = typeof reply.body === 'string' ? Buffer.from(reply.body, 'utf8') : (reply.body ?? NO_BYTES)
    const headers = new Headers(reply.headers === undefined ? [] : [...reply.headers])
    let { status } = reply
    let payload = body
    if (isGrpc(this.request)) {
      headers.set('content-type', 'application/grpc')
      headers.set('grpc-status', String(reply.grpcStatus ?? grpcStatusOf(status)))
      if (body.length > 0) headers.set('grpc-message', encodeGrpcMessage(body.toString('utf8')))
      status = 200
      payload = NO_BYTES
    } else if (body.length > 0) {
      headers.set('content-length', String(body.length))
      if (!headers.has('content-type')) headers.append('content-type', 'text/plain')
    } else if (status !== 204 && status !== 304 && status >= 200) headers.set('content-length', '0')
    this.localReplyBody = typeof reply.body === 'string' ? reply.body : body.toString('utf8')
    const end = payload.length === 0 || this.head.method === 'HEAD'
    if (direct) {
      this.#responseLane?.close()
      this.#responseLane = undefined
      this.#responseRunning = false
      this.#state = RESPONDING
      this.status = status
      this.response = headers
      this.#responseEnd = end
      this.#fromUpstream = false
      this.#bypass = true
      this.#commit()
    } else this.#beginResponse(status, headers, end)
    if (!end && (this.#state as number) !== ENDED) {
      if (direct) this.#sendDown(payload, true)
      else this.#responseChunk(payload, true)
    }
  }

  #bypass = false

  // --- endings ----------------------------------------------------------------------------------------------------

  /** The client went away (or broke the protocol) before its response was complete. */
  downstreamFailed(why: Failure): void {
    if (this.#state === ENDED) return
    if (why.flag !== '') this.info.flags |= flagBit(why.flag)
    this.info.details ||= why.reason
    this.#end(why)
  }

  /** Breaks the response off: the client must see that it is not complete. */
  abort(why: Failure): void {
    if (this.#state === ENDED) return
    this.#end(why)
    this.downstream.reset(why)
  }

  /** As `abort`, for a deadline: sets the flag and the details too. */
  abortFor(why: Failure): void {
    if (why.flag !== '') this.info.flags |= flagBit(why.flag)
    this.info.details = why.reason
    this.abort(why)
  }

  #finish(): void {
    if (this.#state === ENDED) return
    if (this.info.details === '') this.info.details = 'via_upstream'
    this.#end(undefined)
  }

  /** The one ending, reached from every exit. */
  #end(why: Failure | undefined): void {
    this.#state = ENDED
    const terminal = this.#terminal
    this.#terminal = undefined
    this.#requestLane?.close()
    this.#responseLane?.close()
    if (this.#tunnel !== undefined && why !== undefined) this.#tunnel.upstream.destroy()
    // A complete response ends its attempt by itself; anything else is cancelled.
    if (terminal !== undefined && (why !== undefined || !this.#upstreamEnded)) terminal.cancel(why)
    if (this.#extras?.abort !== undefined && why !== undefined) this.#extras.abort.abort()
    if (this.plan !== undefined) {
      for (const hook of this.plan.ends) {
        try {
          hook.filter.onEnd!(this, this.#states?.[hook.index])
        } catch (error) {
          this.owner.onFilterError(this, this.plan.names[hook.index], error)
        }
      }
    }
    this.owner.onEnd(this)
  }

  #crashed(hook: Hook | undefined, error: unknown): void {
    this.owner.onFilterError(this, hook === undefined ? 'terminal' : this.plan.names[hook.index], error)
    if (this.#state === ENDED) return
    if (this.#state === HEADERS_SENT) {
      this.info.details = 'filter_error'
      this.abort(FAILURES.filterError)
      return
    }
    this.#responseRunning = this.#state === RESPONDING
    this.reply({ status: 500, body: 'Internal Server Error', details: 'filter_error' })
  }

  override onDue(nowMs: number): void {
    this.owner.onDue(this, nowMs)
  }

  // --- called by the lanes ----------------------------------------------------------------------------------------

  /** @internal */
  runData(hook: Hook, chunk: Buffer, end: boolean, request: boolean): NextChunk | Replied {
    if (!request && this.#bypass) return undefined
    const filter = hook.filter as HttpFilter<unknown>
    const state = this.#states?.[hook.index]
    try {
      return request ? filter.onRequestData!(this, chunk, end, state) : filter.onResponseData!(this, chunk, end, state)
    } catch (error) {
      this.#crashed(hook, error)
      return REPLIED
    }
  }

  /** @internal */
  runTrailers(hook: Hook, trailers: Headers, request: boolean): Next {
    const state = this.#states?.[hook.index]
    try {
      return request
        ? hook.filter.onRequestTrailers!(this, trailers, state)
        : hook.filter.onResponseTrailers!(this, trailers, state)
    } catch (error) {
      this.#crashed(hook, error)
      return REPLIED
    }
  }

  /** @internal */
  hookFailed(hook: Hook, error: unknown): void {
    this.#crashed(hook, error)
  }
}

interface Delivery {
  deliver(chunk: Buffer, end: boolean): boolean
  trailers(trailers: Headers): void
  full(full: boolean): void
}

/** The request direction's view of an exchange; made only where a lane is. */
class RequestSide implements LaneOwner {
  readonly #exchange: Exchange
  readonly #delivery: Delivery

  constructor(exchange: Exchange, delivery: Delivery) {
    this.#exchange = exchange
    this.#delivery = delivery
  }

  get request(): boolean {
    return true
  }

  dataHook(hook: Hook, chunk: Buffer, end: boolean): NextChunk | Replied {
    return this.#exchange.runData(hook, chunk, end, this.request)
  }

  trailersHook(hook: Hook, trailers: Headers): Next {
    return this.#exchange.runTrailers(hook, trailers, this.request)
  }

  hookFailed(hook: Hook, error: unknown): void {
    this.#exchange.hookFailed(hook, error)
  }

  deliver(chunk: Buffer, end: boolean): boolean {
    return this.#delivery.deliver(chunk, end)
  }

  deliverTrailers(trailers: Headers): void {
    this.#delivery.trailers(trailers)
  }

  full(full: boolean): void {
    this.#delivery.full(full)
  }
}

class ResponseSide extends RequestSide {
  override get request(): boolean {
    return false
  }
}

/** Place of the first request hook behind `hook` in `plan`. */
function after(plan: ChainPlan, hook: Hook): number {
  const hooks = plan.requestHeaders
  let i = 0
  while (i < hooks.length && hooks[i].at <= hook.at) i++
  return i
}

/** Envoy's words for a failed upstream. */
function failureReply(why: Failure, detail: string | undefined): LocalReply {
  switch (why.code) {
    case 'no-healthy-host':
      return { status: why.status, body: 'no healthy upstream', details: 'no_healthy_upstream' }
    case 'upstream-timeout':
      return { status: why.status, body: 'upstream request timeout', details: 'upstream_response_timeout' }
    case 'duration':
      return { status: why.status, body: 'upstream max stream duration reached', details: why.reason }
    case 'no-cluster':
      return { status: why.status, details: 'cluster_not_found' }
    default: {
      const suffix = detail === undefined ? '' : `, transport failure reason: ${detail}`
      const overloaded = why.code === 'overflow' ? { headers: ['x-envoy-overloaded', 'true'] } : {}
      return {
        status: why.status,
        body: `upstream connect error or disconnect/reset before headers. reset reason: ${why.reason}${suffix}`,
        details: `upstream_reset_before_response_started{${why.reason.replaceAll(' ', '_')}}`,
        ...overloaded,
      }
    }
  }
}

class MetadataStore implements Metadata {
  readonly #byNamespace = new Map<string, Json>()

  get(namespace: string): Json | undefined {
    return this.#byNamespace.get(namespace)
  }

  merge(namespace: string, value: Json): void {
    const old = this.#byNamespace.get(namespace)
    this.#byNamespace.set(namespace, isObject(old) && isObject(value) ? { ...old, ...value } : value)
  }
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const NO_BYTES: Buffer = Buffer.alloc(0)
/** Stands in until the response begins; never written to. */
const NO_HEADERS: Headers = Object.freeze(new Headers()) as Headers
