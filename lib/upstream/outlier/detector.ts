import type { Metrics, Runtime } from '../../core/metrics.ts'
import { Timed, type TimerWheel } from '../../core/timer-wheel.ts'
import { HEALTH } from '../health-flags.ts'
import type { Host } from '../host.ts'
import type { HostSet } from '../host-set.ts'
import type { OutlierConfig, OutlierKind } from './config.ts'
import type { OutlierEventLog } from './event-log.ts'
import { type OutlierJudge, OutlierMonitor } from './monitor.ts'
import { judgeRates, type Origin, type RateVerdict } from './rates.ts'
import { OutlierSettings } from './settings.ts'
import { OutlierStats } from './stats.ts'

/** What a detector works with. */
export interface OutlierParts {
  readonly statName: string
  readonly hosts: HostSet
  readonly wheel: TimerWheel
  readonly metrics: Metrics
  readonly runtime: Runtime
  /** In [0, 1). */
  readonly random: () => number
  readonly log: OutlierEventLog | undefined
  /** A host has just been ejected. */
  readonly ejected: (host: Host) => void
}

/**
 * Keeps traffic off hosts that answer badly (Envoy's outlier detection): failures in a row eject at once, rates are judged
 * at the end of each interval, and hosts come back when their time is over. Counts what this process sees.
 *
 * ```
 *            failures in a row, or a bad rate
 *   in use ──────────────────────────────────▶ ejected (base × times, at most max, + jitter)
 *      ▲                                          │
 *      └── a sweep after its time, or an active check that passes
 * ```
 */
export class OutlierDetector extends Timed implements OutlierJudge, Disposable {
  readonly settings: OutlierSettings
  readonly #parts: OutlierParts
  readonly #stats: OutlierStats
  readonly #monitors = new Map<Host, OutlierMonitor>()
  #active = 0
  #closed = false

  constructor(config: OutlierConfig, parts: OutlierParts) {
    super()
    this.settings = new OutlierSettings(config, parts.runtime)
    this.#parts = parts
    this.#stats = new OutlierStats(parts.metrics, parts.statName)
  }

  /** Takes over a change of membership. */
  update(added: readonly Host[], removed: readonly Host[]): void {
    if (this.#closed) return
    for (const host of added) {
      const monitor = new OutlierMonitor(host, this)
      this.#monitors.set(host, monitor)
      host.watch(monitor)
    }
    for (const host of removed) {
      const monitor = this.#monitors.get(host)
      if (monitor === undefined) continue
      this.#monitors.delete(host)
      host.unwatch(monitor)
      if (host.has(HEALTH.failedOutlierCheck)) this.#count(-1)
    }
  }

  /** An active check of the host has passed. */
  checked(host: Host): void {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined || !this.settings.config.uneject) return
    if (host.has(HEALTH.failedOutlierCheck) && !host.has(HEALTH.failedActiveHc)) this.#uneject(monitor)
  }

  /** For `/clusters`: percent; -1 where the last interval had too little traffic. */
  successRate(host: Host, origin: Origin): number {
    return this.#monitors.get(host)?.[origin].rate ?? -1
  }

  // --- from monitors --------------------------------------------------------------------------------------------------

