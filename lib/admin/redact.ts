import type { Json, JsonObject } from '../core/errors.ts'
import { isLabel, isSecretHeader, mayHoldSecret, REDACTED, REDACTED_BYTES, soundsSecret } from './secret-names.ts'

/** What is known of an object from where it stands. */
interface Surroundings {
  /** Below something whose name says so, however far: inline data sources are secret. */
  readonly inside: boolean
  /** Right below something that sounds secret: texts are, but for names and places. */
  readonly right: boolean
}

/** Fields that name a header, and fields that have its value. */
const HEADER_NAMES: readonly string[] = Object.freeze(['key', 'name', 'header', 'header_name'])
const HEADER_VALUES: ReadonlySet<string> = new Set(['value', 'values', 'raw_value'])

const OUTSIDE: Surroundings = Object.freeze({ inside: false, right: false })

/**
 * A copy of a configuration without the secrets written into it, by the names of fields alone: for what has no schema here.
 * Names of files and of secrets stay.
 */
export function redact(config: JsonObject): JsonObject {
  return redactObject(config, OUTSIDE)
}

function redactObject(object: JsonObject, around: Surroundings): JsonObject {
  const header = namesSecretHeader(object)
  const entries = Object.entries(object).map(([key, value]): [string, Json] => {
    const name = snakeCase(key)
    if (header && HEADER_VALUES.has(name)) return [key, withheld(value)]
    if (typeof value === 'string') return [key, redactText(key, value, around)]
    const sounds = soundsSecret(name)
    const below = { inside: around.inside || sounds || mayHoldSecret(name), right: sounds }
    if (Array.isArray(value)) return [key, value.map((item) => redactItem(key, item, below))]
    return [key, redactValue(value, below)]
  })
  return Object.fromEntries(entries)
}

function namesSecretHeader(object: JsonObject): boolean {
  return HEADER_NAMES.some((field) => {
    const name = object[field] ?? (field === 'header_name' ? object.headerName : undefined)
    return typeof name === 'string' && isSecretHeader(name)
  })
}

/** Texts only: the rest says what it is and no more. */
function withheld(value: Json): Json {
  if (typeof value === 'string') return REDACTED
  return Array.isArray(value) ? value.map(withheld) : value
}

/** Of a list, where each text is what the field alone would be. */
function redactItem(key: string, item: Json, around: Surroundings): Json {
  return typeof item === 'string' ? redactText(key, item, around) : redactValue(item, around)
}

function redactValue(value: Json, around: Surroundings): Json {
  if (Array.isArray(value)) return value.map((item) => redactValue(item, around))
  return typeof value === 'object' && value !== null ? redactObject(value, around) : value
}

function redactText(key: string, value: string, { inside, right }: Surroundings): string {
  const name = snakeCase(key)
  if (inside && name === 'inline_bytes') return REDACTED_BYTES
  if (soundsSecret(name) || key.toLowerCase() === 'authorization' || (right && !isLabel(name))) return REDACTED
  return inside && name === 'inline_string' ? REDACTED : value
}

/** Files may spell fields `inlineString`, as JSON printers do, or `inline_string`, as the definitions do. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
