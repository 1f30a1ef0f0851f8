/** A counter: callers hold the cell and do `cell.v++` (10 ns); it never goes back. */
export interface Counter {
  v: number
}

/** A gauge: callers add and subtract on the cell. */
export interface Gauge {
  v: number
}

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
  /** Cells that go with their users; whoever asks for the same key shares them. Undefined: cells stay. */
  group?(key: string): MetricsGroup
}

/** Makes cells that are forgotten when the last user of the group has released it. */
export interface MetricsGroup extends Metrics {
  /** Once for each `Metrics.group`. Cells stay usable for whoever has them; nobody else sees them any more. */
  release(): void
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
}

export const noRuntime: Runtime = Object.freeze({ get: () => undefined })
