import type { Http2KeepaliveConfig } from '../../http2/config.ts'

/**
 * When to PING and when to give up on the answer. Keeps no timer: its owner looks when `nextMs` has come.
 *
 * ```
 * resting --interval (with jitter), or a stream after long silence--> waiting --answer--> resting
 *                                                                       |  anything received: waits on
 *                                                                       +--timeout--> dead
 * ```
 */
export class Keepalive {
  readonly #config: Http2KeepaliveConfig
  readonly #random: () => number
  #waiting = false
  #sentMs = 0
  /** Absolute monotonic ms; Infinity: nothing to look at. */
  nextMs = Number.POSITIVE_INFINITY

  constructor(config: Http2KeepaliveConfig, random: () => number) {
    this.#config = config
    this.#random = random
  }

  /** Begins the next interval: when the connection is made, and after each answer. */
  rest(nowMs: number): void {
    const { intervalMs, jitterPercent } = this.#config
    this.#waiting = false
    this.nextMs =
      intervalMs === 0
        ? Number.POSITIVE_INFINITY
        : nowMs + intervalMs + Math.floor((this.#random() * intervalMs * jitterPercent) / 100)
  }

  sent(nowMs: number): void {
    this.#waiting = true
    this.#sentMs = nowMs
    this.nextMs = nowMs + this.#config.timeoutMs
  }

  /** Is a PING due before the next stream (Envoy's `connection_idle_interval`)? */
  wantedBeforeStream(nowMs: number, receivedMs: number): boolean {
    const { idleIntervalMs } = this.#config
    return idleIntervalMs > 0 && !this.#waiting && nowMs - receivedMs > idleIntervalMs
  }

  /** What is to be done now. `receivedMs`: when anything last came; it puts the timeout off, as in Envoy. */
  due(nowMs: number, receivedMs: number): 'ping' | 'dead' | undefined {
    if (nowMs < this.nextMs) return undefined
    if (!this.#waiting) return 'ping'
    const graceMs = receivedMs + this.#config.timeoutMs
    if (receivedMs <= this.#sentMs || graceMs <= nowMs) return 'dead'
    this.nextMs = graceMs
    return undefined
  }
}
