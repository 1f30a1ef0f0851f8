import type { EjectionState, HostCounts } from '../../core/host-health.ts'
import type { Metrics, Runtime } from '../../core/metrics.ts'
import { Timed, type TimerWheel } from '../../core/timer-wheel.ts'
import { HEALTH } from '../health-flags.ts'
import type { Host } from '../host.ts'
import type { FlaggedHosts } from '../host-view.ts'
import type { OutlierConfig, OutlierKind } from './config.ts'
import { ejectionMs, longestMs } from './ejection-time.ts'
import type { OutlierEventLog } from './event-log.ts'
import { type OutlierJudge, OutlierMonitor, RateWindow } from './monitor.ts'
import { judgeRates, NO_FIGURES, type Origin, type RateFigures, type RateVerdict } from './rates.ts'
import { OutlierSettings } from './settings.ts'
import { OUTLIER_CELLS, OutlierStats } from './stats.ts'
import type { OutlierWatch } from './watch.ts'

/** What a detector works with. */
export interface OutlierParts {
  readonly statName: string
  readonly hosts: FlaggedHosts
  /** Hosts of the cluster; default: those that the detector was told of. */
  readonly size?: () => number
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
 * at the end of each interval, and hosts come back when their time is over. Counts what this process sees, or (in control)
 * what workers tell of theirs.
 *
 * ```
 *            failures in a row, or a bad rate
 *   in use ──────────────────────────────────▶ ejected (base × times, at most max, + jitter)
 *      ▲                                          │
 *      └── a sweep after its time, or an active check that passes
 * ```
 */
export class OutlierDetector extends Timed implements OutlierJudge, OutlierWatch {
  readonly settings: OutlierSettings
  readonly uncounted: RateWindow = new RateWindow()
  readonly #parts: OutlierParts
  #cells: OutlierStats | undefined = undefined
  readonly #figures = { external: NO_FIGURES, local: NO_FIGURES }
  readonly #monitors = new Map<Host, OutlierMonitor>()
  #active = 0
  #closed = false

  constructor(config: OutlierConfig, parts: OutlierParts) {
    super()
    this.settings = new OutlierSettings(config, parts.runtime)
    this.#parts = parts
    parts.metrics.declare?.(`cluster.${parts.statName}.`, OUTLIER_CELLS)
  }

  /** Made when there is something to count. */
  get #stats(): OutlierStats {
    this.#cells ??= new OutlierStats(this.#parts.metrics, this.#parts.statName)
    return this.#cells
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

  successRate(host: Host, origin: Origin): number {
    return this.#monitors.get(host)?.[origin].rate ?? -1
  }

  figures(origin: Origin): RateFigures {
    return this.#figures[origin]
  }

  // --- from workers ---------------------------------------------------------------------------------------------------

  /** What a worker has counted of a host. */
  add(host: Host, [, total, success, localTotal, localSuccess]: HostCounts): void {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined) return
    monitor.external.total += total
    monitor.external.success += success
    monitor.local.total += localTotal
    monitor.local.success += localSuccess
    this.wake()
  }

