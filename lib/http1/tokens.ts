/** Character classes of HTTP/1 as lookup tables by byte (RFC 9110 §5.6.2, RFC 9112, RFC 3986). */

function table(members: string): Uint8Array {
  const out = new Uint8Array(256)
  for (let i = 0; i < members.length; i++) out[members.charCodeAt(i)] = 1
  return out
}

const ALPHA_LOWER = 'abcdefghijklmnopqrstuvwxyz'
const ALPHA_UPPER = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
const DIGIT = '0123456789'

/** Token characters: 1 where allowed, 2 where allowed and upper-case (so that a scan learns whether to lower-case). */
export const TOKEN: Uint8Array = withUpper(table(`!#$%&'*+-.^_\`|~${DIGIT}${ALPHA_LOWER}${ALPHA_UPPER}`))

function withUpper(token: Uint8Array): Uint8Array {
  for (let c = 65; c <= 90; c++) token[c] = 2
  return token
}

/** Characters of a registered name, IPv4 address or port: unreserved, sub-delims and `%` (RFC 3986 §3.2.2). */
export const HOST: Uint8Array = table(`-._~!$&'()*+,;=%:${DIGIT}${ALPHA_LOWER}${ALPHA_UPPER}`)

/** Value of a hex digit, 255 where it is none. */
export const HEX: Uint8Array = hexTable()

function hexTable(): Uint8Array {
  const out = new Uint8Array(256).fill(255)
  for (let i = 0; i < 10; i++) out[48 + i] = i
  for (let i = 0; i < 6; i++) out[97 + i] = out[65 + i] = 10 + i
  return out
}

export const CR = 13
export const LF = 10

/** True where `value` is a token and nothing else. */
export function isToken(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i)
    if (c > 255 || TOKEN[c] === 0) return false
  }
  return value.length > 0
}

/**
 * True for a valid `host[:port]` as Host and authority carry it: registered name, IPv4, or bracketed IPv6; port 0-65535.
 * Userinfo, paths, spaces, 8-bit characters and the empty host are not valid.
 */
export function isAuthority(value: string): boolean {
  if (value.charCodeAt(0) === 91) return isBracketed(value)
  let colon = -1
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i)
    if (c > 255 || HOST[c] === 0) return false
    if (c === 58) {
      if (colon >= 0) return false
      colon = i
    } else if (c === 37 && !isPercentEncoded(value, i)) return false
  }
  if (colon < 0) return value.length > 0
  return colon > 0 && isPort(value, colon + 1)
}

function isPercentEncoded(value: string, at: number): boolean {
  return at + 2 < value.length && HEX[value.charCodeAt(at + 1)] < 16 && HEX[value.charCodeAt(at + 2)] < 16
}

function isBracketed(value: string): boolean {
  const close = value.indexOf(']')
  if (close < 3) return false
  for (let i = 1; i < close; i++) {
    const c = value.charCodeAt(i)
    // Hex digits, colon and dot only: no zone ids and no IPvFuture at the edge.
    if (c !== 58 && c !== 46 && (c > 255 || HEX[c] === 255)) return false
  }
  if (value.indexOf(':') > close) return false
  if (close === value.length - 1) return true
  return value.charCodeAt(close + 1) === 58 && isPort(value, close + 2)
}

function isPort(value: string, from: number): boolean {
  const digits = value.length - from
  // "host:" with an empty port is legal in RFC 3986 and a classic source of mismatches: refused.
  if (digits < 1 || digits > 5) return false
  let port = 0
  for (let i = from; i < value.length; i++) {
    const d = value.charCodeAt(i) - 48
    if (d < 0 || d > 9) return false
    port = port * 10 + d
  }
  return port <= 65535
}

/** Fields that concern one connection and have no place in HTTP/2 (RFC 9110 §7.6.1, RFC 9113 §8.2.2). `te` has rules of its own. */
export function isConnectionField(name: string): boolean {
  switch (name.length) {
    case 7:
      return name === 'upgrade'
    case 10:
      return name === 'connection' || name === 'keep-alive'
    case 16:
      return name === 'proxy-connection'
    case 17:
      return name === 'transfer-encoding'
    default:
      return false
  }
}
