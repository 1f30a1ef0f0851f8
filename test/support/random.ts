/** A small seeded generator: the same seed gives the same numbers on every machine. Not for secrets. */
export interface Random {
  /** In [0, 1). */
  next(): number
  /** A whole number in [0, bound). */
  below(bound: number): number
  pick<T>(items: readonly T[]): T
  bytes(size: number): Buffer
}

/** Xorshift of 32 bits, mixed; any integer is a good seed. */
export function seeded(seed: number): Random {
  // A state of 0 would stay 0 for ever.
  let state = Math.imul(seed ^ 0x5bd1e995, 0x9e3779b1) || 1
  const next = (): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
  const below = (bound: number): number => Math.floor(next() * bound)
  return {
    next,
    below,
    pick: (items) => items[below(items.length)],
    bytes: (size) => Buffer.from(Array.from({ length: size }, () => below(256))),
  }
}
