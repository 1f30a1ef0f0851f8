import type { GatewayConfig } from '../config/model.ts'
import type { RuntimeLayerStatus } from '../config/status.ts'
import type { Json, JsonObject } from '../core/errors.ts'
import { isObject, objectField, objectsField } from './dump/source-json.ts'
import type { AdminAnswer, AdminRequest } from './endpoint.ts'
import { json, text } from './endpoint.ts'

const USAGE =
  'usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n' +
  '       or send the parameters as form values\n' +
  'use an empty value to remove a previously added override\n'

/** Envoy's `/runtime`: every layer by name, every key with its value in each of them ('' where it has none) and the last one. */
export function runtime({ backend }: AdminRequest): AdminAnswer {
  const running = backend.configuration()
  const layers = backend.dynamic()?.layers ?? (running === undefined ? [] : staticLayers(running.config))
  const keys = new Set(layers.flatMap(({ values }) => [...values.keys()]))
  const entries = [...keys].sort().map((key): [string, Json] => {
    const values = layers.map((layer) => valueText(layer.values.get(key)))
    return [key, { layer_values: values, final_value: values.findLast((value) => value !== '') ?? '' }]
  })
  return json({ layers: layers.map(({ name }) => name), entries: Object.fromEntries(entries) })
}

/**
 * POST `/runtime_modify?key=value`: sets keys of the admin layer, by the query or by a form in the body; an empty value takes
 * a key away. 503 where the bootstrap has no admin layer.
 */
export function modifyRuntime({ query, backend, body, bodyType }: AdminRequest): AdminAnswer {
  let given = query
  if (query.size === 0 && bodyType === 'application/x-www-form-urlencoded') given = new URLSearchParams(body.toString())
  if (given.size === 0) return text(USAGE, 400)
  const problem = backend.modifyRuntime(Object.fromEntries(given))
  if (problem === undefined) return text('OK\n')
  // In Envoy's words, which tools look for.
  return text(/no admin layer/i.test(problem) ? 'No admin layer specified' : problem, 503)
}

/** Layers of a bootstrap that nobody changes. */
function staticLayers({ source, runtime: flat }: GatewayConfig): RuntimeLayerStatus[] {
  const layers = objectsField(objectField(source, 'layered_runtime'), 'layers')
  if (layers.length === 0) {
    const values = flatten(flat)
    return values.size === 0 ? [] : [{ name: 'base', values }]
  }
  return layers.map((layer) => ({
    name: typeof layer.name === 'string' ? layer.name : '',
    values: flatten(objectField(layer, 'static_layer') ?? {}),
  }))
}

/** Nested objects become dotted keys, but for fractions, which are values. */
function flatten(object: JsonObject, prefix = '', out = new Map<string, unknown>()): Map<string, unknown> {
  for (const [key, value] of Object.entries(object)) {
    const name = prefix === '' ? key : `${prefix}.${key}`
    if (isObject(value) && value.numerator === undefined) flatten(value, name, out)
    else out.set(name, value)
  }
  return out
}

function valueText(value: unknown): string {
  if (value === undefined || value === null) return ''
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}
