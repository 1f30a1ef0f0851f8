import type { RateFigures } from '../../core/status.ts'
import { HEALTH } from '../health-flags.ts'
import type { OutlierKind } from './config.ts'
import type { OutlierMonitor } from './monitor.ts'
import type { OutlierSettings } from './settings.ts'

/** Why a host's rate is not what it should be, in percent. */
export interface RateVerdict {
  readonly monitor: OutlierMonitor
  readonly kind: OutlierKind
  readonly rate: number
  readonly mean: number
  readonly threshold: number
}

/** Which of a host's windows. */
export type Origin = 'external' | 'local'

export type { RateFigures }

/** Nothing was judged. */
export const NO_FIGURES: RateFigures = Object.freeze({ average: -1, threshold: -1 })

export interface RateJudgement {
  readonly verdicts: readonly RateVerdict[]
  readonly figures: RateFigures
}

/**
 * Judges the interval that is over: hosts whose success rate is further below the mean than so many standard deviations,
 * and hosts that fail more often than is permitted (Envoy's algorithm). Ejected hosts take no part.
 */
export function judgeRates(
  monitors: readonly OutlierMonitor[],
  { size, origin, settings }: { readonly size: number; readonly origin: Origin; readonly settings: OutlierSettings },
): RateJudgement {
  const rateHosts = settings.of('successRateMinimumHosts')
  const failureHosts = settings.of('failurePercentageMinimumHosts')
  if (size < rateHosts && size < failureHosts) return NOTHING
  const rateVolume = settings.of('successRateRequestVolume')
  const failureVolume = settings.of('failurePercentageRequestVolume')
  const byRate: OutlierMonitor[] = []
  const byFailure: OutlierMonitor[] = []
  for (const monitor of monitors) {
    const window = monitor[origin]
    const { lastTotal } = window
    if (monitor.host.has(HEALTH.failedOutlierCheck) || lastTotal === 0) continue
    if (lastTotal < Math.min(rateVolume, failureVolume)) continue
    window.rate = (100 * window.lastSuccess) / lastTotal
    if (lastTotal >= rateVolume) byRate.push(monitor)
    if (lastTotal >= failureVolume) byFailure.push(monitor)
  }
  const figures = byRate.length > 0 && byRate.length >= rateHosts ? figuresOf(byRate, origin, settings) : NO_FIGURES
  const failures = byFailure.length > 0 && byFailure.length >= failureHosts ? failing(byFailure, origin, settings) : []
  if (figures === NO_FIGURES) return { verdicts: failures, figures }
  return { verdicts: [...belowMean(byRate, origin, figures), ...failures], figures }
}

const NOTHING: RateJudgement = Object.freeze({ verdicts: Object.freeze([]), figures: NO_FIGURES })

function figuresOf(monitors: readonly OutlierMonitor[], origin: Origin, settings: OutlierSettings): RateFigures {
  let sum = 0
  for (const monitor of monitors) sum += monitor[origin].rate
  const average = sum / monitors.length
  let squares = 0
  for (const monitor of monitors) squares += (monitor[origin].rate - average) ** 2
  const deviation = Math.sqrt(squares / monitors.length)
  return { average, threshold: average - (settings.of('successRateStdevFactor') / 1000) * deviation }
}

function belowMean(
  monitors: readonly OutlierMonitor[],
  origin: Origin,
  { average: mean, threshold }: RateFigures,
): readonly RateVerdict[] {
  const kind = origin === 'external' ? 'successRate' : 'successRateLocalOrigin'
  return monitors
    .filter((monitor) => monitor[origin].rate < threshold)
    .map((monitor) => ({ monitor, kind, rate: monitor[origin].rate, mean, threshold }))
}

function failing(
  monitors: readonly OutlierMonitor[],
  origin: Origin,
  settings: OutlierSettings,
): readonly RateVerdict[] {
  const permitted = settings.of('failurePercentageThreshold')
  const kind = origin === 'external' ? 'failurePercentage' : 'failurePercentageLocalOrigin'
  return monitors
    .filter((monitor) => 100 - monitor[origin].rate >= permitted)
    .map((monitor) => ({ monitor, kind, rate: monitor[origin].rate, mean: 0, threshold: 0 }))
}
