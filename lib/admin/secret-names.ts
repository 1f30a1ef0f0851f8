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
  'secret_access_key',
  'session_token',
])

/** Parts of a data source that say where it is, and not what it is. */
const PLACES: ReadonlySet<string> = new Set(['filename', 'environment_variable', 'path', 'watched_directory'])

/** The last word of headers that carry credentials: `x-amz-security-token`, `set-cookie`, `grpc-auth-bin`. */
const SECRET_HEADER =
  /(?:^|[-_])(?:auth|authorization|cookie|credentials?|(?:api|access)[-_]?key|passphrase|passwd|password|secret|signature|token)(?:-bin)?$/

/** The same for fields of what has no schema, where nothing else tells: `bearer_token`, `ticket_keys`, `secrets`. */
const SECRET_ENDING =
  /(?:^|_)(?:credential|passphrase|passwd|password|secret|token|api_?key|(?:access|encryption|hmac|private|secret|signing|ticket)_key)s?$/

/** Said of a secret without being one. */
const LABELS: ReadonlySet<string> = new Set(['name', '@type', 'type_url'])

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
  return SECRET_HEADER.test(name.toLowerCase())
}

/** The text of a field of that protobuf name, or texts right below it, are secrets, as far as names tell. */
export function soundsSecret(name: string): boolean {
  return SECRET_ENDING.test(name)
}

/** A field right below something that sounds secret which may be shown all the same. */
export function isLabel(name: string): boolean {
  return LABELS.has(name) || isPlace(name)
}
