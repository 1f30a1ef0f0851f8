import { withDeclared } from '../core/declared-cells.ts'
import type { CellNames } from '../core/metrics.ts'
import type { HistogramSnapshot, MetricsSnapshot } from './engine.ts'
import type { StatsPush } from './messages.ts'

interface MutableHistogram {
  count: number
  sum: number
  readonly bounds: readonly number[]
  cumulative: number[]
}

interface Totals {
  readonly counters: Map<string, number>
  readonly gauges: Map<string, number>
  readonly histograms: Map<string, MutableHistogram>
  readonly tables: Map<number, CellNames>
  readonly declared: Map<string, CellNames>
}

/**
 * Gauges that every worker sets for itself to the same thing, by the last part of their names: the number of hosts in a
 * cluster is not twice as large because two workers know it. They are not added up; the largest counts.
 */
const SHARED_GAUGES: ReadonlySet<string> = new Set([
  'membership_total',
  'membership_healthy',
  'membership_degraded',
  'membership_excluded',
  'max_host_weight',
  'total_listeners_active',
  'total_listeners_draining',
  'total_filter_chains_draining',
  'active_clusters',
  'warming_clusters',
  'version',
  // Of the overload manager: shares, not amounts.
  'active',
  'pressure',
  'scale_percent',
])

/** Of circuit breakers: a worker gives the part of the limit that is taken there (`SlotLease.used`); all of it is 1, less is 0. */
const OPEN_GAUGES: ReadonlySet<string> = new Set([
  'cx_open',
  'cx_pool_open',
  'rq_open',
  'rq_pending_open',
  'rq_retry_open',
])
/** What parts of a limit that make all of it may lack, as they are added up. */
const LACKING = 1e-9

/**
 * The statistics of all workers as control knows them. Counters and histograms of a worker that is gone stay in the sum
 * (a counter never goes back), its gauges vanish. A name disappears when every worker that lives has dropped it, as a
 * statistic of a removed cluster does.
 */
export class StatsStore {
  readonly #workers = new Map<number, Totals>()
  readonly #retired = emptyTotals()

  /** Adds what a worker pushed. A difference without a base (control was restarted in between) is left out. */
  add(worker: number, push: StatsPush): void {
    if (push.full) this.#workers.set(worker, emptyTotals())
    const totals = this.#workers.get(worker)
    if (totals === undefined) return
    for (const [name, value] of push.counters) totals.counters.set(name, (totals.counters.get(name) ?? 0) + value)
    for (const [name, value] of push.gauges) totals.gauges.set(name, value)
    for (const histogram of push.histograms) addHistogram(totals.histograms, histogram)
    for (const name of push.gone) this.#forget(totals, name)
    for (const [number, names] of push.tables) totals.tables.set(number, names)
    for (const [prefix, number] of push.declared) {
      const names = totals.tables.get(number)
      if (names !== undefined) totals.declared.set(prefix, names)
    }
    for (const prefix of push.undeclared) totals.declared.delete(prefix)
  }

  /** Puts all that a part of this process counts in the place of what it had. */
  set(worker: number, { counters, gauges, histograms }: MetricsSnapshot): void {
    this.add(worker, { full: true, gone: [], counters, gauges, histograms, tables: [], declared: [], undeclared: [] })
  }

  /** The worker has ended. */
  retire(worker: number): void {
    const totals = this.#workers.get(worker)
    if (totals === undefined) return
    this.#workers.delete(worker)
    addTotals(this.#retired, totals)
  }

  /** Of all workers, as they have told it last. */
  gauge(name: string): number {
    let sum = 0
    for (const { gauges } of this.#workers.values()) sum += gauges.get(name) ?? 0
    return sum
  }

  /** Sums over all workers, by name in the order of the alphabet. */
  snapshot(): MetricsSnapshot {
    const sum = emptyTotals()
    addTotals(sum, this.#retired)
    for (const totals of this.#workers.values()) {
      addTotals(sum, totals)
      for (const [prefix, names] of totals.declared) sum.declared.set(prefix, names)
      for (const [name, value] of totals.gauges) sum.gauges.set(name, joinGauge(name, sum.gauges.get(name), value))
    }
    for (const [name, value] of sum.gauges)
      if (isOneOf(OPEN_GAUGES, name)) sum.gauges.set(name, value < 1 - LACKING ? 0 : 1)
    const histograms = [...sum.histograms].map(([name, h]) => ({ name, ...h }))
    const all = withDeclared({ counters: [...sum.counters], gauges: [...sum.gauges], histograms }, sum.declared)
    return {
      counters: [...all.counters].sort(byName),
      gauges: [...all.gauges].sort(byName),
      histograms: [...all.histograms].sort((a, b) => compare(a.name, b.name)),
    }
  }

  #forget(totals: Totals, name: string): void {
    const counter = totals.counters.get(name)
    const histogram = totals.histograms.get(name)
    totals.counters.delete(name)
    totals.gauges.delete(name)
    totals.histograms.delete(name)
    const elsewhere = [...this.#workers.values()].some((t) => t.counters.has(name) || t.histograms.has(name))
    if (elsewhere) {
      // The others still count it: what this worker contributed must not be taken out of the sum.
      if (counter !== undefined) this.#retired.counters.set(name, (this.#retired.counters.get(name) ?? 0) + counter)
      if (histogram !== undefined) addHistogram(this.#retired.histograms, { name, ...histogram })
    } else {
      this.#retired.counters.delete(name)
      this.#retired.histograms.delete(name)
    }
  }
}

function joinGauge(name: string, a: number | undefined, b: number): number {
  if (a === undefined) return b
  return isOneOf(SHARED_GAUGES, name) ? Math.max(a, b) : a + b
}

function isOneOf(names: ReadonlySet<string>, name: string): boolean {
  return names.has(name.slice(name.lastIndexOf('.') + 1))
}

function emptyTotals(): Totals {
  return {
    counters: new Map(),
    gauges: new Map(),
    histograms: new Map(),
    tables: new Map(),
    declared: new Map(),
  }
}

/** Counters and histograms only: gauges are of the living. */
function addTotals(into: Totals, from: Totals): void {
  for (const [name, value] of from.counters) into.counters.set(name, (into.counters.get(name) ?? 0) + value)
  for (const [name, histogram] of from.histograms) addHistogram(into.histograms, { name, ...histogram })
}

function addHistogram(into: Map<string, MutableHistogram>, from: HistogramSnapshot): void {
  const there = into.get(from.name)
  if (there === undefined || there.bounds.length !== from.bounds.length) {
    // Other bounds than before (new configuration): the two cannot be added, the newer ones count.
    into.set(from.name, { count: from.count, sum: from.sum, bounds: from.bounds, cumulative: [...from.cumulative] })
    return
  }
  there.count += from.count
  there.sum += from.sum
  there.cumulative = there.cumulative.map((value, i) => value + (from.cumulative[i] ?? 0))
}

function byName(a: readonly [string, number], b: readonly [string, number]): number {
  return compare(a[0], b[0])
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
