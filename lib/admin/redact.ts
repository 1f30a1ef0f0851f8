import type { Json, JsonObject } from '../core/errors.ts'
import { isSecretName, mayHoldSecret, REDACTED, REDACTED_BYTES } from './secret-names.ts'

/**
 * A copy of a configuration without the secrets written into it, by the names of fields alone: for what has no schema here.
 * Names of files and of secrets stay.
 */
export function redact(config: JsonObject): JsonObject {
  return redactObject(config, false)
}

function redactObject(object: JsonObject, secret: boolean): JsonObject {
  const entries = Object.entries(object).map(([key, value]): [string, Json] => {
    const name = snakeCase(key)
    if (typeof value === 'string') return [key, redactText(name, value, secret)]
    const inside = secret || mayHoldSecret(name)
    if (Array.isArray(value)) return [key, value.map((item) => redactItem(name, item, inside))]
    return [key, redactValue(value, inside)]
  })
  return Object.fromEntries(entries)
}

/** Of a list, where each text is what the field alone would be. */
function redactItem(name: string, item: Json, secret: boolean): Json {
  return typeof item === 'string' ? redactText(name, item, secret) : redactValue(item, secret)
}

function redactValue(value: Json, secret: boolean): Json {
  if (Array.isArray(value)) return value.map((item) => redactValue(item, secret))
  return typeof value === 'object' && value !== null ? redactObject(value, secret) : value
}

function redactText(name: string, value: string, secret: boolean): string {
  if (isSecretName(name)) return REDACTED
  if (!secret) return value
  if (name === 'inline_bytes') return REDACTED_BYTES
  return name === 'inline_string' ? REDACTED : value
}

/** Files may spell fields `inlineString`, as JSON printers do, or `inline_string`, as the definitions do. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
