import { isIP, isIPv4, isIPv6 } from 'node:net'

/** Tests of `validate.StringRules.well_known`, by the name of the rule, with what a message calls the value. */
export const WELL_KNOWN: { readonly [rule: string]: readonly [what: string, test: (value: string) => boolean] } = {
  email: ['an email address', isEmail],
  hostname: ['a hostname', isHostname],
  ip: ['an IP address', (value) => isIP(value) !== 0],
  ipv4: ['an IPv4 address', isIPv4],
  ipv6: ['an IPv6 address', isIPv6],
  uri: ['an absolute URI', (value) => isUriReference(value) && /^[A-Za-z][A-Za-z0-9+.-]*:/.test(value)],
  uriRef: ['a URI', isUriReference],
  address: ['a hostname or an IP address', (value) => isHostname(value) || isIP(value) !== 0],
  uuid: ['a UUID', (value) => /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/.test(value)],
}

/** `validate.KnownRegex` HTTP_HEADER_NAME: RFC 9110 §5.6.2 token, or a pseudo-header. Not strict: no NUL, CR, LF. */
export function isHeaderName(value: string, strict: boolean): boolean {
  return strict ? /^:?[0-9a-zA-Z!#$%&'*+\-.^_|~`]+$/.test(value) : isOneLine(value)
}

/** `validate.KnownRegex` HTTP_HEADER_VALUE: no control characters but TAB. Not strict: no NUL, CR, LF. */
export function isHeaderValue(value: string, strict: boolean): boolean {
  return strict ? !/[\x00-\x08\x0a-\x1f\x7f]/.test(value) : isOneLine(value)
}

function isOneLine(value: string): boolean {
  return !/[\x00\x0a\x0d]/.test(value)
}

/** RFC 1034 §3.5 with digits allowed first (RFC 1123 §2.1), a trailing dot allowed. */
function isHostname(value: string): boolean {
  const name = value.endsWith('.') ? value.slice(0, -1) : value
  return (
    name.length <= 253 && name.split('.').every((label) => /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/.test(label))
  )
}

/** RFC 5321 §4.5.3.1 lengths; the local part is an RFC 5322 dot-atom. */
function isEmail(value: string): boolean {
  const at = value.lastIndexOf('@')
  if (at < 1 || at > 64 || value.length > 254) return false
  const local = value.slice(0, at)
  return (
    /^[0-9A-Za-z!#$%&'*+/=?^_`{|}~-]+(\.[0-9A-Za-z!#$%&'*+/=?^_`{|}~-]+)*$/.test(local) &&
    isHostname(value.slice(at + 1))
  )
}

/** RFC 3986 characters and well-formed escapes. */
function isUriReference(value: string): boolean {
  return /^([0-9A-Za-z\-._~:/?#[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*$/.test(value)
}
