import type { HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import type { OverloadLevers } from '../../lib/core/overload.ts'
import { Timed } from '../../lib/core/timer-wheel.ts'
import type { ConnectionManager } from '../http/connection-manager.ts'
import type { Opening } from './host.ts'

/** A head that has begun and stalls for this long is closed even where no deadline is configured (edge-safety §1.4). */
const STALLED_HEAD_MS = 60_000
/** A body with Content-Length must arrive at this rate once its grace is over. */
const BODY_GRACE_MS = 5_000
const BODY_BYTES_PER_MS = 0.24
/** How often a connection that is busy is looked at where no idle timeout says otherwise. */
const BUSY_CHECK_MS = 60_000

/** What a client may take to read the rest where the close is not delayed (`delayed_close_timeout` 0). */
const UNDELAYED_CLOSE_MS = 1_000

const IDLE = 0
const HEAD = 1
const BODY = 2
const BUSY = 3
const LINGER = 4

/** Which deadline of a connection has passed. */
export type Expiry = 'idle' | 'age' | 'head' | 'body' | 'linger'

/** What a head may take from its first byte on. */
export function headDeadlineMs(config: HttpConnectionManagerConfig): number {
  const limit = config.requestHeadersTimeoutMs
  return limit > 0 ? Math.min(limit, STALLED_HEAD_MS) : STALLED_HEAD_MS
}

/**
 * All deadlines of one downstream connection on one timer. Beginning and ending an exchange only note the time: what is
 * armed is looked at again when it fires.
 */
export class ConnectionDeadlines extends Timed {
  readonly openedMs: number
  readonly #manager: () => ConnectionManager
  readonly #overload: OverloadLevers | undefined
  readonly #expired: (expiry: Expiry) => void
  #phase = IDLE
  /** When something was in progress last, to the tick. */
  idleSinceMs: number
  #bodySinceMs = 0
  #bodyBytes = 0
  #bodyMeasured = false
  /** Of a head whose first bytes came before this object was made; 0: none did. */
  #headSinceMs: number

  constructor(opening: Opening, manager: () => ConnectionManager, expired: (expiry: Expiry) => void) {
    super()
    this.#manager = manager
    this.#overload = opening.info.state.overload
    this.#expired = expired
    this.openedMs = this.idleSinceMs = opening.openedMs
    this.#headSinceMs = opening.headSinceMs
    this.#armIdle()
  }

  /** Nothing is in progress. */
  idle(): void {
    this.#phase = IDLE
    this.idleSinceMs = this.#manager().wheel.nowMs
  }

  /** Part of a head has arrived; counts from its first byte. */
  headStarted(): void {
    if (this.#phase === HEAD) return
    this.#phase = HEAD
    const { wheel, config } = this.#manager()
    const sinceMs = this.#headSinceMs || wheel.clock.now()
    this.#headSinceMs = 0
    wheel.armAt(this, sinceMs + headDeadlineMs(config))
  }

  /** A request is complete, or as good as: only the exchange's own deadlines count. */
  busy(): void {
    this.#phase = BUSY
    this.#headSinceMs = 0
  }

  /** A body is on its way. Only one of announced length is measured: a stream may be as slow as it likes. */
  bodyStarted(measured: boolean): void {
    this.#phase = BODY
    this.#bodyMeasured = measured
    this.restartBody()
    this.#manager().wheel.arm(this, BODY_GRACE_MS)
  }

  bodyBytes(count: number): void {
    this.#bodyBytes += count
  }

  /** The client could not send meanwhile: measuring begins anew. */
  restartBody(): void {
    this.#bodySinceMs = this.#manager().wheel.nowMs
    this.#bodyBytes = 0
  }

  /** The last answer is written; the client may read it for so long. */
  linger(): void {
    this.#phase = LINGER
    const { wheel, config } = this.#manager()
    wheel.arm(this, config.delayedCloseTimeoutMs || UNDELAYED_CLOSE_MS)
  }

  close(): void {
    this.#manager().wheel.disarm(this)
  }

  /** As configured, or what overload leaves of it. */
  #limits(): { readonly idle: number; readonly age: number } {
    const { idleTimeoutMs: idle, maxConnectionDurationMs: age } = this.#manager().config
    const overload = this.#overload
    if (overload === undefined) return { idle, age }
    return { idle: overload.connectionIdle.of(idle), age: overload.connectionMax.of(age) }
  }

  override reconsider(): void {
    if (this.#phase === IDLE) this.#armIdle()
    else if (this.#phase === BUSY) this.#armBusy()
  }

  #armIdle(): void {
    const { wheel } = this.#manager()
    const { idle, age } = this.#limits()
    let due = idle > 0 ? this.idleSinceMs + idle : Number.POSITIVE_INFINITY
    if (age > 0) due = Math.min(due, this.openedMs + age)
    if (due !== Number.POSITIVE_INFINITY) wheel.armAt(this, Math.max(due, wheel.nowMs + 1))
  }

  #armBusy(): void {
    const { wheel } = this.#manager()
    const { idle, age } = this.#limits()
    const due = wheel.nowMs + Math.max(idle || BUSY_CHECK_MS, wheel.tickMs)
    wheel.armAt(this, age > 0 ? Math.min(due, this.openedMs + age) : due)
  }

  #tooOld(nowMs: number): boolean {
    const { age } = this.#limits()
    return age > 0 && nowMs >= this.openedMs + age
  }

  override onDue(nowMs: number): void {
    const { wheel, stats } = this.#manager()
    if (this.#phase === LINGER) this.#expired('linger')
    else if (this.#phase === HEAD) {
      stats.headerTimeouts.v++
      this.#expired('head')
    } else if (this.#phase === BODY) {
      if (this.#tooSlow(nowMs)) this.#expired('body')
      else wheel.arm(this, BODY_GRACE_MS)
    } else if (this.#tooOld(nowMs)) {
      stats.maxDuration.v++
      this.#expired('age')
    } else if (this.#phase === BUSY) this.#armBusy()
    else if (this.#idleFor(nowMs)) {
      stats.idleTimeouts.v++
      this.#expired('idle')
    } else this.#armIdle()
  }

  #idleFor(nowMs: number): boolean {
    const { idle } = this.#limits()
    return idle > 0 && nowMs >= this.idleSinceMs + idle
  }

  #tooSlow(nowMs: number): boolean {
    const elapsed = nowMs - this.#bodySinceMs
    return this.#bodyMeasured && elapsed >= BODY_GRACE_MS && this.#bodyBytes < elapsed * BODY_BYTES_PER_MS
  }
}
