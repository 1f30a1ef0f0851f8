import type { Listener } from '../../listeners/listener.ts'
import type { Cancel, Clock } from '../core/clock.ts'
import { drains } from '../runtime/drained-listeners.ts'
import type { DrainWish } from '../runtime/engine.ts'

/** How long before the deadline a draining engine closes connections that have become idle. */
const DRAIN_SWEEP_MS = 1_000
/** What connections get that came in at the end of a graceful drain, to finish their handshakes and first requests. */
const LAST_MS = 5_000

/** The drains that an engine was asked for. */
export class Drains {
  readonly #clock: Clock
  readonly #gradual: boolean
  /** Of the graceful drain that goes on; ends its waiting. */
  #stopWaiting: Cancel = () => {}
  #announced: DrainWish | undefined = undefined
  /** Listeners that these are about accept nothing any more. */
  readonly #stopped: DrainWish[] = []

  /** @param gradual connections are told to go one after the other, over the drain time, and not all at once */
  constructor(clock: Clock, gradual = false) {
    this.#clock = clock
    this.#gradual = gradual
  }

  /** As `Engine.drain`; of these listeners only those that the wish is about. */
  async run(all: readonly Listener[], deadlineMs: number, wish: DrainWish): Promise<void> {
    const listeners = all.filter(({ config }) => drains(wish, config))
    if (!wish.graceful) {
      if (!this.#stopped.some(({ inboundOnly }) => inboundOnly === wish.inboundOnly)) this.#stopped.push(wish)
      return this.#within(listeners, deadlineMs, this.#gradual ? deadlineMs - DRAIN_SWEEP_MS : 0)
    }
    this.#announced = wish
    const overMs = (wish.overMs ?? deadlineMs + DRAIN_SWEEP_MS) - DRAIN_SWEEP_MS
    for (const listener of listeners) listener.announceDrain(this.#gradual ? overMs : 0)
    await this.#wait(deadlineMs)
    if (wish.skipExit || this.#announced !== wish) return
    // They have had their time, but for those that came last.
    return this.#within(listeners, LAST_MS)
  }

  /** A listener that a configuration brings which was on its way when a drain began. */
  opened(listener: Listener): void {
    if (this.#stopped.some((wish) => drains(wish, listener.config))) {
      void listener.drain()
      return
    }
    if (this.#announced !== undefined && drains(this.#announced, listener.config)) listener.announceDrain()
  }

  /** The engine closes. */
  close(): void {
    this.#announced = undefined
    this.#stopWaiting()
  }

  /** Idle connections may stay until their next request, but not for all of the time that is left. */
  async #within(listeners: readonly Listener[], deadlineMs: number, gradualMs = 0): Promise<void> {
    for (const listener of listeners) listener.announceDrain(gradualMs)
    let cancelDeadline: Cancel = () => {}
    const deadline = new Promise<void>((resolve) => {
      cancelDeadline = this.#clock.schedule(deadlineMs, resolve)
    })
    const cancelSweep = this.#clock.schedule(Math.max(0, deadlineMs - DRAIN_SWEEP_MS), () => {
      for (const listener of listeners) listener.closeIdle()
    })
    const drained = queueAccepted().then(() => Promise.all(listeners.map((listener) => listener.drain(gradualMs))))
    await Promise.race([drained, deadline])
    cancelDeadline()
    cancelSweep()
  }

  #wait(forMs: number): Promise<void> {
    this.#stopWaiting()
    return new Promise((resolve) => {
      const cancel = this.#clock.schedule(forMs, resolve)
      this.#stopWaiting = () => {
        cancel()
        resolve()
      }
    })
  }
}

/**
 * Connections that the kernel has taken and we have not would be reset when their listening socket closes: one whole turn
 * of the loop accepts them.
 */
async function queueAccepted(): Promise<void> {
  for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve))
}
