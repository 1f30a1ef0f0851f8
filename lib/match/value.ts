import type { Json } from '../core/errors.ts'
import type { MetadataMatchConfig, ValueMatchConfig } from './config.ts'
import { compileString } from './string.ts'

/** Keys of objects, and places in lists from 0 (Envoy's `MetadataKey.path`). */
export type MetadataPath = readonly (string | number)[]

/** What is read of dynamic metadata. */
export interface MetadataSource {
  get(namespace: string): Json | undefined
}

/** Compiles Envoy's ValueMatcher; undefined stands for a value that is not there, which only `present: false` wants. */
export function compileValue(config: ValueMatchConfig): (value: Json | undefined) => boolean {
  switch (config.kind) {
    case 'null':
      return (value) => value === null
    case 'double':
      return compileDouble(config)
    case 'string': {
      const test = compileString(config.string)
      return (value) => typeof value === 'string' && test(value)
    }
    case 'bool': {
      const expected = config.value
      return (value) => value === expected
    }
    case 'present': {
      const wanted = config.present
      return (value) => (value !== undefined) === wanted
    }
    case 'list': {
      const test = compileValue(config.oneOf)
      return (value) => Array.isArray(value) && value.some(test)
    }
    case 'or': {
      const tests = config.values.map(compileValue)
      return (value) => tests.some((test) => test(value))
    }
  }
}

/** Exact, or [start, end). */
function compileDouble(config: { exact?: number; start?: number; end?: number }): (value: Json | undefined) => boolean {
  const { exact } = config
  if (exact !== undefined) return (value) => value === exact
  const start = config.start ?? 0
  const end = config.end ?? 0
  return (value) => typeof value === 'number' && value >= start && value < end
}

/** Walks objects by own keys, and lists by places; undefined where a step is missing or leads through something else. */
export function valueAt(root: Json | undefined, path: MetadataPath): Json | undefined {
  let value = root
  for (const step of path) {
    if (typeof value !== 'object' || value === null) return undefined
    if (typeof step === 'number') value = Array.isArray(value) ? value[step] : undefined
    else value = !Array.isArray(value) && Object.hasOwn(value, step) ? value[step] : undefined
  }
  return value
}

/** Compiles Envoy's MetadataMatcher. A missing value does not match, which `invert` then turns round. */
export function compileMetadata(config: MetadataMatchConfig): (metadata: MetadataSource) => boolean {
  const { namespace, path } = config
  const test = compileValue(config.value)
  const invert = config.invert === true
  return (metadata) => test(valueAt(metadata.get(namespace), path)) !== invert
}
