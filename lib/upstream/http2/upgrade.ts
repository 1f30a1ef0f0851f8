import type { Attempt } from '../../core/attempt.ts'
import type { Headers } from '../../core/headers.ts'
import { websocketAccept } from '../../core/websocket.ts'

/**
 * Turns the 2xx of an (extended) CONNECT into the answer that an HTTP/1 upstream would have given: the status is
 * returned, `headers` are changed. A WebSocket client that sent a key gets the answer to it, which RFC 8441 leaves out.
 */
export function grant(attempt: Attempt, status: number, headers: Headers): number {
  // A tunnel has no content, whatever its head says (RFC 9110 §9.3.6).
  headers.delete('content-length')
  const { protocol } = attempt.head
  if (protocol === undefined) return status
  headers.put('upgrade', protocol)
  headers.put('connection', 'upgrade')
  const key = attempt.headers.get('sec-websocket-key')
  if (protocol.toLowerCase() === 'websocket' && key !== undefined && !headers.has('sec-websocket-accept')) {
    headers.put('sec-websocket-accept', websocketAccept(key))
  }
  return 101
}
