import type { HttpStream } from '../chain/filter.ts'
import { type Due, type HasTimer, Timer, type TimerWheel } from '../core/timer-wheel.ts'
import { grpcRequestTimeoutMs } from './grpc-timeout.ts'
import type { ForwardAction } from './route.ts'

/**
 * The effective route timeout in ms, 0 for none (`envoy-xds.md` §3.6): `grpc-timeout` where the route honours it,
 * `x-envoy-upstream-rq-timeout-ms` of internal callers, else the route's. Removes the header it used. `respectExpected`:
 * what a proxy before this one has told its upstream to expect goes before the caller's header.
 */
export function requestTimeoutMs(stream: HttpStream, route: ForwardAction, respectExpected = false): number {
  let timeout = grpcRequestTimeoutMs(stream.request, route) ?? route.timeoutMs
  const expected = respectExpected ? stream.request.get('x-envoy-expected-rq-timeout-ms') : undefined
  const header = stream.request.get('x-envoy-upstream-rq-timeout-ms')
  if (header !== undefined) {
    // External callers' headers were removed by the connection manager.
    if (/^\d{1,9}$/.test(header)) timeout = Number(header)
    stream.request.delete('x-envoy-upstream-rq-timeout-ms')
  }
  if (expected !== undefined && /^\d{1,9}$/.test(expected)) timeout = Number(expected)
  return timeout
}

/** Whose deadlines they are. */
export interface DeadlineOwner {
  readonly wheel: TimerWheel
  /** Told once of each; afterwards nothing is armed. */
  deadlinePassed(which: 'request' | 'stream'): void
}

/** The deadlines of one forwarding: the request's (from the end of the request on) and the upstream stream's. */
export class Deadlines implements Due, HasTimer {
  readonly timer: Timer = new Timer(this)
  readonly #owner: DeadlineOwner
  readonly #timeoutMs: number
  readonly #streamAtMs: number
  #requestAtMs = 0
  #closed = false

  /** Limits of 0 are none. The stream's counts from now. */
  constructor(owner: DeadlineOwner, timeoutMs: number, maxStreamMs: number) {
    this.#owner = owner
    this.#timeoutMs = timeoutMs
    this.#streamAtMs = maxStreamMs > 0 ? owner.wheel.now() + maxStreamMs : 0
    this.#arm()
  }

  /** The route timeout counts from here. */
  requestComplete(): void {
    if (this.#timeoutMs === 0 || this.#requestAtMs > 0 || this.#closed) return
    this.#requestAtMs = this.#owner.wheel.now() + this.#timeoutMs
    this.#arm()
  }

  /** What is left for the response, at least 1; 0 where there is no timeout, or it has not begun. */
  remaining(): number {
    if (this.#requestAtMs === 0) return 0
    return Math.max(1, Math.trunc(this.#requestAtMs - this.#owner.wheel.now()))
  }

  /** None of them counts any more. Idempotent. */
  close(): void {
    this.#closed = true
    this.#owner.wheel.disarm(this)
  }

  #arm(): void {
    const request = this.#requestAtMs
    const stream = this.#streamAtMs
    const due = request === 0 ? stream : stream === 0 ? request : Math.min(request, stream)
    if (due > 0) this.#owner.wheel.armAt(this, due)
  }

  onDue(nowMs: number): void {
    if (this.#requestAtMs > 0 && nowMs >= this.#requestAtMs) this.#owner.deadlinePassed('request')
    else if (this.#streamAtMs > 0 && nowMs >= this.#streamAtMs) this.#owner.deadlinePassed('stream')
    else this.#arm()
  }
}
