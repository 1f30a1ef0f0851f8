import { Duplex } from 'node:stream'
import type { NetworkConnection, NetworkFilter } from '../../lib/chain/network.ts'
import { FilterLink, type LinkOwner } from './filter-link.ts'

/** The stream that HTTP gets behind these filters, linked as the last one; undefined where none of them looks at bytes. */
export function streamBehind(links: FilterLink[], owner: LinkOwner, remoteAddress = ''): FilteredStream | undefined {
  if (!links.some(({ filter }) => filter.onRead !== undefined || filter.onWrite !== undefined)) return undefined
  const stream = new FilteredStream(remoteAddress)
  const link = new FilterLink(owner, links.length, 'http', stream)
  stream.attach(link)
  links.push(link)
  return stream
}

/**
 * The end of a chain whose filters look at bytes and that goes on as HTTP: takes the place of the socket there, with as
 * much of its face as server connections use. To the chain it is one more filter, the last one.
 */
export class FilteredStream extends Duplex implements NetworkFilter<undefined> {
  /** Some address: whoever asks wants to know whether this can be reset, and it can. */
  readonly remoteAddress: string
  #connection: NetworkConnection | undefined = undefined
  /** A write that waits for the connection's drain. */
  #written: (() => void) | undefined = undefined
  /** Set by `destroy`: the stream is closed when the socket beneath it is. */
  #closed: (() => void) | undefined = undefined
  #over = false

  constructor(remoteAddress: string) {
    super({ allowHalfOpen: true, emitClose: true })
    this.remoteAddress = remoteAddress
  }

  /** Its place in the chain. */
  attach(connection: NetworkConnection): void {
    this.#connection = connection
  }

  onRead(connection: NetworkConnection, chunk: Buffer, end: boolean): void {
    if (this.destroyed) return
    if (chunk.length > 0 && !this.push(chunk)) connection.pause()
    if (end) this.push(null)
  }

  onDrain(): void {
    const done = this.#written
    this.#written = undefined
    done?.()
  }

  onClose(): void {
    this.#over = true
    const closed = this.#closed
    this.#closed = undefined
    if (closed === undefined) this.destroy()
    else closed()
  }

  override _read(): void {
    this.#connection?.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    if (this.#connection === undefined || this.#connection.write(chunk)) done()
    else this.#written = done
  }

  override _final(done: () => void): void {
    this.#connection?.end()
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (this.#over || this.#connection === undefined) {
      done(error)
      return
    }
    this.#closed = () => done(error)
    // What was written has left this stream, and not yet the socket.
    this.#connection.close('')
  }

  /** As of a socket: RST. */
  resetAndDestroy(): this {
    this.#connection?.reset('')
    return this.destroy()
  }

  /** As of a socket: closes behind what was written. */
  destroySoon(): void {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', () => this.destroy())
  }
}
