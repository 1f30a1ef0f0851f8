import { type CellNames, HISTOGRAM_BOUNDS } from './metrics.ts'
import type { HistogramSnapshot, MetricsChange, MetricsSnapshot } from './status.ts'

/** Names of cells that nobody has made yet: a table of them behind each prefix, which may be several in one. */
export class DeclaredCells {
  readonly #tables = new Map<CellNames, number>()
  /** Tables that are several in one, and those that they are made of. */
  readonly #joined: { readonly whole: CellNames; readonly parts: readonly CellNames[] }[] = []
  readonly #all = new Map<string, CellNames>()
  /** Since the last `change`. */
  #added = new Map<string, CellNames>()
  #removed = new Set<string>()
  /** Tables that a reader has been told of. */
  #told = 0

  add(prefix: string, names: CellNames): void {
    const before = this.#all.get(prefix)
    const after = before === undefined ? names : this.#join(before, names)
    if (after === before) return
    if (!this.#tables.has(after)) this.#tables.set(after, this.#tables.size)
    this.#all.set(prefix, after)
    this.#added.set(prefix, after)
    this.#removed.delete(prefix)
  }

  /** One table for both, the same whenever it is asked for. */
  #join(before: CellNames, names: CellNames): CellNames {
    const parts = this.#joined.find(({ whole }) => whole === before)?.parts ?? [before]
    if (parts.includes(names)) return before
    const wanted = [...parts, names]
    const known = this.#joined.find(
      (join) => join.parts.length === wanted.length && wanted.every((p) => join.parts.includes(p)),
    )
    if (known !== undefined) return known.whole
    const whole: CellNames = {
      counters: wanted.flatMap(({ counters }) => counters),
      gauges: wanted.flatMap(({ gauges }) => gauges),
      histograms: wanted.flatMap(({ histograms }) => histograms),
    }
    this.#joined.push({ whole, parts: wanted })
    return whole
  }

  remove(prefix: string): void {
    if (!this.#all.delete(prefix)) return
    this.#added.delete(prefix)
    this.#removed.add(prefix)
  }

  get all(): ReadonlyMap<string, CellNames> {
    return this.#all
  }

  /** What has been added and removed since this was asked last; `full`: all there is. */
  change(full: boolean): Pick<MetricsChange, 'tables' | 'declared' | 'undeclared'> {
    if (full) this.#told = 0
    const tables = [...this.#tables].slice(this.#told).map(([names, number]) => [number, names] as const)
    const declared = [...(full ? this.#all : this.#added)].map(
      ([prefix, names]) => [prefix, this.#tables.get(names) as number] as const,
    )
    const undeclared = full ? [] : [...this.#removed]
    this.#told = this.#tables.size
    this.#added = new Map()
    this.#removed = new Set()
    return { tables, declared, undeclared }
  }
}

/** `values` and, with the value 0, what else is declared. */
export function withDeclared(
  values: MetricsSnapshot,
  declared: Iterable<readonly [string, CellNames]>,
): MetricsSnapshot {
  const counters = new Map(values.counters)
  const gauges = new Map(values.gauges)
  const histograms = new Map(values.histograms.map((histogram) => [histogram.name, histogram]))
  for (const [prefix, names] of declared) {
    for (const rest of names.counters) if (!counters.has(prefix + rest)) counters.set(prefix + rest, 0)
    for (const rest of names.gauges) if (!gauges.has(prefix + rest)) gauges.set(prefix + rest, 0)
    for (const rest of names.histograms) {
      const name = prefix + rest
      if (!histograms.has(name)) histograms.set(name, { ...EMPTY, name })
    }
  }
  return { counters: [...counters], gauges: [...gauges], histograms: [...histograms.values()] }
}

const EMPTY: HistogramSnapshot = Object.freeze({
  name: '',
  count: 0,
  sum: 0,
  bounds: HISTOGRAM_BOUNDS,
  cumulative: Object.freeze(HISTOGRAM_BOUNDS.map(() => 0)),
})
