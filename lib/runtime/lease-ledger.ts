import type { Cancel, Clock } from '../core/clock.ts'
import type { LeaseGrant, LeaseGrants, LeaseNote, LeaseNotes } from './lease-notes.ts'
import { SlotAccount } from './slot-account.ts'
import { TokenAccount } from './token-account.ts'

/** How long a control process that was started again waits for the reports of the workers before it grants anything. */
const REPORTS_MS = 1000
/** How often accounts are looked for that nobody needs. */
const SWEEP_MS = 10_000
/** Token buckets that nobody has and that are not full again: clients may name any number, and a full one a day later. */
const MOST_UNUSED = 10_000

export interface LeaseLedgerOptions {
  readonly clock: Clock
  /** Shares that a limit is divided into: the number of workers. */
  readonly seats: number
  /** Workers may hold something that this process knows nothing of. */
  readonly restarted: boolean
  send(worker: number, grants: LeaseGrants): void
}

/** One worker process. */
export interface Lessee {
  readonly worker: number
  session: number
  /** -1: more processes than shares; it has none from the start. */
  seat: number
  /** All that it has is known. */
  reported: boolean
  /** It has let a question pass: nobody waits for it until it says something again. */
  silent: boolean
}

/** What accounts need of the ledger. */
export interface Bank {
  readonly clock: Clock
  readonly seats: number
  /** Of the workers that have reported. */
  readonly lessees: ReadonlyMap<number, Lessee>
  /** Goes with all that is said to that worker in this turn. */
  tell(worker: number, grant: LeaseGrant): void
  /** Those of them that answer. */
  answering(workers: readonly number[]): readonly number[]
  /** They have not answered in time. */
  late(workers: Iterable<number>): void
  /** After a while, outside of any turn. */
  later(delayMs: number, run: () => void): Cancel
}

/**
 * Who holds what of the limits of the whole gateway. It knows keys and limits from what workers say, so it needs no
 * configuration; a limit that nobody reaches is not in it.
 */
export class LeaseLedger implements Bank {
  readonly clock: Clock
  readonly seats: number
  readonly #options: LeaseLedgerOptions
  readonly #all = new Map<number, Lessee>()
  readonly #lessees = new Map<number, Lessee>()
  readonly #slots = new Map<string, SlotAccount>()
  readonly #tokens = new Map<string, TokenAccount>()
  #ready: boolean
  #outgoing = new Map<number, LeaseGrant[]>()
  #sweep: Cancel | undefined = undefined
  /** With so many token buckets those that nobody has are counted. */
  #crowded = 2 * MOST_UNUSED

