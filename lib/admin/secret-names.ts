/** What stands in a dump for a secret, as in Envoy's. */
export const REDACTED = '[redacted]'
/** The same in base64, for fields of bytes. */
export const REDACTED_BYTES = 'W3JlZGFjdGVkXQ=='

/** Words in the names of fields below which inline data sources are secret. */
const SECRET_PARTS: readonly string[] = Object.freeze([
  'private_key',
  'password',
  'passphrase',
  'token',
  'secret',
  'session_ticket',
  'pkcs12',
  'credential',
])

/** Fields whose own text is secret. */
const SECRET_FIELDS: ReadonlySet<string> = new Set([
  'private_key',
  'password',
  'passphrase',
  'secret',
  'client_secret',
  'token',
  'access_token',
  'authorization_token',
  'google_refresh_token',
  'refresh_token',
  'json_key',
  'api_key',
])

/** Parts of a data source that say where it is, and not what it is. */
const PLACES: ReadonlySet<string> = new Set(['filename', 'environment_variable', 'path', 'watched_directory'])

/** Headers that carry credentials. */
const SECRET_HEADERS: ReadonlySet<string> = new Set(['authorization', 'proxy-authorization', 'x-api-key', 'cookie'])

/** The text of a field of that protobuf name is a secret. */
export function isSecretName(name: string): boolean {
  return SECRET_FIELDS.has(name)
}

/** Inline data below a field of that protobuf name are secret. */
export function mayHoldSecret(name: string): boolean {
  return SECRET_PARTS.some((part) => name.includes(part))
}

/** A field inside something secret that may be shown all the same. */
export function isPlace(name: string): boolean {
  return PLACES.has(name)
}

export function isSecretHeader(name: string): boolean {
  return SECRET_HEADERS.has(name.toLowerCase())
}
