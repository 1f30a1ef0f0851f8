import type { GatewayConfig } from '../config/model.ts'
import type { Json, JsonObject } from '../core/errors.ts'
import { redact, snakeCase } from './redact.ts'

const TYPE = 'type.googleapis.com/'
const CONNECTION_MANAGER = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'

/**
 * Envoy's `/config_dump`: the configuration as its author wrote it, without secrets, cut into the parts that tools look
 * for (bootstrap, clusters, listeners, routes). The last entry, a `Struct`, is ours: the fields that are set and have no
 * effect here. A native configuration has no such source and is shown as it is, in a `Struct`.
 */
export function configDump(config: GatewayConfig, updatedMs: number): JsonObject {
  const updated = new Date(updatedMs).toISOString()
  const ignored = { '@type': `${TYPE}google.protobuf.Struct`, value: { ignored_fields: [...config.ignored] } }
  if (config.source === undefined) return { configs: [nativeDump(config), ignored] }
  const source = redact(config.source)
  const resources = objectField(source, 'static_resources')
  const listeners = objects(field(resources, 'listeners'))
  return {
    configs: [
      { '@type': `${TYPE}envoy.admin.v3.BootstrapConfigDump`, bootstrap: source, last_updated: updated },
      {
        '@type': `${TYPE}envoy.admin.v3.ClustersConfigDump`,
        static_clusters: objects(field(resources, 'clusters')).map((cluster) => ({
          cluster: { '@type': `${TYPE}envoy.config.cluster.v3.Cluster`, ...cluster },
          last_updated: updated,
        })),
      },
      {
        '@type': `${TYPE}envoy.admin.v3.ListenersConfigDump`,
        static_listeners: listeners.map((listener) => ({
          listener: { '@type': `${TYPE}envoy.config.listener.v3.Listener`, ...listener },
          last_updated: updated,
        })),
      },
      {
        '@type': `${TYPE}envoy.admin.v3.RoutesConfigDump`,
        static_route_configs: listeners.flatMap(routeTables).map((table) => ({
          route_config: { '@type': `${TYPE}envoy.config.route.v3.RouteConfiguration`, ...table },
          last_updated: updated,
        })),
      },
      ignored,
    ],
  }
}

/** The data only: filter objects of an embedded gateway are code. */
function nativeDump(config: GatewayConfig): JsonObject {
  const value = JSON.parse(
    JSON.stringify(config, (key, item: unknown) => (key === 'instance' ? '[object]' : item)),
  ) as JsonObject
  return { '@type': `${TYPE}google.protobuf.Struct`, value: redact(value) }
}

/** Route tables written inside a listener's connection managers. */
function routeTables(listener: JsonObject): JsonObject[] {
  const chains = objects(field(listener, 'filter_chains'))
  const fallback = objectField(listener, 'default_filter_chain')
  const all = fallback === undefined ? chains : [...chains, fallback]
  return all
    .flatMap((chain) => objects(field(chain, 'filters')))
    .map((filter) => objectField(filter, 'typed_config'))
    .filter((config) => config?.['@type'] === TYPE + CONNECTION_MANAGER)
    .map((config) => objectField(config, 'route_config'))
    .filter((table) => table !== undefined)
}

/** A field by its protobuf name, in either spelling that proto-JSON allows. */
function field(object: JsonObject | undefined, name: string): Json | undefined {
  if (object === undefined) return undefined
  for (const [key, value] of Object.entries(object)) if (key === name || snakeCase(key) === name) return value
  return undefined
}

function objectField(object: JsonObject | undefined, name: string): JsonObject | undefined {
  const value = field(object, name)
  return isObject(value) ? value : undefined
}

function objects(value: Json | undefined): JsonObject[] {
  return Array.isArray(value) ? value.filter(isObject) : []
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
