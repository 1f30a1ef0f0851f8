import type { Host } from '../host.ts'

/** Hosts with the share that each is to get; shares add up to 1. What tables of hashes are built from. */
export interface HostShares {
  readonly hosts: readonly Host[]
  readonly shares: Float64Array
  /** Of the shares, both 0 where there is no host. */
  readonly smallest: number
  readonly largest: number
}

/** Hosts that have a weight together; within the group each has its own. */
export interface HostGroup {
  readonly hosts: readonly Host[]
  readonly weight: number
}

/** Shares by weight of the group, then of the host. Groups without weight are left out (Envoy's locality weights). */
export function hostShares(groups: readonly HostGroup[]): HostShares {
  let total = 0
  let count = 0
  for (const { hosts, weight } of groups) {
    total += weight
    if (weight > 0) count += hosts.length
  }
  const hosts: Host[] = []
  const shares = new Float64Array(count)
  let smallest = count === 0 ? 0 : 1
  let largest = 0
  for (const group of groups) {
    if (group.weight <= 0) continue
    const part = group.weight / total
    let sum = 0
    for (const host of group.hosts) sum += host.weight
    for (const host of group.hosts) {
      const share = (host.weight * part) / sum
      shares[hosts.push(host) - 1] = share
      if (share < smallest) smallest = share
      if (share > largest) largest = share
    }
  }
  return { hosts, shares, smallest, largest }
}

/** What an endpoint is hashed by: `hash_key` of its metadata, else its name if asked for, else its address. */
export function hashKey(host: Host, byHostname: boolean): string {
  const labels = host.metadata?.['envoy.lb']
  if (typeof labels === 'object' && labels !== null && !Array.isArray(labels)) {
    const key = labels.hash_key
    if (typeof key === 'string' && key !== '') return key
  }
  return byHostname && host.hostname !== '' ? host.hostname : host.addressText
}
