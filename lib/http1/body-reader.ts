import { Headers } from '../core/headers.ts'
import { CHUNKED, type Framing, LENGTH, NO_BODY, UNTIL_CLOSE } from './framing.ts'
import { CR, HEX, LF, TOKEN } from './tokens.ts'

/** Receives a body. Chunks are sub-slices of what was fed: lent on, never copied. */
export interface BodyHandler {
  /** `end` true on the last chunk where the framing knows it (Content-Length). */
  onBody(chunk: Buffer, end: boolean): void
  /** The body is complete and the last chunk did not say so; `trailers` where the message had any. */
  onBodyEnd(trailers: Headers | undefined): void
}

export interface BodyLimits {
  readonly extensionBytes: number
  readonly totalExtensionBytes: number
  readonly trailerBytes: number
  readonly trailers: number
}

export const BODY_LIMITS: BodyLimits = Object.freeze({
  extensionBytes: 256,
  totalExtensionBytes: 16384,
  trailerBytes: 8192,
  trailers: 100,
})

const SIZE = 0
const EXTENSION = 1
const SIZE_LF = 2
const DATA = 3
const DATA_CR = 4
const DATA_LF = 5
const TRAILER = 6
/** 13 hex digits reach 2^52 - 1: below what a number holds exactly. */
const MAX_SIZE_DIGITS = 13

/**
 * Takes a message body apart (RFC 9112 §6-7): none, by length, chunked, until close. One per connection direction,
 * restarted for each message. Chunk extensions are bounded and dropped; trailers are validated by the rules of fields.
 *
 * ```
 * SIZE ─▶ EXTENSION? ─▶ SIZE_LF ─▶ DATA ─▶ DATA_CR ─▶ DATA_LF ─▶ SIZE
 *                          └ size 0 ─▶ TRAILER* ─▶ done
 * ```
 */
export class BodyReader {
  readonly #limits: BodyLimits
  #framing: Framing = NO_BODY
  #state = SIZE
  #remaining = 0
  #digits = 0
  #extension = 0
  #extensionTotal = 0
  #trailerText = ''
  /** True once the body is complete. */
  done = true
  /** Why the body was refused; undefined while it is good. */
  problem: string | undefined = undefined

  constructor(limits: BodyLimits = BODY_LIMITS) {
    this.#limits = limits
  }

  /** True where the message announced its length. */
  get byLength(): boolean {
    return this.#framing === LENGTH
  }

  /** Prepares for the next message. A length of 0 is done at once; no callback says so. */
  start(framing: Framing, length: number): void {
    this.#framing = framing
    this.#state = SIZE
    this.#remaining = framing === LENGTH ? length : 0
    this.#digits = 0
    this.#extensionTotal = 0
    this.#trailerText = ''
    this.problem = undefined
    this.done = framing === NO_BODY || (framing === LENGTH && length === 0)
  }

