import type { SubsetConfig } from '../config.ts'
import type { Host } from '../host.ts'
import type { HostLocality, HostView } from '../host-view.ts'
import { distributeLoad, type HostChoice, type LoadRules } from '../priority-load.ts'

type Weights = Pick<SubsetConfig, 'localityWeights' | 'scaleLocalityWeights'>

/** Some of the hosts of a view, with levels, localities and shares of their own. Whoever fills it says when. */
export class SubsetView implements HostView {
  readonly #whole: HostView
  readonly #config: Weights
  readonly #listeners = new Set<() => void>()
  #localities: readonly (readonly HostLocality[])[] | undefined = undefined
  all: readonly Host[] = []
  priorities: readonly (readonly Host[])[] = []
  choices: readonly HostChoice[] = []

  constructor(whole: HostView, config: Weights) {
    this.#whole = whole
    this.#config = config
  }

  get rules(): LoadRules {
    return this.#whole.rules
  }

  /** Those of the whole, hosts of others left out; without weights unless they are to count. */
  get localities(): readonly (readonly HostLocality[])[] {
    this.#localities ??= this.#narrowed(new Set(this.all))
    return this.#localities
  }

  #narrowed(mine: ReadonlySet<Host>): readonly (readonly HostLocality[])[] {
    const { localityWeights, scaleLocalityWeights } = this.#config
    return this.#whole.localities.map((level) =>
      level.map(({ locality, weight, hosts }) => {
        const left = hosts.filter((host) => mine.has(host))
        if (localityWeights !== true) return { locality, weight: 0, hosts: left }
        if (scaleLocalityWeights !== true || left.length === 0) return { locality, weight, hosts: left }
        const scaled = Math.round((weight * left.length) / hosts.length)
        return { locality, weight: weight === 0 ? 0 : Math.max(1, scaled), hosts: left }
      }),
    )
  }

  /** `hosts` in the order of the whole. */
  fill(hosts: readonly Host[]): void {
    const priorities: Host[][] = this.#whole.priorities.map(() => [])
    for (const host of hosts) priorities[host.priority].push(host)
    this.all = hosts
    this.priorities = priorities
    this.#localities = undefined
    this.choices = distributeLoad(priorities, this.rules)
    for (const listener of this.#listeners) listener()
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }
}
