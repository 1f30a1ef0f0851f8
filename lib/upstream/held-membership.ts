import { sameJson } from '../core/same-json.ts'
import { coarseHealth, configuredFlags } from './health-flags.ts'
import type { ResolvedEndpoint, ResolvedLocality } from './host.ts'
import { hostKey } from './host.ts'
import { sameWeights, weightsOf } from './host-set.ts'

/** Up to so many endpoints are looked for one by one: that is faster than an index, and makes no text of their addresses. */
const FEW = 16

/** How one held membership differs from another; `came` and `went` are numbers of hosts. */
export interface HeldChange {
  readonly came: number
  readonly went: number
  readonly changed: boolean
}

/**
 * The membership of a cluster that nobody has asked for a host yet: its endpoints as they were delivered, and how many hosts
 * they make. Of 10,000 clusters that a control plane knows most carry nothing, and their hosts would be a third of the heap.
 */
export class HeldMembership {
  readonly localities: readonly ResolvedLocality[]
  readonly size: number
  readonly healthy: number
  readonly degraded: number

  private constructor(localities: readonly ResolvedLocality[]) {
    this.localities = localities
    let [size, healthy, degraded] = [0, 0, 0]
    for (const { endpoints } of localities) {
      size += endpoints.length
      for (const endpoint of endpoints) {
        const health = coarseHealth(configuredFlags(endpoint.health))
        if (health === 'healthy') healthy++
        else if (health === 'degraded') degraded++
      }
    }
    this.size = size
    this.healthy = healthy
    this.degraded = degraded
  }

  /** Undefined where endpoints have equal keys: which of them counts is for a `HostSet` to say. */
  static of(localities: readonly ResolvedLocality[]): HeldMembership | undefined {
    const held = new HeldMembership(localities)
    return held.#distinct() ? held : undefined
  }

  #distinct(): boolean {
    if (this.size > FEW) return this.#index().size === this.size
    for (const { priority, endpoints } of this.localities) {
      for (const endpoint of endpoints) if (this.#count(endpoint, priority) !== 1) return false
    }
    return true
  }

  #count(endpoint: ResolvedEndpoint, priority: number): number {
    let count = 0
    for (const place of this.localities) {
      if (place.priority !== priority) continue
      for (const other of place.endpoints) if (sameKey(other, endpoint)) count++
    }
    return count
  }

  /** What is another one with this in place of nothing. */
  get beginning(): HeldChange {
    const changed = this.size > 0 || weightsOf(this.localities).size > 0
    return { came: this.size, went: 0, changed }
  }

  /** What is another one with `next` in its place. */
  compare(next: HeldMembership): HeldChange {
    const index = this.size > FEW ? this.#index() : undefined
    let stayed = 0
    let changed = !sameWeights(weightsOf(this.localities), weightsOf(next.localities))
    for (const place of next.localities) {
      for (const endpoint of place.endpoints) {
        const known = index ? index.get(hostKey(endpoint, place.priority)) : this.#find(endpoint, place.priority)
        if (known === undefined) continue
        stayed++
        changed ||= !sameJson(known.endpoint, endpoint) || !samePlace(known.place, place)
      }
    }
    const came = next.size - stayed
    const went = this.size - stayed
    return { came, went, changed: changed || came > 0 || went > 0 }
  }

  #find(endpoint: ResolvedEndpoint, priority: number): Found | undefined {
    for (const place of this.localities) {
      if (place.priority !== priority) continue
      for (const other of place.endpoints) if (sameKey(other, endpoint)) return { endpoint: other, place }
    }
    return undefined
  }

  /** By `Host.key`. */
  #index(): Map<string, Found> {
    const index = new Map<string, Found>()
    for (const place of this.localities) {
      for (const endpoint of place.endpoints) index.set(hostKey(endpoint, place.priority), { endpoint, place })
    }
    return index
  }
}

/** An endpoint, and the locality that it is in. */
interface Found {
  readonly endpoint: ResolvedEndpoint
  readonly place: ResolvedLocality
}

function samePlace(a: ResolvedLocality, b: ResolvedLocality): boolean {
  return sameJson(a.locality, b.locality) && sameJson(a.metadata, b.metadata)
}

/** As comparing `hostKey`, without making any text where both are IP addresses. */
function sameKey(a: ResolvedEndpoint, b: ResolvedEndpoint): boolean {
  if (a.key === undefined && b.key === undefined && a.address.kind === 'ip' && b.address.kind === 'ip') {
    return a.address.port === b.address.port && a.address.host === b.address.host
  }
  return hostKey(a, 0) === hostKey(b, 0)
}
