import { type ByteStream, excerpt, WireError } from './byte-stream.ts'

/** Name and value as they stood on the wire, surrounding blanks of the value removed. */
export type Field = readonly [name: string, value: string]

export type Framing = 'none' | 'length' | 'chunked' | 'close'

/** A message body as it came: `clean` only if its framing says that it was whole. */
export interface Body {
  readonly framing: Framing
  readonly bytes: Buffer
  readonly trailers: readonly Field[]
  readonly clean: boolean
}

export interface Head {
  readonly startLine: string
  readonly fields: readonly Field[]
  /** Every byte of the head with its empty line. */
  readonly raw: Buffer
}

/**
 * A reader of HTTP/1 messages that shares no line with the sources under test: simple, slow and strict. What breaks
 * RFC 9112 (bare CR or LF, folds, doubtful framing, bad chunk sizes) throws; it never repairs.
 */

/** The next head; undefined where the connection ended before its first byte. */
export async function readHead(stream: ByteStream, what: string): Promise<Head | undefined> {
  const raw = await stream.takeUntil((bytes) => {
    const end = bytes.indexOf('\r\n\r\n')
    return end < 0 ? -1 : end + 4
  }, what)
  if (raw === undefined) {
    if (stream.buffered === 0) return undefined
    throw new WireError('ended', `connection ended (${stream.ending}) inside of a head: ${excerpt(stream.peek())}`)
  }
  const lines = raw.toString('latin1', 0, raw.length - 4).split('\r\n')
  for (const line of lines) if (/[\r\n\0]/.test(line)) broken(`bare CR, LF or NUL in ${JSON.stringify(line)}`)
  return { startLine: lines[0], fields: lines.slice(1).map(parseField), raw }
}

function parseField(line: string): Field {
  const match = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*$/.exec(line)
  if (match === null) return broken(`field line ${JSON.stringify(line)}`)
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(match[2])) broken(`control character in ${JSON.stringify(line)}`)
  return [match[1], match[2]]
}

/** All values of a field, whatever its case. */
export function fieldValues(fields: readonly Field[], name: string): string[] {
  const lower = name.toLowerCase()
  return fields.filter((f) => f[0].toLowerCase() === lower).map((f) => f[1])
}

/** The only value of a field; undefined where it is missing, several joined by `, `. */
export function fieldValue(fields: readonly Field[], name: string): string | undefined {
  const values = fieldValues(fields, name)
  return values.length === 0 ? undefined : values.join(', ')
}

/** How the head says that the body is framed; `otherwise` where it says nothing. Throws on any doubt. */
export function framingOf(fields: readonly Field[], otherwise: Framing): { framing: Framing; length: number } {
  const lengths = fieldValues(fields, 'content-length')
  const codings = fieldValues(fields, 'transfer-encoding')
  if (codings.length > 0) {
    if (lengths.length > 0) broken('both Content-Length and Transfer-Encoding')
    if (codings.length > 1 || codings[0].toLowerCase() !== 'chunked') broken(`Transfer-Encoding ${codings.join(' | ')}`)
    return { framing: 'chunked', length: 0 }
  }
  if (lengths.length === 0) return { framing: otherwise, length: 0 }
  if (lengths.length > 1 || !/^(0|[1-9][0-9]{0,15})$/.test(lengths[0])) broken(`Content-Length ${lengths.join(' | ')}`)
  return { framing: 'length', length: Number(lengths[0]) }
}

/** Where body bytes go: kept by default; a consumer of its own for bodies too large to keep. */
export type BodyConsumer = (chunk: Buffer) => void

/** Reads a body to its end by `framing`; an early end of the connection makes it unclean, it does not throw. */
export async function readBody(
  stream: ByteStream,
  frame: { framing: Framing; length: number },
  consume?: BodyConsumer,
): Promise<Body> {
  const kept: Buffer[] = []
  const keep = consume ?? ((chunk: Buffer) => void kept.push(Buffer.from(chunk)))
  let clean = true
  let trailers: readonly Field[] = []
  if (frame.framing === 'length') clean = await readExactly(stream, frame.length, keep)
  else if (frame.framing === 'close') clean = await readToClose(stream, keep)
  else if (frame.framing === 'chunked') {
    const last = await readChunks(stream, keep)
    clean = last !== undefined
    trailers = last ?? []
  }
  return { framing: frame.framing, bytes: Buffer.concat(kept), trailers, clean }
}

async function readExactly(stream: ByteStream, size: number, keep: BodyConsumer): Promise<boolean> {
  for (let left = size; left > 0; ) {
    const chunk = await stream.takeSome(left, `body (${left} of ${size} bytes left)`)
    if (chunk === undefined) return false
    left -= chunk.length
    keep(chunk)
  }
  return true
}

async function readToClose(stream: ByteStream, keep: BodyConsumer): Promise<boolean> {
  for (;;) {
    const chunk = await stream.takeSome(1 << 20, 'body up to the close')
    if (chunk === undefined) return stream.ending === 'fin'
    keep(chunk)
  }
}

/** The trailers, or undefined where the connection ended before the last chunk was whole. */
async function readChunks(stream: ByteStream, keep: BodyConsumer): Promise<readonly Field[] | undefined> {
  for (;;) {
    const line = await readLine(stream, 'chunk size')
    if (line === undefined) return undefined
    if (!/^[0-9A-Fa-f]{1,13}(;[^\r\n]*)?$/.test(line)) broken(`chunk size ${JSON.stringify(line)}`)
    const size = Number.parseInt(line, 16)
    if (size === 0) return readTrailers(stream)
    if (!(await readExactly(stream, size, keep))) return undefined
    if (!(await stream.need(2, 'CRLF after a chunk'))) return undefined
    const after = stream.take(2)
    if (after.toString('latin1') !== '\r\n') broken(`chunk data followed by ${excerpt(after)}`)
  }
}

async function readTrailers(stream: ByteStream): Promise<readonly Field[] | undefined> {
  const fields: Field[] = []
  for (;;) {
    const line = await readLine(stream, 'trailer')
    if (line === undefined) return undefined
    if (line === '') return fields
    fields.push(parseField(line))
  }
}

async function readLine(stream: ByteStream, what: string): Promise<string | undefined> {
  const line = await stream.takeUntil((bytes) => {
    const at = bytes.indexOf(10)
    return at < 0 ? -1 : at + 1
  }, what)
  if (line === undefined) return undefined
  const text = line.toString('latin1')
  if (!/^[^\r\n]*\r\n$/.test(text)) broken(`line end in ${JSON.stringify(text)}`)
  return text.slice(0, -2)
}

function broken(what: string): never {
  throw new WireError('protocol', `the peer broke HTTP/1.1: ${what}`)
}
