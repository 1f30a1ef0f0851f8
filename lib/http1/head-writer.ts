import type { Headers } from '../core/headers.ts'

/** How names are spelled on the wire (Envoy's `header_key_format`). */
export type HeaderCase = 'lower' | 'proper' | 'preserve'

/**
 * The field lines of `headers`, each with its CRLF. `content-length` is left out where `framed` says that the writer
 * decides the framing itself. Values are latin1 strings that the parser or a filter has checked.
 */
export function fieldLines(headers: Headers, spelling: HeaderCase, skipLength: boolean): string {
  const raw = headers.raw
  let out = ''
  if (spelling === 'lower') {
    for (let i = 0; i < raw.length; i += 2) {
      const name = raw[i]
      if (skipLength && name === 'content-length') continue
      out += name + ': ' + raw[i + 1] + '\r\n'
    }
    return out
  }
  const cased = spelling === 'preserve' ? headers.cased : undefined
  for (let i = 0; i < raw.length; i += 2) {
    if (skipLength && raw[i] === 'content-length') continue
    const name = spelling === 'proper' ? properCase(raw[i]) : (cased?.[i >> 1] ?? raw[i])
    out += name + ': ' + raw[i + 1] + '\r\n'
  }
  return out
}

/** `content-type` → `Content-Type`: letters at the start and after every non-letter, as Envoy's proper_case_words. */
export function properCase(name: string): string {
  return name.replace(/(^|[^a-z])([a-z])/g, (_all, before: string, letter: string) => before + letter.toUpperCase())
}

/** True where a name or value could break out of its line: CR, LF or NUL. Filters' writes are checked with it. */
export function isUnsafe(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === 13 || c === 10 || c === 0) return true
  }
  return false
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
