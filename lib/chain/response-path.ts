import type { Sink } from '../core/body.ts'
import { Headers } from '../core/headers.ts'
import type { Hook } from './compile.ts'
import { Phase } from './contract.ts'
import type { Exchange } from './exchange.ts'
import type { Next, NextChunk, Replied } from './filter.ts'
import { Lane, type LaneOwner, wrongAnswer } from './lane.ts'
import type { RenderedReply } from './local-reply.ts'
import { REPLIED } from './reply.ts'
import type { Tunnel } from './tunnel.ts'

/**
 * The response direction of one exchange: header hooks last to first, then the codec; body and trailers follow through
 * their hooks, or straight from upstream to codec where there are none.
 */
export class ResponsePath implements LaneOwner {
  readonly #exchange: Exchange
  #lane: Lane | undefined = undefined
  /** Headers have gone downstream. */
  #open = false
  #end = false
  /** Header hooks are running or paused: an answer from within cannot pass them again. */
  #running = false
  /** An answer from within a response hook passes no hooks at all. */
  #bypass = false
  #at = -1
  #full = false
  /** Of a streamed answer of a filter's own; called where `#owed`: its last write was answered false. */
  #onDrain: (() => void) | undefined = undefined
  #owed = false
  /** Granted by the upstream, though a response hook may still deny it. */
  tunnel: Tunnel | undefined = undefined
  /** The response, or its beginning, came from upstream. */
  fromUpstream = false

  constructor(exchange: Exchange) {
    this.#exchange = exchange
  }

  get running(): boolean {
    return this.#running
  }

  begin(status: number, headers: Headers, end: boolean): void {
    const exchange = this.#exchange
    exchange.phase = Phase.RESPONDING
    exchange.status = status
    exchange.response = headers
    this.#end = end
    this.#run(0)
  }

  #run(from: number): void {
    const exchange = this.#exchange
    const hooks = exchange.plan.responseHeaders
    this.#running = true
    for (let i = from; i < hooks.length; i++) {
      const hook = hooks[i]
      this.#at = hook.at
      this.#lane?.hold(hook.at)
      let result: Next
      try {
        result = hook.filter.onResponseHeaders!(exchange, this.#end, exchange.stateOf(hook))
      } catch (error) {
        exchange.crashed(hook, error)
        return
      }
      if (exchange.phase !== Phase.RESPONDING || this.#bypass || result === REPLIED) return
      if (result !== undefined) {
        this.#pause(hook, i, result as PromiseLike<void | undefined | Replied>)
        return
      }
    }
    this.#running = false
    this.#commit()
  }

  #pause(hook: Hook, i: number, promise: PromiseLike<void | undefined | Replied>): void {
    const exchange = this.#exchange
    this.lane().hold(hook.at)
    if (typeof promise?.then !== 'function') {
      exchange.crashed(hook, wrongAnswer(promise))
      return
    }
    promise.then(
      (settled) => {
        const live = exchange.phase === Phase.RESPONDING && !this.#bypass
        if (live && settled !== REPLIED) this.#run(i + 1)
      },
      (error: unknown) => exchange.crashed(hook, error),
    )
  }

