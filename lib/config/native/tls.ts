import type { TlsVersion } from '../../tls/config.ts'
import type { NativeStringMatch } from './matches.ts'

/** PEM as text, or a file with it, which is read whenever the configuration is applied. */
export type NativePem = string | { readonly file: string }

/** A certificate chain, the end entity first, and its key. */
export interface NativeCertificate {
  readonly certificateChain: NativePem
  readonly privateKey: NativePem
  /** Where the key is encrypted. */
  readonly passphrase?: string
}

/** A subject alternative name that is accepted. */
export interface NativeSanMatch {
  readonly type: 'dns' | 'uri' | 'email' | 'ip'
  readonly match: NativeStringMatch
}

/** How the certificate of the other side is checked. */
export interface NativeCertificateValidation {
  /** The authorities that are trusted. Default: those of the system. */
  readonly trustedCa?: NativePem
  /** Trust the authorities of the system. Default: true where `trustedCa` is not set, and nobody else then. */
  readonly systemRoots?: boolean
  /** The certificate must have one that matches. Default: none, any certificate of the authorities will do. */
  readonly sans?: readonly NativeSanMatch[]
  /** Certificates that do not verify are accepted, and give no identity. Default: false. */
  readonly acceptUntrusted?: boolean
  /** Revocation lists; with one, every authority of a chain needs one. */
  readonly crl?: NativePem
}

interface NativeCommonTls {
  /** Protocols to agree on, the best first. Default: those that the codec or the cluster can speak. */
  readonly alpn?: readonly string[]
  /** Default: `TLSv1.2`. */
  readonly minVersion?: TlsVersion
  /** Default: `TLSv1.3`. */
  readonly maxVersion?: TlsVersion
  /** For TLS 1.2, by their OpenSSL or IANA names. Default: those of the runtime. */
  readonly cipherSuites?: readonly string[]
  /** Key exchange groups, the best first. Default: X25519MLKEM768, X25519, P-256. */
  readonly groups?: readonly string[]
}

/** TLS on a listener. */
export interface NativeDownstreamTls extends NativeCommonTls {
  /** Chosen by SNI and key type; the first where no name fits. */
  readonly certificates: readonly NativeCertificate[]
  /** Ask clients for a certificate, and check it. Default: do not ask. */
  readonly validation?: NativeCertificateValidation
  /** Clients without a certificate are refused. Default: true where `validation` is set. */
  readonly requireClientCertificate?: boolean
  /** Handshakes that take longer are broken off, ms. Default: 10,000. */
  readonly handshakeTimeoutMs?: number
  /** Stateless resumption. Default: true. */
  readonly sessionTickets?: boolean
}

/** TLS to a cluster. Without more, the endpoint's name is sent as SNI, and its certificate is checked for it. */
export interface NativeUpstreamTls extends NativeCommonTls {
  /** The client's certificate. Default: none. */
  readonly certificate?: NativeCertificate
  /** Default: the authorities of the system. To check nothing: `{ acceptUntrusted: true }`. */
  readonly validation?: NativeCertificateValidation
  /** The server name to send. Default: that of `autoSni`. */
  readonly sni?: string
  /** The server name is that of the endpoint, or that of the request. Default: `host` where `sni` is not set. */
  readonly autoSni?: 'none' | 'host' | 'authority'
  /** The certificate must be for the server name. Default: true unless `acceptUntrusted`, or where `sans` are listed. */
  readonly autoSanValidation?: boolean
  /** Sessions kept for resumption; 0: none. Default: 1. */
  readonly maxSessionKeys?: number
}
