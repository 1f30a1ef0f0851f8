import type { Runtime } from './metrics.ts'

/*
 * Runtime values that stand in for configured ones. They are looked up at each use, since they change while the
 * configuration stays. Layers hold them as such or as text; what has another type leaves the configured value in force.
 */

/** The number under a key; undefined: none that is finite. */
export function runtimeNumber(runtime: Runtime, key: string): number | undefined {
  const value = runtime.get(key)
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined
  if (typeof value !== 'string' || value.trim() === '') return undefined
  const parsed = Number(value)
  return Number.isFinite(parsed) ? parsed : undefined
}

/** The same where only whole numbers from 0 make sense. */
export function runtimeInteger(runtime: Runtime, key: string): number | undefined {
  const value = runtimeNumber(runtime, key)
  return value !== undefined && value >= 0 && Number.isInteger(value) ? value : undefined
}

/** The boolean under a key. */
export function runtimeBool(runtime: Runtime, key: string): boolean | undefined {
  const value = runtime.get(key)
  if (typeof value === 'boolean') return value
  return value === 'true' ? true : value === 'false' ? false : undefined
}
