import type { GatewayConfig } from '../../lib/config/model.ts'
import { WATCHDOG_DEFAULTS, type WatchdogConfig } from '../../lib/config/watchdog.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { durationMs } from './durations.ts'

/**
 * `config.bootstrap.v3.Watchdogs`, or the older `watchdog` for both kinds of process. The control process is Envoy's main
 * thread. What is killed is replaced; Envoy ends as a whole.
 */
export function translateWatchdogs(reader: FieldReader): Pick<GatewayConfig, 'watchdogs'> {
  const older = reader.message('watchdog')
  const both = reader.message('watchdogs')
  if (older !== undefined && both !== undefined) {
    reader.error('watchdogs', 'cannot be set along with watchdog')
    return {}
  }
  const main = older ?? both?.message('main_thread_watchdog')
  const worker = older ?? both?.message('worker_watchdog')
  const control = main && translateWatchdog(main)
  const workers = worker && (worker === main ? control : translateWatchdog(worker))
  if (control === undefined && workers === undefined) return {}
  return { watchdogs: { ...(control && { control }), ...(workers && { workers }) } }
}

function translateWatchdog(reader: FieldReader): WatchdogConfig {
  // Profiles and backtraces of threads: they only look on.
  reader.ignore('actions')
  const killMs = time(reader, 'kill_timeout')
  const killJitterMs = time(reader, 'max_kill_timeout_jitter')
  const multikillMs = time(reader, 'multikill_timeout')
  const multikillPercent = reader.message('multikill_threshold')?.number('value') ?? 0
  return {
    missMs: time(reader, 'miss_timeout') || WATCHDOG_DEFAULTS.missMs,
    megaMissMs: time(reader, 'megamiss_timeout') || WATCHDOG_DEFAULTS.megaMissMs,
    ...(killMs > 0 && { killMs }),
    ...(killMs > 0 && killJitterMs > 0 && { killJitterMs }),
    ...(multikillMs > 0 && { multikillMs, multikillPercent }),
  }
}

function time(reader: FieldReader, field: string): number {
  const ms = durationMs(reader, field) ?? 0
  if (ms < 0) reader.error(field, `must not be negative, is ${ms / 1000}s`)
  return ms
}
