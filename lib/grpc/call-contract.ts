import type { Cluster } from '../core/attempt.ts'
import type { Headers } from '../core/headers.ts'
import type { Log } from '../core/metrics.ts'
import type { TimerWheel } from '../core/timer-wheel.ts'
import type { GrpcMethod } from './method.ts'
import type { CallDefaults, GrpcCallOptions } from './request.ts'
import type { GrpcStatus } from './status.ts'

/**
 * What a call tells its user. Nothing is called before `stream` has returned, after `onEnd`, or after `cancel`. What a
 * handler throws is logged and ends the call with INTERNAL.
 */
export interface GrpcHandlers<O> {
  /** The call has a connection: what was written is on its way to the peer. Once for each attempt. */
  onConnected?(): void
  /** The peer's initial metadata, before its first message; not called for a trailers-only response. */
  onHeaders?(metadata: Headers): void
  onMessage(message: O): void
  /** After a `write` that answered false: there is room again. */
  onDrain?(): void
  /** Exactly once, however the call ended. */
  onEnd(status: GrpcStatus): void
}

/** One call as its user sees it. All methods are harmless after its end. */
export interface GrpcCall<I> {
  /** False: wait for `onDrain`; the message is taken in any case. `end`: it is the last one. @throws what encoding throws */
  write(message: I, end?: boolean): boolean
  /** No more messages; the peer's still come. */
  end(): void
  /** No `onMessage` until `resume`, nor the status behind messages held back; a deadline or a reset still ends the call. */
  pause(): void
  resume(): void
  /** The peer is told (RST_STREAM), the user hears nothing more. */
  cancel(): void
}

/** What the calls of a client share. */
export interface CallParts {
  readonly cluster: () => Cluster | undefined
  readonly wheel: TimerWheel
  readonly log: Log
  readonly defaults: CallDefaults
}

export interface CallStart<I, O> {
  readonly parts: CallParts
  readonly method: GrpcMethod<I, O>
  readonly handlers: GrpcHandlers<O>
  readonly options: GrpcCallOptions
  /** The only message of the call, encoded; undefined: messages are written. */
  readonly single: Uint8Array | undefined
}
