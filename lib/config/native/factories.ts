import type { AnyListenerFilterFactory, AnyNetworkFilterFactory } from '../../chain/network.ts'
import type { AnyFilterFactory } from '../../chain/registry.ts'
import { isObject } from '../../proto/describe.ts'

/** True for a usable filter factory. */
export function isFactory(value: unknown): value is AnyFilterFactory {
  return (
    isFactoryLike(value) &&
    typeof value.name === 'string' &&
    Array.isArray(value.typeUrls) &&
    value.typeUrls.length > 0 &&
    value.typeUrls.every((type) => typeof type === 'string')
  )
}

/** True for what is meant to be a filter factory, also where it stands by itself in a list of filters. */
export function isFactoryLike(value: unknown): value is { [key: string]: unknown } {
  return isObject(value) && typeof value.parse === 'function' && typeof value.compile === 'function'
}

/** Factories that stand in a configuration, each once. */
export interface FactoriesFound {
  readonly http: readonly AnyFilterFactory[]
  readonly network: readonly AnyNetworkFilterFactory[]
  readonly listener: readonly AnyListenerFilterFactory[]
}

/** Takes anything: shapes are judged elsewhere. */
export function factoriesIn(config: unknown): FactoriesFound {
  const http = new Set<AnyFilterFactory>()
  const network = new Set<AnyNetworkFilterFactory>()
  const listeners = new Set<AnyListenerFilterFactory>()
  for (const listener of itemsOf(config, 'listeners')) {
    collect(listener, 'listenerFilters', listeners)
    const standard = isObject(listener) ? listener.defaultFilterChain : undefined
    for (const chain of [listener, standard, ...itemsOf(listener, 'filterChains')]) {
      collect(chain, 'networkFilters', network)
      if (isObject(chain)) collect(chain.http, 'filters', http)
    }
  }
  return { http: [...http], network: [...network], listener: [...listeners] }
}

/** What kind of filter a factory makes shows in where it stands. */
function collect<F>(holder: unknown, field: string, found: Set<F>): void {
  for (const filter of itemsOf(holder, field)) {
    const factory = isObject(filter) && filter.factory !== undefined ? filter.factory : filter
    if (isFactory(factory)) found.add(factory as F)
  }
}

function itemsOf(value: unknown, field: string): readonly unknown[] {
  const list = isObject(value) ? value[field] : undefined
  return Array.isArray(list) ? list : []
}
