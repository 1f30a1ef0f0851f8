import type { TerminalExchange } from '../chain/filter.ts'
import type {
  Attempt,
  Cluster,
  RoutingPriority,
  UpstreamEvents,
  UpstreamHost,
  UpstreamInfo,
  UpstreamStream,
} from '../core/attempt.ts'
import type { ConnectionInfo } from '../core/connection.ts'
import type { Failure } from '../core/failure.ts'
import { grpcStatusIn, isGrpc } from '../core/grpc.ts'
import type { Protocol, RequestHead } from '../core/head.ts'
import type { Headers } from '../core/headers.ts'
import { type Due, Timer, type TimerWheel } from '../core/timer-wheel.ts'
import type { TryLimits } from './retry/plan.ts'

/** What a forwarding learns of its tries. Nothing comes of one that has been cancelled. */
export interface TryOwner {
  readonly wheel: TimerWheel
  tryConnected(by: Try, info: UpstreamInfo): void
  tryInformational(by: Try, status: number, headers: Headers): void
  tryHeaders(by: Try, status: number, headers: Headers, end: boolean): void
  /** As `UpstreamEvents.onData`. */
  tryData(by: Try, chunk: Buffer, end: boolean): boolean
  /** As `UpstreamEvents.dataSettled`. */
  tryDataSettled(): boolean
  tryTrailers(by: Try, trailers: Headers): void
  tryUpgraded(by: Try, status: number, headers: Headers): void
  tryDrain(by: Try): void
  tryReset(by: Try, why: Failure, detail: string | undefined): void
  /** It has been at it for too long, or nothing has moved for too long (`idle`). */
  trySlow(by: Try, idle: boolean): void
}

/** What all tries of a forwarding have in common. */
export interface TryStart {
  readonly owner: TryOwner
  readonly exchange: TerminalExchange
  readonly priority: RoutingPriority
  readonly bodyless: boolean
  readonly host: UpstreamHost
  readonly limits: TryLimits
}

/** One try of a forwarding: what is sent where, and the host's books of it. */
export class Try implements Attempt, UpstreamEvents, Due {
  readonly head: RequestHead
  readonly headers: Headers
  readonly end: boolean
  readonly priority: RoutingPriority
  readonly upgrade: boolean
  readonly downstream: ConnectionInfo
  readonly downstreamProtocol: Protocol
  readonly forwardContinue: boolean
  readonly host: UpstreamHost
  readonly startedMs: number
  /** The connection it got. */
  connection: UpstreamInfo | undefined = undefined
  /** That had served before, when it was got. */
  reused = false
  stream: UpstreamStream | undefined = undefined
  /** Where it went; undefined: nowhere yet. */
  cluster: Cluster | undefined = undefined
  /** Cancelled: nothing of it counts any more. */
  dropped = false
  readonly #owner: TryOwner
  /** Time to the head of a gRPC response whose status its trailers will tell; below 0: there is none. */
  #headMs = -1
  readonly #limits: TryLimits
  /** Absolute; 0: none. */
  #timeoutAtMs = 0
  #movedMs = 0
  /** Where it has limits of its own. */
  #timer: Timer | undefined = undefined
  /** The host's monitor has heard of it as too slow, and hears no more. */
  #judged = false

  constructor(start: TryStart) {
    const { exchange, limits } = start
    // Another may be under way at the same time, with a host and a number of its own.
    this.head = limits.hedge ? { ...exchange.head } : exchange.head
    this.headers = limits.hedge ? exchange.request.clone() : exchange.request
    this.end = start.bodyless
    this.priority = start.priority
    this.upgrade = exchange.head.protocol !== undefined || exchange.head.method === 'CONNECT'
    this.downstream = exchange.connection
    this.downstreamProtocol = exchange.info.protocol
    this.forwardContinue = exchange.request.has('expect')
    this.host = start.host
    this.startedMs = start.owner.wheel.now()
    this.#owner = start.owner
    this.#limits = limits
  }

  /** The request has begun to leave. */
  get begun(): boolean {
    return this.connection !== undefined
  }

  /** False where it failed at once: `tryReset` has told why, and another may have been opened within. */
  open(cluster: Cluster): boolean {
    this.cluster = cluster
    const stream = cluster.open(this.host, this, this)
    if (stream === undefined) return false
    this.stream = stream
    return true
  }

  /** Ends it; nothing is told of it any more. Idempotent. */
  cancel(): void {
    this.drop()
    this.stream?.cancel()
  }

  /** It is over, or of no interest any more. Idempotent. */
  drop(): void {
    this.dropped = true
    this.rest()
  }

