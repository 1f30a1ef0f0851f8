import type { OcspPolicy, TlsVersion } from '../../tls/config.ts'
import type { NativeCidr, NativeStringMatch } from './matches.ts'

/** PEM as text, or a file with it, which is read whenever the configuration is applied. */
export type NativePem = string | { readonly file: string }

/** Bytes in base64, or a file with them. */
export type NativeBytes = string | { readonly file: string }

/** A certificate and its key: a chain in PEM, the end entity first, or a PKCS#12 file. */
export type NativeCertificate = NativePemCertificate | NativePkcs12

export interface NativePemCertificate extends NativeStaple {
  readonly certificateChain: NativePem
  readonly privateKey: NativePem
  /** Where the key is encrypted. */
  readonly passphrase?: string
}

export interface NativePkcs12 extends NativeStaple {
  readonly pkcs12: NativeBytes
  readonly passphrase?: string
}

interface NativeStaple {
  /** An OCSP response, DER, for clients that ask for the certificate's status. */
  readonly ocspStaple?: NativeBytes
}

/** A subject alternative name that is accepted. */
export interface NativeSanMatch {
  readonly type: 'dns' | 'uri' | 'email' | 'ip' | 'other'
  /** Of an `other` name, dotted: `1.3.6.1.4.1.311.20.2.3`. */
  readonly oid?: string
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
  /** With `crl`: the peer's own certificate alone is looked up; the lists must be signed by authorities of `trustedCa`. */
  readonly leafCrlOnly?: boolean
  /** SHA-256 of certificates, in hexadecimal. With `spkis`: the peer's must be in one of both. */
  readonly hashes?: readonly string[]
  /** SHA-256 of public keys (SubjectPublicKeyInfo), in base64. */
  readonly spkis?: readonly string[]
  /** Certificates between the peer's and a trusted authority, at most. Default: any number. */
  readonly maxDepth?: number
  /** Certificates count whatever the time is. Default: false. */
  readonly allowExpired?: boolean
  /** SPIFFE: authorities by trust domain, instead of `trustedCa`; the peer's ID says which count. */
  readonly trustDomains?: { readonly [domain: string]: NativePem }
}

/** Where the secrets of TLS sessions are written, for debugging: whoever has the file reads the connections. */
export interface NativeKeyLog {
  readonly path: string
  /** Only for connections with these addresses at this or the other end. Default: all. */
  readonly localRanges?: readonly NativeCidr[]
  readonly remoteRanges?: readonly NativeCidr[]
}

interface NativeCommonTls {
  /** Protocols to agree on, the best first. Default: those that the codec or the cluster can speak. */
  readonly alpn?: readonly string[]
  /** Default: `TLSv1.2`. */
  readonly minVersion?: TlsVersion
  /** Default: `TLSv1.3`. */
  readonly maxVersion?: TlsVersion
  /** For TLS 1.2, by their OpenSSL or IANA names. Default: ECDHE with AEAD on listeners, those of the runtime to clusters. */
  readonly cipherSuites?: readonly string[]
  /** Key exchange groups, the best first. Default: X25519MLKEM768, X25519, P-256. */
  readonly groups?: readonly string[]
  /** By their names in TLS 1.3, `ecdsa_secp256r1_sha256`. Default: those of the runtime. */
  readonly signatureAlgorithms?: readonly string[]
  /** Default: nothing is written anywhere. */
  readonly keyLog?: NativeKeyLog
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
  /** Of 80 bytes each; the first encrypts, the others open what they have encrypted. Default: keys that change daily. */
  readonly ticketKeys?: readonly NativeBytes[]
  /** How long sessions can be resumed, s. Default: 300. */
  readonly sessionTimeoutS?: number
  /** Clients that name no server are refused. Default: false. */
  readonly requireSni?: boolean
  /** A name that no certificate has gets the first of each key type. Default: false, those of the first name. */
  readonly fullScan?: boolean
  /** The client's order of cipher suites counts. Default: false. */
  readonly preferClientCiphers?: boolean
  /**
   * For clients that ask for an OCSP staple: `lenient` goes on without one that is valid, `strict` refuses where there is an
   * old one, `must` where there is none. Default: `lenient`.
   */
  readonly ocspPolicy?: OcspPolicy
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
