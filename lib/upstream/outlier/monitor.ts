import type { HostMonitor } from '../../core/attempt.ts'
import type { Failure } from '../../core/failure.ts'
import { httpStatusOf } from '../../core/grpc.ts'
import type { Headers } from '../../core/headers.ts'
import { HEALTH } from '../health-flags.ts'
import type { Host } from '../host.ts'
import type { OutlierKind } from './config.ts'
import { retryAfterMs } from './retry-after.ts'
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
  /** So many in a row. */
  tooMany(monitor: OutlierMonitor, kind: OutlierKind): void
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

  constructor(host: Host, judge: OutlierJudge) {
    this.host = host
    this.#judge = judge
    const { splitExternalLocalOriginErrors, retryAfter } = judge.settings.config
    this.#split = splitExternalLocalOriginErrors
    this.local = splitExternalLocalOriginErrors ? new RateWindow() : judge.uncounted
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
    this.#external(grpcStatus === undefined ? status : httpStatusOf(grpcStatus))
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
    if (!this.#split) {
      this.#external(status)
      return
    }
    this.#count(this.local)
    const { settings } = this.#judge
    if (++this.rowLocal === settings.of('consecutiveLocalOriginFailure')) {
      this.#judge.tooMany(this, 'consecutiveLocalOriginFailure')
    }
  }

  #count(window: RateWindow): void {
    if (window.total++ === 0) this.#judge.wake(this)
  }

  #external(status: number): void {
    this.#count(this.external)
    if (status < 500) {
      this.external.success++
      this.row5xx = 0
      this.rowGateway = 0
      return
    }
    const { settings } = this.#judge
    if (status !== 502 && status !== 503 && status !== 504) this.rowGateway = 0
    else if (++this.rowGateway === settings.of('consecutiveGatewayFailure')) {
      this.#judge.tooMany(this, 'consecutiveGatewayFailure')
    }
    if (++this.row5xx === settings.of('consecutive5xx')) this.#judge.tooMany(this, 'consecutive5xx')
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
  }

  resetRow(kind: OutlierKind): void {
    if (kind === 'consecutive5xx') this.row5xx = 0
    else if (kind === 'consecutiveGatewayFailure') this.rowGateway = 0
    else this.rowLocal = 0
  }
}
