import type { Socket } from 'node:net'

/** How a connection ended, seen from here. `local`: this side destroyed it. */
export type Ending = 'open' | 'fin' | 'reset' | 'local'

/** What a deadline or an early end makes of a wait: the message says what was waited for and what had come. */
export class WireError extends Error {
  readonly kind: 'deadline' | 'ended' | 'protocol'

  constructor(kind: WireError['kind'], message: string) {
    super(message)
    this.name = 'WireError'
    this.kind = kind
  }
}

/** Reading stops (and the peer feels it) when that much lies here and nobody waits for more. */
const HIGH_WATER_BYTES = 1 << 20

/**
 * Pulls bytes from a socket: everything waits with a deadline, nothing is lost, an end is told from a reset. Nobody
 * reading means back-pressure, as with a real slow peer.
 */
export class ByteStream {
  readonly socket: Socket
  /** 0: wait for ever. */
  deadlineMs: number
  ending: Ending = 'open'
  /** Bytes that have arrived in all. */
  received = 0
  #chunks: Buffer[] = []
  #size = 0
  #held = false
  #wake: (() => void) | undefined

  constructor(socket: Socket, deadlineMs: number) {
    this.socket = socket
    this.deadlineMs = deadlineMs
    socket.on('data', (chunk: Buffer) => this.#arrived(chunk))
    socket.on('end', () => this.#ended('fin'))
    socket.on('error', (error: NodeJS.ErrnoException) => this.#ended(error.code === 'EPIPE' ? 'fin' : 'reset'))
    socket.on('close', () => this.#ended('local'))
  }

  /** Bytes that have arrived and have not been taken. */
  get buffered(): number {
    return this.#size
  }

  /** Stops reading from the socket until `release`. */
  hold(): void {
    this.#held = true
    this.socket.pause()
  }

  release(): void {
    this.#held = false
    this.socket.resume()
  }

  /** All that lies here, merged, left in place. */
  peek(): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks, this.#size)]
    return this.#chunks.length === 0 ? Buffer.alloc(0) : this.#chunks[0]
  }

  /** Takes exactly `size` bytes of what lies here; the caller has made sure of them. */
  take(size: number): Buffer {
    const all = this.peek()
    if (all.length < size) throw new RangeError(`${size} bytes wanted, ${all.length} are here`)
    const rest = all.subarray(size)
    this.#chunks = rest.length === 0 ? [] : [rest]
    this.#size = rest.length
    if (this.#size <= HIGH_WATER_BYTES && !this.#held) this.socket.resume()
    return all.subarray(0, size)
  }

  /** Takes what lies here up to `most` bytes, waiting for the first; undefined: the connection has ended. */
  async takeSome(most: number, what: string): Promise<Buffer | undefined> {
    while (this.#size === 0) if (!(await this.more(what))) return undefined
    if (this.#chunks[0].length <= most) {
      const first = this.#chunks.shift()!
      this.#size -= first.length
      return first
    }
    return this.take(most)
  }

  /** Waits until `size` bytes lie here; false: the connection ended first. */
  async need(size: number, what: string): Promise<boolean> {
    while (this.#size < size) if (!(await this.more(what))) return false
    return true
  }

  /**
   * Waits for bytes that `find` is content with, given all that lies here: it answers how many to take, or -1 for more.
   * Undefined: the connection ended first, what had come is still here.
   */
  async takeUntil(find: (bytes: Buffer) => number, what: string): Promise<Buffer | undefined> {
    for (;;) {
      const size = find(this.peek())
      if (size >= 0) return this.take(size)
      if (!(await this.more(what))) return undefined
    }
  }

  /** Waits for the next bytes, or answers false at the end of the connection. Rejects after the deadline. */
  more(what: string): Promise<boolean> {
    if (this.ending !== 'open') return Promise.resolve(false)
    if (this.#wake !== undefined) throw new Error('two reads at once on one connection')
    const before = this.received
    if (!this.#held) this.socket.resume()
    return new Promise((resolve, reject) => {
      const timer =
        this.deadlineMs === 0
          ? undefined
          : setTimeout(() => {
              this.#wake = undefined
              reject(
                new WireError('deadline', `no ${what} within ${this.deadlineMs} ms; so far: ${excerpt(this.peek())}`),
              )
            }, this.deadlineMs)
      this.#wake = () => {
        clearTimeout(timer)
        this.#wake = undefined
        resolve(this.received > before)
      }
    })
  }

  /** Waits for the end of the connection, dropping nothing. */
  async untilEnd(): Promise<Ending> {
    while (this.ending === 'open') await this.more('end of the connection')
    return this.ending
  }

  #arrived(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#size += chunk.length
    this.received += chunk.length
    if (this.#wake !== undefined) this.#wake()
    else if (this.#size > HIGH_WATER_BYTES) this.socket.pause()
  }

  #ended(how: Ending): void {
    // A reset after the peer's FIN is still news: the first of `fin` is overruled by `reset`, never the other way.
    if (this.ending === 'open' || (this.ending === 'fin' && how === 'reset')) this.ending = how
    this.#wake?.()
  }
}

/** Bytes for a message: printable, escaped, bounded. */
export function excerpt(bytes: Buffer, most = 200): string {
  const text = JSON.stringify(bytes.subarray(0, most).toString('latin1'))
  return bytes.length > most ? `${text} and ${bytes.length - most} bytes more` : text
}
