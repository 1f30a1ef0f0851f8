import type { RequestHead } from '../core/head.ts'
import { parseContentLength } from '../http1/framing.ts'
import { isAuthority, isConnectionField, isToken, TOKEN } from '../http1/tokens.ts'

/*
 * RFC 9113 §8: what makes a message malformed. Strict, so that nothing that passes here can become two messages, or
 * another one, when it is written as HTTP/1. Answers are details for logs, in the style of Envoy's.
 */

const FIELD_NAME = 'http2.invalid_header_name'
const FIELD_VALUE = 'http2.invalid_header_value'
const CONNECTION_FIELD = 'http2.connection_header'
const TE = 'http2.invalid_te'
const CONTENT_LENGTH = 'http2.invalid_content_length'
const HOST = 'http2.host_differs_from_authority'
const PSEUDO = 'http2.invalid_pseudo_header'
const METHOD = 'http2.invalid_method'
const SCHEME = 'http2.invalid_scheme'
const AUTHORITY = 'http2.invalid_authority'
const PATH = 'http2.invalid_path'
const CONNECT = 'http2.invalid_connect'
const STATUS = 'http2.invalid_status'
const TRAILER = 'http2.forbidden_trailer'

/** Of the field loop: who reads. */
const REQUEST = 0
const RESPONSE = 1
const TRAILERS = 2

/** Texts from this length on are remembered while their block is read. */
const LONG_TEXT = 128

/**
 * Reads the fields of a decoded header block, `[name, value, ...]`. The list is changed in place to hold the regular fields
 * only, in their order: pseudo-headers and Host leave it, cookie crumbs are joined (§8.2.3).
 *
 * One per session; its fields are the findings of the last call.
 */
export class HeaderReader {
  readonly #extendedConnect: boolean
  /** -1: none. */
  contentLength = -1
  #host: string | undefined = undefined
  /** Long names and values of this block that have been looked at: a byte of HPACK repeats an entry of 4 KiB. */
  readonly #names: string[] = []
  readonly #values: string[] = []
  /** Found to be valid: a connection's requests mostly name the same, as the same string of the dynamic table. */
  #lastAuthority: string | undefined = undefined

  /** @param extendedConnect we have announced SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441). */
  constructor(extendedConnect: boolean) {
    this.#extendedConnect = extendedConnect
  }

  /** The head of a request, or why it is malformed. */
  request(raw: string[]): RequestHead | string {
    let method: string | undefined
    let scheme: string | undefined
    let authority: string | undefined
    let path: string | undefined
    let protocol: string | undefined
    let at = 0
    for (; at < raw.length; at += 2) {
      const name = raw[at]
      if (name.charCodeAt(0) !== 58) break
      const value = raw[at + 1]
      // A second value of a name would be the one that somebody else looks at.
      if (name === ':method' && method === undefined) method = value
      else if (name === ':scheme' && scheme === undefined) scheme = value
      else if (name === ':authority' && authority === undefined) authority = value
      else if (name === ':path' && path === undefined) path = value
      else if (name === ':protocol' && protocol === undefined) protocol = value
      else return PSEUDO
    }
    const problem = this.#fields(raw, at, REQUEST)
    if (problem !== undefined) return problem
    if (method === undefined || !isToken(method)) return METHOD
    const given = this.#authority(authority)
    if (given === undefined) return authority === undefined || isAuthority(authority) ? HOST : AUTHORITY
    if (method === 'CONNECT') return this.#connect(raw, { method, scheme, authority: given, path, protocol })
    if (protocol !== undefined) return PSEUDO
    const known = schemeOf(scheme)
    if (known === undefined) return SCHEME
    if (path === undefined || !isPath(path, method)) return PATH
    return { method, scheme: known, authority: given, path, protocol: undefined }
  }

  /** The status of a response, or why it is malformed. */
  response(raw: string[]): number | string {
    if (raw.length === 0 || raw[0] !== ':status') return STATUS
    const value = raw[1]
    if (value.length !== 3) return STATUS
    let status = 0
    for (let i = 0; i < 3; i++) {
      const digit = value.charCodeAt(i) - 48
      if (digit < 0 || digit > 9) return STATUS
      status = status * 10 + digit
    }
    // 101 has no meaning in HTTP/2 (§8.6).
    if (status < 100 || status === 101) return STATUS
    return this.#fields(raw, 2, RESPONSE) ?? status
  }

  trailers(raw: string[]): string | undefined {
    return this.#fields(raw, 0, TRAILERS)
  }

