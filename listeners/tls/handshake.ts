import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { TlsInfo } from '../../lib/core/connection.ts'
import type { ScaledTimeout } from '../../lib/core/overload.ts'
import { Timed } from '../../lib/core/timer-wheel.ts'
import { ClientHelloReader, MAX_HELLO_BYTES } from '../../lib/tls/client-hello.ts'
import type { ServerContexts } from './server-contexts.ts'

/** Pieces of a hello that are kept apart. */
const MAX_PIECES = 64

/** What becomes of a connection: exactly one of them is called, once. */
export interface Outcome {
  readonly accepted: (socket: TLSSocket, info: TlsInfo) => void
  readonly failed: (why: string) => void
  /** Undefined: the time for it does not depend on anything. */
  readonly scaled?: ScaledTimeout | undefined
}

/** Whose handshakes they are. */
export interface HandshakeOwner {
  /** The hello has been looked at, and is back on the socket. */
  handOver(handshake: Handshake): void
  /** The client speaks something else; `first` is what it has sent. */
  notTls(handshake: Handshake, first: Buffer): void
  fail(handshake: Handshake, why: string): void
  /** How long it may take is another. */
  arm(handshake: Handshake): void
}

/** One connection between its first byte and the end of its handshake. It ends under the contexts it began with. */
export class Handshake extends Timed {
  readonly raw: Socket
  readonly outcome: Outcome
  readonly contexts: ServerContexts
  readonly hello = new ClientHelloReader(MAX_HELLO_BYTES, true)
  startedMs = 0
  /** What the socket allowed when it came. */
  readonly halfOpen: boolean
  readonly #owner: HandshakeOwner
  /** What was read to look at the hello, in order. */
  #peeked: Buffer[] = []

  constructor(owner: HandshakeOwner, contexts: ServerContexts, raw: Socket, outcome: Outcome) {
    super()
    this.#owner = owner
    this.contexts = contexts
    this.raw = raw
    this.halfOpen = raw.allowHalfOpen
    this.outcome = outcome
  }

  /** Less time is left under overload. */
  override reconsider(): void {
    if (this.outcome.scaled !== undefined) this.#owner.arm(this)
  }

  override onDue(): void {
    this.#owner.fail(this, 'the handshake took too long')
  }

  peek(): void {
    this.raw.on('data', this.#onData)
    this.raw.on('end', this.#onEnd)
    this.raw.resume()
  }

  readonly #onData = (chunk: Buffer): void => {
    const peeked = this.#peeked
    peeked.push(chunk)
    if (this.hello.feed(chunk) === 'more') {
      // A buffer weighs more than a few bytes in it: a hello that trickles in is kept as one.
      if (peeked.length === MAX_PIECES) this.#peeked = [Buffer.concat(peeked)]
      return
    }
    this.raw.off('data', this.#onData)
    this.raw.off('end', this.#onEnd)
    this.raw.pause()
    this.#peeked = []
    const first = peeked.length === 1 ? peeked[0] : Buffer.concat(peeked)
    if (this.hello.status === 'not-tls') {
      this.#owner.notTls(this, first)
      return
    }
    this.raw.unshift(first)
    this.#owner.handOver(this)
  }

  readonly #onEnd = (): void => {
    this.#owner.fail(this, 'the client closed before its hello was complete')
  }

  readonly onClose = (): void => {
    this.#owner.fail(this, 'the client closed during the handshake')
  }
}
