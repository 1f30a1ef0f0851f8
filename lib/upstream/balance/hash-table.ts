import type { Hash64 } from '../../core/hash64.ts'

/** Gives each hash a host, by its index in the list the table was built from. Immutable. */
export interface HashTable {
  readonly size: number
  /** Entries of the host with the fewest, and of the one with the most. */
  readonly fewest: number
  readonly most: number
  /** `attempt` is 0, then 1, 2, ... where the hosts before were not wanted. */
  find(hash: Hash64, attempt: number): number
}
