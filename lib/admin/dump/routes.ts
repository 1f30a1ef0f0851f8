import type { JsonObject } from '../../core/errors.ts'
import { type DumpNode, jsonNode } from './node.ts'
import {
  activeList,
  type DumpInput,
  type DumpSection,
  delivered,
  LISTENER,
  listOf,
  section,
  staticAny,
} from './parts.ts'
import { anyJson, conditionJson, timeJson, versionJson } from './resource-json.ts'
import { connectionManagers, nameOf, objectField, objectsField } from './source-json.ts'

const ROUTES = 'envoy.config.route.v3.RouteConfiguration'
const SCOPE = 'envoy.config.route.v3.ScopedRouteConfiguration'

/** Route tables: those that stand in listeners, and those that are delivered. */
export function routesSection(input: DumpInput): DumpSection {
  const all = delivered(input, ROUTES)
  const served = all.filter(({ active }) => active !== undefined)
  const others = all.filter(({ active }) => active === undefined)
  const dynamic: DumpNode =
    others.length === 0
      ? activeList(input.schema, served, 'route_config')
      : listOf(all, (resource) => {
          const version = resource.active ?? resource.warming
          return {
            ...(version && versionJson(input.schema, ROUTES, { version, field: 'route_config' })),
            ...conditionJson(input.schema, resource),
          }
        })
  return section(input, 'RoutesConfigDump', [
    ['static_route_configs', { kind: 'list', items: inlineTables(input) }],
    ['dynamic_route_configs', dynamic],
  ])
}

function* inlineTables(input: DumpInput): Generator<DumpNode, void, void> {
  for (const { manager, updatedMs, clean } of managers(input)) {
    const table = objectField(manager, 'route_config')
    if (table === undefined || !input.wanted(nameOf(table))) continue
    yield jsonNode(() => ({
      route_config: clean ? typed(ROUTES, table) : staticAny(input, ROUTES, table),
      last_updated: timeJson(updatedMs),
    }))
  }
}

/** Scopes: lists that stand in listeners, and those that are delivered, each by itself. */
export function scopedRoutesSection(input: DumpInput): DumpSection {
  const { schema } = input
  return section(input, 'ScopedRoutesConfigDump', [
    ['inline_scoped_route_configs', { kind: 'list', items: inlineScopes(input) }],
    [
      'dynamic_scoped_route_configs',
      listOf(delivered(input, SCOPE), (resource) => {
        const version = resource.active ?? resource.warming
        const out: JsonObject = { name: resource.name }
        if (version !== undefined) {
          if (version.version !== '') out.version_info = version.version
          out.scoped_route_configs = [anyJson(schema, SCOPE, version.bytes)]
          out.last_updated = timeJson(version.updatedMs)
        }
        return { ...out, ...conditionJson(schema, resource) }
      }),
    ],
  ])
}

function* inlineScopes(input: DumpInput): Generator<DumpNode, void, void> {
  for (const { manager, updatedMs, clean } of managers(input)) {
    const scoped = objectField(manager, 'scoped_routes')
    const list = objectField(scoped, 'scoped_route_configurations_list')
    if (scoped === undefined || list === undefined || !input.wanted(nameOf(scoped))) continue
    const scopes = objectsField(list, 'scoped_route_configurations')
    yield jsonNode(() => ({
      name: nameOf(scoped),
      scoped_route_configs: scopes.map((scope) => (clean ? typed(SCOPE, scope) : staticAny(input, SCOPE, scope))),
      last_updated: timeJson(updatedMs),
    }))
  }
}

interface FoundManager {
  readonly manager: JsonObject
  readonly updatedMs: number
  /** Without secrets and in protobuf names already. */
  readonly clean: boolean
}

/** The connection managers of all listeners that serve. */
function* managers(input: DumpInput): Generator<FoundManager, void, void> {
  const { updatedMs } = input
  const resources = objectField(input.config.source, 'static_resources')
  for (const listener of objectsField(resources, 'listeners')) {
    for (const manager of connectionManagers(listener)) yield { manager, updatedMs, clean: false }
  }
  for (const { typeName, source, active } of input.dynamic?.resources ?? []) {
    if (typeName !== LISTENER || source === '' || active === undefined) continue
    const listener = anyJson(input.schema, LISTENER, active.bytes)
    for (const manager of connectionManagers(listener)) yield { manager, updatedMs: active.updatedMs, clean: true }
  }
}

function typed(typeName: string, value: JsonObject): JsonObject {
  return { '@type': `type.googleapis.com/${typeName}`, ...value }
}
