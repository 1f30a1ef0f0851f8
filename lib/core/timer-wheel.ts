import type { Cancel, Clock } from './clock.ts'
import { TurnQueue, type TurnWork } from './turn.ts'

/** Something with a deadline. Intrusive: an entry is its own list node, so arming allocates nothing. */
export abstract class Timed {
  /** Absolute monotonic milliseconds; meaningful while armed. */
  dueMs = 0
  before: Timed | undefined = undefined
  after: Timed | undefined = undefined
  /** Called once when due; the entry is disarmed by then and may be armed again. */
  abstract onDue(nowMs: number): void
  /** Timeouts have changed while it is armed: it may be due earlier now. Default: it is not. */
  reconsider(_nowMs: number): void {}
}

/** One whose `onDue` looks whether anything is due, and arms it again where nothing is. */
export abstract class Rechecked extends Timed {
  override reconsider(nowMs: number): void {
    this.onDue(nowMs)
  }
}

class Slot extends Timed {
  override onDue(): void {}
}

const SLOTS = 512
/** A tick that comes so much late comes after a stall of the loop, ms. */
const LATE_MS = 100

function emptySlot(): Slot {
  const slot = new Slot()
  slot.before = slot.after = slot
  return slot
}

/**
 * Coarse timers for everything that has a deadline: one tick for all of them instead of one runtime timer each. Arming
 * and disarming are a list insertion and removal. An entry fires at its deadline or up to one tick later, never earlier.
 * The wheel sleeps while nothing is armed.
 *
 * Timers of the runtime come before the sockets' events of a turn. After a stall of the loop the deadlines of that time
 * wait until those have been read: what has long arrived is not late because we were.
 */
export class TimerWheel implements TurnWork {
  readonly clock: Clock
  /** The other scheduler of an engine: what happens when the events of this turn have been read. */
  readonly turn: TurnQueue = new TurnQueue()
  readonly tickMs: number
  /** Monotonic time of the latest tick or `now`: at most one tick old while anything is armed. */
  nowMs: number
  readonly #slots: Slot[]
  readonly #due = emptySlot()
  #armed = 0
  #fresh = false
  #wallFresh = false
  #wallMs = 0
  #lastTick: number
  #cancel: Cancel | undefined = undefined
  /** When the next tick should come. */
  #expectedMs = 0

  constructor(clock: Clock, tickMs = 20) {
    this.clock = clock
    this.tickMs = tickMs
    this.nowMs = clock.now()
    this.#lastTick = Math.floor(this.nowMs / tickMs)
    this.#slots = Array.from({ length: SLOTS }, emptySlot)
  }

  /** The time of this turn of the loop: read once, then good until the turn ends. For what is measured on each request. */
  now(): number {
    if (!this.#fresh) {
      this.#fresh = true
      this.nowMs = this.clock.now()
      this.turn.defer(this)
    }
    return this.nowMs
  }

  /** Wall time of this turn, ms since the epoch: for what is logged and printed. */
  wall(): number {
    if (!this.#wallFresh) {
      this.now()
      this.#wallFresh = true
      this.#wallMs = this.clock.wall()
    }
    return this.#wallMs
  }

  turnEnds(): void {
    this.#wallFresh = false
    this.#fresh = false
  }

  /** Number of entries armed; tests assert that it returns to 0. */
  get armed(): number {
    return this.#armed
  }

  /** Arms (or re-arms) `entry` to fire `delayMs` from now. */
  arm(entry: Timed, delayMs: number): void {
    if (this.#cancel === undefined) this.#start()
    this.armAt(entry, this.clock.now() + delayMs)
  }

  /** As `arm`, for an absolute monotonic time. */
  armAt(entry: Timed, dueMs: number): void {
    if (entry.after !== undefined) this.disarm(entry)
    if (this.#cancel === undefined) this.#start()
    entry.dueMs = dueMs
    const tick = Math.max(Math.ceil(dueMs / this.tickMs), this.#lastTick + 1)
    const slot = this.#slots[tick % SLOTS]
    const last = slot.before as Timed
    entry.before = last
    entry.after = slot
    last.after = entry
    slot.before = entry
    this.#armed++
  }

  /** Harmless where the entry is not armed. */
  disarm(entry: Timed): void {
    const { before, after } = entry
    if (after === undefined || before === undefined) return
    before.after = after
    after.before = before
    entry.before = entry.after = undefined
    this.#armed--
  }

  /** Asks everything that is armed whether it is due earlier now. In time that depends on how much that is. */
  reconsider(): void {
    const armed: Timed[] = []
    for (const slot of this.#slots) {
      for (let entry = slot.after as Timed; entry !== slot; entry = entry.after as Timed) armed.push(entry)
    }
    const now = this.clock.now()
    // What an entry does may disarm others.
    for (const entry of armed) if (entry.after !== undefined) entry.reconsider(now)
  }

  /** Disarms everything and stops ticking. */
  close(): void {
    this.#cancel?.()
    this.#cancel = undefined
    for (const slot of this.#slots) while (slot.after !== slot) this.disarm(slot.after as Timed)
  }

  #start(): void {
    this.nowMs = this.clock.now()
    this.#lastTick = Math.floor(this.nowMs / this.tickMs)
    this.#schedule()
  }

  #schedule(): void {
    this.#expectedMs = this.nowMs + this.tickMs
    this.#cancel = this.clock.schedule(this.tickMs, this.#onTick)
  }

  readonly #onTick = (): void => {
    if (this.clock.now() - this.#expectedMs < LATE_MS) {
      this.#tick()
      return
    }
    const after = setImmediate(this.#tick)
    this.#cancel = () => clearImmediate(after)
  }

  readonly #tick = (): void => {
    const now = this.clock.now()
    this.nowMs = now
    const tick = Math.floor(now / this.tickMs)
    // After a long stall one turn of the wheel visits every slot.
    const first = Math.max(this.#lastTick + 1, tick - SLOTS + 1)
    this.#lastTick = tick
    for (let t = first; t <= tick; t++) this.#run(this.#slots[t % SLOTS], now)
    if (this.#armed > 0) this.#schedule()
    else this.#cancel = undefined
  }

  #run(slot: Slot, now: number): void {
    // Two phases: onDue may disarm or arm others, so what is due moves to a list of its own first.
    const due = this.#due
    for (let entry = slot.after as Timed; entry !== slot; ) {
      const next = entry.after as Timed
      if (entry.dueMs <= now) this.#move(entry, due)
      entry = next
    }
    while (due.after !== due) {
      const entry = due.after as Timed
      this.disarm(entry)
      entry.onDue(now)
    }
  }

  #move(entry: Timed, list: Slot): void {
    const before = entry.before as Timed
    const after = entry.after as Timed
    before.after = after
    after.before = before
    const last = list.before as Timed
    entry.before = last
    entry.after = list
    last.after = entry
    list.before = entry
  }
}
