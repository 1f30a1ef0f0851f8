/** Content of one event: its number and filling, as a server-sent event. */
export const EVENT_BYTES = 64

/** All events of a stream one after the other; event `n` begins at `n * EVENT_BYTES`. */
export function eventsOf(count: number): Buffer {
  const text = Array.from({ length: count }, (_, n) => `data: ${String(n).padStart(EVENT_BYTES - 8, '0')}\n\n`)
  return Buffer.from(text.join(''), 'latin1')
}

/** Sends event `n`, the last one where `last`; answers false when its stream is gone. */
export type SendEvent = (n: number, last: boolean) => boolean

interface Ticking {
  next: number
  readonly send: SendEvent
}

const SLOTS = 50
const PERIOD_MS = 1000

/** Gives every stream one event a second, `count` in all; streams are spread over the second in 50 steps. */
export class EventClock {
  readonly #slots: Set<Ticking>[] = Array.from({ length: SLOTS }, () => new Set<Ticking>())
  readonly #count: number
  #at = 0
  #nextSlot = 0
  #timer: NodeJS.Timeout | undefined

  constructor(count: number) {
    this.#count = count
  }

  /** The first event comes within a second. */
  add(send: SendEvent): void {
    this.#timer ??= setInterval(() => this.#tick(), PERIOD_MS / SLOTS)
    this.#slots[this.#nextSlot].add({ next: 0, send })
    this.#nextSlot = (this.#nextSlot + 1) % SLOTS
  }

  #tick(): void {
    const slot = this.#slots[this.#at]
    this.#at = (this.#at + 1) % SLOTS
    for (const one of slot) {
      const n = one.next++
      const last = n === this.#count - 1
      if (!one.send(n, last) || last) slot.delete(one)
    }
  }
}
