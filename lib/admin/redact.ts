import type { Json, JsonObject } from '../core/errors.ts'

const REDACTED = '[redacted]'
/** The same in base64, for fields of bytes. */
const REDACTED_BYTES = Buffer.from(REDACTED).toString('base64')

/** Fields below which inline data sources are secret. */
const SECRET_PARTS: readonly string[] = [
  'private_key',
  'password',
  'passphrase',
  'token',
  'secret',
  'session_ticket',
  'pkcs12',
  'credential',
]
/** Fields whose own text is secret. */
const SECRET_FIELDS: ReadonlySet<string> = new Set([
  'private_key',
  'password',
  'secret',
  'client_secret',
  'token',
  'access_token',
  'api_key',
])

/** A copy of a configuration without the secrets written into it. Names of files and of secrets stay. */
export function redact(config: JsonObject): JsonObject {
  return redactObject(config, false)
}

function redactObject(object: JsonObject, secret: boolean): JsonObject {
  const entries = Object.entries(object).map(([key, value]): [string, Json] => {
    const name = snakeCase(key)
    if (typeof value === 'string') return [key, redactText(name, value, secret)]
    return [key, redactValue(value, secret || SECRET_PARTS.some((part) => name.includes(part)))]
  })
  return Object.fromEntries(entries)
}

function redactValue(value: Json, secret: boolean): Json {
  if (Array.isArray(value)) return value.map((item) => redactValue(item, secret))
  return typeof value === 'object' && value !== null ? redactObject(value, secret) : value
}

function redactText(name: string, value: string, secret: boolean): string {
  if (SECRET_FIELDS.has(name)) return REDACTED
  if (!secret) return value
  if (name === 'inline_bytes') return REDACTED_BYTES
  return name === 'inline_string' ? REDACTED : value
}

/** Files may spell fields `inlineString`, as JSON printers do, or `inline_string`, as the definitions do. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
