import type { Headers } from '../core/headers.ts'
import { type ChainPlan, type Hook, spliceChain } from './compile.ts'
import { Phase } from './contract.ts'
import type { Exchange } from './exchange.ts'
import type { Next, NextChunk, Replied, Route, TerminalStream } from './filter.ts'
import { Lane, type LaneOwner, wrongAnswer } from './lane.ts'
import { REPLIED } from './reply.ts'

/**
 * The request direction of one exchange: header hooks first to last, then the terminal; body and trailers follow through
 * their hooks, or straight from codec to terminal where there are none.
 */
export class RequestPath implements LaneOwner {
  readonly #exchange: Exchange
  #terminal: TerminalStream | undefined = undefined
  #lane: Lane | undefined = undefined
  /** All header hooks have passed and the terminal takes data. */
  #open = false
  #abandoned = false
  /** The terminal asked to wait. */
  #blocked = false
  /** The lane holds more than its limit. */
  #full = false
  /** Index of the filter whose header hook ran last. */
  #at = -1

  constructor(exchange: Exchange) {
    this.#exchange = exchange
  }

  get terminal(): TerminalStream | undefined {
    return this.#terminal
  }

  /** Runs header hooks from the `from`th on. */
  run(from: number): void {
    const exchange = this.#exchange
    let plan = exchange.plan
    let hooks = plan.requestHeaders
    for (let i = from; i < hooks.length; i++) {
      const hook = hooks[i]
      this.#at = hook.index
      this.#lane?.hold(hook.at)
      let result: Next
      try {
        result = hook.filter.onRequestHeaders!(exchange, this.bodyless, exchange.stateOf(hook))
      } catch (error) {
        exchange.crashed(hook, error)
        return
      }
      if (exchange.phase !== Phase.REQUEST || result === REPLIED) return
      if (result !== undefined) {
        this.#pause(hook, result as PromiseLike<void | undefined | Replied>)
        return
      }
      if (plan !== exchange.plan) {
        plan = exchange.plan
        hooks = plan.requestHeaders
        i = behind(plan, hook) - 1
      }
    }
    this.#forward()
  }

