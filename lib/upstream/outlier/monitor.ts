import type { HostMonitor } from '../../core/attempt.ts'
import type { Failure } from '../../core/failure.ts'
import { httpStatusOf } from '../../core/grpc.ts'
import type { Headers } from '../../core/headers.ts'
import { HEALTH } from '../health-flags.ts'
import type { Host } from '../host.ts'
import type { OutlierMonitorConfig } from './config.ts'
import { retryAfterMs } from './retry-after.ts'
import { ROW } from './rows.ts'
import type { OutlierSettings } from './settings.ts'

/** Requests of one origin within one interval, and what came of the one before. */
export class RateWindow {
  total = 0
  success = 0
  /** Of the last complete interval. */
  lastTotal = 0
  lastSuccess = 0
  /** In percent; -1: too little traffic to say. */
  rate = -1

  /** The interval is over. */
  turn(): void {
    this.lastTotal = this.total
    this.lastSuccess = this.success
    this.rate = -1
    this.clear()
  }

  /** Somebody has taken what was counted. */
  clear(): void {
    this.total = 0
    this.success = 0
  }
}

/** What a monitor needs of its detector. */
export interface OutlierJudge {
  readonly settings: OutlierSettings
  /** What its monitors have for the origin that they do not tell apart. */
  readonly uncounted: RateWindow
  /** Something is counted again: intervals are to end. */
  wake(monitor: OutlierMonitor): void
  /** A row (`ROW`) is as long as it may be. */
  tooMany(monitor: OutlierMonitor, row: number): void
  /** A row has become that long, which is not too much yet. */
  failed(monitor: OutlierMonitor, row: number, length: number): void
  /** A row has ended without anything good. */
  broken(monitor: OutlierMonitor, row: number): void
  /** When the response that is being told of came, monotonic; 0 where nobody wants to know. */
  nowMs(): number
  /** The host calls itself degraded. */
  degraded(monitor: OutlierMonitor): void
  /** The host asked for that time without requests. */
  evict(monitor: OutlierMonitor, forMs: number): void
  /** Since the epoch: Retry-After may be a date. */
  wallMs(): number
}

/** What outlier detection knows of one host. */
export class OutlierMonitor implements HostMonitor {
  readonly host: Host
  readonly #judge: OutlierJudge
  readonly #split: boolean
  readonly external = new RateWindow()
  /** Where origins are not told apart: one that all monitors share, and in which nothing is counted. */
  readonly local: RateWindow
  row5xx = 0
  rowGateway = 0
  rowLocal = 0
  /** Those of the configured monitors; undefined: there are none. */
  readonly #more: number[] | undefined
  /** The last good response, monotonic. */
  goodMs = 0
  /** How often it was ejected, long since less often. */
  ejections = 0
  /** What its ejection time is multiplied by. */
  backoff = 0
  /** Monotonic; meaningful where `ejections` is not 0. */
  ejectedAtMs = 0
  /** Monotonic; undefined: never. */
  unejectedAtMs: number | undefined = undefined
  jitterMs = 0
  /** What the ejection lasts where that does not follow from `backoff`; -1: it does. */
  fixedMs = -1
  /** Undefined where nobody wants to know: then nobody looks for the headers. */
  readonly onUnavailable: ((status: number, headers: Headers) => void) | undefined
  readonly onDegraded: (() => void) | undefined

