import { type Hash64, hashModulo, XxHash64 } from '../../core/hash64.ts'
import type { HashTable } from './hash-table.ts'
import { type HostShares, hashKey } from './host-shares.ts'

export interface MaglevOptions {
  /** A prime number (Envoy's `table_size`), at most 5,000,011. */
  readonly tableSize: number
  readonly byHostname: boolean
}

/** Entries that are filled before others may have the loop: about a millisecond. */
const SLICE = 8192
const FREE = 0xffff_ffff
const ONE: Hash64 = Object.freeze({ high: 0, low: 1 })

/** Maglev's table (Eisenbud et al., NSDI 2016, §3.4): each entry belongs to one host, and a hash to one entry. */
export class MaglevTable implements HashTable {
  readonly #owners: Uint32Array
  readonly fewest: number
  readonly most: number

  constructor(owners: Uint32Array, counts: Uint32Array) {
    this.#owners = owners
    this.fewest = counts.reduce((a, b) => Math.min(a, b))
    this.most = counts.reduce((a, b) => Math.max(a, b))
  }

  get size(): number {
    return this.#owners.length
  }

  /** Further attempts take other entries: all bits of the hash are flipped, less the number of the attempt (Envoy's rule). */
  find(hash: Hash64, attempt: number): number {
    if (attempt === 0) return this.#owners[hashModulo(hash, this.#owners.length)]
    const high = ~hash.high >>> 0
    const low = (hash.low ^ -attempt) >>> 0
    return this.#owners[hashModulo({ high, low }, this.#owners.length)]
  }

  /** The table, for tests and measurements: the index of the host of each entry. */
  get owners(): readonly number[] {
    return Array.from(this.#owners)
  }
}

/**
 * Fills a table in pauses: hosts take turns in taking the next free entry of their own permutation; one with a smaller
 * share sits out turns. Hosts are taken in the order of their keys, as Envoy does, so that the table does not depend on
 * the order of the endpoints. There must be a host.
 */
export function* buildMaglev(
  of: HostShares,
  { tableSize, byHostname }: MaglevOptions,
): Generator<undefined, MaglevTable> {
  const count = of.hosts.length
  const order = sortedByKey(of, byHostname)
  const offsets = new Float64Array(count)
  const skips = new Float64Array(count)
  const hasher = new XxHash64()
  for (let i = 0; i < count; i++) {
    const key = order[i].key
    offsets[i] = hashModulo(hasher.digest(key), tableSize)
    skips[i] = hashModulo(hasher.digest(key, key.length, ONE), tableSize - 1) + 1
  }
  const next = new Uint32Array(count)
  const targets = new Float64Array(count)
  const counts = new Uint32Array(count)
  const owners = new Uint32Array(tableSize).fill(FREE)
  let filled = 0
  for (let turn = 1; filled < tableSize; turn++) {
    for (let i = 0; i < count && filled < tableSize; i++) {
      const { host } = order[i]
      if (turn * of.shares[host] < targets[i]) continue
      targets[i] += of.largest
      let at = (offsets[i] + skips[i] * next[i]++) % tableSize
      while (owners[at] !== FREE) at = (offsets[i] + skips[i] * next[i]++) % tableSize
      owners[at] = host
      counts[i]++
      filled++
      if (filled % SLICE === 0) yield
    }
  }
  return new MaglevTable(owners, counts)
}

function sortedByKey(of: HostShares, byHostname: boolean): { key: Buffer; host: number }[] {
  const keys = of.hosts.map((host, i) => ({ key: Buffer.from(hashKey(host, byHostname)), host: i }))
  return keys.sort((a, b) => Buffer.compare(a.key, b.key))
}
