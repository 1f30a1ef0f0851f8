import type { Socket } from 'node:net'

/** Whom the gate is for. */
export interface ReadGateOwner {
  /** False: what was read is nobody's. */
  readonly open: boolean
  passRead(chunk: Buffer): void
  passEnd(): void
}

/** Read at most before anybody wants it: as much as streams hold that nobody reads. */
const AHEAD_BYTES = 64 * 1024

/**
 * Whether a socket is read: while nobody has a reason against it. A socket that is not read does not tell that its peer is
 * gone; so what a client sends before it is read for the first time is taken all the same, within bounds.
 */
export class ReadGate {
  readonly #owner: ReadGateOwner
  /** Undefined: not yet, or not any more. */
  #socket: Socket | undefined = undefined
  #holds = 0
  /** Read ahead; undefined once it has been read for the first time. */
  #ahead: Buffer[] | undefined = undefined
  #aheadBytes = 0
  #ended = false

  constructor(owner: ReadGateOwner) {
    this.#owner = owner
  }

  /** `borrows`: the socket reads into memory of ours, by `receive`, and by itself keeps nothing while it is paused. */
  start(socket: Socket, borrows: boolean): void {
    this.#socket = socket
    if (borrows && this.#holds > 0) this.#ahead = []
    if (borrows || this.#holds === 0) socket.resume()
    // Only now does a pause reach the system: accepted sockets read from the beginning.
    else socket.pause()
  }

  /** What else comes is not counted on: the owner reads it away. */
  stop(): void {
    this.#socket = undefined
    this.#ahead = undefined
  }

  hold(): void {
    if (this.#holds++ === 0 && this.#ahead === undefined) this.#socket?.pause()
  }

  release(): void {
    if (--this.#holds > 0) return
    if (this.#ahead === undefined) this.#socket?.resume()
    // As streams do: no hook is called from within another that resumes.
    else process.nextTick(goOn, this)
  }

  /** A chunk that is the owner's for ever. */
  receive(chunk: Buffer): void {
    if (this.#ahead === undefined) {
      this.#owner.passRead(chunk)
      return
    }
    this.#ahead.push(chunk)
    this.#aheadBytes += chunk.length
    if (this.#aheadBytes >= AHEAD_BYTES) this.#socket?.pause()
  }

  /** The client's FIN. */
  end(): void {
    if (this.#ahead === undefined) this.#owner.passEnd()
    else this.#ended = true
  }

  /** @internal What was read ahead passes, and reading goes on. */
  goOn(): void {
    const ahead = this.#ahead
    if (ahead === undefined || this.#holds > 0 || !this.#owner.open) return
    this.#ahead = undefined
    if (ahead.length > 0) this.#owner.passRead(ahead.length === 1 ? ahead[0] : Buffer.concat(ahead))
    if (!this.#owner.open) return
    if (!this.#ended) {
      if (this.#holds === 0) this.#socket?.resume()
    } else if (this.#holds > 0) this.#ahead = []
    else this.#owner.passEnd()
  }
}

function goOn(gate: ReadGate): void {
  gate.goOn()
}
