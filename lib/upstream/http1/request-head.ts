import type { Attempt } from '../../core/attempt.ts'
import { CHUNKED, type Framing, LENGTH, NO_BODY, parseContentLength } from '../../http1/framing.ts'
import type { HeaderCase, LineMemo } from '../../http1/head-writer.ts'

/** A request head as it goes on the wire, and how the body behind it is framed. */
export interface WireHead {
  readonly text: string
  readonly framing: Framing
  readonly length: number
}

/** Methods for which a missing body needs no `content-length: 0` (RFC 9110 §8.6). */
function expectsNoBody(method: string): boolean {
  switch (method) {
    case 'GET':
    case 'HEAD':
    case 'DELETE':
    case 'TRACE':
    case 'CONNECT':
      return true
    default:
      return false
  }
}

/**
 * Content-Length or chunked, never both: the framing is decided here, from what the body will be. `memo`: of the
 * connection.
 */
export function requestHead(attempt: Attempt, spelling: HeaderCase, memo: LineMemo): WireHead {
  const { head, headers, end } = attempt
  let framing: Framing = NO_BODY
  let length = 0
  let extra = ''
  const declared = headers.get('content-length')
  if (end) {
    if (declared !== undefined) headers.put('content-length', '0')
    else if (!expectsNoBody(head.method)) extra = 'content-length: 0\r\n'
  } else if (declared !== undefined && (length = parseContentLength(declared)) >= 0) {
    framing = LENGTH
  } else {
    framing = CHUNKED
    extra = 'transfer-encoding: chunked\r\n'
  }
  if (attempt.upgrade && head.method !== 'CONNECT') {
    const names = spelling === 'proper' ? 'Connection: Upgrade\r\nUpgrade: ' : 'connection: upgrade\r\nupgrade: '
    extra += names + head.protocol + '\r\n'
  }
  if (headers.has('te')) headers.delete('te')
  const host = spelling === 'lower' ? '\r\nhost: ' : '\r\nHost: '
  const version = ' HTTP/1.1'
  const path = head.method === 'CONNECT' ? head.authority : head.path === '' ? '/' : head.path
  const lines = memo.lines(headers, spelling, framing === CHUNKED)
  const text = head.method + ' ' + path + version + host + head.authority + '\r\n' + lines + extra + '\r\n'
  return { text, framing, length }
}
