/** What is thought of a process whose event loop does not turn: how long it may not, in ms. JSON-safe. */
export interface WatchdogConfig {
  /** Counted as missed, and as missed by much; once until it turns again. */
  readonly missMs: number
  readonly megaMissMs: number
  /** It is killed then, and another one started. Default: 4,500 ms for workers, 30,000 ms for control. */
  readonly killMs?: number
  /** By how much more at most, by chance. Default: 0. */
  readonly killJitterMs?: number
  /** Killed already then, where so large a share of the processes (percent, at least two) hangs. Default: never. */
  readonly multikillMs?: number
  readonly multikillPercent?: number
}

/** Of the processes of a gateway; without one nothing is counted, and what hangs is killed after the default time. */
export interface WatchdogsConfig {
  readonly control?: WatchdogConfig
  readonly workers?: WatchdogConfig
}

/** Envoy's. */
export const WATCHDOG_DEFAULTS = Object.freeze({ missMs: 200, megaMissMs: 1_000 })
