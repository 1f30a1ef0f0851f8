import type { TimerWheel } from './timer-wheel.ts'
import type { TurnWork } from './turn.ts'

/** What the events of one turn may take before whoever can wait does, ms. */
export const TURN_MS = 2
/** The clock is read for one look of so many. */
const LOOKS = 2
/** Pieces of work that one who stands in line does at a time. */
const PIECES = 8

/** What counts of the work of one who waits, in bytes: whoever wants more waits with all the others who do. */
const MOST_WAITING = 512
/** What being served costs, however little there is to do: without it those who want nothing would keep all others out. */
const VISIT = 64
/** Of what a turn took for all that does not stand in line, the line has so much, if that is more. */
const PART_OF_TURN = 0.5

/** Somebody who may have more to do than fits into a turn. */
export interface Patient {
  /** What waits, in bytes of input that cost more than being passed on; counted no further than `enough`. */
  waiting(enough: number): number
  /** Goes on, at least one piece and until `TurnShare.spent`. True: there is more. Must not throw. */
  goOn(): boolean
}

interface Place {
  readonly patient: Patient
  /** When it is served, in virtual time: the least is next. */
  due: number
  /** Of what it wants, what counts this time. */
  cost: number
}

/**
 * Shares the turns of the event loop out between connections. One packet may hold hundreds of requests; a hundred such
 * packets in one turn would keep everybody else waiting for all of them. So whoever takes packets apart asks `spent` before
 * each piece of work; from then on work stands in line. Of that as much is done in each turn as there is time for, a few
 * pieces of each connection after the other, and those that want little come before those that want much (weighted fair
 * queueing: nobody waits for ever).
 *
 * A loop that is not busy never gets there, and pays a look at the clock for every second piece.
 */
export class TurnShare implements TurnWork {
  readonly #wheel: TimerWheel
  #looks = 0
  /** Since when this turn's work is done; -1: nobody has looked. */
  #begunMs = -1
  #budgetMs = TURN_MS
  #spent = false
  #laterMs = 0
  /** What the line took of this turn. */
  #servedMs = 0
  #line: Place[] = []
  #serving = false
  /** Pieces that are left to whoever is being served. */
  #pieces = 0
  /** Virtual time: what each of those in line would have been given by now if all had been served at once. */
  #virtual = 0

  /** Of `TimerWheel.now()`, by which a turn begins. */
  constructor(wheel: TimerWheel) {
    this.#wheel = wheel
  }

  /** The time of this turn has been used, or the share of whoever asks. */
  get spent(): boolean {
    if (this.#serving && --this.#pieces <= 0) return true
    if (this.#spent || (this.#looks++ & (LOOKS - 1)) !== 0) return this.#spent
    return this.#look()
  }

  #look(): boolean {
    if (this.#begunMs < 0) this.#begunMs = this.#wheel.now()
    this.#spent = this.#wheel.clock.now() + this.#laterMs - this.#begunMs > this.#budgetMs
    return this.#spent
  }

  /** Work that the runtime puts off has been begun: it counts as done. */
  charge(ms: number): void {
    // So that the turn has an end.
    this.#wheel.now()
    this.#laterMs += ms
  }

  /** @internal The events of a turn have been read. */
  begin(): void {
    this.#begunMs = -1
    this.#budgetMs = TURN_MS
    this.#spent = false
    this.#laterMs = 0
  }

  /** Somebody waits. */
  get crowded(): boolean {
    return this.#line.length > 0
  }

  /** Not to be called for one that stands in line already. */
  wait(patient: Patient): void {
    const cost = costOf(patient)
    const place = { patient, cost, due: this.#virtual + cost }
    if (this.#line.push(place) === 1 && !this.#serving) this.#later()
  }

  /** When what waits for the end of the turn has been done; from then on the next turn's time runs. */
  #later(): void {
    this.#wheel.now()
    this.#wheel.turn.deferLast(this)
  }

  /** Of `TurnWork`. */
  turnEnds(): void {
    const tookMs = this.#wheel.clock.now() - this.#wheel.nowMs - this.#servedMs
    this.#begunMs = this.#wheel.now()
    this.#budgetMs = Math.max(TURN_MS, tookMs * PART_OF_TURN)
    this.#serving = true
    do this.#serveEach()
    while (this.#line.length > 0 && !this.#look())
    this.#serving = false
    this.#servedMs = 0
    if (this.#line.length === 0) return
    // Of the turn that ends next, which has begun with this.
    this.#servedMs = this.#wheel.clock.now() - this.#begunMs
    this.#later()
  }

  /** One round; those for whom there is no time keep their places. */
  #serveEach(): void {
    const line = this.#line
    this.#line = []
    if (line.length > 1) line.sort(before)
    let at = 0
    do {
      const place = line[at++]
      this.#virtual += place.cost / line.length
      this.#pieces = PIECES
      if (!place.patient.goOn()) continue
      place.cost = costOf(place.patient)
      place.due = Math.max(this.#virtual, place.due) + place.cost
      this.#line.push(place)
    } while (at < line.length && !this.#look())
    for (; at < line.length; at++) this.#line.push(line[at])
  }
}

function costOf(patient: Patient): number {
  return VISIT + Math.min(patient.waiting(MOST_WAITING), MOST_WAITING)
}

function before(one: Place, other: Place): number {
  return one.due - other.due
}
