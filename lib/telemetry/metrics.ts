import { DeclaredCells, withDeclared } from '../core/declared-cells.ts'
import {
  type CellNames,
  type Counter,
  type Gauge,
  HISTOGRAM_BOUNDS,
  type Histogram,
  type Metrics,
  type MetricsGroup,
  type TextCell,
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

/** So many cells are looked at, and so many told of, before whoever reads changes may pause. */
const PIECE = 1_000

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
  readonly #texts = new Map<string, TextCell>()
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

  text(name: string): TextCell {
    let cell = this.#texts.get(name)
    if (cell === undefined) this.#texts.set(name, (cell = { v: '' }))
    return cell
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
    const all = withDeclared(there, this.#declared.all)
    return this.#texts.size === 0 ? all : { ...all, texts: [...this.#texts].map(([name, { v }]) => [name, v] as const) }
  }

  /**
   * What has changed since this was asked last, in time that depends on the number of cells and little else. `full`:
   * everything, and the next answer begins there. One reader, and one answer at a time, which is read to its end: it comes in
   * pieces of about a thousand cells, the last of which may be empty, and what changes meanwhile may be in it or in the next.
   * Undefined: nothing to tell of a thousand cells more; the reader may pause.
   */
  *changes(full: boolean): Generator<MetricsChange | undefined, void> {
    const gone = full ? [] : [...this.#gone]
    this.#gone = new Set()
    let rest: Rest = { full, gone, ...this.#declared.change(full) }
    let values = noValues()
    for (const read of this.#pieces(full)) {
      read(values)
      const { counters, gauges, histograms } = values
      if (counters.length + gauges.length + histograms.length < PIECE) {
        yield undefined
        continue
      }
      yield { ...rest, ...values }
      rest = NO_REST
      values = noValues()
    }
    yield { ...rest, ...values }
  }

  /** Each reads what has changed of a thousand cells at most. */
  *#pieces(full: boolean): Generator<(values: Values) => void, void> {
    const [counters, gauges, histograms] = [this.#counters, this.#gauges, this.#histograms]
    for (let at = 0; at < counters.places; at += PIECE) {
      yield (values) => counters.forEach((name, cell) => void tellCounter(name, cell, values, full), at, at + PIECE)
    }
    for (let at = 0; at < gauges.places; at += PIECE) {
      yield (values) => gauges.forEach((name, cell) => void tellGauge(name, cell, values, full), at, at + PIECE)
    }
    for (let at = 0; at < histograms.places; at += PIECE) {
      yield (values) =>
        histograms.forEach((name, cells) => void tellHistogram(name, cells, values, full), at, at + PIECE)
    }
  }
}

interface Values {
  readonly counters: [string, number][]
  readonly gauges: [string, number][]
  readonly histograms: HistogramSnapshot[]
}

function noValues(): Values {
  return { counters: [], gauges: [], histograms: [] }
}

/** What a change says beside values: with its first piece. */
type Rest = Omit<MetricsChange, keyof Values>

const NO_REST: Rest = Object.freeze({ full: false, gone: [], tables: [], declared: [], undeclared: [] })

function tellCounter(name: string, cell: Cell, { counters }: Values, full: boolean): void {
  const { v, told } = cell
  if (full || told === undefined) counters.push([name, v])
  else if (v !== told) counters.push([name, v - told])
  else return
  cell.told = v
}

function tellGauge(name: string, cell: Cell, { gauges }: Values, full: boolean): void {
  const { v } = cell
  if (!full && v === cell.told) return
  gauges.push([name, v])
  cell.told = v
}

function tellHistogram(name: string, cells: BucketHistogram, { histograms }: Values, full: boolean): void {
  const { told } = cells
  if (!full && told !== undefined && told.sum === cells.sum && told.count === cells.count) return
  const now = histogramSnapshot(name, cells)
  histograms.push(full || told === undefined ? now : difference(now, told))
  cells.told = now
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
