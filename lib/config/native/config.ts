import type { JsonObject } from '../../core/errors.ts'
import type { LocalityConfig } from '../../upstream/config.ts'
import type { NativeAddress, NativeCluster } from './clusters.ts'
import type { NativeHttp } from './http.ts'
import type { NativeMetadata } from './matches.ts'
import type { NativeDownstreamTls } from './tls.ts'

/** One listener: where it listens, and what it does with connections. */
export interface NativeListener {
  /** Unique. Default: the first address as text. */
  readonly name?: string
  /** One address or several; port 0 takes any free port. Hosts are IP addresses: `0.0.0.0:80`, `[::]:80`. */
  readonly address: NativeAddress | readonly NativeAddress[]
  readonly http: NativeHttp
  /** Default: none, plaintext. */
  readonly tls?: NativeDownstreamTls
  /** Name in statistics: `listener.<statPrefix>.`. Default: the first address. */
  readonly statPrefix?: string
  /** Open connections, per worker; more are reset. Default: 10,000. */
  readonly maxConnections?: number
  /** What one connection holds in memory per direction before its sender has to wait. Default: 32 KiB. */
  readonly bufferLimitBytes?: number
  /** Connections that wait to be accepted. Default: 65,535, which the system cuts down to its own limit. */
  readonly backlog?: number
  readonly metadata?: NativeMetadata
}

/**
 * The configuration of a gateway, as plain data (and filter objects). Everything with a default may be left out; a field
 * that does not exist is a mistake.
 *
 * @example
 * const config: NativeConfig = {
 *   listeners: [
 *     {
 *       name: 'main',
 *       address: '127.0.0.1:8080',
 *       http: { routes: [{ match: { prefix: '/' }, action: { kind: 'route', cluster: 'web' } }] },
 *     },
 *   ],
 *   clusters: [{ name: 'web', endpoints: ['127.0.0.1:3000', '127.0.0.1:3001'] }],
 * }
 */
export interface NativeConfig {
  /** Who this gateway is; goes into formats and `/server_info`. */
  readonly node?: {
    readonly id?: string
    readonly cluster?: string
    readonly locality?: Partial<LocalityConfig>
    readonly metadata?: JsonObject
  }
  /** Serves statistics and more at this address, without authentication: keep it on loopback. Default: no admin server. */
  readonly admin?: { readonly address: NativeAddress }
  readonly listeners: readonly NativeListener[]
  readonly clusters?: readonly NativeCluster[]
  /** Values by key, for settings that have a `runtimeKey`. */
  readonly runtime?: JsonObject
}
