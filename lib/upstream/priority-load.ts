import type { Host } from './host.ts'

/** One list of hosts that takes `load` percent of the requests; the loads of all choices add up to 100. */
export interface HostChoice {
  readonly hosts: readonly Host[]
  readonly load: number
  readonly priority: number
  /** True where health is disregarded because too few hosts of the level are usable. */
  readonly panic: boolean
  /** The hosts are the degraded ones of the level. */
  readonly degraded: boolean
}

/** How the health of levels counts. */
export interface LoadRules {
  /** Percent of usable hosts below which a level is used whole; 0: never. */
  readonly panicThreshold: number
  /** Percent. */
  readonly overprovisioningFactor: number
  /** Health is reckoned by weight, not by number (Envoy's `weighted_priority_health`). */
  readonly weightedHealth: boolean
}

interface Level {
  readonly hosts: readonly Host[]
  /** Hosts that health is reckoned by: excluded ones are not. */
  readonly counted: number
  readonly healthy: readonly Host[]
  readonly degraded: readonly Host[]
  /** Integer percentages, after overprovisioning, at most 100. */
  readonly health: number
  readonly degradation: number
}

/**
 * Spreads load over priority levels as Envoy does ("Priority levels", "Degraded endpoints", "Panic threshold"):
 * a level takes min(100, factor × healthy %) of what is left over by the levels before it, degraded hosts take what
 * healthy ones could not, and where all levels together are below 100 a level under the panic threshold uses all of its
 * hosts. Percentages are integers, as Envoy's, so that shares are the same.
 */
export function distributeLoad(priorities: readonly (readonly Host[])[], rules: LoadRules): readonly HostChoice[] {
  const levels = priorities.map((hosts) => level(hosts, rules))
  const available = Math.min(
    100,
    sum(levels, (l) => l.health + l.degradation),
  )
  const panics = levels.map((l) => available < 100 && inPanic(l, rules.panicThreshold))
  if (panics.every(Boolean)) return totalPanic(levels)
  if (available === 0) return []
  const healthyLoads = new Array<number>(levels.length).fill(0)
  const degradedLoads = new Array<number>(levels.length).fill(0)
  let left = 100
  for (const [i, l] of levels.entries()) {
    healthyLoads[i] = Math.min(left, Math.trunc((l.health * 100) / available))
    left -= healthyLoads[i]
  }
  for (const [i, l] of levels.entries()) {
    degradedLoads[i] = Math.min(left, Math.trunc((l.degradation * 100) / available))
    left -= degradedLoads[i]
  }
  // What integer division dropped goes to the first level that serves at all.
  const first = levels.findIndex((l) => l.health > 0)
  if (first >= 0) healthyLoads[first] += left
  else degradedLoads[levels.findIndex((l) => l.degradation > 0)] += left
  return choose(levels, panics, [healthyLoads, degradedLoads])
}

function choose(levels: Level[], panics: boolean[], [healthyLoads, degradedLoads]: number[][]): HostChoice[] {
  const choices: HostChoice[] = []
  for (const [priority, l] of levels.entries()) {
    const healthyLoad = healthyLoads[priority]
    const degradedLoad = degradedLoads[priority]
    if (panics[priority]) {
      const load = healthyLoad + degradedLoad
      if (load > 0) choices.push({ hosts: l.hosts, load, priority, panic: true, degraded: false })
      continue
    }
    const rest = { priority, panic: false }
    if (healthyLoad > 0) choices.push({ hosts: l.healthy, load: healthyLoad, ...rest, degraded: false })
    if (degradedLoad > 0) choices.push({ hosts: l.degraded, load: degradedLoad, ...rest, degraded: true })
  }
  return choices
}

/** Every level is in panic: load follows the number of hosts, whatever their health. */
function totalPanic(levels: Level[]): readonly HostChoice[] {
  const total = sum(levels, (l) => l.hosts.length)
  if (total === 0) return []
  const loads = levels.map((l) => Math.trunc((100 * l.hosts.length) / total))
  loads[levels.findIndex((l) => l.hosts.length > 0)] += 100 - loads.reduce((a, b) => a + b, 0)
  const panics = levels.map(() => true)
  return choose(levels, panics, [loads, levels.map(() => 0)])
}

function level(hosts: readonly Host[], rules: LoadRules): Level {
  const healthy = hosts.filter((host) => host.health === 'healthy' && !host.excluded)
  const degraded = hosts.filter((host) => host.health === 'degraded' && !host.excluded)
  const counted = hosts.length - hosts.reduce((count, host) => count + (host.excluded ? 1 : 0), 0)
  const factor = rules.overprovisioningFactor
  const size = rules.weightedHealth ? weightOf : numberOf
  const whole = rules.weightedHealth ? weightOf(hosts.filter((host) => !host.excluded)) : counted
  return {
    hosts,
    counted,
    healthy: healthy.length === hosts.length ? hosts : healthy,
    degraded,
    health: percent(size(healthy), whole, factor),
    degradation: percent(size(degraded), whole, factor),
  }
}

function numberOf(hosts: readonly Host[]): number {
  return hosts.length
}

function weightOf(hosts: readonly Host[]): number {
  return hosts.reduce((total, host) => total + host.weight, 0)
}

function percent(part: number, whole: number, factor: number): number {
  return whole === 0 ? 0 : Math.min(100, Math.trunc((factor * part) / whole))
}

function inPanic(l: Level, threshold: number): boolean {
  const usable = l.healthy.length + l.degraded.length
  const usablePercent = l.counted === 0 ? 0 : (100 * usable) / l.counted
  return usablePercent < threshold
}

function sum(levels: Level[], of: (l: Level) => number): number {
  let total = 0
  for (const l of levels) total += of(l)
  return total
}
