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
}

/** Tokens of a bucket that the whole gateway shares. */
export interface TokenLease extends Disposable {
  /** As `SlotLease.acquire`, for that many tokens at once: all or none. */
  take(tokens?: number): boolean | Promise<boolean>
  /** Takes tokens that are here already, or answers false; where it does, more are asked for. */
  tryTake(tokens?: number): boolean
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
  slots(key: string, limit: number): SlotLease
  tokens(key: string, bucket: TokenBucketConfig): TokenLease
}
