import type { LocalityConfig } from './config.ts'
import type { Host } from './host.ts'
import { distributeLoad, type HostChoice, type LoadRules } from './priority-load.ts'

/** The hosts of one locality at one priority. */
export interface HostLocality {
  readonly locality: LocalityConfig | undefined
  /** Envoy's `load_balancing_weight` of the locality; 0 where it has none. */
  readonly weight: number
  readonly hosts: readonly Host[]
}

/** What a balancer chooses from: the hosts of a cluster, or some of them. Arrays are immutable and replaced. */
export interface HostView {
  readonly all: readonly Host[]
  /** Index = priority. */
  readonly priorities: readonly (readonly Host[])[]
  readonly localities: readonly (readonly HostLocality[])[]
  readonly choices: readonly HostChoice[]
  readonly rules: LoadRules
  /** Calls `listener` after each change, until the returned function is called. */
  onChange(listener: () => void): () => void
}

/** Hosts whose flags are raised and lowered, by checks and outlier detection. */
export interface FlaggedHosts {
  readonly all: Iterable<Host>
  /** True: they changed. */
  flag(host: Host, mask: number, on: boolean): boolean
  /** What follows from flags holds when this returns, and not at the end of the turn. */
  turnEnds(): void
}

/** Where requests go as if these priorities had no hosts; all of them where nothing else is left (`previous_priorities`). */
export function choicesWithout(view: HostView, spent: readonly number[]): readonly HostChoice[] {
  const left = view.priorities.map((hosts, priority) => (spent.includes(priority) ? [] : hosts))
  const choices = left.some((hosts) => hosts.length > 0) ? distributeLoad(left, view.rules) : []
  return choices.length > 0 ? choices : view.choices
}

/** Identity of a locality within a priority. */
export function localityKey(locality: LocalityConfig | undefined, priority: number): string {
  return locality === undefined
    ? `${priority}`
    : JSON.stringify([priority, locality.region, locality.zone, locality.subZone])
}

/** Groups the hosts of a priority by locality, in the order of the localities' names (Envoy's). */
export function localitiesOf(
  hosts: readonly Host[],
  priority: number,
  weights: ReadonlyMap<string, number>,
): readonly HostLocality[] {
  const groups = new Map<string, { locality: LocalityConfig | undefined; weight: number; hosts: Host[] }>()
  for (const host of hosts) {
    const key = localityKey(host.locality, priority)
    const group = groups.get(key)
    if (group !== undefined) group.hosts.push(host)
    else groups.set(key, { locality: host.locality, weight: weights.get(key) ?? 0, hosts: [host] })
  }
  return [...groups.values()].sort((a, b) => compare(a.locality, b.locality))
}

function compare(a: LocalityConfig | undefined, b: LocalityConfig | undefined): number {
  return (
    order(a?.region ?? '', b?.region ?? '') ||
    order(a?.zone ?? '', b?.zone ?? '') ||
    order(a?.subZone ?? '', b?.subZone ?? '')
  )
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

export function sameLocality(a: LocalityConfig | undefined, b: LocalityConfig | undefined): boolean {
  return compare(a, b) === 0
}

/** Those of `hosts` that a choice may use. */
export function usable(hosts: readonly Host[], { panic, degraded }: HostChoice): readonly Host[] {
  if (panic) return hosts
  const health = degraded ? 'degraded' : 'healthy'
  return hosts.filter((host) => host.health === health && !host.excluded)
}
