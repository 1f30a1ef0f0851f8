import { FAILURES, type Failure } from '../core/failure.ts'
import type { Try } from './try.ts'

/** Attempts of a request that no upstream has looked at. */
const MAX_UNPROCESSED = 4

/** A request whose try has ended without a response. */
export interface Unanswered {
  readonly method: string
  /** Made so far. */
  readonly attempts: number
  readonly bodyless: boolean
  /** All that was sent of it is still at hand. */
  readonly whole: boolean
}

/**
 * Whether a request may be sent again though no policy says so. What the upstream never looked at (a refused HTTP/2
 * stream, one beyond its GOAWAY) is, whatever it is, as long as all of it is still at hand. A pooled connection that its
 * peer had closed may have brought the request there: only where a repetition cannot do harm (RFC 9110 §9.2.2), nothing is
 * lost by it (no body), and once.
 */
export function mayRepeat(by: Try, why: Failure, { method, attempts, bodyless, whole }: Unanswered): boolean {
  if (why === FAILURES.upstreamRefused || why === FAILURES.upstreamUnsent) return attempts < MAX_UNPROCESSED && whole
  if (why.retry !== 'reused' || !by.reused || !bodyless) return false
  return attempts < 2 && isIdempotent(method)
}

function isIdempotent(method: string): boolean {
  return (
    method === 'GET' ||
    method === 'HEAD' ||
    method === 'OPTIONS' ||
    method === 'TRACE' ||
    method === 'PUT' ||
    method === 'DELETE'
  )
}
