import type { HttpStream } from '../chain/filter.ts'
import { isGrpc } from '../core/grpc.ts'
import type { Headers } from '../core/headers.ts'
import type { ForwardAction } from './route.ts'

/** Of eight digits. */
const MOST = 99_999_999

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

/** A `grpc-timeout` of so many ms: the finest unit in which it fits, rounded down; 0 is one, and has passed already. */
export function grpcTimeoutText(ms: number): string {
  if (ms <= MOST) return `${Math.trunc(ms)}m`
  if (ms / 1000 <= MOST) return `${Math.trunc(ms / 1000)}S`
  const minutes = Math.trunc(ms / 60_000)
  return minutes <= MOST ? `${minutes}M` : `${Math.min(MOST, Math.trunc(minutes / 60))}H`
}

/**
 * What a call's `grpc-timeout` makes of the route's timeout, in ms (Envoy's `max_grpc_timeout`, `grpc_timeout_offset`); 0:
 * none. Without one the call has any time, up to the limit. Undefined: it has no say.
 */
export function grpcRequestTimeoutMs(request: Headers, route: ForwardAction): number | undefined {
  const { grpcTimeoutMaxMs: max, grpcTimeoutOffsetMs: offset = 0 } = route
  if (max === undefined || route.streamTimeouts || !isGrpc(request)) return undefined
  const asked = parseGrpcTimeout(request.get('grpc-timeout')) ?? 0
  // Nothing would be left: that is no time at all, where 0 is any time.
  const left = offset < asked ? asked - offset : asked
  return max > 0 && (left === 0 || left > max) ? max : left
}

/**
 * How long a stream may take by its route, or else by its connection manager, in ms; undefined: any time. Where the route
 * speaks of streams (`max_stream_duration`), `grpc-timeout` is heard up to its limit, and gRPC requests are told what came
 * of it.
 */
export function streamLimitMs(
  { request }: HttpStream,
  action: ForwardAction | undefined,
  otherwiseMs: number,
): number | undefined {
  const limit = action?.maxStreamDurationMs ?? otherwiseMs
  if (action?.streamTimeouts !== true) return limit > 0 ? limit : undefined
  const asked = askedOfStream(request, action)
  const ms = asked ?? (limit > 0 ? limit : undefined)
  if (ms !== undefined && isGrpc(request)) request.put('grpc-timeout', grpcTimeoutText(ms))
  return ms
}

/** 0 where the offset leaves nothing: it has passed already. */
function askedOfStream(
  request: Headers,
  { grpcTimeoutMaxMs: max, grpcTimeoutOffsetMs }: ForwardAction,
): number | undefined {
  if (max === undefined) return undefined
  const asked = parseGrpcTimeout(request.get('grpc-timeout'))
  if (asked === undefined) return undefined
  const capped = max > 0 ? Math.min(asked, max) : asked
  return Math.max(0, capped - (grpcTimeoutOffsetMs ?? 0))
}
