import type { OnReadOpts } from 'node:net'

/** What one read may bring. */
const READ_BYTES = 64 * 1024
/** Reads of at least this size are worth lending: smaller ones would pin memory of `READ_BYTES` for little. */
const LEND_BYTES = 16 * 1024

/** Whose socket it is. */
export interface ReadTarget {
  /** `lent`: the chunk is the target's for ever. Otherwise its memory is read into again: copy what is to be kept. */
  received(chunk: Buffer, lent: boolean): void
  /** A body is under way, of which the next read brings more. */
  readonly expectsBody: boolean
}

/** Memory that all plaintext upstream sockets of a gateway read into: one read is looked at before the next happens. */
export class ReadBuffer {
  #bytes: Buffer | undefined = undefined

  get bytes(): Buffer {
    this.#bytes ??= Buffer.allocUnsafeSlow(READ_BYTES)
    return this.#bytes
  }
}

/**
 * Reads of one plaintext socket without an allocation each, which is 64 KiB that the runtime takes, cuts to size and
 * collects again (about 5 % of a small request). Only bodies get memory of their own, so that they can be lent on.
 */
export class SocketReader {
  target: ReadTarget | undefined = undefined
  readonly #shared: ReadBuffer
  #own: Buffer | undefined = undefined
  #begun = false
  readonly onread: OnReadOpts

  constructor(shared: ReadBuffer) {
    this.#shared = shared
    this.onread = { buffer: () => this.#next(), callback: (bytes, buffer) => this.#read(bytes, buffer as Buffer) }
  }

  /** Where the next read goes; undefined: to the same place. */
  #next(): Buffer {
    if (this.target?.expectsBody === true) {
      if (this.#own !== undefined) return SAME_PLACE
      this.#own = Buffer.allocUnsafeSlow(READ_BYTES)
      return this.#own
    }
    if (this.#begun && this.#own === undefined) return SAME_PLACE
    this.#begun = true
    this.#own = undefined
    return this.#shared.bytes
  }

  #read(bytes: number, buffer: Buffer): boolean {
    const lent = bytes >= LEND_BYTES && buffer === this.#own
    if (lent) this.#own = undefined
    this.target?.received(buffer.subarray(0, bytes), lent)
    return true
  }
}

/** The runtime keeps its buffer where it is given none. */
const SAME_PLACE = undefined as unknown as Buffer
