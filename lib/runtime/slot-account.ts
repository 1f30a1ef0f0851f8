import type { Bank } from './lease-ledger.ts'
import { equalShare, type Recall, type SlotNote } from './lease-notes.ts'
import { Round } from './lease-round.ts'

/** What one worker holds, as far as it has said or was told anything. */
interface Holder {
  /** As it names it: one that drains goes on with the limit that it had. Undefined: it has said nothing yet. */
  limit: number | undefined
  /** What it counts, where the limit grows with that. */
  counted: number
  /** When it said so. */
  countedMs: number
  start: number
  given: number
  forced: number
  returned: number
  /** The latest question that has come. */
  ask: number
  /** It knows of all that it was given, and nobody uses the key there. */
  closed: boolean
}

/** A worker that would have more. */
interface Hungry {
  readonly ask: number
  want: number
  ahead: number
  /** The others have been asked on its behalf. */
  searched: boolean
  /** Told that there is nothing; what becomes free until then is sent to it all the same. */
  told: boolean
  readonly untilMs: number
}

/** Beside figures. */
interface Told {
  readonly dry?: boolean
  readonly short?: boolean
  readonly recall?: Recall
}

const HUNGRY_MS = 1000
/** What a worker counts is taken to be that for so long. */
const COUNTED_MS = 100
/** Workers that hold too much together are told again after that. */
const EXCESS_MS = 250

/** The room under one limit: what of it each worker holds. A worker of which nothing is known holds its equal share. */
export class SlotAccount {
  readonly #key: string
  readonly #bank: Bank
  #limit: number
  /** Of what all count; -1: the limit does not grow. */
  #percent = -1
  readonly #holders = new Map<number, Holder>()
  readonly #hungry = new Map<number, Hungry>()
  readonly #round: Round
  #excessMs = Number.NEGATIVE_INFINITY

