import { sameJson } from '../core/same-json.ts'
import type { TurnQueue, TurnWork } from '../core/turn.ts'
import type { AssignmentPolicyConfig, LocalityConfig } from './config.ts'
import { HEALTH } from './health-flags.ts'
import type { ResolvedEndpoint, ResolvedLocality } from './host.ts'
import { Host, hostKey } from './host.ts'
import { type HostLocality, type HostView, localitiesOf, localityKey } from './host-view.ts'
import type { HostChoice, LoadRules } from './priority-load.ts'
import { distributeLoad } from './priority-load.ts'

export interface HostSetOptions {
  /**
   * Percent of usable hosts below which a level is used whole (Envoy's `healthy_panic_threshold`); 0: never. A function: at
   * each change. Default 50.
   */
  readonly panicThreshold?: number | (() => number)
  /** Percent; default 140 (Envoy's `overprovisioning_factor`). */
  readonly overprovisioningFactor?: number
  /** Gathers changes of health until the end of a turn; undefined: each counts at once. */
  readonly turn?: TurnQueue
  /** Monotonic milliseconds; default: time stands still. */
  readonly now?: () => number
}

/** What becomes of hosts that come and go with an update. */
export interface MembershipRules {
  /** A new host, before anything is sent to it: flags may be raised. */
  admit(host: Host): void
  /** Whether a host that is gone goes on, marked, until `remove`. */
  stays(host: Host): boolean
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
export class HostSet implements TurnWork, HostView {
  #byKey: Map<string, Host> = new Map()
  #all: readonly Host[] = []
  #priorities: readonly (readonly Host[])[] = []
  #choices: readonly HostChoice[] = []
  #healthy = 0
  #degraded = 0
  #excluded = 0
  /** Flags have changed since the shares were worked out. */
  #stale = false
  readonly #turn: TurnQueue | undefined
  readonly #now: () => number
  readonly #listeners = new Set<() => void>()
  readonly #panicThreshold: number | (() => number)
  readonly #overprovisioningFactor: number
  #policy: AssignmentPolicyConfig = NO_POLICY
  /** Of localities that have one, by `localityKey`. */
  #weights: ReadonlyMap<string, number> = NO_WEIGHTS
  /** Worked out when somebody asks. */
  #localities: readonly (readonly HostLocality[])[] | undefined = undefined

  constructor(options: HostSetOptions = {}) {
    this.#panicThreshold = options.panicThreshold ?? 50
    this.#overprovisioningFactor = options.overprovisioningFactor ?? 140
    this.#turn = options.turn
    this.#now = options.now ?? (() => 0)
  }

  get rules(): LoadRules {
    const threshold = this.#panicThreshold
    return {
      panicThreshold: Math.trunc(Math.min(100, typeof threshold === 'number' ? threshold : threshold())),
      overprovisioningFactor: this.#policy.overprovisioningFactor ?? this.#overprovisioningFactor,
      weightedHealth: this.#policy.weightedPriorityHealth === true,
    }
  }

  /** The share of the requests that is to be answered without a host, in [0, 1]. */
  get dropOverload(): number {
    return this.#policy.dropOverload ?? 0
  }

  /** What load reports call those; '' where they have no name. */
  get dropCategory(): string {
    return this.#policy.dropCategory ?? ''
  }

