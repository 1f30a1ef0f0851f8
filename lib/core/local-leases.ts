import type { Clock } from './clock.ts'
import {
  type Leases,
  type SlotBudget,
  type SlotLease,
  type SlotObserver,
  shareOfCount,
  type TokenLease,
} from './lease.ts'
import { sameJson } from './same-json.ts'
import { TokenBucket, type TokenBucketConfig } from './token-bucket.ts'

/** Leases of a gateway that is one process: exact, and never a promise. */
export class LocalLeases implements Leases {
  readonly #clock: Clock
  readonly #slots = new Map<string, LocalSlots>()
  readonly #tokens = new Map<string, LocalTokens>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Keys that are in use. */
  get size(): number {
    return this.#slots.size + this.#tokens.size
  }

  slots(key: string, limit: number, budget?: SlotBudget): SlotLease {
    let slots = this.#slots.get(key)
    if (slots === undefined) this.#slots.set(key, (slots = new LocalSlots(key, this.#slots)))
    slots.limit = limit
    slots.budget = budget
    slots.users++
    return slots
  }

  tokens(key: string, bucket: TokenBucketConfig): TokenLease {
    let tokens = this.#tokens.get(key)
    if (tokens === undefined) this.#tokens.set(key, (tokens = new LocalTokens(key, this.#tokens)))
    tokens.use(bucket, this.#clock)
    return tokens
  }
}

/** One for all who name the key; it goes when nobody uses it and nothing is taken. */
class LocalSlots implements SlotLease {
  active = 0
  limit = 0
  budget: SlotBudget | undefined = undefined
  observer: SlotObserver | undefined = undefined
  users = 0
  readonly #key: string
  readonly #table: Map<string, LocalSlots>

  constructor(key: string, table: Map<string, LocalSlots>) {
    this.#key = key
    this.#table = table
  }

  get remaining(): number {
    return this.#most - this.active
  }

  /** What may be taken now. */
  get #most(): number {
    const { limit, budget } = this
    return budget === undefined ? limit : Math.max(limit, shareOfCount(budget))
  }

  get used(): number {
    return this.active >= this.limit ? 1 : 0
  }

  get share(): number {
    return this.limit
  }

  acquire(): boolean {
    return this.tryAcquire()
  }

  tryAcquire(): boolean {
    if (this.active >= this.#most) return false
    this.active++
    return true
  }

  ask(): undefined {
    return undefined
  }

  get ready(): boolean {
    return this.active < this.#most
  }

  want(): void {}

  force(): void {
    this.active++
  }

  release(): void {
    if (--this.active === 0 && this.users === 0) this.#forget()
  }

  [Symbol.dispose](): void {
    if (--this.users === 0 && this.active === 0) this.#forget()
  }

  #forget(): void {
    if (this.#table.get(this.#key) === this) this.#table.delete(this.#key)
  }
}

class LocalTokens implements TokenLease {
  readonly #key: string
  readonly #table: Map<string, LocalTokens>
  #config: TokenBucketConfig | undefined = undefined
  #bucket: TokenBucket | undefined = undefined
  #users = 0

  constructor(key: string, table: Map<string, LocalTokens>) {
    this.#key = key
    this.#table = table
  }

  /** Another rate goes on with the tokens that are there. */
  use(config: TokenBucketConfig, clock: Clock): void {
    this.#users++
    const before = this.#bucket
    if (before !== undefined && sameJson(this.#config, config)) return
    this.#config = config
    this.#bucket = new TokenBucket(config, clock)
    if (before !== undefined) this.#bucket.lower(before.available)
  }

  get #now(): TokenBucket {
    return this.#bucket as TokenBucket
  }

  take(tokens = 1): boolean {
    return this.#now.take(tokens)
  }

  tryTake(tokens = 1): boolean {
    return this.#now.take(tokens)
  }

  give(tokens: number): void {
    this.#now.give(tokens)
  }

  get remaining(): number {
    return this.#now.available
  }

  get waitMs(): number {
    return this.#now.waitMs()
  }

  [Symbol.dispose](): void {
    if (--this.#users === 0 && this.#table.get(this.#key) === this) this.#table.delete(this.#key)
  }
}
