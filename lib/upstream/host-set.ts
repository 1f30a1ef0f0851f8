import { sameJson } from '../core/same-json.ts'
import type { LocalityConfig } from './config.ts'
import type { ResolvedEndpoint, ResolvedLocality } from './host.ts'
import { Host, hostKey } from './host.ts'
import type { HostChoice } from './priority-load.ts'
import { distributeLoad } from './priority-load.ts'

export interface HostSetOptions {
  /** Percent of usable hosts below which a level is used whole (Envoy's `healthy_panic_threshold`); 0: never. Default 50. */
  readonly panicThreshold?: number
  /** Percent; default 140 (Envoy's `overprovisioning_factor`). */
  readonly overprovisioningFactor?: number
}

/** What an update did. `changed` is also true where hosts stayed and only weights, health or metadata moved. */
export interface HostSetChange {
  readonly added: readonly Host[]
  readonly removed: readonly Host[]
  readonly changed: boolean
}

/**
 * The hosts of one cluster, by priority. Arrays are immutable and replaced by updates, so whoever holds one keeps a
 * consistent view. Closing the pools of removed hosts is the caller's job.
 */
export class HostSet {
  #byKey: Map<string, Host> = new Map()
  #all: readonly Host[] = []
  #priorities: readonly (readonly Host[])[] = []
  #choices: readonly HostChoice[] = []
  #healthy = 0
  #degraded = 0
  readonly #listeners = new Set<() => void>()
  readonly #panicThreshold: number
  readonly #overprovisioningFactor: number

  constructor(options: HostSetOptions = {}) {
    this.#panicThreshold = Math.trunc(Math.min(100, options.panicThreshold ?? 50))
    this.#overprovisioningFactor = options.overprovisioningFactor ?? 140
  }

  /** All hosts, by priority and then in the order of the configuration or answer that brought them. */
  get all(): readonly Host[] {
    return this.#all
  }

  /** Index = priority; levels that the configuration skipped are empty. */
  get priorities(): readonly (readonly Host[])[] {
    return this.#priorities
  }

  /** Where requests may go, with their shares; empty where no host may be used. */
  get choices(): readonly HostChoice[] {
    return this.#choices
  }

  /** By `Host.key`. */
  find(key: string): Host | undefined {
    return this.#byKey.get(key)
  }

  get healthyCount(): number {
    return this.#healthy
  }

  get degradedCount(): number {
    return this.#degraded
  }

  /**
   * Replaces the membership. Hosts with the same key survive; of endpoints with equal keys the first counts (as Envoy).
   * An answer that differs only in order changes nothing, so that rotating DNS answers do not disturb balancers.
   */
  update(localities: readonly ResolvedLocality[]): HostSetChange {
    const next = new Map<string, Host>()
    const added: Host[] = []
    let changed = false
    for (const { priority, locality, endpoints, metadata } of localities) {
      for (const endpoint of endpoints) {
        const key = hostKey(endpoint, priority)
        if (next.has(key)) continue
        const known = this.#byKey.get(key)
        if (known === undefined) added.push(new Host(endpoint, priority, locality))
        else if (differs(known, endpoint, locality)) {
          known.assign(endpoint, locality)
          changed = true
        }
        const host = known ?? added[added.length - 1]
        if (!sameJson(host.localityMetadata, metadata)) {
          host.localityMetadata = metadata
          changed = true
        }
        next.set(key, host)
      }
    }
    const removed = this.#all.filter((host) => !next.has(host.key))
    if (added.length === 0 && removed.length === 0 && !changed) return { added, removed, changed: false }
    this.#byKey = next
    this.#compile([...next.values()])
    return { added, removed, changed: true }
  }

  /** Calls `listener` after each update that changed something, until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  #compile(hosts: Host[]): void {
    const priorities: Host[][] = []
    for (const host of hosts) {
      while (priorities.length <= host.priority) priorities.push([])
      priorities[host.priority].push(host)
    }
    this.#priorities = priorities
    this.#all = priorities.flat()
    this.#healthy = 0
    this.#degraded = 0
    for (const host of hosts) {
      if (host.health === 'healthy') this.#healthy++
      else if (host.health === 'degraded') this.#degraded++
    }
    this.#choices = distributeLoad(priorities, this.#panicThreshold, this.#overprovisioningFactor)
    for (const listener of this.#listeners) listener()
  }
}

function differs(host: Host, endpoint: ResolvedEndpoint, locality: LocalityConfig | undefined): boolean {
  return (
    host.weight !== endpoint.weight ||
    host.configuredHealth !== endpoint.health ||
    host.hostname !== (endpoint.hostname ?? '') ||
    !sameJson(host.address, endpoint.address) ||
    !sameJson(host.locality, locality) ||
    !sameJson(host.metadata, endpoint.metadata) ||
    !sameJson(host.additionalAddresses, endpoint.additionalAddresses ?? []) ||
    !sameJson(host.proxyAddress, endpoint.proxyAddress) ||
    !sameJson(host.addedTlvs, endpoint.addedTlvs)
  )
}
