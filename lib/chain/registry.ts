import type { Json } from '../core/errors.ts'
import type { FilterOverrideConfig } from '../router/config.ts'
import type { FilterFactory, HttpFilter, Scope, Terminal } from './filter.ts'

/** A factory whose configuration types nobody needs to know: what the registry and the translators handle. */
export type AnyFilterFactory = FilterFactory<unknown, unknown>

/** What a filter is for one route: hooks, the end of the chain, or nothing (it is off there). */
export type CompiledFilter = HttpFilter<unknown> | Terminal | undefined

/** One filter of a configured chain; `HttpFilterConfig` of `lib/config` is one. */
export interface ChainEntry {
  readonly name: string
  readonly typeUrl: string
  readonly config: Json
  readonly disabled: boolean
  readonly instance?: HttpFilter<unknown>
}

/** What was compiled in one scope; goes away with it. */
interface Compiled {
  /** Without any per-route configuration: most routes. */
  base: CompiledFilter
  baseKnown: boolean
  /** By merged configuration. */
  readonly byConfig: Map<string, CompiledFilter>
}

/**
 * The filters a gateway knows, by the types of their configurations.
 *
 * It holds no state but a memory of what it compiled, by `Scope`: routes with the same configuration share one filter
 * object, and a snapshot that is dropped takes its filters with it.
 */
export class FilterRegistry {
  readonly factories: readonly AnyFilterFactory[]
  /** By every type URL of the filter's own configuration, without `type.googleapis.com/`. */
  readonly byType: ReadonlyMap<string, AnyFilterFactory>
  /** By every type URL of per-route configuration. */
  readonly byRouteType: ReadonlyMap<string, AnyFilterFactory>
  readonly #compiled = new WeakMap<Scope, Compiled>()

  /** @throws Error where two factories have one name or claim one type. */
  constructor(factories: readonly AnyFilterFactory[]) {
    this.factories = [...factories]
    index(factories, 'name', (factory) => [factory.name])
    this.byType = index(factories, 'configuration type', (factory) => factory.typeUrls)
    this.byRouteType = index(
      factories,
      'per-route configuration type',
      (factory) => factory.routeTypeUrls ?? factory.typeUrls,
    )
  }

  /**
   * The filter of one route. `levels` are the settings of route table, virtual host, route and weighted cluster that
   * name this filter, least specific first. `scope` belongs to this filter of this connection manager alone: equal
   * merged configurations in it share one object.
   *
   * The most specific level that says on or off decides; a level with a configuration says on. A filter that is
   * `disabled` in the chain and that no level speaks of is off.
   *
   * @returns undefined where the filter is off.
   * @throws Error naming the filter: an unknown type, a configuration that does not compile, settings for an instance.
   */
  compile(config: ChainEntry, levels: readonly FilterOverrideConfig[], scope: Scope): CompiledFilter {
    if (isOff(config, levels)) return undefined
    let overridden = false
    for (const level of levels) if (level.config !== undefined) overridden = true
    if (config.instance !== undefined) {
      if (overridden) throw new Error(`filter "${config.name}" is an instance: it takes no per-route configuration`)
      return config.instance
    }
    const compiled = this.#compiledIn(scope)
    if (!overridden && compiled.baseKnown) return compiled.base
    const filter = this.#compileMerged(config, levels, { scope, compiled })
    if (!overridden) {
      compiled.base = filter
      compiled.baseKnown = true
    }
    return filter
  }

  #compileMerged(
    config: ChainEntry,
    levels: readonly FilterOverrideConfig[],
    place: { readonly scope: Scope; readonly compiled: Compiled },
  ): CompiledFilter {
    const factory = this.byType.get(config.typeUrl)
    if (factory === undefined) throw new Error(`filter "${config.name}": no filter has the type "${config.typeUrl}"`)
    const merged = merge(factory, config, levels)
    if (merged === undefined) return undefined
    const { byConfig } = place.compiled
    const key = JSON.stringify(merged)
    const known = byConfig.get(key)
    if (known !== undefined) return known
    let filter: CompiledFilter
    try {
      filter = factory.compile(merged, place.scope) as CompiledFilter
    } catch (error) {
      throw new Error(`filter "${config.name}": ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      })
    }
    byConfig.set(key, filter)
    return filter
  }

  #compiledIn(scope: Scope): Compiled {
    let compiled = this.#compiled.get(scope)
    if (compiled === undefined) {
      compiled = { base: undefined, baseKnown: false, byConfig: new Map() }
      this.#compiled.set(scope, compiled)
    }
    return compiled
  }
}

/**
 * Makes a registry of these factories.
 *
 * @throws Error where two factories have one name or claim one type.
 */
export function createFilterRegistry(factories: readonly AnyFilterFactory[]): FilterRegistry {
  return new FilterRegistry(factories)
}

function isOff(config: ChainEntry, levels: readonly FilterOverrideConfig[]): boolean {
  for (let i = levels.length - 1; i >= 0; i--) {
    const { disabled, config: own } = levels[i]
    if (disabled !== undefined) return disabled
    if (own !== undefined) return false
  }
  return config.disabled
}

function merge(
  factory: AnyFilterFactory,
  config: ChainEntry,
  levels: readonly FilterOverrideConfig[],
): unknown | undefined {
  const values: unknown[] = []
  for (const level of levels) if (level.config !== undefined) values.push(level.config.value)
  if (factory.merge !== undefined) return factory.merge(config.config, values)
  return values.length > 0 ? values[values.length - 1] : config.config
}

function index(
  factories: readonly AnyFilterFactory[],
  what: string,
  keysOf: (factory: AnyFilterFactory) => readonly string[],
): Map<string, AnyFilterFactory> {
  const out = new Map<string, AnyFilterFactory>()
  for (const factory of factories) {
    for (const key of keysOf(factory)) {
      const other = out.get(key)
      if (other !== undefined) {
        throw new Error(`two filters have the ${what} "${key}": "${other.name}" and "${factory.name}"`)
      }
      out.set(key, factory)
    }
  }
  return out
}
