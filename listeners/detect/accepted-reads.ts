import { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { Exchange } from '../../lib/chain/exchange.ts'
import type { ReadBuffer, ReadTarget } from '../../lib/upstream/socket-reader.ts'

/** Where the runtime keeps what `onread` was given. */
interface Places {
  readonly buffer: symbol
  readonly callback: symbol
  readonly generator: symbol
}

/** Which exchanges have been given bytes of the chunk at hand. */
export class Receivers {
  readonly #exchanges: Exchange[] = []

  add(exchange: Exchange): void {
    if (!this.#exchanges.includes(exchange)) this.#exchanges.push(exchange)
  }

  /** Nobody keeps any of them. True also where nobody got one. */
  settle(): boolean {
    let settled = true
    for (const exchange of this.#exchanges) if (!exchange.requestSettled()) settled = false
    this.clear()
    return settled
  }

  clear(): void {
    this.#exchanges.length = 0
  }
}

/** Who receives bytes that may not be its own. */
export interface Borrower {
  /** The bytes at hand may be kept as they are. False during `receive` where their memory is read into again. */
  lent: boolean
  receive(chunk: Buffer): void
  /** As in `ReadTarget`. */
  readonly expectsBody: boolean
  readonly spent?: boolean
  /** Of one that passes bodies on to exchanges; set as long as it borrows. */
  receivers?: Receivers | undefined
}

/** What is read from one socket, for whoever has it at the time. */
export class Loan implements ReadTarget {
  borrower: Borrower
  readonly #receivers = new Receivers()

  constructor(borrower: Borrower) {
    this.borrower = borrower
  }

  get expectsBody(): boolean {
    return this.borrower.expectsBody
  }

  get spent(): boolean {
    return this.borrower.spent === true
  }

  received(chunk: Buffer, lent: boolean): void {
    const { borrower } = this
    borrower.lent = lent
    borrower.receive(chunk)
    borrower.lent = true
    // Where they are not asked, they are not kept.
    if (!lent) this.#receivers.clear()
  }

  /** In the middle of a chunk that is not the next borrower's: it goes on with this one as the last one had it. */
  pass(next: Borrower): void {
    next.lent = this.borrower.lent
    next.receivers = this.#receivers
    this.borrower = next
  }
}

/**
 * The same of a TLS socket, which hands out what it has decrypted even where it was paused meanwhile: that waits in the
 * stream, as it does where no memory is borrowed.
 */
class SecuredLoan extends Loan {
  readonly #socket: Socket

  constructor(borrower: Borrower, socket: Socket) {
    super(borrower)
    this.#socket = socket
  }

  override received(chunk: Buffer, lent: boolean): void {
    const socket = this.#socket
    if (socket.readableLength === 0 && !socket.isPaused()) super.received(chunk, lent)
    // A copy of what was lent as well: it may come back at once.
    else socket.push(Buffer.from(chunk))
  }
}

/** A socket with its inside out. */
type Inner = Socket & { _handle?: { useUserBuffer?(buffer: Uint8Array): void } | null } & { [place: symbol]: unknown }

/**
 * Lets accepted sockets read into shared memory, as `onread` lets outgoing ones: otherwise each read takes 64 KiB that are
 * cut to size and collected (about 6 % of a small request). The runtime has no option for it, so what `onread` sets is set
 * by hand, in properties without documentation (a test watches over them). Where they are missing, nothing changes.
 */
export class AcceptedReads {
  readonly #shared: ReadBuffer
  readonly #places: Places | undefined

  constructor(shared: ReadBuffer) {
    this.#shared = shared
    this.#places = findPlaces()
  }

  /**
   * Of a socket that nothing has been read from: what the stream once had a part in, it goes on reading while it is paused.
   * Undefined where it cannot be done. `limitBytes`: what of it is held at most.
   */
  adopt(socket: Socket, borrower: Borrower, limitBytes: number): Loan | undefined {
    const places = this.#places
    const inner = socket as Inner
    const handle = inner._handle
    if (places === undefined || typeof handle?.useUserBuffer !== 'function') return undefined
    if (inner[places.buffer] !== null || socket.bytesRead > 0 || socket.readableLength > 0) return undefined
    const secured = socket instanceof TLSSocket
    const reader = this.#shared.reader(limitBytes, secured)
    const loan = secured ? new SecuredLoan(borrower, socket) : new Loan(borrower)
    reader.target = loan
    const { buffer, callback } = reader.onread
    const first = (buffer as () => Uint8Array)()
    inner[places.buffer] = first
    inner[places.generator] = buffer
    inner[places.callback] = callback
    handle.useUserBuffer(first)
    return loan
  }
}

function findPlaces(): Places | undefined {
  const probe = new Socket({ onread: { buffer: Buffer.alloc(1), callback: () => true } })
  const find = (name: string): symbol | undefined =>
    Object.getOwnPropertySymbols(probe).find(({ description }) => description === name)
  const buffer = find('kBuffer')
  const callback = find('kBufferCb')
  const generator = find('kBufferGen')
  probe.destroy()
  return buffer && callback && generator && { buffer, callback, generator }
}
