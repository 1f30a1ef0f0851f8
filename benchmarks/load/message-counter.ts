const HEAD = 0
const BODY = 1
const CHUNK_SIZE = 2
const CHUNK_DATA = 3
const TRAILERS = 4

/**
 * Counts the messages of one HTTP/1 byte stream, requests or responses. The sender is trusted: this is a measuring
 * instrument, not the proxy's parser. Responses to HEAD and 204/304 are not meant for it.
 */
export class MessageCounter {
  /** Of the last complete head, with its empty line. */
  head = ''
  /** Content bytes of all messages so far; the framing of chunks is not counted. */
  bodyBytes = 0
  /** Responses outside 200–299. */
  failures = 0
  #state = HEAD
  #text = ''
  #left = 0

  /** True between messages: nothing of the next one has arrived. */
  get idle(): boolean {
    return this.#state === HEAD && this.#text === ''
  }

  /** Feeds bytes and answers how many messages they completed. */
  push(chunk: Buffer): number {
    let complete = 0
    let at = 0
    while (at < chunk.length) {
      if (this.#state === BODY || this.#state === CHUNK_DATA) {
        const taken = Math.min(this.#left, chunk.length - at)
        this.#left -= taken
        at += taken
        if (this.#state === BODY) this.bodyBytes += taken
        if (this.#left > 0) break
        if (this.#state === BODY) complete += this.#finish()
        else this.#state = CHUNK_SIZE
        continue
      }
      const end = this.#state === HEAD ? '\r\n\r\n' : '\r\n'
      const found = this.#take(chunk, at, end)
      if (found < 0) break
      at = found
      complete += this.#onText()
    }
    return complete
  }

  /** Collects text up to and with `end`; answers the offset behind it, or -1 when the chunk is used up before. */
  #take(chunk: Buffer, at: number, end: string): number {
    const had = this.#text.length
    if (had === 0) {
      const index = chunk.indexOf(end, at, 'latin1')
      this.#text = chunk.latin1Slice(at, index < 0 ? chunk.length : index + end.length)
      return index < 0 ? -1 : index + end.length
    }
    // The terminator may straddle two chunks: look again at the last bytes of what was kept.
    const text = this.#text + chunk.latin1Slice(at)
    const index = text.indexOf(end, Math.max(0, had - end.length + 1))
    this.#text = index < 0 ? text : text.slice(0, index + end.length)
    return index < 0 ? -1 : at + index + end.length - had
  }

  #onText(): number {
    const text = this.#text
    this.#text = ''
    if (this.#state === CHUNK_SIZE) {
      const size = Number.parseInt(text, 16)
      this.bodyBytes += size
      this.#left = size + 2
      this.#state = size === 0 ? TRAILERS : CHUNK_DATA
      return 0
    }
    if (this.#state === TRAILERS) return text === '\r\n' ? this.#finish() : 0
    this.head = text
    if (text.startsWith('HTTP/') && text.charCodeAt(9) !== 0x32) this.failures++
    this.#left = Number(/\r\ncontent-length:[ \t]*(\d+)/i.exec(text)?.[1] ?? 0)
    if (/\r\ntransfer-encoding:[ \t]*chunked/i.test(text)) this.#state = CHUNK_SIZE
    else if (this.#left > 0) this.#state = BODY
    else return this.#finish()
    return 0
  }

  #finish(): number {
    this.#state = HEAD
    return 1
  }
}
