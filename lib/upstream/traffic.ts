import type { Socket } from 'node:net'
import type { Counter } from '../core/metrics.ts'
import { Timed, type TimerWheel } from '../core/timer-wheel.ts'

/** How often the bytes of open connections are counted; closing counts the rest. */
const SAMPLE_MS = 5_000

interface Counted {
  received: number
  sent: number
}

/**
 * Adds the bytes of a cluster's connections to its counters (`upstream_cx_rx_bytes_total`, `_tx_`). The sockets keep
 * count themselves, so nothing happens per packet: they are asked every few seconds and when they end. Above TLS the
 * bytes are plaintext, as Envoy's.
 */
export class TrafficMeter extends Timed {
  readonly #wheel: TimerWheel
  readonly #received: Counter
  readonly #sent: Counter
  readonly #sockets = new Map<Socket, Counted>()

  constructor(wheel: TimerWheel, received: Counter, sent: Counter) {
    super()
    this.#wheel = wheel
    this.#received = received
    this.#sent = sent
  }

  add(socket: Socket): void {
    this.#sockets.set(socket, { received: 0, sent: 0 })
    if (!this.armed) this.#wheel.arm(this, SAMPLE_MS)
  }

  /** Counts the last bytes of a socket that has ended. */
  remove(socket: Socket): void {
    const counted = this.#sockets.get(socket)
    if (counted === undefined) return
    this.#count(socket, counted)
    this.#sockets.delete(socket)
    if (this.#sockets.size === 0) this.#wheel.disarm(this)
  }

  override onDue(): void {
    for (const [socket, counted] of this.#sockets) this.#count(socket, counted)
    if (this.#sockets.size > 0) this.#wheel.arm(this, SAMPLE_MS)
  }

  #count(socket: Socket, counted: Counted): void {
    // Undefined on streams of another kind, and where a socket never got as far as to connect.
    const received = socket.bytesRead ?? 0
    const sent = socket.bytesWritten ?? 0
    this.#received.v += received - counted.received
    this.#sent.v += sent - counted.sent
    counted.received = received
    counted.sent = sent
  }
}
