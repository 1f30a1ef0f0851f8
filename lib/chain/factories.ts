import type {
  AnyListenerFilterFactory,
  AnyNetworkFilterFactory,
  ListenerFilterFactory,
  NetworkFilterFactory,
} from './network.ts'

interface Named {
  readonly name: string
  readonly typeUrls: readonly string[]
}

/** Factories of one kind of filter, by the types of their configurations. */
export class FactoryTable<F extends Named> {
  readonly factories: readonly F[]
  /** By every type URL, without `type.googleapis.com/`. */
  readonly byType: ReadonlyMap<string, F>

  /** @throws Error where two factories have one name or claim one type. */
  constructor(factories: readonly F[]) {
    this.factories = [...factories]
    const byType = new Map<string, F>()
    const names = new Set<string>()
    for (const factory of factories) {
      if (names.has(factory.name)) throw new Error(`two filters have the name "${factory.name}"`)
      names.add(factory.name)
      for (const typeUrl of factory.typeUrls) {
        const other = byType.get(typeUrl)
        if (other !== undefined) {
          throw new Error(`two filters have the configuration type "${typeUrl}": "${other.name}" and "${factory.name}"`)
        }
        byType.set(typeUrl, factory)
      }
    }
    this.byType = byType
  }
}

/** The filters below HTTP that a gateway knows. */
export interface LowerFilters {
  readonly network: FactoryTable<NetworkFilterFactory>
  readonly listener: FactoryTable<ListenerFilterFactory>
}

/** @throws Error where two factories of one kind have one name or claim one type. */
export function createLowerFilters(
  network: readonly AnyNetworkFilterFactory[],
  listener: readonly AnyListenerFilterFactory[],
): LowerFilters {
  return {
    network: new FactoryTable(network as readonly NetworkFilterFactory[]),
    listener: new FactoryTable(listener as readonly ListenerFilterFactory[]),
  }
}
