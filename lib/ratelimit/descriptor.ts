import type { RateLimitHeaders, RateLimitUnit } from './config.ts'

/** What one request is counted by. */
export interface RateLimitDescriptor {
  /** `[key, value, key, value, ...]`, never empty. */
  readonly entries: readonly string[]
  /** How much the request counts. */
  readonly hits: number
  /** It gives back. */
  readonly negative: boolean
  readonly limit: RateLimitOverride | undefined
  /** Undefined: as the filter says. */
  readonly headers: RateLimitHeaders | undefined
}

export interface RateLimitOverride {
  readonly requestsPerUnit: number
  readonly unit: RateLimitUnit
}

/**
 * One text for a list of keys and values, different for different lists: values come from clients, who must not be able to
 * write one that looks like two.
 */
export function entryKey(entries: readonly string[]): string {
  let key = ''
  for (const text of entries) key += `${text.length}:${text}`
  return key
}
