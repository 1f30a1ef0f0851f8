import type { EjectionState, HostCounts } from '../../core/host-health.ts'
import { Timed } from '../../core/timer-wheel.ts'
import { HEALTH, OF_OUTLIERS } from '../health-flags.ts'
import type { Host } from '../host.ts'
import type { OutlierConfig, OutlierKind } from './config.ts'
import { type DegradationState, Degradations } from './degradations.ts'
import type { OutlierParts } from './detector-parts.ts'
import { ejectionMs, longestMs } from './ejection-time.ts'
import { JoinedRuns } from './joined-runs.ts'
import { type OutlierJudge, OutlierMonitor, RateWindow } from './monitor.ts'
import { judgeRates, NO_FIGURES, type Origin, type RateFigures, type RateVerdict } from './rates.ts'
import { kindOfRow } from './rows.ts'
import { OutlierSettings } from './settings.ts'
import { OUTLIER_CELLS, OutlierStats } from './stats.ts'
import type { OutlierWatch } from './watch.ts'

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
  /** Of several workers; undefined: none has told of failures. */
  #joined: JoinedRuns | undefined = undefined
  /** Undefined: no host has ever called itself degraded. */
  #degradations: Degradations | undefined = undefined
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
      this.#joined?.forget(monitor)
      this.#degradations?.forget(monitor)
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
  add(host: Host, counts: HostCounts): void {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined) return
    const [, total, success, localTotal, localSuccess, , runs] = counts
    monitor.external.total += total
    monitor.external.success += success
    monitor.local.total += localTotal
    monitor.local.success += localSuccess
    this.wake()
    if (runs !== undefined) this.#joined ??= new JoinedRuns()
    // What was under way when it was ejected says nothing of what it is when it comes back.
    if (host.has(HEALTH.failedOutlierCheck)) return
    this.#joined?.take(monitor, counts, this.#parts.wheel.clock.now(), (row, length) =>
      this.#grown(monitor, row, length),
    )
  }

  /** A row of failures that several workers have seen is that long. */
  #grown(monitor: OutlierMonitor, row: number, length: number): void {
    if (!this.#isTooLong(monitor, row, length)) return
    // Nobody is asked for what only counts.
    const matters = this.settings.enforcingRow(row) > 0 && this.#hasRoom()
    if (!matters || this.#parts.confirm?.(monitor.host, row) !== true) this.#judgeRow(monitor, row)
  }

  #isTooLong({ host }: OutlierMonitor, row: number, length: number): boolean {
    const longest = this.settings.longest(row)
    return longest > 0 && length >= longest && !host.has(HEALTH.failedOutlierCheck)
  }

  /** All that workers had to say of the host has come. */
  confirmed(host: Host, row: number): void {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined || !this.#isTooLong(monitor, row, this.#joined?.length(monitor, row) ?? 0)) return
    this.#judgeRow(monitor, row)
  }

  #judgeRow(monitor: OutlierMonitor, row: number): void {
    this.#joined?.clear(monitor, row)
    this.#detected(monitor, kindOfRow(row), undefined, this.#roll(this.settings.enforcingRow(row)))
  }

  /**
   * A worker has seen too many failures in a row by itself, and has ejected the host if `enforced`, where it saw room.
   * `failures`: how many of them it has not told of.
   */
  reported(host: Host, row: number, failures: number, enforced: boolean): void {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined || host.has(HEALTH.failedOutlierCheck)) return
    this.wake()
    this.#joined ??= new JoinedRuns()
    const length = this.#joined.failed(monitor, row, failures, this.#parts.wheel.clock.now())
    // Otherwise they have been counted already, and chance has left the host where it was.
    if (!enforced) {
      this.#grown(monitor, row, length)
      return
    }
    this.#joined.clear(monitor, row)
    this.#detected(monitor, kindOfRow(row), undefined, true)
  }

  /** A host asked one of the workers to be left alone. */
  reportedEviction(host: Host, forMs: number): void {
    const monitor = this.#monitors.get(host)
    if (monitor !== undefined) this.evict(monitor, forMs)
  }

  /** A host has told one of the workers that it is degraded. */
  reportedDegraded(host: Host): void {
    const monitor = this.#monitors.get(host)
    if (monitor !== undefined) this.degraded(monitor)
  }

  /** A process before this one has found a host degraded. */
  resumeDegraded(host: Host, state: DegradationState): void {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined || host.has(HEALTH.degradedOutlierDetection)) return
    this.#degradations ??= new Degradations(this.settings)
    this.#degradations.resume(monitor, state, this.#parts.wheel.clock.now())
    this.wake()
    this.#parts.hosts.flag(host, HEALTH.degradedOutlierDetection, true)
  }

  /** Undefined: it is not degraded. */
  degradation(host: Host): DegradationState | undefined {
    const monitor = this.#monitors.get(host)
    return monitor && this.#degradations?.state(monitor, this.#parts.wheel.clock.now())
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
    if (this.#closed || this.armed) return
    this.settings.refresh()
    this.#parts.wheel.arm(this, this.settings.of('intervalMs'))
  }

  wallMs(): number {
    return this.#parts.wheel.wall()
  }

  degraded(monitor: OutlierMonitor): void {
    const { host } = monitor
    // Whoever is out is not looked at otherwise.
    if (this.#closed || host.has(OF_OUTLIERS)) return
    this.wake()
    const { wheel, hosts, log } = this.#parts
    this.#degradations ??= new Degradations(this.settings)
    this.#degradations.begin(monitor, wheel.clock.now(), this.#jitterMs())
    this.#stats.degradation.v++
    hosts.flag(host, HEALTH.degradedOutlierDetection, true)
    log?.degraded(monitor)
  }

  #jitterMs(): number {
    return Math.floor(this.#parts.random() * (this.settings.of('maxEjectionTimeJitterMs') + 1))
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

  tooMany(monitor: OutlierMonitor, row: number): void {
    if (this.#closed || monitor.host.has(HEALTH.failedOutlierCheck)) return
    this.#detected(monitor, kindOfRow(row), undefined, this.#roll(this.settings.enforcingRow(row)))
    monitor.resetRow(row)
  }

  failed(): void {}

  broken(): void {}

  nowMs(): number {
    return 0
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
    if (monitors.some((monitor) => monitor.busy || this.#degradations?.has(monitor) === true))
      this.#parts.wheel.arm(this, this.settings.of('intervalMs'))
  }

  #judge(monitors: readonly OutlierMonitor[], origin: Origin): void {
    const { verdicts, figures } = judgeRates(monitors, { size: this.#size, origin, settings: this.settings })
    this.#figures[origin] = figures
    for (const verdict of verdicts) {
      // The first verdict of this sweep may have ejected it.
      if (verdict.monitor.host.has(HEALTH.failedOutlierCheck)) continue
      this.#detected(verdict.monitor, verdict.kind, verdict, this.#roll(this.settings.enforcing(verdict.kind)))
    }
  }

  /** Its time may be over; one that has been in use since the last sweep is trusted a little more. */
  #review(monitor: OutlierMonitor, nowMs: number): void {
    if (this.#degradations?.review(monitor, nowMs) === true) {
      this.#parts.hosts.flag(monitor.host, HEALTH.degradedOutlierDetection, false)
      this.#parts.log?.unejected(monitor, undefined)
    }
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
  #roll(percent: number): boolean {
    return this.#parts.random() * 100 < percent
  }

  // --- ejections ------------------------------------------------------------------------------------------------------

  #detected(
    monitor: OutlierMonitor,
    kind: OutlierKind | 'monitor',
    verdict: RateVerdict | undefined,
    enforced: boolean,
  ): void {
    const stats = this.#stats
    // As in Envoy, nobody counts those of monitors apart.
    if (kind !== 'monitor') stats.detected[kind].v++
    if (kind === 'consecutive5xx') stats.consecutive5xx.v++
    if (kind === 'successRate') stats.successRate.v++
    if (!this.#hasRoom()) {
      stats.overflow.v++
      return
    }
    if (kind === 'consecutive5xx' || kind === 'successRate') stats.total.v++
    if (enforced) {
      if (kind !== 'monitor') stats.enforced[kind].v++
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
    const { hosts, wheel } = this.#parts
    this.#stats.enforcedTotal.v++
    this.#count(1)
    monitor.ejections++
    monitor.ejectedAtMs = wheel.clock.now()
    monitor.fixedMs = fixedMs
    monitor.jitterMs = this.#jitterMs()
    const base = this.settings.of('baseEjectionTimeMs')
    // A time that the host has named itself says nothing against it.
    if (fixedMs < 0 && monitor.backoff * base < longestMs(this.settings) + base) monitor.backoff++
    this.#joined?.forget(monitor)
    hosts.flag(monitor.host, HEALTH.failedOutlierCheck, true)
  }

  #uneject(monitor: OutlierMonitor): void {
    this.#count(-1)
    monitor.resetRows()
    monitor.unejectedAtMs = this.#parts.wheel.clock.now()
    this.#parts.hosts.flag(monitor.host, HEALTH.failedOutlierCheck, false)
    this.#parts.log?.unejected(monitor, monitor.ejectedAtMs)
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
