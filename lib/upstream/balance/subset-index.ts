import type { JsonObject } from '../../core/errors.ts'
import { sameJson } from '../../core/same-json.ts'
import type { LocalityConfig, SubsetConfig, SubsetSelectorConfig } from '../config.ts'
import type { Host } from '../host.ts'
import type { HostView } from '../host-view.ts'
import { Subset, type SubsetParts } from './subset.ts'
import { hasLabels, subsetKeys } from './subset-labels.ts'
import type { SubsetStats } from './subset-stats.ts'

/** A host as it was when the index last looked at it. */
export interface Member {
  readonly host: Host
  /** Place among all. */
  at: number
  /** The round in which it was last seen. */
  round: number
  metadata: JsonObject | undefined
  /** What choices depend on. */
  locality: LocalityConfig | undefined
  flags: number
  weight: number
  subsets: readonly Subset[]
}

/**
 * Which hosts are in which subsets, kept up with a view: hosts that are as they were cost a comparison, and only subsets
 * of hosts that are not are worked out anew, when they are next asked for a host.
 */
export class SubsetIndex {
  readonly #view: HostView
  readonly #config: SubsetConfig
  readonly #parts: SubsetParts
  readonly #stats: SubsetStats
  readonly #selectors: readonly SubsetSelectorConfig[]
  readonly #subsets = new Map<string, Subset>()
  readonly #members = new Map<Host, Member>()
  /** Of all hosts, and of those with the labels of the default; undefined: nothing falls back to it. */
  readonly any: Subset | undefined
  readonly fallback: Subset | undefined
  #rules: HostView['rules']
  #round = 0
  #duplicates = 0

  constructor(config: SubsetConfig, parts: SubsetParts, stats: SubsetStats) {
    const { selectors } = config
    this.#view = parts.view
    this.#config = config
    this.#parts = parts
    this.#stats = stats
    this.#rules = parts.view.rules
    // Keys in the order in which they are looked up.
    this.#selectors = selectors.map((selector) => ({ ...selector, keys: [...selector.keys].sort() }))
    const falls = (to: string): boolean => config.fallback === to || selectors.some(({ fallback }) => fallback === to)
    this.any = falls('any') || config.panicAny === true ? new Subset(parts, false) : undefined
    this.fallback = falls('default') ? new Subset(parts, false) : undefined
    this.update()
  }

  /** By `Criteria.key`; undefined where it has no hosts. */
  get(key: string): Subset | undefined {
    return this.#subsets.get(key)
  }

  /** Takes over what the view is now. */
  update(): void {
    const { all, rules } = this.#view
    const round = ++this.#round
    if (!sameJson(rules, this.#rules) || this.#config.localityWeights === true) this.#allStale()
    this.#rules = rules
    for (let i = 0; i < all.length; i++) {
      const host = all[i]
      const member = this.#members.get(host) ?? this.#enter(host)
      member.at = i
      member.round = round
      if (member.metadata !== host.metadata) this.#relabel(member)
      if (member.flags !== host.flags || member.weight !== host.weight || member.locality !== host.locality) {
        member.locality = host.locality
        member.flags = host.flags
        member.weight = host.weight
        for (const subset of member.subsets) subset.stale = true
      }
    }
    if (this.#members.size > all.length) this.#sweep(round)
    this.#countDuplicates()
  }

  #allStale(): void {
    for (const subset of this.#subsets.values()) subset.stale = true
    if (this.any !== undefined) this.any.stale = true
    if (this.fallback !== undefined) this.fallback.stale = true
  }

  #enter(host: Host): Member {
    const { metadata, locality, flags, weight } = host
    const member: Member = { host, at: 0, round: 0, metadata, locality, flags, weight, subsets: [] }
    this.#members.set(host, member)
    member.subsets = this.#join(member)
    return member
  }

  #relabel(member: Member): void {
    const { host, subsets } = member
    const same = sameJson(member.metadata, host.metadata)
    member.metadata = host.metadata
    if (same) return
    // Joined before the old ones are left, so that a subset of one host does not end in between.
    member.subsets = this.#join(member)
    for (const subset of subsets) if (!member.subsets.includes(subset)) this.#leave(subset, member)
  }

  #join(member: Member): readonly Subset[] {
    const { host } = member
    const { listAsAny = false, defaultLabels } = this.#config
    const found = new Set<Subset>()
    for (const { keys, singleHost = false } of this.#selectors) {
      for (const key of subsetKeys(host, keys, listAsAny))
        found.add(this.#subsets.get(key) ?? this.#make(key, singleHost))
    }
    if (this.any !== undefined) found.add(this.any)
    if (this.fallback !== undefined && hasLabels(host, defaultLabels, listAsAny)) found.add(this.fallback)
    for (const subset of found) subset.add(member)
    return [...found]
  }

  #make(key: string, singleHost: boolean): Subset {
    const subset = new Subset(this.#parts, singleHost, key)
    this.#subsets.set(key, subset)
    this.#stats.created()
    return subset
  }

  #leave(subset: Subset, member: Member): void {
    subset.delete(member)
    if (subset.size > 0 || subset.key === undefined) return
    this.#subsets.delete(subset.key)
    subset[Symbol.dispose]()
    this.#stats.removed(1)
  }

  /** Lets go of hosts that this round has not seen. */
  #sweep(round: number): void {
    for (const member of this.#members.values()) {
      if (member.round === round) continue
      this.#members.delete(member.host)
      for (const subset of member.subsets) this.#leave(subset, member)
    }
  }

  /** Hosts that subsets of a single host leave out. */
  #countDuplicates(): void {
    if (!this.#selectors.some(({ singleHost }) => singleHost)) return
    let duplicates = 0
    for (const subset of this.#subsets.values()) if (subset.singleHost) duplicates += subset.size - 1
    this.#stats.duplicates(duplicates - this.#duplicates)
    this.#duplicates = duplicates
  }

  /** Its gauges are another's from now on. */
  retire(): void {
    for (const subset of this.#subsets.values()) subset.retire()
    this.any?.retire()
    this.fallback?.retire()
    this.#stats.removed(this.#subsets.size)
    this.#stats.duplicates(-this.#duplicates)
  }

  [Symbol.dispose](): void {
    for (const subset of this.#subsets.values()) subset[Symbol.dispose]()
    this.any?.[Symbol.dispose]()
    this.fallback?.[Symbol.dispose]()
  }
}
