import type { ClientCertificateField } from '../../lib/config/listener.ts'
import type { TlsInfo, TlsPeer } from '../../lib/core/connection.ts'

/**
 * An element of X-Forwarded-Client-Cert as JSON (Envoy's `format: JSON`, whose header is an array of such objects): the same
 * facts in the same order as in the text form, names in lists, certificates as PEM; what is empty is left out.
 */
export function jsonElementOf(tls: TlsInfo, peer: TlsPeer, fields: readonly ClientCertificateField[]): string {
  const by = tls.local?.uriSans ?? []
  const element: Record<string, string | readonly string[]> = {}
  if (by.length > 0) element.by = by
  element.hash = peer.sha256
  if (fields.includes('cert') && peer.pem !== '') element.cert = peer.pem
  if (fields.includes('chain') && peer.chainPem !== '') element.chain = certificatesOf(peer.chainPem)
  if (fields.includes('subject') && peer.subject !== '') element.subject = peer.subject
  if (fields.includes('uri') && peer.uriSans.length > 0) element.uri = peer.uriSans
  if (fields.includes('dns') && peer.dnsSans.length > 0) element.dns = peer.dnsSans
  if (fields.includes('issuer') && peer.issuer !== '') element.issuer = peer.issuer
  return ascii(JSON.stringify(element))
}

/**
 * The header with one more element. Undefined: what there is, is no JSON array, and so an element in the text form has to
 * follow it (as with Envoy). Lines of several proxies, each an array, become one array.
 */
export function withJsonElement(before: readonly string[], element: string): string | undefined {
  let inner = ''
  for (const line of before) {
    if (line.trim() === '') continue
    const array = arrayIn(line)
    if (array === undefined) return undefined
    for (const entry of array) inner += `${ascii(JSON.stringify(entry))},`
  }
  return `[${inner}${element}]`
}

function arrayIn(line: string): readonly unknown[] | undefined {
  if (!line.trimStart().startsWith('[') || isDeep(line)) return undefined
  try {
    return JSON.parse(line) as readonly unknown[]
  } catch {
    return undefined
  }
}

/** Elements are objects of texts and lists: who nests deeper sends no such header, and writing it down again takes stack. */
const MAX_DEPTH = 8

function isDeep(json: string): boolean {
  let depth = 0
  let quoted = false
  for (let i = 0; i < json.length; i++) {
    const char = json[i]
    if (char === '"') quoted = !quoted
    else if (quoted) {
      if (char === '\\') i++
    } else if (char === '[' || char === '{') {
      if (++depth > MAX_DEPTH) return true
    } else if (char === ']' || char === '}') depth--
  }
  return false
}

/** One of each certificate, as they stand in a PEM text. */
function certificatesOf(pem: string): readonly string[] {
  return pem.match(/-----BEGIN [^-]+-----[^-]*-----END [^-]+-----\r?\n?/g) ?? []
}

/** What a header value holds. */
function ascii(json: string): string {
  return json.replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
