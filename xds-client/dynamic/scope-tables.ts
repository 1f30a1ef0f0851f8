import { referenceKey } from '../envoy/references.ts'
import type { ScopeConfig, TranslatedResource } from '../envoy/translated.ts'
import type { Resource } from './resource.ts'

/** A scope names a route table, and where that comes from is said by whoever uses the scope. */
export function withTables(translated: TranslatedResource, collection: Resource): TranslatedResource {
  const { facts } = collection
  if (facts.kind !== 'scopes') return translated
  const { routeTable: table, tableSource } = translated.config as ScopeConfig
  const routesSource = tableSource ?? collection.routesSource
  if (table === undefined || routesSource === undefined) return translated
  const reference = {
    kind: 'routes',
    name: table,
    key: referenceKey(table, routesSource),
    source: routesSource,
  } as const
  return { ...translated, references: [...translated.references, reference] }
}
