import type { Socket } from 'node:net'
import { Timed, type TimerWheel } from '../core/timer-wheel.ts'

/** A peer that has taken nothing for so long will not take the rest. */
const PATIENCE_MS = 30_000

/** Closes a connection behind what is still to be sent, or when its peer has stopped to read. */
class Farewell extends Timed {
  readonly #socket: Socket
  readonly #wheel: TimerWheel
  #left: number

  constructor(socket: Socket, wheel: TimerWheel) {
    super()
    this.#socket = socket
    this.#wheel = wheel
    this.#left = socket.writableLength
    socket.once('close', () => wheel.disarm(this))
    wheel.arm(this, PATIENCE_MS)
  }

  override onDue(): void {
    const left = this.#socket.writableLength
    if (left === this.#left) this.#socket.destroy()
    else {
      this.#left = left
      this.#wheel.arm(this, PATIENCE_MS)
    }
  }
}

/** FIN behind what is still to be sent, then closed; a peer that does not read holds it up for 30 s at most. */
export function closeBehind(socket: Socket, wheel: TimerWheel): void {
  if (socket.destroyed) return
  if (socket.writableLength > 0) new Farewell(socket, wheel)
  socket.destroySoon()
}
