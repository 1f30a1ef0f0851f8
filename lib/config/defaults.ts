/* Defaults that rooms publish for the dialects to fill in; translators outside of lib know rooms by their types alone. */

export { EDGE_HTTP2, ENVOY_HTTP2 } from '../http2/config.ts'
export { EDGE_OUTLIER, ENVOY_OUTLIER } from '../upstream/outlier/config.ts'

/** Key exchange groups, hybrid first, where a configuration names none: a superset of Envoy's. */
export const TLS_GROUPS: readonly string[] = Object.freeze(['X25519MLKEM768', 'X25519', 'P-256'])

/** TLS handshakes are broken off after so many ms where a configuration says nothing. */
export const TLS_HANDSHAKE_MS = 10_000
