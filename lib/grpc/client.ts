import type { Cluster, RoutingPriority } from '../core/attempt.ts'
import { Headers } from '../core/headers.ts'
import type { Log } from '../core/metrics.ts'
import type { TimerWheel } from '../core/timer-wheel.ts'
import { Call } from './call.ts'
import type { CallParts, GrpcCall, GrpcHandlers } from './call-contract.ts'
import type { GrpcEncoding } from './compression.ts'
import type { GrpcMethod } from './method.ts'
import { type GrpcCallOptions, pushMetadata } from './request.ts'
import { GrpcCode, type GrpcStatus, localStatus } from './status.ts'

export interface GrpcClientOptions {
  /** Asked for each attempt, so that a client outlives snapshots. Undefined: calls fail with UNAVAILABLE. */
  readonly cluster: () => Cluster | undefined
  /** `:authority` of every call that does not name its own. */
  readonly authority: string
  readonly wheel: TimerWheel
  /** Learns of handlers that throw. */
  readonly log: Log
  /** `:scheme`. Default: what the connection is, as far as the cluster knows. */
  readonly scheme?: 'http' | 'https'
  /** Default: `grpc-node-headgate`. */
  readonly userAgent?: string
  /** Of every call, as configured (Envoy's `GrpcService.initial_metadata`). */
  readonly initialMetadata?: Headers
  readonly priority?: RoutingPriority
  /** Defaults of `GrpcCallOptions`. `timeoutMs` holds for unary calls only: a stream left with a deadline dies of it. */
  readonly timeoutMs?: number
  readonly waitForReady?: boolean
  readonly encoding?: GrpcEncoding
  readonly maxReceiveBytes?: number
}

/** What a unary call came to. `metadata` is undefined where the peer sent nothing but trailers, or nothing. */
export type GrpcResult<O> =
  | { readonly ok: true; readonly message: O; readonly metadata: Headers | undefined; readonly status: GrpcStatus }
  | {
      readonly ok: false
      readonly message: undefined
      readonly metadata: Headers | undefined
      readonly status: GrpcStatus
    }

/**
 * Calls gRPC services over a cluster of ours: its hosts, pools, TLS, circuit breakers and statistics. Owns nothing that
 * must be closed; calls end by themselves, by their deadline, or are cancelled.
 *
 * @example
 * const client = new GrpcClient({ cluster: () => clusters.get('authz'), authority: 'authz', wheel, log })
 * const result = await client.unary(check, request, { timeoutMs: 200 })
 * if (!result.ok) log.warn('no answer', { code: result.status.code })
 */
export class GrpcClient {
  readonly #parts: CallParts
  readonly #defaults: GrpcCallOptions
  readonly #unaryDefaults: GrpcCallOptions

  /** @throws TypeError for metadata, an authority or a user agent that may not be in a header */
  constructor(options: GrpcClientOptions) {
    const { cluster, authority, wheel, log, scheme = '', userAgent = 'grpc-node-headgate' } = options
    checkAuthority(authority)
    new Headers(['user-agent', userAgent]).check()
    const metadata: string[] = []
    if (options.initialMetadata !== undefined) pushMetadata(metadata, options.initialMetadata.check())
    const defaults = { authority, scheme, userAgent, priority: options.priority ?? 'default', metadata } as const
    this.#parts = { cluster, wheel, log, defaults }
    const { waitForReady, encoding, maxReceiveBytes } = options
    this.#defaults = { waitForReady, encoding, maxReceiveBytes }
    this.#unaryDefaults = { ...this.#defaults, timeoutMs: options.timeoutMs }
  }

  /**
   * One message there, one back. Never rejects for what the network or the peer does; repeats once, by itself, a call
   * that was never processed.
   *
   * @throws what `method.encode` throws, at once; TypeError for an authority that is none
   */
  unary<I, O>(method: GrpcMethod<I, O>, message: I, options?: GrpcCallOptions): Promise<GrpcResult<O>> {
    const single = method.encode(message)
    const { promise, resolve } = Promise.withResolvers<GrpcResult<O>>()
    const handlers = new Unary<O>(resolve)
    const call = new Call<I, O>({
      parts: this.#parts,
      method,
      handlers,
      options: withDefaults(options, this.#unaryDefaults),
      single,
    })
    handlers.call = call
    call.start()
    return promise
  }

  /** Any number of messages in both directions, by callbacks: no promise and no closure per message. */
  stream<I, O>(method: GrpcMethod<I, O>, handlers: GrpcHandlers<O>, options?: GrpcCallOptions): GrpcCall<I> {
    const call = new Call<I, O>({
      parts: this.#parts,
      method,
      handlers,
      options: withDefaults(options, this.#defaults),
      single: undefined,
    })
    call.start()
    return call
  }
}

function withDefaults(options: GrpcCallOptions | undefined, defaults: GrpcCallOptions): GrpcCallOptions {
  if (options === undefined) return defaults
  if (options.authority !== undefined) checkAuthority(options.authority)
  return {
    timeoutMs: options.timeoutMs ?? defaults.timeoutMs,
    metadata: options.metadata,
    signal: options.signal,
    waitForReady: options.waitForReady ?? defaults.waitForReady,
    encoding: options.encoding ?? defaults.encoding,
    maxReceiveBytes: options.maxReceiveBytes ?? defaults.maxReceiveBytes,
    authority: options.authority,
  }
}

/** What reaches the wire must be one authority and nothing else. */
function checkAuthority(authority: string): void {
  if (!/^[\x21-\x7e]+$/.test(authority)) throw new TypeError(`"${authority}" is no authority`)
}

/** Gathers the one message and the status. */
class Unary<O> implements GrpcHandlers<O> {
  readonly #resolve: (result: GrpcResult<O>) => void
  call: GrpcCall<never> | undefined = undefined
  #metadata: Headers | undefined = undefined
  #messages = 0
  #message: O | undefined = undefined

  constructor(resolve: (result: GrpcResult<O>) => void) {
    this.#resolve = resolve
  }

  onHeaders(metadata: Headers): void {
    this.#metadata = metadata
  }

  onMessage(message: O): void {
    this.#message = message
    if (++this.#messages < 2) return
    this.call?.cancel()
    this.#fail(localStatus(GrpcCode.UNIMPLEMENTED, 'the peer answered a unary call with more than one message'))
  }

  onEnd(status: GrpcStatus): void {
    if (status.code !== GrpcCode.OK) this.#fail(status)
    else if (this.#messages === 1) {
      this.#resolve({ ok: true, message: this.#message as O, metadata: this.#metadata, status })
    } else this.#fail(localStatus(GrpcCode.UNIMPLEMENTED, 'the peer answered a unary call without a message'))
  }

  #fail(status: GrpcStatus): void {
    this.#resolve({ ok: false, message: undefined, metadata: this.#metadata, status })
  }
}
