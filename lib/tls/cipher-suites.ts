import { getCiphers } from 'node:tls'

/** IANA names of the TLS 1.2 suites that OpenSSL calls otherwise (TLS 1.3 suites have one name). */
const IANA_NAMES: ReadonlyMap<string, string> = new Map([
  ['TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256', 'ECDHE-ECDSA-AES128-GCM-SHA256'],
  ['TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384', 'ECDHE-ECDSA-AES256-GCM-SHA384'],
  ['TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256', 'ECDHE-ECDSA-CHACHA20-POLY1305'],
  ['TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA', 'ECDHE-ECDSA-AES128-SHA'],
  ['TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA', 'ECDHE-ECDSA-AES256-SHA'],
  ['TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256', 'ECDHE-ECDSA-AES128-SHA256'],
  ['TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384', 'ECDHE-ECDSA-AES256-SHA384'],
  ['TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256', 'ECDHE-RSA-AES128-GCM-SHA256'],
  ['TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384', 'ECDHE-RSA-AES256-GCM-SHA384'],
  ['TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256', 'ECDHE-RSA-CHACHA20-POLY1305'],
  ['TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA', 'ECDHE-RSA-AES128-SHA'],
  ['TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA', 'ECDHE-RSA-AES256-SHA'],
  ['TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256', 'ECDHE-RSA-AES128-SHA256'],
  ['TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384', 'ECDHE-RSA-AES256-SHA384'],
  ['TLS_RSA_WITH_AES_128_GCM_SHA256', 'AES128-GCM-SHA256'],
  ['TLS_RSA_WITH_AES_256_GCM_SHA384', 'AES256-GCM-SHA384'],
  ['TLS_RSA_WITH_AES_128_CBC_SHA', 'AES128-SHA'],
  ['TLS_RSA_WITH_AES_256_CBC_SHA', 'AES256-SHA'],
  ['TLS_RSA_WITH_AES_128_CBC_SHA256', 'AES128-SHA256'],
  ['TLS_RSA_WITH_AES_256_CBC_SHA256', 'AES256-SHA256'],
])

/**
 * One entry of a cipher list as names of this runtime. Envoy's `[A|B]` (equal preference, a notion of BoringSSL) becomes
 * A, B in that order; IANA names become OpenSSL's. Undefined with what is wrong where a name is unknown: rules such as
 * `HIGH` or `!MD5` are not names, and OpenSSL would skip an unknown name in silence.
 */
export function cipherNames(entry: string): { readonly names: readonly string[] } | { readonly unknown: string } {
  const group = /^\[([^[\]]*)\]$/.exec(entry)
  const known = new Set(getCiphers())
  const names: string[] = []
  for (const part of group === null ? [entry] : group[1].split('|')) {
    const name = IANA_NAMES.get(part) ?? part
    if (name !== name.toUpperCase() || !known.has(name.toLowerCase())) return { unknown: part }
    names.push(name)
  }
  return { names }
}

/** The list in OpenSSL's syntax. Entries must have passed `cipherNames`. */
export function cipherList(entries: readonly string[]): string {
  const names: string[] = []
  for (const entry of entries) {
    const found = cipherNames(entry)
    if ('names' in found) names.push(...found.names)
  }
  return [...new Set(names)].join(':')
}
