/** Few enough that making them is cheap, enough that each stays small. */
const SHARDS = 256

/**
 * Values by name; the place of one that was deleted is taken by the next that comes. A `Map` of half a million names would
 * stop the process for 60 ms whenever it doubles its size; these are many small ones.
 */
export class CellTable<T> {
  readonly #shards: readonly Map<string, number>[] = Array.from({ length: SHARDS }, () => new Map<string, number>())
  readonly #names: (string | undefined)[] = []
  readonly #values: (T | undefined)[] = []
  /** Places that are empty. */
  readonly #free: number[] = []

  get(name: string): T | undefined {
    const at = this.#shards[shardOf(name)].get(name)
    return at === undefined ? undefined : this.#values[at]
  }

  /** A name is added once. */
  add(name: string, value: T): T {
    const at = this.#free.pop() ?? this.#names.length
    this.#shards[shardOf(name)].set(name, at)
    this.#names[at] = name
    this.#values[at] = value
    return value
  }

  /** What was there. */
  delete(name: string): T | undefined {
    const shard = this.#shards[shardOf(name)]
    const at = shard.get(name)
    if (at === undefined) return undefined
    const value = this.#values[at]
    shard.delete(name)
    this.#names[at] = undefined
    this.#values[at] = undefined
    this.#free.push(at)
    return value
  }

  /** So many have a place, empty ones included. */
  get places(): number {
    return this.#names.length
  }

  /** Those with places in that range; default: all. */
  forEach(visit: (name: string, value: T) => void, from = 0, to: number = this.#names.length): void {
    const end = Math.min(to, this.#names.length)
    for (let i = from; i < end; i++) {
      const name = this.#names[i]
      if (name !== undefined) visit(name, this.#values[i] as T)
    }
  }
}

/** By characters in which names of statistics differ: of the name behind the first dot, and of the last word. */
function shardOf(name: string): number {
  let hash = name.length
  for (let i = 8; i < 20 && i < name.length; i++) hash = (hash * 31 + name.charCodeAt(i)) | 0
  for (let i = Math.max(0, name.length - 6); i < name.length; i++) hash = (hash * 31 + name.charCodeAt(i)) | 0
  return (hash ^ (hash >>> 8) ^ (hash >>> 16)) & (SHARDS - 1)
}
