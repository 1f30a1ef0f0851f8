import { formatAddress } from '../core/address.ts'
import type { ClusterStatus, EngineStatus, HostStatus, ListenerStatus } from './engine.ts'

/** One status for all workers: every listener, cluster and host once, the hosts' numbers added up. */
export function mergeStatus(parts: readonly EngineStatus[]): EngineStatus {
  if (parts.length === 1) return parts[0]
  return {
    listeners: mergeListeners(parts.flatMap((p) => p.listeners)),
    clusters: mergeClusters(parts.flatMap((p) => p.clusters)),
  }
}

function mergeListeners(all: readonly ListenerStatus[]): ListenerStatus[] {
  const byName = new Map<string, ListenerStatus>()
  for (const listener of all) {
    const known = byName.get(listener.name)
    if (known === undefined) byName.set(listener.name, listener)
    else {
      // The same sockets serve all workers; more addresses appear only where each worker had to bind its own.
      const seen = new Set(known.addresses.map(formatAddress))
      const more = listener.addresses.filter((a) => !seen.has(formatAddress(a)))
      if (more.length > 0) byName.set(listener.name, { ...known, addresses: [...known.addresses, ...more] })
    }
  }
  return [...byName.values()]
}

function mergeClusters(all: readonly ClusterStatus[]): ClusterStatus[] {
  const byName = new Map<string, { first: ClusterStatus; hosts: Map<string, HostStatus> }>()
  for (const cluster of all) {
    let merged = byName.get(cluster.name)
    if (merged === undefined) byName.set(cluster.name, (merged = { first: cluster, hosts: new Map() }))
    for (const host of cluster.hosts) {
      // Of one address there may be several, each at its own priority.
      const key = `${host.address}@${host.priority}`
      const known = merged.hosts.get(key)
      merged.hosts.set(key, known === undefined ? host : mergeHost(known, host))
    }
  }
  return [...byName.values()].map(({ first, hosts }) => ({ ...first, hosts: [...hosts.values()] }))
}

function mergeHost(a: HostStatus, b: HostStatus): HostStatus {
  const stats = new Map(Object.entries(a.stats))
  for (const [name, value] of Object.entries(b.stats)) stats.set(name, (stats.get(name) ?? 0) + value)
  // What speaks against a host in one of the workers is shown: that is what an operator looks for.
  const health = a.health === b.health ? a.health : bothFlags(a.health, b.health)
  return { ...a, health, stats: Object.fromEntries(stats) }
}

/** `/failed_active_hc` and `healthy`, for example; the words of either, none twice. */
function bothFlags(a: string, b: string): string {
  const words = new Set([a, b].flatMap((flags) => (flags === 'healthy' ? [] : flags.split('/').slice(1))))
  return [...words].map((word) => `/${word}`).join('')
}
