import type { EjectionState, HealthLink, HostCounts, HostRun, HostVerdict } from '../../core/host-health.ts'
import type { Runtime } from '../../core/metrics.ts'
import { Timed, type TimerWheel } from '../../core/timer-wheel.ts'
import type { TurnWork } from '../../core/turn.ts'
import type { HealthLine, ToldOfEjections } from '../health/line.ts'
import { HEALTH, OF_OUTLIERS } from '../health-flags.ts'
import type { Host } from '../host.ts'
import type { HostSet } from '../host-set.ts'
import type { OutlierConfig } from './config.ts'
import { type DegradationState, Degradations } from './degradations.ts'
import { ejectionMs } from './ejection-time.ts'
import { LocalRun } from './local-run.ts'
import { type OutlierJudge, OutlierMonitor, RateWindow } from './monitor.ts'
import { NO_FIGURES, type RateFigures } from './rates.ts'
import { OutlierSettings } from './settings.ts'
import type { OutlierWatch } from './watch.ts'

/** How often control hears what is counted here. */
const TELL_MS = 100
/** How often it hears of failures at most. The first after a while is told at the end of the turn. */
const TELL_FAILURES_MS = 20
/** So many hosts at once. */
const HOSTS_AT_ONCE = 256
/** An ejection that control does not end ends here, so much and an interval after its time. */
const GRACE_MS = 1_000

export interface OutpostParts {
  readonly hosts: HostSet
  readonly wheel: TimerWheel
  readonly runtime: Runtime
  /** In [0, 1). */
  readonly random: () => number
  readonly link: Pick<HealthLink, 'heard' | 'crowded'>
  /** Made when something is to be told: most clusters never fail. */
  readonly line: () => HealthLine
  /** A host has just been ejected. */
  readonly ejected: (host: Host) => void
}

/**
 * Outlier detection of one cluster in one of several workers. Failures in a row eject here at once; control hears of each and
 * of what is counted, joins the rows of all workers, knows what is ejected in the whole gateway, judges rates, and ends
 * ejections.
 *
 * ```
 *            failures in a row, or control says so
 *   in use ─────────────────────────────────────────▶ ejected
 *      ▲                                                 │
 *      └── control says so; long after its time: nobody does
 * ```
 */
export class OutlierOutpost extends Timed implements OutlierJudge, OutlierWatch, ToldOfEjections, TurnWork {
  readonly settings: OutlierSettings
  readonly uncounted: RateWindow = new RateWindow()
  readonly #parts: OutpostParts
  readonly #monitors = new Map<Host, OutlierMonitor>()
  /** Have counted something that control does not know. */
  #news: Set<OutlierMonitor> | undefined = undefined
  /** Of them, those that have failed in this turn or a little before. */
  #failing: Set<OutlierMonitor> | undefined = undefined
  /** By row; of hosts that have failed lately. */
  #runs: Map<OutlierMonitor, LocalRun[]> | undefined = undefined
  #deferred = false
  #toldMs = Number.NEGATIVE_INFINITY
  #ejected: Set<OutlierMonitor> | undefined = undefined
  #degradations: Degradations | undefined = undefined
  #overdue: Overdue | undefined = undefined
  #refreshedMs: number
  #closed = false

