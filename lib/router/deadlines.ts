import type { HttpStream } from '../chain/filter.ts'
import { isGrpc } from '../core/grpc.ts'
import type { ForwardAction } from './route.ts'

/**
 * The effective route timeout in ms, 0 for none (`envoy-xds.md` §3.6): `grpc-timeout` where the route honours it,
 * `x-envoy-upstream-rq-timeout-ms` of internal callers, else the route's. Removes the header it used.
 */
export function requestTimeoutMs(stream: HttpStream, route: ForwardAction): number {
  let timeout = route.timeoutMs
  const max = route.grpcTimeoutMaxMs
  if (max !== undefined && isGrpc(stream.request)) {
    const asked = parseGrpcTimeout(stream.request.get('grpc-timeout'))
    if (asked !== undefined) {
      timeout = max > 0 && asked > max ? max : asked
      const offset = route.grpcTimeoutOffsetMs ?? 0
      if (offset > 0 && timeout > offset) timeout -= offset
    }
  }
  const header = stream.request.get('x-envoy-upstream-rq-timeout-ms')
  if (header !== undefined) {
    // External callers' headers were removed by the connection manager.
    if (/^\d{1,9}$/.test(header)) timeout = Number(header)
    stream.request.delete('x-envoy-upstream-rq-timeout-ms')
  }
  return timeout
}

/** `grpc-timeout` (gRPC over HTTP/2: at most 8 digits and a unit) in ms, undefined where it is missing or malformed. */
export function parseGrpcTimeout(value: string | undefined): number | undefined {
  const match = value === undefined ? null : /^(\d{1,8})([HMSmun])$/.exec(value)
  if (match === null) return undefined
  const n = Number(match[1])
  switch (match[2]) {
    case 'H':
      return n * 3_600_000
    case 'M':
      return n * 60_000
    case 'S':
      return n * 1000
    case 'm':
      return n
    case 'u':
      return Math.ceil(n / 1000)
    default:
      return Math.ceil(n / 1_000_000)
  }
}

/** The deadlines of one forwarding: the request's (from the end of the request on) and the upstream stream's. */
export class Deadlines {
  readonly #timeoutMs: number
  readonly #streamAtMs: number
  #requestAtMs = 0

  constructor(timeoutMs: number, maxStreamMs: number, nowMs: number) {
    this.#timeoutMs = timeoutMs
    this.#streamAtMs = maxStreamMs > 0 ? nowMs + maxStreamMs : 0
  }

  /** The route timeout counts from here. */
  requestComplete(nowMs: number): void {
    if (this.#timeoutMs > 0 && this.#requestAtMs === 0) this.#requestAtMs = nowMs + this.#timeoutMs
  }

  /** Absolute time of the earliest deadline, 0 where there is none. */
  next(): number {
    if (this.#requestAtMs === 0) return this.#streamAtMs
    return this.#streamAtMs === 0 ? this.#requestAtMs : Math.min(this.#requestAtMs, this.#streamAtMs)
  }

  expired(nowMs: number): 'request' | 'stream' | undefined {
    if (this.#requestAtMs > 0 && nowMs >= this.#requestAtMs) return 'request'
    return this.#streamAtMs > 0 && nowMs >= this.#streamAtMs ? 'stream' : undefined
  }
}
