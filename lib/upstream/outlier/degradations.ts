import type { EjectionState } from '../../core/host-health.ts'
import { HEALTH } from '../health-flags.ts'
import { longestMs } from './ejection-time.ts'
import type { OutlierMonitor } from './monitor.ts'
import type { OutlierSettings } from './settings.ts'

/** How one host has been degraded. */
interface Spell {
  backoff: number
  sinceMs: number
  lastsMs: number
}

/** What one host has of `Degradations`, as processes tell each other. */
export type DegradationState = Pick<EjectionState, 'backoff' | 'leftMs'>

/**
 * Hosts that call themselves degraded in what they answer, and for how long they are: as long as an ejection, and longer each
 * time (Envoy's `detect_degraded_hosts`). Whoever has this raises and lowers the flags.
 */
export class Degradations {
  readonly #settings: OutlierSettings
  readonly #spells = new Map<OutlierMonitor, Spell>()

  constructor(settings: OutlierSettings) {
    this.#settings = settings
  }

  begin(monitor: OutlierMonitor, nowMs: number, jitterMs: number): void {
    const spell = this.#spell(monitor)
    const base = this.#settings.of('baseEjectionTimeMs')
    const longest = longestMs(this.#settings)
    if (spell.backoff * base < longest + base) spell.backoff++
    spell.sinceMs = nowMs
    spell.lastsMs = Math.min(base * spell.backoff, longest) + jitterMs
  }

  /** What another process has found. */
  resume(monitor: OutlierMonitor, { backoff, leftMs }: DegradationState, nowMs: number): void {
    const spell = this.#spell(monitor)
    spell.backoff = Math.max(spell.backoff, backoff)
    spell.sinceMs = nowMs
    spell.lastsMs = leftMs
  }

  #spell(monitor: OutlierMonitor): Spell {
    let spell = this.#spells.get(monitor)
    if (spell === undefined) this.#spells.set(monitor, (spell = { backoff: 0, sinceMs: 0, lastsMs: 0 }))
    return spell
  }

  /** At the end of an interval: true where it is over by now. One that is well is trusted a little more. */
  review(monitor: OutlierMonitor, nowMs: number): boolean {
    const spell = this.#spells.get(monitor)
    if (spell === undefined) return false
    if (monitor.host.has(HEALTH.degradedOutlierDetection)) return nowMs - spell.sinceMs >= spell.lastsMs
    if (--spell.backoff <= 0) this.#spells.delete(monitor)
    return false
  }

  state(monitor: OutlierMonitor, nowMs: number): DegradationState | undefined {
    const spell = this.#spells.get(monitor)
    if (spell === undefined || !monitor.host.has(HEALTH.degradedOutlierDetection)) return undefined
    return { backoff: spell.backoff, leftMs: Math.max(0, spell.lastsMs - (nowMs - spell.sinceMs)) }
  }

  has(monitor: OutlierMonitor): boolean {
    return this.#spells.has(monitor)
  }

  forget(monitor: OutlierMonitor): void {
    this.#spells.delete(monitor)
  }

  /** Those that are. */
  *degraded(): Generator<OutlierMonitor, void> {
    for (const monitor of this.#spells.keys()) {
      if (monitor.host.has(HEALTH.degradedOutlierDetection)) yield monitor
    }
  }
}
