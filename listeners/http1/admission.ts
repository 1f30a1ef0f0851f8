import type { Exchange } from '../../lib/chain/exchange.ts'
import type { HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import type { RequestHead } from '../../lib/core/head.ts'
import { Headers } from '../../lib/core/headers.ts'
import type { Head, HeadLimits } from '../../lib/http1/head-parser.ts'
import { isAuthority } from '../../lib/http1/tokens.ts'
import { resolveTarget } from '../http/authority.ts'
import type { Codec, ConnectionManager } from '../http/connection-manager.ts'
import type { Refusal } from '../http/local-reply.ts'
import { overloadRefusal } from '../http/overload.ts'

/**
 * What HTTP/1 alone must check of a parsed head: its version, and target and Host together (RFC 9112 §3.2), from which
 * authority and path follow. Answers why the request is refused.
 */
export function admitHttp1(exchange: Exchange, head: Head, manager: ConnectionManager): Refusal | undefined {
  const overload = overloadRefusal(exchange, manager)
  if (overload !== undefined) return overload
  const { config } = manager
  const request = exchange.head
  if (head.minor === 0) {
    if (!config.http1.acceptHttp10) return LOW_VERSION
    if (head.host === undefined) request.authority = config.http1.defaultHostForHttp10
  }
  const { target } = head
  if (head.method === 'CONNECT' && (head.chunked || head.contentLength > 0)) return CONNECT_BODY
  if (target.charCodeAt(0) === 47 && head.method !== 'CONNECT') {
    if (isAuthority(request.authority)) return undefined
    return head.host === undefined ? NO_HOST : BAD_HOST
  }
  const host = head.host ?? (head.minor === 0 && request.authority !== '' ? request.authority : undefined)
  if (head.host === undefined && head.minor === 1) return NO_HOST
  const outcome = resolveTarget(head.method, target, host, config.http1.allowAbsoluteUrl)
  if (outcome.kind === 'refuse') return { status: 400, details: outcome.details }
  if (outcome.scheme === 'https' && exchange.connection.tls === undefined) return HTTPS_OVER_PLAINTEXT
  request.authority = outcome.authority
  request.path = outcome.path
  return undefined
}

/** What would follow it is the tunnel's or the body's, and nobody can tell which (RFC 9110 §9.3.6). */
const CONNECT_BODY: Refusal = Object.freeze({ status: 400, details: 'http1.connect_with_body' })
const LOW_VERSION: Refusal = Object.freeze({ status: 426, details: 'low_version' })
const NO_HOST: Refusal = Object.freeze({ status: 400, details: 'missing_host_header' })
const BAD_HOST: Refusal = Object.freeze({ status: 400, details: 'http1.invalid_host' })
const HTTPS_OVER_PLAINTEXT: Refusal = Object.freeze({ status: 400, details: 'http1.https_over_plaintext' })

/** The exchange of a parsed head, as it stands before anything of it is checked. `bodyless`: nothing follows the head. */
export function openHttp1(codec: Codec, manager: ConnectionManager, head: Head, bodyless: boolean): Exchange {
  const request: RequestHead = {
    method: head.method,
    scheme: codec.info.tls === undefined ? 'http' : 'https',
    authority: head.host ?? '',
    path: head.target,
    // HTTP/1.0 knows no Upgrade, and with a body it may be ignored (RFC 9110 §7.8).
    protocol: head.minor === 0 || !bodyless || head.upgrade === '' ? undefined : head.upgrade,
  }
  const protocol = head.minor === 1 ? 'HTTP/1.1' : 'HTTP/1.0'
  const exchange = manager.open(codec, request, new Headers(head.raw, head.cased), protocol)
  exchange.info.requestHeaderBytes = head.bytes
  return exchange
}

/**
 * True where the client may send bytes of a tunnel behind this head, granted or not. A client, or a proxy before us, that
 * did not wait for the answer would see them read as requests. `h2c` alone is excepted: many clients offer it with every
 * first request, and what they send after an answer in HTTP/1 is HTTP/1.
 */
export function asksForTunnel(head: Head): boolean {
  return head.method === 'CONNECT' || (head.upgrade !== '' && head.upgrade !== 'h2c')
}

/** What a head may be, as configured. */
export function headLimits(config: HttpConnectionManagerConfig): HeadLimits {
  return {
    lineBytes: config.maxRequestLineBytes,
    headerBytes: config.maxRequestHeaderBytes,
    headers: config.maxRequestHeaders,
  }
}
