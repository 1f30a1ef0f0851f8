import type { OnReadOpts } from 'node:net'

/** What one read may bring. */
const READ_BYTES = 64 * 1024
/** The same where memory is read into again and again: a read that fills it leaves the rest for another system call. */
const BULK_BYTES = 256 * 1024
/** Reads of at least this size are worth lending: smaller ones would pin memory of `READ_BYTES` for little. */
const LEND_BYTES = 16 * 1024
/** What one read of a TLS socket brings at most: the plaintext of one record (RFC 8446 §5.1). */
const RECORD_BYTES = 16 * 1024

/** Whose socket it is. */
export interface ReadTarget {
  /** `lent`: the chunk is the target's for ever. Otherwise its memory is read into again: copy what is to be kept. */
  received(chunk: Buffer, lent: boolean): void
  /** A body is under way, of which the next read brings more. */
  readonly expectsBody: boolean
  /**
   * Asked after `received`: nothing of that chunk is kept, and its memory may be read into again although it was lent.
   * Where it is missing, what was lent is gone.
   */
  readonly spent?: boolean
}

/** Memory that the plaintext sockets of a gateway read into, on both sides: one read is looked at before the next happens. */
export class ReadBuffer {
  #bytes: Buffer | undefined = undefined
  #spare: Buffer | undefined = undefined

  get bytes(): Buffer {
    this.#bytes ??= Buffer.allocUnsafeSlow(READ_BYTES)
    return this.#bytes
  }

  /** What makes one socket read here. `records`: it is a TLS socket, and what it brings comes in records. */
  reader(limitBytes: number, records = false): SocketReader {
    return new SocketReader(this, limitBytes, records)
  }

  /** Memory for the caller alone. */
  take(): Buffer {
    const spare = this.#spare
    this.#spare = undefined
    return spare ?? Buffer.allocUnsafeSlow(READ_BYTES)
  }

  /** Takes back what was taken and has not been lent on. */
  giveBack(bytes: Buffer): void {
    if (bytes.length === READ_BYTES) this.#spare = bytes
  }
}

/**
 * Reads of one socket without an allocation each, which is 64 KiB that the runtime takes, cuts to size and
 * collects again (about 5 % of a small request).
 *
 * A body that comes in large reads gets memory of its own for each, so that they can be lent on; what comes in small ones
 * (events, heads, the first of a body) is read into the shared memory and copied. So a connection that waits for an event
 * holds none.
 */
export class SocketReader {
  target: ReadTarget | undefined = undefined
  readonly #shared: ReadBuffer
  readonly #records: boolean
  /** A read may bring `BULK_BYTES`. */
  readonly #mayBeLarge: boolean
  /** Where the runtime reads to: the shared memory, or what this reader has taken. */
  #current: Buffer | undefined = undefined
  /** `#current` belongs to whoever it was lent to: not to be read into any more. */
  #lent = false
  #large = false
  /** What was lent came back at once, and filled its memory: more would have come. */
  #bulk = false
  readonly onread: OnReadOpts

  /** `limitBytes`: what may be held of what the socket brings; who holds it stops reading, but the last read is whole. */
  constructor(shared: ReadBuffer, limitBytes: number, records = false) {
    this.#shared = shared
    this.#records = records
    this.#mayBeLarge = !records && limitBytes >= BULK_BYTES
    this.onread = { buffer: () => this.#next(), callback: (bytes, buffer) => this.#read(bytes, buffer as Buffer) }
  }

  /** Where the next read goes; undefined: to the same place. Asked before the first read and after each. */
  #next(): Buffer {
    const current = this.#current
    const shared = this.#shared.bytes
    const own = this.#large && this.target?.expectsBody === true
    const bulk = own && this.#bulk
    if (current !== undefined && !this.#lent) {
      if (own === (current !== shared) && (!bulk || current.length === BULK_BYTES)) return SAME_PLACE
      if (current !== shared) this.#shared.giveBack(current)
    }
    this.#lent = false
    this.#current = own ? this.#memory(bulk) : shared
    return this.#current
  }

  #memory(bulk: boolean): Buffer {
    if (bulk) return Buffer.allocUnsafeSlow(BULK_BYTES)
    return this.#records ? Buffer.allocUnsafeSlow(RECORD_BYTES) : this.#shared.take()
  }

  #read(bytes: number, buffer: Buffer): boolean {
    const { target } = this
    const lent = bytes >= LEND_BYTES && buffer !== this.#shared.bytes
    this.#large = bytes >= LEND_BYTES
    target?.received(buffer.subarray(0, bytes), lent)
    const spent = lent && target?.spent === true
    this.#lent = lent && !spent
    this.#bulk = spent && this.#mayBeLarge && (this.#bulk || bytes === buffer.length)
    return true
  }
}

/** The runtime keeps its buffer where it is given none. */
const SAME_PLACE = undefined as unknown as Buffer
