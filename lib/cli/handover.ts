import type { Listener } from '../../listeners/listener.ts'
import { type Address, formatAddress } from '../core/address.ts'

interface Offer {
  readonly from: Listener
  readonly key: string
}

interface Transfer {
  readonly from: Listener
  readonly to: Listener
  readonly address: Address
}

/**
 * Which listening sockets pass from listeners that leave with an update to those that come with it. What is bound
 * already could not be bound again, and a connection must not be refused because a listener has got another name.
 * Decided before the swap, done within it: an update that is refused leaves everything where it was.
 */
export class Handover {
  readonly #offers: Offer[] = []
  readonly #transfers: Transfer[] = []

  constructor(leaving: readonly Listener[]) {
    for (const from of leaving) {
      for (const address of from.listening) this.#offers.push({ from, key: formatAddress(address) })
    }
  }

  /** True where `to` will get a socket of this address. Port 0 asks for a new port, unless it is the same listener. */
  claim(to: Listener, address: Address): boolean {
    const key = formatAddress(address)
    const fixed = address.kind === 'pipe' || address.port !== 0
    const at = this.#offers.findIndex((offer) => offer.key === key && (fixed || offer.from.name === to.name))
    if (at < 0) return false
    const [{ from }] = this.#offers.splice(at, 1)
    this.#transfers.push({ from, to, address })
    return true
  }

  perform(): void {
    for (const { from, to, address } of this.#transfers) to.adopt(from, address)
  }
}
