import type { Socket } from 'node:net'
import { resetSocket } from './reset.ts'

/** A client that reads this much per `delayed_close_timeout` gets all of its last response. */
const LINGER_BYTES = 64 * 1024

/**
 * The end of a connection after its last response. As Envoy's delayed close, it counts from the last progress, so that a
 * slow reader gets its whole response. What was written at once shows no progress before its end, so that it has a
 * period for each piece of it.
 */
export class Linger {
  readonly #socket: Socket
  /** Bytes that the client had not taken when last looked at. */
  #unsent = 0
  /** Periods that the client has left for them. */
  #patience = 0

  constructor(socket: Socket) {
    this.#socket = socket
  }

  /**
   * FIN behind what is still to be sent; the caller times the first period. `waits`: the client may go on sending for
   * that long; otherwise the connection closes as soon as all is sent, for which a client has limited time too.
   */
  begin(waits: boolean): void {
    if (waits) this.#socket.end()
    else this.#socket.destroySoon()
    this.#note(this.#socket.writableLength)
  }

  /** A period is over. True: another one; false: the connection has been ended. */
  expired(): boolean {
    const left = this.#socket.writableLength
    if (left === 0) {
      this.#socket.destroy()
      return false
    }
    if (left === this.#unsent && --this.#patience <= 0) {
      resetSocket(this.#socket)
      return false
    }
    if (left !== this.#unsent) this.#note(left)
    return true
  }

  #note(bytes: number): void {
    this.#unsent = bytes
    this.#patience = Math.ceil(bytes / LINGER_BYTES)
  }
}
