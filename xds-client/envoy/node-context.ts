import type { Json, JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { formatXdstp, parseXdstp } from '../protocol/resource-name.ts'

/** Fields of the node that may be parts of a locator's context, as Envoy has them. */
const FIELDS: ReadonlySet<string> = new Set([
  'id',
  'cluster',
  'user_agent_name',
  'user_agent_version',
  'locality.region',
  'locality.zone',
  'locality.sub_zone',
  'metadata',
])

/** Parameters that are added to the locators of collections, by name. */
export type NodeContext = ReadonlyMap<string, string>

/** `Bootstrap.node_context_params`: `xds.node.FIELD`, and one for each key of the metadata, whose values are JSON. */
export function translateNodeContext(bootstrap: FieldReader, node: JsonObject): NodeContext {
  const context = new Map<string, string>()
  bootstrap.strings('node_context_params').forEach((field, i) => {
    if (!FIELDS.has(field)) {
      bootstrap.error(`node_context_params[${i}]`, `"${field}" is not a field of the node that locators can have`)
      return
    }
    if (field !== 'metadata') {
      const value = field.split('.').reduce<Json | undefined>((at, key) => member(at, key), node)
      context.set(`xds.node.${field}`, typeof value === 'string' ? value : '')
      return
    }
    const metadata = node.metadata
    for (const [key, value] of Object.entries(isObject(metadata) ? metadata : {})) {
      context.set(`xds.node.metadata.${key}`, JSON.stringify(value))
    }
  })
  return context
}

/** A locator with the node's parameters besides its own, which win (xRFC TP1). */
export function withNodeContext(locator: string, context: NodeContext): string {
  const name = parseXdstp(locator)
  if (name === undefined) return locator
  const all = new Map([...context].map(([key, value]) => [encodeURIComponent(key), encodeURIComponent(value)]))
  for (const [key, value] of name.context) all.set(key, value)
  return formatXdstp({ ...name, context: [...all].sort(([a], [b]) => (a < b ? -1 : 1)) })
}

function member(at: Json | undefined, key: string): Json | undefined {
  return isObject(at) && Object.hasOwn(at, key) ? at[key] : undefined
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
