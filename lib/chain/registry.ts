import type { Json } from '../core/errors.ts'
import type { FilterOverrideConfig } from '../router/config.ts'
import type { FilterFactory, HttpFilter, Scope, Terminal } from './filter.ts'
import { MISSING_FILTER } from './missing.ts'

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
  /** There is no configuration yet. */
  readonly missing?: true
  readonly instance?: HttpFilter<unknown>
}

/** A filter of one route that is to be made, or has been: those of one chain entry with the same key are the same. */
export interface PreparedFilter {
  readonly key: string
  /** @throws Error naming the filter where it does not compile. */
  make(scope: Scope): CompiledFilter
}

/** What was compiled in one scope, by `PreparedFilter.key`; goes away with it. */
type Compiled = Map<string, { readonly filter: CompiledFilter }>

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
  readonly #bases = new WeakMap<ChainEntry, PreparedFilter>()

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
    const prepared = this.prepare(config, levels)
    if (prepared === undefined) return undefined
    const byKey = this.#compiledIn(scope)
    const known = byKey.get(prepared.key)
    if (known !== undefined) return known.filter
    const filter = prepared.make(scope)
    byKey.set(prepared.key, { filter })
    return filter
  }

  /**
   * As `compile`, for whoever keeps what was made himself.
   *
   * @returns undefined where the filter is off.
   */
  prepare(config: ChainEntry, levels: readonly FilterOverrideConfig[]): PreparedFilter | undefined {
    if (isOff(config, levels)) return undefined
    if (config.missing === true) return MISSING
    let overridden = false
    for (const level of levels) if (level.config !== undefined) overridden = true
    const { instance, name } = config
    if (instance !== undefined) {
      if (overridden) throw new Error(`filter "${config.name}" is an instance: it takes no per-route configuration`)
      return { key: '', make: () => instance }
    }
    const factory = this.byType.get(config.typeUrl)
    if (factory === undefined) throw new Error(`filter "${config.name}": no filter has the type "${config.typeUrl}"`)
    // Most routes have nothing of their own.
    const base = overridden ? undefined : this.#bases.get(config)
    if (base !== undefined) return base
    const merged = merge(factory, config, levels)
    if (merged === undefined) return undefined
    const prepared: PreparedFilter = {
      key: JSON.stringify(merged),
      make: (scope) => compileMerged({ factory, name }, merged, scope),
    }
    if (!overridden) this.#bases.set(config, prepared)
    return prepared
  }

  #compiledIn(scope: Scope): Compiled {
    let compiled = this.#compiled.get(scope)
    if (compiled === undefined) {
      compiled = new Map()
      this.#compiled.set(scope, compiled)
    }
    return compiled
  }
}

const MISSING: PreparedFilter = Object.freeze({ key: 'missing', make: () => MISSING_FILTER })

function compileMerged(
  { factory, name }: { readonly factory: AnyFilterFactory; readonly name: string },
  merged: unknown,
  scope: Scope,
): CompiledFilter {
  try {
    return factory.compile(merged, scope) as CompiledFilter
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new Error(`filter "${name}": ${why}`, { cause: error })
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
  // As in Envoy, settings of another filter are none of this one: routes that are delivered do not know the chain.
  for (const { config: own } of levels) {
    if (own !== undefined && (factory.routeTypeUrls ?? factory.typeUrls).includes(own.typeUrl)) values.push(own.value)
  }
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
