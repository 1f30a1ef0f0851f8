/** What the first bytes of a connection are. */
export type HttpVersion = 'http/1.0' | 'http/1.1' | 'h2c' | 'other'

/** How far a first line has come that is not complete. */
export type Progress = 'method' | 'rest'

/** RFC 9113 section 3.4 */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

const LF = 0x0a
const CR = 0x0d
const SPACE = 0x20
const UPPER_A = 0x41
const UPPER_Z = 0x5a
/** Registered methods have at most 17. */
const MAX_METHOD_BYTES = 32
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]$/
const LINE = /^[^ ]+ [^\r ]+ +HTTP\/(1\.[0-9])\r?$/

/**
 * Tells HTTP by its first line, of which the bytes before `from` have been seen. HTTP/1 is a method, which is a token of
 * at most 32 bytes that begins with an upper-case letter, as all registered ones: others who send no line at first need
 * not wait for the end of the inspection. Then a target without spaces and control characters, and a version 1.x; all but 1.1 count as 1.0, as in Envoy.
 */
export function inspectLine(bytes: Buffer, from: number, progress: Progress): HttpVersion | Progress {
  const known = Math.min(bytes.length, PREFACE.length)
  if (bytes.compare(PREFACE, 0, known, 0, known) === 0) return known === PREFACE.length ? 'h2c' : 'method'
  // While the preface was possible nothing else has been looked at; its length bounds what is looked at twice.
  const early = from < PREFACE.length
  let inMethod = early || progress === 'method'
  for (let at = early ? 0 : from; at < bytes.length; at++) {
    const byte = bytes[at]
    if (inMethod) {
      if (byte === SPACE && at > 0) inMethod = false
      else if (at === 0 ? byte < UPPER_A || byte > UPPER_Z : at >= MAX_METHOD_BYTES) return 'other'
      else if (!TOKEN.test(String.fromCharCode(byte))) return 'other'
    } else if (byte === LF) return versionOfLine(bytes.latin1Slice(0, at))
    else if (byte !== CR && (byte < SPACE || byte === 0x7f)) return 'other'
  }
  return inMethod ? 'method' : 'rest'
}

function versionOfLine(line: string): HttpVersion {
  const [, version] = LINE.exec(line) ?? []
  if (version === undefined) return 'other'
  return version === '1.1' ? 'http/1.1' : 'http/1.0'
}
