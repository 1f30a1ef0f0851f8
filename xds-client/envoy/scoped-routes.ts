import type { ScopedRoutesConfig, ScopeFragmentConfig } from '../../lib/config/listener.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { ConfigSourceConfig } from '../config.ts'
import { authoritySource, sourceOf } from './authorities.ts'
import { translateConfigSource } from './config-source.ts'
import type { EnvoyContext } from './context.ts'
import { referenceKey } from './references.ts'
import { translateRouteConfiguration } from './route-configuration.ts'
import type { ChainEntry } from './route-scope.ts'
import type { ScopeConfig } from './translated.ts'

/** `ScopedRoutes`: a route table for each key that requests can have, listed or delivered. */
export function translateScopedRoutes(
  reader: FieldReader,
  context: EnvoyContext,
  chain: ReadonlyMap<string, ChainEntry>,
): ScopedRoutesConfig | undefined {
  reader.unread('refuse')
  const name = reader.string('name')
  const fragments = reader.message('scope_key_builder')?.messages('fragments') ?? []
  const key = fragments.map(translateFragment).filter((fragment) => fragment !== undefined)
  const routesSource = translateConfigSource(reader.message('rds_config_source'), context)
  const list = reader.message('scoped_route_configurations_list')
  if (list !== undefined) {
    const scopes = translateList(list, context, { chain, routesSource, size: key.length })
    return { name, key, scopes }
  }
  const delivered = translateScopedRds(reader, context, routesSource)
  return delivered === undefined ? undefined : { name, key, scopes: [], delivered }
}

/** `config.route.v3.ScopedRouteConfiguration` as a discovery service delivers it. */
export function translateScope(
  reader: FieldReader,
  context: EnvoyContext,
  chain?: ReadonlyMap<string, ChainEntry>,
): ScopeConfig | undefined {
  reader.unread('refuse')
  const name = reader.string('name')
  const onDemand = reader.bool('on_demand')
  const key = (reader.message('key')?.messages('fragments') ?? []).map((at) => at.string('string_key'))
  const table = reader.message('route_configuration')
  const routeTable = reader.string('route_configuration_name')
  if ((table === undefined) === (routeTable === '')) {
    const why = 'exactly one of route_configuration and route_configuration_name must be set'
    reader.error('route_configuration_name', why)
    return undefined
  }
  if (table === undefined) {
    const tableSource = authoritySource(routeTable, context.authorities)
    return { name, key, routeTable, ...(tableSource && { tableSource }), onDemand }
  }
  const routes = translateRouteConfiguration(table, context, chain === undefined ? { inline: true } : { chain })
  return { name, key, routes, onDemand: false }
}

/** `scoped_rds`: the key of all scopes of a source. */
function translateScopedRds(
  reader: FieldReader,
  context: EnvoyContext,
  routesSource: ConfigSourceConfig | undefined,
): string | undefined {
  const scoped = reader.message('scoped_rds')
  scoped?.unread('refuse')
  const locator = scoped?.string('srds_resources_locator') ?? ''
  const source = sourceOf(locator, scoped?.message('scoped_rds_config_source'), context)
  if (source === undefined) return undefined
  if (context.references === undefined) reader.error('scoped_rds', 'scopes that are delivered are not available here')
  // Connection managers differ in where the route tables of the scopes come from.
  const from = routesSource === undefined ? '' : `>${routesSource.key}`
  const key = `${referenceKey(locator || '*', source)}${from}`
  context.references?.add({
    kind: 'scopes',
    name: locator || '*',
    key,
    source,
    ...(routesSource && { routesSource }),
  })
  return key
}

interface ListPlace {
  readonly chain: ReadonlyMap<string, ChainEntry>
  readonly routesSource: ConfigSourceConfig | undefined
  /** Fragments of a key. */
  readonly size: number
}

/** `ScopedRouteConfigurationsList`: each name and each key once. */
function translateList(
  reader: FieldReader,
  context: EnvoyContext,
  { chain, routesSource, size }: ListPlace,
): ScopedRoutesConfig['scopes'] {
  const names = new Set<string>()
  const keys = new Map<string, string>()
  return reader.messages('scoped_route_configurations').flatMap((entry): ScopedRoutesConfig['scopes'] => {
    const scope = translateScope(entry, context, chain)
    if (scope === undefined) return []
    const { name, key, routeTable, tableSource, routes } = scope
    if (names.has(name)) entry.error('name', `a second scope "${name}"`)
    names.add(name)
    const text = JSON.stringify(key)
    const owner = keys.get(text)
    if (owner !== undefined) entry.error('key', `is the key of scope "${owner}" already`)
    keys.set(text, name)
    if (key.length !== size) entry.error('key', `has ${key.length} fragments, the scope_key_builder ${size}`)
    if (routes !== undefined) return [{ name, key, routes }]
    return [{ name, key, routeTable: tableKey(entry, routeTable ?? '', tableSource ?? routesSource, context) }]
  })
}

function tableKey(
  reader: FieldReader,
  name: string,
  source: ConfigSourceConfig | undefined,
  context: EnvoyContext,
): string {
  if (source === undefined) {
    reader.error('route_configuration_name', `"${name}" cannot be had: the connection manager has no rds_config_source`)
    return name
  }
  const key = referenceKey(name, source)
  context.references?.add({ kind: 'routes', name, key, source })
  return key
}

/** `ScopeKeyBuilder.FragmentBuilder` */
function translateFragment(reader: FieldReader): ScopeFragmentConfig | undefined {
  reader.unread('refuse')
  const extractor = reader.message('header_value_extractor')
  if (extractor === undefined) return undefined
  extractor.unread('refuse')
  const header = extractor.string('name').toLowerCase()
  const elementSeparator = extractor.string('element_separator')
  const pair = extractor.message('element')
  const index = extractor.number('index') ?? 0
  if (pair !== undefined) {
    const separator = pair.string('separator')
    if (separator === '') pair.error('separator', 'is required')
    return { header, elementSeparator, element: { kind: 'key', key: pair.string('key'), separator } }
  }
  if (elementSeparator === '' && index > 0) {
    extractor.error('index', `${index} is beyond the only element: element_separator is empty`)
  }
  return { header, elementSeparator, element: { kind: 'index', index } }
}