  constructor(host: Host, judge: OutlierJudge) {
    this.host = host
    this.#judge = judge
    const { splitExternalLocalOriginErrors, retryAfter, detectDegradedHosts, monitors } = judge.settings.config
    this.#more = monitors?.map(() => 0)
    this.#split = splitExternalLocalOriginErrors
    this.local = splitExternalLocalOriginErrors ? new RateWindow() : judge.uncounted
    this.onDegraded = detectDegradedHosts === true ? () => judge.degraded(this) : undefined
    this.onUnavailable = retryAfter && ((status, headers) => this.#unavailable(status, headers))
  }

  #unavailable(status: number, headers: Headers): void {
    const { retryAfter } = this.#judge.settings.config
    if (retryAfter?.statuses.includes(status) !== true) return
    const ms = retryAfterMs(headers, this.#judge.wallMs())
    if (ms !== undefined && ms > 0) this.#judge.evict(this, Math.min(ms, retryAfter.maxMs))
  }

  onResponse(status: number, grpcStatus: number | undefined, _elapsedMs: number): void {
    if (this.#split) {
      // Who answers has been connected to.
      this.#count(this.local)
      this.local.success++
      this.rowLocal = 0
    }
    const meant = grpcStatus === undefined ? status : httpStatusOf(grpcStatus)
    if (this.#split && meant >= 500) this.#judge.broken(this, ROW.local)
    this.#external(meant)
    if (this.#more !== undefined) this.#tellMonitors(-1, false)
  }

  onFailure(why: Failure, _elapsedMs: number): void {
    switch (why.code) {
      case 'connect-failed':
      case 'upstream-closed':
      case 'upstream-reset':
      case 'dns-failed':
        this.#local(503)
        break
      case 'upstream-protocol':
      case 'connect-timeout':
        this.#local(why.code === 'connect-timeout' ? 504 : 502)
        break
      case 'upstream-timeout':
        this.#local(504)
        break
      // Limits of ours and clients that leave say nothing about the host.
    }
  }

  #local(status: number): void {
    if (this.#more !== undefined) this.#tellMonitors(-1, true)
    if (!this.#split) {
      this.#external(status)
      return
    }
    this.#count(this.local)
    this.#failed(ROW.local, ++this.rowLocal)
  }

  #failed(row: number, length: number): void {
    if (length === this.#judge.settings.longest(row)) this.#judge.tooMany(this, row)
    else this.#judge.failed(this, row, length)
  }

  #count(window: RateWindow): void {
    if (window.total++ === 0) this.#judge.wake(this)
  }

  /** A status, or (-1) whether a response could be had at all. */
  #tellMonitors(status: number, failed: boolean): void {
    const rows = this.#more as number[]
    const monitors = this.#judge.settings.config.monitors as readonly OutlierMonitorConfig[]
    for (let i = 0; i < rows.length; i++) {
      const { statuses, localOrigin } = monitors[i]
      const local = status < 0
      if (local ? !localOrigin : statuses.length === 0) continue
      if (local ? failed : isWithin(statuses, status)) this.#failed(ROW.monitors + i, ++rows[i])
      else {
        rows[i] = 0
        this.#judge.broken(this, ROW.monitors + i)
      }
    }
  }

  #external(status: number): void {
    this.#count(this.external)
    if (this.#more !== undefined) this.#tellMonitors(status, false)
    if (status < 500) {
      this.external.success++
      this.goodMs = this.#judge.nowMs()
      this.row5xx = 0
      this.rowGateway = 0
      return
    }
    if (status === 502 || status === 503 || status === 504) this.#failed(ROW.gateway, ++this.rowGateway)
    else {
      this.rowGateway = 0
      this.#judge.broken(this, ROW.gateway)
    }
    this.#failed(ROW.all5xx, ++this.row5xx)
  }

  /** There is something to be seen when the next interval ends. */
  get busy(): boolean {
    return (
      this.backoff > 0 || this.host.has(HEALTH.failedOutlierCheck) || this.external.lastTotal + this.local.lastTotal > 0
    )
  }

  /** A run of failures begins anew. */
  resetRows(): void {
    this.row5xx = 0
    this.rowGateway = 0
    this.rowLocal = 0
    this.#more?.fill(0)
  }

  resetRow(row: number): void {
    if (row === ROW.all5xx) this.row5xx = 0
    else if (row === ROW.gateway) this.rowGateway = 0
    else if (row === ROW.local) this.rowLocal = 0
    else if (this.#more !== undefined) this.#more[row - ROW.monitors] = 0
  }

  /** How long a row is. */
  length(row: number): number {
    if (row === ROW.all5xx) return this.row5xx
    if (row === ROW.gateway) return this.rowGateway
    return row === ROW.local ? this.rowLocal : (this.#more?.[row - ROW.monitors] ?? 0)
  }
}

function isWithin(statuses: OutlierMonitorConfig['statuses'], status: number): boolean {
  for (const [first, last] of statuses) if (status >= first && status <= last) return true
  return false
}
