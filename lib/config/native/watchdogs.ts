/**
 * How long a process may hang, in ms: until it counts as late (`missMs`, default 200) and as very late (`megaMissMs`, default
 * 1,000), and until it is killed and another one started (`killMs`; default: 4,500 for workers, 30,000 for control).
 */
export interface NativeWatchdog {
  readonly missMs?: number
  readonly megaMissMs?: number
  readonly killMs?: number
  /** By how much more at most, by chance. Default: 0. */
  readonly killJitterMs?: number
  /** Killed already then where so large a share of the processes hangs (`multikillPercent`, at least two). Default: never. */
  readonly multikillMs?: number
  readonly multikillPercent?: number
}

/** Of the processes of a gateway that has several. Statistics: `workers.watchdog_miss` and so on, as Envoy's. */
export interface NativeWatchdogs {
  readonly control?: NativeWatchdog
  readonly workers?: NativeWatchdog
}
