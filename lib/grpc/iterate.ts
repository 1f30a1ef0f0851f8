import type { Headers } from '../core/headers.ts'
import type { GrpcCall, GrpcHandlers } from './call-contract.ts'
import type { GrpcClient } from './client.ts'
import type { GrpcMethod } from './method.ts'
import type { GrpcCallOptions } from './request.ts'
import { GrpcCode, type GrpcStatus, localStatus } from './status.ts'

/**
 * A streaming call with promises, for code that is not hot. Iterating gives the peer's messages at the pace at which they
 * are taken, and ends with the call, however that ended: `status` tells. Leaving the loop early cancels the call.
 */
export interface GrpcStream<I, O> extends AsyncIterable<O> {
  /** Resolves when there is room for the next: true, or false where the call has ended. */
  send(message: I): Promise<boolean>
  end(): void
  /** The loop ends, and `status` is CANCELLED. */
  cancel(): void
  /** The peer's initial metadata; undefined where the call ended without. Never rejects. */
  readonly metadata: Promise<Headers | undefined>
  /** Never rejects. */
  readonly status: Promise<GrpcStatus>
}

/**
 * Starts a call whose messages are iterated over.
 *
 * @example
 * const stream = openStream(client, watch, {})
 * await stream.send(request)
 * for await (const message of stream) console.log(message)
 * const { code } = await stream.status
 */
export function openStream<I, O>(
  client: GrpcClient,
  method: GrpcMethod<I, O>,
  options?: GrpcCallOptions,
): GrpcStream<I, O> {
  const stream = new IteratedStream<I, O>()
  stream.call = client.stream(method, stream, options)
  return stream
}

class IteratedStream<I, O> implements GrpcStream<I, O>, GrpcHandlers<O>, AsyncIterator<O, undefined> {
  call: GrpcCall<I> | undefined = undefined
  readonly #metadata = Promise.withResolvers<Headers | undefined>()
  readonly #status = Promise.withResolvers<GrpcStatus>()
  /** Messages that nobody has asked for: the call is paused while there is one. */
  readonly #messages: O[] = []
  readonly #takers: ((result: IteratorResult<O, undefined>) => void)[] = []
  #room: PromiseWithResolvers<boolean> | undefined = undefined
  #full = false
  #ended = false

  get metadata(): Promise<Headers | undefined> {
    return this.#metadata.promise
  }

  get status(): Promise<GrpcStatus> {
    return this.#status.promise
  }

  // Not async: a message that cannot be encoded is a mistake to be thrown where it was made.
  send(message: I): Promise<boolean> {
    if (this.#ended) return Promise.resolve(false)
    if (!this.call!.write(message)) this.#full = true
    if (!this.#full || this.#ended) return Promise.resolve(!this.#ended)
    this.#room ??= Promise.withResolvers<boolean>()
    return this.#room.promise
  }

  end(): void {
    this.call!.end()
  }

  cancel(): void {
    this.call!.cancel()
    this.onEnd(localStatus(GrpcCode.CANCELLED, 'the call was cancelled'))
  }

  [Symbol.asyncIterator](): AsyncIterator<O, undefined> {
    return this
  }

  next(): Promise<IteratorResult<O, undefined>> {
    if (this.#messages.length > 0) {
      const value = this.#messages.shift() as O
      if (this.#messages.length === 0) this.call!.resume()
      return Promise.resolve({ done: false, value })
    }
    if (this.#ended) return Promise.resolve(DONE)
    return new Promise((resolve) => this.#takers.push(resolve))
  }

  return(): Promise<IteratorResult<O, undefined>> {
    this.#messages.length = 0
    this.cancel()
    return Promise.resolve(DONE)
  }

  onHeaders(metadata: Headers): void {
    this.#metadata.resolve(metadata)
  }

  onMessage(message: O): void {
    const taker = this.#takers.shift()
    if (taker !== undefined) {
      taker({ done: false, value: message })
      return
    }
    this.#messages.push(message)
    this.call!.pause()
  }

  onDrain(): void {
    this.#full = false
    this.#room?.resolve(true)
    this.#room = undefined
  }

  onEnd(status: GrpcStatus): void {
    if (this.#ended) return
    this.#ended = true
    this.#metadata.resolve(undefined)
    this.#status.resolve(status)
    this.#room?.resolve(false)
    this.#room = undefined
    for (const taker of this.#takers.splice(0)) taker(DONE)
  }
}

const DONE: IteratorResult<never, undefined> = Object.freeze({ done: true, value: undefined })
