import { isIPv4, type Socket } from 'node:net'
import type { Address } from '../core/address.ts'
import type { Cancel, Clock } from '../core/clock.ts'
import type { AddressOrderConfig } from './config.ts'

/** How long an attempt may be the only one (RFC 8305 §5 advises 250 ms; Envoy waits 300). */
const HEAD_START_MS = 300

/** Who waits for the outcome; exactly one of the two is called, never from within the constructor. */
export interface RaceEvents {
  won(socket: Socket): void
  /** All have failed. The error is that of the last. */
  lost(error: NodeJS.ErrnoException | undefined): void
}

export interface RaceParts {
  readonly clock: Clock
  readonly dial: (address: Address) => Socket
}

/**
 * Connects to the addresses of one endpoint: one after the other, each with a head start before the next, which comes at
 * once where one fails. The first that connects wins, the others are dropped (RFC 8305, "happy eyeballs"). With a single
 * address it is nothing but its connection.
 */
export class Race {
  readonly #addresses: readonly Address[]
  readonly #parts: RaceParts
  readonly #events: RaceEvents
  readonly #running = new Set<Runner>()
  #next = 0
  #cancel: Cancel | undefined = undefined
  #over = false

  /** @param addresses at least one, in the order of `raceOrder` */
  constructor(addresses: readonly Address[], parts: RaceParts, events: RaceEvents) {
    this.#addresses = addresses
    this.#parts = parts
    this.#events = events
    this.#start()
  }

  #start(): void {
    const address = this.#addresses[this.#next++]
    this.#running.add(new Runner(this.#parts.dial(address), this))
    if (this.#next >= this.#addresses.length) return
    this.#cancel = this.#parts.clock.schedule(HEAD_START_MS, () => this.#start())
  }

  connected(runner: Runner): void {
    this.#running.delete(runner)
    this.#end()
    this.#events.won(runner.socket)
    runner.leave()
  }

  failed(runner: Runner, error: NodeJS.ErrnoException | undefined): void {
    this.#running.delete(runner)
    if (this.#over) return
    if (this.#next < this.#addresses.length) {
      this.#cancel?.()
      this.#start()
    } else if (this.#running.size === 0) {
      this.#end()
      this.#events.lost(error)
    }
  }

  /** Ends it; `lost` without an error follows, as a socket's 'close' follows its `destroy`. */
  abort(): void {
    if (this.#over) return
    this.#end()
    process.nextTick(() => this.#events.lost(undefined))
  }

  #end(): void {
    this.#over = true
    this.#cancel?.()
    for (const runner of this.#running) runner.socket.destroy()
    this.#running.clear()
  }
}

/** One attempt. It listens until its socket is somebody else's: an error that nobody listens to would end the process. */
class Runner {
  readonly socket: Socket
  readonly #race: Race
  #error: NodeJS.ErrnoException | undefined = undefined

  constructor(socket: Socket, race: Race) {
    this.socket = socket
    this.#race = race
    socket.once('connect', this.#onConnect)
    socket.on('error', this.#onError)
    socket.on('close', this.#onClose)
  }

  readonly #onConnect = (): void => this.#race.connected(this)

  readonly #onError = (error: NodeJS.ErrnoException): void => {
    this.#error ??= error
  }

  readonly #onClose = (): void => this.#race.failed(this, this.#error)

  leave(): void {
    this.socket.off('error', this.#onError)
    this.socket.off('close', this.#onClose)
  }
}

const AS_GIVEN: AddressOrderConfig = Object.freeze({ firstFamily: 'given', firstFamilyCount: 1 })

/** The addresses with their families in turns (RFC 8305 §4): pipes stay where they are, at the end of the first family. */
export function raceOrder(addresses: readonly Address[], order: AddressOrderConfig = AS_GIVEN): readonly Address[] {
  if (addresses.length < 2) return addresses
  const four = addresses.filter((address) => address.kind === 'ip' && isIPv4(address.host))
  const others = addresses.filter((address) => !four.includes(address))
  const { firstFamily, firstFamilyCount } = order
  const fourFirst = firstFamily === 'given' ? four.includes(addresses[0]) : firstFamily === 'v4'
  const [first, second] = fourFirst ? [four, others] : [others, four]
  const sorted: Address[] = []
  for (let a = 0, b = 0; a < first.length || b < second.length; b++) {
    for (let n = 0; n < firstFamilyCount && a < first.length; n++) sorted.push(first[a++])
    if (b < second.length) sorted.push(second[b])
  }
  return sorted
}
