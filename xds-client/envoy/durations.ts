import type { FieldReader } from '../../lib/core/field-reader.ts'

/** Timers cannot run for longer (24.8 days); beyond it they would fire at once. */
const MAX_MS = 0x7fff_ffff

/**
 * A duration that must not be negative, in milliseconds, at most 24.8 days; undefined where it, or its message, is not
 * set.
 */
export function durationMs(reader: FieldReader | undefined, name: string): number | undefined {
  const ms = reader?.durationMs(name)
  if (ms === undefined || ms >= 0) return ms === undefined ? undefined : Math.min(ms, MAX_MS)
  reader?.error(name, `must not be negative, is ${ms / 1000}s`)
  return 0
}