  #pause(hook: Hook, promise: PromiseLike<void | undefined | Replied>): void {
    const exchange = this.#exchange
    // The lane must exist from here on: data that comes meanwhile waits in front of this filter.
    this.lane().hold(hook.at)
    if (typeof promise?.then !== 'function') {
      exchange.crashed(hook, wrongAnswer(promise))
      return
    }
    promise.then(
      (settled) => {
        if (exchange.phase === Phase.REQUEST && settled !== REPLIED) this.run(behind(exchange.plan, hook))
      },
      (error: unknown) => this.hookFailed(hook, error),
    )
  }

  #forward(): void {
    const exchange = this.#exchange
    exchange.phase = Phase.FORWARDED
    const lane = this.#lane
    const end = exchange.requestComplete && (lane === undefined || lane.idle)
    let terminal: TerminalStream | undefined
    try {
      terminal = exchange.plan.terminal.begin(exchange, end)
    } catch (error) {
      exchange.crashed('terminal', error)
      return
    }
    if (terminal === undefined) return
    if (this.#abandoned) {
      terminal.cancel(undefined)
      return
    }
    this.#terminal = terminal
    this.#open = true
    lane?.open()
  }

  /** A new route, from within a header hook: filters behind it change. */
  reroute(route: Route | undefined, plan: ChainPlan): void {
    const exchange = this.#exchange
    exchange.route = route
    const next = spliceChain(exchange.plan, plan, this.#at)
    if (next === exchange.plan) return
    exchange.plan = next
    this.#lane?.replaceHooks({ data: next.requestData, trailers: next.requestTrailers })
  }

  data(chunk: Buffer, end: boolean): void {
    if (this.#abandoned) return
    if (this.#open && this.#lane === undefined && this.#exchange.plan.requestData.length === 0) {
      this.deliver(chunk, end)
      return
    }
    this.lane().push(chunk, end)
  }

  /** As `Exchange.requestSettled`: never where hooks may have kept a chunk, or something waits for them. */
  settled(): boolean {
    if (!this.#open || this.#lane !== undefined || this.#exchange.plan.requestData.length > 0) return false
    return this.#terminal?.settled?.() === true
  }

  trailers(trailers: Headers): void {
    if (this.#abandoned) return
    if (this.#open && this.#lane === undefined && this.#exchange.plan.requestTrailers.length === 0) {
      this.deliverTrailers(trailers)
      return
    }
    this.lane().pushTrailers(trailers)
  }

  /** An extra chunk from the filter whose hook is running; the body of a request that had none. */
  emit(chunk: Buffer): boolean {
    const bodyless = this.#exchange.phase === Phase.REQUEST && this.bodyless
    if (!bodyless) return this.lane().inject(chunk)
    this.lane().begin(chunk)
    return true
  }

  /** Made where something must wait or pass hooks. */
  lane(): Lane {
    if (this.#lane === undefined) {
      const { plan, bufferLimit } = this.#exchange
      this.#lane = new Lane(this, { data: plan.requestData, trailers: plan.requestTrailers }, bufferLimit)
      if (this.#open) this.#lane.open()
      else if (this.#at >= 0) this.#lane.hold(this.#at)
    }
    return this.#lane
  }

  /** What waits here, and beyond. */
  get bufferedBytes(): number {
    return (this.#lane?.weight ?? 0) + (this.#terminal?.bufferedBytes ?? 0)
  }

  /** Nothing of the body can come any more and none waits. */
  get bodyless(): boolean {
    return this.#exchange.requestComplete && (this.#lane === undefined || this.#lane.idle)
  }

  drained(): void {
    if (!this.#blocked) return
    this.#blocked = false
    this.#lane?.unblock()
    if (!this.#blocked && !this.#full) this.#exchange.downstream.resumeRequest()
  }

  /** Hooks and upstream are over; whatever still arrives from the client is dropped. */
  abandon(): void {
    this.#abandoned = true
    this.#lane?.close()
    const terminal = this.#terminal
    this.#terminal = undefined
    terminal?.cancel(undefined)
    if (this.#blocked || this.#full) this.#exchange.downstream.resumeRequest()
    this.#blocked = this.#full = false
  }

  /** The exchange is over; answers the terminal, which the caller cancels or not. */
  close(): TerminalStream | undefined {
    this.#abandoned = true
    this.#lane?.close()
    const terminal = this.#terminal
    this.#terminal = undefined
    return terminal
  }

  /** The terminal has failed by itself. */
  forget(): void {
    this.#terminal = undefined
  }

  // --- LaneOwner ----------------------------------------------------------------------------------------------------

  dataHook(hook: Hook, chunk: Buffer, end: boolean): NextChunk {
    return hook.filter.onRequestData!(this.#exchange, chunk, end, this.#exchange.stateOf(hook))
  }

  trailersHook(hook: Hook, trailers: Headers): Next {
    return hook.filter.onRequestTrailers!(this.#exchange, trailers, this.#exchange.stateOf(hook))
  }

  /** Once the request is abandoned, what its hooks still throw must not break the answer that is on its way. */
  hookFailed(hook: Hook, error: unknown): void {
    this.#exchange.crashed(hook, error, this.#abandoned)
  }

  deliver(chunk: Buffer, end: boolean): boolean {
    const more = this.#terminal?.write(chunk, end) ?? true
    if (end) this.#delivered()
    else if (!more && !this.#blocked) {
      this.#blocked = true
      this.#exchange.downstream.pauseRequest()
    }
    return more
  }

  deliverTrailers(trailers: Headers): void {
    this.#terminal?.trailers(trailers)
    this.#delivered()
  }

  /** Nothing more comes that would have to wait: a client that is held up could not even be seen to leave. */
  #delivered(): void {
    if (!this.#blocked) return
    this.#blocked = false
    if (!this.#full) this.#exchange.downstream.resumeRequest()
  }

  full(full: boolean): void {
    this.#full = full
    if (full) this.#exchange.downstream.pauseRequest()
    else if (!this.#blocked) this.#exchange.downstream.resumeRequest()
  }
}

/** Place of the first request hook behind `hook` in `plan`. */
function behind(plan: ChainPlan, hook: Hook): number {
  const hooks = plan.requestHeaders
  let i = 0
  while (i < hooks.length && hooks[i].at <= hook.at) i++
  return i
}
