import { checkTransferEncoding, parseContentLength } from './framing.ts'
import { isToken, TOKEN } from './tokens.ts'

/** Why a head was refused: the status a client gets, and the words for response-code details. */
export interface HeadError {
  readonly status: number
  readonly reason: string
}

export interface HeadLimits {
  /** Request line or status line, without its CRLF. Over it: 414. */
  readonly lineBytes: number
  /** The whole head. Over it: 431. */
  readonly headerBytes: number
  /** Number of fields. Over it: 431. */
  readonly headers: number
}

/** Bits of `Head.flags`: what the fields that concern the connection itself said. */
export const CLOSE: number = 1
export const KEEP_ALIVE: number = 2
export const UPGRADE: number = 4
export const EXPECT_CONTINUE: number = 8
export const EXPECT_OTHER: number = 16
export const TE_TRAILERS: number = 32
/** Some field name holds an underscore. */
export const UNDERSCORE: number = 64

/**
 * One parsed head. `raw` holds the end-to-end fields only, names lower-case: fields that belong to the connection
 * (Connection and what it lists, Keep-Alive, Proxy-Connection, Transfer-Encoding, Upgrade, HTTP2-Settings, and Host,
 * which moves to `host`) have been consumed. A new object per message: `raw` is handed on, not copied.
 */
export class Head {
  /** Request: method. Response: ''. */
  method = ''
  /** Request target as sent. */
  target = ''
  status = 0
  /** 0 or 1: HTTP/1.0 or HTTP/1.1. */
  minor = 1
  raw: string[] = []
  cased: string[] | undefined = undefined
  host: string | undefined = undefined
  /** -1: no Content-Length. */
  contentLength = -1
  chunked = false
  flags = 0
  /** Lower-case value of Upgrade where Connection lists it too. */
  upgrade = ''
  bytes = 0

  /** The same head once more, for a message of its own. */
  again(): Head {
    const head = new Head()
    head.method = this.method
    head.target = this.target
    head.status = this.status
    head.minor = this.minor
    head.raw = this.raw.slice()
    head.cased = this.cased?.slice()
    head.host = this.host
    head.contentLength = this.contentLength
    head.chunked = this.chunked
    head.flags = this.flags
    head.upgrade = this.upgrade
    head.bytes = this.bytes
    return head
  }
}

/** Heads up to this length are remembered: it is kept per connection. */
const REMEMBERED = 1024

function error(status: number, reason: string): HeadError {
  return Object.freeze({ status, reason })
}

/** The closed list of reasons; details strings follow Envoy's `http1.*` style. */
export const HEAD_ERRORS = {
  requestLine: error(400, 'http1.invalid_request_line'),
  method: error(400, 'http1.invalid_method'),
  target: error(400, 'http1.invalid_url'),
  version: error(505, 'http1.unsupported_version'),
  statusLine: error(502, 'http1.invalid_status_line'),
  fieldName: error(400, 'http1.invalid_header_name'),
  fieldValue: error(400, 'http1.invalid_header_value'),
  lineFolding: error(400, 'http1.obsolete_line_folding'),
  lineEnd: error(400, 'http1.bare_cr_or_lf'),
  host: error(400, 'http1.duplicate_host'),
  contentLength: error(400, 'http1.invalid_content_length'),
  transferEncoding: error(400, 'http1.invalid_transfer_encoding'),
  unknownCoding: error(501, 'http1.unsupported_transfer_encoding'),
  bothLengths: error(400, 'http1.content_length_and_chunked_not_allowed'),
  chunkedHttp10: error(400, 'http1.transfer_encoding_not_allowed_http10'),
  connection: error(400, 'http1.invalid_connection_header'),
  uriTooLong: error(414, 'http1.request_line_too_long'),
  headersTooLarge: error(431, 'http1.headers_too_large'),
  tooManyHeaders: error(431, 'http1.too_many_headers'),
} as const

