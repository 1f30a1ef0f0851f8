import type { Exchange } from '../../lib/chain/exchange.ts'
import type { TimerWheel } from '../../lib/core/timer-wheel.ts'
import type { SpliceOwner } from './splice.ts'

/** An upgraded exchange's account of its tunnel: bytes count, and keep it from going idle. */
export class ExchangeTunnel implements SpliceOwner {
  readonly #exchange: Exchange
  readonly #wheel: TimerWheel
  readonly #ended: () => void

  constructor(exchange: Exchange, wheel: TimerWheel, ended: () => void) {
    this.#exchange = exchange
    this.#wheel = wheel
    this.#ended = ended
  }

  tunnelBytes(sent: number, received: number): void {
    const { info } = this.#exchange
    info.bytesSent += sent
    info.upstreamBytesReceived += sent
    info.bytesReceived += received
    info.upstreamBytesSent += received
    this.#exchange.lastActivityMs = this.#wheel.nowMs
  }

  tunnelEnded(): void {
    this.#ended()
    this.#exchange.tunnelEnded()
  }
}
