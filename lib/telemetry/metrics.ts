import { DeclaredCells, withDeclared } from '../core/declared-cells.ts'
import {
  type CellNames,
  type Counter,
  type Gauge,
  HISTOGRAM_BOUNDS,
  type Histogram,
  type Metrics,
  type MetricsGroup,
} from '../core/metrics.ts'
import type { HistogramSnapshot, MetricsChange, MetricsSnapshot } from '../core/status.ts'
import { CellTable } from './cell-table.ts'

export type { HistogramSnapshot, MetricsSnapshot }
export { HISTOGRAM_BOUNDS }

/** A counter or gauge. */
class Cell {
  v = 0
  /** As told by the last `change`. */
  told: number | undefined = undefined
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
  /** As told by the last `change`. */
  told: HistogramSnapshot | undefined = undefined

  constructor(table: Uint8Array) {
    this.#table = table
  }

  get count(): number {
    let count = 0
    for (const n of this.counts) count += n
    return count
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
  readonly #declared = new DeclaredCells()
  /** Told of and deleted since the last `change`. */
  #gone = new Set<string>()

  has(name: string): boolean {
    return this.#counters.get(name) !== undefined
  }

  counter(name: string, made?: string[]): Counter {
    return this.#counters.get(name) ?? this.#counters.add(this.#noted(name, made), new Cell())
  }

  gauge(name: string, made?: string[]): Gauge {
    return this.#gauges.get(name) ?? this.#gauges.add(this.#noted(name, made), new Cell())
  }

  histogram(name: string, made?: string[]): Histogram {
    const known = this.#histograms.get(name)
    return known ?? this.#histograms.add(this.#noted(name, made), new BucketHistogram(this.#bucketTable))
  }

  #noted(name: string, made: string[] | undefined): string {
    made?.push(name)
    this.#gone.delete(name)
    return name
  }

  declare(prefix: string, names: CellNames): void {
    this.#declared.add(prefix, names)
  }

  group(key: string): MetricsGroup {
    let group = this.#groups.get(key)
    if (group === undefined) {
      group = new CellGroup(this, (names, prefixes) => {
        this.#groups.delete(key)
        for (const name of names) this.#forget(name)
        for (const prefix of prefixes) this.#declared.remove(prefix)
      })
      this.#groups.set(key, group)
    }
    group.users++
    return group
  }

  #forget(name: string): void {
    const told = [this.#counters.delete(name), this.#gauges.delete(name), this.#histograms.delete(name)]
    if (told.some((cell) => cell?.told !== undefined)) this.#gone.add(name)
  }

  /** Everything there is, as plain data. */
  snapshot(): MetricsSnapshot {
    const there: Values = { counters: [], gauges: [], histograms: [] }
    this.#counters.forEach((name, cell) => void there.counters.push([name, cell.v]))
    this.#gauges.forEach((name, cell) => void there.gauges.push([name, cell.v]))
    this.#histograms.forEach((name, cells) => void there.histograms.push(histogramSnapshot(name, cells)))
    return withDeclared(there, this.#declared.all)
  }

  /**
   * What has changed since this was asked last, in time that depends on the number of cells and little else. `full`:
   * everything, and the next answer begins there. For one reader.
   */
  change(full: boolean): MetricsChange {
    const { counters, gauges, histograms }: Values = { counters: [], gauges: [], histograms: [] }
    this.#counters.forEach((name, cell) => {
      const { v, told } = cell
      if (full || told === undefined) counters.push([name, v])
      else if (v !== told) counters.push([name, v - told])
      else return
      cell.told = v
    })
    this.#gauges.forEach((name, cell) => {
      const { v } = cell
      if (!full && v === cell.told) return
      gauges.push([name, v])
      cell.told = v
    })
    this.#histograms.forEach((name, cells) => {
      const { told } = cells
      if (!full && told !== undefined && told.sum === cells.sum && told.count === cells.count) return
      const now = histogramSnapshot(name, cells)
      histograms.push(full || told === undefined ? now : difference(now, told))
      cells.told = now
    })
    const gone = full ? [] : [...this.#gone]
    this.#gone = new Set()
    return { full, gone, counters, gauges, histograms, ...this.#declared.change(full) }
  }
}

interface Values {
  readonly counters: [string, number][]
  readonly gauges: [string, number][]
  readonly histograms: HistogramSnapshot[]
}

class CellGroup implements MetricsGroup {
  users = 0
  readonly #store: MetricsStore
  readonly #forget: (names: readonly string[], prefixes: readonly string[]) => void
  /** Of cells that were made here. */
  #names: string[] = []
  readonly #prefixes = new Set<string>()
  #gone = false

  constructor(store: MetricsStore, forget: (names: readonly string[], prefixes: readonly string[]) => void) {
    this.#store = store
    this.#forget = forget
  }

  has(name: string): boolean {
    return this.#store.has(name)
  }

  counter(name: string): Counter {
    return this.#gone ? new Cell() : this.#store.counter(name, this.#names)
  }

  gauge(name: string): Gauge {
    return this.#gone ? new Cell() : this.#store.gauge(name, this.#names)
  }

  histogram(name: string): Histogram {
    return this.#gone ? NOTHING : this.#store.histogram(name, this.#names)
  }

  declare(prefix: string, names: CellNames): void {
    if (this.#gone) return
    this.#prefixes.add(prefix)
    this.#store.declare(prefix, names)
  }

  release(): void {
    if (--this.users > 0 || this.#gone) return
    this.#gone = true
    this.#forget(this.#names, [...this.#prefixes])
    this.#names = []
  }
}

/** What is counted after the end is nobody's. */
const NOTHING: Histogram = Object.freeze({ record() {} })

function histogramSnapshot(name: string, { counts, sum }: BucketHistogram): HistogramSnapshot {
  const cumulative: number[] = []
  let count = 0
  for (let i = 0; i < HISTOGRAM_BOUNDS.length; i++) {
    count += counts[i]
    cumulative.push(count)
  }
  count += counts[HISTOGRAM_BOUNDS.length]
  return { name, count, sum, bounds: HISTOGRAM_BOUNDS, cumulative }
}

function difference(now: HistogramSnapshot, last: HistogramSnapshot): HistogramSnapshot {
  return {
    name: now.name,
    count: now.count - last.count,
    sum: now.sum - last.sum,
    bounds: now.bounds,
    cumulative: now.cumulative.map((value, i) => value - last.cumulative[i]),
  }
}
