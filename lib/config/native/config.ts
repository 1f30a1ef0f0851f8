import type { JsonObject } from '../../core/errors.ts'
import type { LocalityConfig } from '../../upstream/config.ts'
import type { NativeAddress, NativeCluster } from './clusters.ts'
import type { NativeHboneServer } from './hbone.ts'
import type { NativeListener } from './listeners.ts'
import type { NativeOverload } from './overload.ts'
import type { NativeWatchdogs } from './watchdogs.ts'

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
  /** Open connections of all listeners together, in all workers; more are reset. Default: no limit. */
  readonly maxConnections?: number
  /**
   * The overload manager. Default: one that watches the memory of the container and the delay of the event loop
   * (`lib/config/native/resolve/overload.ts`). `false`: none.
   */
  readonly overload?: false | NativeOverload
  /** When processes that hang are counted, and killed. Default: nothing is counted. */
  readonly watchdogs?: NativeWatchdogs
  /** HBONE servers. Default: none. */
  readonly hbone?: readonly NativeHboneServer[]
  /** Values by key, for settings that have a `runtimeKey`. */
  readonly runtime?: JsonObject
}
