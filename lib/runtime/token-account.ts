import { sameJson } from '../core/same-json.ts'
import { TokenBucket, type TokenBucketConfig } from '../core/token-bucket.ts'
import type { Bank } from './lease-ledger.ts'
import type { Recall, TokenNote } from './lease-notes.ts'
import { Round } from './lease-round.ts'

interface Holder {
  /** As it names it: one that drains goes on with the bucket that it had. */
  bucket: TokenBucketConfig
  given: number
  returned: number
  put: number
  /** Unused, as far as is known; never less than there is. */
  spare: number
  unasked: number
  ask: number
  closed: boolean
}

interface Hungry {
  readonly ask: number
  readonly want: number
  readonly ahead: number
  searched: boolean
}

/**
 * One token bucket of the whole gateway. What workers have unused still counts as in it: bucket and workers together never
 * have more than it holds at most.
 */
export class TokenAccount {
  readonly #key: string
  readonly #bank: Bank
  #config: TokenBucketConfig
  #bucket: TokenBucket
  readonly #holders = new Map<number, Holder>()
  readonly #hungry = new Map<number, Hungry>()
  readonly #round: Round
  /** While reports come in: the least that any worker knows to be there, and what all have used on their own. */
  #known = Number.POSITIVE_INFINITY
  #debt = 0