  /** All header hooks have passed: the head goes downstream. */
  #commit(): void {
    const exchange = this.#exchange
    exchange.owner.finishResponse(exchange, this.fromUpstream)
    exchange.phase = Phase.HEADERS_SENT
    if (this.tunnel !== undefined) {
      exchange.downstream.writeUpgrade(exchange.status, exchange.response)
      this.tunnel.open()
      return
    }
    const lane = this.#lane
    const extra = this.#end && lane?.idle === true && this.#hasRoomForTrailers() ? lane.extraTrailers : undefined
    const end = this.#end && extra === undefined && (lane === undefined || lane.idle)
    exchange.downstream.writeHeaders(exchange.status, exchange.response, end)
    if (exchange.ended) return
    this.#open = true
    if (end) exchange.finish()
    else if (extra !== undefined) this.deliverTrailers(extra)
    else lane?.open()
  }

  /** Whether a response that ended at its headers may get trailers: RFC 9112 §6.3 rules 1 and 6. */
  #hasRoomForTrailers(): boolean {
    const { status, response, head } = this.#exchange
    return head.method !== 'HEAD' && status !== 204 && status !== 304 && !response.has('content-length')
  }

  /**
   * An answer from within a response hook, or while one is paused: what the hooks did so far is dropped and none is
   * called again. It denies an upgrade that the upstream has accepted.
   */
  replace(reply: RenderedReply, end: boolean): void {
    const exchange = this.#exchange
    this.tunnel = undefined
    this.#lane?.close()
    this.#lane = undefined
    this.#running = false
    this.#bypass = true
    this.fromUpstream = false
    exchange.phase = Phase.RESPONDING
    exchange.status = reply.status
    exchange.response = reply.headers
    this.#end = end
    this.#commit()
    if (!end && !exchange.ended) this.deliver(reply.body, true)
  }

  /** False: stop until resumed. */
  data(chunk: Buffer, end: boolean): boolean {
    if (this.#open && this.#lane === undefined && this.#exchange.plan.responseData.length === 0) {
      return this.deliver(chunk, end)
    }
    if (this.#bypass) return this.deliver(chunk, end)
    this.lane().push(chunk, end)
    return !this.#full
  }

  /** As `TerminalExchange.responseSettled`: never where hooks may have kept a chunk, or something waits for them. */
  settled(): boolean {
    const { plan, downstream } = this.#exchange
    if (!this.#open || this.#lane !== undefined || this.#bypass || this.tunnel !== undefined) return false
    return plan.responseData.length === 0 && downstream.settled?.() === true
  }

  trailers(trailers: Headers): void {
    this.#exchange.responseTrailers = trailers
    if (this.#open && this.#lane === undefined && this.#exchange.plan.responseTrailers.length === 0) {
      this.deliverTrailers(trailers)
      return
    }
    this.lane().pushTrailers(trailers)
  }

  /** The way into this direction for a streamed answer of a filter's own. */
  sink(onDrain: (() => void) | undefined): Sink {
    const exchange = this.#exchange
    this.#onDrain = onDrain
    return {
      write: (chunk) => {
        const more = exchange.ended || this.data(chunk, false)
        this.#owed = !more
        return more
      },
      end: (trailers) => {
        if (exchange.ended) return
        if (trailers === undefined) this.data(NO_BYTES, true)
        else this.trailers(trailers)
      },
      reset: (why) => exchange.abort(why),
    }
  }

  /** There is room again: whoever produces the response may go on. */
  #flow(): void {
    const exchange = this.#exchange
    exchange.terminal?.resume()
    if (!this.#owed || exchange.ended) return
    this.#owed = false
    try {
      this.#onDrain?.()
    } catch (error) {
      exchange.crashed('respond', error)
    }
  }

  lane(): Lane {
    if (this.#lane === undefined) {
      const { plan, bufferLimit } = this.#exchange
      this.#lane = new Lane(this, { data: plan.responseData, trailers: plan.responseTrailers }, bufferLimit)
      if (this.#open) this.#lane.open()
      else if (this.#at >= 0) this.#lane.hold(this.#at)
    }
    return this.#lane
  }

  get bodyless(): boolean {
    return this.#end
  }

  get bufferedBytes(): number {
    return this.#lane?.weight ?? 0
  }

  /** The client's socket drained. */
  drained(): void {
    this.#lane?.unblock()
    if (!this.#full) this.#flow()
  }

  close(): void {
    this.#lane?.close()
  }

  // --- LaneOwner ----------------------------------------------------------------------------------------------------

  dataHook(hook: Hook, chunk: Buffer, end: boolean): NextChunk {
    return hook.filter.onResponseData!(this.#exchange, chunk, end, this.#exchange.stateOf(hook))
  }

  trailersHook(hook: Hook, trailers: Headers): Next {
    return hook.filter.onResponseTrailers!(this.#exchange, trailers, this.#exchange.stateOf(hook))
  }

  hookFailed(hook: Hook, error: unknown): void {
    this.#exchange.crashed(hook, error)
  }

  deliver(chunk: Buffer, end: boolean): boolean {
    const exchange = this.#exchange
    exchange.info.bytesSent += chunk.length
    exchange.lastActivityMs = exchange.owner.wheel.nowMs
    const more = exchange.downstream.write(chunk, end)
    if (end) {
      exchange.finish()
      return true
    }
    if (!more) exchange.terminal?.pause()
    return more
  }

  deliverTrailers(trailers: Headers): void {
    const exchange = this.#exchange
    if (trailers.size === 0) exchange.downstream.write(NO_BYTES, true)
    else {
      exchange.responseTrailers ??= trailers
      exchange.downstream.writeTrailers(trailers)
    }
    exchange.finish()
  }

  full(full: boolean): void {
    this.#full = full
    if (full) this.#exchange.terminal?.pause()
    else this.#flow()
  }
}

const NO_BYTES: Buffer = Buffer.alloc(0)

/** Stands in until the response begins; never written to. */
export const NO_HEADERS: Headers = Object.freeze(new Headers(Object.freeze([]) as unknown as string[])) as Headers
