import type { HistogramSnapshot, MetricsSnapshot } from './metrics.ts'

/** A histogram being summed up. */
interface Sum {
  readonly bounds: readonly number[]
  readonly cumulative: number[]
  count: number
  sum: number
}

/** The sum of several processes' metrics, name by name, in the order in which names first appear. */
export function mergeSnapshots(list: readonly MetricsSnapshot[]): MetricsSnapshot {
  if (list.length === 1) return list[0]
  const counters = new Map<string, number>()
  const gauges = new Map<string, number>()
  const histograms = new Map<string, Sum>()
  for (const snapshot of list) {
    addAll(counters, snapshot.counters)
    addAll(gauges, snapshot.gauges)
    for (const histogram of snapshot.histograms) addHistogram(histograms, histogram)
  }
  return { counters: [...counters], gauges: [...gauges], histograms: histogramsOf(histograms) }
}

/**
 * What control knows of its workers' metrics, fed with `MetricsStore.takeDeltas()` of each. Counters and histograms of a
 * worker that died stay in the totals (they never go back); its gauges vanish.
 */
export class MetricsTotals {
  readonly #counters = new Map<string, number>()
  readonly #histograms = new Map<string, Sum>()
  readonly #gauges = new Map<number, Map<string, number>>()

  /** `source` names the worker; a replacement process needs another number, or `forget` before it reports. */
  add(source: number, deltas: MetricsSnapshot): void {
    addAll(this.#counters, deltas.counters)
    for (const histogram of deltas.histograms) addHistogram(this.#histograms, histogram)
    let gauges = this.#gauges.get(source)
    if (gauges === undefined) {
      gauges = new Map()
      this.#gauges.set(source, gauges)
    }
    for (const [name, value] of deltas.gauges) gauges.set(name, value)
  }

  /** The worker is gone. */
  forget(source: number): void {
    this.#gauges.delete(source)
  }

  snapshot(): MetricsSnapshot {
    const gauges = new Map<string, number>()
    for (const ofOne of this.#gauges.values()) addAll(gauges, ofOne)
    return { counters: [...this.#counters], gauges: [...gauges], histograms: histogramsOf(this.#histograms) }
  }
}

function addAll(into: Map<string, number>, values: Iterable<readonly [string, number]>): void {
  for (const [name, value] of values) into.set(name, (into.get(name) ?? 0) + value)
}

function addHistogram(into: Map<string, Sum>, h: HistogramSnapshot): void {
  const sum = into.get(h.name)
  if (sum === undefined) {
    into.set(h.name, { bounds: h.bounds, cumulative: [...h.cumulative], count: h.count, sum: h.sum })
    return
  }
  if (sum.bounds.length !== h.bounds.length)
    throw new Error(`histogram ${h.name} has different bounds in two processes`)
  sum.count += h.count
  sum.sum += h.sum
  for (let i = 0; i < h.cumulative.length; i++) sum.cumulative[i] += h.cumulative[i]
}

function histogramsOf(sums: Map<string, Sum>): HistogramSnapshot[] {
  const out: HistogramSnapshot[] = []
  for (const [name, s] of sums) {
    out.push({ name, count: s.count, sum: s.sum, bounds: s.bounds, cumulative: s.cumulative.slice() })
  }
  return out
}
