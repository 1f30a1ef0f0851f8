import type { LowerFilters } from '../chain/factories.ts'
import type { AnyListenerFilterFactory, AnyNetworkFilterFactory } from '../chain/network.ts'
import { type AnyFilterFactory, createFilterRegistry, type FilterRegistry } from '../chain/registry.ts'
import { ConfigError, ConfigRefused } from '../core/errors.ts'
import { lowerFilters, standardFilters } from './standard-filters.ts'

/** Filters of one's own below HTTP, beside the standard ones. */
export interface LowerFactories {
  readonly networkFilters?: readonly AnyNetworkFilterFactory[]
  readonly listenerFilters?: readonly AnyListenerFilterFactory[]
}

/** The standard ones and these. @throws ConfigRefused */
export function lowerOf({ networkFilters, listenerFilters }: LowerFactories): LowerFilters {
  try {
    return lowerFilters(networkFilters, listenerFilters)
  } catch (error) {
    throw new ConfigRefused([new ConfigError('filters', error instanceof Error ? error.message : String(error))])
  }
}

/** The standard filters and these; one that is named twice counts once. @throws ConfigRefused */
export function registryOf(filters: readonly AnyFilterFactory[]): FilterRegistry {
  try {
    return createFilterRegistry([...new Set([...standardFilters(), ...filters])])
  } catch (error) {
    throw new ConfigRefused([new ConfigError('filters', error instanceof Error ? error.message : String(error))])
  }
}
