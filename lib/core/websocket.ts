import { createHash, randomBytes } from 'node:crypto'

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

/** The `Sec-WebSocket-Accept` that answers a key (RFC 6455 §4.2.2). */
export function websocketAccept(key: string): string {
  return createHash('sha1')
    .update(key + GUID)
    .digest('base64')
}

/** A new `Sec-WebSocket-Key`: HTTP/1 servers need one, clients over HTTP/2 send none (RFC 8441 §5). */
export function websocketKey(): string {
  return randomBytes(16).toString('base64')
}