  wake(): void {
    if (this.#closed || this.after !== undefined) return
    this.settings.refresh()
    this.#parts.wheel.arm(this, this.settings.of('intervalMs'))
  }

  tooMany(monitor: OutlierMonitor, kind: OutlierKind): void {
    if (this.#closed || monitor.host.has(HEALTH.failedOutlierCheck)) return
    this.#detected(monitor, kind, undefined)
    monitor.resetRow(kind)
  }

  // --- the end of an interval -----------------------------------------------------------------------------------------

  override onDue(nowMs: number): void {
    this.settings.refresh()
    const monitors = [...this.#monitors.values()]
    for (const monitor of monitors) {
      this.#review(monitor, nowMs)
      monitor.external.turn()
      monitor.local.turn()
    }
    this.#judge(monitors, 'external')
    if (this.settings.config.splitExternalLocalOriginErrors) this.#judge(monitors, 'local')
    // A cluster without traffic costs nothing.
    if (monitors.some(({ busy }) => busy)) this.#parts.wheel.arm(this, this.settings.of('intervalMs'))
  }

  #judge(monitors: readonly OutlierMonitor[], origin: Origin): void {
    for (const verdict of judgeRates(monitors, origin, this.settings)) {
      // The first verdict of this sweep may have ejected it.
      if (!verdict.monitor.host.has(HEALTH.failedOutlierCheck)) this.#detected(verdict.monitor, verdict.kind, verdict)
    }
  }

  /** Its time may be over; one that has been in use since the last sweep is trusted a little more. */
  #review(monitor: OutlierMonitor, nowMs: number): void {
    if (!monitor.host.has(HEALTH.failedOutlierCheck)) {
      if (monitor.backoff > 0) monitor.backoff--
      return
    }
    const base = this.settings.of('baseEjectionTimeMs') * monitor.backoff
    const time = Math.min(base, this.#longest()) + monitor.jitterMs
    if (nowMs - monitor.ejectedAtMs >= time) this.#uneject(monitor)
  }

  /** A maximum below the base would shorten it (Envoy takes the larger of the two). */
  #longest(): number {
    return Math.max(this.settings.of('maxEjectionTimeMs'), this.settings.of('baseEjectionTimeMs'))
  }

  // --- ejections ------------------------------------------------------------------------------------------------------

  #detected(monitor: OutlierMonitor, kind: OutlierKind, verdict: RateVerdict | undefined): void {
    const stats = this.#stats
    stats.detected[kind].v++
    if (kind === 'consecutive5xx') stats.consecutive5xx.v++
    if (kind === 'successRate') stats.successRate.v++
    if (!this.#hasRoom()) {
      stats.overflow.v++
      return
    }
    if (kind === 'consecutive5xx' || kind === 'successRate') stats.total.v++
    const enforced = this.#parts.random() * 100 < this.settings.enforcing(kind)
    if (enforced) {
      stats.enforced[kind].v++
      this.#eject(monitor)
    }
    this.#parts.log?.ejected({ monitor, kind, verdict, enforced })
    // After the log: connections end, and whoever hears of it may look at the host.
    if (enforced) this.#parts.ejected(monitor.host)
  }

  #hasRoom(): boolean {
    if (this.#active === 0 && this.settings.config.alwaysEjectOneHost) return true
    const percent = (100 * (this.#active + 1)) / this.#monitors.size
    return percent <= Math.min(100, this.settings.of('maxEjectionPercent'))
  }

  #eject(monitor: OutlierMonitor): void {
    const { hosts, wheel, random } = this.#parts
    this.#stats.enforcedTotal.v++
    this.#count(1)
    monitor.ejections++
    monitor.ejectedAtMs = wheel.clock.now()
    monitor.jitterMs = Math.floor(random() * (this.settings.of('maxEjectionTimeJitterMs') + 1))
    const base = this.settings.of('baseEjectionTimeMs')
    if (monitor.backoff * base < this.#longest() + base) monitor.backoff++
    hosts.flag(monitor.host, HEALTH.failedOutlierCheck, true)
  }

  #uneject(monitor: OutlierMonitor): void {
    this.#count(-1)
    monitor.resetRows()
    monitor.unejectedAtMs = this.#parts.wheel.clock.now()
    this.#parts.hosts.flag(monitor.host, HEALTH.failedOutlierCheck, false)
    this.#parts.log?.unejected(monitor)
  }

  /** The gauge is shared with a successor: it moves by differences. */
  #count(by: 1 | -1): void {
    this.#active += by
    this.#stats.active.v += by
  }

  /** Nothing is ejected any more. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#closed) return
    this.#closed = true
    this.#parts.wheel.disarm(this)
    this.#stats.active.v -= this.#active
    this.#active = 0
    for (const [host, monitor] of this.#monitors) host.unwatch(monitor)
    this.#monitors.clear()
    this.#parts.log?.[Symbol.dispose]()
  }
}
