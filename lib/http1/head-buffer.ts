import { HEAD_ERRORS, type HeadError } from './head-parser.ts'
import { CR, LF } from './tokens.ts'

/** How much of a chunk is looked at as text before falling back to gathering. */
const PEEK_BYTES = 4096

/**
 * Gathers the bytes of one head until its empty line. Costs one `latin1Slice` where the head arrives in one piece, and
 * linear time however finely it is dripped: pieces are kept, and each search sees only new bytes and the three before.
 */
export class HeadBuffer {
  readonly #limitBytes: number
  readonly #lineBytes: number
  #pieces: string[] = []
  #length = 0
  /** The last three characters held: an end mark may straddle pieces. */
  #tail = ''
  #lineSeen = false
  /** An empty line before the head: 0 none, 1 its CR has come, 2 complete. */
  #blank = 0
  /** Offset in the chunk behind the head; valid after `take` answered a string. */
  next = 0

  constructor(limits: { headerBytes: number; lineBytes: number }) {
    this.#limitBytes = limits.headerBytes
    this.#lineBytes = limits.lineBytes
  }

  /** True where part of a head has arrived. */
  get started(): boolean {
    return this.#length > 0
  }

  /** The head's text including its final CRLF CRLF, undefined where more is needed, or why it is refused. */
  take(chunk: Buffer, from: number): string | undefined | HeadError {
    if (this.#length === 0) {
      if (this.#blank === 1 || (chunk[from] === CR && this.#blank === 0)) {
        from = this.#skipBlank(chunk, from)
        if (from < 0) return HEAD_ERRORS.lineEnd
        if (from >= chunk.length) return undefined
      }
      const peek = chunk.latin1Slice(from, Math.min(chunk.length, from + PEEK_BYTES))
      const end = peek.indexOf('\r\n\r\n')
      if (end >= 0 && end + 4 <= this.#limitBytes) {
        this.next = from + end + 4
        this.#blank = 0
        return peek.length === end + 4 ? peek : peek.slice(0, end + 4)
      }
    }
    return this.#gather(chunk, from)
  }

  /** One empty line before a request line is tolerated (RFC 9112 §2.2), a second is not. */
  #skipBlank(chunk: Buffer, from: number): number {
    if (this.#blank === 0) {
      this.#blank = 1
      from++
    }
    if (from >= chunk.length) return from
    if (chunk[from] !== LF) return -1
    this.#blank = 2
    return from + 1
  }

  #gather(chunk: Buffer, from: number): string | undefined | HeadError {
    // Never hold more than the limit and what shows that it is exceeded.
    const piece = chunk.latin1Slice(from, Math.min(chunk.length, from + this.#limitBytes + 4 - this.#length))
    const tail = this.#tail
    const window = tail + piece
    const end = window.indexOf('\r\n\r\n')
    const total = this.#length - tail.length + end + 4
    if (end >= 0 && total <= this.#limitBytes) {
      const used = end + 4 - tail.length
      this.#pieces.push(piece.slice(0, used))
      const text = this.#pieces.join('')
      this.reset()
      this.next = from + used
      return text
    }
    const first = this.#length === 0 ? piece.charCodeAt(0) : 65
    this.#pieces.push(piece)
    this.#length += piece.length
    this.#tail = window.slice(-3)
    return this.#check(window, tail.length, first)
  }

  /** An unfinished head is refused as soon as it cannot become a good one, not when its deadline passes. */
  #check(window: string, before: number, first: number): undefined | HeadError {
    if (first <= 32 || first >= 127) return HEAD_ERRORS.requestLine
    for (let at = window.indexOf('\n', before); at >= 0; at = window.indexOf('\n', at + 1)) {
      if (at === 0 || window.charCodeAt(at - 1) !== CR) return HEAD_ERRORS.lineEnd
      if (!this.#lineSeen && this.#length - window.length + at - 1 > this.#lineBytes) return HEAD_ERRORS.uriTooLong
      this.#lineSeen = true
    }
    if (!this.#lineSeen && this.#length > this.#lineBytes + 1) return HEAD_ERRORS.uriTooLong
    return this.#length > this.#limitBytes ? HEAD_ERRORS.headersTooLarge : undefined
  }

  reset(): void {
    if (this.#pieces.length > 0) this.#pieces = []
    this.#length = 0
    this.#tail = ''
    this.#lineSeen = false
    this.#blank = 0
  }
}
