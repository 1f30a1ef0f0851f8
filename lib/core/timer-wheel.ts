import type { Cancel, Clock } from './clock.ts'
import { TurnQueue, type TurnWork } from './turn.ts'
import { TURN_MS, TurnShare } from './turn-share.ts'

/** What happens when a timer is due. */
export interface Due {
  /** Called once when due; the timer is disarmed by then and may be armed again. */
  onDue(nowMs: number): void
  /** Timeouts have changed while it is armed: it may be due earlier now. Missing: it is not. */
  reconsider?(nowMs: number): void
}

/**
 * One deadline. Its own list node, so arming allocates nothing; an object beside its subject, so that the wheel meets
 * one shape of object and not each of those that have deadlines.
 */
export class Timer implements HasTimer {
  /** Absolute monotonic milliseconds; meaningful while armed. */
  dueMs = 0
  /** @internal */
  before: Timer | undefined = undefined
  /** @internal */
  after: Timer | undefined = undefined
  readonly subject: Due

  constructor(subject: Due) {
    this.subject = subject
  }

  get armed(): boolean {
    return this.after !== undefined
  }

  /** Of `HasTimer`. */
  get timer(): Timer {
    return this
  }
}

/** Something with a deadline. */
export interface HasTimer {
  readonly timer: Timer
}

/** The same as a base class. What is made for each request has its timer itself: it costs less there. */
export abstract class Timed implements Due, HasTimer {
  readonly timer: Timer = new Timer(this)

  get armed(): boolean {
    return this.timer.armed
  }

  abstract onDue(nowMs: number): void
  reconsider(_nowMs: number): void {}
}

const NOBODY: Due = Object.freeze({ onDue: () => {} })

const SLOTS = 512
/** A tick that comes so much late comes after a stall of the loop, ms. */
const LATE_MS = 100
/** How long deadlines wait after a stall for those who stand in line with what arrived meanwhile, ms. */
const PATIENCE_MS = 1_000
/** Deadlines that are met between two looks at the clock; a power of two. */
const LOOK_AT_CLOCK = 16

/** The head of a ring. */
function emptySlot(): Timer {
  const slot = new Timer(NOBODY)
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
  /** And what may not all happen in one turn. */
  readonly share: TurnShare = new TurnShare(this)
  readonly tickMs: number
  /** Monotonic time of the latest tick or `now`: at most one tick old while anything is armed. */
  nowMs: number
  readonly #slots: Timer[]
  readonly #due = emptySlot()
  #armed = 0
  #fresh = false
  #wallFresh = false
  #wallMs = 0
  #lastTick: number
  #cancel: Cancel | undefined = undefined
  /** When the next tick should come. */
  #expectedMs = 0
  #patientMs = 0

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
    this.share.begin()
  }

  /** Number of entries armed; tests assert that it returns to 0. */
  get armed(): number {
    return this.#armed
  }

  /** Arms (or re-arms) `entry` to fire `delayMs` from now. */
  arm(entry: HasTimer, delayMs: number): void {
    if (this.#cancel === undefined) this.#start()
    this.armAt(entry, this.clock.now() + delayMs)
  }

  /** As `arm`, for an absolute monotonic time. */
  armAt({ timer }: HasTimer, dueMs: number): void {
    if (timer.after !== undefined) this.#remove(timer)
    if (this.#cancel === undefined) this.#start()
    timer.dueMs = dueMs
    const tick = Math.max(Math.ceil(dueMs / this.tickMs), this.#lastTick + 1)
    const slot = this.#slots[tick % SLOTS]
    const last = slot.before as Timer
    timer.before = last
    timer.after = slot
    last.after = timer
    slot.before = timer
    this.#armed++
  }

  /** Harmless where the entry is not armed. */
  disarm({ timer }: HasTimer): void {
    if (timer.after !== undefined) this.#remove(timer)
  }

  #remove(timer: Timer): void {
    const before = timer.before as Timer
    const after = timer.after as Timer
    before.after = after
    after.before = before
    timer.before = timer.after = undefined
    this.#armed--
  }

  /** Asks everything that is armed whether it is due earlier now. In time that depends on how much that is. */
  reconsider(): void {
    const armed: Timer[] = []
    for (const slot of this.#slots) {
      for (let timer = slot.after as Timer; timer !== slot; timer = timer.after as Timer) armed.push(timer)
    }
    const now = this.clock.now()
    // What an entry does may disarm others.
    for (const timer of armed) if (timer.armed) timer.subject.reconsider?.(now)
  }

  /** Disarms everything and stops ticking. */
  close(): void {
    this.#cancel?.()
    this.#cancel = undefined
    for (const slot of [...this.#slots, this.#due]) while (slot.after !== slot) this.#remove(slot.after as Timer)
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
    this.#patientMs = this.clock.now() + PATIENCE_MS
    this.#soon(this.#afterStall)
  }

  /** What arrived in the time of the stall has been read, unless it stands in line for long. */
  readonly #afterStall = (): void => {
    if (this.share.crowded && this.clock.now() < this.#patientMs) this.#soon(this.#afterStall)
    else this.#tick()
  }

  #soon(run: () => void): void {
    const after = setImmediate(run)
    this.#cancel = () => clearImmediate(after)
  }

  readonly #tick = (): void => {
    const now = this.clock.now()
    this.nowMs = now
    const tick = Math.floor(now / this.tickMs)
    // After a long stall one turn of the wheel visits every slot.
    const first = Math.max(this.#lastTick + 1, tick - SLOTS + 1)
    this.#lastTick = tick
    // Two phases: onDue may disarm or arm others, so what is due moves to a list of its own first.
    for (let t = first; t <= tick; t++) this.#collect(this.#slots[t % SLOTS], now)
    this.#runDue()
  }

  #collect(slot: Timer, now: number): void {
    for (let timer = slot.after as Timer; timer !== slot; ) {
      const next = timer.after as Timer
      if (timer.dueMs <= now) this.#move(timer, this.#due)
      timer = next
    }
  }

  /** Thousands that were armed in one moment are due in one: a part of them in each turn. */
  readonly #runDue = (): void => {
    const due = this.#due
    let now = this.clock.now()
    const endMs = now + TURN_MS
    this.nowMs = now
    for (let count = 1; due.after !== due && now <= endMs; count++) {
      const timer = due.after as Timer
      this.#remove(timer)
      timer.subject.onDue(now)
      if ((count & (LOOK_AT_CLOCK - 1)) === 0) now = this.clock.now()
    }
    if (due.after !== due) this.#soon(this.#runDue)
    else if (this.#armed > 0) this.#schedule()
    else this.#cancel = undefined
  }

  #move(timer: Timer, list: Timer): void {
    const before = timer.before as Timer
    const after = timer.after as Timer
    before.after = after
    after.before = before
    const last = list.before as Timer
    timer.before = last
    timer.after = list
    last.after = timer
    list.before = timer
  }
}