  /** Both absent: ''. Undefined where they are not valid or not the same (§8.3.1). */
  #authority(authority: string | undefined): string | undefined {
    const host = this.#host
    if (authority === undefined) return host === undefined ? '' : isAuthority(host) ? host : undefined
    if (authority !== this.#lastAuthority) {
      if (!isAuthority(authority)) return undefined
      this.#lastAuthority = authority
    }
    if (host === undefined || host === authority) return authority
    return host.toLowerCase() === authority.toLowerCase() ? authority : undefined
  }

  /** §8.5 and RFC 8441 §4. */
  #connect(raw: string[], head: Partial<RequestHead>): RequestHead | string {
    const { method = '', authority = '', path, protocol } = head
    if (authority === '') return CONNECT
    // A tunnel has no content: what follows is its bytes, whatever a length says.
    if (this.contentLength > 0) return CONTENT_LENGTH
    if (this.contentLength === 0) dropContentLength(raw)
    this.contentLength = -1
    if (protocol === undefined) {
      if (head.scheme !== undefined || path !== undefined || !hasPort(authority)) return CONNECT
      return { method, scheme: '', authority, path: '', protocol: undefined }
    }
    const scheme = schemeOf(head.scheme)
    if (!this.#extendedConnect || !isToken(protocol) || scheme === undefined) return CONNECT
    if (path === undefined || !isPath(path, method)) return PATH
    return { method, scheme, authority, path, protocol }
  }

  #fields(raw: string[], at: number, kind: number): string | undefined {
    const problem = this.#checkFields(raw, at, kind)
    if (this.#names.length > 0) this.#names.length = 0
    if (this.#values.length > 0) this.#values.length = 0
    return problem
  }

  /** Regular fields from `at` on are checked and moved to the front. */
  #checkFields(raw: string[], at: number, kind: number): string | undefined {
    this.contentLength = -1
    this.#host = undefined
    let cookie = -1
    let kept = 0
    for (; at < raw.length; at += 2) {
      const name = raw[at]
      let value = raw[at + 1]
      if (name.length < LONG_TEXT ? !isName(name) : !passes(name, isName, this.#names))
        return name.charCodeAt(0) === 58 ? PSEUDO : FIELD_NAME
      if (value.length < LONG_TEXT ? !isValue(value) : !passes(value, isValue, this.#values)) return FIELD_VALUE
      switch (name.length) {
        case 2:
          // In any spelling, but passed on in the one that everybody knows.
          if (name !== 'te') break
          if (kind !== REQUEST || value.toLowerCase() !== 'trailers') return TE
          value = 'trailers'
          break
        case 4:
          if (name !== 'host') break
          if (kind === TRAILERS) return TRAILER
          if (kind === RESPONSE) break
          if (this.#host !== undefined) return HOST
          this.#host = value
          continue
        case 6:
          if (name !== 'cookie' || kind !== REQUEST) break
          if (cookie >= 0) {
            raw[cookie] += `; ${value}`
            continue
          }
          cookie = kept + 1
          break
        case 14:
          if (name !== 'content-length') break
          if (kind === TRAILERS) return TRAILER
          if (this.contentLength >= 0) return CONTENT_LENGTH
          this.contentLength = parseContentLength(value)
          if (this.contentLength < 0) return CONTENT_LENGTH
          break
        case 7:
        case 10:
        case 16:
        case 17:
          if (isConnectionField(name)) return CONNECTION_FIELD
          break
      }
      raw[kept] = name
      raw[kept + 1] = value
      kept += 2
    }
    raw.length = kept
    return undefined
  }
}

/** `known` are those of the block that have passed. */
function passes(text: string, rule: (text: string) => boolean, known: string[]): boolean {
  if (known.includes(text)) return true
  if (!rule(text)) return false
  known.push(text)
  return true
}

/** A lower-case token: colons, spaces, controls, upper case and 8-bit characters are not (§8.2.1). */
function isName(name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    const c = name.charCodeAt(i)
    if (c > 255 || TOKEN[c] !== 1) return false
  }
  return name.length > 0
}

/** No control characters but HTAB, no white space at its ends. 8-bit characters are legal (obs-text). */
function isValue(value: string): boolean {
  const length = value.length
  if (length === 0) return true
  for (let i = 0; i < length; i++) {
    const c = value.charCodeAt(i)
    if (c < 32 ? c !== 9 : c === 127) return false
  }
  return !isBlank(value.charCodeAt(0)) && !isBlank(value.charCodeAt(length - 1))
}

function isBlank(c: number): boolean {
  return c === 32 || c === 9
}

/** Lower-case, or undefined where it is missing or no scheme (RFC 3986 §3.1). */
function schemeOf(value: string | undefined): string | undefined {
  if (value === 'https' || value === 'http') return value
  return value !== undefined && /^[a-z][a-z0-9+.-]*$/i.test(value) ? value.toLowerCase() : undefined
}

/** Origin-form in visible ASCII without fragment, or `*` for OPTIONS (§8.3.1). */
function isPath(path: string, method: string): boolean {
  if (path.charCodeAt(0) !== 47) return path === '*' && method === 'OPTIONS'
  for (let i = 1; i < path.length; i++) {
    const c = path.charCodeAt(i)
    if (c < 33 || c > 126 || c === 35) return false
  }
  return true
}

function hasPort(authority: string): boolean {
  const colon = authority.lastIndexOf(':')
  return colon > authority.lastIndexOf(']')
}

function dropContentLength(raw: string[]): void {
  const at = raw.indexOf('content-length')
  raw.splice(at, 2)
}
