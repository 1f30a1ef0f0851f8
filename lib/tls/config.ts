import type { CidrConfig, StringMatchConfig } from '../match/config.ts'

/** A certificate chain and its key, PEM; the key may be encrypted. */
export interface CertificateConfig {
  readonly certificateChain: string
  readonly privateKey: string
  readonly passphrase?: string
  /** An OCSP response for the certificate, DER in base64. */
  readonly ocspStaple?: string
}

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3'

/** One accepted form of a subject alternative name. */
export interface SanMatchConfig {
  readonly type: 'dns' | 'uri' | 'email' | 'ip' | 'other'
  /** Of the `other` name (RFC 5280 §4.2.1.6), dotted; set with that type only. */
  readonly oid?: string
  readonly match: StringMatchConfig
}

/** The authorities of one SPIFFE trust domain. */
export interface TrustDomainConfig {
  /** `example.org`, without scheme. */
  readonly name: string
  /** PEM */
  readonly trustedCa: string
}

/** How the peer's certificate is checked. */
export interface CertificateValidationConfig {
  /** PEM of the authorities trusted; undefined: those of the system where `systemRoots`, otherwise none. */
  readonly trustedCa?: string
  readonly systemRoots: boolean
  /** The certificate must have one that matches; empty: any. */
  readonly sans: readonly SanMatchConfig[]
  /** The certificate must have exactly one URI, as workloads' have (X509-SVID §2): of two, which one is it? Default: no. */
  readonly svid?: boolean
  /** Certificates that do not verify are accepted (they give no identity). */
  readonly acceptUntrusted: boolean
  readonly crl?: string
  /** Revocation is checked for the end entity alone; `crl` must be signed by authorities of `trustedCa`. */
  readonly leafCrlOnly?: boolean
  /** SHA-256 of certificates, hexadecimal, lower case. With `spkis`: the peer's must be in either list. */
  readonly hashes?: readonly string[]
  /** SHA-256 of public keys (SubjectPublicKeyInfo), base64. */
  readonly spkis?: readonly string[]
  /** Certificates between the end entity and an authority that is trusted, at most; undefined: any number. */
  readonly maxDepth?: number
  /** Certificates count as valid whatever the time is. Not with `crl` for the whole chain. */
  readonly allowExpired?: boolean
  /** Instead of `trustedCa`: the peer's SPIFFE ID says whose authorities must have issued it. */
  readonly trustDomains?: readonly TrustDomainConfig[]
}

/** Where the secrets of sessions are written, for debugging. Empty lists: of all connections. */
export interface KeyLogConfig {
  readonly path: string
  /** Of the addresses at either end of the connection. */
  readonly localRanges: readonly CidrConfig[]
  readonly remoteRanges: readonly CidrConfig[]
}

/**
 * Secrets that a discovery service delivers, by the keys that the control process has for them. It puts them in the place of
 * this before the configuration leaves it: nothing that compiles a configuration ever sees it.
 */
export interface TlsSecretsConfig {
  /** After `certificates` of the configuration itself. */
  readonly certificates: readonly string[]
  /** Instead of `validation`, or merged over it where that is set too (Envoy's `combined_validation_context`). */
  readonly validation?: string
  /** Names in `validation` count only where the delivered part has none (Envoy's deprecated list of names). */
  readonly defaultSans?: true
  readonly ticketKeys?: string
}

interface CommonTlsConfig {
  readonly secrets?: TlsSecretsConfig
  /** A secret that it needs has not come: every handshake fails. */
  readonly notReady?: true
  readonly certificates: readonly CertificateConfig[]
  readonly alpn: readonly string[]
  readonly minVersion: TlsVersion
  readonly maxVersion: TlsVersion
  /** OpenSSL names; undefined: for servers those with forward secrecy and AEAD, for clients those of the runtime. */
  readonly cipherSuites?: readonly string[]
  /** Key exchange groups in order of preference. */
  readonly groups: readonly string[]
  /** Names of TLS 1.3 (`ecdsa_secp256r1_sha256`), for both sides' signatures; undefined: those of the runtime. */
  readonly signatureAlgorithms?: readonly string[]
  readonly validation?: CertificateValidationConfig
  readonly keyLog?: KeyLogConfig
}

/** What becomes of clients that ask for the certificate's status where there is no staple, or an old one. */
export type OcspPolicy = 'lenient' | 'strict' | 'must'

/** Envoy's DownstreamTlsContext, resolved. */
export interface DownstreamTlsConfig extends CommonTlsConfig {
  readonly requireClientCertificate: boolean
  /** Handshakes that take longer are broken off, ms. */
  readonly handshakeTimeoutMs: number
  readonly sessionTickets: boolean
  /** 80 bytes each, base64; the first encrypts. Undefined: keys of the gateway's own, new ones every day. */
  readonly ticketKeys?: readonly string[]
  /** For how long sessions can be resumed, s; undefined: 300. */
  readonly sessionTimeoutS?: number
  /** Clients that name no server are refused. */
  readonly requireSni?: boolean
  /** A name that no certificate has gets the first of each key type, not only those of the first name. */
  readonly fullScan?: boolean
  /** Of cipher suites, the client's order counts. */
  readonly preferClientCiphers?: boolean
  readonly ocspPolicy?: OcspPolicy
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
