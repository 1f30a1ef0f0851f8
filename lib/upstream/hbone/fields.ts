import { SPIFFE_ID } from '../../tls/mesh.ts'

/** RFC 9110 §5.6.2, in the lower case that HTTP/2 wants. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/
/** RFC 9113 §8.2.1: neither these nor white space at either end. */
const BAD_VALUE = /[\0\r\n]|^[ \t]|[ \t]$/
/** They belong to a connection of HTTP/1 (RFC 9113 §8.2.2), or say what the authority says. */
const NOT_OURS: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'te',
  'host',
  'content-length',
])

/** Told of each mistake; `key` is the name of a field, or the index of an identity. */
export type Mistake = (key: string | number, message: string) => void

/** The fields of each CONNECT as pairs, names in lower case. */
export function tunnelFields(headers: Readonly<Record<string, string>>, mistake: Mistake): readonly string[] {
  return Object.entries(headers).flatMap(([key, value]) => {
    const name = key.toLowerCase()
    if (!TOKEN.test(name)) mistake(key, `"${key}" is not a valid header name`)
    else if (NOT_OURS.has(name)) mistake(key, `"${key}" has no place in a CONNECT of HTTP/2`)
    if (BAD_VALUE.test(value)) mistake(key, 'must have neither NUL, CR nor LF, nor blanks at its ends')
    return [name, value]
  })
}

/** Identities that no peer can have would keep everybody out, or hide a mistake in another. */
export function checkIdentities(identities: readonly string[], mistake: Mistake): void {
  identities.forEach((identity, i) => {
    if (!SPIFFE_ID.test(identity)) mistake(i, `"${identity}" is no SPIFFE ID: spiffe://<trust domain>/<path>`)
  })
}