  constructor({ key, bucket }: TokenNote, bank: Bank) {
    this.#key = key
    this.#bank = bank
    this.#config = bucket
    this.#bucket = new TokenBucket(bucket, bank.clock)
    this.#round = new Round(
      (delayMs, run) => bank.later(delayMs, run),
      (late) => {
        bank.late(late)
        this.serve()
      },
    )
  }

  get #spare(): number {
    let spare = 0
    for (const holder of this.#holders.values()) spare += holder.spare
    return spare
  }

  /** What is in it for somebody to take, by now. */
  #level(): number {
    this.#bucket.lower(Math.max(0, this.#config.maxTokens - this.#spare))
    return this.#bucket.available
  }

  // --- from workers ---------------------------------------------------------------------------------------------------

  /** `reporting`: this process has only just begun, and knows of the bucket what workers know. */
  note(worker: number, note: TokenNote, reporting: boolean): void {
    let holder = this.#holders.get(worker)
    if (holder === undefined ? !this.#confirmed(worker) : !sameJson(holder.bucket, note.bucket))
      this.#configure(note.bucket)
    if (holder === undefined) {
      // What it has is not in the bucket.
      if (!reporting && note.spare > 0) this.#bucket.charge(note.spare)
      holder = {
        bucket: note.bucket,
        given: note.given,
        returned: note.returned,
        put: 0,
        spare: note.spare,
        unasked: 0,
        ask: 0,
        closed: note.closed,
      }
      this.#holders.set(worker, holder)
      // Without what it has used on its own, which is charged by itself.
      if (reporting && note.level >= 0) this.#known = Math.min(this.#known, note.level + note.unasked)
      // One that reports late: there cannot be more than it knows of.
      else if (note.level >= 0) this.#bucket.lower(Math.max(0, note.level + note.unasked - this.#spare))
    } else this.#settle(holder, note)
    const put = note.put - holder.put
    if (put > 0) {
      this.#level()
      holder.put = note.put
      this.#bucket.give(put)
    }
    const unasked = note.unasked - holder.unasked
    holder.unasked = note.unasked
    if (reporting) this.#debt += unasked
    else if (unasked > 0) this.#bucket.charge(unasked)
    this.#round.answered(worker, note.round)
    const { ask, want, ahead } = note
    if (ask <= holder.ask) return
    holder.ask = ask
    const coming = holder.given - note.given
    this.#hungry.set(worker, { ask, want: Math.max(0, want - coming), ahead, searched: false })
  }

  #settle(holder: Holder, note: TokenNote): void {
    this.#level()
    holder.bucket = note.bucket
    const back = note.returned - holder.returned
    const coming = holder.given - note.given
    if (coming === 0) holder.spare = note.spare
    else if (back > 0) holder.spare = Math.max(0, holder.spare - back)
    if (back > 0) {
      holder.returned = note.returned
      this.#bucket.give(back)
    }
    holder.closed = note.closed && coming === 0
  }

  /** A worker that came later than that one has said that this is the bucket: those that drain are older. */
  #confirmed(worker: number): boolean {
    for (const [other, { bucket, closed }] of this.#holders) {
      if (other > worker && !closed && sameJson(bucket, this.#config)) return true
    }
    return false
  }

  /** Another rate goes on with the tokens that are there. */
  #configure(config: TokenBucketConfig): void {
    if (sameJson(config, this.#config)) return
    const level = this.#level()
    this.#config = config
    this.#bucket = new TokenBucket(config, this.#bank.clock)
    this.#bucket.lower(level)
  }

  /** All that can report has done so. */
  recovered(): void {
    if (this.#known !== Number.POSITIVE_INFINITY) this.#bucket.lower(Math.max(0, this.#known - this.#spare))
    else this.#level()
    this.#bucket.charge(this.#debt)
  }

  /** What it had counts as used. To be followed by `serve`, where all is known that can be. */
  leave(worker: number): void {
    this.#level()
    this.#holders.delete(worker)
    this.#hungry.delete(worker)
    this.#round.gone(worker)
  }

  // --- decisions ------------------------------------------------------------------------------------------------------

  serve(): void {
    if (this.#hungry.size === 0) return
    let level = this.#level()
    for (const [worker, hungry] of this.#hungry) {
      const { want, ahead, searched } = hungry
      // Others may have what is missing.
      if (level < want && (!searched || this.#round.open)) continue
      const count = Math.min(level, want + ahead)
      level -= count
      this.#bucket.take(count)
      const holder = this.#holders.get(worker)
      // Where it is not enough for all, what is left over stays unused.
      if (holder !== undefined) holder.spare += count < want ? count : count - want
      this.#answer(worker, hungry, count)
    }
    if (this.#hungry.size > 0 && !this.#round.open) this.#search()
  }

  #answer(worker: number, { ask }: Hungry, count: number): void {
    this.#hungry.delete(worker)
    const holder = this.#holders.get(worker)
    if (holder !== undefined) holder.given += count
    this.#tell(worker, ask)
  }

  /** Others may have some that they do not use. */
  #search(): void {
    let want = 0
    const waiting = new Set<number>()
    for (const [worker, hungry] of this.#hungry) {
      if (hungry.searched) continue
      hungry.searched = true
      want += hungry.want
      waiting.add(worker)
    }
    if (waiting.size === 0) return
    const others: number[] = []
    for (const [worker, { spare }] of this.#holders) {
      const alone = waiting.size === 1 && waiting.has(worker)
      if (want > 0 && !alone && spare > 0 && this.#bank.lessees.has(worker)) others.push(worker)
    }
    const round = this.#round.begin(this.#bank.answering(others))
    for (const worker of others) this.#tell(worker, 0, { round, count: want, hard: true })
    if (!this.#round.open) this.serve()
  }

  #tell(worker: number, answered: number, recall?: Recall): void {
    const available = this.#level()
    this.#bank.tell(worker, {
      kind: 'tokens',
      key: this.#key,
      given: this.#holders.get(worker)?.given ?? 0,
      level: available + this.#spare,
      waitMs: available > 0 ? 0 : this.#bucket.waitMs(),
      answered,
      ...(recall && { recall }),
    })
  }

  /** True: nobody uses it any more, and it is full: a new one would be no other. */
  tidy(): boolean {
    if (!this.unused || this.#level() < this.#config.maxTokens) return false
    this.forget()
    return true
  }

  /** Nobody has it, or waits for any of it. */
  get unused(): boolean {
    if (this.#round.open || this.#hungry.size > 0) return false
    for (const holder of this.#holders.values()) if (!holder.closed || holder.spare > 0) return false
    return true
  }

  /** Whoever had it knows it no more. */
  forget(): void {
    for (const [worker, { given }] of this.#holders) {
      const { maxTokens } = this.#config
      this.#bank.tell(worker, {
        kind: 'tokens',
        key: this.#key,
        given,
        level: maxTokens,
        waitMs: 0,
        answered: 0,
        forgotten: true,
      })
    }
  }
}