/** Field names that a Connection header must not list: stripping them would change framing, routing or trust. */
function isProtected(token: string): boolean {
  switch (token) {
    case 'host':
    case 'content-length':
    case 'transfer-encoding':
    case 'authorization':
    case 'cookie':
    case 'cache-control':
    case 'content-type':
    case 'trailer':
    case 'forwarded':
    case 'via':
      return true
    default:
      return token.startsWith('x-forwarded-') || token.startsWith('x-envoy-') || token === 'x-request-id'
  }
}

/**
 * Parses request heads and response heads, strictly (RFC 9112 and edge-safety rules): whatever is ambiguous is refused,
 * never repaired. Pure: text in (latin1, up to and including the empty line), `Head` or `HeadError` out.
 *
 * One parser per connection direction. Peers that ask for the same thing again send the same bytes again, so the last
 * head is remembered where it is short: comparing costs a twentieth of parsing, and what it consists of is shared.
 */
export class HeadParser {
  readonly #limits: HeadLimits
  readonly #keepCase: boolean
  readonly #response: boolean
  #connection: string | undefined = undefined
  #transferEncoding: string | undefined = undefined
  #upgrade: string | undefined = undefined

  constructor(limits: HeadLimits, options: { keepCase: boolean; response: boolean }) {
    this.#limits = limits
    this.#keepCase = options.keepCase
    this.#response = options.response
  }

  #lastText = ''
  #last: Head | undefined = undefined

  /** `text` is one whole head including its final CRLF CRLF. */
  parse(text: string): Head | HeadError {
    if (this.#last !== undefined && text === this.#lastText) return this.#last.again()
    const head = this.#parse(text)
    if (text.length > REMEMBERED || !(head instanceof Head)) return head
    this.#lastText = text
    this.#last = head
    return head.again()
  }

  #parse(text: string): Head | HeadError {
    const head = new Head()
    head.bytes = text.length
    const at = this.#response ? this.#statusLine(text, head) : this.#requestLine(text, head)
    if (typeof at !== 'number') return at
    this.#connection = this.#transferEncoding = this.#upgrade = undefined
    const problem = this.#fields(text, at, head)
    if (problem !== undefined) return problem
    return this.#finish(head) ?? head
  }

  #requestLine(text: string, head: Head): number | HeadError {
    const end = text.indexOf('\r\n')
    if (end > this.#limits.lineBytes) return HEAD_ERRORS.uriTooLong
    const first = text.indexOf(' ')
    if (first <= 0 || first >= end) return HEAD_ERRORS.requestLine
    const method = text.slice(0, first)
    if (!isToken(method)) return HEAD_ERRORS.method
    let i = first + 1
    for (; i < end; i++) {
      const c = text.charCodeAt(i)
      if (c === 32) break
      // Visible ASCII only; '#' never belongs to a request target (RFC 9112 §3.2).
      if (c < 33 || c > 126 || c === 35) return HEAD_ERRORS.target
    }
    if (i === first + 1 || i >= end) return HEAD_ERRORS.requestLine
    head.method = method
    head.target = text.slice(first + 1, i)
    return this.#version(text, i + 1, end, head) ?? end + 2
  }

