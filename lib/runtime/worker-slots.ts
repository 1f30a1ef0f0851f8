import { type SlotBudget, type SlotLease, type SlotObserver, shareOfCount } from '../core/lease.ts'
import { equalShare, type SlotGrant, type SlotNote } from './lease-notes.ts'
import type { SlotOwner } from './slot-owner.ts'

/** From here on a few more than the limit do no harm for a moment. */
const LARGE = 100
/** After an answer that there is nothing, control is not asked again for so long. What becomes free meanwhile is sent. */
const DRY_MS = 20
/** What was recalled is given back for so long as it is released. */
const OWED_MS = 1000

/**
 * The room that one worker has under one limit. It begins with its equal share, without a word; asks for more before the
 * last of it is taken, and gives back what it does not use.
 */
export class WorkerSlots implements SlotLease {
  readonly key: string
  limit: number
  active = 0
  users = 0
  budget: SlotBudget | undefined = undefined
  observer: SlotObserver | undefined = undefined
  /** Since when a question has waited for its answer. */
  askedMs = 0
  /** `start + given + forced - returned`. */
  granted: number
  /** How many may be taken: what was granted, or the equal share while nobody can be asked. */
  #room: number
  readonly #owner: SlotOwner
  #start: number
  #given = 0
  #forced = 0
  #returned = 0
  /** Control has never heard of it in this session, nor spoken of it. */
  #untold = true
  #free = 0
  /** Where less is left, more is asked for. */
  #low = 0
  #peak = 0
  #quietUntilMs = 0
  /** The same for what nobody waits for. */
  #quietAheadUntilMs = 0
  #asks = 0
  #answered = 0
  #waiting = 0
  /** Of those that waited, how many have been told and may not have taken theirs yet. */
  #promised = 0
  /** The last answer was that there is none. */
  #exhausted = false
  #ahead = 0
  #answer: PromiseWithResolvers<void> | undefined = undefined
  /** Forced beyond the limit: given back as soon as anything is released. */
  #over = 0
  #owed = 0
  #owedUntilMs = 0
  #round = 0

  constructor(key: string, limit: number, owner: SlotOwner) {
    this.key = key
    this.limit = limit
    this.#owner = owner
    this.#start = this.granted = this.#room = this.share
    this.#low = Math.floor(this.#start / 4)
  }

