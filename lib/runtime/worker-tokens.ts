import type { Clock } from '../core/clock.ts'
import type { TokenLease } from '../core/lease.ts'
import { sameJson } from '../core/same-json.ts'
import { TokenBucket, type TokenBucketConfig } from '../core/token-bucket.ts'
import { type TokenGrant, type TokenNote, tokenBatch } from './lease-notes.ts'

/** What the tokens of a worker need of the whole. */
export interface TokenOwner {
  readonly seats: number
  readonly away: boolean
  readonly clock: Clock
  touch(tokens: WorkerTokens): void
  watch(tokens: WorkerTokens): void
  asked(): void
  forget(tokens: WorkerTokens): void
}

/** Somebody who waits for tokens. */
interface Taker {
  readonly tokens: number
  readonly resolve: (taken: boolean) => void
}

/** After an answer that there are none, control is not asked again for so long at most. */
const DRY_MS = 100

/**
 * What one worker has of a token bucket that control keeps for the whole gateway. Nothing from the start: the first token is
 * asked for; with large buckets a batch comes with it, and the next one before the last token of it is used.
 */
export class WorkerTokens implements TokenLease {
  readonly key: string
  users = 0
  /** Since when a question has waited for its answer. */
  askedMs = 0
  readonly #owner: TokenOwner
  #config: TokenBucketConfig
  #spare = 0
  #given = 0
  #returned = 0
  /** Put in beyond those that were taken. */
  #put = 0
  #untold = true
  #asks = 0
  #answered = 0
  #ahead = 0
  #takers: Taker[] = []
  #quietUntilMs = 0
  #round = 0
  /** Used since the last sweep. */
  #moved = false
  #level = -1
  #levelMs = 0
  #readyMs = 0
  /** While control is away. */
  #own: TokenBucket | undefined = undefined
  #unasked = 0
  /** Of that, what this session has told of. */
  #unaskedTold = 0

  constructor(key: string, config: TokenBucketConfig, owner: TokenOwner) {
    this.key = key
    this.#config = config
    this.#owner = owner
  }

