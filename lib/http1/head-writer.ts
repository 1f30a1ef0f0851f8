import type { Headers } from '../core/headers.ts'
import { isConnectionField } from './tokens.ts'

/** How names are spelled on the wire (Envoy's `header_key_format`). */
export type HeaderCase = 'lower' | 'proper' | 'preserve'

/**
 * The field lines of `headers`, each with its CRLF. Fields that belong to the connection (Connection, Transfer-Encoding,
 * Keep-Alive, Proxy-Connection, Upgrade, and Host, which has its own line) are left out whoever set them: framing and
 * connection are the writer's business. So is `content-length` where `skipLength`.
 *
 * Values are safe by construction: the parser and `Headers` let nothing pass that could end a line.
 */
export function fieldLines(headers: Headers, spelling: HeaderCase, skipLength: boolean): string {
  return linesFrom(headers, 0, spelling, skipLength)
}

/** Of the fields from index `from` of `raw` on. */
function linesFrom(headers: Headers, from: number, spelling: HeaderCase, skipLength: boolean): string {
  const raw = headers.raw
  let out = ''
  // Names keep the spelling that one side was told to preserve, unless this side was told to change it.
  const cased = headers.cased
  for (let i = from; i < raw.length; i += 2) {
    let name = raw[i]
    if (isUnwritten(name) || (skipLength && name === 'content-length')) continue
    if (spelling === 'proper') name = properCase(name)
    else if (cased !== undefined) name = cased[i >> 1] ?? name
    out += name + ': ' + raw[i + 1] + '\r\n'
  }
  return out
}

/** Text up to this length is remembered: it is kept per connection. */
const REMEMBERED = 1024

/**
 * Field lines of one connection's messages, as `fieldLines`. Most of one message's fields are those of the message before
 * it, in the same order: what both begin with is kept as one text.
 */
export class LineMemo {
  /** Names and values that `#text` stands for. */
  #raw: readonly string[] = NONE
  #text = ''
  #skipLength = false
  /** Names and values that come behind one field that is new each time (an id), and their lines. */
  #tail: readonly string[] = NONE
  #tailText = ''

  lines(headers: Headers, spelling: HeaderCase, skipLength: boolean): string {
    if (spelling !== 'lower' || headers.cased !== undefined) return linesFrom(headers, 0, spelling, skipLength)
    const raw = headers.raw
    const known = this.#raw
    const length = known.length
    let i = 0
    if (skipLength === this.#skipLength && raw.length >= length) while (i < length && raw[i] === known[i]) i++
    if (i < length || length === 0) return this.#learn(headers, i & ~1, skipLength)
    if (raw.length === length) return this.#text
    const name = raw[length]
    if (raw.length === length + 2 || isUnwritten(name) || name === 'content-length') {
      return this.#text + linesFrom(headers, length, spelling, skipLength)
    }
    return this.#text + name + ': ' + raw[length + 1] + '\r\n' + this.#tailLines(headers, length + 2)
  }

  #tailLines(headers: Headers, from: number): string {
    const raw = headers.raw
    const known = this.#tail
    let i = 0
    if (raw.length - from === known.length) while (i < known.length && raw[from + i] === known[i]) i++
    if (i === known.length && i > 0) return this.#tailText
    const text = linesFrom(headers, from, 'lower', this.#skipLength)
    if (text.length <= REMEMBERED) {
      this.#tail = raw.slice(from)
      this.#tailText = flat(text)
    }
    return text
  }

  /** The last two messages have begun alike up to `common`; where that is not much, the whole of this one is tried. */
  #learn(headers: Headers, common: number, skipLength: boolean): string {
    const { raw } = headers
    const text = linesFrom(headers, 0, 'lower', skipLength)
    const upTo = common * 2 >= raw.length ? common : raw.length
    if (text.length > REMEMBERED) return text
    this.#raw = raw.slice(0, upTo)
    this.#skipLength = skipLength
    const rest = linesFrom(headers, upTo, 'lower', skipLength).length
    const kept = rest === 0 ? text : text.slice(0, text.length - rest)
    this.#text = flat(kept)
    // What has been learnt for another value of skipLength, or behind another text, is none of this one's.
    this.#tail = NONE
    return text
  }
}

/** Reading a character makes one piece of the many that a text was put together from. */
function flat(text: string): string {
  return text.charCodeAt(0) > 0 ? text : ''
}

const NONE: readonly string[] = Object.freeze([])

/** Host has its own place, and the fields of the connection are the writer's business. */
function isUnwritten(name: string): boolean {
  return isConnectionField(name) || name === 'host'
}

/** `content-type` → `Content-Type`: letters at the start and after every non-letter, as Envoy's proper_case_words. */
export function properCase(name: string): string {
  return name.replace(/(^|[^a-z])([a-z])/g, (_all, before: string, letter: string) => before + letter.toUpperCase())
}

const REASONS: ReadonlyMap<number, string> = new Map(
  Object.entries({
    100: 'Continue',
    101: 'Switching Protocols',
    102: 'Processing',
    103: 'Early Hints',
    200: 'OK',
    201: 'Created',
    202: 'Accepted',
    203: 'Non-Authoritative Information',
    204: 'No Content',
    205: 'Reset Content',
    206: 'Partial Content',
    300: 'Multiple Choices',
    301: 'Moved Permanently',
    302: 'Found',
    303: 'See Other',
    304: 'Not Modified',
    307: 'Temporary Redirect',
    308: 'Permanent Redirect',
    400: 'Bad Request',
    401: 'Unauthorized',
    403: 'Forbidden',
    404: 'Not Found',
    405: 'Method Not Allowed',
    406: 'Not Acceptable',
    408: 'Request Timeout',
    409: 'Conflict',
    410: 'Gone',
    411: 'Length Required',
    412: 'Precondition Failed',
    413: 'Payload Too Large',
    414: 'URI Too Long',
    415: 'Unsupported Media Type',
    416: 'Range Not Satisfiable',
    417: 'Expectation Failed',
    421: 'Misdirected Request',
    422: 'Unprocessable Entity',
    425: 'Too Early',
    426: 'Upgrade Required',
    428: 'Precondition Required',
    429: 'Too Many Requests',
    431: 'Request Header Fields Too Large',
    500: 'Internal Server Error',
    501: 'Not Implemented',
    502: 'Bad Gateway',
    503: 'Service Unavailable',
    504: 'Gateway Timeout',
    505: 'HTTP Version Not Supported',
    507: 'Insufficient Storage',
    511: 'Network Authentication Required',
  }).map(([status, reason]) => [Number(status), reason]),
)

/** `Not Found` for 404. */
export function reasonPhrase(status: number): string {
  return REASONS.get(status) ?? 'Unknown'
}

/** `HTTP/1.1 200 OK\r\n`. */
export function statusLine(status: number): string {
  return status === 200 ? 'HTTP/1.1 200 OK\r\n' : `HTTP/1.1 ${status} ${reasonPhrase(status)}\r\n`
}
