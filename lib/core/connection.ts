import type { EndpointAddress } from './address.ts'
import type { Json, JsonObject } from './errors.ts'

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
  #metadata: Map<string, Json> | undefined = undefined
  #objects: Map<string, unknown> | undefined = undefined

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

  /** Filter state: an object that an earlier filter has left under this key. */
  object(key: string): unknown {
    return this.#objects?.get(key)
  }

  setObject(key: string, value: unknown): void {
    this.#objects ??= new Map()
    this.#objects.set(key, value)
  }
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
