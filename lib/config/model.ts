import type { Address } from '../core/address.ts'
import type { JsonObject } from '../core/errors.ts'
import type { RouteTableConfig } from '../router/config.ts'
import type { AssignmentConfig, ClusterConfig, LocalityConfig } from '../upstream/config.ts'
import type { SecretConfig } from './change.ts'
import type { ListenerConfig } from './listener.ts'
import type { OverloadConfig } from './overload.ts'
import type { WatchdogsConfig } from './watchdog.ts'

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
  /** Those that connection managers name (`routeTable`); the name is unique. Undefined: none. */
  readonly routeTables?: readonly RouteTableConfig[]
  /** The endpoints of clusters of type `eds`, by the name that the cluster has for them. */
  readonly assignments?: readonly AssignmentConfig[]
  /** What filters ask for by name. */
  readonly secrets?: readonly SecretConfig[]
  /** Downstream connections of all listeners together, per worker; undefined: no limit. */
  readonly maxConnections?: number
  /** A whole number of the runtime under it goes before `maxConnections`. */
  readonly maxConnectionsKey?: string
  /** Undefined: nothing is watched, nothing is shed. */
  readonly overload?: OverloadConfig
  /** Of the processes of a gateway that has several. */
  readonly watchdogs?: WatchdogsConfig
  /** Flattened runtime layers; later layers have won. */
  readonly runtime: JsonObject
  /** Fields that were set and have no effect, by path: for the config dump. */
  readonly ignored: readonly string[]
  /** The configuration as its author wrote it, for `/config_dump`; undefined for native configurations. */
  readonly source?: JsonObject
}
