import type { FieldReader } from '../../lib/core/field-reader.ts'

/** A duration that must not be negative, in milliseconds; undefined where it, or its message, is not set. */
export function durationMs(reader: FieldReader | undefined, name: string): number | undefined {
  const ms = reader?.durationMs(name)
  if (ms === undefined || ms >= 0) return ms
  reader?.error(name, `must not be negative, is ${ms / 1000}s`)
  return 0
}
