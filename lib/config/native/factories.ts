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

/** The factories that stand in a configuration, each once. Takes anything: shapes are judged elsewhere. */
export function factoriesIn(config: unknown): readonly AnyFilterFactory[] {
  const found = new Set<AnyFilterFactory>()
  for (const listener of itemsOf(config, 'listeners')) {
    const http = isObject(listener) ? listener.http : undefined
    for (const filter of itemsOf(http, 'filters')) {
      const factory = isObject(filter) && filter.factory !== undefined ? filter.factory : filter
      if (isFactory(factory)) found.add(factory)
    }
  }
  return [...found]
}

function itemsOf(value: unknown, field: string): readonly unknown[] {
  const list = isObject(value) ? value[field] : undefined
  return Array.isArray(list) ? list : []
}