  /** Consumes from `offset`; answers where it stopped: behind the body, at the end of `chunk`, or -1 (`problem`). */
  feed(chunk: Buffer, offset: number, handler: BodyHandler): number {
    if (this.done) return offset
    if (this.#framing === CHUNKED) return this.#feedChunked(chunk, offset, handler)
    if (this.#framing === UNTIL_CLOSE) {
      handler.onBody(offset === 0 ? chunk : chunk.subarray(offset), false)
      return chunk.length
    }
    const available = chunk.length - offset
    const take = Math.min(available, this.#remaining)
    if (take === 0) return offset
    this.#remaining -= take
    const end = this.#remaining === 0
    this.done = end
    handler.onBody(offset === 0 && take === chunk.length ? chunk : chunk.subarray(offset, offset + take), end)
    return offset + take
  }

  /** The peer closed. True where that is how this body ends. */
  close(): boolean {
    if (this.#framing === UNTIL_CLOSE) this.done = true
    return this.done
  }

  #feedChunked(chunk: Buffer, offset: number, handler: BodyHandler): number {
    let i = offset
    while (i < chunk.length) {
      if (this.#state === DATA) {
        const available = chunk.length - i
        const take = Math.min(available, this.#remaining)
        this.#remaining -= take
        if (this.#remaining === 0) this.#state = DATA_CR
        handler.onBody(chunk.subarray(i, i + take), false)
        i += take
        continue
      }
      if (this.#state === TRAILER) {
        const next = this.#trailer(chunk, i, handler)
        if (next < 0 || this.done) return next
        i = next
        continue
      }
      if (!this.#control(chunk[i++])) return -1
    }
    return i
  }

  /** One byte of the chunk grammar. */
  #control(c: number): boolean {
    switch (this.#state) {
      case SIZE:
        return this.#sizeByte(c)
      case EXTENSION:
        if (c === CR) {
          // RFC 9112 §7.1.1: a semicolon is followed by a name.
          if (this.#extension === 0) return this.#refuse('http1.invalid_chunk_extension')
          this.#state = SIZE_LF
          return true
        }
        if ((c < 32 && c !== 9) || c === 127) return this.#refuse('http1.invalid_chunk_extension')
        this.#extensionTotal++
        if (
          ++this.#extension > this.#limits.extensionBytes ||
          this.#extensionTotal > this.#limits.totalExtensionBytes
        ) {
          return this.#refuse('http1.chunk_extension_too_long')
        }
        return true
      case SIZE_LF:
        if (c !== LF) return this.#refuse('http1.invalid_chunk_size')
        this.#state = this.#remaining === 0 ? TRAILER : DATA
        this.#digits = 0
        return true
      case DATA_CR:
        if (c !== CR) return this.#refuse('http1.invalid_chunk_end')
        this.#state = DATA_LF
        return true
      default:
        if (c !== LF) return this.#refuse('http1.invalid_chunk_end')
        this.#state = SIZE
        return true
    }
  }

  #sizeByte(c: number): boolean {
    const digit = HEX[c]
    if (digit < 16) {
      if (++this.#digits > MAX_SIZE_DIGITS) return this.#refuse('http1.invalid_chunk_size')
      this.#remaining = this.#remaining * 16 + digit
      return true
    }
    if (this.#digits === 0) return this.#refuse('http1.invalid_chunk_size')
    if (c === CR) this.#state = SIZE_LF
    else if (c === 59) {
      this.#state = EXTENSION
      this.#extension = 0
    } else return this.#refuse('http1.invalid_chunk_size')
    return true
  }

  /** Gathers trailer lines until the empty one; bounded, so the string stays small. */
  #trailer(chunk: Buffer, from: number, handler: BodyHandler): number {
    const before = this.#trailerText.length
    const room = this.#limits.trailerBytes + 3 - before
    this.#trailerText += chunk.latin1Slice(from, Math.min(chunk.length, from + room))
    const text = this.#trailerText
    if (text.startsWith('\r\n')) {
      this.done = true
      handler.onBodyEnd(undefined)
      return from + 2 - before
    }
    const end = text.indexOf('\r\n\r\n')
    if (end >= 0) {
      const trailers = parseTrailers(text.slice(0, end + 2), this.#limits.trailers)
      if (typeof trailers === 'string') return this.#refuse(trailers) ? 0 : -1
      this.done = true
      handler.onBodyEnd(trailers)
      return from + end + 4 - before
    }
    if (text.length > this.#limits.trailerBytes) return this.#refuse('http1.trailers_too_large') ? 0 : -1
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) {
      if (at === 0 || text.charCodeAt(at - 1) !== CR) return this.#refuse('http1.bare_cr_or_lf') ? 0 : -1
    }
    return chunk.length
  }

  #refuse(problem: string): false {
    this.problem = problem
    return false
  }
}

/** Fields that decide framing, routing, authentication or caching have no business in a trailer (RFC 9110 §6.5.1). */
function isForbiddenTrailer(name: string): boolean {
  switch (name) {
    case 'content-length':
    case 'transfer-encoding':
    case 'host':
    case 'trailer':
    case 'te':
    case 'connection':
    case 'upgrade':
    case 'keep-alive':
    case 'proxy-connection':
    case 'authorization':
    case 'proxy-authorization':
    case 'proxy-authenticate':
    case 'www-authenticate':
    case 'cookie':
    case 'set-cookie':
    case 'content-encoding':
    case 'content-type':
    case 'content-range':
    case 'cache-control':
    case 'expect':
    case 'max-forwards':
    case 'pragma':
    case 'range':
    case 'age':
    case 'expires':
    case 'date':
    case 'location':
    case 'retry-after':
    case 'vary':
    case 'warning':
    case 'forwarded':
      return true
    default:
      return name.startsWith('x-forwarded-') || name.startsWith('x-envoy-') || name.startsWith('if-')
  }
}

/** The trailer section without its empty line, or the reason it is refused. */
function parseTrailers(text: string, limit: number): Headers | string {
  const headers = new Headers()
  for (const line of text.split('\r\n')) {
    if (line === '') continue
    if (headers.size >= limit) return 'http1.too_many_trailers'
    const colon = line.indexOf(':')
    if (colon <= 0) return 'http1.invalid_trailer'
    for (let i = 0; i < colon; i++) if (TOKEN[line.charCodeAt(i)] === 0) return 'http1.invalid_trailer'
    for (let i = colon + 1; i < line.length; i++) {
      const c = line.charCodeAt(i)
      if ((c < 32 && c !== 9) || c === 127) return 'http1.invalid_trailer'
    }
    const name = line.slice(0, colon).toLowerCase()
    if (isForbiddenTrailer(name)) return 'http1.forbidden_trailer'
    headers.append(name, line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, ''))
  }
  return headers
}
