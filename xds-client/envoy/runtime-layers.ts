import type { Json, JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { RuntimeLayerConfig } from '../config.ts'
import { flattenLayer } from '../runtime/entries.ts'
import { sourceOf } from './authorities.ts'
import type { EnvoyContext } from './context.ts'
import type { RuntimeConfig } from './translated.ts'

/** The layers of a bootstrap. */
export interface RuntimeLayers {
  readonly layers: readonly RuntimeLayerConfig[]
  /** Its static layers, flattened to dotted keys; later layers win. */
  readonly values: JsonObject
}

/** `LayeredRuntime` */
export function translateRuntime(reader: FieldReader | undefined, context: EnvoyContext): RuntimeLayers {
  const values = new Map<string, Json>()
  const layers: RuntimeLayerConfig[] = []
  const names = new Set<string>()
  for (const entry of reader?.messages('layers') ?? []) {
    const name = entry.string('name')
    if (name !== '' && names.has(name)) entry.error('name', `a second runtime layer "${name}"`)
    names.add(name)
    const layer = translateLayer(entry, name, context)
    if (layer === undefined) continue
    if (layer.kind === 'static') flatten(layer.values, values, { reader: entry, field: 'static_layer' })
    if (layer.kind === 'admin' && layers.some(({ kind }) => kind === 'admin')) {
      entry.error('admin_layer', 'a second admin layer')
    }
    layers.push(layer)
  }
  // A key that is called __proto__ is one like any other.
  const flat: JsonObject = Object.assign(Object.create(null), Object.fromEntries(values))
  return { layers, values: flat }
}

/** `envoy.service.runtime.v3.Runtime`: one layer, as a discovery service delivers it. */
export function translateRuntimeResource(reader: FieldReader): RuntimeConfig {
  reader.unread('refuse')
  const layer = reader.json('layer')
  const values = isObject(layer) ? layer : {}
  flatten(values, new Map(), { reader, field: 'layer' })
  return { name: reader.string('name'), values }
}

function translateLayer(reader: FieldReader, name: string, context: EnvoyContext): RuntimeLayerConfig | undefined {
  reader.unread('refuse')
  switch (reader.which('layer_specifier')) {
    case 'static_layer': {
      const values = reader.json('static_layer')
      return { kind: 'static', name, values: isObject(values) ? values : {} }
    }
    case 'rtds_layer':
      return translateRtds(reader.message('rtds_layer'), name, context)
    case 'disk_layer':
      return translateDisk(reader.message('disk_layer'), name)
    case 'admin_layer':
      reader.message('admin_layer')
      return { kind: 'admin', name }
    default:
      return undefined
  }
}

function translateRtds(
  reader: FieldReader | undefined,
  name: string,
  context: EnvoyContext,
): RuntimeLayerConfig | undefined {
  if (reader === undefined) return undefined
  const at = reader.message('rtds_config')
  // As in Envoy, the resource is called like its layer unless it says otherwise.
  const resource = reader.string('name') || name
  const source = sourceOf(resource, at, context)
  if (at === undefined && source === undefined) reader.error('rtds_config', 'is required')
  return source && { kind: 'rtds', name, resource, source }
}

function translateDisk(reader: FieldReader | undefined, name: string): RuntimeLayerConfig | undefined {
  if (reader === undefined) return undefined
  const symlinkRoot = reader.string('symlink_root')
  if (symlinkRoot === '') reader.error('symlink_root', 'is required')
  return {
    kind: 'disk',
    name,
    symlinkRoot,
    subdirectory: reader.string('subdirectory'),
    appendServiceCluster: reader.bool('append_service_cluster'),
  }
}

/** Goes on after what cannot be an entry, which it tells. */
function flatten(values: JsonObject, into: Map<string, Json>, at: { reader: FieldReader; field: string }): void {
  for (const key of flattenLayer(values, into)) at.reader.error(at.field, `invalid value of runtime key "${key}"`)
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
