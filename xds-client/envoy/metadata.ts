import type { JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'

/** `config.core.v3.Metadata` as objects by namespace; typed metadata is reported, nothing reads it. */
export function translateMetadata(reader: FieldReader, field = 'metadata'): JsonObject | undefined {
  const metadata = reader.message(field)
  if (metadata === undefined) return undefined
  metadata.ignore('typed_filter_metadata')
  const result: JsonObject = Object.create(null)
  for (const [namespace, value] of metadata.messageMap('filter_metadata')) result[namespace] = value.toJson()
  return result
}

/** The `envoy.lb` part of a metadata field: what host selection compares. */
export function translateMetadataMatch(reader: FieldReader, field: string): JsonObject | undefined {
  const namespaces = translateMetadata(reader, field)
  const criteria = namespaces?.['envoy.lb']
  return typeof criteria === 'object' && criteria !== null && !Array.isArray(criteria) ? criteria : undefined
}
