import { isGrpc } from '../core/grpc.ts'
import type { Headers } from '../core/headers.ts'
import { isShortWithin } from '../core/short-text.ts'
import type { ForwardingStart } from './attempt.ts'
import { grpcTimeoutText } from './grpc-timeout.ts'

/**
 * The last changes to a request: the route's edits, then host, then path (Envoy's order). `expectedMs`: what the upstream
 * is told that it has; 0: nothing. Answers the authority as it was
 * before it was rewritten; undefined: it has not been.
 *
 * @throws TypeError where a filter has left something that cannot be sent as it is.
 */
export function prepareRequest(start: ForwardingStart, expectedMs: number): string | undefined {
  const { exchange, route, action } = start
  const { config } = start.router
  const { request, head } = exchange
  route.requestHeaderEdits?.(request, exchange)
  const rewrites = action.rewriteHost !== undefined && !action.autoHostRewrite
  const authority = rewrites ? rewriteAuthority(start, undefined, '') : undefined
  if (action.rewritePath !== undefined) {
    const original = head.path
    head.path = action.rewritePath(exchange)
    // Also where nothing changed, as Envoy does.
    if (!config.suppressEnvoyHeaders) request.put('x-envoy-original-path', original)
  }
  if (expectedMs > 0) tellExpected(start, expectedMs)
  if (route.includeAttemptCount) request.put('x-envoy-attempt-count', '1')
  // A filter may have written these; what reaches the wire must be one request line and one Host.
  if (!isVisible(head.path) || !isVisible(head.authority) || !isVisible(head.method)) {
    throw new TypeError('the request line or authority holds a character it may not')
  }
  return authority
}

/** What headers say of attempts after the first. `expectedMs` as in `prepareRequest`. */
export function tellAttempt(start: ForwardingStart, attempt: number, expectedMs: number): void {
  if (start.route.includeAttemptCount) start.exchange.request.put('x-envoy-attempt-count', String(attempt))
  if (expectedMs > 0) tellExpected(start, expectedMs)
}

function tellExpected({ exchange, action, router }: ForwardingStart, expectedMs: number): void {
  const { request } = exchange
  if (!router.config.suppressEnvoyHeaders) request.put('x-envoy-expected-rq-timeout-ms', String(expectedMs))
  // Where the caller's `grpc-timeout` is heard, the upstream is to know what came of it.
  if (action.grpcTimeoutMaxMs === undefined || action.streamTimeouts || !isGrpc(request)) return
  request.put('grpc-timeout', grpcTimeoutText(expectedMs))
}

/**
 * Gives the request the authority that the route says for a host of that name. `before`: the authority before it was
 * rewritten for another host; answered as by `prepareRequest`.
 */
export function rewriteAuthority(
  { exchange, action, router }: ForwardingStart,
  before: string | undefined,
  hostname: string,
): string | undefined {
  const { head, request } = exchange
  const host = action.rewriteHost?.(exchange, hostname)
  if (before !== undefined) {
    // Another host of a repeated attempt: what was added for the first one is true of it as well.
    head.authority = host || before
    return before
  }
  if (host === undefined || host === '' || host === head.authority) return undefined
  const original = head.authority
  if (action.appendXForwardedHost) appendForwardedHost(request, original)
  if (!router.config.suppressEnvoyHeaders) request.put('x-envoy-original-host', original)
  head.authority = host
  return original
}

/** One field, as Envoy keeps it: `first, second`. */
function appendForwardedHost(request: Headers, authority: string): void {
  const before = request.join('x-forwarded-host')
  request.put('x-forwarded-host', before === undefined ? authority : `${before},${authority}`)
}

/** Visible ASCII and nothing else: what a request line and a Host may hold. */
function isVisible(text: string): boolean {
  return isShortWithin(text, 0x21, 0x7e) || /^[\x21-\x7e]*$/.test(text)
}
