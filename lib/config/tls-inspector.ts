import type { FilterChainConfig, ListenerFilterConfig } from './listener.ts'

const TLS_INSPECTOR = 'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector'
const HTTP_INSPECTOR = 'envoy.extensions.filters.listener.http_inspector.v3.HttpInspector'

/** What plaintext is told to speak by its first bytes; all other protocols are found in TLS alone. */
const PLAIN_PROTOCOLS: ReadonlySet<string> = new Set(['http/1.0', 'http/1.1', 'h2c'])

/**
 * Whether filter chains are chosen by what only the TLS inspector finds although it is not listed. As Envoy, which adds
 * it then; protocols that the HTTP inspector finds do not need it where that one is listed.
 */
export function wantsTlsInspector(
  chains: readonly FilterChainConfig[],
  filters: readonly ListenerFilterConfig[],
): boolean {
  if (hasTlsInspector(filters)) return false
  const http = filters.some(({ typeUrl }) => typeUrl === HTTP_INSPECTOR)
  return chains.some(({ match }) => {
    if (match === undefined || match.transportProtocol === 'raw_buffer') return false
    if (match.transportProtocol === 'tls' || match.serverNames.length > 0) return true
    return match.applicationProtocols.some((name) => !http || !PLAIN_PROTOCOLS.has(name))
  })
}

export function hasTlsInspector(filters: readonly ListenerFilterConfig[]): boolean {
  return filters.some(({ typeUrl }) => typeUrl === TLS_INSPECTOR)
}

/** Where the TLS inspector belongs: after what unwraps, before the HTTP inspector, which leaves TLS alone. */
export function inspectorPlace(filters: readonly ListenerFilterConfig[]): number {
  const http = filters.findIndex(({ typeUrl }) => typeUrl === HTTP_INSPECTOR)
  return http < 0 ? filters.length : http
}
