/** Few enough that making them is cheap, enough that each stays small. */
const SHARDS = 256

/**
 * Values by name, in the order in which they came. A `Map` of half a million names (10,000 clusters have as many) would stop
 * the process for 60 ms whenever it doubles its size; these are many small ones.
 */
export class CellTable<T> {
  readonly #shards: readonly Map<string, T>[] = Array.from({ length: SHARDS }, () => new Map<string, T>())
  readonly #names: string[] = []
  readonly #values: T[] = []

  get(name: string): T | undefined {
    return this.#shards[shardOf(name)].get(name)
  }

  /** A name is added once. */
  add(name: string, value: T): T {
    this.#shards[shardOf(name)].set(name, value)
    this.#names.push(name)
    this.#values.push(value)
    return value
  }

  map<R>(change: (name: string, value: T) => R): R[] {
    return this.#names.map((name, i) => change(name, this.#values[i]))
  }
}

/** By characters in which names of statistics differ: of the name behind the first dot, and of the last word. */
function shardOf(name: string): number {
  let hash = name.length
  for (let i = 8; i < 20 && i < name.length; i++) hash = (hash * 31 + name.charCodeAt(i)) | 0
  for (let i = Math.max(0, name.length - 6); i < name.length; i++) hash = (hash * 31 + name.charCodeAt(i)) | 0
  return (hash ^ (hash >>> 8) ^ (hash >>> 16)) & (SHARDS - 1)
}