  constructor(key: string, limit: number, bank: Bank) {
    this.#key = key
    this.#limit = limit
    this.#bank = bank
    this.#round = new Round(
      (delayMs, run) => bank.later(delayMs, run),
      (late) => {
        bank.late(late)
        this.serve()
      },
    )
  }

  /** What no worker holds; below 0: they hold too much. */
  get free(): number {
    let held = 0
    for (const worker of this.#bank.lessees.keys()) held += this.heldBy(worker)
    return this.#most - held
  }

  /** What they may hold together. */
  get #most(): number {
    if (this.#percent < 0) return this.#limit
    let counted = 0
    for (const holder of this.#holders.values()) counted += holder.counted
    return Math.max(this.#limit, Math.floor((counted * this.#percent) / 100))
  }

  get #countedLongAgo(): boolean {
    if (this.#percent < 0) return false
    const sinceMs = this.#bank.clock.now() - COUNTED_MS
    for (const { counted, countedMs } of this.#holders.values()) if (counted > 0 && countedMs < sinceMs) return true
    return false
  }

  heldBy(worker: number): number {
    const holder = this.#holders.get(worker)
    return holder === undefined ? this.#shareOf(worker) : held(holder)
  }

  #shareOf(worker: number): number {
    const { lessees, seats } = this.#bank
    return equalShare(this.#limit, lessees.get(worker)?.seat ?? -1, seats)
  }

  get empty(): boolean {
    return this.#holders.size === 0 && this.#hungry.size === 0
  }

  // --- from workers ---------------------------------------------------------------------------------------------------

  note(worker: number, note: SlotNote): void {
    let holder = this.#holders.get(worker)
    const named = holder?.limit
    if (named === undefined ? !this.#confirmed(worker) : named !== note.limit) this.#limit = note.limit
    if (holder === undefined) {
      const { limit, start, given, forced, returned } = note
      holder = { limit, counted: 0, countedMs: 0, start, given, forced, returned, ask: 0, closed: note.closed }
      this.#holders.set(worker, holder)
    } else {
      holder.limit = note.limit
      holder.forced = Math.max(holder.forced, note.forced)
      holder.returned = Math.max(holder.returned, note.returned)
      holder.closed = note.closed && note.given >= holder.given
    }
    if (note.budget !== undefined) this.#percent = note.budget.percent
    holder.counted = note.budget?.counted ?? 0
    holder.countedMs = this.#bank.clock.now()
    this.#round.answered(worker, note.round)
    const { ask, want, ahead, given } = note
    if (ask <= holder.ask) return
    holder.ask = ask
    // What is on its way there counts.
    const coming = holder.given - given
    const untilMs = this.#bank.clock.now() + HUNGRY_MS
    const rest = Math.max(0, want - coming)
    // At the end of the line.
    this.#hungry.delete(worker)
    this.#hungry.set(worker, { ask, want: rest, ahead, searched: false, told: false, untilMs })
  }

  /** A worker that came later than that one has said that this is the limit: those that drain are older. */
  #confirmed(worker: number): boolean {
    for (const [other, { limit, closed }] of this.#holders) {
      if (other > worker && !closed && limit === this.#limit) return true
    }
    return false
  }

  /** To be followed by `serve`, where all is known that can be. */
  leave(worker: number): void {
    this.#holders.delete(worker)
    this.#hungry.delete(worker)
    this.#round.gone(worker)
  }

  /** A worker has a share now: of this limit, what of it is there. */
  seated(worker: number): void {
    if (this.#holders.has(worker)) return
    const share = this.#shareOf(worker)
    const given = Math.max(0, Math.min(share, this.free + share))
    this.#holders.set(worker, newHolder(0, given, true))
    this.#tell(worker, 0)
  }

  // --- decisions ------------------------------------------------------------------------------------------------------

  /** Gives what there is to those that want it, in turn; looks for more where it is not enough. */
  serve(): void {
    let free = this.free
    if (free < 0) this.#reduce(-free)
    // What was looked for on somebody's behalf is theirs; those that have been told that there is nothing wait for nothing.
    free = this.#share(free, (hungry) => hungry.searched && !hungry.told)
    // What the limit comes to has to be asked where it was told long ago.
    if (!this.#countedLongAgo) free = this.#share(free, (hungry) => !hungry.searched)
    // Of these, those that have less than their share come first.
    free = this.#share(free, (hungry, worker) => hungry.told && this.heldBy(worker) < this.#shareOf(worker))
    free = this.#share(free, (hungry) => hungry.told)
    if (this.#hungry.size > 0 && !this.#round.open) this.#search()
    else if (this.#hungry.size === 0 && free > 0) this.#restore(free)
  }

  /** Answers what is left. */
  #share(free: number, among: (hungry: Hungry, worker: number) => boolean): number {
    let left = free
    let wanted = 0
    const sharing: [number, Hungry][] = []
    for (const entry of this.#hungry) {
      if (!among(entry[1], entry[0])) continue
      sharing.push(entry)
      wanted += entry[1].want
    }
    for (const [worker, hungry] of sharing) {
      const needed = Math.max(0, Math.min(left, hungry.want))
      const count = needed + Math.max(0, Math.min(left - wanted, hungry.ahead))
      left -= count
      wanted -= hungry.want
      hungry.want -= needed
      this.#answer(worker, hungry, count)
    }
    return left
  }

  /** `count`: what it gets now, on what it still wants. */
  #answer(worker: number, hungry: Hungry, count: number): void {
    const { ask, want, searched, told } = hungry
    const asked = searched && !this.#round.open
    const done = want === 0 && (count > 0 || hungry.ahead === 0 || asked)
    if (count > 0) this.#holderOf(worker).given += count
    if (done) this.#hungry.delete(worker)
    else if (told && hungry.untilMs <= this.#bank.clock.now()) this.#hungry.delete(worker)
    const over = done || (asked && !told)
    if (over) hungry.told = true
    const dry = over && want > 0
    const short = over && want === 0 && count === 0 && hungry.ahead > 0
    if (over || count > 0) this.#tell(worker, over ? ask : 0, { dry, short })
  }

  /** Asks the others for what those that wait want; for what some would like to have besides, when nobody waits. */
  #search(): void {
    let want = 0
    let ahead = 0
    for (const hungry of this.#hungry.values()) {
      if (hungry.searched) continue
      want += hungry.want
      ahead += hungry.ahead
    }
    const hard = want > 0
    const waiting: number[] = []
    for (const [worker, hungry] of this.#hungry) {
      // Others keep what is not waited for: that there is no more cannot be told from what they give now.
      if (hungry.searched || (hard && hungry.want === 0)) continue
      hungry.searched = true
      waiting.push(worker)
    }
    if (waiting.length === 0) return
    const others: number[] = []
    for (const worker of this.#bank.lessees.keys()) {
      const hungry = this.#hungry.get(worker)
      const alone = waiting.length === 1 && waiting[0] === worker
      const waits = alone || (hungry !== undefined && !hungry.told && hungry.want > 0)
      // Where the limit grows with what they count, what they have of it is not all that is asked.
      if (!waits && (this.heldBy(worker) > 0 || this.#percent >= 0)) others.push(worker)
    }
    const round = this.#round.begin(this.#bank.answering(others))
    for (const worker of others) this.#recall(worker, { round, count: hard ? want : ahead, hard })
    if (!this.#round.open) this.serve()
  }

  /** More is held than there is, since the limit was lowered or workers have gone on without this process. */
  #reduce(excess: number): void {
    const now = this.#bank.clock.now()
    if (this.#round.open || now < this.#excessMs + EXCESS_MS) return
    this.#excessMs = now
    const others = [...this.#bank.lessees.keys()].filter((worker) => this.heldBy(worker) > 0)
    if (others.length === 0) return
    const round = this.#round.begin(this.#bank.answering(others))
    for (const worker of others) this.#recall(worker, { round, count: excess, hard: true })
  }

  /** Nobody wants more than its share: what was taken from some for others goes back to them. */
  #restore(free: number): void {
    let left = free
    for (const worker of this.#bank.lessees.keys()) if (this.heldBy(worker) > this.#shareOf(worker)) return
    for (const [worker, holder] of this.#holders) {
      const count = Math.min(left, this.#shareOf(worker) - held(holder))
      if (count <= 0 || holder.closed || this.#bank.lessees.get(worker)?.silent !== false) continue
      left -= count
      holder.given += count
      this.#tell(worker, 0)
    }
  }

  #recall(worker: number, recall: Recall): void {
    this.#holderOf(worker)
    this.#tell(worker, 0, { recall })
  }

  #holderOf(worker: number): Holder {
    let holder = this.#holders.get(worker)
    if (holder === undefined) {
      holder = newHolder(this.#shareOf(worker), 0, false)
      this.#holders.set(worker, holder)
    }
    return holder
  }

  #tell(worker: number, answered: number, { dry = false, short = false, recall }: Told = {}): void {
    const { start, given } = this.#holderOf(worker)
    this.#bank.tell(worker, {
      kind: 'slots',
      key: this.#key,
      limit: this.#limit,
      start,
      given,
      free: Math.max(0, this.free),
      answered,
      dry,
      short,
      ...(recall && { recall }),
    })
  }

  /** True: nobody uses it any more, and all has been given back; whoever knows of it may forget it. */
  tidy(): boolean {
    const now = this.#bank.clock.now()
    for (const [worker, { untilMs }] of this.#hungry) if (untilMs <= now) this.#hungry.delete(worker)
    if (this.#round.open || this.#hungry.size > 0) return false
    for (const holder of this.#holders.values()) if (!holder.closed) return false
    for (const worker of this.#holders.keys()) {
      const { start, given } = this.#holderOf(worker)
      const key = this.#key
      this.#bank.tell(worker, {
        kind: 'slots',
        key,
        limit: this.#limit,
        start,
        given,
        free: 0,
        answered: 0,
        dry: false,
        short: false,
        forgotten: true,
      })
    }
    this.#round.close()
    return true
  }
}

/** Of a worker that has said nothing yet. */
function newHolder(start: number, given: number, closed: boolean): Holder {
  return { limit: undefined, counted: 0, countedMs: 0, start, given, forced: 0, returned: 0, ask: 0, closed }
}

function held({ start, given, forced, returned }: Holder): number {
  return start + given + forced - returned
}
