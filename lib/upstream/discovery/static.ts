import type { ResolvedLocality } from '../host.ts'
import type { Discovery, OnMembership } from './discovery.ts'

/** STATIC: the endpoints of the configuration, once. */
export class StaticDiscovery implements Discovery {
  readonly #localities: readonly ResolvedLocality[]

  constructor(localities: readonly ResolvedLocality[]) {
    this.#localities = localities
  }

  start(onUpdate: OnMembership): Promise<void> {
    onUpdate(this.#localities)
    return Promise.resolve()
  }

  close(): void {}

  [Symbol.dispose](): void {}
}
