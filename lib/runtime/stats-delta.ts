import type { HistogramSnapshot, MetricsSnapshot } from './engine.ts'
import type { StatsPush } from './messages.ts'

/**
 * Turns a worker's snapshots into pushes: what has changed since the last one. Only differences travel, so that control
 * can add them up and what a worker counted outlives it.
 */
export class StatsDelta {
  #counters = new Map<string, number>()
  #gauges = new Map<string, number>()
  #histograms = new Map<string, HistogramSnapshot>()

  /** The next push; `full` sends everything and makes it the new base. */
  next(now: MetricsSnapshot, full: boolean): StatsPush {
    const gone: string[] = []
    const counters: [string, number][] = []
    const lastCounters = full ? new Map<string, number>() : this.#counters
    const nextCounters = new Map(now.counters)
    for (const [name, value] of now.counters) {
      const last = lastCounters.get(name)
      if (last === undefined) counters.push([name, value])
      else if (value !== last) counters.push([name, value - last])
    }
    const lastGauges = full ? new Map<string, number>() : this.#gauges
    const nextGauges = new Map(now.gauges)
    const gauges = now.gauges.filter(([name, value]) => lastGauges.get(name) !== value)
    const lastHistograms = full ? new Map<string, HistogramSnapshot>() : this.#histograms
    const nextHistograms = new Map(now.histograms.map((h) => [h.name, h]))
    const histograms: HistogramSnapshot[] = []
    for (const histogram of now.histograms) {
      const last = lastHistograms.get(histogram.name)
      if (last === undefined) histograms.push(histogram)
      else if (last.count !== histogram.count) histograms.push(difference(histogram, last))
    }
    if (!full) {
      missing(this.#counters, nextCounters, gone)
      missing(this.#gauges, nextGauges, gone)
      missing(this.#histograms, nextHistograms, gone)
    }
    this.#counters = nextCounters
    this.#gauges = nextGauges
    this.#histograms = nextHistograms
    return { full, gone, counters, gauges, histograms }
  }
}

function missing(before: Map<string, unknown>, now: Map<string, unknown>, gone: string[]): void {
  for (const name of before.keys()) if (!now.has(name)) gone.push(name)
}

function difference(now: HistogramSnapshot, last: HistogramSnapshot): HistogramSnapshot {
  return {
    name: now.name,
    count: now.count - last.count,
    sum: now.sum - last.sum,
    bounds: now.bounds,
    cumulative: now.cumulative.map((value, i) => value - (last.cumulative[i] ?? 0)),
  }
}
