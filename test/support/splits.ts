import { type Random, seeded } from './random.ts'

/**
 * Ways to cut a byte string, for parsers that must not care. Every piece is a copy with memory of its own, so that a
 * parser that keeps a slice of an earlier piece, or reads past its end, is found out.
 */
export function cut(bytes: Buffer, offsets: readonly number[]): Buffer[] {
  const pieces: Buffer[] = []
  let from = 0
  for (const to of [...offsets, bytes.length]) {
    if (to <= from) continue
    const piece = Buffer.allocUnsafeSlow(to - from)
    bytes.copy(piece, 0, from, to)
    pieces.push(piece)
    from = to
  }
  return pieces
}

/** In two, at every place. */
export function* everySplit(bytes: Buffer): Generator<Buffer[]> {
  for (let at = 1; at < bytes.length; at++) yield cut(bytes, [at])
}

/** One byte each. */
export function byteByByte(bytes: Buffer): Buffer[] {
  return cut(
    bytes,
    Array.from({ length: bytes.length }, (_, i) => i),
  )
}

/** `count` ways to cut in up to eight pieces, the same for the same seed. */
export function* randomSplits(bytes: Buffer, seed: number, count: number): Generator<Buffer[]> {
  const random = seeded(seed)
  for (let i = 0; i < count; i++) yield cut(bytes, offsetsOf(bytes.length, random))
}

function offsetsOf(length: number, random: Random): number[] {
  const offsets = Array.from({ length: 1 + random.below(7) }, () => random.below(length + 1))
  return offsets.sort((a, b) => a - b)
}

/** Whole, byte by byte, at every split, and at `count` random ones. */
export function* everyFeed(bytes: Buffer, seed = 1, count = 20): Generator<Buffer[]> {
  yield cut(bytes, [])
  yield byteByByte(bytes)
  yield* everySplit(bytes)
  yield* randomSplits(bytes, seed, count)
}

/**
 * Runs `parse` over every feed of `bytes` (default: `everyFeed`) and insists that all answers are equal to that of the
 * whole, compared as JSON. Answers that one. Throws with the lengths of the pieces that gave another.
 */
export function sameHoweverSplit<T>(
  bytes: Buffer,
  parse: (pieces: readonly Buffer[]) => T,
  feeds: Iterable<readonly Buffer[]> = everyFeed(bytes),
): T {
  const whole = parse(cut(bytes, []))
  const wanted = JSON.stringify(whole)
  for (const pieces of feeds) {
    const got = JSON.stringify(parse(pieces))
    if (got !== wanted) {
      const lengths = pieces.map((piece) => piece.length).join('+')
      throw new Error(`split ${lengths} of ${JSON.stringify(bytes.toString('latin1'))}: ${got}, whole: ${wanted}`)
    }
  }
  return whole
}
