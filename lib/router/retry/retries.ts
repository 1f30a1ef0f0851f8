import type { ClusterRetries, UpstreamHost } from '../../core/attempt.ts'
import { type Failure, flagBit } from '../../core/failure.ts'
import type { Headers } from '../../core/headers.ts'
import type { Counter } from '../../core/metrics.ts'
import { Timed } from '../../core/timer-wheel.ts'
import type { ForwardingStart } from '../attempt.ts'
import type { Try } from '../try.ts'
import { exponentialMs, resetMs } from './back-off.ts'
import { ClusterTurns } from './cluster-turns.ts'
import { retriesReset, retriesResponse, retriesTimeout } from './conditions.ts'
import type { RetryPlan } from './plan.ts'
import { isAvoided } from './policy.ts'

/**
 * The retries of one request: decides for each way a try can end whether another takes its place, and when. Where tries
 * are hedged, several are at work, and only the last one's failure counts.
 *
 * ```
 * TRYING ── retriable end ─▶ WAITING (back-off) ─▶ TRYING
 *    └── good response, no retry left, body too large to keep ─▶ OVER
 * ```
 */
export class Retries extends Timed {
  readonly #plan: RetryPlan
  readonly #start: ForwardingStart
  readonly #again: () => void
  /** Where the try to come goes, if to another cluster; undefined: they stay. */
  readonly turns: ClusterTurns | undefined
  /** Of the try to come; undefined: that cluster is not there, and counts nothing. */
  #cluster: ClusterRetries | undefined
  #left: number
  /** Retries made, or about to be. */
  made = 0
  /** A place among the cluster's retries is taken. */
  #holding = false
  #over = false
  /** Until the next try begins. */
  waiting = false
  /** The latest retry follows a try that was too slow. */
  afterTimeout = false
  /** Tries at work; more than one only where they are hedged. */
  #live: Try[] = []
  readonly #tried: UpstreamHost[] = []
  spentPriorities: readonly number[] | undefined = undefined
  /** Those that have used them up. */
  spentHosts: readonly UpstreamHost[] | undefined = undefined

  /** `again` opens the next try, when the wait for it is over. */
  constructor(plan: RetryPlan, start: ForwardingStart, again: () => void) {
    super()
    this.#plan = plan
    this.#start = start
    this.turns = ClusterTurns.of(plan.config, start)
    this.#cluster = start.cluster.retries
    this.#left = plan.retries
    this.#again = again
  }

  /** Nothing is tried again any more. */
  get over(): boolean {
    return this.#over
  }

  /** A try is at work, or will be: the failure of another is not the end. */
  get atWork(): boolean {
    return this.waiting || this.#live.length > 0
  }

  get selectionAttempts(): number {
    return this.#plan.config.selectionAttempts
  }

  /** As `PickContext.rejects`. */
  rejects(host: UpstreamHost): boolean {
    return isAvoided(this.#plan.config, host, this.#tried)
  }

  /** Before a try opens. */
  begins(by: Try): void {
    this.#live.push(by)
    const { avoid, otherPriorities } = this.#plan.config
    if (avoid === undefined && otherPriorities === undefined) return
    this.#tried.push(by.host)
    if (otherPriorities === undefined || this.#tried.length % otherPriorities.updateFrequency !== 0) return
    this.spentPriorities = [...new Set(this.#tried.map(({ priority }) => priority ?? 0))]
    this.spentHosts = [...this.#tried]
  }

  /** True: this response goes no further, since another try takes its place. */
  response(by: Try, status: number, headers: Headers, end: boolean): boolean {
    if (this.#over) return false
    if (!retriesResponse(this.#plan, status, headers)) {
      if (this.made > 0) count(this.#cluster?.counters.success)
      this.settle(by)
      return false
    }
    this.afterTimeout = false
    if (!this.#replaced(by, headers)) return false
    by.host.rqError++
    by.cluster?.retries?.replaced(status)
    if (end) by.drop()
    else by.cancel()
    return true
  }

  /** Whether the policy says anything of such an end. */
  covers(why: Failure, begun: boolean): boolean {
    return retriesReset(this.#plan.conditions, why, begun)
  }

  /** True: the end of this try is not that of the request. */
  reset(by: Try, why: Failure): boolean {
    if (this.#over) return false
    this.afterTimeout = false
    if (!this.covers(why, by.begun)) {
      this.forget(by)
      if (!this.atWork) return false
    } else if (!this.#replaced(by, undefined)) return false
    by.host.rqError++
    by.drop()
    return true
  }

  /** A try took too long. True: it has been replaced, or goes on beside another (`hedge`). */
  slow(by: Try, hedge: boolean): boolean {
    if (this.#over) return false
    this.afterTimeout = true
    if (hedge) {
      if (!this.waiting && this.#takes()) this.#wait(undefined)
      return true
    }
    if (retriesTimeout(this.#plan.conditions, by.begun)) {
      if (!this.#replaced(by, undefined)) return false
    } else {
      this.forget(by)
      if (!this.atWork) return false
    }
    by.host.rqError++
    by.cancel()
    return true
  }

  /** The body has outgrown what is kept: what is at work now is all there will be. */
  abandon(): void {
    if (this.#over) return
    count(this.#cluster?.counters.abandoned)
    this.#end()
  }

  /** `winner` (undefined: none) is the answer, the other tries end. Idempotent. */
  settle(winner: Try | undefined): void {
    const live = this.#live
    this.#live = []
    this.#end()
    for (const by of live) if (by !== winner) by.cancel()
  }

  // --- decisions ------------------------------------------------------------------------------------------------------

  #replaced(by: Try, headers: Headers | undefined): boolean {
    this.forget(by)
    if (this.atWork) return true
    if (!this.#takes()) {
      this.#end()
      return false
    }
    this.#wait(headers)
    return true
  }

  /** It has ended, and what comes of that is decided elsewhere. */
  forget(by: Try): void {
    const at = this.#live.indexOf(by)
    if (at >= 0) this.#live.splice(at, 1)
  }

  #takes(): boolean {
    const { info } = this.#start.exchange
    this.#release()
    if (this.#left === 0) {
      count(this.#cluster?.counters.limitExceeded)
      info.flags |= flagBit('URX')
      return false
    }
    this.#left--
    if (this.turns !== undefined) this.#cluster = this.turns.turn()
    const cluster = this.#cluster
    // There is no such cluster: what becomes of the next try tells so.
    if (cluster === undefined) return true
    if (!cluster.tryAcquire(this.#start.action.priority)) {
      info.flags |= flagBit('UO')
      return false
    }
    this.#holding = true
    cluster.counters.retry.v++
    return true
  }

  #wait(headers: Headers | undefined): void {
    const { wheel, random } = this.#start.router.scope
    const { backOff, resetBackOff } = this.#plan.config
    const told = headers && resetBackOff && resetMs(resetBackOff, headers, wheel.wall(), random())
    const counters = this.#cluster?.counters
    count(told === undefined ? counters?.backOffExponential : counters?.backOffRateLimited)
    this.made++
    this.waiting = true
    wheel.arm(this, told ?? exponentialMs(backOff, this.made, random()))
  }

  override onDue(): void {
    this.waiting = false
    this.#again()
  }

  #end(): void {
    this.#over = true
    this.waiting = false
    this.#start.router.scope.wheel.disarm(this)
    this.#release()
  }

  #release(): void {
    if (!this.#holding) return
    this.#holding = false
    this.#cluster?.release(this.#start.action.priority)
  }
}

function count(counter: Counter | undefined): void {
  if (counter !== undefined) counter.v++
}
