/** A counter: callers hold the cell and do `cell.v++` (10 ns); it never goes back. */
export interface Counter {
  v: number
}

/** A gauge: callers add and subtract on the cell. */
export interface Gauge {
  v: number
}

/** A text readout: something that is said, for example what a server calls itself; '' until then. */
export interface TextCell {
  v: string
}

/** Envoy's default histogram bounds (upper, inclusive), in the unit of the histogram, which is milliseconds mostly. */
export const HISTOGRAM_BOUNDS: readonly number[] = Object.freeze([
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
])

/** A histogram with fixed bounds; values in the unit its name says (Envoy: milliseconds). */
export interface Histogram {
  record(value: number): void
}

/**
 * Makes cells by Envoy's dotted names (`cluster.web.upstream_rq_total`). Asking twice for a name gives the same cell.
 * Cells are resolved when configuration is compiled, never on the request path.
 */
export interface Metrics {
  /** True where a counter of that name has been made: for names that come from requests and must be limited. */
  has(name: string): boolean
  counter(name: string): Counter
  gauge(name: string): Gauge
  histogram(name: string): Histogram
  /** Of the process that speaks to control planes; undefined: nobody would see it. */
  text?(name: string): TextCell
  /**
   * These names exist under `prefix`, with the value 0 until somebody makes the cell; they cost nothing until then (Envoy's
   * deferred creation, but they show). Of a group: until it is released.
   */
  declare?(prefix: string, names: CellNames): void
  /** Cells that go with their users; whoever asks for the same key shares them. Undefined: cells stay. */
  group?(key: string): MetricsGroup
}

/** Makes cells that are forgotten when the last user of the group has released it. */
export interface MetricsGroup extends Metrics {
  /** Once for each `Metrics.group`. Cells stay usable for whoever has them; nobody else sees them any more. */
  release(): void
}

/** Names of cells that stand behind a common prefix. Identity counts: one table for all who have the same. */
export interface CellNames {
  readonly counters: readonly string[]
  readonly gauges: readonly string[]
  readonly histograms: readonly string[]
}

/** The names that `make` asks for, without their `prefix`; others are left out. */
export function cellNames(prefix: string, make: (metrics: Metrics) => void): CellNames {
  const noting = <C>(into: string[], cell: C): ((name: string) => C) => {
    return (name) => {
      if (name.startsWith(prefix)) into.push(name.slice(prefix.length))
      return cell
    }
  }
  const names = { counters: [] as string[], gauges: [] as string[], histograms: [] as string[] }
  make({
    has: () => false,
    counter: noting(names.counters, { v: 0 }),
    gauge: noting(names.gauges, { v: 0 }),
    histogram: noting(names.histograms, { record() {} }),
  })
  const once = (all: readonly string[]): readonly string[] => Object.freeze([...new Set(all)])
  return Object.freeze({
    counters: once(names.counters),
    gauges: once(names.gauges),
    histograms: once(names.histograms),
  })
}

/** Structured application log. */
export interface Log {
  debug(message: string, fields?: Record<string, unknown>): void
  info(message: string, fields?: Record<string, unknown>): void
  warn(message: string, fields?: Record<string, unknown>): void
  error(message: string, fields?: Record<string, unknown>): void
}

/** Runtime values (RTDS and static layers); a key that is not set answers undefined and the configured default holds. */
export interface Runtime {
  get(key: string): unknown
  /** Changes with the values; undefined: they never change. For those who cannot look each time. */
  readonly version?: number
}

export const noRuntime: Runtime = Object.freeze({ get: () => undefined })
