import { FAILURES, type Failure } from '../../core/failure.ts'
import { grpcStatusIn } from '../../core/grpc.ts'
import type { Headers } from '../../core/headers.ts'
import type { RetryCondition } from '../../core/retry-policy.ts'

/** A set of conditions, one bit each. */
export type Conditions = number

const BITS = {
  '5xx': 1 << 0,
  'gateway-error': 1 << 1,
  reset: 1 << 2,
  'reset-before-request': 1 << 3,
  'connect-failure': 1 << 4,
  'refused-stream': 1 << 5,
  'retriable-4xx': 1 << 6,
  'retriable-status-codes': 1 << 7,
  'retriable-headers': 1 << 8,
  'envoy-ratelimited': 1 << 9,
  // Nothing speaks HTTP/3 here: it never applies.
  'http3-post-connect-failure': 1 << 10,
  cancelled: 1 << 11,
  'deadline-exceeded': 1 << 12,
  internal: 1 << 13,
  'resource-exhausted': 1 << 14,
  unavailable: 1 << 15,
} as const satisfies Record<RetryCondition, number>

/** Any end without a response. */
const ANY_RESET = BITS['5xx'] | BITS['gateway-error'] | BITS.reset

/** The condition that names a gRPC status; 0: none does. */
function grpcBit(status: number): number {
  switch (status) {
    case 1:
      return BITS.cancelled
    case 4:
      return BITS['deadline-exceeded']
    case 8:
      return BITS['resource-exhausted']
    case 13:
      return BITS.internal
    case 14:
      return BITS.unavailable
    default:
      return 0
  }
}

/** The set of these. */
export function conditionsOf(conditions: readonly RetryCondition[]): Conditions {
  return conditions.reduce((all, condition) => all | BITS[condition], 0)
}

/** The conditions in a header's comma-separated list; what is none of `known` is left out, as Envoy does. */
export function conditionsIn(list: string | undefined, known: readonly RetryCondition[]): Conditions {
  if (list === undefined) return 0
  let all = 0
  for (const item of list.split(',')) {
    const name = item.trim() as RetryCondition
    if (known.includes(name)) all |= BITS[name]
  }
  return all
}

/** What a response is compared with, besides the conditions themselves. */
export interface ResponseCriteria {
  readonly conditions: Conditions
  hasStatus(status: number): boolean
  hasHeader(headers: Headers): boolean
}

/** Whether this head of a response is one to be tried again. */
export function retriesResponse(criteria: ResponseCriteria, status: number, headers: Headers): boolean {
  const { conditions } = criteria
  // Only whoever asks for it retries what another proxy has turned away by a limit.
  if (headers.has('x-envoy-ratelimited')) return (conditions & BITS['envoy-ratelimited']) !== 0
  if ((conditions & BITS['5xx']) !== 0 && status >= 500 && status < 600) return true
  if ((conditions & BITS['gateway-error']) !== 0 && status >= 502 && status <= 504) return true
  if ((conditions & BITS['retriable-4xx']) !== 0 && status === 409) return true
  if ((conditions & BITS['retriable-status-codes']) !== 0 && criteria.hasStatus(status)) return true
  if ((conditions & BITS['retriable-headers']) !== 0 && criteria.hasHeader(headers)) return true
  const grpc = grpcStatusIn(headers)
  return grpc !== undefined && (conditions & grpcBit(grpc)) !== 0
}

/** Whether an end without a response is one to be tried again. `begun`: something of the request may have left. */
export function retriesReset(conditions: Conditions, why: Failure, begun: boolean): boolean {
  // Limits of our own, no host to be had, a request that cannot be sent: nobody else would fare better.
  if (why.source !== 'upstream') return false
  if ((conditions & ANY_RESET) !== 0) return true
  if ((conditions & BITS['refused-stream']) !== 0 && why === FAILURES.upstreamRefused) return true
  if ((conditions & BITS['connect-failure']) !== 0 && isConnectFailure(why)) return true
  return (conditions & BITS['reset-before-request']) !== 0 && (!begun || why === FAILURES.upstreamUnsent)
}

function isConnectFailure(why: Failure): boolean {
  return why === FAILURES.connectFailed || why === FAILURES.connectTimeout || why === FAILURES.dnsFailed
}

/** Whether a try that took too long is one to be made again. */
export function retriesTimeout(conditions: Conditions, begun: boolean): boolean {
  return (conditions & ANY_RESET) !== 0 || ((conditions & BITS['reset-before-request']) !== 0 && !begun)
}
