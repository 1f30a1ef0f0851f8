import type { OutlierMonitor } from './monitor.ts'
import type { OutlierSettings } from './settings.ts'

/** The longest of ejections; a maximum below the base would shorten it (Envoy takes the larger of the two). */
export function longestMs(settings: OutlierSettings): number {
  return Math.max(settings.of('maxEjectionTimeMs'), settings.of('baseEjectionTimeMs'))
}

/** How long an ejection lasts, by what is configured now. */
export function ejectionMs(monitor: OutlierMonitor, settings: OutlierSettings): number {
  if (monitor.fixedMs >= 0) return monitor.fixedMs
  return Math.min(settings.of('baseEjectionTimeMs') * monitor.backoff, longestMs(settings)) + monitor.jitterMs
}