  /** A worker has seen so many failures in a row, and has ejected the host if `enforced`, where it saw room. */
  reported(host: Host, kind: OutlierKind, enforced: boolean): void {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined || host.has(HEALTH.failedOutlierCheck)) return
    this.wake()
    this.#detected(monitor, kind, undefined, enforced)
  }

  /** A host asked one of the workers to be left alone. */
  reportedEviction(host: Host, forMs: number): void {
    const monitor = this.#monitors.get(host)
    if (monitor !== undefined) this.evict(monitor, forMs)
  }

  /** What a process before this one knew of a host that is new here. */
  resume(host: Host, { count, backoff, leftMs }: EjectionState, ejected: boolean): void {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined || monitor.ejections > count) return
    monitor.ejections = count
    monitor.backoff = backoff
    this.wake()
    if (!ejected || host.has(HEALTH.failedOutlierCheck)) return
    this.#count(1)
    monitor.ejectedAtMs = this.#parts.wheel.clock.now()
    monitor.jitterMs = 0
    monitor.fixedMs = leftMs
    this.#parts.hosts.flag(host, HEALTH.failedOutlierCheck, true)
  }

  /** Undefined: it has never been ejected. */
  state(host: Host): EjectionState | undefined {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined || monitor.ejections === 0) return undefined
    const { ejections: count, backoff } = monitor
    const since = this.#parts.wheel.clock.now() - monitor.ejectedAtMs
    const leftMs = host.has(HEALTH.failedOutlierCheck) ? Math.max(0, ejectionMs(monitor, this.settings) - since) : 0
    return { count, backoff, leftMs }
  }

  // --- from monitors --------------------------------------------------------------------------------------------------

  wake(): void {
    if (this.#closed || this.after !== undefined) return
    this.settings.refresh()
    this.#parts.wheel.arm(this, this.settings.of('intervalMs'))
  }

  wallMs(): number {
    return this.#parts.wheel.wall()
  }

  evict(monitor: OutlierMonitor, forMs: number): void {
    if (this.#closed || monitor.host.has(HEALTH.failedOutlierCheck)) return
    this.wake()
    if (!this.#hasRoom()) {
      this.#stats.overflow.v++
      return
    }
    this.#eject(monitor, forMs)
    this.#parts.log?.evicted(monitor)
    this.#parts.ejected(monitor.host)
  }

  tooMany(monitor: OutlierMonitor, kind: OutlierKind): void {
    if (this.#closed || monitor.host.has(HEALTH.failedOutlierCheck)) return
    this.#detected(monitor, kind, undefined, this.#roll(kind))
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
    const { verdicts, figures } = judgeRates(monitors, { size: this.#size, origin, settings: this.settings })
    this.#figures[origin] = figures
    for (const verdict of verdicts) {
      // The first verdict of this sweep may have ejected it.
      if (verdict.monitor.host.has(HEALTH.failedOutlierCheck)) continue
      this.#detected(verdict.monitor, verdict.kind, verdict, this.#roll(verdict.kind))
    }
  }

  /** Its time may be over; one that has been in use since the last sweep is trusted a little more. */
  #review(monitor: OutlierMonitor, nowMs: number): void {
    if (!monitor.host.has(HEALTH.failedOutlierCheck)) {
      if (monitor.backoff > 0) monitor.backoff--
      return
    }
    if (nowMs - monitor.ejectedAtMs >= ejectionMs(monitor, this.settings)) this.#uneject(monitor)
  }

  get #size(): number {
    return this.#parts.size?.() ?? this.#monitors.size
  }

  /** Chance decides whether what is detected ejects. */
  #roll(kind: OutlierKind): boolean {
    return this.#parts.random() * 100 < this.settings.enforcing(kind)
  }

  // --- ejections ------------------------------------------------------------------------------------------------------

  #detected(monitor: OutlierMonitor, kind: OutlierKind, verdict: RateVerdict | undefined, enforced: boolean): void {
    const stats = this.#stats
    stats.detected[kind].v++
    if (kind === 'consecutive5xx') stats.consecutive5xx.v++
    if (kind === 'successRate') stats.successRate.v++
    if (!this.#hasRoom()) {
      stats.overflow.v++
      return
    }
    if (kind === 'consecutive5xx' || kind === 'successRate') stats.total.v++
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
    const percent = (100 * (this.#active + 1)) / this.#size
    return percent <= Math.min(100, this.settings.of('maxEjectionPercent'))
  }

  #eject(monitor: OutlierMonitor, fixedMs = -1): void {
    const { hosts, wheel, random } = this.#parts
    this.#stats.enforcedTotal.v++
    this.#count(1)
    monitor.ejections++
    monitor.ejectedAtMs = wheel.clock.now()
    monitor.fixedMs = fixedMs
    monitor.jitterMs = Math.floor(random() * (this.settings.of('maxEjectionTimeJitterMs') + 1))
    const base = this.settings.of('baseEjectionTimeMs')
    // A time that the host has named itself says nothing against it.
    if (fixedMs < 0 && monitor.backoff * base < longestMs(this.settings) + base) monitor.backoff++
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
    if (this.#active > 0) this.#stats.active.v -= this.#active
    this.#active = 0
    for (const [host, monitor] of this.#monitors) host.unwatch(monitor)
    this.#monitors.clear()
    this.#parts.log?.[Symbol.dispose]()
  }
}
