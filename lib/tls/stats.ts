import type { Counter, Metrics } from '../core/metrics.ts'

/** Counters of one TLS context under Envoy's names (`<prefix>ssl.handshake`). */
export interface TlsStats {
  readonly handshake: Counter
  /** Handshakes that failed for other reasons than the peer's certificate. */
  readonly connectionError: Counter
  /** Those among them with a client that does not speak TLS. */
  readonly notTls: Counter
  /** Good handshakes without a peer certificate. */
  readonly noCertificate: Counter
  readonly failVerifyNoCert: Counter
  readonly failVerifyError: Counter
  readonly failVerifySan: Counter
  readonly failVerifyCertHash: Counter
  readonly sessionReused: Counter
  readonly ocspRequests: Counter
  readonly ocspResponses: Counter
  readonly ocspOmitted: Counter
  readonly ocspFailed: Counter
  /** Connections that were refused because a secret had not come (`notReady`). */
  readonly notReady: Counter
  /** Times that other secrets have come. */
  readonly secretUpdates: Counter
  /** One more of that name (`ciphers`, `versions`, `curves`): counters that come up as they are met. */
  readonly met: (kind: 'ciphers' | 'versions' | 'curves', name: string) => void
}

/** Cells for a listener (`listener.<prefix>.`) or a cluster (`cluster.<name>.`); `prefix` ends with its dot. */
export function tlsStats(metrics: Metrics, prefix: string, side: 'client' | 'server' = 'client'): TlsStats {
  const factory = `${prefix}${side}_ssl_socket_factory.`
  const stream = side === 'client' ? 'upstream' : 'downstream'
  const cell = (name: string): Counter => metrics.counter(`${prefix}ssl.${name}`)
  const met = new Map<string, Counter>()
  return {
    handshake: cell('handshake'),
    connectionError: cell('connection_error'),
    notTls: cell('not_tls'),
    noCertificate: cell('no_certificate'),
    failVerifyNoCert: cell('fail_verify_no_cert'),
    failVerifyError: cell('fail_verify_error'),
    failVerifySan: cell('fail_verify_san'),
    failVerifyCertHash: cell('fail_verify_cert_hash'),
    sessionReused: cell('session_reused'),
    ocspRequests: cell('ocsp_staple_requests'),
    ocspResponses: cell('ocsp_staple_responses'),
    ocspOmitted: cell('ocsp_staple_omitted'),
    ocspFailed: cell('ocsp_staple_failed'),
    notReady: metrics.counter(`${factory}${stream}_context_secrets_not_ready`),
    secretUpdates: metrics.counter(`${factory}ssl_context_update_by_sds`),
    met(kind, name) {
      const key = `${kind}.${name}`
      let counter = met.get(key)
      if (counter === undefined) {
        counter = cell(key)
        met.set(key, counter)
      }
      counter.v++
    },
  }
}