  /** What goes along with the next `update`, instead of what went along with the last. */
  follow(policy: AssignmentPolicyConfig = NO_POLICY): void {
    if (sameJson(this.#policy, policy)) return
    this.#policy = policy
    this.#stale = true
  }

  /** By priority; those of the same place together, in the order of their names. */
  get localities(): readonly (readonly HostLocality[])[] {
    this.#localities ??= this.#priorities.map((hosts, priority) => localitiesOf(hosts, priority, this.#weights))
    return this.#localities
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

  /** Hosts that count as if they were not there. */
  get excludedCount(): number {
    return this.#excluded
  }

  /** Raises or lowers flags of a host; balancing follows by the end of the turn, once for all flags. True: they changed. */
  flag(host: Host, mask: number, on: boolean): boolean {
    if (!host.setFlags(mask, on)) return false
    if (this.#byKey.get(host.key) !== host || this.#stale) return true
    this.#stale = true
    if (this.#turn === undefined) this.turnEnds()
    else this.#turn.defer(this)
    return true
  }

  turnEnds(): void {
    // An update in between has done it.
    if (this.#stale) this.#compile([...this.#byKey.values()])
  }

  /**
   * Replaces the membership. Hosts with the same key survive; of endpoints with equal keys the first counts (as Envoy).
   * An answer that differs only in order changes nothing, so that rotating DNS answers do not disturb balancers.
   */
  update(localities: readonly ResolvedLocality[], rules?: MembershipRules): HostSetChange {
    const next = new Map<string, Host>()
    const added: Host[] = []
    let changed = this.#stale
    const weights = weightsOf(localities)
    if (!sameWeights(weights, this.#weights)) {
      this.#weights = weights
      changed = true
    }
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
    for (const host of next.values()) if (host.setFlags(HEALTH.pendingDynamicRemoval, false)) changed = true
    const removed: Host[] = []
    for (const host of this.#byKey.values()) {
      if (next.has(host.key)) continue
      if (rules?.stays(host) !== true) removed.push(host)
      else {
        host.setFlags(HEALTH.pendingDynamicRemoval, true)
        next.set(host.key, host)
      }
    }
    if (added.length === 0 && removed.length === 0 && !changed) return { added, removed, changed: false }
    if (rules !== undefined) for (const host of added) rules.admit(host)
    this.#byKey = next
    this.#compile([...next.values()])
    return { added, removed, changed: true }
  }

  /**
   * A host more, of the first priority and no locality, which is known by its key at once and to balancing by the end of the
   * turn: what costs nothing however many there are. Its key must be new.
   */
  add(endpoint: ResolvedEndpoint, rules?: MembershipRules): Host {
    const host = new Host(endpoint, 0, undefined)
    rules?.admit(host)
    this.#byKey.set(host.key, host)
    if (this.#turn === undefined) this.#compile([...this.#byKey.values()])
    else if (!this.#stale) this.#turn.defer(this)
    this.#stale = this.#turn !== undefined
    return host
  }

  /** Those that balancing will know by the end of the turn included. */
  get size(): number {
    return this.#byKey.size
  }

  /** Takes one host out; false where it is not there. */
  remove(host: Host): boolean {
    if (this.#byKey.get(host.key) !== host) return false
    this.#byKey.delete(host.key)
    this.#compile([...this.#byKey.values()])
    return true
  }

  /** Calls `listener` after each update that changed something, until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  #compile(hosts: Host[]): void {
    this.#stale = false
    const priorities: Host[][] = []
    for (const host of hosts) {
      while (priorities.length <= host.priority) priorities.push([])
      priorities[host.priority].push(host)
    }
    this.#priorities = priorities
    this.#all = priorities.length === 1 ? priorities[0] : priorities.flat()
    this.#healthy = 0
    this.#degraded = 0
    this.#excluded = 0
    const now = this.#now()
    for (const host of hosts) {
      if (host.health !== 'healthy' || host.excluded) host.healthySinceMs = -1
      else if (host.healthySinceMs < 0) host.healthySinceMs = now
      if (host.excluded) this.#excluded++
      if (host.health === 'healthy') this.#healthy++
      else if (host.health === 'degraded') this.#degraded++
    }
    this.#localities = undefined
    this.#choices = distributeLoad(priorities, this.rules)
    for (const listener of this.#listeners) listener()
  }
}

const NO_POLICY: AssignmentPolicyConfig = Object.freeze({})
const NO_WEIGHTS: ReadonlyMap<string, number> = new Map()

/** Of localities that have one, by `localityKey`. */
export function weightsOf(localities: readonly ResolvedLocality[]): ReadonlyMap<string, number> {
  let weights: Map<string, number> | undefined
  for (const { locality, priority, weight } of localities) {
    if (weight === undefined) continue
    weights ??= new Map()
    weights.set(localityKey(locality, priority), weight)
  }
  return weights ?? NO_WEIGHTS
}

export function sameWeights(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean {
  if (a.size !== b.size) return false
  for (const [key, weight] of a) if (b.get(key) !== weight) return false
  return true
}

/** Whether an update says something else of a host than is known. */
export function differs(host: Host, endpoint: ResolvedEndpoint, locality: LocalityConfig | undefined): boolean {
  return (
    host.weight !== endpoint.weight ||
    host.configuredHealth !== endpoint.health ||
    host.hostname !== (endpoint.hostname ?? '') ||
    !sameJson(host.address, endpoint.address) ||
    !sameJson(host.locality, locality) ||
    !sameJson(host.metadata, endpoint.metadata) ||
    !sameJson(host.additionalAddresses, endpoint.additionalAddresses ?? []) ||
    !sameJson(host.proxyAddress, endpoint.proxyAddress) ||
    !sameJson(host.addedTlvs, endpoint.addedTlvs) ||
    !sameJson(host.check, endpoint.check)
  )
}
