import { transportError } from '../../lib/tls/failure-text.ts'

/** How requests of HTTP/1 begin, and the preface of HTTP/2. */
const REQUEST_START = /^(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) /

const BODY = 'This port speaks HTTPS; the request was plain HTTP.\n'

const REPLY = `HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 52\r\nConnection: close\r\n\r\n${BODY}`

function isRequest(first: Buffer): boolean {
  return REQUEST_START.test(first.toString('latin1', 0, 8))
}

/** What a client is told that does not speak TLS; undefined for one that would not understand. */
export function foreignReply(first: Buffer): string | undefined {
  return isRequest(first) && !first.toString('latin1', 0, 4).startsWith('PRI') ? REPLY : undefined
}

/** The same for logs, in Envoy's words. */
export function foreignReason(first: Buffer): string {
  if (isRequest(first)) return transportError(268435612, 'HTTP_REQUEST')
  return transportError(268435703, 'WRONG_VERSION_NUMBER')
}
