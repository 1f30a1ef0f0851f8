import type { JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { SubsetConfig, SubsetFallback, SubsetSelectorConfig } from '../../lib/upstream/config.ts'

const FALLBACKS: ReadonlyMap<string, SubsetFallback | 'keys'> = new Map([
  ['NO_FALLBACK', 'none'],
  ['ANY_ENDPOINT', 'any'],
  ['DEFAULT_SUBSET', 'default'],
  ['KEYS_SUBSET', 'keys'],
])

/** What `Subset` and `LbSubsetConfig` have in common: all but the policy within. */
export function translateSubsets(reader: FieldReader): Omit<SubsetConfig, 'within'> {
  reader.unread('refuse')
  const fallback = FALLBACKS.get(reader.enumName('fallback_policy'))
  return {
    kind: 'subset',
    fallback: fallback === undefined || fallback === 'keys' ? 'none' : fallback,
    defaultLabels: (reader.json('default_subset') ?? {}) as JsonObject,
    selectors: reader.messages('subset_selectors').map(translateSelector),
    ...(reader.bool('locality_weight_aware') && { localityWeights: true as const }),
    ...(reader.bool('scale_locality_weight') && { scaleLocalityWeights: true as const }),
    ...(reader.bool('panic_mode_any') && { panicAny: true as const }),
    ...(reader.bool('list_as_any') && { listAsAny: true as const }),
    ...(reader.enumName('metadata_fallback_policy') === 'FALLBACK_LIST' && { fallbackList: true as const }),
  }
}

function translateSelector(reader: FieldReader): SubsetSelectorConfig {
  const keys = [...new Set(reader.strings('keys'))]
  if (keys.length === 0) reader.error('keys', 'must not be empty')
  const fallback = FALLBACKS.get(reader.enumName('fallback_policy'))
  // Without effect on other fallbacks, as in Envoy.
  if (fallback !== 'keys') reader.ignore('fallback_keys_subset')
  return {
    keys,
    ...(reader.bool('single_host_per_subset') && { singleHost: true as const }),
    ...(fallback !== undefined && { fallback }),
    ...(fallback === 'keys' && { fallbackKeys: translateFallbackKeys(reader, keys) }),
  }
}

function translateFallbackKeys(reader: FieldReader, keys: readonly string[]): readonly string[] {
  const field = 'fallback_keys_subset'
  const fewer = [...new Set(reader.strings(field))]
  const other = fewer.find((key) => !keys.includes(key))
  if (fewer.length === 0) reader.error(field, 'must not be empty with fallback_policy KEYS_SUBSET')
  else if (other !== undefined) reader.error(field, `"${other}" is none of the keys of the selector`)
  else if (fewer.length === keys.length) reader.error(field, 'must not be all keys of the selector')
  return fewer
}
