import type { HttpConnectionManagerConfig } from '../../lib/config/listener.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import { Timed } from '../../lib/core/timer-wheel.ts'
import type { Http2KeepaliveConfig } from '../../lib/http2/config.ts'
import type { ConnectionManager } from '../http/connection-manager.ts'
import { headDeadlineMs } from '../http1/deadlines.ts'

/** Our own, always on (edge-safety §1.4): Envoy has no field for them. */
const PREFACE_MS = 5_000
const SETTINGS_ACK_MS = 10_000
/** How often a connection with streams is looked at where nothing else says when. */
const BUSY_CHECK_MS = 60_000
/** What a client may take to read the rest where the close is not delayed (`delayed_close_timeout` 0). */
const UNDELAYED_CLOSE_MS = 1_000

/** Which deadline of a connection has passed. */
export type Http2Expiry =
  | 'preface'
  | 'settings'
  | 'head'
  | 'idle'
  | 'age'
  | 'ping'
  | 'keepalive'
  | 'drain'
  | 'stalled'
  | 'linger'

/** What the deadlines must know of their connection. */
export interface DeadlineSubject {
  readonly manager: ConnectionManager
  readonly info: ConnectionInfo
  readonly openedMs: number
  /** The client's preface and first SETTINGS have come; ours have been acknowledged. */
  readonly ready: boolean
  readonly settingsAcked: boolean
  /** No streams. */
  readonly idle: boolean
  /** Something has come from the client that nobody has looked at. */
  readonly unread: boolean
  expired(expiry: Http2Expiry): void
}

/**
 * All deadlines of one HTTP/2 connection on one timer. What happens on the connection only notes the time; what is armed is
 * looked at again when it fires.
 */
export class Http2Deadlines extends Timed {
  readonly #subject: DeadlineSubject
  /** Later than the connection was accepted: its protocol had to be found out. */
  readonly #startedMs: number
  /** When the last stream ended, to the tick. */
  idleSinceMs: number
  #receivedMs: number
  /** The stream whose header block is not complete, and when that began; 0: there is none. */
  #head = 0
  #headSinceMs = 0
  /** When the next PING goes out; 0: none does. */
  #pingAtMs = 0
  /** Since when the answer to a PING has been missing; 0: none is. */
  #pingedMs = 0
  /** When the second step of a drain is due; 0: no drain. */
  #drainAtMs = 0
  #tooOld = false
  #stalledAtMs = 0
  #lingering = false

  constructor(subject: DeadlineSubject) {
    super()
    this.#subject = subject
    const { config, wheel } = subject.manager
    const now = wheel.now()
    this.#startedMs = this.idleSinceMs = this.#receivedMs = now
    this.#schedulePing(now, config)
    this.#stalledAtMs = now + this.#flushCheckMs(config)
    this.#arm(now)
  }

  /** Anything came from the client: it is alive. `head`: the stream within whose header block it stopped, or 0. */
  received(nowMs: number, head: number): void {
    this.#receivedMs = nowMs
    if (head === this.#head) return
    this.#head = head
    this.#headSinceMs = head === 0 ? 0 : nowMs
    if (head !== 0) this.#arm(nowMs)
  }

  /** The last stream has ended. */
  idle(nowMs: number): void {
    this.idleSinceMs = nowMs
  }

  pinged(nowMs: number): void {
    this.#pingedMs = nowMs
    this.#arm(nowMs)
  }

  answered(nowMs: number): void {
    this.#pingedMs = 0
    this.#schedulePing(nowMs, this.#subject.manager.config)
  }

  /** GOAWAY with the highest id has gone out; the one that counts follows after `drain_timeout`. */
  draining(nowMs: number): void {
    this.#drainAtMs = nowMs + Math.max(this.#subject.manager.config.drainTimeoutMs, 1)
    this.#arm(nowMs)
  }

  /** The last bytes are written; the client may read them for so long. */
  linger(): void {
    this.#lingering = true
    const { wheel, config } = this.#subject.manager
    wheel.arm(this, config.delayedCloseTimeoutMs || UNDELAYED_CLOSE_MS)
  }

  close(): void {
    this.#subject.manager.wheel.disarm(this)
  }

  override reconsider(nowMs: number): void {
    const { config } = this.#subject.manager
    this.#stalledAtMs = Math.min(this.#stalledAtMs, nowMs + this.#flushCheckMs(config))
    this.#arm(nowMs)
  }

  /** How often responses that are complete but not sent are looked at. */
  #flushCheckMs({ streamIdleTimeoutMs }: HttpConnectionManagerConfig): number {
    if (streamIdleTimeoutMs <= 0) return BUSY_CHECK_MS
    return this.#subject.info.state.overload?.streamFlush.of(streamIdleTimeoutMs) ?? streamIdleTimeoutMs
  }

