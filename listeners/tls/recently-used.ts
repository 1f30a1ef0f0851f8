/**
 * A map that holds a limited number of entries: one more drops the entry that has gone unused for longest, and tells
 * `dropped`.
 */
export class RecentlyUsed<K, V> {
  readonly #limit: number
  readonly #dropped: ((value: V) => void) | undefined
  /** Least recently used first. */
  readonly #entries = new Map<K, V>()

  /** `limit`: 1 or more. */
  constructor(limit: number, dropped?: (value: V) => void) {
    this.#limit = limit
    this.#dropped = dropped
  }

  get size(): number {
    return this.#entries.size
  }

  /** Counts as a use. */
  get(key: K): V | undefined {
    const value = this.#entries.get(key)
    if (value === undefined || this.#entries.size === 1) return value
    this.#entries.delete(key)
    this.#entries.set(key, value)
    return value
  }

  /** Counts as a use, too. */
  set(key: K, value: V): void {
    const entries = this.#entries
    entries.delete(key)
    entries.set(key, value)
    if (entries.size <= this.#limit) return
    for (const [oldest, unused] of entries) {
      entries.delete(oldest)
      this.#dropped?.(unused)
      return
    }
  }

  delete(key: K): void {
    this.#entries.delete(key)
  }
}
