import type { Address, EndpointAddress } from '../core/address.ts'
import { formatAddress } from '../core/address.ts'
import type { Attempt, HostMonitor, PickContext, UpstreamEvents, UpstreamStream } from '../core/attempt.ts'
import type { JsonObject } from '../core/errors.ts'
import type { AddedTlvConfig, EndpointCheckConfig, EndpointConfig, LocalityConfig } from './config.ts'
import { coarseHealth, configuredFlags, flagWords, HEALTH, type HostHealth, isExcluded } from './health-flags.ts'
import { joined, parted } from './host-monitors.ts'

export type { HostHealth } from './health-flags.ts'

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
  /**
   * Opens a connection for a request to come, if there is room and `ratio` times the requests there would be with it are
   * more than it has connections for. `like`: a request that it is taken to be like. False: it did not.
   */
  preconnect(ratio: number, like: PickContext): boolean
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
  /** What speaks against it: bits of `HEALTH`. */
  flags: number
  /** What follows from the flags for balancing. */
  health: HostHealth
  /** Neither counted among the hosts of its level nor used: it is new, or asked to be left out. */
  excluded = false
  /** Monotonic milliseconds: since when it has been in use as a healthy one; -1: it is not. Its `HostSet` keeps it. */
  healthySinceMs = -1
  metadata: JsonObject | undefined
  localityMetadata: JsonObject | undefined = undefined
  /** Besides `address`; a connection goes to the one that answers first. */
  additionalAddresses: readonly Address[]
  proxyAddress: Address | undefined
  addedTlvs: readonly AddedTlvConfig[] | undefined
  /** Where and under which name it is checked. */
  check: EndpointCheckConfig | undefined
  pool: HostPool | undefined = undefined
  /** Learns how attempts end; see `watch`. */
  monitor: HostMonitor | undefined = undefined

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
    this.flags = configuredFlags(endpoint.health)
    this.health = coarseHealth(this.flags)
    this.metadata = endpoint.metadata
    this.additionalAddresses = endpoint.additionalAddresses ?? NO_ADDRESSES
    this.proxyAddress = endpoint.proxyAddress
    this.addedTlvs = endpoint.addedTlvs
    this.check = endpoint.check
  }

  /** Takes over what an update says of the same endpoint. */
  assign(endpoint: ResolvedEndpoint, locality: LocalityConfig | undefined): void {
    this.address = endpoint.address
    this.addressText = formatAddress(endpoint.address)
    this.hostname = endpoint.hostname ?? ''
    this.weight = endpoint.weight
    this.locality = locality
    this.configuredHealth = endpoint.health
    this.setFlags(HEALTH.allConfigured, false)
    this.setFlags(configuredFlags(endpoint.health), true)
    this.metadata = endpoint.metadata
    this.additionalAddresses = endpoint.additionalAddresses ?? NO_ADDRESSES
    this.proxyAddress = endpoint.proxyAddress
    this.addedTlvs = endpoint.addedTlvs
    this.check = endpoint.check
  }

  /** Raises or lowers flags and what follows from them; false where they were so already. Its `HostSet` is to be told. */
  setFlags(mask: number, on: boolean): boolean {
    const flags = on ? this.flags | mask : this.flags & ~mask
    if (flags === this.flags) return false
    this.flags = flags
    this.health = coarseHealth(flags)
    this.excluded = isExcluded(flags)
    return true
  }

  has(mask: number): boolean {
    return (this.flags & mask) !== 0
  }

  /** From now on `monitor` learns how attempts on this host end, beside those that do already. */
  watch(monitor: HostMonitor): void {
    this.monitor = joined(this.monitor, monitor)
  }

  unwatch(monitor: HostMonitor): void {
    this.monitor = parted(this.monitor, monitor)
  }

  /** `healthy`, or the flags against it, as Envoy's admin prints them (`/failed_eds_health`). */
  healthFlags(): string {
    return flagWords(this.flags)
  }
}

const NO_ADDRESSES: readonly Address[] = Object.freeze([])

/** The identity of an endpoint within its cluster. */
export function hostKey(endpoint: ResolvedEndpoint, priority: number): string {
  return `${endpoint.key ?? formatAddress(endpoint.address)}@${priority}`
}
