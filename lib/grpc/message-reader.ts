/** What `next` found. */
export type Found = 'message' | 'more' | 'too-large' | 'broken'

const PREFIX_BYTES = 5
/** Room that a message gets before any of it has come: a length alone must not take memory. */
const FIRST_ROOM_BYTES = 64 * 1024

/**
 * Takes a gRPC body apart into messages (length-prefixed, PROTOCOL-HTTP2.md), split anywhere.
 *
 * A message that lies in one chunk is a view of it; others are gathered in a buffer of their own that doubles up to the
 * length announced, so that the work is linear in the bytes received and the memory at most twice as much.
 */
export class MessageReader {
  /** The message that `next` found; `compressed` is its flag. Good until the next call of `next`. */
  payload: Buffer = EMPTY
  compressed = false
  readonly #limitBytes: number
  #chunk: Buffer = EMPTY
  #at = 0
  /** Chunks behind `#chunk`: only while nobody takes messages out. */
  #waiting: Buffer[] | undefined = undefined
  #taken = 0
  /** Bytes of a prefix that was split, and how many there are. */
  #prefix: Buffer | undefined = undefined
  #prefixBytes = 0
  /** Of the message under way; -1: its prefix is not complete. */
  #length = -1
  #body: Buffer | undefined = undefined
  #filled = 0

  constructor(limitBytes: number | undefined) {
    this.#limitBytes = limitBytes ?? Number.POSITIVE_INFINITY
  }

  /** Bytes of the body; kept, never copied where a message is whole in them. */
  push(chunk: Buffer): void {
    if (this.#at >= this.#chunk.length && this.#waiting === undefined) {
      this.#chunk = chunk
      this.#at = 0
    } else {
      this.#waiting ??= []
      this.#waiting.push(chunk)
    }
  }

  /** Part of a message has come and the rest has not: nothing may end here. For after `next` has answered `more`. */
  get inMessage(): boolean {
    return this.#length >= 0 || this.#prefixBytes > 0
  }

  /** Puts the next message into `payload` and `compressed`. Not to be called again after `too-large` or `broken`. */
  next(): Found {
    for (;;) {
      const available = this.#chunk.length - this.#at
      if (this.#length < 0) {
        const found = this.#readPrefix(available)
        if (found !== undefined) return found
        if (this.#length < 0 && !this.#advance()) return 'more'
        continue
      }
      if (this.#body === undefined && available >= this.#length) {
        this.payload = this.#chunk.subarray(this.#at, this.#at + this.#length)
        this.#at += this.#length
        this.#length = -1
        return 'message'
      }
      if (available > 0 && !this.#gather(available)) return 'too-large'
      if (this.#filled === this.#length && this.#body !== undefined) {
        this.payload = this.#body
        this.#body = undefined
        this.#filled = 0
        this.#length = -1
        return 'message'
      }
      if (!this.#advance()) return 'more'
    }
  }

  /** Lets go of all bytes. Nothing may be called afterwards. */
  release(): void {
    this.#chunk = this.payload = EMPTY
    this.#waiting = this.#body = undefined
  }

  /** Goes on to the next chunk that waits; false where there is none. */
  #advance(): boolean {
    const waiting = this.#waiting
    this.#at = 0
    if (waiting === undefined) {
      // A packet must not live on because a call is idle.
      this.#chunk = this.payload = EMPTY
      return false
    }
    this.#chunk = waiting[this.#taken]
    waiting[this.#taken++] = EMPTY
    if (this.#taken === waiting.length) {
      this.#waiting = undefined
      this.#taken = 0
    }
    return true
  }

  #readPrefix(available: number): Found | undefined {
    let bytes = this.#chunk
    let at = this.#at
    if (available < PREFIX_BYTES || this.#prefixBytes > 0) {
      const prefix = (this.#prefix ??= Buffer.alloc(PREFIX_BYTES))
      const taken = Math.min(PREFIX_BYTES - this.#prefixBytes, available)
      bytes.copy(prefix, this.#prefixBytes, at, at + taken)
      this.#prefixBytes += taken
      this.#at += taken
      if (this.#prefixBytes < PREFIX_BYTES) return undefined
      this.#prefixBytes = 0
      bytes = prefix
      at = 0
    } else this.#at += PREFIX_BYTES
    const flag = bytes[at]
    if (flag > 1) return 'broken'
    const length = bytes.readUInt32BE(at + 1)
    if (length > this.#limitBytes) return 'too-large'
    this.compressed = flag === 1
    this.#length = length
    return undefined
  }

  /** False where the memory for the message cannot be had. */
  #gather(available: number): boolean {
    const count = Math.min(available, this.#length - this.#filled)
    const needed = this.#filled + count
    if (this.#body === undefined || needed > this.#body.length) {
      const room = Math.min(this.#length, Math.max(FIRST_ROOM_BYTES, needed, 2 * this.#filled))
      const body = allocate(room)
      if (body === undefined) return false
      if (this.#body !== undefined) this.#body.copy(body, 0, 0, this.#filled)
      this.#body = body
    }
    this.#chunk.copy(this.#body, this.#filled, this.#at, this.#at + count)
    this.#filled = needed
    this.#at += count
    return true
  }
}

function allocate(bytes: number): Buffer | undefined {
  try {
    return Buffer.allocUnsafeSlow(bytes)
  } catch {
    return undefined
  }
}

const EMPTY: Buffer = Buffer.alloc(0)
