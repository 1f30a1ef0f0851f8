import type { Json, JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { WHY } from './refusals.ts'

/** `LayeredRuntime`: its static layers, flattened to dotted keys; later layers win. */
export function translateRuntime(reader: FieldReader | undefined): JsonObject {
  const runtime: JsonObject = Object.create(null)
  const names = new Set<string>()
  for (const layer of reader?.messages('layers') ?? []) {
    const name = layer.string('name')
    if (name !== '' && names.has(name)) layer.error('name', `a second runtime layer "${name}"`)
    names.add(name)
    layer.refuse('rtds_layer', WHY.dynamic)
    layer.refuse('disk_layer', 'runtime from files is not available')
    // Nothing but a running admin endpoint could fill it.
    layer.ignore('admin_layer')
    const values = layer.json('static_layer')
    if (isObject(values)) flatten(layer, values, '', runtime)
  }
  return runtime
}

function flatten(layer: FieldReader, values: JsonObject, prefix: string, into: JsonObject): void {
  for (const [name, value] of Object.entries(values)) {
    const key = prefix === '' ? name : `${prefix}.${name}`
    if (value === null || Array.isArray(value)) layer.error('static_layer', `invalid value of runtime key "${key}"`)
    else if (isObject(value) && !isFraction(value)) flatten(layer, value, key, into)
    else into[key] = value
  }
}

/** A FractionalPercent written as a Struct is one value, not a level. */
function isFraction(value: JsonObject): boolean {
  return Object.hasOwn(value, 'numerator') || Object.hasOwn(value, 'denominator')
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
