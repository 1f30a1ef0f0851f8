import type { Headers } from '../../core/headers.ts'
import type { RetryPolicyConfig } from '../../core/retry-policy.ts'

/** A random wait before the `n`th retry, from 1: below (2^n - 1) times the base and below the maximum. */
export function exponentialMs({ baseMs, maxMs }: RetryPolicyConfig['backOff'], n: number, random: number): number {
  return random * Math.min(maxMs, (2 ** Math.min(n, 32) - 1) * baseMs)
}

/**
 * How long a response says to wait, with up to half as much again by chance, so that not all come back at once; undefined
 * where it does not say, or more than is permitted. `wallMs`: since the epoch.
 */
export function resetMs(
  reset: NonNullable<RetryPolicyConfig['resetBackOff']>,
  headers: Headers,
  wallMs: number,
  random: number,
): number | undefined {
  for (const { name, format } of reset.headers) {
    const value = headers.get(name)
    if (value === undefined || !/^\d{1,12}$/.test(value)) continue
    const seconds = Number(value)
    const ms = format === 'seconds' ? seconds * 1000 : seconds * 1000 - wallMs
    if (ms < 0 || ms > reset.maxMs) continue
    return ms * (1 + random / 2)
  }
  return undefined
}
