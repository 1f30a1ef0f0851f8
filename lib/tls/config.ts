import type { StringMatchConfig } from '../match/config.ts'

/** A certificate chain and its key, PEM; the key may be encrypted. */
export interface CertificateConfig {
  readonly certificateChain: string
  readonly privateKey: string
  readonly passphrase?: string
}

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3'

/** One accepted form of a subject alternative name. */
export interface SanMatchConfig {
  readonly type: 'dns' | 'uri' | 'email' | 'ip'
  readonly match: StringMatchConfig
}

/** How the peer's certificate is checked. */
export interface CertificateValidationConfig {
  /** PEM of the authorities trusted; undefined: those of the system where `systemRoots`, otherwise none. */
  readonly trustedCa?: string
  readonly systemRoots: boolean
  /** The certificate must have one that matches; empty: any. */
  readonly sans: readonly SanMatchConfig[]
  /** Certificates that do not verify are accepted (they give no identity). */
  readonly acceptUntrusted: boolean
  readonly crl?: string
}

interface CommonTlsConfig {
  readonly certificates: readonly CertificateConfig[]
  readonly alpn: readonly string[]
  readonly minVersion: TlsVersion
  readonly maxVersion: TlsVersion
  /** OpenSSL names; undefined: those of the runtime. */
  readonly cipherSuites?: readonly string[]
  /** Key exchange groups in order of preference. */
  readonly groups: readonly string[]
  readonly validation?: CertificateValidationConfig
}

/** Envoy's DownstreamTlsContext, resolved. */
export interface DownstreamTlsConfig extends CommonTlsConfig {
  readonly requireClientCertificate: boolean
  /** Handshakes that take longer are broken off, ms. */
  readonly handshakeTimeoutMs: number
  readonly sessionTickets: boolean
}

/** Envoy's UpstreamTlsContext, resolved. */
export interface UpstreamTlsConfig extends CommonTlsConfig {
  /** '' sends none, unless `autoSni`. */
  readonly sni: string
  /** SNI from the endpoint's hostname (`auto_host_sni`) or from the request's authority (`auto_sni`). */
  readonly autoSni: 'none' | 'host' | 'authority'
  /** The certificate must name the SNI. */
  readonly autoSanValidation: boolean
  /** Sessions kept for resumption; 0: none. */
  readonly maxSessionKeys: number
}
