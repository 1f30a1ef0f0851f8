/** Steps of a decade: two significant digits. */
const STEPS = 90
/** Up to 999 seconds; what takes longer counts as that. */
const DECADES = 8
const SMALLEST = 10

/**
 * Latencies of a window, in microseconds, to two significant digits: what is needed of them is one percentile. Its memory is
 * made with the first one, and stays.
 */
export class Latencies {
  #counts: Uint32Array | undefined = undefined
  count = 0

  record(micros: number): void {
    this.#counts ??= new Uint32Array(SMALLEST + STEPS * DECADES)
    this.#counts[indexOf(micros)]++
    this.count++
  }

  clear(): void {
    this.#counts?.fill(0)
    this.count = 0
  }

  /** The latency at this percentile, 0 to 100; 0 where there is none. Linear within a step. */
  at(percent: number): number {
    const counts = this.#counts
    if (counts === undefined || this.count === 0) return 0
    const rank = (percent / 100) * this.count
    let before = 0
    for (let i = 0; i < counts.length; i++) {
      const upTo = before + counts[i]
      if (upTo > before && upTo >= rank) {
        const low = lowerBound(i)
        return low + (lowerBound(i + 1) - low) * ((rank - before) / (upTo - before))
      }
      before = upTo
    }
    return lowerBound(counts.length)
  }
}

function indexOf(micros: number): number {
  const whole = Math.max(0, Math.floor(micros))
  if (whole < SMALLEST) return whole
  let unit = 1
  for (let decade = 0; decade < DECADES; decade++) {
    if (whole < unit * 100) return SMALLEST + decade * STEPS + Math.floor(whole / unit) - SMALLEST
    unit *= 10
  }
  return SMALLEST + STEPS * DECADES - 1
}

function lowerBound(index: number): number {
  if (index < SMALLEST) return index
  const decade = Math.floor((index - SMALLEST) / STEPS)
  return (SMALLEST + ((index - SMALLEST) % STEPS)) * 10 ** decade
}
