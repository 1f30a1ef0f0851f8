import type { Cancel, Clock } from '../core/clock.ts'
import type { Leases, SlotBudget, SlotLease, TokenLease } from '../core/lease.ts'
import type { TokenBucketConfig } from '../core/token-bucket.ts'
import type { LeaseGrants, LeaseNote, LeaseNotes } from './lease-notes.ts'
import { WorkerSlots } from './worker-slots.ts'
import { WorkerTokens } from './worker-tokens.ts'

/** A question that has not been answered by then will not be: control is taken to be away until it says something. */
const ANSWER_MS = 1000
/** How often what lies unused is looked for, while there may be any. */
const SWEEP_MS = 1000
/** Notes of a report go in pieces of so many. */
const REPORT_PIECE = 500

export interface WorkerLeasesOptions {
  readonly clock: Clock
  /** Shares that a limit is divided into: the number of workers. */
  readonly seats: number
  send(notes: LeaseNotes): void
  /** Runs it when this turn's events have been dealt with. Default: `setImmediate`. */
  readonly defer?: (run: () => void) => void
}

/**
 * The leases of a worker. What it says to control is gathered for a turn of the event loop, and is nothing where nothing
 * changes: limits that are never reached cost no message.
 *
 * ```
 * greeted ─▶ report ─▶ notes ⇄ grants
 *    ▲                   │ no answer, or control has ended
 *    └───────────────── away: equal shares
 * ```
 */
export class WorkerLeases implements Leases {
  readonly clock: Clock
  readonly seats: number
  seat = -1
  away = false
  readonly #options: WorkerLeasesOptions
  readonly #slots = new Map<string, WorkerSlots>()
  readonly #tokens = new Map<string, WorkerTokens>()
  #dirty = new Set<WorkerSlots | WorkerTokens>()
  readonly #watched = new Set<WorkerSlots | WorkerTokens>()
  #session = 0
  #heardMs = 0
  #deferred = false
  #timeout: Cancel | undefined = undefined
  #sweep: Cancel | undefined = undefined

  constructor(options: WorkerLeasesOptions) {
    this.clock = options.clock
    this.seats = options.seats
    this.#options = options
  }

  slots(key: string, limit: number, budget?: SlotBudget): SlotLease {
    let slots = this.#slots.get(key)
    if (slots === undefined) this.#slots.set(key, (slots = new WorkerSlots(key, limit, this)))
    slots.use(limit, budget)
    return slots
  }

  tokens(key: string, bucket: TokenBucketConfig): TokenLease {
    let tokens = this.#tokens.get(key)
    if (tokens === undefined) this.#tokens.set(key, (tokens = new WorkerTokens(key, bucket, this)))
    tokens.use(bucket)
    return tokens
  }

  /** Keys that something is known of. */
  get size(): number {
    return this.#slots.size + this.#tokens.size
  }

  // --- from control ---------------------------------------------------------------------------------------------------

  /** A control process introduces itself: it is told all that is held here. */
  greeted(): void {
    this.#session++
    this.#present()
    const dirty = this.#dirty
    this.#dirty = new Set()
    const notes: LeaseNote[] = []
    for (const held of this.#all()) if (held.rebase() || dirty.has(held)) notes.push(held.note())
    for (let at = 0; at === 0 || at < notes.length; at += REPORT_PIECE) {
      this.#send(notes.slice(at, at + REPORT_PIECE), at + REPORT_PIECE >= notes.length ? 'last' : 'piece')
    }
  }

  receive({ session, seat, grants }: LeaseGrants): void {
    if (session !== this.#session) return
    this.#present()
    if (seat !== this.seat) {
      this.seat = seat
      for (const slots of this.#slots.values()) slots.reseat()
    }
    for (const grant of grants) {
      if (grant.kind === 'tokens') this.#tokens.get(grant.key)?.granting(grant)
      else this.#slotsOf(grant.key, grant.limit).granting(grant)
    }
  }

  /** Room may be recalled that nobody has asked for here. */
  #slotsOf(key: string, limit: number): WorkerSlots {
    let slots = this.#slots.get(key)
    if (slots === undefined) this.#slots.set(key, (slots = new WorkerSlots(key, limit, this)))
    return slots
  }

  /** The control process has ended; the next one will greet. */
  controlGone(): void {
    if (this.away) return
    this.away = true
    for (const held of this.#all()) held.giveUp()
  }

  #present(): void {
    this.#heardMs = this.clock.now()
    if (!this.away) return
    this.away = false
    for (const slots of this.#slots.values()) slots.setRoom()
    for (const tokens of this.#tokens.values()) tokens.back()
    if (this.#dirty.size > 0) this.#later()
  }

  *#all(): Generator<WorkerSlots | WorkerTokens, void> {
    yield* this.#slots.values()
    yield* this.#tokens.values()
  }

  // --- from leases ----------------------------------------------------------------------------------------------------

  now(): number {
    return this.clock.now()
  }

  touch(held: WorkerSlots | WorkerTokens): void {
    this.#dirty.add(held)
    this.#later()
  }

  #later(): void {
    if (this.#deferred) return
    this.#deferred = true
    this.defer(this.#flush)
  }

  defer(run: () => void): void {
    const { defer = setImmediate } = this.#options
    defer(run)
  }

  readonly #flush = (): void => {
    this.#deferred = false
    if (this.#dirty.size === 0 || this.away || this.#session === 0) return
    const notes: LeaseNote[] = []
    for (const held of this.#dirty) notes.push(held.note())
    this.#dirty = new Set()
    this.#send(notes, 'notes')
  }

  #send(notes: readonly LeaseNote[], what: 'notes' | 'piece' | 'last'): void {
    const { seat } = this
    this.#options.send({
      kind: 'leases',
      session: this.#session,
      seat,
      report: what !== 'notes',
      last: what === 'last',
      notes,
    })
  }

  asked(): void {
    this.#timeout ??= this.clock.schedule(ANSWER_MS, this.#onTimeout)
  }

  readonly #onTimeout = (): void => {
    this.#timeout = undefined
    if (this.away) return
    const now = this.clock.now()
    let youngest = -1
    for (const held of this.#all()) {
      if (!held.asking) continue
      if (held.askedMs > now - ANSWER_MS) youngest = Math.max(youngest, held.askedMs)
      else if (this.#heardMs >= held.askedMs) held.giveUp()
      else {
        this.controlGone()
        return
      }
    }
    if (youngest >= 0) this.#timeout = this.clock.schedule(ANSWER_MS, this.#onTimeout)
  }

  watch(held: WorkerSlots | WorkerTokens): void {
    this.#watched.add(held)
    this.#sweep ??= this.clock.schedule(SWEEP_MS, this.#onSweep)
  }

  readonly #onSweep = (): void => {
    for (const held of this.#watched) if (!held.sweep()) this.#watched.delete(held)
    this.#sweep = this.#watched.size === 0 ? undefined : this.clock.schedule(SWEEP_MS, this.#onSweep)
  }

  forget(held: WorkerSlots | WorkerTokens): void {
    this.#dirty.delete(held)
    this.#watched.delete(held)
    const table: Map<string, unknown> = held instanceof WorkerSlots ? this.#slots : this.#tokens
    if (table.get(held.key) === held) table.delete(held.key)
  }
}
