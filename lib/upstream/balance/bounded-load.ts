import type { Hash64 } from '../../core/hash64.ts'
import type { Host } from '../host.ts'
import type { HostShares } from './host-shares.ts'
import { Mersenne } from './mersenne.ts'

export interface BoundedLoadOptions {
  /** Percent of a host's share of all active requests that it may have, above 100 (Envoy's `hash_balance_factor`). */
  readonly factor: number
  /** The active requests of the cluster. */
  readonly active: () => number
}

/**
 * Consistent hashing with bounded loads (Mirrokni et al.): where the host that a hash belongs to is full, others are tried
 * in an order that the hash seeds (random jumps, as Envoy). All full: the one that is least so.
 */
export class BoundedLoad {
  readonly #of: HostShares
  readonly #options: BoundedLoadOptions
  readonly #random = new Mersenne(0)
  /** Every host in its own place, between one choice and the next. */
  readonly #order: Uint32Array

  constructor(of: HostShares, options: BoundedLoadOptions) {
    this.#of = of
    this.#options = options
    this.#order = Uint32Array.from(of.hosts, (_, i) => i)
  }

  /** `first` is the index that the table gave. */
  choose(first: number, hash: Hash64): number {
    const load = this.#load(first)
    return load <= 1 ? first : this.#probe(first, load, hash)
  }

  /** Active requests per slot. */
  #load(index: number): number {
    const { factor, active } = this.#options
    const host: Host = this.#of.hosts[index]
    const total = Math.floor(((active() + 1) * factor + 99) / 100)
    return host.rqActive / Math.max(1, Math.ceil(total * this.#of.shares[index]))
  }

  #probe(first: number, firstLoad: number, hash: Hash64): number {
    const count = this.#of.hosts.length
    const random = this.#random
    const order = this.#order
    random.seed(hash.low)
    let least = first
    let leastLoad = firstLoad
    let looked = 0
    while (looked < count && leastLoad > 1) {
      const other = looked + random.below(count - looked)
      const index = order[other]
      order[other] = order[looked]
      order[looked++] = index
      const load = index === first ? leastLoad : this.#load(index)
      if (load < leastLoad) {
        least = index
        leastLoad = load
      }
    }
    this.#restore(looked)
    return least
  }

  /** What was shuffled goes back. Places behind those looked at have lost their host to one of these, and to no other. */
  #restore(looked: number): void {
    const order = this.#order
    for (let i = 0; i < looked; i++) if (order[i] >= looked) order[order[i]] = order[i]
    for (let i = 0; i < looked; i++) order[i] = i
  }
}
