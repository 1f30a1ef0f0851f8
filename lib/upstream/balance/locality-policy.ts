import type { PickContext } from '../../core/attempt.ts'
import type { Host } from '../host.ts'
import { type HostView, usable } from '../host-view.ts'
import type { HostChoice } from '../priority-load.ts'
import { EdfScheduler } from './edf.ts'
import type { HostPicker } from './picker.ts'
import type { PickerFactory } from './picker-factory.ts'
import type { Policy } from './policy.ts'

/** Localities by weight, as far as their hosts are usable; then a host of the locality (Envoy's locality-weighted). */
export class LocalityPolicy implements Policy {
  readonly hashes = false
  readonly failsOnPanic = false
  // Weights and health of localities may change where hosts do not.
  readonly keeps = false
  readonly #factory: PickerFactory
  readonly #random: () => number

  readonly peeks: boolean

  constructor(factory: PickerFactory, random: () => number, peeks = false) {
    this.#factory = factory
    this.#random = random
    this.peeks = peeks
  }

  /** In panic localities do not count, and neither do they where none has a weight. */
  picker(choice: HostChoice, view: HostView): HostPicker {
    if (choice.panic) return this.#factory.picker(choice.hosts)
    const factor = view.rules.overprovisioningFactor / 100
    const weighted: WeightedLocality[] = []
    for (const { hosts, weight } of view.localities[choice.priority] ?? []) {
      const eligible = usable(hosts, choice)
      const counted = hosts.reduce((count, host) => count + (host.excluded ? 0 : 1), 0)
      const effective = counted === 0 ? 0 : weight * Math.min(1, (factor * eligible.length) / counted)
      if (effective > 0) weighted.push({ weight: effective, picker: this.#factory.picker(eligible) })
    }
    if (weighted.length === 0) return this.#factory.picker(choice.hosts)
    return weighted.length === 1 ? weighted[0].picker : new LocalityPicker(weighted, this.#random)
  }

  keep(hosts: readonly Host[]): void {
    this.#factory.keep?.(hosts)
  }

  retire(): void {
    this.#factory.retire?.()
  }

  [Symbol.dispose](): void {
    this.#factory[Symbol.dispose]()
  }
}

interface WeightedLocality {
  readonly weight: number
  readonly picker: HostPicker
}

class LocalityPicker implements HostPicker {
  readonly #localities: EdfScheduler<WeightedLocality>

  constructor(localities: readonly WeightedLocality[], random: () => number) {
    this.#localities = new EdfScheduler(localities, weightOf, Math.floor(random() * localities.length))
  }

  next(context: PickContext, attempt: number): Host | undefined {
    return this.#localities.next().picker.next(context, attempt)
  }
}

function weightOf({ weight }: WeightedLocality): number {
  return weight
}