  #version(text: string, from: number, end: number, head: Head): HeadError | undefined {
    if (end - from !== 8 || !text.startsWith('HTTP/', from) || text.charCodeAt(from + 6) !== 46) {
      return HEAD_ERRORS.requestLine
    }
    const major = text.charCodeAt(from + 5) - 48
    const minor = text.charCodeAt(from + 7) - 48
    if (major < 0 || major > 9 || minor < 0 || minor > 9) return HEAD_ERRORS.requestLine
    if (major !== 1 || minor > 1) return HEAD_ERRORS.version
    head.minor = minor
    return undefined
  }

  #statusLine(text: string, head: Head): number | HeadError {
    const end = text.indexOf('\r\n')
    if (end < 12 || end > this.#limits.lineBytes || text.charCodeAt(8) !== 32) return HEAD_ERRORS.statusLine
    if (this.#version(text, 0, 8, head) !== undefined) return HEAD_ERRORS.statusLine
    let status = 0
    for (let i = 9; i < 12; i++) {
      const d = text.charCodeAt(i) - 48
      if (d < 0 || d > 9) return HEAD_ERRORS.statusLine
      status = status * 10 + d
    }
    if (status < 100 || (end > 12 && text.charCodeAt(12) !== 32)) return HEAD_ERRORS.statusLine
    for (let i = 13; i < end; i++) {
      const c = text.charCodeAt(i)
      if ((c < 32 && c !== 9) || c === 127) return HEAD_ERRORS.statusLine
    }
    head.status = status
    return end + 2
  }

  /** Field lines from `at` to the empty line. */
  #fields(text: string, at: number, head: Head): HeadError | undefined {
    const raw = head.raw
    const last = text.length - 2
    let count = 0
    while (at < last) {
      if (++count > this.#limits.headers) return HEAD_ERRORS.tooManyHeaders
      let i = at
      let upper = false
      let nameEnd = -1
      let c = text.charCodeAt(i)
      for (; c !== 58; c = text.charCodeAt(++i)) {
        const kind = c < 256 ? TOKEN[c] : 0
        if (kind === 0) {
          const colon = this.#response ? spacesThenColon(text, i) : -1
          if (colon < 0 || i === at) return this.#badName(text, at, i)
          nameEnd = i
          i = colon
          break
        }
        if (kind === 2) upper = true
        else if (c === 95) head.flags |= UNDERSCORE
      }
      if (i === at) return HEAD_ERRORS.fieldName
      const cased = text.slice(at, nameEnd < 0 ? i : nameEnd)
      const name = upper ? cased.toLowerCase() : cased
      for (c = text.charCodeAt(++i); c === 32 || c === 9; c = text.charCodeAt(++i));
      const from = i
      // One pass finds the end of the value and its illegal characters (everything below SP but HTAB, and DEL).
      while (c > 31 ? c !== 127 : c === 9) c = text.charCodeAt(++i)
      if (c !== 13 || text.charCodeAt(i + 1) !== 10)
        return c === 13 || c === 10 ? HEAD_ERRORS.lineEnd : HEAD_ERRORS.fieldValue
      at = i + 2
      let to = i
      for (; to > from && ((c = text.charCodeAt(to - 1)) === 32 || c === 9); to--);
      const value = text.slice(from, to)
      const problem = this.#field(name, value, head)
      if (problem === undefined) continue
      if (problem !== KEEP) return problem as HeadError
      raw.push(name, value)
      if (this.#keepCase) (head.cased ??= []).push(cased)
    }
    return undefined
  }

  #badName(text: string, at: number, i: number): HeadError {
    const c = text.charCodeAt(i)
    if (i === at && (c === 32 || c === 9)) return HEAD_ERRORS.lineFolding
    return c === 13 || c === 10 ? HEAD_ERRORS.lineEnd : HEAD_ERRORS.fieldName
  }

  /** Notes the fields that concern us; `KEEP` for those that go on, undefined for those consumed. */
  #field(name: string, value: string, head: Head): HeadError | typeof KEEP | undefined {
    switch (name.length) {
      case 2:
        if (name !== 'te') return KEEP
        return this.#te(value, head)
      case 4:
        if (name !== 'host' || this.#response) return KEEP
        if (head.host !== undefined) return HEAD_ERRORS.host
        head.host = value
        return undefined
      case 6:
        if (name !== 'expect' || this.#response) return KEEP
        head.flags |= value.toLowerCase() === '100-continue' ? EXPECT_CONTINUE : EXPECT_OTHER
        return KEEP
      case 7:
        if (name !== 'upgrade') return KEEP
        this.#upgrade = this.#upgrade === undefined ? value : `${this.#upgrade}, ${value}`
        return undefined
      case 10:
        if (name === 'keep-alive') return undefined
        if (name !== 'connection') return KEEP
        this.#connection = this.#connection === undefined ? value : `${this.#connection},${value}`
        return undefined
      case 14:
        if (name === 'http2-settings') return undefined
        if (name !== 'content-length') return KEEP
        return this.#contentLength(value, head)
      case 16:
        return name === 'proxy-connection' ? undefined : KEEP
      case 17:
        if (name !== 'transfer-encoding') return KEEP
        if (this.#transferEncoding !== undefined) return HEAD_ERRORS.transferEncoding
        this.#transferEncoding = value
        return undefined
      default:
        return KEEP
    }
  }

  #contentLength(value: string, head: Head): HeadError | typeof KEEP {
    if (head.contentLength >= 0) return HEAD_ERRORS.contentLength
    const length = parseContentLength(value)
    if (length < 0) return HEAD_ERRORS.contentLength
    head.contentLength = length
    return KEEP
  }

  /** TE is hop-by-hop; of its values only `trailers` means something to the next hop. */
  #te(value: string, head: Head): typeof KEEP | undefined {
    const lower = value.toLowerCase()
    if (lower === 'trailers') {
      head.flags |= TE_TRAILERS
      return value === 'trailers' ? KEEP : undefined
    }
    if (/(?:^|,)[ \t]*trailers[ \t]*(?:,|;|$)/.test(lower)) head.flags |= TE_TRAILERS
    return undefined
  }

  #finish(head: Head): HeadError | undefined {
    const te = this.#transferEncoding
    if (te !== undefined) {
      const status = checkTransferEncoding(te)
      // A response that carries both is read as chunked and its Content-Length is dropped (RFC 9112 §6.3).
      if (this.#response) {
        if (status !== 0) return HEAD_ERRORS.transferEncoding
        if (head.contentLength >= 0) dropField(head, 'content-length')
      } else {
        if (head.minor === 0) return HEAD_ERRORS.chunkedHttp10
        if (head.contentLength >= 0) return HEAD_ERRORS.bothLengths
        if (status !== 0) return status === 501 ? HEAD_ERRORS.unknownCoding : HEAD_ERRORS.transferEncoding
      }
      head.chunked = true
    }
    if (this.#connection !== undefined) {
      const problem = this.#connectionTokens(this.#connection, head)
      if (problem !== undefined) return problem
    }
    if (this.#upgrade !== undefined && (head.flags & UPGRADE) !== 0) head.upgrade = this.#upgrade.toLowerCase()
    return undefined
  }

  #connectionTokens(value: string, head: Head): HeadError | undefined {
    if (value === 'keep-alive') {
      head.flags |= KEEP_ALIVE
      return undefined
    }
    if (value === 'close') {
      head.flags |= CLOSE
      return undefined
    }
    for (const part of value.toLowerCase().split(',')) {
      const token = part.replace(/^[ \t]+|[ \t]+$/g, '')
      if (token === 'close') head.flags |= CLOSE
      else if (token === 'keep-alive') head.flags |= KEEP_ALIVE
      else if (token === 'upgrade') head.flags |= UPGRADE
      else if (token !== '' && token !== 'te' && token !== 'http2-settings') {
        if (!isToken(token) || (!this.#response && isProtected(token))) return HEAD_ERRORS.connection
        // A response that lists a protected name keeps it: its framing is settled above, the rest is harmless.
        if (!isProtected(token)) dropField(head, token)
      }
    }
    return undefined
  }
}

const KEEP: unique symbol = Symbol('keep')

/** Responses may have white space between name and colon: a proxy strips it (RFC 9112 §5.1). -1 where it is not that. */
function spacesThenColon(text: string, at: number): number {
  let i = at
  for (let c = text.charCodeAt(i); c === 32 || c === 9; c = text.charCodeAt(++i));
  return i > at && text.charCodeAt(i) === 58 ? i : -1
}

/** Removes the fields that a Connection header lists. */
function dropField(head: Head, name: string): void {
  for (let i = head.raw.length - 2; i >= 0; i -= 2) {
    if (head.raw[i] !== name) continue
    head.raw.splice(i, 2)
    head.cased?.splice(i >> 1, 1)
  }
}
