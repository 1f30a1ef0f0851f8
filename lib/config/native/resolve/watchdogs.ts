import { WATCHDOG_DEFAULTS, type WatchdogConfig, type WatchdogsConfig } from '../../watchdog.ts'
import type { NativeWatchdog, NativeWatchdogs } from '../watchdogs.ts'

/** What is not said is as in Envoy. */
export function readWatchdogs({ control, workers }: NativeWatchdogs): WatchdogsConfig {
  return { ...(control && { control: readWatchdog(control) }), ...(workers && { workers: readWatchdog(workers) }) }
}

function readWatchdog(watchdog: NativeWatchdog): WatchdogConfig {
  return { ...WATCHDOG_DEFAULTS, ...watchdog }
}
