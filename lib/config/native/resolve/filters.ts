import type { AnyFilterFactory } from '../../../chain/registry.ts'
import type { JsonObject } from '../../../core/errors.ts'
import { indexPath, keyPath } from '../../../proto/path.ts'
import { didYouMean } from '../../../proto/suggest.ts'
import type { FilterConfigs, FilterOverrideConfig } from '../../../router/config.ts'
import { ROUTER_TYPE } from '../../../router/router.ts'
import type { HttpFilterConfig } from '../../listener.ts'
import { isFactory } from '../factories.ts'
import type { NativeFilter } from '../http.ts'
import type { NativeFilterOverrides } from '../routes.ts'
import { findByWord, parseFields } from './factories.ts'
import type { Reading } from './reading.ts'

/** One filter of a chain, and what made it: routes' settings are read by the same factory. */
export interface ChainFilter {
  readonly config: HttpFilterConfig
  /** Undefined for filter objects. */
  readonly factory: AnyFilterFactory | undefined
}

/** The filters of a connection manager, in order; the router is appended where nothing ends the chain. */
export function readFilters(filters: readonly NativeFilter[], path: string, reading: Reading): ChainFilter[] {
  const chain: ChainFilter[] = []
  filters.forEach((filter, i) => {
    const at = indexPath(path, i)
    const read = readFilter(filter, at, reading)
    if (read === undefined) return
    reading.origins.at(at, read.config)
    chain.push(read)
  })
  if (!chain.some(({ factory }) => factory?.terminal === true)) appendRouter(chain, path, reading)
  return chain
}

function appendRouter(chain: ChainFilter[], path: string, reading: Reading): void {
  const factory = reading.registry.byType.get(ROUTER_TYPE)
  if (factory === undefined) {
    reading.findings.error(path, 'nothing ends the chain, and this gateway has no router to append')
    return
  }
  chain.push(fromFactory(factory, {}, { path, reading }))
}

function readFilter(filter: NativeFilter, path: string, reading: Reading): ChainFilter | undefined {
  if (isFactory(filter)) return known(filter, path, reading) ? fromFactory(filter, {}, { path, reading }) : undefined
  if ('filter' in filter) {
    const { name, disabled = false } = filter
    return { config: { name, typeUrl: '', config: null, disabled, instance: filter.filter }, factory: undefined }
  }
  const factory = 'factory' in filter ? filter.factory : findFactory(filter.type ?? filter.name, path, reading)
  if (factory === undefined || !known(factory, path, reading)) return undefined
  return fromFactory(factory, filter, { path, reading })
}

/** Workers and snapshots compile by type: a factory that the gateway was not made with cannot be used. */
function known(factory: AnyFilterFactory, path: string, { registry, findings }: Reading): boolean {
  if (registry.byType.get(factory.typeUrls[0]) === factory) return true
  findings.error(path, `the factory "${factory.name}" is not one that this gateway was created with`)
  return false
}

function findFactory(word: string, path: string, reading: Reading): AnyFilterFactory | undefined {
  return findByWord(word, reading.registry, { path, reading })
}

interface FilterFields {
  readonly name?: string
  readonly config?: JsonObject
  readonly disabled?: boolean
}

function fromFactory(
  factory: AnyFilterFactory,
  fields: FilterFields,
  { path, reading }: { readonly path: string; readonly reading: Reading },
): ChainFilter {
  const { name = factory.name, config = {}, disabled = false } = fields
  const typeUrl = factory.typeUrls[0]
  const value = parseFields({ path: `${path}.config`, typeUrl, config }, reading, (reader) => factory.parse(reader))
  return { config: { name, typeUrl, config: value, disabled }, factory }
}

/** Per-route settings, by the names of the chain. */
export function readOverrides(
  overrides: NativeFilterOverrides | undefined,
  path: string,
  reading: Reading & { readonly chain: ReadonlyMap<string, ChainFilter> },
): FilterConfigs | undefined {
  if (overrides === undefined) return undefined
  const result: { [name: string]: FilterOverrideConfig } = Object.create(null)
  for (const [name, value] of Object.entries(overrides)) {
    const at = keyPath(path, name)
    const filter = reading.chain.get(name)
    if (filter === undefined) {
      const names = [...reading.chain.keys()]
      reading.findings.error(at, `no filter of the chain is called "${name}"${didYouMean(name, names)}`)
    } else if (typeof value === 'boolean') result[name] = { disabled: !value }
    else {
      const config = value.config === undefined ? undefined : readOverride(filter, value, { path: at, reading })
      result[name] = { ...(value.disabled !== undefined && { disabled: value.disabled }), ...(config && { config }) }
    }
  }
  return result
}

function readOverride(
  { factory, config: { name } }: ChainFilter,
  { config = {}, type }: { readonly config?: JsonObject; readonly type?: string },
  { path, reading }: { readonly path: string; readonly reading: Reading },
): FilterOverrideConfig['config'] {
  if (factory === undefined) {
    reading.findings.error(`${path}.config`, `filter "${name}" is an object: it takes no per-route configuration`)
    return undefined
  }
  const types = factory.routeTypeUrls ?? factory.typeUrls
  const typeUrl = type ?? types[0]
  if (!types.includes(typeUrl)) {
    reading.findings.error(`${path}.type`, `filter "${name}" takes ${types.join(', ')} here, not "${typeUrl}"`)
    return undefined
  }
  const value = parseFields({ path: `${path}.config`, typeUrl, config }, reading, (reader) =>
    factory.parseRoute === undefined ? factory.parse(reader) : factory.parseRoute(reader),
  )
  return { typeUrl, value }
}
