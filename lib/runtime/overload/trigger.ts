import type { TriggerConfig } from '../../config/overload.ts'

/** One trigger at work. Where it has a `release` it stays on until the pressure falls below that. */
export class Trigger {
  readonly monitor: string
  readonly #config: TriggerConfig
  #on = false

  constructor(config: TriggerConfig) {
    this.monitor = config.monitor
    this.#config = config
  }

  /** What the pressure comes to, from 0 to 1; to be asked once for each measurement. Undefined: nobody has measured. */
  scale(pressure: number | undefined): number {
    const { from, to, release } = this.#config
    if (pressure === undefined) {
      this.#on = false
      return 0
    }
    if (from < to) {
      if (pressure <= from) return 0
      return pressure >= to ? 1 : (pressure - from) / (to - from)
    }
    this.#on = pressure >= (this.#on ? Math.min(release ?? to, to) : to)
    return this.#on ? 1 : 0
  }
}

/** The furthest of several triggers. */
export function furthest(triggers: readonly Trigger[], pressureOf: (monitor: string) => number | undefined): number {
  let scale = 0
  for (const trigger of triggers) scale = Math.max(scale, trigger.scale(pressureOf(trigger.monitor)))
  return scale
}
