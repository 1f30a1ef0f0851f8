import type { Address, EndpointAddress } from '../core/address.ts'
import { formatAddress } from '../core/address.ts'
import type { Attempt, UpstreamEvents, UpstreamStream } from '../core/attempt.ts'
import type { JsonObject } from '../core/errors.ts'
import type { AddedTlvConfig, EndpointConfig, LocalityConfig } from './config.ts'

/**
 * The connections of one host, whatever they speak; the cluster puts it there, and whoever removes the host closes it. A
 * closed pool still serves a request whose host was chosen a moment before; nothing is kept for later then.
 */
export interface HostPool {
  /** Starts one attempt. Undefined where it failed at once: `onReset` has told why. */
  open(attempt: Attempt, events: UpstreamEvents): UpstreamStream | undefined
  /** Idle connections close now, busy ones after the exchanges they carry. Idempotent. */
  close(): void
  /** Ends busy connections too, and whoever waits for one. */
  destroy(): void
}

/** An endpoint whose address is an IP address or a pipe. `key` is its identity where the address is none (LOGICAL_DNS). */
export interface ResolvedEndpoint extends EndpointConfig {
  readonly key?: string
}

/** Endpoints of one locality at one priority, as discovery delivers them. */
export interface ResolvedLocality {
  readonly locality?: LocalityConfig
  readonly priority: number
  readonly weight?: number
  readonly endpoints: readonly ResolvedEndpoint[]
  readonly metadata?: JsonObject
}

/** How a host counts for balancing: Envoy's three coarse states. */
export type HostHealth = 'healthy' | 'degraded' | 'unhealthy'

/** Envoy's words in `/clusters`, by configured health; EDS TIMEOUT counts as failed. */
const FLAG_WORDS = {
  healthy: 'healthy',
  unhealthy: '/failed_eds_health',
  timeout: '/failed_eds_health',
  draining: '/eds_status_draining',
  degraded: '/degraded_eds_health',
} as const satisfies Record<EndpointConfig['health'], string>

/**
 * One endpoint of one cluster. It keeps its identity (pool and counts) while updates bring the same `key`; weight,
 * health, locality, metadata and, for LOGICAL_DNS, the address may change in place. Only its `HostSet` changes them.
 *
 * The counts are plain numbers, for `/clusters` and for balancing: Envoy keeps no named statistics per host.
 */
export class Host {
  /** Address (or logical name) and priority: unique within a cluster. */
  readonly key: string
  readonly priority: number
  address: EndpointAddress
  /** `ip:port` or the pipe's path: what logs print. */
  addressText: string
  /** '' where neither the configuration nor DNS gave a name. */
  hostname: string
  /** At least 1. */
  weight: number
  locality: LocalityConfig | undefined
  configuredHealth: EndpointConfig['health']
  health: HostHealth
  metadata: JsonObject | undefined
  localityMetadata: JsonObject | undefined = undefined
  /** Besides `address`; a connection goes to the one that answers first. */
  additionalAddresses: readonly Address[]
  proxyAddress: Address | undefined
  addedTlvs: readonly AddedTlvConfig[] | undefined
  pool: HostPool | undefined = undefined

  cxActive = 0
  cxTotal = 0
  cxConnectFail = 0
  rqActive = 0
  rqTotal = 0
  rqSuccess = 0
  rqError = 0
  rqTimeout = 0

  constructor(endpoint: ResolvedEndpoint, priority: number, locality: LocalityConfig | undefined) {
    this.key = hostKey(endpoint, priority)
    this.priority = priority
    this.address = endpoint.address
    this.addressText = formatAddress(endpoint.address)
    this.hostname = endpoint.hostname ?? ''
    this.weight = endpoint.weight
    this.locality = locality
    this.configuredHealth = endpoint.health
    this.health = coarseHealth(endpoint.health)
    this.metadata = endpoint.metadata
    this.additionalAddresses = endpoint.additionalAddresses ?? NO_ADDRESSES
    this.proxyAddress = endpoint.proxyAddress
    this.addedTlvs = endpoint.addedTlvs
  }

  /** Takes over what an update says of the same endpoint. */
  assign(endpoint: ResolvedEndpoint, locality: LocalityConfig | undefined): void {
    this.address = endpoint.address
    this.addressText = formatAddress(endpoint.address)
    this.hostname = endpoint.hostname ?? ''
    this.weight = endpoint.weight
    this.locality = locality
    this.configuredHealth = endpoint.health
    this.health = coarseHealth(endpoint.health)
    this.metadata = endpoint.metadata
    this.additionalAddresses = endpoint.additionalAddresses ?? NO_ADDRESSES
    this.proxyAddress = endpoint.proxyAddress
    this.addedTlvs = endpoint.addedTlvs
  }

  /** `healthy`, or the flags against it, as Envoy's admin prints them (`/failed_eds_health`). */
  healthFlags(): string {
    return FLAG_WORDS[this.configuredHealth]
  }
}

const NO_ADDRESSES: readonly Address[] = Object.freeze([])

/** The identity of an endpoint within its cluster. */
export function hostKey(endpoint: ResolvedEndpoint, priority: number): string {
  return `${endpoint.key ?? formatAddress(endpoint.address)}@${priority}`
}

function coarseHealth(health: EndpointConfig['health']): HostHealth {
  if (health === 'healthy' || health === 'degraded') return health
  return 'unhealthy'
}
