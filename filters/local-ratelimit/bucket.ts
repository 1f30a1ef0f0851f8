import type { Clock } from '../../lib/core/clock.ts'
import type { Leases, TokenLease } from '../../lib/core/lease.ts'
import { TokenBucket, type TokenBucketConfig } from '../../lib/core/token-bucket.ts'

/** A bucket as requests meet it. */
export interface Bucket {
  readonly maxTokens: number
  /** Tokens per millisecond: the slowest bucket is asked first. */
  readonly rate: number
  readonly shadow: boolean
  /** All or none. A promise where the gateway has to be asked; it never rejects. */
  take(tokens: number): boolean | Promise<boolean>
  /** Puts tokens in; what it cannot hold is lost. */
  give(tokens: number): void
  readonly remaining: number
  /** Milliseconds until there is one more; 0 where there is one. */
  readonly waitMs: number
  close(): void
}

/** Makes the bucket of a name. */
export type MakeBucket = (name: string, config: TokenBucketConfig, shadow: boolean) => Bucket

/** Buckets that the whole gateway shares; `prefix` is theirs alone. */
export function leasedBuckets(leases: Leases, prefix: string): MakeBucket {
  return (name, config, shadow) => {
    if (config.maxTokens === 0) return new ClosedBucket(shadow)
    return new LeasedBucket(leases.tokens(prefix + name, config), config, shadow)
  }
}

/** Buckets of one connection. */
export function ownBuckets(clock: Clock): MakeBucket {
  return (_name, config, shadow) =>
    config.maxTokens === 0 ? new ClosedBucket(shadow) : new OwnBucket(new TokenBucket(config, clock), config, shadow)
}

class LeasedBucket implements Bucket {
  readonly maxTokens: number
  readonly rate: number
  readonly shadow: boolean
  readonly #lease: TokenLease
  /** Questions that are under way: the lease stays for them. */
  #asking = 0
  #closed = false

  constructor(lease: TokenLease, config: TokenBucketConfig, shadow: boolean) {
    this.#lease = lease
    this.maxTokens = config.maxTokens
    this.rate = config.tokensPerFill / config.fillIntervalMs
    this.shadow = shadow
  }

  take(tokens: number): boolean | Promise<boolean> {
    // Whoever still has one that was dropped for others would find a new one, which is full.
    if (this.#closed) return tokens <= this.maxTokens
    const taken = this.#lease.take(tokens)
    if (typeof taken === 'boolean') return taken
    this.#asking++
    return taken.then(this.#answered)
  }

  give(tokens: number): void {
    if (!this.#closed) this.#lease.give(tokens)
  }

  readonly #answered = (taken: boolean): boolean => {
    if (--this.#asking === 0 && this.#closed) this.#lease[Symbol.dispose]()
    return taken
  }

  get remaining(): number {
    return this.#lease.remaining
  }

  get waitMs(): number {
    return this.#lease.waitMs
  }

  close(): void {
    this.#closed = true
    if (this.#asking === 0) this.#lease[Symbol.dispose]()
  }
}

class OwnBucket implements Bucket {
  readonly maxTokens: number
  readonly rate: number
  readonly shadow: boolean
  readonly #bucket: TokenBucket

  constructor(bucket: TokenBucket, config: TokenBucketConfig, shadow: boolean) {
    this.#bucket = bucket
    this.maxTokens = config.maxTokens
    this.rate = config.tokensPerFill / config.fillIntervalMs
    this.shadow = shadow
  }

  take(tokens: number): boolean {
    return this.#bucket.take(tokens)
  }

  give(tokens: number): void {
    this.#bucket.give(tokens)
  }

  get remaining(): number {
    return this.#bucket.available
  }

  get waitMs(): number {
    return this.#bucket.waitMs()
  }

  close(): void {}
}

/** Of no tokens: nothing passes, ever. */
class ClosedBucket implements Bucket {
  readonly maxTokens = 0
  readonly rate = 0
  readonly remaining = 0
  readonly waitMs = 0
  readonly shadow: boolean

  constructor(shadow: boolean) {
    this.shadow = shadow
  }

  take(): boolean {
    return false
  }

  give(): void {}

  close(): void {}
}