  constructor(options: LeaseLedgerOptions) {
    this.#options = options
    this.clock = options.clock
    this.seats = options.seats
    this.#ready = !options.restarted
    if (!this.#ready) this.clock.schedule(REPORTS_MS, () => this.#turn(() => this.#begin()))
  }

  get lessees(): ReadonlyMap<number, Lessee> {
    return this.#lessees
  }

  /** Keys that something is known of. */
  get size(): number {
    return this.#slots.size + this.#tokens.size
  }

  /** A worker process runs; it is greeted, and reports. */
  up(worker: number): void {
    this.#all.set(worker, { worker, session: 0, seat: -1, reported: false, silent: false })
  }

  /** It has ended: what it held is free. */
  down(worker: number): void {
    this.#all.delete(worker)
    this.#lessees.delete(worker)
    this.#outgoing.delete(worker)
    this.#turn(() => {
      for (const account of this.#accounts()) account.leave(worker)
      if (this.#ready) {
        for (const account of this.#accounts()) account.serve()
        this.#giveSeats()
      }
      this.#checkReports()
    })
  }

  receive(worker: number, notes: LeaseNotes): void {
    const lessee = this.#all.get(worker)
    if (lessee === undefined) return
    lessee.silent = false
    if (notes.report) this.#turn(() => this.#report(lessee, notes))
    else if (notes.session === lessee.session && lessee.reported) {
      this.#turn(() => {
        for (const note of notes.notes) this.#note(worker, note)
      })
    }
  }

  #report(lessee: Lessee, { session, seat, last, notes }: LeaseNotes): void {
    const { worker } = lessee
    if (session < lessee.session) return
    if (session > lessee.session) {
      lessee.session = session
      lessee.reported = false
      this.#lessees.delete(worker)
      for (const account of this.#accounts()) account.leave(worker)
      lessee.seat = this.#isFree(seat, worker) ? seat : -1
    }
    for (const note of notes) this.#note(worker, note)
    if (!last) return
    lessee.reported = true
    this.#lessees.set(worker, lessee)
    if (this.#ready) this.#welcome(lessee)
    this.#checkReports()
  }

  #isFree(seat: number, worker: number): boolean {
    if (seat < 0 || seat >= this.seats) return false
    for (const other of this.#all.values()) if (other.seat === seat && other.worker !== worker) return false
    return true
  }

  #checkReports(): void {
    if (this.#ready || this.#all.size < this.seats || this.#lessees.size < this.#all.size) return
    this.#begin()
  }

  /** All is known that will be. */
  #begin(): void {
    if (this.#ready) return
    this.#ready = true
    for (const tokens of this.#tokens.values()) tokens.recovered()
    for (const lessee of [...this.#lessees.values()].sort((a, b) => a.worker - b.worker)) this.#welcome(lessee)
    for (const account of this.#accounts()) account.serve()
  }

  #welcome(lessee: Lessee): void {
    if (lessee.seat < 0) this.#giveSeats()
    // It hears of its seat in any case.
    this.#outgoingOf(lessee.worker)
    for (const account of this.#accounts()) account.serve()
  }

  /** Shares that are nobody's go to those that have none, in the order in which they came. */
  #giveSeats(): void {
    for (let seat = 0; seat < this.seats; seat++) {
      if (!this.#isFree(seat, -1)) continue
      let next: Lessee | undefined
      for (const lessee of this.#lessees.values()) {
        if (lessee.seat < 0 && (next === undefined || lessee.worker < next.worker)) next = lessee
      }
      if (next === undefined) return
      next.seat = seat
      this.#outgoingOf(next.worker)
      for (const account of this.#slots.values()) account.seated(next.worker)
    }
  }

  #note(worker: number, note: LeaseNote): void {
    // What comes with a report is served when all of it is known.
    const serves = this.#ready && this.#lessees.has(worker)
    if (note.kind === 'slots') {
      let account = this.#slots.get(note.key)
      if (account === undefined) {
        if (note.closed && note.ask === 0 && this.#lessees.has(worker)) return
        this.#slots.set(note.key, (account = new SlotAccount(note.key, note.limit, this)))
      }
      account.note(worker, note)
      if (serves) account.serve()
      if (account.empty) this.#slots.delete(note.key)
    } else {
      let account = this.#tokens.get(note.key)
      if (account === undefined) {
        if (this.#tokens.size >= this.#crowded && this.#ready) this.#thinOut()
        this.#tokens.set(note.key, (account = new TokenAccount(note, this)))
      }
      account.note(worker, note, !this.#ready)
      if (serves) account.serve()
    }
    this.#sweep ??= this.clock.schedule(SWEEP_MS, this.#onSweep)
  }

  readonly #onSweep = (): void => {
    this.#turn(() => {
      for (const [key, account] of this.#slots) if (account.tidy()) this.#slots.delete(key)
      for (const [key, account] of this.#tokens) if (account.tidy()) this.#tokens.delete(key)
    })
    this.#sweep = this.size === 0 ? undefined : this.clock.schedule(SWEEP_MS, this.#onSweep)
  }

  /** The oldest go, though they are not full: who names one again has a new one. */
  #thinOut(): void {
    const unused: string[] = []
    for (const [key, account] of this.#tokens) if (account.unused) unused.push(key)
    for (const key of unused.slice(0, Math.max(0, unused.length - MOST_UNUSED))) {
      this.#tokens.get(key)?.forget()
      this.#tokens.delete(key)
    }
    this.#crowded = 2 * Math.max(MOST_UNUSED, this.#tokens.size)
  }

  *#accounts(): Generator<SlotAccount | TokenAccount, void> {
    yield* this.#slots.values()
    yield* this.#tokens.values()
  }

  // --- for accounts ---------------------------------------------------------------------------------------------------

  tell(worker: number, grant: LeaseGrant): void {
    this.#outgoingOf(worker)?.push(grant)
  }

  answering(workers: readonly number[]): readonly number[] {
    return workers.filter((worker) => this.#all.get(worker)?.silent === false)
  }

  late(workers: Iterable<number>): void {
    for (const worker of workers) {
      const lessee = this.#all.get(worker)
      if (lessee !== undefined) lessee.silent = true
    }
  }

  later(delayMs: number, run: () => void): Cancel {
    return this.clock.schedule(delayMs, () => this.#turn(run))
  }

  #outgoingOf(worker: number): LeaseGrant[] | undefined {
    if (!this.#lessees.has(worker)) return undefined
    let grants = this.#outgoing.get(worker)
    if (grants === undefined) this.#outgoing.set(worker, (grants = []))
    return grants
  }

  /** What is said in it goes in one message to each worker. */
  #turn(run: () => void): void {
    run()
    const outgoing = this.#outgoing
    if (outgoing.size === 0) return
    this.#outgoing = new Map()
    for (const [worker, grants] of outgoing) {
      const lessee = this.#lessees.get(worker)
      if (lessee === undefined) continue
      const { session, seat } = lessee
      this.#options.send(worker, { kind: 'leased', session, seat, seats: this.seats, grants })
    }
  }
}
