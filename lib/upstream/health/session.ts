import type { HostMonitor } from '../../core/attempt.ts'
import { Timed } from '../../core/timer-wheel.ts'
import { HEALTH } from '../health-flags.ts'
import type { Host } from '../host.ts'
import type { HealthChecker } from './checker.ts'
import type { FailureType } from './event-log.ts'
import { type CheckResult, type Probe, type ProbeOwner, TIMED_OUT } from './probe.ts'

/** Whether an answer changed anything. */
type Transition = 'unchanged' | 'pending' | 'changed'

/**
 * The checks of one host, one after the other.
 *
 * ```
 *   wait (jitter) ─▶ question ─▶ answer, or timeout ─▶ thresholds, flags ─▶ wait (interval) ─┐
 *                        ▲───────────────────────────────────────────────────────────────────┘
 * ```
 */
export class CheckSession extends Timed implements ProbeOwner, HostMonitor {
  readonly host: Host
  readonly #checker: HealthChecker
  readonly #probe: Probe
  #asking = false
  #closed = false
  /** Nothing is known of the host yet. */
  first = true
  #successes = 0
  #failures = 0

  constructor(host: Host, checker: HealthChecker, probe: Probe) {
    super()
    this.host = host
    this.#checker = checker
    this.#probe = probe
  }

  /** The first question, after chance has put it off. */
  begin(): void {
    const delayMs = this.#checker.initialDelayMs()
    if (delayMs > 0) this.#checker.wheel.arm(this, delayMs)
    else this.#ask()
  }

  /** In place of `begin`, where an earlier session has asked already. */
  resume(delayMs: number): void {
    this.first = false
    this.#checker.wheel.arm(this, delayMs)
  }

  override onDue(): void {
    if (!this.#asking) {
      this.#ask()
      return
    }
    this.#probe.cancel()
    this.checked(TIMED_OUT)
  }

  #ask(): void {
    const { wheel, config, stats } = this.#checker
    stats.attempt.v++
    this.#asking = true
    wheel.arm(this, config.timeoutMs)
    this.#probe.start(this)
  }

  checked(result: CheckResult): void {
    if (this.#closed) return
    this.#asking = false
    const { wheel } = this.#checker
    wheel.disarm(this)
    let transition: Transition
    if (result.ok) transition = this.#passed(result.degraded)
    else {
      if (result.exclude) this.#checker.flag(this.host, HEALTH.excludedViaImmediateHcFail, true)
      transition = this.#failed(FAILURE_TYPES[result.how], result.retriable)
    }
    // Told of it, the cluster may have taken the host out.
    if (!this.#closed) wheel.arm(this, this.#checker.intervalMs(result.ok, transition === 'pending'))
  }

  #passed(degraded: boolean): Transition {
    const { host } = this
    const checker = this.#checker
    const { first } = this
    checker.stats.success.v++
    this.#failures = 0
    let transition: Transition = 'unchanged'
    if (host.has(HEALTH.failedActiveHc)) {
      this.#successes++
      transition = 'pending'
      if (first || this.#successes >= checker.config.healthyThreshold) {
        this.#successes = 0
        checker.flag(host, HEALTH.failedActiveHc | HEALTH.activeHcTimeout | HEALTH.excludedViaImmediateHcFail, false)
        checker.stats.healthy.v++
        checker.log?.addHealthy(host, first)
        transition = 'changed'
      }
    } else if (checker.flag(host, HEALTH.excludedViaImmediateHcFail, false)) transition = 'changed'
    if (this.#setDegraded(degraded) && transition === 'unchanged') transition = 'changed'
    if (checker.config.alwaysLogSuccess) checker.log?.success(host)
    this.#told(transition)
    return transition
  }

  #setDegraded(on: boolean): boolean {
    const checker = this.#checker
    if (!checker.flag(this.host, HEALTH.degradedActiveHc, on)) return false
    checker.stats.degraded.v += on ? 1 : -1
    if (on) checker.log?.degraded(this.host)
    else checker.log?.noLongerDegraded(this.host)
    return true
  }

  #failed(type: FailureType, retriable: boolean): Transition {
    const { host } = this
    const checker = this.#checker
    const { first } = this
    const { stats, config, log } = checker
    stats.failure.v++
    if (type === 'NETWORK' || type === 'NETWORK_TIMEOUT') stats.networkFailure.v++
    else if (type === 'PASSIVE') stats.passiveFailure.v++
    this.#successes = 0
    let transition: Transition = 'unchanged'
    checker.flag(host, HEALTH.activeHcTimeout, type === 'NETWORK_TIMEOUT' && host.has(HEALTH.failedActiveHc))
    if (!host.has(HEALTH.failedActiveHc)) {
      this.#failures++
      transition = 'pending'
      if (!retriable || this.#failures >= config.unhealthyThreshold) {
        this.#failures = 0
        const timedOut = type === 'NETWORK_TIMEOUT' ? HEALTH.activeHcTimeout : 0
        checker.flag(host, HEALTH.failedActiveHc | timedOut, true)
        stats.healthy.v--
        log?.ejectUnhealthy(host, type)
        transition = 'changed'
      }
    }
    if (first || config.alwaysLogFailures) log?.unhealthy(host, type, first)
    this.#told(transition)
    return transition
  }

  /** The first answer also ends what a host counts as while there is none. */
  #told(transition: Transition): void {
    const { first } = this
    this.first = false
    const pending = this.#checker.flag(this.host, HEALTH.pendingActiveHc, false)
    this.#checker.answered(this.host, transition === 'changed' || pending, first)
  }

  // --- from traffic ---------------------------------------------------------------------------------------------------

  onResponse(): void {}

  onFailure(): void {}

  onCheckFailRequested(): void {
    if (this.#closed) return
    const already = this.host.has(HEALTH.failedActiveHc)
    this.#checker.flag(this.host, HEALTH.excludedViaImmediateHcFail, true)
    if (!already) this.#failed('PASSIVE', false)
  }

  /** No more questions. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#checker.wheel.disarm(this)
    this.#probe.close()
  }
}

const FAILURE_TYPES = Object.freeze({ active: 'ACTIVE', network: 'NETWORK', timeout: 'NETWORK_TIMEOUT' } as const)
