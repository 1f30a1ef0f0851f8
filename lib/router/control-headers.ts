import type { Failure } from '../core/failure.ts'
import type { Headers } from '../core/headers.ts'

/** What callers tell the router itself; the upstream has no use for it (Envoy consumes them as well). */
const CONTROL: ReadonlySet<string> = new Set([
  'x-envoy-hedge-on-per-try-timeout',
  'x-envoy-max-retries',
  'x-envoy-retriable-header-names',
  'x-envoy-retriable-status-codes',
  'x-envoy-retry-grpc-on',
  'x-envoy-retry-on',
  'x-envoy-upstream-alt-stat-name',
  'x-envoy-upstream-rq-per-try-timeout-ms',
  'x-envoy-upstream-rq-timeout-alt-response',
  'x-envoy-upstream-stream-duration-ms',
])
const PREFIX = 'x-envoy-'

/** What a request's own headers say of its retries. */
export interface ControlHeaders {
  readonly retryOn: string | undefined
  readonly retryGrpcOn: string | undefined
  /** Undefined where it is missing or no number. */
  readonly maxRetries: number | undefined
  readonly statuses: readonly number[]
  /** Lower case. */
  readonly headerNames: readonly string[]
  readonly perTryTimeoutMs: number | undefined
  readonly hedge: boolean | undefined
  /** Instead of the cluster's. */
  readonly streamDurationMs: number | undefined
  /** Timeouts are answered with 204 instead of 504. */
  readonly emptyTimeouts: boolean
}

/**
 * Takes the headers that are addressed to the router; undefined where there are none. Strangers' ones have been removed
 * before: what is here is from an internal caller, or from a filter.
 */
export function takeControlHeaders(headers: Headers): ControlHeaders | undefined {
  if (!hasControl(headers.raw)) return undefined
  const hedge = headers.get('x-envoy-hedge-on-per-try-timeout')
  const taken: ControlHeaders = {
    retryOn: headers.join('x-envoy-retry-on'),
    retryGrpcOn: headers.join('x-envoy-retry-grpc-on'),
    maxRetries: wholeNumber(headers.get('x-envoy-max-retries')),
    statuses: listed(headers.join('x-envoy-retriable-status-codes'))
      .map(wholeNumber)
      .filter((status) => status !== undefined),
    headerNames: listed(headers.join('x-envoy-retriable-header-names')).map((name) => name.toLowerCase()),
    perTryTimeoutMs: wholeNumber(headers.get('x-envoy-upstream-rq-per-try-timeout-ms')),
    streamDurationMs: wholeNumber(headers.get('x-envoy-upstream-stream-duration-ms')),
    emptyTimeouts: headers.has('x-envoy-upstream-rq-timeout-alt-response'),
    hedge: hedge === 'true' ? true : hedge === 'false' ? false : undefined,
  }
  headers.deleteWhere((name) => CONTROL.has(name))
  return taken
}

/** What a failure is answered with. `emptyTimeouts` as in `ControlHeaders`. */
export function statusOf({ code, status }: Failure, emptyTimeouts: boolean): number {
  return emptyTimeouts && code === 'upstream-timeout' ? NO_CONTENT : status
}

const NO_CONTENT = 204

function hasControl(raw: readonly string[]): boolean {
  for (let i = 0; i < raw.length; i += 2) if (raw[i].startsWith(PREFIX) && CONTROL.has(raw[i])) return true
  return false
}

function listed(value: string | undefined): string[] {
  if (value === undefined) return []
  return value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
}

function wholeNumber(value: string | undefined): number | undefined {
  return value !== undefined && /^\d{1,9}$/.test(value) ? Number(value) : undefined
}
