import type { EjectionState, HostCounts } from '../../core/host-health.ts'
import type { Runtime } from '../../core/metrics.ts'
import { Timed, type TimerWheel } from '../../core/timer-wheel.ts'
import type { HealthLine, ToldOfEjections } from '../health/line.ts'
import { HEALTH } from '../health-flags.ts'
import type { Host } from '../host.ts'
import type { HostSet } from '../host-set.ts'
import type { OutlierConfig, OutlierKind } from './config.ts'
import { ejectionMs } from './ejection-time.ts'
import { type OutlierJudge, OutlierMonitor, RateWindow } from './monitor.ts'
import { NO_FIGURES, type RateFigures } from './rates.ts'
import { OutlierSettings } from './settings.ts'
import type { OutlierWatch } from './watch.ts'

/** How often control hears what is counted here. */
const TELL_MS = 100
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
  /** Made when something is to be told: most clusters never fail. */
  readonly line: () => HealthLine
  /** A host has just been ejected. */
  readonly ejected: (host: Host) => void
}

/**
 * Outlier detection of one cluster in one of several workers. Failures in a row eject here at once; control hears of it and
 * of what is counted, knows what is ejected in the whole gateway, judges rates, and ends ejections.
 *
 * ```
 *            failures in a row, or control says so
 *   in use ─────────────────────────────────────────▶ ejected
 *      ▲                                                 │
 *      └── control says so; long after its time: nobody does
 * ```
 */
export class OutlierOutpost extends Timed implements OutlierJudge, OutlierWatch, ToldOfEjections {
  readonly settings: OutlierSettings
  readonly uncounted: RateWindow = new RateWindow()
  readonly #parts: OutpostParts
  readonly #monitors = new Map<Host, OutlierMonitor>()
  /** Have counted something that control does not know. */
  #news: Set<OutlierMonitor> | undefined = undefined
  #ejected: Set<OutlierMonitor> | undefined = undefined
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
      this.#ejected?.delete(monitor)
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
    if (this.after === undefined) this.#parts.wheel.arm(this, TELL_MS)
  }

  wallMs(): number {
    return this.#parts.wheel.wall()
  }

  tooMany(monitor: OutlierMonitor, kind: OutlierKind): void {
    const { host } = monitor
    if (this.#closed || host.has(HEALTH.failedOutlierCheck)) return
    const line = this.#parts.line()
    const enforced = this.#parts.random() * 100 < this.settings.enforcing(kind)
    line.mention(host)
    line.tell({ kind: 'detected', cluster: line.cluster, host: host.key, what: kind, enforced })
    monitor.resetRow(kind)
    if (enforced && this.#hasRoom()) this.#eject(monitor, -1)
  }

  evict(monitor: OutlierMonitor, forMs: number): void {
    const { host } = monitor
    if (this.#closed || host.has(HEALTH.failedOutlierCheck)) return
    const line = this.#parts.line()
    line.mention(host)
    line.tell({ kind: 'evicted', cluster: line.cluster, host: host.key, forMs })
    if (this.#hasRoom()) this.#eject(monitor, forMs)
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
    if (this.#overdue?.after === undefined) this.#sweepLater()
  }

  // --- from control ---------------------------------------------------------------------------------------------------

  state(host: Host): EjectionState | undefined {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined || monitor.ejections === 0) return undefined
    const { ejections: count, backoff } = monitor
    const left = ejectionMs(monitor, this.settings) - (this.#parts.wheel.clock.now() - monitor.ejectedAtMs)
    return { count, backoff, leftMs: this.#ejected?.has(monitor) === true ? Math.max(0, left) : 0 }
  }

  told(host: Host, ejection: EjectionState | undefined, was: boolean): void {
    const monitor = this.#monitors.get(host)
    if (monitor === undefined) return
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
    monitor.unejectedAtMs = this.#parts.wheel.clock.now()
  }

  // --- in time --------------------------------------------------------------------------------------------------------

  override onDue(nowMs: number): void {
    if (nowMs - this.#refreshedMs >= this.settings.of('intervalMs')) {
      this.#refreshedMs = nowMs
      this.settings.refresh()
    }
    const line = this.#parts.line()
    let counts: HostCounts[] = []
    for (const monitor of this.#news ?? []) {
      const { host, external, local } = monitor
      line.mention(host)
      counts.push([host.key, external.total, external.success, local.total, local.success])
      external.clear()
      local.clear()
      if (counts.length < HOSTS_AT_ONCE) continue
      line.tell({ kind: 'counts', cluster: line.cluster, hosts: counts })
      counts = []
    }
    this.#news?.clear()
    if (counts.length > 0) line.tell({ kind: 'counts', cluster: line.cluster, hosts: counts })
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
    if ((this.#ejected?.size ?? 0) > 0) this.#sweepLater()
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
    this.#ejected?.clear()
  }
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