  get share(): number {
    return equalShare(this.limit, this.#owner.seat, this.#owner.seats)
  }

  /** While control knows nothing of it, what this worker has taken can only matter when it has taken all of its own. */
  get used(): number {
    if (this.#untold && this.active < this.granted) return 0
    return this.limit <= 0 ? 1 : this.active / this.limit
  }

  get remaining(): number {
    const { seats } = this.#owner
    if (this.budget !== undefined && this.#loan > this.granted) return this.#loan - this.active
    const elsewhere = this.#exhausted || seats === 1 ? 0 : Math.max(this.#free, Math.min(1, this.limit - this.granted))
    return this.granted - this.active + elsewhere
  }

  get idle(): boolean {
    return this.users === 0 && this.active === 0
  }

  // --- for whoever takes and releases ---------------------------------------------------------------------------------

  acquire(): boolean | Promise<boolean> {
    if (this.tryAcquire()) return true
    const asked = this.ask()
    return asked === undefined ? false : asked.then(() => this.tryAcquire())
  }

  tryAcquire(): boolean {
    if (this.active >= this.#room) return this.#borrow()
    const active = ++this.active
    if (active > this.#peak) this.#peak = active
    if (active > this.granted) this.#take()
    else if (this.granted - active < this.#low) this.#askAhead()
    return true
  }

  /**
   * Of a budget, what it has by its own count. And a worker that came before its predecessor has ended has no share yet: of a
   * limit that is not small it may take a part of one all the same, for a request lost in a rolling restart weighs more than
   * a few too many while it lasts.
   */
  #borrow(): boolean {
    if (this.active >= this.#loan) return false
    this.force()
    return true
  }

  get #loan(): number {
    const { seat, seats } = this.#owner
    if (this.budget !== undefined) return shareOfCount(this.budget)
    return seat >= 0 || this.limit < LARGE ? 0 : Math.floor(this.limit / seats / 4)
  }

  /** Without control everybody has an equal share, whoever had more or less of it before. */
  setRoom(): void {
    const { away, seat, seats } = this.#owner
    if (!away) this.#room = this.granted
    else this.#room = seat >= 0 ? this.share : Math.floor(this.limit / seats)
  }

  get ready(): boolean {
    return this.active < this.#room || this.active < this.#loan
  }

  ask(): Promise<void> | undefined {
    const owner = this.#owner
    // What has come for those that wait is theirs.
    const taken = this.active + this.#waiting + this.#promised
    if (taken < this.#room || taken < this.#loan || !this.#limited || owner.away) return undefined
    // Nobody else has any of it.
    if (this.granted >= this.limit && this.budget === undefined) return undefined
    if (this.#answer === undefined && owner.now() < this.#quietUntilMs) return undefined
    this.#waiting++
    this.#answer ??= Promise.withResolvers<void>()
    this.#question()
    return this.#answer.promise
  }

  want(): void {
    if (this.#limited && this.#owner.seats > 1) this.#askAhead()
  }

  /** There is something to ask for. */
  get #limited(): boolean {
    return this.limit > 0 || this.budget !== undefined
  }

  #askAhead(): void {
    if (this.#asks > this.#answered || this.#owner.away || this.#owner.now() < this.#quietAheadUntilMs) return
    this.#ahead = Math.max(this.#low, 1)
    this.#question()
  }

  #question(): void {
    if (this.#asks <= this.#answered) this.askedMs = this.#owner.now()
    this.#asks++
    this.#owner.asked()
    this.#owner.touch(this)
  }

  force(): void {
    if (this.active < this.granted) {
      this.active++
      return
    }
    this.active++
    this.#take()
    this.#over++
    this.#tellBudget()
  }

  /** Where all that is counted is counted here, nobody else need know. */
  #tellBudget(): void {
    if (this.budget === undefined || this.#owner.seats > 1) this.#owner.touch(this)
  }

  /** One more that nobody has given. */
  #take(): void {
    this.#forced++
    this.granted++
    this.setRoom()
  }

  release(): void {
    this.active--
    if (this.#over > 0 || this.#owed > 0 || this.users === 0) this.#released()
  }

  #released(): void {
    if (this.#over > 0) {
      this.#over--
      this.#giveBack(1)
    } else if (this.#owed > 0) this.#payBack()
    if (this.idle) this.#close()
  }

  #payBack(): void {
    const now = this.#owner.now()
    if (now >= this.#owedUntilMs) this.#owed = 0
    // What it could use itself at once it need not give, as long as it has no more than others have.
    else if (now >= this.#quietUntilMs || this.granted > this.share || this.granted - this.active > 1) {
      this.#owed--
      this.#giveBack(1)
    }
  }

  #giveBack(count: number): void {
    if (count <= 0) return
    this.#returned += count
    this.granted -= count
    this.setRoom()
    this.#tellBudget()
  }

  [Symbol.dispose](): void {
    this.users--
    if (this.idle) this.#close()
  }

  #close(): void {
    // Who waits for an answer is to get it.
    if (this.#untold && this.#answer === undefined) this.#owner.forget(this)
    else {
      this.#giveBack(this.granted)
      this.#owner.touch(this)
    }
  }

  // --- for its owner --------------------------------------------------------------------------------------------------

  /** Somebody names the key again. */
  use(limit: number, budget: SlotBudget | undefined): void {
    this.budget = budget
    const back = this.idle && !this.#untold
    this.users++
    // It was closed: control is not to forget it, and gives its share back.
    if (back) this.#owner.touch(this)
    if (limit === this.limit) return
    this.limit = limit
    this.setRoom()
    if (this.#untold) this.reseat()
    else this.#owner.touch(this)
    this.#low = Math.floor(this.share / 4)
  }

  /** The seat, or the limit, is another: what is its own from the start changes, unless control has a say in it. */
  reseat(): void {
    if (!this.#untold) return
    this.#start = this.share
    this.#count()
    this.observer?.usedElsewhere()
  }

  #count(): void {
    this.granted = this.#start + this.#given + this.#forced - this.#returned
    this.#low = Math.floor(this.share / 4)
    if (this.active > this.granted) {
      const missing = this.active - this.granted
      this.#forced += missing
      this.#over += missing
      this.granted = this.active
      this.#owner.touch(this)
    }
    this.setRoom()
  }

  /** A new session: what it has is what it starts with. False: control need not hear of it. */
  rebase(): boolean {
    this.#asks = this.#answered = this.#round = 0
    this.#ahead = 0
    this.#quietUntilMs = this.#quietAheadUntilMs = 0
    this.#owed = 0
    if (this.#untold) return this.#answer !== undefined
    // What is unused beyond its share others may have taken while there was nobody to ask.
    this.#start = this.granted = Math.max(this.active, Math.min(this.granted, this.share))
    this.#given = this.#forced = this.#returned = this.#over = 0
    this.setRoom()
    return true
  }

  /** Whoever waited for control's answer gets on without. */
  giveUp(): void {
    this.setRoom()
    this.#answered = this.#asks
    this.#settle()
  }

  #settle(): void {
    if (this.#waiting > 0) {
      this.#promised += this.#waiting
      const told = this.#waiting
      this.#owner.defer(() => {
        this.#promised -= told
      })
    }
    this.#waiting = 0
    const answer = this.#answer
    this.#answer = undefined
    answer?.resolve()
  }

  /** Whether there is a question that has not been answered. */
  get asking(): boolean {
    return this.#asks > this.#answered
  }

  /** What control is told; from then on it has its say. */
  note(): SlotNote {
    if (this.#untold) this.#told()
    if (this.#answer !== undefined && this.#asks <= this.#answered) this.#asks = this.#answered + 1
    return {
      kind: 'slots',
      key: this.key,
      limit: this.limit,
      start: this.#start,
      given: this.#given,
      forced: this.#forced,
      ...(this.budget && { budget: { percent: this.budget.percent, counted: this.budget.counted() } }),
      returned: this.#returned,
      ask: this.#asks,
      // Some of those that wait may have theirs already.
      want: Math.max(0, this.#waiting - Math.max(0, this.granted - this.active - this.#promised)),
      ahead: this.#asks > this.#answered ? Math.max(this.#ahead, this.#waiting > 0 ? this.#low : 0) : 0,
      round: this.#round,
      closed: this.idle,
    }
  }

  #told(): void {
    this.#untold = false
    this.observer?.usedElsewhere()
  }

  granting(grant: SlotGrant): void {
    if (grant.forgotten === true) {
      if (this.idle) this.#owner.forget(this)
      else {
        // It is used again: control is told anew, and counts from the beginning.
        this.#round = 0
        this.#owner.touch(this)
      }
      return
    }
    if (this.#untold) {
      this.#start = grant.start
      this.#told()
    }
    const more = grant.given > this.#given
    if (more) this.#given = grant.given
    this.#count()
    this.#free = grant.free
    if (this.granted > this.share) this.#owner.watch(this)
    if (more) this.#quietUntilMs = this.#quietAheadUntilMs = 0
    if (more || grant.free > 0) this.#exhausted = false
    if (grant.answered > this.#answered) {
      this.#answered = grant.answered
      this.#ahead = 0
      this.#exhausted = grant.dry || grant.short
      if (this.#exhausted) this.#quietAheadUntilMs = this.#owner.now() + DRY_MS
      if (grant.dry) this.#quietUntilMs = this.#quietAheadUntilMs
    }
    if (grant.recall !== undefined) this.#recalled(grant.recall)
    if (more && this.idle) this.#close()
    const enough = more && this.granted - this.active - this.#promised >= this.#waiting
    if (this.#answered >= this.#asks || enough) this.#settle()
  }

  #recalled({ round, count, hard }: NonNullable<SlotGrant['recall']>): void {
    if (round <= this.#round) return
    this.#round = round
    const spare = Math.max(0, this.granted - this.active - this.#waiting - this.#promised)
    const back = Math.min(count, hard ? spare : Math.ceil(spare / 2))
    this.#giveBack(back)
    if (hard) {
      this.#owed = count - back
      this.#owedUntilMs = this.#owner.now() + OWED_MS
    }
    this.#owner.touch(this)
  }

  /** From time to time while it has more than its share: what was not used lately goes back. False: it has no more. */
  sweep(): boolean {
    const keep = Math.max(this.share, this.#peak + this.#low)
    this.#peak = this.active
    this.#giveBack(Math.min(this.granted - keep, this.granted - this.active))
    return this.granted > this.share
  }
}
