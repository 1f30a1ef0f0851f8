import { Timed, type TimerWheel } from '../../core/timer-wheel.ts'
import type { Host } from '../host.ts'
import type { Member } from './member.ts'

/** Who has not answered by then has nothing to say. */
const ANSWER_MS = 60

export interface ConfirmationParts {
  readonly wheel: TimerWheel
  /** Everybody has told what they knew of the host. */
  readonly confirmed: (host: Host, rows: Iterable<number>) => void
}

/**
 * Before a host is found to have failed too often in a row, in what several workers have seen, each of them is asked for what
 * it has not told yet: a good response in between counts, wherever it came.
 */
export class Confirmations implements Disposable {
  readonly #parts: ConfirmationParts
  readonly #open = new Map<Host, Confirmation>()

  constructor(parts: ConfirmationParts) {
    this.#parts = parts
  }

  /** False: there is nobody to ask. */
  ask(host: Host, row: number, members: readonly Member[]): boolean {
    const open = this.#open.get(host)
    if (open !== undefined) {
      open.rows.add(row)
      return true
    }
    if (members.length === 0) return false
    const made = new Confirmation(members, () => this.#settle(host))
    made.rows.add(row)
    this.#open.set(host, made)
    this.#parts.wheel.arm(made, ANSWER_MS)
    for (const member of members) member.ask(host.key)
    return true
  }

  answered(host: Host, member: Member): void {
    const open = this.#open.get(host)
    if (open?.waiting.delete(member) === true && open.waiting.size === 0) this.#settle(host)
  }

  /** It is gone. */
  left(member: Member): void {
    for (const host of [...this.#open.keys()]) this.answered(host, member)
  }

  #settle(host: Host): void {
    const open = this.#open.get(host)
    if (open === undefined) return
    this.#open.delete(host)
    this.#parts.wheel.disarm(open)
    this.#parts.confirmed(host, open.rows)
  }

  [Symbol.dispose](): void {
    for (const open of this.#open.values()) this.#parts.wheel.disarm(open)
    this.#open.clear()
  }
}

class Confirmation extends Timed {
  readonly rows = new Set<number>()
  readonly waiting: Set<Member>
  readonly #late: () => void

  constructor(members: readonly Member[], late: () => void) {
    super()
    this.waiting = new Set(members)
    this.#late = late
  }

  override onDue(): void {
    this.#late()
  }
}
