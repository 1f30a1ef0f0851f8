/** A request under way, as `reset_high_memory_stream` sees it. */
export interface HeavyStream {
  /** Bytes that wait in it, in both directions. */
  readonly bufferedBytes: number
  /** Ends it at once. */
  shed(): void
}

/** As in Envoy: classes of memory, each twice as large as the one before, and streams that go at a time. */
const CLASSES = 8
const AT_ONCE = 50

/**
 * Resets the streams that hold most: those of the largest class where the action has just begun, of all classes where it is
 * saturated. Answers how many.
 */
export function resetHeavy(streams: readonly HeavyStream[], scale: number, smallestBytes: number): number {
  const classes = Math.min(Math.floor(scale * CLASSES) + 1, CLASSES)
  const least = smallestBytes * 2 ** (CLASSES - classes)
  const heavy = streams
    .map((stream) => ({ stream, bytes: stream.bufferedBytes }))
    .filter(({ bytes }) => bytes >= least)
    .sort((a, b) => b.bytes - a.bytes)
    .slice(0, AT_ONCE)
  for (const { stream } of heavy) stream.shed()
  return heavy.length
}
