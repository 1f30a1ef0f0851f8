import type { FieldReader } from '../core/field-reader.ts'
import type { Runtime } from '../core/metrics.ts'
import { runtimeBool } from '../core/runtime-value.ts'

/** A parsed `config.core.v3.RuntimeFeatureFlag`. */
export interface FeatureFlagConfig {
  readonly value: boolean
  /** A runtime value under it wins; '': none. */
  readonly runtimeKey: string
}

/** `config.core.v3.RuntimeFeatureFlag`; on where it is not set. */
export function parseFeatureFlag(reader: FieldReader | undefined): FeatureFlagConfig {
  return { value: reader?.optionalBool('default_value') ?? true, runtimeKey: reader?.string('runtime_key') ?? '' }
}

/** Runtime layers hold booleans as such or as text; anything else leaves the configured value in force. */
export function compileFeatureFlag({ value, runtimeKey }: FeatureFlagConfig, runtime: Runtime): () => boolean {
  if (runtimeKey === '') return () => value
  return () => runtimeBool(runtime, runtimeKey) ?? value
}