  override onDue(nowMs: number): void {
    const subject = this.#subject
    const expiry = this.#lingering ? 'linger' : this.#expired(nowMs)
    if (expiry === undefined) {
      this.#arm(nowMs)
      return
    }
    subject.expired(expiry)
    // Neither ended nor armed by what the connection did about it.
    if (!this.#lingering && !this.armed) this.#arm(nowMs)
  }

  #expired(nowMs: number): Http2Expiry | undefined {
    const subject = this.#subject
    const { config } = subject.manager
    const overdue = subject.unread ? undefined : this.#overdue(nowMs)
    if (overdue !== undefined) return overdue
    if (this.#drainAtMs > 0 && nowMs >= this.#drainAtMs) {
      this.#drainAtMs = 0
      return 'drain'
    }
    if (nowMs >= this.#ageDue(config)) {
      this.#tooOld = true
      return 'age'
    }
    if (this.#pingAtMs > 0 && nowMs >= this.#pingAtMs) {
      this.#schedulePing(nowMs, config)
      return 'ping'
    }
    if (!subject.unread && nowMs >= this.#idleDue(config)) {
      // What it starts may take its time.
      this.idleSinceMs = nowMs
      return 'idle'
    }
    if (nowMs >= this.#stalledAtMs) {
      this.#stalledAtMs = nowMs + this.#flushCheckMs(config)
      return 'stalled'
    }
    return undefined
  }

  /** What the client has not sent in time. */
  #overdue(nowMs: number): Http2Expiry | undefined {
    const { ready, settingsAcked, manager } = this.#subject
    if (!ready && nowMs >= this.#startedMs + PREFACE_MS) return 'preface'
    if (!settingsAcked && nowMs >= this.#startedMs + SETTINGS_ACK_MS) return 'settings'
    if (nowMs >= this.#headDue(manager.config)) return 'head'
    return nowMs >= this.#answerDue(manager.config) ? 'keepalive' : undefined
  }

  #arm(nowMs: number): void {
    const subject = this.#subject
    if (this.#lingering) return
    const { config, wheel } = subject.manager
    let due = Math.min(this.#headDue(config), this.#answerDue(config), this.#ageDue(config), this.#idleDue(config))
    if (!subject.ready) due = Math.min(due, this.#startedMs + PREFACE_MS)
    if (!subject.settingsAcked) due = Math.min(due, this.#startedMs + SETTINGS_ACK_MS)
    if (this.#drainAtMs > 0) due = Math.min(due, this.#drainAtMs)
    if (this.#pingAtMs > 0) due = Math.min(due, this.#pingAtMs)
    if (!subject.idle)
      due = Math.min(due, Math.max(this.#stalledAtMs, nowMs), nowMs + (config.idleTimeoutMs || BUSY_CHECK_MS))
    // Where nothing limits an idle connection, nothing is armed: what comes arms it again.
    if (due !== Number.POSITIVE_INFINITY) wheel.armAt(this, Math.max(due, nowMs + 1))
  }

  /** A stream has begun: the timer may be sleeping, or be due later than a busy connection is looked at. */
  busy(): void {
    if (!this.armed) this.#arm(this.#subject.manager.wheel.nowMs)
  }

  #idleDue({ idleTimeoutMs }: HttpConnectionManagerConfig): number {
    if (idleTimeoutMs <= 0 || !this.#subject.idle || this.#drainAtMs > 0) return Number.POSITIVE_INFINITY
    const { overload } = this.#subject.info.state
    return this.idleSinceMs + (overload?.connectionIdle.of(idleTimeoutMs) ?? idleTimeoutMs)
  }

  #ageDue({ maxConnectionDurationMs }: HttpConnectionManagerConfig): number {
    if (maxConnectionDurationMs <= 0 || this.#tooOld) return Number.POSITIVE_INFINITY
    const { info, openedMs } = this.#subject
    return openedMs + (info.state.overload?.connectionMax.of(maxConnectionDurationMs) ?? maxConnectionDurationMs)
  }

  #headDue(config: HttpConnectionManagerConfig): number {
    return this.#headSinceMs === 0 ? Number.POSITIVE_INFINITY : this.#headSinceMs + headDeadlineMs(config)
  }

  /** Whatever comes shows that the client is alive, and extends the time for its answer, as in Envoy. */
  #answerDue({ http2 }: HttpConnectionManagerConfig): number {
    if (this.#pingedMs === 0 || http2.keepalive === undefined) return Number.POSITIVE_INFINITY
    return Math.max(this.#pingedMs, this.#receivedMs) + http2.keepalive.timeoutMs
  }

  #schedulePing(nowMs: number, config: HttpConnectionManagerConfig): void {
    const { keepalive } = config.http2
    const interval = keepalive?.intervalMs ?? 0
    this.#pingAtMs =
      interval > 0 ? nowMs + interval + jitter(keepalive as Http2KeepaliveConfig, this.#subject.manager) : 0
  }
}

function jitter({ intervalMs, jitterPercent }: Http2KeepaliveConfig, manager: ConnectionManager): number {
  return jitterPercent > 0 ? (manager.random() * intervalMs * jitterPercent) / 100 : 0
}
