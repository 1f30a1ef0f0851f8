import type { Json, JsonObject } from '../../core/errors.ts'
import { snakeCase } from '../redact.ts'

/*
 * Finding things in a bootstrap as its author wrote it, in either spelling of field names.
 */

const CONNECTION_MANAGER = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'

/** A field by its protobuf name, in either spelling that proto-JSON allows. */
export function field(object: JsonObject | undefined, name: string): Json | undefined {
  if (object === undefined) return undefined
  if (Object.hasOwn(object, name)) return object[name]
  for (const [key, value] of Object.entries(object)) if (snakeCase(key) === name) return value
  return undefined
}

export function objectField(object: JsonObject | undefined, name: string): JsonObject | undefined {
  const value = field(object, name)
  return isObject(value) ? value : undefined
}

/** The objects of a list; none where it is no list. */
export function objectsField(object: JsonObject | undefined, name: string): JsonObject[] {
  const value = field(object, name)
  return Array.isArray(value) ? value.filter(isObject) : []
}

export function nameOf(object: JsonObject): string {
  return typeof object.name === 'string' ? object.name : ''
}

/** The HTTP connection managers of a listener. */
export function connectionManagers(listener: JsonObject): JsonObject[] {
  const chains = objectsField(listener, 'filter_chains')
  const fallback = objectField(listener, 'default_filter_chain')
  const all = fallback === undefined ? chains : [...chains, fallback]
  return all
    .flatMap((chain) => objectsField(chain, 'filters'))
    .map((filter) => objectField(filter, 'typed_config'))
    .filter((config) => config !== undefined)
    .filter((config) => String(config['@type']).endsWith(`/${CONNECTION_MANAGER}`))
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
