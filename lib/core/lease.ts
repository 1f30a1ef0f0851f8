import type { TokenBucketConfig } from './token-bucket.ts'

/**
 * Room under a limit on how much is under way at once in the whole gateway (a circuit breaker's threshold). What a process
 * holds of it unused is given back; what a process held that ended is free again.
 */
export interface SlotLease extends Disposable {
  /**
   * Takes one: true; false: the gateway has none left. A promise where this process has to ask first; it never rejects, and
   * whoever no longer wants what it resolves to gives it back.
   */
  acquire(): boolean | Promise<boolean>
  /** Takes one that is here already, or answers false without asking anybody. */
  tryAcquire(): boolean
  /**
   * Undefined: `tryAcquire` says what there is to say. A promise: nothing is left here, but the gateway may have more, and it
   * has been asked for one more than whoever waits already needs; `tryAcquire` knows when it resolves. It never rejects.
   */
  ask(): Promise<void> | undefined
  /** `tryAcquire` would take one that is here. */
  readonly ready: boolean
  /** Somebody was refused who could not wait: what others have unused should come here, for the next. */
  want(): void
  /** Takes one whatever the limit says; to be given back as the others. */
  force(): void
  /** Gives one back; every one taken exactly once. */
  release(): void
  /** Taken in this process. */
  readonly active: number
  /** In the whole gateway, as far as is known here; may be below 0 where some were forced. */
  readonly remaining: number
  /** The part of the limit that stands for this process where figures of all are added up: those of all make the limit. */
  readonly share: number
  /** As it was given last. */
  readonly limit: number
  /**
   * The part of the limit that is taken here, where figures of all processes are added up: they make 1 when the whole gateway
   * has none left, and less than that before. 0 as long as what is taken here cannot matter. Not for limits with a budget.
   */
  readonly used: number
  /** Told when `used` may be another without anything having been taken or released here. The last one set holds. */
  observer: SlotObserver | undefined
}

/** Whoever shows what is taken of a limit. */
export interface SlotObserver {
  usedElsewhere(): void
}

/** A limit that grows with something that all processes count (a retry budget: with the requests under way). */
export interface SlotBudget {
  /** Of the count, what the limit comes to; it is never below the one that is given beside it. */
  readonly percent: number
  /** In this process. Its own share of it a process has without asking. */
  counted(): number
}

/** What a budget comes to in this process. */
export function shareOfCount(budget: SlotBudget): number {
  return Math.floor((budget.counted() * budget.percent) / 100)
}

/** Tokens of a bucket that the whole gateway shares. */
export interface TokenLease extends Disposable {
  /** As `SlotLease.acquire`, for that many tokens at once: all or none. */
  take(tokens?: number): boolean | Promise<boolean>
  /** Takes tokens that are here already, or answers false; where it does, more are asked for. */
  tryTake(tokens?: number): boolean
  /** Puts tokens in, whoever has taken them; what the bucket cannot hold is lost. */
  give(tokens: number): void
  /** Whole tokens in the whole gateway, as far as is known here. */
  readonly remaining: number
  /** Milliseconds until one more token is there, as far as is known here; 0 where there is one. */
  readonly waitMs: number
}

/**
 * Limits that hold for the whole gateway, not for each of its processes: leased from control in batches, one by one when the
 * limit is small, so that ten a minute are ten with any number of workers. Whoever names the same key shares the limit; a
 * key that comes with another limit changes it for all. Where control cannot be asked (it is being restarted), a process
 * goes on with its equal share.
 *
 * `LocalLeases` is for a gateway that is one process, `WorkerLeases` of `lib/runtime` for a worker among others.
 */
export interface Leases {
  /** How many processes share what there is; undefined: this one is all of them. */
  readonly seats?: number
  /** `budget`: to be the same in all processes, but for what they count. */
  slots(key: string, limit: number, budget?: SlotBudget): SlotLease
  tokens(key: string, bucket: TokenBucketConfig): TokenLease
}

/** One of the limits that somebody needs room under. */
export interface Askable {
  readonly ready: boolean
  ask(): Promise<unknown> | undefined
}

/** Who has lost so often what had come for it is refused. */
const TURNS = 10

/**
 * The wait for room under several limits at once. What comes for somebody is kept for the turn in which it comes, and what was
 * here under one limit while the other was asked is not kept at all: whatever is gone when the rest is there is asked for
 * again.
 */
export class RoomWait {
  readonly #limits: readonly Askable[]
  readonly #runs: (() => void)[] = []

  /** `asked`: the first answers. */
  constructor(asked: Promise<unknown>, limits: readonly Askable[]) {
    this.#limits = limits
    this.#wait(asked, TURNS)
  }

  /**
   * Runs it when there is room under all, or one has none, and never before this returns. What the first to follow takes
   * nobody else has seen as free. To be called in the turn in which the wait was made.
   */
  follow(run: () => void): void {
    this.#runs.push(run)
  }

  #wait(asked: Promise<unknown>, turns: number): void {
    void asked.then(() => {
      const missing = turns > 0 ? this.#missing() : []
      if (missing.length > 0) this.#wait(Promise.all(missing), turns - 1)
      else for (const run of this.#runs) run()
    })
  }

  #missing(): Promise<unknown>[] {
    const missing: Promise<unknown>[] = []
    for (const limit of this.#limits) {
      const answer = limit.ready ? undefined : limit.ask()
      if (answer !== undefined) missing.push(answer)
    }
    return missing
  }
}
