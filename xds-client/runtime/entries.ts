import { parseConfigText } from '../../lib/config/parse.ts'
import type { Json, JsonObject } from '../../lib/core/errors.ts'

/** Values of one layer by dotted key. */
export type LayerValues = Map<string, Json>

/**
 * The entries of a layer that is written as a Struct: each level adds to the dotted key, a FractionalPercent is one value.
 * Answers the keys whose values cannot be entries (lists and null), which are left out.
 */
export function flattenLayer(values: JsonObject, into: LayerValues): readonly string[] {
  const invalid: string[] = []
  flatten(values, '', { into, invalid })
  return invalid
}

function flatten(values: JsonObject, prefix: string, out: { into: LayerValues; invalid: string[] }): void {
  for (const [name, value] of Object.entries(values)) {
    const key = prefix === '' ? name : `${prefix}.${name}`
    if (value === null || Array.isArray(value)) out.invalid.push(key)
    else if (typeof value === 'object' && !isFraction(value)) flatten(value, key, out)
    else out.into.set(key, value)
  }
}

/** A FractionalPercent written as a Struct is one value, not a level. */
function isFraction(value: JsonObject): boolean {
  return Object.hasOwn(value, 'numerator') || Object.hasOwn(value, 'denominator')
}

/**
 * The value of an entry that is written as text, in a file or by admin: YAML, so that numbers, booleans and fractions are
 * what they are in other layers. Nothing at all is an empty text; a list has no meaning and stays text.
 *
 * @throws ConfigRefused where it is not YAML.
 */
export function parseEntry(text: string): Json {
  if (text.trim() === '') return ''
  const { value } = parseConfigText(text, '')
  if (value === null || Array.isArray(value)) return text
  return value
}
