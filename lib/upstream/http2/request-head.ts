import type { Attempt } from '../../core/attempt.ts'
import type { RequestHead } from '../../core/head.ts'
import { Headers } from '../../core/headers.ts'

/**
 * The pseudo-fields of an attempt. An HTTP/1 Upgrade becomes an extended CONNECT (RFC 8441 §5). `:scheme` is what the
 * client's request says, as in Envoy; only where that is nothing the transport decides.
 */
export function wireHead(attempt: Attempt, secure: boolean): RequestHead {
  const { head, upgrade } = attempt
  const tunnel = upgrade && head.protocol !== undefined
  const plain = head.protocol === undefined && head.scheme !== '' && (head.path !== '' || head.method === 'CONNECT')
  if (plain) return head
  return {
    method: tunnel ? 'CONNECT' : head.method,
    scheme: head.scheme === '' ? (secure ? 'https' : 'http') : head.scheme,
    authority: head.authority,
    path: head.path === '' ? '/' : head.path,
    protocol: tunnel ? head.protocol : undefined,
  }
}

/**
 * The fields of an attempt as they go out. The session leaves out what HTTP/2 forbids of any message; this is about
 * requests. The attempt's own list is left alone: another attempt may need what this one drops.
 */
export function wireHeaders(attempt: Attempt): Headers {
  const { headers, upgrade, end } = attempt
  const { raw } = headers
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]
    if (isDropped(name, upgrade) || (end && name === 'content-length' && raw[i + 1] !== '0')) return cleaned(attempt)
  }
  return headers
}

function cleaned(attempt: Attempt): Headers {
  const { raw, neverIndexed } = attempt.headers
  const out: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    if (isDropped(raw[i], attempt.upgrade)) continue
    // A request that ends with its head has no other length (RFC 9113 §8.1.1).
    out.push(raw[i], attempt.end && raw[i] === 'content-length' ? '0' : raw[i + 1])
  }
  return new Headers(out, undefined, neverIndexed)
}

function isDropped(name: string, upgrade: boolean): boolean {
  switch (name) {
    case 'host':
      // `:authority` says it (RFC 9113 §8.3.1).
      return true
    case 'http2-settings':
      return true
    case 'content-length':
    case 'sec-websocket-key':
      // RFC 9110 §9.3.6: CONNECT has no content. RFC 8441 §5: the key is not used.
      return upgrade
    default:
      return false
  }
}
