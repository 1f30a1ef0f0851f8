import type { Counter, Gauge, Histogram, Metrics, MetricsGroup } from '../core/metrics.ts'
import type { HistogramSnapshot, MetricsSnapshot } from '../core/status.ts'
import { CellTable } from './cell-table.ts'

export type { HistogramSnapshot, MetricsSnapshot }

/** Envoy's default histogram bounds (upper, inclusive), in the unit of the histogram, which is milliseconds mostly. */
export const HISTOGRAM_BOUNDS: readonly number[] = Object.freeze([
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
])

/** A counter or gauge. */
class Cell {
  v = 0
}

/** Values up to here find their bucket in a table. */
const TABLE_LIMIT = 1_000

/** The bucket of each whole number up to TABLE_LIMIT: all bounds but the first are whole, so rounding up changes nothing. */
function bucketTable(): Uint8Array {
  return Uint8Array.from({ length: TABLE_LIMIT + 1 }, (_, value) => HISTOGRAM_BOUNDS.findIndex((b) => value <= b))
}

/** Counts per bucket in a typed array: recording allocates nothing and takes about 5 ns. */
class BucketHistogram implements Histogram {
  /** One more than there are bounds: the last holds what exceeds them all. */
  readonly counts = new Float64Array(HISTOGRAM_BOUNDS.length + 1)
  readonly #table: Uint8Array
  sum = 0

  constructor(table: Uint8Array) {
    this.#table = table
  }

  /** Values that are negative or not finite are ignored: one NaN would spoil the sum for ever. */
  record(value: number): void {
    if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) return
    this.sum += value
    if (value > TABLE_LIMIT) this.counts[bucketOf(value)]++
    else if (value <= 0.5) this.counts[0]++
    else this.counts[this.#table[Math.ceil(value)]]++
  }
}

function bucketOf(value: number): number {
  let i = 0
  while (i < HISTOGRAM_BOUNDS.length && value > HISTOGRAM_BOUNDS[i]) i++
  return i
}

/**
 * The counters, gauges and histograms of one process, by Envoy's dotted names. Cells stay, so that counters never go back,
 * but for those of a group, which go with what they count: where names come and go, they would fill the memory.
 */
export class MetricsStore implements Metrics {
  readonly #counters = new CellTable<Cell>()
  readonly #gauges = new CellTable<Cell>()
  readonly #histograms = new CellTable<BucketHistogram>()
  readonly #bucketTable = bucketTable()
  readonly #groups = new Map<string, CellGroup>()

  has(name: string): boolean {
    return this.#counters.get(name) !== undefined
  }

  counter(name: string): Counter {
    return cellOf(this.#counters, name)
  }

  gauge(name: string): Gauge {
    return cellOf(this.#gauges, name)
  }

  histogram(name: string): Histogram {
    return this.#histograms.get(name) ?? this.#histograms.add(name, new BucketHistogram(this.#bucketTable))
  }

  group(key: string): MetricsGroup {
    let group = this.#groups.get(key)
    if (group === undefined) {
      group = new CellGroup(this, (names) => {
        this.#groups.delete(key)
        for (const name of names) this.#forget(name)
      })
      this.#groups.set(key, group)
    }
    group.users++
    return group
  }

  #forget(name: string): void {
    this.#counters.delete(name)
    this.#gauges.delete(name)
    this.#histograms.delete(name)
  }

  /** How many cells have been made so far, those that went included. */
  get made(): number {
    return this.#counters.added + this.#gauges.added + this.#histograms.added
  }

  /** Everything there is, as plain data. */
  snapshot(): MetricsSnapshot {
    const histograms = this.#histograms.map((name, h) => histogramSnapshot(name, h.counts, h.sum))
    return { counters: valuesOf(this.#counters), gauges: valuesOf(this.#gauges), histograms }
  }
}

class CellGroup implements MetricsGroup {
  users = 0
  readonly #store: MetricsStore
  readonly #forget: (names: readonly string[]) => void
  /** Of cells that were made here. */
  #names: string[] = []
  #gone = false

  constructor(store: MetricsStore, forget: (names: readonly string[]) => void) {
    this.#store = store
    this.#forget = forget
  }

  has(name: string): boolean {
    return this.#store.has(name)
  }

  counter(name: string): Counter {
    return this.#gone ? new Cell() : this.#noting(name, this.#store.made, this.#store.counter(name))
  }

  gauge(name: string): Gauge {
    return this.#gone ? new Cell() : this.#noting(name, this.#store.made, this.#store.gauge(name))
  }

  histogram(name: string): Histogram {
    return this.#gone ? NOTHING : this.#noting(name, this.#store.made, this.#store.histogram(name))
  }

  #noting<C>(name: string, before: number, cell: C): C {
    if (this.#store.made !== before) this.#names.push(name)
    return cell
  }

  release(): void {
    if (--this.users > 0 || this.#gone) return
    this.#gone = true
    this.#forget(this.#names)
    this.#names = []
  }
}

/** What is counted after the end is nobody's. */
const NOTHING: Histogram = Object.freeze({ record() {} })

function cellOf(cells: CellTable<Cell>, name: string): Cell {
  return cells.get(name) ?? cells.add(name, new Cell())
}

function valuesOf(cells: CellTable<Cell>): [string, number][] {
  return cells.map((name, cell) => [name, cell.v])
}

function histogramSnapshot(name: string, counts: Float64Array, sum: number): HistogramSnapshot {
  const cumulative: number[] = []
  let count = 0
  for (let i = 0; i < HISTOGRAM_BOUNDS.length; i++) {
    count += counts[i]
    cumulative.push(count)
  }
  count += counts[HISTOGRAM_BOUNDS.length]
  return { name, count, sum, bounds: HISTOGRAM_BOUNDS, cumulative }
}
