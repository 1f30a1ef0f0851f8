import type {
  ClientCertificateActionConfig,
  ClientCertificateField,
  ClientCertificateHeaderConfig,
} from '../../lib/config/listener.ts'
import type { ConnectionInfo, TlsInfo, TlsPeer } from '../../lib/core/connection.ts'
import type { Headers } from '../../lib/core/headers.ts'
import { mapActions } from '../../lib/match/map-actions.ts'
import { compileMatcherTree, type MatchData } from '../../lib/match/tree.ts'
import { jsonElementOf, withJsonElement } from './client-cert-json.ts'

/** The header that tells upstreams of the client's certificate. */
export const CLIENT_CERT = 'x-forwarded-client-cert'

/** Sets, forwards or removes the header of one request; `data`: what it may be chosen by, the request and its connection. */
export type ClientCertHeader = (headers: Headers, connection: ConnectionInfo, data: MatchData) => void

/**
 * Compiles what becomes of X-Forwarded-Client-Cert (Envoy's `forward_client_cert_details`): a list of elements, one per
 * proxy, of pairs such as `By=spiffe://me;Hash=…;Subject="CN=client";URI=spiffe://client`.
 *
 * Only a certificate that was verified counts: without one the header is removed in every mode but
 * `always-forward-only`, which leaves it to whoever can connect.
 */
export function compileClientCert(config: ClientCertificateHeaderConfig): ClientCertHeader {
  const usual = compileAction(config)
  if (config.byRequest === undefined) return usual
  const find = compileMatcherTree(mapActions(config.byRequest, compileAction))
  return (headers, connection, data) => (find(data) ?? usual)(headers, connection, data)
}

function compileAction({ mode, fields, format }: ClientCertificateActionConfig): ClientCertHeader {
  if (mode === 'sanitize') return (headers) => headers.delete(CLIENT_CERT)
  if (mode === 'always-forward-only') return () => {}
  if (mode === 'forward-only') {
    return (headers, { tls }) => {
      if (tls?.peer === undefined) headers.delete(CLIENT_CERT)
    }
  }
  const append = mode === 'append-forward'
  const addText = textAdder(fields, append)
  return format === 'json' ? jsonAdder(fields, append, addText) : addText
}

function jsonAdder(
  fields: readonly ClientCertificateField[],
  append: boolean,
  addText: ClientCertHeader,
): ClientCertHeader {
  const elementFor = elementsOf(jsonElementOf, fields)
  return (headers, connection, data) => {
    const element = elementFor(connection.tls)
    if (element === undefined) {
      headers.delete(CLIENT_CERT)
      return
    }
    const value = withJsonElement(append ? headers.getAll(CLIENT_CERT) : [], element)
    if (value === undefined) addText(headers, connection, data)
    else headers.put(CLIENT_CERT, value)
  }
}

function textAdder(fields: readonly ClientCertificateField[], append: boolean): ClientCertHeader {
  const elementFor = elementsOf(elementOf, fields)
  return (headers, { tls }) => {
    const element = elementFor(tls)
    if (element === undefined) {
      headers.delete(CLIENT_CERT)
      return
    }
    const before = append ? headers.join(CLIENT_CERT) : undefined
    headers.put(CLIENT_CERT, before === undefined || before === '' ? element : `${before},${element}`)
  }
}

/** Makes each connection's element once: certificates are long, and stay the same. Undefined without one that is verified. */
function elementsOf(
  make: typeof elementOf,
  fields: readonly ClientCertificateField[],
): (tls: TlsInfo | undefined) => string | undefined {
  const elements = new WeakMap<TlsInfo, string>()
  return (tls) => {
    if (tls?.peer === undefined) return undefined
    let element = elements.get(tls)
    if (element === undefined) {
      element = make(tls, tls.peer, fields)
      elements.set(tls, element)
    }
    return element
  }
}

/** In Envoy's order, whatever the order of `fields`. */
function elementOf(tls: TlsInfo, peer: TlsPeer, fields: readonly ClientCertificateField[]): string {
  const pairs = (tls.local?.uriSans ?? []).map((uri) => `By=${value(uri)}`)
  pairs.push(`Hash=${peer.sha256}`)
  if (fields.includes('cert') && peer.pem !== '') pairs.push(`Cert="${encodePem(peer.pem)}"`)
  if (fields.includes('chain') && peer.chainPem !== '') pairs.push(`Chain="${encodePem(peer.chainPem)}"`)
  if (fields.includes('subject')) pairs.push(`Subject="${withinQuotes(peer.subject)}"`)
  if (fields.includes('uri')) addNames(pairs, 'URI', peer.uriSans)
  if (fields.includes('dns')) addNames(pairs, 'DNS', peer.dnsSans)
  if (fields.includes('issuer')) pairs.push(`Issuer="${withinQuotes(peer.issuer)}"`)
  return pairs.join(';')
}

/** URI is there even where there is no name to give, as in Envoy. */
function addNames(pairs: string[], key: 'URI' | 'DNS', names: readonly string[]): void {
  for (const name of names) pairs.push(`${key}=${value(name)}`)
  if (names.length === 0 && key === 'URI') pairs.push('URI=')
}

/**
 * Names are the client's (through its CA): one with a comma or a semicolon in it must not pass for another element.
 * Envoy, whose documentation asks for the quotes, does not set them.
 */
function value(name: string): string {
  // All in it that means something within quotes is escaped: whoever undoes that has the name itself.
  return /[,;="\\]/.test(name) ? `"${printable(name).replace(/["\\]/g, '\\$&')}"` : name
}

/** Quotes that nothing escapes yet get their backslash: distinguished names (RFC 2253) come with theirs. */
function withinQuotes(text: string): string {
  return printable(text).replace(/\\.|\\$|"/g, (found) => (found.length === 2 ? found : `\\${found}`))
}

/** What a header value holds; distinguished names are printable ASCII as they come, so this changes none of them. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?')
}

function encodePem(pem: string): string {
  return encodeURIComponent(pem.replaceAll('\r', ''))
}
