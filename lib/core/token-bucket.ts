import type { Clock } from './clock.ts'
import type { FieldReader } from './field-reader.ts'

/** A rate with a burst. Plain data. */
export interface TokenBucketConfig {
  /** What it holds at most, and at first. */
  readonly maxTokens: number
  readonly tokensPerFill: number
  /** Whole milliseconds, at least 50. */
  readonly fillIntervalMs: number
}

/** Envoy's shortest interval. */
const MIN_FILL_INTERVAL_MS = 50
const MAX_TOKENS = 2 ** 32 - 1

/** `envoy.type.v3.TokenBucket`. Mistakes go to the reader; fractions of a millisecond are rounded. */
export function parseTokenBucket(fields: FieldReader): TokenBucketConfig {
  fields.unread('refuse')
  const maxTokens = count(fields, 'max_tokens')
  if (maxTokens === undefined && !fields.has('max_tokens')) fields.error('max_tokens', 'must be at least 1')
  const tokensPerFill = count(fields, 'tokens_per_fill') ?? 1
  const fillIntervalMs = fields.durationMs('fill_interval')
  if (fillIntervalMs === undefined) fields.error('fill_interval', 'is required')
  else if (fillIntervalMs < MIN_FILL_INTERVAL_MS) {
    fields.error('fill_interval', `must be at least ${MIN_FILL_INTERVAL_MS} ms, not ${fillIntervalMs} ms`)
  }
  return {
    maxTokens: maxTokens ?? 1,
    tokensPerFill,
    fillIntervalMs: Math.max(MIN_FILL_INTERVAL_MS, Math.round(fillIntervalMs ?? 0)),
  }
}

function count(fields: FieldReader, name: string): number | undefined {
  const value = fields.number(name)
  if (value === undefined) return undefined
  if (Number.isInteger(value) && value >= 1 && value <= MAX_TOKENS) return value
  fields.error(name, `must be a whole number from 1 to ${MAX_TOKENS}, not ${value}`)
  return undefined
}

/**
 * Grants at most `maxTokens` at once and `tokensPerFill` per interval in the long run. As in Envoy tokens trickle in
 * evenly, not a whole fill at the end of each interval. Full at first.
 *
 * No timer and no rounding: it counts parts of a token, of which one more arrives with each millisecond of the clock and
 * token of a fill, and `fillIntervalMs` of which make a token.
 */
export class TokenBucket {
  readonly #clock: Clock
  /** In parts of a token. */
  readonly #full: number
  readonly #partsPerToken: number
  readonly #partsPerMs: number
  #parts: number
  /** Whole milliseconds: until when parts have been counted. */
  #countedMs: number

  constructor(config: TokenBucketConfig, clock: Clock) {
    const divisor = commonDivisor(config.tokensPerFill, config.fillIntervalMs)
    this.#clock = clock
    this.#partsPerToken = config.fillIntervalMs / divisor
    this.#partsPerMs = config.tokensPerFill / divisor
    this.#full = config.maxTokens * this.#partsPerToken
    this.#parts = this.#full
    this.#countedMs = Math.floor(clock.now())
  }

  /** Whole tokens that are there now. */
  get available(): number {
    this.#fill()
    return Math.max(0, Math.floor(this.#parts / this.#partsPerToken))
  }

  /** Takes `tokens` if that many are there, otherwise none. */
  take(tokens = 1): boolean {
    this.#fill()
    const wanted = tokens * this.#partsPerToken
    if (this.#parts < wanted) return false
    this.#parts -= wanted
    return true
  }

  /** Gives back what was taken and not used. */
  give(tokens: number): void {
    this.#fill()
    this.#parts = Math.min(this.#full, this.#parts + tokens * this.#partsPerToken)
  }

  /** Takes tokens that were used whether they were there or not; the debt is paid by those that come. */
  charge(tokens: number): void {
    this.#fill()
    this.#parts -= tokens * this.#partsPerToken
  }

  /** From now on it holds at most `tokens` of those that it has. */
  lower(tokens: number): void {
    this.#fill()
    this.#parts = Math.min(this.#parts, tokens * this.#partsPerToken)
  }

  /** Milliseconds until `take(tokens)` can succeed, 0 where it would now; infinite for more than it ever holds. */
  waitMs(tokens = 1): number {
    this.#fill()
    const wanted = tokens * this.#partsPerToken
    if (wanted > this.#full) return Number.POSITIVE_INFINITY
    return Math.max(0, Math.ceil((wanted - this.#parts) / this.#partsPerMs))
  }

  #fill(): void {
    const nowMs = Math.floor(this.#clock.now())
    const elapsedMs = nowMs - this.#countedMs
    if (elapsedMs <= 0) return
    this.#countedMs = nowMs
    this.#parts = Math.min(this.#full, this.#parts + elapsedMs * this.#partsPerMs)
  }
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b)
}
