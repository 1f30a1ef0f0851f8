import type { Address } from '../core/address.ts'
import type { JsonObject } from '../core/errors.ts'
import type { ClusterConfig, LocalityConfig } from '../upstream/config.ts'
import type { ListenerConfig } from './listener.ts'

/** Who this proxy is; goes to control planes and into formats. */
export interface NodeConfig {
  readonly id: string
  readonly cluster: string
  readonly locality?: LocalityConfig
  readonly metadata?: JsonObject
}

export interface AdminConfig {
  readonly address: Address
}

/**
 * The one intermediate representation: plain JSON-safe data that every dialect is translated into and that a snapshot is
 * compiled from. Fully resolved: no reader of it knows a default.
 */
export interface GatewayConfig {
  readonly node: NodeConfig
  readonly admin?: AdminConfig
  readonly listeners: readonly ListenerConfig[]
  readonly clusters: readonly ClusterConfig[]
  /** Downstream connections of all listeners together, per worker; undefined: no limit. */
  readonly maxConnections?: number
  /** Flattened static runtime layers; later layers have won. */
  readonly runtime: JsonObject
  /** Fields that were set and have no effect, by path: for the config dump. */
  readonly ignored: readonly string[]
  /** The configuration as its author wrote it, for `/config_dump`; undefined for native configurations. */
  readonly source?: JsonObject
}
