import type { ListenerFilterFactory } from '../../lib/chain/network.ts'
import { parseTlsInspector, type TlsInspectorConfig } from './config.ts'
import { compileTlsInspector } from './filter.ts'

/**
 * Tells TLS from plaintext by the first bytes, and reads server name and protocols from the ClientHello, so that filter
 * chains can be chosen by them; nothing is consumed. On request it makes JA3 and JA4 fingerprints.
 *
 * Posture: parses bytes of anybody who can connect, incrementally, and keeps at most one hello of 16 KiB meanwhile.
 *
 * Counters: `tls_inspector.` `tls_found`, `tls_not_found`, `sni_found`, `sni_not_found`, `alpn_found`, `alpn_not_found`,
 * `client_hello_too_large`; histogram `bytes_processed`.
 */
export const tlsInspector: ListenerFilterFactory<TlsInspectorConfig> = Object.freeze({
  name: 'envoy.filters.listener.tls_inspector',
  typeUrls: ['envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector'],
  inspector: true,
  parse: parseTlsInspector,
  compile: compileTlsInspector,
})
