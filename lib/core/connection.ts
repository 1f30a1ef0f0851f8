import type { EndpointAddress } from './address.ts'
import type { Json, JsonObject } from './errors.ts'
import type { OverloadLevers } from './overload.ts'

/** What is known of a TLS session; undefined on plaintext. */
export interface TlsInfo {
  readonly version: string
  readonly cipher: string
  readonly group: string | undefined
  readonly serverName: string | undefined
  readonly alpn: string | undefined
  /** Only of a certificate that was verified. */
  readonly peer: TlsPeer | undefined
  /** The peer has shown a certificate that was not verified and is tolerated all the same: it is nobody's identity. */
  readonly peerUnverified: boolean
  /** The certificate that was shown to the peer; undefined where there is none, as with most clients. */
  readonly local: TlsLocal | undefined
  /** Hexadecimal; '' where the session has none (TLS 1.3 with tickets has one of its own making). */
  readonly sessionId: string
}

/** A certificate of the peer that was verified. Texts are as Envoy prints them. */
export interface TlsPeer {
  /** RFC 2253, last component first: `CN=a,O=b`; '' for an empty one. */
  readonly subject: string
  readonly issuer: string
  /** Hexadecimal, lower case, without leading zeros. */
  readonly serial: string
  readonly uriSans: readonly string[]
  readonly dnsSans: readonly string[]
  readonly emailSans: readonly string[]
  /** In their one spelling. */
  readonly ipSans: readonly string[]
  /** Of the DER, hexadecimal, lower case, without colons. */
  readonly sha256: string
  readonly sha1: string
  /** Milliseconds since the epoch. */
  readonly validFromMs: number
  readonly validToMs: number
  /** The certificate itself; made when it is first asked for. */
  readonly pem: string
  /** The certificate and what the peer sent (or the runtime found) above it, leaf first; made when first asked for. */
  readonly chainPem: string
}

/** The certificate that this side has shown. */
export interface TlsLocal {
  readonly subject: string
  readonly uriSans: readonly string[]
  readonly dnsSans: readonly string[]
}

/** A type-length-value of a PROXY protocol header of version 2. */
export interface ProxyTlv {
  readonly type: number
  readonly value: Uint8Array
}

/** What a PROXY protocol header said besides the addresses. */
export interface ProxyProtocolInfo {
  readonly version: 1 | 2
  /** In their order; of version 1 there are none. Types that say nothing (NOOP) are left out. */
  readonly tlvs: readonly ProxyTlv[]
}

/**
 * What listener and network filters leave on a connection for later filters, matchers, logs and the upstream side. One
 * per connection; HTTP exchanges on it see it below their own.
 */
export class ConnectionState {
  /** Internal listeners that the connection has come through, this one's included; 0 for sockets. */
  readonly depth: number
  /** Verified identity of the tunnel that the connection came in (HBONE); undefined where there is none. */
  readonly tunnelPeer: TlsPeer | undefined
  /** Set by its listener; undefined: it bypasses the overload manager, or there is none. */
  overload: OverloadLevers | undefined = undefined
  #metadata: Map<string, Json> | undefined = undefined
  #typed: Map<string, JsonObject> | undefined = undefined
  #objects: Map<string, unknown> | undefined = undefined
  #shared: Map<string, unknown> | undefined = undefined

  constructor(depth = 0, tunnelPeer?: TlsPeer) {
    this.depth = depth
    this.tunnelPeer = tunnelPeer
  }

  /** Dynamic metadata of one namespace (usually a filter's name). */
  metadata(namespace: string): Json | undefined {
    return this.#metadata?.get(namespace)
  }

  /** All of it, for who copies it; undefined where there is none. */
  get allMetadata(): ReadonlyMap<string, Json> | undefined {
    return this.#metadata
  }

  /** Objects are merged key by key, anything else replaces. */
  mergeMetadata(namespace: string, value: Json): void {
    this.#metadata ??= new Map()
    const old = this.#metadata.get(namespace)
    this.#metadata.set(namespace, isObject(old) && isObject(value) ? { ...old, ...value } : value)
  }

  /** Typed metadata of one namespace: an Any as JSON, with its `@type`. */
  typedMetadata(namespace: string): JsonObject | undefined {
    return this.#typed?.get(namespace)
  }

