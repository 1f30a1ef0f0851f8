import type { NativeAddress } from './clusters.ts'
import type { NativeHbone } from './hbone.ts'
import type { NativeUpstreamTls } from './tls.ts'

/** A type-length-value of a PROXY header. */
export interface NativeTlv {
  /** 0 to 255; 224 to 239 are free for applications. */
  readonly type: number
  /** Default: none; then `format` is needed. */
  readonly value?: string | Uint8Array
  /** Instead: a `%...%` format of the client's connection, such as `%DOWNSTREAM_PEER_URI_SAN%`. */
  readonly format?: string
}

/** A PROXY header at the start of every connection, which then carries the requests of one client connection alone. */
export interface NativeProxyHeader {
  readonly version: 1 | 2
  /** TLVs of the client's own PROXY header that go along, of version 2. Default: `none`. */
  readonly passTlvs?: 'none' | 'all' | readonly number[]
  /** Further TLVs, of version 2. Default: none. */
  readonly addedTlvs?: readonly NativeTlv[]
}

/** An HTTP/1 proxy that connections are made through, with CONNECT. */
export interface NativeConnectProxy {
  readonly address: NativeAddress
  /** What the proxy is asked for. Default: `hostname`, the endpoint's name where it has one, otherwise its address. */
  readonly target?: 'hostname' | 'address'
}

/** How endpoints are reached. */
export interface NativeTransport {
  /** Default: none, plaintext. */
  readonly tls?: NativeUpstreamTls
  /** Default: none. A number is short for that version. */
  readonly proxyProtocol?: 1 | 2 | NativeProxyHeader
  /** Default: none. */
  readonly connectProxy?: NativeAddress | NativeConnectProxy
  /** Connections are tunnels of a mesh; with none of the other layers, `tls` is spoken within. Default: none. */
  readonly hbone?: NativeHbone
}

/** TCP keep-alive probes. */
export interface NativeKeepalive {
  /** Seconds without traffic before the first. */
  readonly idleS: number
  /** Seconds between them. Default: the system's. */
  readonly intervalS?: number
  /** How many unanswered ones end the connection. Default: the system's. */
  readonly probes?: number
}
