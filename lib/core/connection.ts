import type { Address } from './address.ts'

/** What is known of a TLS session; undefined on plaintext. */
export interface TlsInfo {
  readonly version: string
  readonly cipher: string
  readonly group: string | undefined
  readonly serverName: string | undefined
  readonly alpn: string | undefined
  /** Only of a certificate that was verified. */
  readonly peer: TlsPeer | undefined
}

export interface TlsPeer {
  readonly subject: string
  readonly uriSans: readonly string[]
  readonly dnsSans: readonly string[]
  readonly sha256: string
}

/** The facts of one downstream connection; made once when it is accepted, read by matchers, filters and logs. */
export interface ConnectionInfo {
  readonly id: number
  /** The peer of the socket itself, v4-mapped addresses made canonical. */
  readonly directRemoteAddress: string
  readonly directRemotePort: number
  /** The client's address after a trusted PROXY header; otherwise equal to the direct one. */
  readonly remoteAddress: string
  readonly remotePort: number
  readonly localAddress: string
  readonly localPort: number
  /** `ip`, or `pipe` for Unix sockets, whose addresses are paths. */
  readonly kind: Address['kind']
  readonly listenerName: string
  readonly filterChainName: string
  readonly tls: TlsInfo | undefined
}