  get #now(): number {
    return this.#owner.clock.now()
  }

  /** As it should be by now; -1: nothing is known. */
  get #estimate(): number {
    if (this.#level < 0) return -1
    const { maxTokens, tokensPerFill, fillIntervalMs } = this.#config
    const more = Math.floor(((this.#now - this.#levelMs) * tokensPerFill) / fillIntervalMs)
    return Math.min(maxTokens, this.#level + more)
  }

  get remaining(): number {
    const level = this.#estimate
    return level < 0 ? this.#config.maxTokens : Math.max(level, this.#spare)
  }

  get waitMs(): number {
    if (this.#spare > 0 || this.remaining > 0) return 0
    return Math.max(1, Math.ceil(this.#readyMs - this.#now))
  }

  // --- for whoever takes ----------------------------------------------------------------------------------------------

  tryTake(tokens = 1): boolean {
    if (this.#takeHere(tokens)) return true
    if (!this.#owner.away && this.#now >= this.#quietUntilMs) this.#askAhead(tokens)
    return false
  }

  take(tokens = 1): boolean | Promise<boolean> {
    if (this.#takeHere(tokens)) return true
    const owner = this.#owner
    if (owner.away || this.#now < this.#quietUntilMs || tokens > this.#config.maxTokens) return false
    return new Promise((resolve) => {
      this.#takers.push({ tokens, resolve })
      this.#question()
    })
  }

  /** They go to control, which alone knows how many there is room for. */
  give(tokens: number): void {
    if (this.#owner.away) {
      this.#ownBucket().give(tokens)
      return
    }
    this.#put += tokens
    if (this.#level >= 0) {
      this.#level = Math.min(this.#config.maxTokens, this.#estimate + tokens)
      this.#levelMs = this.#now
    }
    this.#quietUntilMs = 0
    this.#owner.touch(this)
  }

  #takeHere(tokens: number): boolean {
    if (this.#spare >= tokens && this.#takers.length === 0) {
      this.#use(tokens)
      const batch = tokenBatch(this.#config, this.#owner.seats)
      if (this.#spare < batch / 2) this.#askAhead(batch)
      return true
    }
    if (!this.#owner.away || !this.#ownBucket().take(tokens)) return false
    this.#unasked += tokens
    this.#taken(tokens)
    return true
  }

  #use(tokens: number): void {
    this.#spare -= tokens
    this.#taken(tokens)
  }

  #taken(tokens: number): void {
    if (!this.#moved) this.#owner.watch(this)
    this.#moved = true
    if (this.#level >= 0) this.#level = Math.max(0, this.#level - tokens)
  }

  /** Its equal share of the rate and of what was there last. */
  #ownBucket(): TokenBucket {
    if (this.#own !== undefined) return this.#own
    const { maxTokens, tokensPerFill, fillIntervalMs } = this.#config
    const { seats, clock } = this.#owner
    const part = Math.max(1, Math.floor(maxTokens / seats))
    const own = new TokenBucket({ maxTokens: part, tokensPerFill, fillIntervalMs: fillIntervalMs * seats }, clock)
    const level = this.#estimate
    if (level >= 0) own.lower(Math.floor(level / seats))
    this.#own = own
    return own
  }

  #askAhead(tokens: number): void {
    if (this.#asks > this.#answered || this.#owner.away || this.#now < this.#quietUntilMs) return
    this.#ahead = tokens
    this.#question()
  }

  #question(): void {
    if (this.#asks <= this.#answered) this.askedMs = this.#now
    this.#asks++
    this.#owner.asked()
    this.#owner.touch(this)
  }

  [Symbol.dispose](): void {
    if (--this.users > 0) return
    // Who waits for an answer is to get it.
    if (this.#untold && this.#takers.length === 0) this.#owner.forget(this)
    else {
      this.#giveBack(this.#spare)
      this.#owner.touch(this)
    }
  }

  #giveBack(count: number): void {
    if (count <= 0) return
    this.#spare -= count
    this.#returned += count
    this.#owner.touch(this)
  }

  // --- for its owner --------------------------------------------------------------------------------------------------

  use(config: TokenBucketConfig): void {
    // It was closed: control is not to forget it.
    if (this.users++ === 0 && !this.#untold) this.#owner.touch(this)
    if (sameJson(this.#config, config)) return
    this.#config = config
    this.#own = undefined
    if (!this.#untold) this.#owner.touch(this)
  }

  get asking(): boolean {
    return this.#asks > this.#answered
  }

  get idle(): boolean {
    return this.users === 0
  }

  /** Control is there again. */
  back(): void {
    this.#own = undefined
  }

  giveUp(): void {
    this.#answered = this.#asks
    this.#settle(true)
  }

  /** A new session. False: control need not hear of it. */
  rebase(): boolean {
    this.#asks = this.#answered = this.#round = this.#ahead = 0
    this.#quietUntilMs = 0
    this.#given = this.#spare
    this.#returned = this.#put = 0
    this.#forgetTold()
    return !this.#untold || this.#takers.length > 0 || this.#unasked > 0
  }

  #forgetTold(): void {
    this.#unasked -= this.#unaskedTold
    this.#unaskedTold = 0
  }

  note(): TokenNote {
    this.#untold = false
    this.#unaskedTold = this.#unasked
    let want = 0
    for (const { tokens } of this.#takers) want += tokens
    if (want > 0 && this.#asks <= this.#answered) this.#asks = this.#answered + 1
    const asking = this.#asks > this.#answered
    return {
      kind: 'tokens',
      key: this.key,
      bucket: this.#config,
      given: this.#given,
      returned: this.#returned,
      put: this.#put,
      spare: this.#spare,
      ask: this.#asks,
      want,
      ahead: asking ? Math.max(this.#ahead, want > 0 ? tokenBatch(this.#config, this.#owner.seats) : 0) : 0,
      round: this.#round,
      closed: this.idle,
      level: this.#estimate,
      ageMs: 0,
      unasked: this.#unasked,
    }
  }

  granting(grant: TokenGrant): void {
    if (grant.forgotten === true) {
      if (this.idle) this.#owner.forget(this)
      else {
        // It is used again: control counts from the beginning.
        this.#round = 0
        this.#forgetTold()
      }
      return
    }
    this.#untold = false
    const more = grant.given - this.#given
    if (more > 0) {
      this.#given = grant.given
      this.#spare += more
      this.#owner.watch(this)
    }
    this.#level = grant.level
    this.#levelMs = this.#now
    this.#readyMs = this.#levelMs + grant.waitMs
    const last = grant.answered > this.#answered
    if (last) {
      this.#answered = grant.answered
      this.#ahead = 0
      if (more <= 0) this.#quietUntilMs = this.#levelMs + Math.min(Math.max(1, grant.waitMs), DRY_MS)
    }
    this.#settle(this.#answered >= this.#asks, more > 0)
    if (this.idle) this.#giveBack(this.#spare)
    if (grant.recall !== undefined) this.#recalled(grant.recall)
  }

  /** First come, first served; `all`: who gets nothing now gets nothing. */
  #settle(all: boolean, granted = false): void {
    const takers = this.#takers
    const level = this.#level
    let served = 0
    while (served < takers.length && takers[served].tokens <= this.#spare) {
      this.#use(takers[served].tokens)
      takers[served++].resolve(true)
    }
    // What was asked for is not in the level that came with the answer, unless there was too little for all.
    if (granted && served === takers.length) this.#level = level
    if (served > 0) this.#takers = takers.slice(served)
    if (!all || this.#takers.length === 0) return
    const left = this.#takers
    this.#takers = []
    for (const { tokens, resolve } of left) resolve(this.#takeHere(tokens))
  }

  #recalled({ round, count, hard }: NonNullable<TokenGrant['recall']>): void {
    if (round <= this.#round) return
    this.#round = round
    this.#giveBack(Math.min(count, hard ? this.#spare : Math.floor(this.#spare / 2)))
    this.#owner.touch(this)
  }

  /** What lies here unused goes back. False: nothing is left. */
  sweep(): boolean {
    if (this.#moved) {
      this.#moved = false
      if (!this.#untold) this.#owner.touch(this)
      return true
    }
    this.#giveBack(this.#spare)
    return false
  }
}
