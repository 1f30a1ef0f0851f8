import type { ConfigChange } from '../config/change.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { DrainWish } from './engine.ts'

/** What one process remembers of the listeners that it was asked to drain: a later configuration must not bring them back. */
export class DrainedListeners {
  #wish: DrainWish | undefined = undefined
  #closed = false

  /** The last wish; undefined where nobody had one. */
  get wish(): DrainWish | undefined {
    return this.#wish
  }

  /** Nothing is accepted any more, or soon: this process should get no more traffic. */
  get all(): boolean {
    return this.#wish !== undefined && !this.#wish.inboundOnly
  }

  /** False where the same, or more, has been asked for before. */
  begin(wish: DrainWish): boolean {
    const before = this.#wish
    if (before !== undefined && !goesFurther(before, wish)) return false
    this.#wish = wish
    this.#closed = !wish.graceful
    return true
  }

  /** The drain time of a graceful wish is over. */
  ended(wish: DrainWish): void {
    if (this.#wish === wish) this.#closed = !wish.skipExit
  }

  /** The configuration without the listeners that stay closed. */
  without(config: GatewayConfig): GatewayConfig {
    const wish = this.#wish
    if (wish === undefined || !this.#closed) return config
    return { ...config, listeners: config.listeners.filter((listener) => !drains(wish, listener)) }
  }

  /** The same of a change. */
  withoutIn(change: ConfigChange): ConfigChange {
    const wish = this.#wish
    if (wish === undefined || !this.#closed || change.listeners === undefined) return change
    const { set, remove } = change.listeners
    return { ...change, listeners: { set: set.filter((listener) => !drains(wish, listener)), remove } }
  }
}

/** Whether a wish is about a listener. */
export function drains(
  { inboundOnly }: DrainWish,
  { trafficDirection }: Pick<GatewayConfig['listeners'][number], 'trafficDirection'>,
): boolean {
  return !inboundOnly || trafficDirection === 'inbound'
}

/** More listeners, or sooner. */
export function goesFurther(before: DrainWish, wish: DrainWish): boolean {
  if (before.inboundOnly && !wish.inboundOnly) return true
  return (
    before.inboundOnly === wish.inboundOnly &&
    before.graceful &&
    (!wish.graceful || (before.skipExit && !wish.skipExit))
  )
}
