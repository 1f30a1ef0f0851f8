import type { FieldReader } from '../../lib/core/field-reader.ts'
import { refuseExtension, typedExtension } from './refusals.ts'

const MINIMUM_CLUSTERS = 'envoy.extensions.config.validators.minimum_clusters.v3.MinimumClustersValidator'

/** `ApiConfigSource.config_validators`: how many clusters there must be after each update; 0: as many as it likes. */
export function translateValidators(reader: FieldReader): number {
  let minimum = 0
  for (const entry of reader.messages('config_validators')) {
    const extension = typedExtension(entry)
    if (extension === undefined) continue
    if (extension.typeUrl !== MINIMUM_CLUSTERS) {
      refuseExtension(entry, 'typed_config', extension, `validator "${extension.typeUrl}" is not available`)
      continue
    }
    extension.fields.unread('refuse')
    minimum = Math.max(minimum, extension.fields.number('min_clusters_num') ?? 0)
  }
  return minimum
}
