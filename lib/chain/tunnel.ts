import type { Exchange } from './exchange.ts'

/**
 * A permitted upgrade or CONNECT once its upstream has granted it: bytes pass both ways under back-pressure, without
 * hooks, since they are no HTTP. Each direction ends by itself (half-close, DESIGN §8); the exchange ends with the later.
 */
export class Tunnel {
  readonly #exchange: Exchange
  /** From upstream, before the answer's head has gone out: response hooks may take their time. */
  #held: Buffer[] = []
  #open = false
  #clientDone = false
  #upstreamDone = false

  constructor(exchange: Exchange) {
    this.#exchange = exchange
    exchange.terminal?.pause()
  }

  /** The head has gone downstream. */
  open(): void {
    const { terminal } = this.#exchange
    const held = this.#held
    const done = this.#upstreamDone
    this.#held = []
    this.#open = true
    this.#upstreamDone = false
    let more = true
    for (const chunk of held) more = this.toClient(chunk, false)
    if (done) this.toClient(NO_BYTES, true)
    else if (more) terminal?.resume()
  }

  /** False: stop until resumed. */
  toClient(chunk: Buffer, end: boolean): boolean {
    const exchange = this.#exchange
    if (!this.#open) {
      if (chunk.length > 0) this.#held.push(chunk)
      this.#upstreamDone = end
      return false
    }
    exchange.info.bytesSent += chunk.length
    exchange.lastActivityMs = exchange.owner.wheel.nowMs
    const more = exchange.downstream.write(chunk, end)
    if (!end) {
      if (!more) exchange.terminal?.pause()
      return more
    }
    this.#upstreamDone = true
    this.#finish()
    return true
  }

  /** The client has sent its last bytes. */
  clientEnds(): void {
    this.#clientDone = true
    this.#finish()
  }

  #finish(): void {
    if (this.#clientDone && this.#upstreamDone) this.#exchange.tunnelEnded()
  }
}

const NO_BYTES: Buffer = Buffer.alloc(0)
