/** A JSON value as error messages show it: short, and never the inside of a long list or object. */
export function describe(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value)
    case 'object':
      if (value === null) return 'null'
      return Array.isArray(value) ? 'a list' : 'an object'
    default:
      return String(value)
  }
}

/** Parts of a path below which values are secret, in any spelling. */
const SECRET = /private_?key|pass(?:word|phrase)|secret|credential|pkcs12|session_?ticket_?keys/i

/**
 * A message about the value at a path, as `describe` has quoted it, without that value where it may be a secret: a key
 * that was written where an object belongs must not end in a log. Names of files are no secrets.
 */
export function withoutSecret(path: string, message: string): string {
  return SECRET.test(path) ? message.replace(/"(?:[^"\\]|\\.)*"$/, 'a text') : message
}

/** True for what YAML calls a mapping: not null and not a list. */
export function isObject(value: unknown): value is { [key: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Sets an own property, also where the key is `__proto__`, which plain assignment would not do. */
export function setKey(target: { [key: string]: unknown }, key: string, value: unknown): void {
  if (key === '__proto__') {
    Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true })
  } else {
    target[key] = value
  }
}
