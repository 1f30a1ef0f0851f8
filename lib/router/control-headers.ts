import type { Headers } from '../core/headers.ts'

/** What internal callers tell the router itself; the upstream has no use for it (Envoy consumes them as well). */
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

/** Removes the headers that are addressed to the router. Strangers' ones have been removed before. */
export function dropControlHeaders(headers: Headers): void {
  headers.deleteWhere((name) => CONTROL.has(name))
}