  setTypedMetadata(namespace: string, any: JsonObject): void {
    this.#typed ??= new Map()
    this.#typed.set(namespace, any)
  }

  /** Filter state: an object that an earlier filter has left under this key. */
  object(key: string): unknown {
    return this.#objects?.get(key)
  }

  /** `shared`: connections within the gateway that are made on behalf of this one get it too (`internal_upstream`). */
  setObject(key: string, value: unknown, shared = false): void {
    this.#objects ??= new Map()
    this.#objects.set(key, value)
    if (!shared) {
      this.#shared?.delete(key)
      return
    }
    this.#shared ??= new Map()
    this.#shared.set(key, value)
  }

  /** Objects that were set as `shared`; undefined where there are none. */
  get sharedObjects(): ReadonlyMap<string, unknown> | undefined {
    return this.#shared
  }
}

/** Who the client is known to be: its certificate on the connection itself, else that of the tunnel around it. */
export function verifiedPeer(connection: ConnectionInfo): TlsPeer | undefined {
  return connection.tls?.peer ?? connection.state.tunnelPeer
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * The facts of one downstream connection, read by matchers, filters and logs. Immutable: listener filters and the TLS
 * handshake make a new one that knows more; `state` is the same object in all of them.
 */
export interface ConnectionInfo {
  readonly id: number
  /** The peer of the socket itself, v4-mapped addresses made canonical. */
  readonly directRemoteAddress: string
  readonly directRemotePort: number
  /** The client's address after a trusted PROXY header; otherwise equal to the direct one. */
  readonly remoteAddress: string
  readonly remotePort: number
  /** The socket's own end. */
  readonly directLocalAddress: string
  readonly directLocalPort: number
  /** Where the client wanted to go: from a trusted PROXY header, or the original destination; otherwise the direct one. */
  readonly localAddress: string
  readonly localPort: number
  /** `ip`, `pipe` for Unix sockets, whose addresses are paths, or `internal` for connections from within. */
  readonly kind: EndpointAddress['kind']
  readonly listenerName: string
  readonly filterChainName: string
  /** As an inspector found it: `tls`, `raw_buffer`; '' where nobody looked. */
  readonly transportProtocol: '' | 'raw_buffer' | 'tls'
  /** The SNI that was asked for, lower case; from an inspector or the handshake. */
  readonly serverName: string | undefined
  /** Offered by ALPN, in the client's order, or told from the first bytes (`http/1.0`, `http/1.1`, `h2c`). */
  readonly applicationProtocols: readonly string[]
  /** Fingerprints of the ClientHello, where an inspector was told to make them. */
  readonly ja3: string | undefined
  readonly ja4: string | undefined
  /** Undefined where there was no PROXY header. */
  readonly proxyProtocol: ProxyProtocolInfo | undefined
  readonly tls: TlsInfo | undefined
  readonly state: ConnectionState
}

/** The same connection after its TLS handshake, which knows the server name where no inspector has looked. */
export function secured(facts: ConnectionInfo, tls: TlsInfo): ConnectionInfo {
  return { ...facts, tls, serverName: tls.serverName ?? facts.serverName }
}

/** Facts of a connection that nobody has looked into: every field but the addresses. */
export function plainConnection(
  facts: Pick<
    ConnectionInfo,
    'id' | 'remoteAddress' | 'remotePort' | 'localAddress' | 'localPort' | 'kind' | 'listenerName'
  >,
): ConnectionInfo {
  return {
    id: facts.id,
    directRemoteAddress: facts.remoteAddress,
    directRemotePort: facts.remotePort,
    remoteAddress: facts.remoteAddress,
    remotePort: facts.remotePort,
    directLocalAddress: facts.localAddress,
    directLocalPort: facts.localPort,
    localAddress: facts.localAddress,
    localPort: facts.localPort,
    kind: facts.kind,
    listenerName: facts.listenerName,
    filterChainName: '',
    transportProtocol: '',
    serverName: undefined,
    applicationProtocols: NONE,
    ja3: undefined,
    ja4: undefined,
    proxyProtocol: undefined,
    tls: undefined,
    state: new ConnectionState(),
  }
}

const NONE: readonly string[] = Object.freeze([])