  constructor(config: OutlierConfig, parts: OutpostParts) {
    super()
    this.settings = new OutlierSettings(config, parts.runtime)
    this.#parts = parts
    this.#refreshedMs = parts.wheel.clock.now()
  }

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
      this.#news?.delete(monitor)
      this.#failing?.delete(monitor)
      this.#runs?.delete(monitor)
      this.#ejected?.delete(monitor)
      this.#degradations?.forget(monitor)
      host.unwatch(monitor)
    }
  }

  /** Control hears of checks, and decides. */
  checked(): void {}

  successRate(): number {
    return -1
  }

  figures(): RateFigures {
    return NO_FIGURES
  }

  // --- from monitors --------------------------------------------------------------------------------------------------

  wake(monitor: OutlierMonitor): void {
    if (this.#closed) return
    this.#news ??= new Set()
    this.#news.add(monitor)
    if (!this.armed) this.#parts.wheel.arm(this, TELL_MS)
  }

  wallMs(): number {
    return this.#parts.wheel.wall()
  }

  nowMs(): number {
    return this.#parts.wheel.now()
  }

  tooMany(monitor: OutlierMonitor, row: number): void {
    const { host } = monitor
    if (this.#closed || host.has(HEALTH.failedOutlierCheck)) return
    const line = this.#parts.line()
    // Otherwise control counts it as one of those that the gateway has seen.
    const enforced = this.#hasRoom() && this.#enforces(this.settings.enforcingRow(row))
    const length = monitor.length(row)
    const run = this.#runs?.get(monitor)?.[row]
    const failures = length === 1 || run === undefined ? length : run.untold(length)
    monitor.resetRow(row)
    line.mention(host)
    // What it has seen before comes first, and what was good above all.
    this.#tell([monitor])
    line.tell({ kind: 'detected', cluster: line.cluster, host: host.key, row, failures, enforced })
    if (enforced) this.#eject(monitor, -1)
  }

  /** Where chance decides it has one say, that of control. */
  #enforces(percent: number): boolean {
    const { link, random } = this.#parts
    return percent >= 100 || (!link.heard && random() * 100 < percent)
  }

  failed(monitor: OutlierMonitor, row: number, length: number): void {
    if (this.#closed || monitor.host.has(HEALTH.failedOutlierCheck)) return
    const now = this.nowMs()
    this.#run(monitor, row).failed(length, now)
    this.#failing ??= new Set()
    this.#failing.add(monitor)
    const { wheel, link } = this.#parts
    if (this.#deferred || link.crowded) return
    const dueMs = this.#toldMs + TELL_FAILURES_MS
    if (now >= dueMs) {
      this.#deferred = true
      wheel.turn.defer(this)
    } else if (!this.armed || this.timer.dueMs > dueMs) wheel.armAt(this, dueMs)
  }

  broken(monitor: OutlierMonitor, row: number): void {
    this.#run(monitor, row).brokenMs = this.nowMs()
  }

  #run(monitor: OutlierMonitor, row: number): LocalRun {
    this.#runs ??= new Map()
    let runs = this.#runs.get(monitor)
    if (runs === undefined) this.#runs.set(monitor, (runs = []))
    while (runs.length <= row) runs.push(new LocalRun())
    return runs[row]
  }

  evict(monitor: OutlierMonitor, forMs: number): void {
    const { host } = monitor
    if (this.#closed || host.has(HEALTH.failedOutlierCheck)) return
    const line = this.#parts.line()
    line.mention(host)
    line.tell({ kind: 'evicted', cluster: line.cluster, host: host.key, forMs })
    if (this.#hasRoom()) this.#eject(monitor, forMs)
  }

  degraded(monitor: OutlierMonitor): void {
    const { host } = monitor
    if (this.#closed || host.has(OF_OUTLIERS)) return
    const { hosts, wheel } = this.#parts
    const line = this.#parts.line()
    line.mention(host)
    line.tell({ kind: 'degraded', cluster: line.cluster, host: host.key })
    this.#degradations ??= new Degradations(this.settings)
    this.#degradations.begin(monitor, wheel.clock.now(), 0)
    hosts.flag(host, HEALTH.degradedOutlierDetection, true)
    if (this.#overdue?.armed !== true) this.#sweepLater()
  }

  /** As far as is known here; control takes back what was one too many. */
  #hasRoom(): boolean {
    const active = this.#ejected?.size ?? 0
    if (active === 0 && this.settings.config.alwaysEjectOneHost) return true
    const percent = (100 * (active + 1)) / this.#monitors.size
    return percent <= Math.min(100, this.settings.of('maxEjectionPercent'))
  }

  #eject(monitor: OutlierMonitor, fixedMs: number): void {
    monitor.ejections++
    if (fixedMs < 0) monitor.backoff++
    this.#out(monitor, fixedMs)
    this.#parts.hosts.flag(monitor.host, HEALTH.failedOutlierCheck, true)
    this.#parts.ejected(monitor.host)
  }

  #out(monitor: OutlierMonitor, fixedMs: number): void {
    monitor.ejectedAtMs = this.#parts.wheel.clock.now()
    monitor.fixedMs = fixedMs
    this.#ejected ??= new Set()
    this.#ejected.add(monitor)
    if (this.#overdue?.armed !== true) this.#sweepLater()
  }

  // --- from control ---------------------------------------------------------------------------------------------------

  state(host: Host): EjectionState | undefined {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined || monitor.ejections === 0) return undefined
    const { ejections: count, backoff } = monitor
    const left = ejectionMs(monitor, this.settings) - (this.#parts.wheel.clock.now() - monitor.ejectedAtMs)
    return { count, backoff, leftMs: this.#ejected?.has(monitor) === true ? Math.max(0, left) : 0 }
  }

  tellNow(host: Host): void {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined || this.#news?.delete(monitor) !== true) return
    this.#failing?.delete(monitor)
    this.#tell([monitor])
  }

  degradation(host: Host): DegradationState | undefined {
    const monitor = this.#monitors.get(host)
    return monitor && this.#degradations?.state(monitor, this.#parts.wheel.clock.now())
  }

  told(host: Host, { ejection, degradation }: HostVerdict, was: boolean): void {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined) return
    if (degradation !== undefined) {
      this.#degradations ??= new Degradations(this.settings)
      this.#degradations.resume(monitor, degradation, this.#parts.wheel.clock.now())
      if (this.#overdue?.armed !== true) this.#sweepLater()
    } else this.#degradations?.forget(monitor)
    if (ejection !== undefined) {
      monitor.ejections = ejection.count
      monitor.backoff = ejection.backoff
    }
    if (host.has(HEALTH.failedOutlierCheck)) {
      this.#out(monitor, ejection?.leftMs ?? 0)
      if (!was) this.#parts.ejected(host)
    } else if (was) this.#back(monitor)
  }

  #back(monitor: OutlierMonitor): void {
    this.#ejected?.delete(monitor)
    monitor.resetRows()
    this.#runs?.delete(monitor)
    monitor.unejectedAtMs = this.#parts.wheel.clock.now()
  }

  // --- in time --------------------------------------------------------------------------------------------------------

  override onDue(nowMs: number): void {
    if (nowMs - this.#refreshedMs >= this.settings.of('intervalMs')) {
      this.#refreshedMs = nowMs
      this.settings.refresh()
    }
    this.#tell(this.#news ?? [])
    this.#news?.clear()
    this.#failing?.clear()
  }

  /** Failures are not to wait for those who have none. */
  turnEnds(): void {
    this.#deferred = false
    if (this.#closed || this.#failing === undefined) return
    this.#tell(this.#failing)
    for (const monitor of this.#failing) this.#news?.delete(monitor)
    this.#failing.clear()
  }

  #tell(monitors: Iterable<OutlierMonitor>): void {
    const line = this.#parts.line()
    const now = this.#parts.wheel.clock.now()
    this.#toldMs = now
    let hosts: HostCounts[] = []
    for (const monitor of monitors) {
      line.mention(monitor.host)
      hosts.push(this.#countsOf(monitor, now))
      if (hosts.length < HOSTS_AT_ONCE) continue
      line.tell({ kind: 'counts', cluster: line.cluster, hosts })
      hosts = []
    }
    if (hosts.length > 0) line.tell({ kind: 'counts', cluster: line.cluster, hosts })
  }

  #countsOf(monitor: OutlierMonitor, now: number): HostCounts {
    const { host, external, local, goodMs } = monitor
    const { total, success } = external
    const goodAgoMs = success > 0 ? agoMs(goodMs, now) : -1
    const counts = [host.key, total, success, local.total, local.success, goodAgoMs] as const
    external.clear()
    local.clear()
    const known = this.#runs?.get(monitor)
    if (known === undefined) return counts
    const runs: HostRun[] = []
    let length = 0
    known.forEach((run, row) => {
      const failures = run.untold(monitor.length(row))
      const brokenAgoMs = run.brokenMs === 0 ? -1 : agoMs(run.brokenMs, now)
      if (failures > 0 || brokenAgoMs >= 0) runs.push([row, failures, agoMs(run.sinceMs, now), brokenAgoMs])
      run.brokenMs = 0
      run.told = monitor.length(row)
      length += run.told
    })
    if (length === 0) this.#runs?.delete(monitor)
    return runs.length === 0 ? counts : [...counts, runs]
  }

  #sweepLater(): void {
    this.#overdue ??= new Overdue(() => this.#endOverdue())
    this.#parts.wheel.arm(this.#overdue, this.settings.of('intervalMs'))
  }

  /** Control is away, and nobody else would let them back. */
  #endOverdue(): void {
    const { wheel, hosts } = this.#parts
    const grace = this.settings.of('intervalMs') + GRACE_MS
    for (const monitor of [...(this.#ejected ?? [])]) {
      if (wheel.clock.now() - monitor.ejectedAtMs < ejectionMs(monitor, this.settings) + grace) continue
      this.#back(monitor)
      hosts.flag(monitor.host, HEALTH.failedOutlierCheck, false)
    }
    let degraded = 0
    for (const monitor of [...(this.#degradations?.degraded() ?? [])]) {
      degraded++
      if (this.#degradations?.review(monitor, wheel.clock.now() - grace) !== true) continue
      this.#degradations.forget(monitor)
      hosts.flag(monitor.host, HEALTH.degradedOutlierDetection, false)
    }
    if (degraded > 0 || (this.#ejected?.size ?? 0) > 0) this.#sweepLater()
  }

  /** Nothing is ejected any more. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#closed) return
    this.#closed = true
    this.#parts.wheel.disarm(this)
    if (this.#overdue !== undefined) this.#parts.wheel.disarm(this.#overdue)
    for (const [host, monitor] of this.#monitors) host.unwatch(monitor)
    this.#monitors.clear()
    this.#news?.clear()
    this.#failing?.clear()
    this.#runs?.clear()
    this.#ejected?.clear()
  }
}

/** To a tenth: what is told of several workers is no more exact than the way of a message is long. */
function agoMs(thenMs: number, nowMs: number): number {
  return Math.max(0, Math.round((nowMs - thenMs) * 10) / 10)
}

class Overdue extends Timed {
  readonly #run: () => void

  constructor(run: () => void) {
    super()
    this.#run = run
  }

  override onDue(): void {
    this.#run()
  }
}