  /** It has waited in vain, and whoever watches the host should know. */
  tooSlow(why: Failure): void {
    if (this.dropped || this.#judged) return
    this.host.monitor?.onFailure(why, this.#elapsed())
    this.#judged = true
  }

  // --- limits ---------------------------------------------------------------------------------------------------------

  /** The request is complete: its time begins. */
  requestComplete(): void {
    const { timeoutMs } = this.#limits
    if (timeoutMs === 0 || this.dropped) return
    this.#timeoutAtMs = this.#owner.wheel.now() + timeoutMs
    this.#arm()
  }

  /** Its response is the one: it may take its time, but not be idle. */
  chosen(): void {
    this.#timeoutAtMs = 0
  }

  /** No limit holds any more. */
  rest(): void {
    this.#timeoutAtMs = 0
    this.#movedMs = 0
    if (this.#timer !== undefined) this.#owner.wheel.disarm(this.#timer)
  }

  /** Something of it was sent or has come. */
  moved(): void {
    if (this.#limits.idleMs > 0 && this.#movedMs > 0) this.#movedMs = this.#owner.wheel.now()
  }

  #arm(): void {
    const idleAtMs = this.#movedMs > 0 ? this.#movedMs + this.#limits.idleMs : 0
    const timeoutAtMs = this.#timeoutAtMs
    const due = timeoutAtMs === 0 ? idleAtMs : idleAtMs === 0 ? timeoutAtMs : Math.min(timeoutAtMs, idleAtMs)
    if (due === 0) return
    this.#timer ??= new Timer(this)
    this.#owner.wheel.armAt(this.#timer, due)
  }

  onDue(nowMs: number): void {
    if (this.dropped) return
    const late = this.#timeoutAtMs > 0 && nowMs >= this.#timeoutAtMs
    const idle = !late && this.#movedMs > 0 && nowMs >= this.#movedMs + this.#limits.idleMs
    if (late) this.#timeoutAtMs = 0
    else if (idle) this.#movedMs = 0
    this.#arm()
    if (late || idle) this.#owner.trySlow(this, idle)
  }

  // --- events ---------------------------------------------------------------------------------------------------------

  onConnected(info: UpstreamInfo): void {
    if (this.dropped) return
    this.connection = info
    this.reused = info.reused
    if (this.#limits.idleMs > 0) {
      this.#movedMs = this.#owner.wheel.now()
      this.#arm()
    }
    this.#owner.tryConnected(this, info)
  }

  onInformational(status: number, headers: Headers): void {
    if (this.dropped) return
    this.moved()
    this.#owner.tryInformational(this, status, headers)
  }

  onHeaders(status: number, headers: Headers, end: boolean): void {
    if (this.dropped) return
    this.moved()
    const { monitor } = this.host
    if (monitor?.onLoadFields !== undefined) monitor.onLoadFields(headers)
    if (monitor !== undefined && !this.#judged) this.#answered(status, headers, end)
    this.#owner.tryHeaders(this, status, headers, end)
  }

  onData(chunk: Buffer, end: boolean): boolean {
    if (this.dropped) return true
    this.moved()
    if (end && this.#headMs >= 0) this.#answeredLate(undefined)
    return this.#owner.tryData(this, chunk, end)
  }

  dataSettled(): boolean {
    return this.#owner.tryDataSettled()
  }

  onTrailers(trailers: Headers): void {
    if (this.dropped) return
    this.host.monitor?.onLoadFields?.(trailers)
    if (this.#headMs >= 0) this.#answeredLate(grpcStatusIn(trailers))
    this.#owner.tryTrailers(this, trailers)
  }

  onUpgraded(status: number, headers: Headers): void {
    if (this.dropped) return
    this.host.monitor?.onResponse(status, undefined, this.#elapsed())
    this.#owner.tryUpgraded(this, status, headers)
  }

  onDrain(): void {
    if (!this.dropped) this.#owner.tryDrain(this)
  }

  onReset(why: Failure, detail?: string): void {
    if (this.dropped) return
    // What we did to ourselves (limits, a missing credential) says nothing of the host.
    if (why.source === 'upstream' && !this.#judged) this.host.monitor?.onFailure(why, this.#elapsed())
    this.#owner.tryReset(this, why, detail)
  }

  // --- what the host's monitor is told --------------------------------------------------------------------------------

  #answered(status: number, headers: Headers, end: boolean): void {
    const { monitor } = this.host
    if (monitor?.onCheckFailRequested !== undefined && headers.has('x-envoy-immediate-health-check-fail')) {
      monitor.onCheckFailRequested()
    }
    if (monitor?.onDegraded !== undefined && status < 500 && headers.has('x-envoy-degraded')) monitor.onDegraded()
    if ((status === 429 || status === 503) && monitor?.onUnavailable !== undefined) {
      monitor.onUnavailable(status, headers)
    }
    const grpcStatus = grpcStatusIn(headers)
    if (grpcStatus === undefined && !end && status === 200 && isGrpc(headers)) this.#headMs = this.#elapsed()
    else this.host.monitor?.onResponse(status, grpcStatus, this.#elapsed())
  }

  #answeredLate(grpcStatus: number | undefined): void {
    this.host.monitor?.onResponse(200, grpcStatus, this.#headMs)
    this.#headMs = -1
  }

  #elapsed(): number {
    return this.#owner.wheel.now() - this.startedMs
  }
}
