import type { Headers } from '../../core/headers.ts'

/** `x-ratelimit-reset` of more than this is a moment, seconds since the epoch, and not a time to wait. */
const MOMENT_S = 30 * 24 * 3600

/**
 * How long a response asks to be left alone, in milliseconds; undefined where it does not. `retry-after-ms` is more exact
 * than Retry-After (RFC 9110 section 10.2.3: seconds or a date), and `x-ratelimit-reset` is for those that have neither.
 *
 * @param wallMs since the epoch
 */
export function retryAfterMs(headers: Headers, wallMs: number): number | undefined {
  const exact = headers.get('retry-after-ms')
  if (exact !== undefined && DIGITS.test(exact)) return Number(exact)
  const after = headers.get('retry-after')
  if (after !== undefined) {
    if (DIGITS.test(after)) return Number(after) * 1000
    const date = Date.parse(after)
    // `Date.parse` takes more than dates of HTTP, a number with a sign for one.
    return Number.isNaN(date) || !/^[A-Z][a-z]{2}/.test(after) ? undefined : date - wallMs
  }
  const reset = headers.get('x-ratelimit-reset')
  if (reset === undefined || !DIGITS.test(reset)) return undefined
  const seconds = Number(reset)
  return seconds > MOMENT_S ? seconds * 1000 - wallMs : seconds * 1000
}

const DIGITS = /^\d{1,12}$/
