import type { ClusterConfig } from '../config.ts'
import { Keepalive } from './keepalive.ts'

/** For the peer to acknowledge our SETTINGS (RFC 9113 §6.5.3). */
const SETTINGS_MS = 10_000

export const NEVER: number = Number.POSITIVE_INFINITY

/**
 * The deadlines of one established connection: plain times, no timer. Streams that come and go write one number; the one
 * timer of the connection asks `next` when it has to look again.
 */
export class ConnectionDeadlines {
  readonly #config: ClusterConfig
  readonly #openedMs: number
  readonly #keepalive: Keepalive | undefined
  #settingsDueMs = NEVER
  /** When anything last came. */
  receivedMs = 0
  /** When the last stream ended. */
  idleSinceMs = 0

  /** `random`: in [0, 1). `openedMs`: from when on the connection ages. */
  constructor(config: ClusterConfig, random: () => number, openedMs: number) {
    const { keepalive } = config.http2
    this.#config = config
    this.#openedMs = openedMs
    this.#keepalive = keepalive === undefined ? undefined : new Keepalive(keepalive, random)
  }

  /** The session begins. */
  begin(nowMs: number): void {
    this.receivedMs = this.idleSinceMs = nowMs
    this.#settingsDueMs = nowMs + SETTINGS_MS
    this.#keepalive?.rest(nowMs)
  }

  /** The earliest time at which there is something to look at; `NEVER` where there is none. */
  next(nowMs: number, busy: boolean, draining: boolean): number {
    const { idleTimeoutMs, maxConnectionDurationMs } = this.#config
    let due = Math.min(this.#settingsDueMs, this.#keepalive?.nextMs ?? NEVER)
    // While it is busy it cannot become idle for that long before then.
    if (idleTimeoutMs > 0) due = Math.min(due, (busy ? nowMs : this.idleSinceMs) + idleTimeoutMs)
    if (maxConnectionDurationMs && !draining) due = Math.min(due, this.#openedMs + maxConnectionDurationMs)
    return due
  }

  settingsOverdue(nowMs: number, acknowledged: boolean): boolean {
    if (acknowledged) this.#settingsDueMs = NEVER
    return nowMs >= this.#settingsDueMs
  }

  pingDue(nowMs: number): 'ping' | 'dead' | undefined {
    return this.#keepalive?.due(nowMs, this.receivedMs)
  }

  pingBeforeStream(nowMs: number): boolean {
    return this.#keepalive?.wantedBeforeStream(nowMs, this.receivedMs) ?? false
  }

  pinged(nowMs: number): void {
    this.#keepalive?.sent(nowMs)
  }

  ponged(nowMs: number): void {
    this.#keepalive?.rest(nowMs)
  }

  tooOld(nowMs: number): boolean {
    const max = this.#config.maxConnectionDurationMs
    return max !== undefined && max > 0 && nowMs >= this.#openedMs + max
  }

  /** Of a connection without streams. */
  idleTooLong(nowMs: number): boolean {
    const { idleTimeoutMs } = this.#config
    return idleTimeoutMs > 0 && nowMs >= this.idleSinceMs + idleTimeoutMs
  }
}
